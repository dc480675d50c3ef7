/* Text -> object, for edits of values: the type of what was there decides how the text is read. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"
#include "util.h"
#include "value_inner.h"

#define MAX_DEPTH 64
#define MAX_ELEMENTS (1u << 22)

struct parser {
	struct wf_graph *g;
	const char *p, *end;
};

static wf_ref made(wf_ref r, int *error)
{
	if (r == WF_NIL)
		*error = -ENOMEM;
	return r;
}

/* ---- scalars ---- */

/* Decimal of any length to two's complement. Quadratic; the length is bounded by the pickle's own limit on ints. */
static wf_ref parse_int(struct wf_graph *g, const char *s, size_t len, int *error)
{
	bool negative = len > 0 && s[0] == '-';
	size_t at = len > 0 && (s[0] == '-' || s[0] == '+');
	if (at == len || len > 20000) {
		*error = -EINVAL;
		return WF_NIL;
	}
	size_t size = len / 2 + 2;
	cleanup_free unsigned char *le = calloc(size, 1);
	if (!le) {
		*error = -ENOMEM;
		return WF_NIL;
	}
	size_t used = 1;
	for (; at < len; at++) {
		if (s[at] < '0' || s[at] > '9') {
			*error = -EINVAL;
			return WF_NIL;
		}
		unsigned int carry = (unsigned int)(s[at] - '0');
		for (size_t i = 0; i < used; i++) {
			carry += le[i] * 10u;
			le[i] = (unsigned char)carry;
			carry >>= 8;
		}
		if (carry)
			le[used++] = (unsigned char)carry;
	}
	if (le[used - 1] & 0x80)
		used++; /* the sign bit must be clear before it is turned */
	for (size_t i = 0, carry = 1; negative && i < used; i++) {
		carry += (unsigned char)~le[i];
		le[i] = (unsigned char)carry;
		carry >>= 8;
	}
	return made(wf_long(g, le, used), error);
}

static wf_ref parse_float(struct wf_graph *g, const char *s, size_t len, int *error)
{
	char buf[512], *end;
	if (len == 0 || len >= sizeof buf || isspace((unsigned char)s[0]) || memchr(s, 'x', len) ||
	    memchr(s, 'X', len)) {
		*error = -EINVAL; /* strtod also reads hexadecimal, which Python's float does not */
		return WF_NIL;
	}
	memcpy(buf, s, len);
	buf[len] = '\0';
	double v = wf_strtod(buf, &end);
	if (*end || end == buf) {
		*error = -EINVAL;
		return WF_NIL;
	}
	return made(wf_float(g, v), error);
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && !memcmp(s, word, len);
}

static wf_ref parse_bool(struct wf_graph *g, const char *s, size_t len, int *error)
{
	if (is_word(s, len, "true") || is_word(s, len, "True") || is_word(s, len, "1"))
		return wf_bool(g, true);
	if (is_word(s, len, "false") || is_word(s, len, "False") || is_word(s, len, "0"))
		return wf_bool(g, false);
	*error = -EINVAL;
	return WF_NIL;
}

static wf_ref parse_complex(struct wf_graph *g, wf_ref like, const char *s, size_t len, int *error)
{
	if (len > 1 && s[0] == '(' && s[len - 1] == ')') {
		s++;
		len -= 2;
	}
	wf_ref re, im;
	if (len > 0 && (s[len - 1] == 'j' || s[len - 1] == 'J')) {
		size_t split = len - 1;
		/* the sign between the two parts, not the one of an exponent */
		while (split > 0 &&
		       !((s[split - 1] == '+' || s[split - 1] == '-') && !(split > 1 && (s[split - 2] | 32) == 'e')))
			split--;
		split = split > 0 ? split - 1 : 0;
		re = split > 0 ? parse_float(g, s, split, error) : wf_float(g, 0);
		im = parse_float(g, s + split, len - 1 - split, error);
	} else {
		re = parse_float(g, s, len, error);
		im = wf_float(g, 0);
	}
	if (*error < 0 || re == WF_NIL || im == WF_NIL)
		return WF_NIL;
	wf_ref args = wf_tuple(g, (wf_ref[]){re, im}, 2);
	return made(args == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), args, WF_NIL), error);
}

/* torch.bfloat16 */
static wf_ref parse_dtype(struct wf_graph *g, const char *s, size_t len, int *error)
{
	char name[32];
	if (len <= 6 || len - 6 >= sizeof name || memcmp(s, "torch.", 6) != 0) {
		*error = -EINVAL;
		return WF_NIL;
	}
	memcpy(name, s + 6, len - 6);
	name[len - 6] = '\0';
	wf_ref r = made(wf_global_named(g, "torch", name), error);
	if (*error == 0 && wf_dtype_from_global(g, r) == WF_DTYPE_INVALID)
		*error = -EINVAL;
	return r;
}

