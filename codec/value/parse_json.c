/* JSON -> objects: lists of plain values, and single ones. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "codec/bytes/utf8.h"
#include "codec/value/inner.h"

#define MAX_DEPTH 64
#define MAX_ELEMENTS (1u << 22)

struct parser {
	struct wf_graph *g;
	const char *p, *end;
	bool strict; /* JSON as its definition has it; else Python's words and numbers, too */
};

static bool is_word(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && !memcmp(s, word, len);
}

static void skip_space(struct parser *p)
{
	while (p->p < p->end && memchr(" \t\r\n", *p->p, 4))
		p->p++;
}

static bool hex4(const char *s, unsigned int *ret)
{
	unsigned int v = 0;
	for (int i = 0; i < 4; i++) {
		if (!isxdigit((unsigned char)s[i]))
			return false;
		v = v << 4 | (unsigned int)(isdigit((unsigned char)s[i]) ? s[i] - '0' : (s[i] | 32) - 'a' + 10);
	}
	*ret = v;
	return true;
}

/* One escape after the backslash; false when it is none. */
static bool parse_escape(struct parser *p, struct wf_buffer *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	unsigned int c, low;
	if (p->p == p->end)
		return false;
	char e = *p->p++;
	const char *at = e ? strchr(from, e) : NULL;
	if (at) {
		wf_buffer_putc(out, to[at - from]);
		return true;
	}
	if (e != 'u' || p->end - p->p < 4 || !hex4(p->p, &c))
		return false;
	p->p += 4;
	if (c >= 0xd800 && c < 0xdc00 && p->end - p->p >= 6 && p->p[0] == '\\' && p->p[1] == 'u' &&
	    hex4(p->p + 2, &low) && low >= 0xdc00 && low < 0xe000) {
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		p->p += 6;
	}
	char utf8[WF_UTF8_MAX];
	wf_buffer_append(out, utf8, wf_utf8_put(utf8, c));
	return true;
}

static wf_ref parse_string(struct parser *p, int *error)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	wf_ref r = WF_NIL;
	p->p++;
	while (p->p < p->end && *p->p != '"') {
		if (*p->p != '\\')
			wf_buffer_putc(&text, *p->p++);
		else if (p->p++, !parse_escape(p, &text))
			break;
	}
	if (p->p < p->end && *p->p == '"') {
		p->p++;
		*error = wf_buffer_status(&text);
		if (*error == 0 && p->strict && !wf_text_is_utf8(text.data ? text.data : "", text.len, false))
			*error = -EINVAL; /* half of a surrogate pair: better a str as it stands */
		if (*error == 0)
			r = wf_value_made(wf_string(p->g, WF_STR, text.data ? text.data : "", text.len), error);
	} else {
		*error = -EINVAL;
	}
	wf_buffer_free(&text);
	return r;
}

/* -1.5e3, as JSON spells numbers; and the words that Python's json has for what they are not. */
static bool is_json_number(const char *s, size_t len)
{
	size_t i = len > 0 && s[0] == '-', start = i;
	if (is_word(s, len, "NaN") || is_word(s + i, len - i, "Infinity"))
		return true;
	while (i < len && isdigit((unsigned char)s[i]))
		i++;
	if (i == start || (s[start] == '0' && i > start + 1))
		return false;
	if (i < len && s[i] == '.') {
		start = ++i;
		while (i < len && isdigit((unsigned char)s[i]))
			i++;
		if (i == start)
			return false;
	}
	if (i < len && (s[i] | 32) == 'e') {
		i++;
		i += i < len && (s[i] == '+' || s[i] == '-');
		start = i;
		while (i < len && isdigit((unsigned char)s[i]))
			i++;
		if (i == start)
			return false;
	}
	return i == len;
}

static wf_ref parse_strict_word(struct parser *p, const char *s, size_t len, int *error)
{
	if (is_word(s, len, "null"))
		return wf_none(p->g);
	if (is_word(s, len, "true") || is_word(s, len, "false"))
		return wf_bool(p->g, s[0] == 't');
	if (!is_json_number(s, len)) {
		*error = -EINVAL;
		return WF_NIL;
	}
	for (size_t i = 0; i < len; i++)
		if (memchr(".eENI", s[i], 5))
			return wf_float_parse(p->g, s, len, error);
	return wf_int_parse(p->g, s, len, error);
}

