/* SPDX-License-Identifier: MIT */
/* wfctl ls: the entries of a checkpoint, or of a mount. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/bytes/buffer.h"
#include "codec/checkpoint.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/json.h"
#include "fs/wfctl/rows.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/where.h"

/* ---- ls ---- */

enum form { FORM_TUTORIAL, FORM_LONG, FORM_JSON, FORM_TREE };

/* The columns of a tensor. */
struct columns {
	const char *text[WFCTL_COLUMNS];
};

static void get_columns(const struct wfctl_row *row, struct columns *c)
{
	const char *text = row->columns;
	for (int i = 0; i < WFCTL_COLUMNS; i++, text += strlen(text) + 1)
		c->text[i] = text;
}

struct widths {
	int key, column[WFCTL_COLUMNS];
};

static int widest(int a, size_t b)
{
	return a > (int)b ? a : (int)b;
}

/* Returns how many tensors are chosen. */
static size_t measure(const struct wfctl_rows *r, bool all, struct columns *c, struct widths *w)
{
	size_t n = 0;
	*w = (struct widths){3, {[WFCTL_SHAPE] = 5, [WFCTL_DTYPE] = 5, [WFCTL_BYTES_OF] = 5}};
	for (size_t i = 0; i < r->count; i++) {
		const struct wfctl_row *row = &r->rows[i];
		if (!wfctl_row_is_chosen(r, row) || (!row->columns && !all))
			continue;
		w->key = widest(w->key, row->path_len);
		if (!row->columns)
			continue;
		get_columns(row, c);
		for (int k = WFCTL_SHAPE; k <= WFCTL_BYTES_OF; k++)
			w->column[k] = widest(w->column[k], strlen(c->text[k]));
		n++;
	}
	return n;
}

/* The one thread that writes: no lock for each piece. */
static void put(const char *s, size_t len)
{
	fwrite_unlocked(s, 1, len, stdout);
}

/* Numbers, strings, lists and the like are JSON as they stand; a description, bytes and what was cut are not. */
static bool is_json(const char *text, size_t len)
{
	static const char *const words[] = {"true", "false", "null", "{}"};
	if (!text)
		return false;
	for (int i = 0; i < 4; i++)
		if (len == strlen(words[i]) && !memcmp(text, words[i], len))
			return true;
	if (len > 1 && (*text == '"' || *text == '['))
		return text[len - 1] == (*text == '"' ? '"' : ']') && !memmem(text, len, "NaN", 3) &&
		       !memmem(text, len, "Infinity", 8);
	size_t digits = 0;
	for (size_t i = 0; i < len; i++)
		if (!memchr("0123456789+-.e", text[i], 14))
			return false;
		else
			digits += text[i] >= '0' && text[i] <= '9';
	return digits > 0;
}

/* Both are printable: what JSON escapes in them are quotes and backslashes. */
static void put_quoted(struct wf_buffer *out, const char *s, size_t len)
{
	wf_buffer_putc(out, '"');
	for (size_t i = 0; i < len; i++)
		wf_buffer_printf(out, s[i] == '"' || s[i] == '\\' ? "\\%c" : "%c", s[i]);
	wf_buffer_putc(out, '"');
}

static void put_value(const struct wfctl_row *row, enum form form, const struct widths *w)
{
	struct wf_buffer line = WF_BUFFER_INIT;
	if (form == FORM_JSON) {
		wf_buffer_puts(&line, "{\"path\": ");
		put_quoted(&line, row->path, row->path_len);
		wf_buffer_puts(&line, ", \"value\": ");
		if (is_json(row->text, row->text_len))
			wf_buffer_append(&line, row->text, row->text_len);
		else
			put_quoted(&line, row->text, row->text_len);
		wf_buffer_puts(&line, "}\n");
		put(line.data, line.len);
		wf_buffer_free(&line);
	} else if (form == FORM_LONG) {
		printf("%-*.*s  %.*s\n", w->key, (int)row->path_len, row->path, (int)row->text_len, row->text);
	} else {
		put(row->path, row->path_len), put(" \t ", 3), put(row->text, row->text_len), put("\n", 1);
	}
}