/* cpu, cuda:1 */
static wf_ref parse_device(struct wf_graph *g, wf_ref like, const char *s, size_t len, int *error)
{
	size_t type = 0, digits;
	while (type < len && (islower((unsigned char)s[type]) || s[type] == '_'))
		type++;
	digits = type < len && s[type] == ':' ? len - type - 1 : 0;
	int64_t index = 0;
	for (size_t i = 0; i < digits && index >= 0; i++)
		index = isdigit((unsigned char)s[len - digits + i]) ? index * 10 + s[len - digits + i] - '0' : -1;
	if (type == 0 || digits > 3 || index < 0 || (type < len && digits == 0)) {
		*error = -EINVAL;
		return WF_NIL;
	}
	wf_ref args[2] = {made(wf_string(g, WF_STR, s, type), error), wf_int(g, index)};
	wf_ref tuple = *error < 0 ? WF_NIL : made(wf_tuple(g, args, digits ? 2 : 1), error);
	return *error < 0 ? WF_NIL : made(wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), tuple, WF_NIL), error);
}

/* ---- JSON ---- */

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

static void put_utf8(struct wf_buffer *out, unsigned int c)
{
	if (c < 0x80) {
		wf_buffer_putc(out, (char)c);
	} else if (c < 0x800) {
		wf_buffer_putc(out, (char)(0xc0 | c >> 6));
		wf_buffer_putc(out, (char)(0x80 | (c & 0x3f)));
	} else if (c < 0x10000) {
		wf_buffer_putc(out, (char)(0xe0 | c >> 12));
		wf_buffer_putc(out, (char)(0x80 | (c >> 6 & 0x3f)));
		wf_buffer_putc(out, (char)(0x80 | (c & 0x3f)));
	} else {
		wf_buffer_putc(out, (char)(0xf0 | c >> 18));
		wf_buffer_putc(out, (char)(0x80 | (c >> 12 & 0x3f)));
		wf_buffer_putc(out, (char)(0x80 | (c >> 6 & 0x3f)));
		wf_buffer_putc(out, (char)(0x80 | (c & 0x3f)));
	}
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
	put_utf8(out, c);
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
		if (*error == 0)
			r = made(wf_string(p->g, WF_STR, text.data ? text.data : "", text.len), error);
	} else {
		*error = -EINVAL;
	}
	wf_buffer_free(&text);
	return r;
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
	if (is_word(start, len, "null") || is_word(start, len, "None"))
		return wf_none(p->g);
	if (is_word(start, len, "true") || is_word(start, len, "True"))
		return wf_bool(p->g, true);
	if (is_word(start, len, "false") || is_word(start, len, "False"))
		return wf_bool(p->g, false);
	for (size_t i = 0; i < len; i++)
		if (memchr(".eEnNiI", start[i], 7))
			return parse_float(p->g, start, len, error);
	return parse_int(p->g, start, len, error);
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
	return wants_tuple(g, l->like) ? made(wf_tuple(g, e, n), error) : l->list;
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
			stack[depth] = (struct open_list){.list = made(wf_list(p->g), error), .like = here};
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

/* ---- the front ---- */

/* The value as a JSON list, in the form of `like`: list, tuple, set, torch.Size. */
static wf_ref parse_sequence(struct parser *p, wf_ref like, int *error)
{
	wf_ref inner, shape = like;
	uint32_t n;
	enum wf_meaning meaning = wf_value_meaning(p->g, like, &inner);
	if (wf_is(p->g, like, WF_CALL))
		shape = inner;
	if (p->p == p->end || *p->p != '[') {
		*error = -EINVAL;
		return WF_NIL;
	}
	wf_ref r = parse_list(p, shape, error);
	skip_space(p);
	if (*error == 0 && p->p != p->end)
		*error = -EINVAL;
	if (*error < 0)
		return WF_NIL;
	const wf_ref *e = wf_elements(p->g, r, &n);
	if (wf_is(p->g, like, WF_FROZENSET))
		return made(wf_frozenset(p->g, e, n), error);
	if (wf_is(p->g, like, WF_SET)) {
		wf_ref set = made(wf_set(p->g), error);
		for (uint32_t i = 0; i < n && *error == 0; i++)
			*error = wf_list_append(p->g, set, wf_element(p->g, r, i));
		return set;
	}
	if (meaning != WF_MEANS_SIZE && meaning != WF_MEANS_SET)
		return r;
	for (uint32_t i = 0; meaning == WF_MEANS_SIZE && i < n; i++)
		if (!wf_is(p->g, wf_element(p->g, r, i), WF_INT)) {
			*error = -EINVAL;
			return WF_NIL;
		}
	wf_ref args = made(wf_tuple(p->g, &r, 1), error);
	return *error < 0 ? WF_NIL : made(wf_call(p->g, WF_CALL_REDUCE, wf_call_func(p->g, like), args, WF_NIL), error);
}