static wf_ref parse_atom(struct parser *p, int *error)
{
	skip_space(p);
	if (p->p < p->end && *p->p == '"')
		return parse_string(p, error);
	const char *start = p->p;
	while (p->p < p->end && (isalnum((unsigned char)*p->p) || memchr("+-.", *p->p, 3)))
		p->p++;
	size_t len = (size_t)(p->p - start);
	if (p->strict)
		return parse_strict_word(p, start, len, error);
	if (is_word(start, len, "null") || is_word(start, len, "None"))
		return wf_none(p->g);
	if (is_word(start, len, "true") || is_word(start, len, "True"))
		return wf_bool(p->g, true);
	if (is_word(start, len, "false") || is_word(start, len, "False"))
		return wf_bool(p->g, false);
	for (size_t i = 0; i < len; i++)
		if (memchr(".eEnNiI", start[i], 7))
			return wf_float_parse(p->g, start, len, error);
	return wf_int_parse(p->g, start, len, error);
}

/* The kind of container that stands at this place of the old value: elements keep being tuples where they were. */
static bool wants_tuple(const struct wf_graph *g, wf_ref like)
{
	return wf_is(g, like, WF_TUPLE);
}

struct open_list {
	wf_ref list; /* a LIST while it grows */
	wf_ref like; /* the old value at this place, or WF_NIL */
	uint32_t n;
};

/* A finished list in the form of the old one. */
static wf_ref close_list(struct wf_graph *g, const struct open_list *l, int *error)
{
	uint32_t n;
	const wf_ref *e = wf_elements(g, l->list, &n);
	return wants_tuple(g, l->like) ? wf_value_made(wf_tuple(g, e, n), error) : l->list;
}

static wf_ref parse_list(struct parser *p, wf_ref like, int *error)
{
	struct open_list stack[MAX_DEPTH];
	int depth = -1;
	uint32_t total = 0;
	wf_ref value;
	for (;;) {
		skip_space(p);
		if (p->p == p->end || ++total > MAX_ELEMENTS)
			goto bad;
		if (*p->p == '[') {
			if (++depth == MAX_DEPTH)
				goto bad;
			wf_ref here = depth == 0 ? like : wf_element(p->g, stack[depth - 1].like, stack[depth - 1].n);
			stack[depth] = (struct open_list){.list = wf_value_made(wf_list(p->g), error), .like = here};
			p->p++;
			skip_space(p);
			if (*error < 0)
				return WF_NIL;
			if (p->p == p->end || *p->p != ']')
				continue;
		} else {
			value = parse_atom(p, error);
			if (*error == 0)
				*error = wf_list_append(p->g, stack[depth].list, value);
			if (*error < 0)
				return WF_NIL;
			stack[depth].n++;
		}
		/* behind an element or an empty list: close as many lists as end here */
		for (;;) {
			skip_space(p);
			if (p->p == p->end)
				goto bad;
			if (*p->p == ',') {
				p->p++;
				break;
			}
			if (*p->p++ != ']')
				goto bad;
			value = close_list(p->g, &stack[depth], error);
			if (*error < 0 || depth-- == 0)
				return value;
			*error = wf_list_append(p->g, stack[depth].list, value);
			if (*error < 0)
				return WF_NIL;
			stack[depth].n++;
		}
	}
bad:
	*error = -EINVAL;
	return WF_NIL;
}

wf_ref wf_json_parse(struct wf_graph *g, wf_ref like, const char *text, size_t len, bool strict, int *error)
{
	struct parser p = {.g = g, .p = text, .end = text + len, .strict = strict};
	*error = 0;
	skip_space(&p);
	bool list = p.p < p.end && *p.p == '[';
	wf_ref r = WF_NIL;
	if (list)
		r = parse_list(&p, like, error);
	else if (like == WF_NIL)
		r = parse_atom(&p, error);
	else
		*error = -EINVAL;
	skip_space(&p);
	if (*error == 0 && p.p != p.end)
		*error = -EINVAL;
	return *error < 0 ? WF_NIL : r;
}
