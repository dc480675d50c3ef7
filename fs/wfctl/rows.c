/* SPDX-License-Identifier: MIT */
/* Reads the entries of a checkpoint or a mount into rows. */
#include "fs/wfctl/rows.h"

#include <errno.h>
#include <fnmatch.h>
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

/* ---- the two texts ---- */

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

static int read_texts(const char *path, bool with_values, struct wfctl_rows *r)
{
	int failed = 0;
	if (wfctl_is_mount(path)) {
		failed = wfctl_control_read(path, "tensors.json", &r->json);
		if (failed == 0 && (with_values || r->json.len == 0))
			failed = wfctl_control_read(path, "summary", &r->summary);
		if (failed == 0)
			failed = read_unseen(path, r);
	} else {
		struct wf_unseen unseen;
		struct wf_checkpoint *ck = wfctl_open(path, false);
		if (!ck)
			return WFCTL_FAILED;
		failed = wf_tensors_json(ck, &r->json);
		if (failed == 0 && (with_values || r->json.len == 0))
			failed = wf_summary(ck, &r->summary);
		if (failed == 0 && (failed = wf_count_unseen(ck, &unseen)) == 0) {
			r->unseen_tensors = unseen.tensors;
			r->unseen_bytes = unseen.bytes;
		}
		wf_close(ck);
	}
	return failed < 0 ? wfctl_fail_error(path, failed, NULL) : WFCTL_OK;
}

int wfctl_entries_read(const char *path, struct wf_buffer *ret)
{
	int failed;
	if (wfctl_is_mount(path)) {
		failed = wfctl_control_read(path, "entries.json", ret);
	} else {
		struct wf_checkpoint *ck = wfctl_open(path, false);
		if (!ck)
			return WFCTL_FAILED;
		failed = wf_entries_json(ck, ret);
		wf_close(ck);
	}
	return failed < 0 ? wfctl_fail_error(path, failed, NULL) : WFCTL_OK;
}

/* ---- rows ---- */

static size_t count_lines(const struct wf_buffer *text)
{
	size_t n = 0;
	for (size_t i = 0; i < text->len; i++)
		n += text->data[i] == '\n';
	return n;
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

/* The path of a line of tensors.json as it is printed; it is the first member. */
static int put_path(void *ctx, const struct wfctl_member *m)
{
	if (strcmp(m->name, "path") != 0)
		return 0;
	wf_buffer_printable(ctx, m->text, m->len);
	return 1;
}

static int make_tensor_rows(struct wfctl_rows *r)
{
	size_t at = 0;
	r->rows = calloc(count_lines(&r->json) + 1, sizeof *r->rows);
	if (!r->rows)
		return -ENOMEM;
	for (struct wfctl_row *row = r->rows; next_line(&r->json, &at, &row->json, &row->json_len); row++, r->count++) {
		size_t start = r->paths.len;
		wfctl_json_members(row->json, row->json_len, put_path, &r->paths);
		row->path_len = r->paths.len - start;
	}
	const char *path = r->paths.data ? r->paths.data : "";
	for (size_t i = 0; i < r->count; path += r->rows[i++].path_len)
		r->rows[i].path = path;
	return wf_buffer_status(&r->paths);
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

int wfctl_rows_load(const char *path, bool with_values, struct wfctl_rows *ret)
{
	int r = -EAGAIN;
	*ret = (struct wfctl_rows){0};
	for (int i = 0; r == -EAGAIN && i < ATTEMPTS; i++) {
		wfctl_rows_free(ret);
		if (read_texts(path, with_values, ret) != WFCTL_OK)
			return WFCTL_FAILED;
		r = make_tensor_rows(ret);
		if (r == 0 && (with_values || ret->json.len == 0))
			r = merge_summary(ret);
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
	wf_buffer_free(&r->paths);
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
