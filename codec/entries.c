/* SPDX-License-Identifier: MIT */
/* Every entry of the tree in one text, .weightfs/entries.json: what a program needs that shows a checkpoint without asking for each name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/json.h"
#include "codec/bytes/utf8.h"
#include "codec/checkpoint.h"
#include "codec/lines.h"
#include "codec/value/text.h"

#define TEXT_MAX_BYTES (64u << 10) /* of a value that stands in its line; a longer one is said by its size */

static const char *container_kind(const struct wf_dir *d)
{
	return d->kind == WF_DIR_SEQUENCE ? "sequence" : d->kind == WF_DIR_MAPPING ? "mapping" : "object";
}

static void put_hex(struct wf_buffer *out, const char *s, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	wf_buffer_puts(out, ", \"hex\": \"");
	for (size_t i = 0; i < len; i++) {
		wf_buffer_putc(out, digits[(unsigned char)s[i] >> 4]);
		wf_buffer_putc(out, digits[(unsigned char)s[i] & 15]);
	}
	wf_buffer_putc(out, '"');
}

static bool is_json(const char *text, size_t len)
{
	struct wf_json j;
	enum wf_json_kind kind;
	wf_json_init_memory(&j, text, len, 0);
	do
		kind = wf_json_next(&j);
	while (kind > WF_JSON_END);
	wf_json_free(&j);
	return kind == WF_JSON_END;
}

/* A number, a word, a list or a str is JSON's; what JSON has not is the text that the file has; what is no text, its bytes. */
static void put_text(const struct wf_line *l, const char *text, size_t len, struct wf_buffer *out)
{
	const struct wf_node *n = wf_tree_node(l->ck->tree, l->ino);
	wf_ref object = n->type == WF_NODE_VALUE ? n->object : WF_NIL;
	enum wf_value_form form = object != WF_NIL ? wf_value_form_of(l->ck->graph, object) : WF_VALUE_NOT;
	size_t line = len > 0 && text[len - 1] == '\n' ? len - 1 : len;
	if ((form == WF_VALUE_TEXT || form == WF_VALUE_JSON) && is_json(text, line)) {
		wf_buffer_puts(out, ", \"value\": ");
		wf_buffer_append(out, text, line);
	} else if (wf_utf8_valid(text, len, true)) {
		char class[16] = "";
		if (form == WF_VALUE_RAW)
			wf_class_name(l->ck->graph, object, class, sizeof class);
		wf_buffer_puts(out, strcmp(class, "str") ? ", \"text\": " : ", \"value\": ");
		wf_json_string(out, text, len);
	} else {
		put_hex(out, text, len);
	}
}

/* Returns 0 or a negative errno. */
static int put_content(const struct wf_line *l, struct wf_buffer *out)
{
	struct wf_stat st;
	int r = wf_checkpoint_stat(l->ck, l->ino, &st);
	if (r < 0)
		return r;
	if (st.size_bytes > TEXT_MAX_BYTES) {
		wf_buffer_printf(out, ", \"size\": %llu", (unsigned long long)st.size_bytes);
		return 0;
	}
	char *text = malloc(st.size_bytes + 1);
	if (!text)
		return -ENOMEM;
	ssize_t n = wf_checkpoint_read(l->ck, l->ino, 0, text, st.size_bytes);
	if (n >= 0)
		put_text(l, text, (size_t)n, out);
	free(text);
	return n < 0 ? (int)n : 0;
}

static int put_target(const struct wf_line *l, struct wf_buffer *out)
{
	struct wf_buffer target = WF_BUFFER_INIT;
	int r = wf_tree_link_target(l->ck->tree, l->ino, &target);
	if (r == 0)
		r = wf_buffer_status(&target);
	if (r == 0) {
		wf_buffer_puts(out, ", \"link\": ");
		wf_json_string(out, target.data ? target.data : "", target.len);
	}
	wf_buffer_free(&target);
	return r;
}

/* Of an array of objects: its file is the list of its elements. */
static int put_array(const struct wf_line *l, struct wf_buffer *out)
{
	int r = wf_line_attribute(l, "user.torch.dtype", ", \"dtype\": ", true, out);
	return r == 0 ? wf_line_attribute(l, "user.torch.shape", ", \"shape\": ", false, out) : r;
}

int wf_other_line(void *ctx, const char *path, const struct wf_line *l)
{
	struct wf_buffer *out = ctx;
	const struct wf_node *n = wf_tree_node(l->ck->tree, l->ino);
	size_t start = out->len;
	if (n->type == WF_NODE_LINK || n->type == WF_NODE_DIR || n->type == WF_NODE_VALUE ||
	    n->type == WF_NODE_OPAQUE) {
		wf_buffer_putc(out, '{');
		wf_line_begin(l, path, out);
		int r = n->type == WF_NODE_LINK ? put_target(l, out)
						: wf_line_attribute(l, "user.torch.class", ", \"class\": ", true, out);
		if (r == 0 && n->type == WF_NODE_DIR)
			wf_buffer_printf(out, ", \"container\": \"%s\"",
					 container_kind(wf_tree_dir(l->ck->tree, l->ino)));
		else if (r == 0 && n->type != WF_NODE_LINK)
			r = put_array(l, out);
		if (r == 0 && (n->type == WF_NODE_VALUE || n->type == WF_NODE_OPAQUE))
			r = put_content(l, out);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			wf_buffer_printf(out, ", \"error\": \"%s\"", strerror(-r));
		wf_buffer_puts(out, "}\n");
	} else {
		out->len = start; /* no key: a scratch file */
	}
	return wf_buffer_status(out);
}

static int tensor_line(void *ctx, const struct wf_tensor_row *row)
{
	return wf_row_json(row, ctx);
}

int wf_entries_json(struct wf_checkpoint *ck, struct wf_buffer *ret)
{
	struct wf_walk w = {.tensor = tensor_line, .other = wf_other_line, .containers = true, .ctx = ret};
	int r = wf_walk(ck, &w);
	return r < 0 ? r : wf_buffer_status(ret);
}