static void put_tensor(const struct wfctl_row *row, enum form form, const struct columns *c, const struct widths *w)
{
	if (form == FORM_JSON) {
		struct wf_buffer line = WF_BUFFER_INIT;
		wf_buffer_printable_json(&line, row->json, row->json_len);
		put(line.data, line.len), put("\n", 1);
		wf_buffer_free(&line);
	} else if (c->text[WFCTL_ERROR][0]) {
		printf("%.*s \t unreadable: %s\n", (int)row->path_len, row->path, c->text[WFCTL_ERROR]);
	} else if (form == FORM_LONG) {
		printf("%-*.*s  %-*s  %-*s  %*s  %-7s  %s\n", w->key, (int)row->path_len, row->path,
		       w->column[WFCTL_SHAPE], c->text[WFCTL_SHAPE], w->column[WFCTL_DTYPE], c->text[WFCTL_DTYPE],
		       w->column[WFCTL_BYTES_OF], c->text[WFCTL_BYTES_OF], c->text[WFCTL_STORAGE],
		       c->text[WFCTL_LOCATION]);
	} else {
		put(row->path, row->path_len), put(" \t torch.Size(", 14);
		put(c->text[WFCTL_SHAPE], strlen(c->text[WFCTL_SHAPE])), put(")\n", 2);
	}
}

static bool is_value(const struct wfctl_row *row)
{
	bool container = row->text_len == 2 && (!memcmp(row->text, "{}", 2) || !memcmp(row->text, "[]", 2));
	return !row->columns && !container && !(row->text_len > 3 && !memcmp(row->text, "-> ", 3));
}

/* Instead of nothing. */
static void tell_values(const struct wfctl_rows *r)
{
	unsigned long values = 0;
	for (size_t i = 0; i < r->count; i++)
		values += wfctl_row_is_chosen(r, &r->rows[i]) && is_value(&r->rows[i]);
	if (values == 0)
		puts("no tensors, no values");
	else
		printf("no tensors; %lu value%s (-a shows %s)\n", values, values == 1 ? "" : "s",
		       values == 1 ? "it" : "them");
}

/* What the view of a module or the like leaves out. */
static void tell_unseen(const struct wfctl_rows *r)
{
	bool one = r->unseen_tensors == 1;
	printf("%llu more tensor%s of %llu byte%s stand%s only in .weightfs/objects of a mount\n", r->unseen_tensors,
	       one ? "" : "s", r->unseen_bytes, r->unseen_bytes == 1 ? "" : "s", one ? "s" : "");
}

/* What is listed and cannot be read. */
struct unread {
	size_t count;
	const struct wfctl_row *first;
};

static void note_unread(struct unread *u, const struct wfctl_row *row, const struct columns *c)
{
	if (c->text[WFCTL_ERROR][0] && u->count++ == 0)
		u->first = row;
}

static int fail_unread(const char *path, const struct unread *u)
{
	struct columns c = {0};
	struct wf_buffer line = WF_BUFFER_INIT;
	get_columns(u->first, &c);
	wf_unread_sentence(&line, u->count, u->first->path, u->first->path_len, c.text[WFCTL_ERROR]);
	int r = wfctl_fail(path, "%s", line.data ? line.data : strerror(ENOMEM));
	wf_buffer_free(&line);
	return r;
}

/* Returns how many lines there were. */
static size_t show(const struct wfctl_rows *r, enum form form, bool all, struct unread *unread)
{
	struct columns c = {0};
	struct widths w = {0};
	size_t lines = 0;
	if (form == FORM_LONG && measure(r, all, &c, &w) + all > 0) {
		printf("%-*s  %-*s  %-*s  %*s  storage  location\n", w.key, "key", w.column[WFCTL_SHAPE], "shape",
		       w.column[WFCTL_DTYPE], "dtype", w.column[WFCTL_BYTES_OF], "bytes");
	}
	for (size_t i = 0; i < r->count && !ferror(stdout); i++) {
		const struct wfctl_row *row = &r->rows[i];
		if (!wfctl_row_is_chosen(r, row) || (!row->columns && !all))
			continue;
		lines++;
		if (!row->columns) {
			put_value(row, form, &w);
			continue;
		}
		get_columns(row, &c);
		note_unread(unread, row, &c);
		put_tensor(row, form, &c, &w);
	}
	return lines;
}

static int show_entries(const char *path, bool columns)
{
	struct wf_buffer text = WF_BUFFER_INIT, shown = WF_BUFFER_INIT;
	int r = wfctl_entries_read(path, columns, &text);
	if (r == WFCTL_OK) {
		for (size_t at = 0, end; at < text.len; at = end + 1) {
			const char *line = text.data + at;
			end = at +
			      (size_t)((const char *)memchr(line, '\n', text.len - at) - line); /* every line has one */
			wf_buffer_printable_json(&shown, line, end - at);
			wf_buffer_putc(&shown, '\n');
		}
		r = wf_buffer_status(&shown) < 0 ? wfctl_fail_error(path, -ENOMEM, NULL) : r;
		if (r == WFCTL_OK)
			put(shown.data, shown.len);
	}
	wf_buffer_free(&text);
	wf_buffer_free(&shown);
	return r;
}

