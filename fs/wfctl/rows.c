/* SPDX-License-Identifier: MIT */
/* Reads the entries of a checkpoint or a mount into rows. */
#include "fs/wfctl/rows.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/checkpoint.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/control.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/json.h"
#include "fs/wfctl/open.h"
#include "fs/wfctl/where.h"

#define ATTEMPTS 5 /* at two texts of a mount between which nobody edits it */

/* ---- tensors ---- */

/* A row whose texts begin at the end of r->texts; NULL: no memory. */
static struct wfctl_row *new_row(struct wfctl_rows *r)
{
	if (r->count == r->capacity) {
		size_t capacity = r->capacity ? r->capacity * 2 : 64;
		struct wfctl_row *more = reallocarray(r->rows, capacity, sizeof *more);
		if (!more)
			return NULL;
		r->rows = more;
		r->capacity = capacity;
	}
	r->rows[r->count] = (struct wfctl_row){0};
	return &r->rows[r->count++];
}

static void put_column(struct wfctl_rows *r, const char *text)
{
	wf_buffer_printable(&r->texts, text, strlen(text));
	wf_buffer_putc(&r->texts, '\0');
}

/* columns: else only that of the error. */
static int add(struct wfctl_rows *r, const struct wf_tensor_row *t, bool columns)
{
	struct wfctl_row *row = new_row(r);
	char bytes[24];
	if (!row)
		return -ENOMEM;
	size_t start = r->texts.len;
	wf_buffer_printable(&r->texts, t->path, strlen(t->path));
	row->path_len = r->texts.len - start;
	wf_buffer_putc(&r->texts, '\0');
	snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)t->size_bytes);
	const char *const texts[WFCTL_COLUMNS] = {t->shape, t->dtype, bytes, t->storage, t->location, t->error_text};
	for (int i = 0; i < WFCTL_COLUMNS; i++)
		put_column(r, i == WFCTL_ERROR || (columns && !(t->error && i > WFCTL_DTYPE)) ? texts[i] : "");
	return 0;
}

static int add_row(void *ctx, const struct wf_tensor_row *t)
{
	return add(ctx, t, true);
}

static int add_row_and_line(void *ctx, const struct wf_tensor_row *t)
{
	struct wfctl_rows *r = ctx;
	size_t start = r->json.len;
	int failed = wf_row_json(t, &r->json);
	if (failed == 0)
		failed = add(r, t, false);
	if (failed == 0)
		r->rows[r->count - 1].json_len = r->json.len - start - 1;
	return failed;
}

/* The next line, without its end; false behind the last. */
static bool next_line(const struct wf_buffer *text, size_t *at, const char **ret, size_t *ret_len)
{
	const char *end = *at < text->len ? memchr(text->data + *at, '\n', text->len - *at) : NULL;
	if (!end)
		return false;
	*ret = text->data + *at;
	*ret_len = (size_t)(end - *ret);
	*at += *ret_len + 1;
	return true;
}

struct line_columns {
	struct wf_buffer path, column[WFCTL_COLUMNS];
};

static int take_column(void *ctx, const struct wfctl_member *m)
{
	static const char *const names[WFCTL_COLUMNS] = {"shape", "dtype", "bytes", "storage", "location", "error"};
	struct line_columns *c = ctx;
	if (!strcmp(m->name, "path"))
		wf_buffer_printable(&c->path, m->text, m->len);
	for (int i = 0; i < WFCTL_COLUMNS; i++)
		if (!strcmp(m->name, names[i]))
			wf_buffer_printable(&c->column[i], m->text, m->len);
	return 0;
}

static int add_line(struct wfctl_rows *r, const char *line, size_t len, struct line_columns *c)
{
	struct wfctl_row *row = new_row(r);
	if (!row)
		return -ENOMEM;
	c->path.len = 0;
	for (int i = 0; i < WFCTL_COLUMNS; i++)
		c->column[i].len = 0;
	int failed = wfctl_json_members(line, len, take_column, c);
	row->path_len = c->path.len;
	row->json_len = len;
	wf_buffer_append(&r->texts, c->path.data ? c->path.data : "", c->path.len);
	wf_buffer_putc(&r->texts, '\0');
	for (int i = 0; i < WFCTL_COLUMNS; i++) {
		wf_buffer_append(&r->texts, c->column[i].data ? c->column[i].data : "", c->column[i].len);
		wf_buffer_putc(&r->texts, '\0');
	}
	return failed;
}