/* Bytes in the form that `like` has: a BYTES object, or the call of protocol 2. */
static wf_ref parse_raw(struct wf_graph *g, wf_ref like, const char *text, size_t len, int *error)
{
	struct wf_buffer utf8 = WF_BUFFER_INIT;
	wf_ref inner;
	switch (wf_kind_of(g, like)) {
	case WF_STR:
	case WF_PYSTR:
	case WF_BYTES:
	case WF_BYTEARRAY:
		return made(wf_string(g, wf_kind_of(g, like), text, len), error);
	default:
		break;
	}
	/* protocol 2 has no opcode for bytes, and weights_only takes only this form; it decides about empty ones as
	 * well */
	enum wf_meaning meaning = wf_value_meaning(g, like, &inner);
	for (size_t i = 0; i < len; i++)
		put_utf8(&utf8, (unsigned char)text[i]);
	*error = wf_buffer_status(&utf8);
	wf_ref args[2] = {*error < 0 ? WF_NIL : made(wf_string(g, WF_STR, utf8.data ? utf8.data : "", utf8.len), error),
			  made(wf_str(g, "latin1"), error)};
	wf_buffer_free(&utf8);
	wf_ref tuple = *error < 0 ? WF_NIL : made(wf_tuple(g, args, 2), error);
	wf_ref encode = *error < 0 ? WF_NIL : made(wf_global_named(g, "_codecs", "encode"), error);
	wf_ref r = *error < 0 ? WF_NIL : made(wf_call(g, WF_CALL_REDUCE, encode, tuple, WF_NIL), error);
	if (*error < 0 || meaning != WF_MEANS_BYTEARRAY)
		return r;
	tuple = made(wf_tuple(g, &r, 1), error);
	return *error < 0 ? WF_NIL : made(wf_call(g, WF_CALL_REDUCE, wf_call_func(g, like), tuple, WF_NIL), error);
}

int wf_value_parse(struct wf_graph *g, wf_ref like, const char *text, size_t len, wf_ref *ret)
{
	enum wf_value_form form = wf_value_form_of(g, like);
	wf_ref r = WF_NIL, inner;
	int error = 0;
	if (form == WF_VALUE_NOT || !wf_value_is_settable(g, like))
		return -EROFS;
	if (form == WF_VALUE_RAW) {
		r = parse_raw(g, like, text, len, &error);
	} else {
		while (len > 0 && isspace((unsigned char)text[len - 1]))
			len--;
		while (len > 0 && isspace((unsigned char)text[0])) {
			text++;
			len--;
		}
		struct parser p = {.g = g, .p = text, .end = text + len};
		if (form == WF_VALUE_JSON) {
			r = parse_sequence(&p, like, &error);
		} else {
			switch (wf_kind_of(g, like)) {
			case WF_INT:
			case WF_LONG:
				r = parse_int(g, text, len, &error);
				break;
			case WF_FLOAT:
				r = parse_float(g, text, len, &error);
				break;
			case WF_BOOL:
				r = parse_bool(g, text, len, &error);
				break;
			case WF_NONE: /* null may become any scalar or list: there is no type to keep */
				r = len > 0 && text[0] == '[' ? parse_sequence(&p, wf_list(g), &error)
							      : parse_atom(&p, &error);
				if (error == 0 && p.p != p.end)
					error = -EINVAL;
				break;
			default:
				switch (wf_value_meaning(g, like, &inner)) {
				case WF_MEANS_COMPLEX:
					r = parse_complex(g, like, text, len, &error);
					break;
				case WF_MEANS_DTYPE:
					r = parse_dtype(g, text, len, &error);
					break;
				case WF_MEANS_DEVICE:
					r = parse_device(g, like, text, len, &error);
					break;
				default:
					return -EROFS;
				}
			}
		}
	}
	if (error < 0)
		return error;
	if (r == WF_NIL)
		return -ENOMEM;
	*ret = r;
	return 0;
}
