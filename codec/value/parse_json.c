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
	wf_ref list;   /* a LIST while it grows */
	wf_ref like;   /* the old value at this place, or WF_NIL */
	wf_ref within; /* the sequence whose elements are the old ones of this */
	uint32_t n;
	bool hashed; /* in a set, at any depth, where no list can be */
};

static struct open_list open_list(struct wf_graph *g, wf_ref like, bool hashed, int *error)
{
	return (struct open_list){.list = wf_value_made(wf_list(g), error),
				  .like = like,
				  .within = wf_value_sequence(g, like),
				  .hashed = hashed};
}

static bool is_set(const struct wf_graph *g, wf_ref r)
{
	wf_ref inner;
	return wf_is(g, r, WF_SET) || wf_is(g, r, WF_FROZENSET) || wf_value_meaning(g, r, &inner) == WF_MEANS_SET;
}

/* torch.Size((1, 2)), set([1, 2]): the call of the same function. */
static wf_ref call_with(struct wf_graph *g, wf_ref like, wf_ref elements, int *error)
{
	wf_ref args = *error < 0 ? WF_NIL : wf_value_made(wf_tuple(g, &elements, 1), error);
	return *error < 0 ? WF_NIL
			  : wf_value_made(wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), args, WF_NIL), error);
}

static wf_ref close_size(struct wf_graph *g, const struct open_list *l, int *error)
{
	uint32_t n;
	const wf_ref *e = wf_elements(g, l->list, &n);
	for (uint32_t i = 0; i < n; i++)
		if (!wf_is(g, e[i], WF_INT))
			*error = -EINVAL;
	wf_ref tuple = *error < 0 ? WF_NIL : wf_value_made(wf_tuple(g, e, n), error);
	return call_with(g, l->like, tuple, error);
}

/* A finished list in the form of the old one: tuples, sets and sizes keep being that where they were, the elements of others, too. */
static wf_ref close_list(struct wf_graph *g, const struct open_list *l, int *error)
{
	uint32_t n;
	wf_ref inner;
	enum wf_meaning meaning = wf_value_meaning(g, l->like, &inner);
	const wf_ref *e = wf_elements(g, l->list, &n);
	if (meaning == WF_MEANS_SIZE)
		return close_size(g, l, error);
	if (wf_is(g, l->like, WF_FROZENSET))
		return wf_value_made(wf_frozenset(g, e, n), error);
	if (wf_is(g, l->like, WF_TUPLE) || (l->hashed && !is_set(g, l->like)))
		return wf_value_made(wf_tuple(g, e, n), error);
	if (meaning == WF_MEANS_SET)
		return call_with(g, l->like, l->list, error);
	if (!wf_is(g, l->like, WF_SET))
		return l->list;
	wf_ref set = wf_value_made(wf_set(g), error);
	for (uint32_t i = 0; i < n && *error == 0; i++)
		*error = wf_list_append(g, set, wf_element(g, l->list, i));
	return set;
}

/* Behind the bracket that opens the list. */
static wf_ref parse_list(struct parser *p, wf_ref like, int *error)
{
	struct open_list stack[MAX_DEPTH] = {open_list(p->g, like, false, error)};
	uint32_t depth = 1;
	for (uint32_t total = 0; *error == 0; total++) {
		struct open_list *top = &stack[depth - 1];
		enum wf_json_kind kind = wf_json_next(&p->json);
		if ((kind == WF_JSON_ARRAY && depth == MAX_DEPTH) || total == MAX_ELEMENTS) {
			*error = -EINVAL;
		} else if (kind == WF_JSON_ARRAY) {
			stack[depth++] = open_list(p->g, wf_element(p->g, top->within, top->n),
						   top->hashed || is_set(p->g, top->like), error);
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