/* The rows of a mount's text. */
static int read_lines(struct wfctl_rows *r)
{
	struct line_columns c = {0};
	const char *line;
	size_t at = 0, len;
	int failed = 0;
	while (failed == 0 && next_line(&r->json, &at, &line, &len))
		failed = add_line(r, line, len, &c);
	wf_buffer_free(&c.path);
	for (int i = 0; i < WFCTL_COLUMNS; i++)
		wf_buffer_free(&c.column[i]);
	return failed;
}

/* Where the texts of all rows are, now that none is added any more. */
static int find_texts(struct wfctl_rows *r)
{
	const char *text = r->texts.data, *json = r->json.data;
	if (wf_buffer_status(&r->texts) < 0 || wf_buffer_status(&r->json) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < r->count; i++) {
		struct wfctl_row *row = &r->rows[i];
		row->path = text;
		row->columns = text + row->path_len + 1;
		text = row->columns;
		for (int k = 0; k < WFCTL_COLUMNS; k++)
			text += strlen(text) + 1;
		row->json = row->json_len ? json : NULL;
		json += row->json_len + (row->json_len > 0);
	}
	return 0;
}

/* ---- what there is to read ---- */

/* A daemon that is older, or that commits, does not tell. */
static int read_unseen(const char *path, struct wfctl_rows *r)
{
	struct wfctl_mounted m;
	int failed = wfctl_mounted_read(path, &m);
	if (failed < 0)
		return failed;
	r->unseen_tensors = m.unseen_tensors;
	r->unseen_bytes = m.unseen_bytes;
	wfctl_mounted_free(&m);
	return 0;
}

static int read_mount(const char *path, bool with_values, struct wfctl_rows *r)
{
	int failed = wfctl_control_read(path, "tensors.json", &r->json);
	if (failed == 0 && (with_values || r->json.len == 0))
		failed = wfctl_control_read(path, "summary", &r->summary);
	if (failed == 0)
		failed = read_lines(r);
	return failed < 0 ? failed : read_unseen(path, r);
}

static int read_checkpoint(struct wf_checkpoint *ck, bool with_values, bool with_json, struct wfctl_rows *r)
{
	struct wf_unseen unseen;
	int failed = wf_each_tensor(ck, with_json ? add_row_and_line : add_row, r);
	if (failed == 0 && (with_values || r->count == 0))
		failed = wf_summary(ck, &r->summary);
	if (failed == 0 && (failed = wf_count_unseen(ck, &unseen)) == 0) {
		r->unseen_tensors = unseen.tensors;
		r->unseen_bytes = unseen.bytes;
	}
	return failed;
}

static int read_rows(const char *path, bool with_values, bool with_json, struct wfctl_rows *r)
{
	int failed;
	if (wfctl_is_mount(path)) {
		failed = read_mount(path, with_values, r);
	} else {
		struct wf_checkpoint *ck = wfctl_open(path, false);
		if (!ck)
			return WFCTL_FAILED;
		failed = read_checkpoint(ck, with_values, with_json, r);
		wf_close(ck);
	}
	if (failed == 0)
		failed = find_texts(r);
	return failed < 0 ? wfctl_fail_error(path, failed, NULL) : WFCTL_OK;
}

int wfctl_entries_read(const char *path, bool columns, struct wf_buffer *ret)
{
	int failed;
	if (wfctl_is_mount(path)) {
		failed = wfctl_control_read(path, columns ? "columns.json" : "entries.json", ret);
	} else {
		struct wf_checkpoint *ck = wfctl_open(path, false);
		if (!ck)
			return WFCTL_FAILED;
		failed = columns ? wf_columns_json(ck, ret) : wf_entries_json(ck, ret);
		wf_close(ck);
	}
	return failed < 0 ? wfctl_fail_error(path, failed, NULL) : WFCTL_OK;
}

/* ---- all entries ---- */

static size_t count_lines(const struct wf_buffer *text)
{
	size_t n = 0;
	for (size_t i = 0; i < text->len; i++)
		n += text->data[i] == '\n';
	return n;
}

