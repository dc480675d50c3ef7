/* SPDX-License-Identifier: MIT */
/* The tutorial's table, for people: a line an entry, and one for each text of a safetensors file's metadata. */
#include <errno.h>
#include <string.h>

#include "codec/checkpoint.h"
#include "codec/lines.h"
#include "codec/bytes/printable.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

#define SHOWN_BYTES 1000u /* of a value */
/* Lists that share what they hold make far more text than the graph has bytes; a summary spends that much on texts of which
 * it shows the beginning. A checkpoint whose lists share nothing never gets there. */
#define SPENT_MIN (16ull << 20)
#define SPENT_OF_GRAPH 4

struct summary {
	struct wf_checkpoint *ck;
	struct wf_buffer *out;
	uint64_t spent; /* bytes of the texts that were made for it */
};

static void put_bytes(struct wf_buffer *out, const char *s, size_t len)
{
	wf_buffer_puts(out, "b'");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == '\'' || c == '\\')
			wf_buffer_printf(out, "\\%c", c);
		else if (c == '\t' || c == '\n' || c == '\r')
			wf_buffer_printf(out, "\\%c", c == '\t' ? 't' : c == '\n' ? 'n' : 'r');
		else if (c < 0x20 || c >= 0x7f)
			wf_buffer_printf(out, "\\x%02x", c);
		else
			wf_buffer_putc(out, (char)c);
	}
	wf_buffer_putc(out, '\'');
}

/* Where a text can be cut: not inside a character. */
static size_t whole_characters(const char *s, size_t len)
{
	size_t at = len;
	while (at > 0 && len - at < 4 && ((unsigned char)s[at - 1] & 0xc0) == 0x80)
		at--;
	bool cut = at > 0 && len - at < 4 && (unsigned char)s[at - 1] >= 0xc0;
	return cut ? at - 1 : len;
}

static int put_content(struct summary *s, wf_ino ino, wf_ref object)
{
	struct wf_checkpoint *ck = s->ck;
	struct wf_buffer *out = s->out;
	char text[SHOWN_BYTES], class[64];
	struct wf_stat st;
	if (object != WF_NIL && s->spent > SPENT_MIN + SPENT_OF_GRAPH * wf_graph_bytes(ck->graph) &&
	    !wf_value_is_short(ck->graph, object)) {
		wf_buffer_puts(out, "... (one of too many long lists that share their elements)");
		return 0;
	}
	ssize_t n = wf_checkpoint_read(ck, ino, 0, text, sizeof text);
	int r = n < 0 ? (int)n : wf_checkpoint_stat(ck, ino, &st);
	if (r < 0)
		return r;
	s->spent += st.size_bytes;
	enum wf_value_form form = object != WF_NIL ? wf_value_form_of(ck->graph, object) : WF_VALUE_NOT;
	bool raw = form == WF_VALUE_RAW;
	bool cut = st.size_bytes > (uint64_t)n;
	size_t len = cut ? whole_characters(text, (size_t)n) : (size_t)n;
	if (!raw && len > 0 && text[len - 1] == '\n')
		len--;
	if (raw)
		wf_class_name(ck->graph, object, class, sizeof class);
	if (raw && !strncmp(class, "byte", 4)) {
		put_bytes(out, text, (size_t)n);
	} else if (raw) {
		struct wf_buffer json = WF_BUFFER_INIT;
		wf_json_string(&json, text, len);
		wf_buffer_printable_json(out, json.data, json.len);
		r = wf_buffer_status(&json);
		wf_buffer_free(&json);
	} else if (form == WF_VALUE_JSON) {
		wf_buffer_printable_json(out, text, len);
	} else {
		wf_buffer_printable(out, text, len);
	}
	if (cut)
		wf_buffer_printf(out, "... (%llu bytes)", (unsigned long long)st.size_bytes);
	return r;
}

static int put_link(struct wf_checkpoint *ck, wf_ino ino, struct wf_buffer *out)
{
	struct wf_buffer target = WF_BUFFER_INIT;
	int r = wf_tree_link_target(ck->tree, ino, &target);
	if (r == 0)
		r = wf_buffer_status(&target);
	wf_buffer_puts(out, "-> ");
	if (r == 0)
		wf_buffer_printable(out, target.data, target.len);
	wf_buffer_free(&target);
	return r;
}

static int other_line(void *ctx, const char *path, const struct wf_line *l)
{
	struct summary *s = ctx;
	wf_ino ino = l->ino;
	const struct wf_node *n = wf_tree_node(s->ck->tree, ino);
	size_t start = s->out->len;
	int r = 0;
	wf_buffer_printable(s->out, path, strlen(path));
	wf_buffer_puts(s->out, " \t ");
	if (n->type == WF_NODE_DIR) {
		const struct wf_dir *d = wf_tree_dir(s->ck->tree, ino);
		wf_buffer_puts(s->out, d->kind == WF_DIR_SEQUENCE ? "[]" : "{}");
	} else if (n->type == WF_NODE_LINK) {
		r = put_link(s->ck, ino, s->out);
	} else if (n->type == WF_NODE_VALUE || n->type == WF_NODE_OPAQUE) {
		r = put_content(s, ino, n->type == WF_NODE_VALUE ? n->object : WF_NIL);
	} else {
		s->out->len = start; /* no key */
		return 0;
	}
	if (r < 0 && r != -ENOMEM) {
		wf_buffer_printf(s->out, "unreadable: %s", strerror(-r));
		r = 0;
	}
	wf_buffer_putc(s->out, '\n');
	return r < 0 ? r : wf_buffer_status(s->out);
}

/* print(key, "\t", tensor.size()) of PyTorch's tutorial, which puts blanks around the tab */
static int tensor_line(void *ctx, const struct wf_tensor_row *row)
{
	struct summary *s = ctx;
	wf_buffer_printable(s->out, row->path, strlen(row->path));
	if (row->error) {
		wf_buffer_puts(s->out, " \t unreadable: ");
		wf_buffer_printable(s->out, row->error_text, strlen(row->error_text));
		wf_buffer_putc(s->out, '\n');
	} else {
		wf_buffer_puts(s->out, " \t torch.Size(");
		wf_buffer_puts(s->out, row->shape);
		wf_buffer_puts(s->out, ")\n");
	}
	return wf_buffer_status(s->out);
}

int wf_summary(struct wf_checkpoint *ck, struct wf_buffer *ret)
{
	struct summary s = {.ck = ck, .out = ret};
	struct wf_walk w = {.tensor = tensor_line, .other = other_line, .metadata = true, .ctx = &s};
	int r = wf_walk(ck, &w);
	return r < 0 ? r : wf_buffer_status(ret);
}
