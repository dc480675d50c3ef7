/* SPDX-License-Identifier: MIT */
/* JSON -> objects: lists of plain values, and single ones. */
#include <errno.h>
#include <string.h>

#include "codec/value/inner.h"

#define MAX_DEPTH 64
#define MAX_ELEMENTS (1u << 22)

struct parser {
	struct wf_graph *g;
	struct wf_json json;
	bool strict; /* JSON as its definition has it; else Python's words and numbers, too */
};

static bool is_word(const struct wf_json *j, const char *word)
{
	return strlen(word) == j->text_len && !memcmp(j->text, word, j->text_len);
}

/* A number; or a word: those that Python's json has for what numbers are not, and Python's own where it is not strict. */
static wf_ref number_or_word(const struct parser *p, bool word, int *error)
{
	const struct wf_json *j = &p->json;
	if (word && p->strict && !is_word(j, "NaN") && !is_word(j, "Infinity") && !is_word(j, "-Infinity")) {
		*error = -EINVAL;
		return WF_NIL;
	}
	if (is_word(j, "None"))
		return wf_none(p->g);
	if (is_word(j, "True") || is_word(j, "False"))
		return wf_bool(p->g, j->text[0] == 'T');
	for (size_t i = 0; i < j->text_len; i++)
		if (memchr(".eEnNiI", j->text[i], 7))
			return wf_float_parse(p->g, j->text, j->text_len, error);
	return wf_int_parse(p->g, j->text, j->text_len, error);
}

static wf_ref atom(const struct parser *p, enum wf_json_kind kind, int *error)
{
	switch (kind) {
	case WF_JSON_STRING:
		return wf_value_made(wf_string(p->g, WF_STR, p->json.text, p->json.text_len), error);
	case WF_JSON_NULL:
		return wf_none(p->g);
	case WF_JSON_TRUE:
	case WF_JSON_FALSE:
		return wf_bool(p->g, kind == WF_JSON_TRUE);
	case WF_JSON_NUMBER:
	case WF_JSON_WORD:
		return number_or_word(p, kind == WF_JSON_WORD, error);
	default: /* an object, or broken */
		*error = p->json.code == -ENOMEM ? -ENOMEM : -EINVAL;
		return WF_NIL;
	}
}

struct open_list {
	wf_ref list; /* a LIST while it grows */
	wf_ref like; /* the old value at this place, or WF_NIL */
	uint32_t n;
};

/* A finished list in the form of the old one: elements keep being tuples where they were. */
static wf_ref close_list(struct wf_graph *g, const struct open_list *l, int *error)
{
	uint32_t n;
	const wf_ref *e = wf_elements(g, l->list, &n);
	return wf_is(g, l->like, WF_TUPLE) ? wf_value_made(wf_tuple(g, e, n), error) : l->list;
}

/* Behind the bracket that opens the list. */
static wf_ref parse_list(struct parser *p, wf_ref like, int *error)
{
	struct open_list stack[MAX_DEPTH] = {{.list = wf_value_made(wf_list(p->g), error), .like = like}};
	uint32_t depth = 1;
	for (uint32_t total = 0; *error == 0; total++) {
		struct open_list *top = &stack[depth - 1];
		enum wf_json_kind kind = wf_json_next(&p->json);
		if ((kind == WF_JSON_ARRAY && depth == MAX_DEPTH) || total == MAX_ELEMENTS) {
			*error = -EINVAL;
		} else if (kind == WF_JSON_ARRAY) {
			stack[depth++] = (struct open_list){.list = wf_value_made(wf_list(p->g), error),
							    .like = wf_element(p->g, top->like, top->n)};
		} else {
			wf_ref value = kind == WF_JSON_ARRAY_END ? close_list(p->g, top, error) : atom(p, kind, error);
			if (kind == WF_JSON_ARRAY_END && --depth == 0)
				return *error < 0 ? WF_NIL : value;
			top = &stack[depth - 1];
			if (*error == 0)
				*error = wf_list_append(p->g, top->list, value);
			top->n++;
		}
	}
	return WF_NIL;
}

wf_ref wf_json_parse(struct wf_graph *g, wf_ref like, const char *text, size_t len, bool strict, int *error)
{
	struct parser p = {.g = g, .strict = strict};
	wf_ref r = WF_NIL;
	*error = 0;
	/* half of a surrogate pair: where it is strict, better a str as it stands */
	wf_json_init_memory(&p.json, text, len, WF_JSON_WORDS | WF_JSON_CONTROLS | (strict ? 0 : WF_JSON_SURROGATES));
	enum wf_json_kind kind = wf_json_next(&p.json);
	if (kind == WF_JSON_ARRAY)
		r = parse_list(&p, like, error);
	else if (like == WF_NIL)
		r = atom(&p, kind, error);
	else
		*error = -EINVAL;
	if (*error == 0 && wf_json_next(&p.json) != WF_JSON_END)
		*error = -EINVAL;
	wf_json_free(&p.json);
	return *error < 0 ? WF_NIL : r;
}