/* Into the rows of tensors come the other entries. -EAGAIN: the texts do not say the same. */
static int merge_summary(struct wfctl_rows *r)
{
	struct wfctl_row *tensors = r->rows, *all = calloc(count_lines(&r->summary) + 1, sizeof *all), *row = all;
	size_t at = 0, tensor = 0;
	if (!all)
		return -ENOMEM;
	for (; next_line(&r->summary, &at, &row->path, &row->path_len); row++) {
		const char *tab = memchr(row->path, '\t', row->path_len);
		if (!tab || tab == row->path)
			break;
		row->text = tab + 2;
		row->text_len = row->path_len - (size_t)(row->text - row->path);
		row->path_len = (size_t)(tab - row->path) - 1;
		const struct wfctl_row *t = tensor < r->count ? &tensors[tensor] : NULL;
		if (t && t->path_len == row->path_len && !memcmp(t->path, row->path, t->path_len)) {
			row->columns = t->columns;
			row->json = t->json;
			row->json_len = t->json_len;
			tensor++;
		}
	}
	bool same = tensor == r->count && at == r->summary.len;
	r->rows = all;
	r->count = (size_t)(row - all);
	free(tensors);
	return same ? 0 : -EAGAIN;
}

int wfctl_rows_load(const char *path, bool with_values, bool with_json, struct wfctl_rows *ret)
{
	int r = -EAGAIN;
	*ret = (struct wfctl_rows){0};
	for (int i = 0; r == -EAGAIN && i < ATTEMPTS; i++) {
		wfctl_rows_free(ret);
		if (read_rows(path, with_values, with_json, ret) != WFCTL_OK)
			return WFCTL_FAILED;
		r = with_values || ret->count == 0 ? merge_summary(ret) : 0;
	}
	if (r == -EAGAIN)
		return wfctl_fail(path, "is edited all the time: try again");
	return r < 0 ? wfctl_fail_error(path, r, NULL) : WFCTL_OK;
}

void wfctl_rows_free(struct wfctl_rows *r)
{
	free(r->rows);
	wf_buffer_free(&r->json);
	wf_buffer_free(&r->summary);
	wf_buffer_free(&r->texts);
	*r = (struct wfctl_rows){0};
}

/* ---- KEYs ---- */

enum way { EXACT, PATTERN, BEGINNING };

static bool part_fits(const char *key, size_t key_len, enum way way, bool last, const char *name, size_t len)
{
	char pattern[1024], text[1024]; /* a name has up to 255 bytes, printed up to 765 */
	if (len >= key_len && !memcmp(key, name, key_len) && (len == key_len || (way == BEGINNING && last)))
		return true;
	if (way != PATTERN || key_len >= sizeof pattern || len >= sizeof text)
		return false;
	memcpy(pattern, key, key_len);
	memcpy(text, name, len);
	pattern[key_len] = text[len] = '\0';
	return fnmatch(pattern, text, 0) == 0;
}

/* Part by part; what is below an entry that fits, fits. */
static bool path_fits(const char *key, enum way way, const char *path, size_t path_len)
{
	const char *end = path + path_len;
	while (*key) {
		size_t key_len = strcspn(key, "/");
		const char *slash = path < end ? memchr(path, '/', (size_t)(end - path)) : NULL;
		size_t len = (size_t)((slash ? slash : end) - path);
		bool last = !key[key_len + strspn(key + key_len, "/")];
		if (path >= end || !part_fits(key, key_len, way, last, path, len))
			return false;
		path += len + 1;
		key += key_len + strspn(key + key_len, "/");
	}
	return true;
}

static bool choose(struct wfctl_rows *r, const char *key, enum way way)
{
	bool any = false;
	for (size_t i = 0; i < r->count; i++)
		if (path_fits(key, way, r->rows[i].path, r->rows[i].path_len))
			any = r->rows[i].chosen = true;
	return any;
}

bool wfctl_rows_choose(struct wfctl_rows *r, const char *key)
{
	struct wf_buffer printed = WF_BUFFER_INIT;
	key += strspn(key, "/");
	wf_buffer_printable(&printed, key, strlen(key));
	const char *shown = printed.data ? printed.data : "";
	bool any = choose(r, shown, EXACT) || (strpbrk(key, "*?[") && choose(r, shown, PATTERN)) ||
		   choose(r, shown, BEGINNING);
	wf_buffer_free(&printed);
	r->keyed = true;
	return any;
}

bool wfctl_row_is_chosen(const struct wfctl_rows *r, const struct wfctl_row *row)
{
	return !r->keyed || row->chosen;
}