/* ---- the tree ---- */

/* How much of a path, in whole names, the one before it has, too; and in how many names. */
static size_t shared(const char *path, size_t len, const char *before, size_t before_len, int *ret_depth)
{
	size_t same = 0;
	*ret_depth = 0;
	for (size_t i = 0; i < len && i < before_len && path[i] == before[i]; i++)
		if (path[i] == '/') {
			same = i + 1;
			++*ret_depth;
		}
	return same;
}

static void put_branch(struct wf_buffer *out, const char *name, size_t len, int depth)
{
	for (int i = 0; i < depth; i++)
		wf_buffer_puts(out, "  ");
	wf_buffer_append(out, name, len);
}

/* A line for each name: mappings once, above what is in them. colours: of mappings. */
static void show_tree(const struct wfctl_rows *r, bool colours, struct unread *unread)
{
	struct columns c = {0};
	struct wf_buffer line = WF_BUFFER_INIT;
	const char *before = "";
	size_t before_len = 0;
	for (size_t i = 0; i < r->count && !ferror(stdout); i++) {
		const struct wfctl_row *row = &r->rows[i];
		int depth;
		if (!wfctl_row_is_chosen(r, row))
			continue;
		size_t at = shared(row->path, row->path_len, before, before_len, &depth);
		line.len = 0;
		for (const char *slash; (slash = memchr(row->path + at, '/', row->path_len - at));
		     at = (size_t)(slash - row->path) + 1) {
			wf_buffer_puts(&line, colours ? "\033[1;34m" : "");
			put_branch(&line, row->path + at, (size_t)(slash - row->path) - at + 1, depth++);
			wf_buffer_puts(&line, colours ? "\033[0m\n" : "\n");
		}
		put_branch(&line, row->path + at, row->path_len - at, depth);
		wf_buffer_puts(&line, " \t ");
		if (row->columns) {
			get_columns(row, &c);
			note_unread(unread, row, &c);
			wf_buffer_printf(&line, "%s %s", c.text[WFCTL_DTYPE], c.text[WFCTL_SHAPE]);
		} else {
			wf_buffer_append(&line, row->text, row->text_len);
		}
		wf_buffer_putc(&line, '\n');
		put(line.data, line.len);
		before = row->path;
		before_len = row->path_len;
	}
	wf_buffer_free(&line);
}

static enum form form_of(const struct wfctl_call *call)
{
	return wfctl_given(call, "json")   ? FORM_JSON
	       : wfctl_given(call, "tree") ? FORM_TREE
	       : wfctl_given(call, "long") ? FORM_LONG
					   : FORM_TUTORIAL;
}

int wfctl_ls(const struct wfctl_call *call)
{
	enum form form = form_of(call);
	bool all = wfctl_given(call, "all") != NULL;
	struct unread unread = {0};
	const char *path = call->arguments[0];
	struct wfctl_rows rows;
	int r = wfctl_check_place(WFCTL_FILE, path);
	if (r != WFCTL_OK)
		return r;
	bool columns = wfctl_given(call, "columns") != NULL;
	if (columns || wfctl_given(call, "entries"))
		return call->count > 1 ? WFCTL_USAGE : show_entries(path, columns);
	r = wfctl_rows_load(path, all || form == FORM_TREE || call->count > 1, form == FORM_JSON, &rows);
	for (int i = 1; r == WFCTL_OK && i < call->count; i++)
		if (!wfctl_rows_choose(&rows, call->arguments[i]))
			r = wfctl_fail(path, "no key is, fits or begins with %s", call->arguments[i]);
	size_t lines = r == WFCTL_OK && form != FORM_TREE ? show(&rows, form, all, &unread) : 0;
	if (r == WFCTL_OK && form == FORM_TREE)
		show_tree(&rows, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"), &unread);
	else if (r == WFCTL_OK && lines == 0 && form != FORM_JSON)
		tell_values(&rows);
	if (r == WFCTL_OK && form != FORM_JSON && !rows.keyed && rows.unseen_tensors > 0)
		tell_unseen(&rows);
	if (unread.count > 0)
		r = fail_unread(path, &unread);
	wfctl_rows_free(&rows);
	return r;
}
