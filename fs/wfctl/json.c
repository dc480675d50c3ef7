/* SPDX-License-Identifier: MIT */
/* Gives the members of an object of JSON, those of objects inside included. */
#include "fs/wfctl/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLAGS (WF_JSON_SURROGATES | WF_JSON_WORDS)

/* "outer.inner", while objects are entered. */
struct nested_names {
	struct wf_buffer name;
	size_t outer[WF_JSON_MAX_DEPTH]; /* its length before each object's own names */
	uint32_t depth;
};

static void enter(struct nested_names *n)
{
	n->outer[n->depth++] = n->name.len;
}

static void set_name(struct nested_names *n, const char *text, size_t len)
{
	n->name.len = n->outer[n->depth - 1];
	if (n->name.len > 0)
		wf_buffer_putc(&n->name, '.');
	wf_buffer_append(&n->name, text, len);
}

static int give(struct wf_json *j, enum wf_json_kind kind, const char *text, uint64_t start, struct nested_names *n,
		int (*each)(void *, const struct wfctl_member *), void *ctx)
{
	struct wfctl_member m = {.name = n->name.data, .kind = kind, .text = j->text, .len = j->text_len};
	if (kind == WF_JSON_ARRAY) {
		if (!wf_json_skip(j, kind))
			return -EUCLEAN;
		m.text = text + start;
		m.len = j->at - start;
	}
	return each(ctx, &m);
}

static int walk(struct wf_json *j, const char *text, struct nested_names *n,
		int (*each)(void *, const struct wfctl_member *), void *ctx)
{
	int r = 0;
	for (enum wf_json_kind kind; r == 0 && (kind = wf_json_next(j)) > WF_JSON_END;) {
		if (kind == WF_JSON_KEY) {
			set_name(n, j->text, j->text_len);
			kind = wf_json_next(j);
			r = kind > WF_JSON_END ? give(j, kind, text, j->at - (kind == WF_JSON_ARRAY), n, each, ctx)
					       : -EUCLEAN;
		}
		if (r == 0 && kind == WF_JSON_OBJECT && n->depth < WF_JSON_MAX_DEPTH)
			enter(n);
		else if (kind == WF_JSON_OBJECT_END)
			n->depth--;
	}
	return r == 0 && (j->code < 0 || wf_buffer_status(&n->name) < 0) ? -EUCLEAN : r;
}

int wfctl_json_members(const char *text, size_t len, int (*each)(void *, const struct wfctl_member *), void *ctx)
{
	struct wf_json j;
	struct nested_names n = {.name = WF_BUFFER_INIT};
	if (len == 0 || text[strspn(text, " \t\r\n")] != '{')
		return -EUCLEAN;
	wf_json_init_memory(&j, text, len, FLAGS);
	int r = walk(&j, text, &n, each, ctx);
	wf_json_free(&j);
	wf_buffer_free(&n.name);
	return r;
}

uint64_t wfctl_member_number(const struct wfctl_member *m)
{
	return m->kind == WF_JSON_NUMBER ? strtoull(m->text, NULL, 10) : 0;
}

int wfctl_json_string(const char *text, size_t len, struct wf_buffer *ret)
{
	struct wf_json j;
	wf_json_init_memory(&j, text, len, FLAGS);
	int r = wf_json_next(&j) == WF_JSON_STRING ? 0 : -EUCLEAN;
	if (r == 0)
		wf_buffer_append(ret, j.text, j.text_len);
	if (r == 0 && wf_json_next(&j) != WF_JSON_END)
		r = -EUCLEAN;
	wf_json_free(&j);
	return r;
}

void wfctl_json_put(struct wf_buffer *out, const char *s, size_t len)
{
	struct wf_buffer quoted = WF_BUFFER_INIT;
	wf_json_string(&quoted, s, len);
	wf_buffer_printable_json(out, quoted.data, quoted.len);
	out->failed |= quoted.failed;
	wf_buffer_free(&quoted);
}
