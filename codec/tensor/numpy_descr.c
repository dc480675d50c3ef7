/* SPDX-License-Identifier: MIT */
/* Makes dtype objects of NumPy from their descriptions. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/tensor/numpy_dtype.h"
#include "codec/tensor/tensor.h"

#define MAX_NESTING 8
#define MAX_FIELDS 1024u
#define MAX_ITEM_BYTES (1u << 30)
#define MAX_NAME_BYTES 1024u

struct descr_reader {
	struct wf_graph *g;
	const char *at;
};

/* A dtype and how many bytes its element has. flags: of NumPy, what its elements need. */
struct made_dtype {
	wf_ref object;
	uint64_t bytes;
	int64_t flags;
};

enum { NEEDS_INIT = 8, NEEDS_API = 16 };

/* ---- text ---- */

static void skip_blanks(struct descr_reader *p)
{
	p->at += strspn(p->at, " \t\n");
}

static bool take(struct descr_reader *p, char c)
{
	skip_blanks(p);
	bool is = *p->at == c;
	p->at += is;
	return is;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A text in quotes, as wf_numpy_dtype_descr writes it. */
static bool take_quoted(struct descr_reader *p, char text[MAX_NAME_BYTES], size_t *ret_len)
{
	size_t n = 0;
	if (!take(p, '\''))
		return false;
	for (; *p->at && *p->at != '\'' && n + 1 < MAX_NAME_BYTES; p->at++) {
		if (p->at[0] != '\\') {
			text[n++] = *p->at;
		} else if (p->at[1] == 'x' && hex_digit(p->at[2]) >= 0 && hex_digit(p->at[3]) >= 0) {
			text[n++] = (char)(hex_digit(p->at[2]) << 4 | hex_digit(p->at[3]));
			p->at += 3;
		} else if (p->at[1] == '\'' || p->at[1] == '\\') {
			text[n++] = *++p->at;
		} else {
			return false;
		}
	}
	text[n] = '\0';
	*ret_len = n;
	return take(p, '\'');
}

static bool take_number(struct descr_reader *p, uint64_t most, uint64_t *ret)
{
	char *end;
	skip_blanks(p);
	if (*p->at < '0' || *p->at > '9')
		return false;
	errno = 0;
	*ret = strtoull(p->at, &end, 10);
	p->at = end;
	return errno == 0 && *ret <= most;
}

/* ---- objects ---- */

struct dtype_state {
	const char *name, *order;
	wf_ref subarray, names, fields, unit; /* WF_NIL: None, and no ninth part */
	int64_t item_bytes, alignment;        /* -1: what the name says */
};

static int make(struct descr_reader *p, const struct dtype_state *s, uint64_t bytes, int64_t flags,
		struct made_dtype *ret)
{
	struct wf_graph *g = p->g;
	wf_ref none = wf_none(g);
	wf_ref args[3] = {wf_str(g, s->name), wf_bool(g, false), wf_bool(g, true)};
	wf_ref state[9] = {wf_int(g, s->unit == WF_NIL ? 3 : 4),
			   wf_str(g, s->order),
			   s->subarray == WF_NIL ? none : s->subarray,
			   s->names == WF_NIL ? none : s->names,
			   s->fields == WF_NIL ? none : s->fields,
			   wf_int(g, s->item_bytes),
			   wf_int(g, s->alignment),
			   wf_int(g, flags),
			   s->unit};
	wf_ref func = wf_global_named(g, "numpy", "dtype");
	if (wf_graph_failed(g) < 0)
		return wf_graph_failed(g);
	wf_ref call = wf_call(g, WF_CALL_REDUCE, func, wf_tuple(g, args, 3), WF_NIL);
	wf_ref built = call == WF_NIL ? WF_NIL : wf_tuple(g, state, s->unit == WF_NIL ? 8 : 9);
	if (built == WF_NIL || wf_call_build(g, call, built) < 0)
		return wf_graph_failed(g) < 0 ? wf_graph_failed(g) : -ENOMEM;
	*ret = (struct made_dtype){call, bytes, flags};
	return 0;
}

/* (None, (b'D', 1, 1, 1)); in the text "[3D]", and nothing for no unit */
static int take_unit(struct descr_reader *p, wf_ref *ret)
{
	char unit[8] = "generic";
	uint64_t step = 1;
	size_t n = 0;
	if (*p->at == '[') {
		p->at++;
		if (*p->at >= '0' && *p->at <= '9' && !take_number(p, INT32_MAX, &step))
			return -EINVAL;
		n = strcspn(p->at, "]");
		if (n == 0 || n >= sizeof unit || p->at[n] != ']' || step == 0)
			return -EINVAL;
		memcpy(unit, p->at, n);
		unit[n] = '\0';
		p->at += n + 1;
	}
	static const char *const units[] = {"Y",  "M",  "W",  "D",  "h",  "m",  "s",
					    "ms", "us", "ns", "ps", "fs", "as", "generic"};
	bool known = false;
	for (size_t i = 0; i < WF_ARRAY_SIZE(units); i++)
		known |= !strcmp(units[i], unit);
	if (!known)
		return -EINVAL;
	wf_ref one = wf_int(p->g, 1);
	wf_ref inner[4] = {wf_string(p->g, WF_BYTES, unit, strlen(unit)), wf_int(p->g, (int64_t)step), one, one};
	wf_ref outer[2] = {wf_none(p->g), inner[0] == WF_NIL ? WF_NIL : wf_tuple(p->g, inner, 4)};
	*ret = outer[1] == WF_NIL ? WF_NIL : wf_tuple(p->g, outer, 2);
	return *ret == WF_NIL ? -ENOMEM : 0;
}

/* "<U3", "|V8", ">i4", "<M8[D]" */
static int take_simple(struct descr_reader *p, struct made_dtype *ret)
{
	char order[2] = {*p->at, '\0'}, name[24];
	bool big_endian;
	uint64_t n = 0, most = MAX_ITEM_BYTES / 4;
	if (!order[0] || !strchr("<>|", order[0]))
		return -EINVAL;
	const char *letter = ++p->at;
	if (!*letter)
		return -EINVAL;
	p->at++;
	if (!take_number(p, most, &n))
		return -EINVAL;
	struct dtype_state s = {.name = name, .order = order, .item_bytes = -1, .alignment = -1};
	snprintf(name, sizeof name, "%c%llu", *letter, (unsigned long long)n);
	enum wf_dtype dtype = wf_dtype_from_numpy(name, &big_endian);
	switch (*letter) {
	case 'U':
		s.item_bytes = (int64_t)n * 4;
		s.alignment = 4;
		return order[0] == '|' ? -EINVAL : make(p, &s, n * 4, NEEDS_INIT, ret);
	case 'S':
	case 'V':
		s.item_bytes = (int64_t)n;
		s.alignment = 1;
		return order[0] != '|' ? -EINVAL : make(p, &s, n, 0, ret);
	case 'M':
	case 'm': {
		int r = n == 8 ? take_unit(p, &s.unit) : -EINVAL;
		return r < 0 ? r : make(p, &s, 8, 0, ret);
	}
	default:
		if (dtype != WF_DTYPE_INVALID)
			return make(p, &s, wf_dtype_info(dtype)->size_bytes, 0, ret);
		return (*letter == 'f' && n == 16) || (*letter == 'c' && n == 32) ? make(p, &s, n, 0, ret) : -EINVAL;
	}
}

/* ---- records ---- */

static int take_dtype(struct descr_reader *p, unsigned depth, struct made_dtype *ret);

/* A shape behind a field's dtype: an array in each element. */
static int take_subarray(struct descr_reader *p, struct made_dtype *d)
{
	wf_ref sizes[WF_MAX_NDIM] = {0}, parts[2];
	uint32_t ndim = 0;
	uint64_t n, count = 1;
	char name[24];
	if (!take(p, '('))
		return -EINVAL;
	while (!take(p, ')')) {
		if (ndim == WF_MAX_NDIM || !take_number(p, MAX_ITEM_BYTES, &n) || wf_mul_u64(count, n, &count) ||
		    count > MAX_ITEM_BYTES)
			return -EINVAL;
		sizes[ndim++] = wf_int(p->g, (int64_t)n);
		take(p, ',');
	}
	if (wf_mul_u64(count, d->bytes, &count) || count > MAX_ITEM_BYTES)
		return -EINVAL;
	parts[0] = d->object;
	parts[1] = wf_tuple(p->g, sizes, ndim);
	snprintf(name, sizeof name, "V%llu", (unsigned long long)count);
	struct dtype_state s = {.name = name,
				.order = "|",
				.subarray = parts[1] == WF_NIL ? WF_NIL : wf_tuple(p->g, parts, 2),
				.item_bytes = (int64_t)count,
				.alignment = 1};
	return s.subarray == WF_NIL ? -ENOMEM : make(p, &s, count, d->flags & NEEDS_INIT, d);
}

struct fields {
	wf_ref names[MAX_FIELDS], dict;
	uint32_t count;
	uint64_t bytes;
	int64_t flags;
};

/* ('name', dtype) or ('name', dtype, shape); a name that is empty is padding */
static int take_field(struct descr_reader *p, unsigned depth, struct fields *f)
{
	char name[MAX_NAME_BYTES];
	size_t len;
	struct made_dtype d;
	if (!take(p, '(') || !take_quoted(p, name, &len) || !take(p, ','))
		return -EINVAL;
	int r = take_dtype(p, depth + 1, &d);
	if (r == 0 && take(p, ','))
		r = take_subarray(p, &d);
	if (r < 0 || !take(p, ')'))
		return r < 0 ? r : -EINVAL;
	uint64_t offset = f->bytes;
	f->bytes += d.bytes;
	f->flags |= d.flags & NEEDS_INIT;
	if (f->bytes > MAX_ITEM_BYTES)
		return -EINVAL;
	if (len == 0)
		return 0;
	if (f->count == MAX_FIELDS || wf_dict_get(p->g, f->dict, name) != WF_NIL)
		return -EINVAL;
	wf_ref key = wf_string(p->g, WF_STR, name, len), pair[2] = {d.object, wf_int(p->g, (int64_t)offset)};
	wf_ref value = key == WF_NIL ? WF_NIL : wf_tuple(p->g, pair, 2);
	f->names[f->count++] = key;
	return value == WF_NIL ? -ENOMEM : wf_dict_append(p->g, f->dict, key, value);
}

static int take_record(struct descr_reader *p, unsigned depth, struct made_dtype *ret)
{
	cleanup_free struct fields *f = calloc(1, sizeof *f);
	char name[24];
	if (!f || (f->dict = wf_dict(p->g)) == WF_NIL)
		return -ENOMEM;
	while (!take(p, ']')) {
		int r = take_field(p, depth, f);
		if (r < 0)
			return r;
		take(p, ',');
	}
	snprintf(name, sizeof name, "V%llu", (unsigned long long)f->bytes);
	struct dtype_state s = {.name = name,
				.order = "|",
				.names = wf_tuple(p->g, f->names, f->count),
				.fields = f->dict,
				.item_bytes = (int64_t)f->bytes,
				.alignment = 1};
	return s.names == WF_NIL ? -ENOMEM : make(p, &s, f->bytes, f->flags | NEEDS_API, ret);
}

/* Inside of a record a simple one stands in quotes. */
static int take_dtype(struct descr_reader *p, unsigned depth, struct made_dtype *ret)
{
	if (depth > MAX_NESTING)
		return -EINVAL;
	if (take(p, '['))
		return take_record(p, depth, ret);
	bool quoted = take(p, '\'');
	int r = quoted == (depth > 0) ? take_simple(p, ret) : -EINVAL;
	return r == 0 && quoted && *p->at++ != '\'' ? -EINVAL : r;
}

int wf_numpy_dtype_parse(struct wf_graph *g, const char *descr, wf_ref *ret, uint32_t *ret_item_bytes)
{
	struct descr_reader p = {.g = g, .at = descr};
	struct made_dtype d;
	int r = take_dtype(&p, 0, &d);
	if (r < 0)
		return r;
	skip_blanks(&p);
	if (*p.at)
		return -EINVAL;
	*ret = d.object;
	*ret_item_bytes = (uint32_t)d.bytes;
	return 0;
}
