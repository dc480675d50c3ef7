/* SPDX-License-Identifier: MIT */
/* Objects of torch's classes that are written as the one before them: a pickler writes the same opcodes for each chunk, index and info, and
 * only numbers, a name and a file differ. The shape of a class is what stays the same, with holes for what does not.
 *
 *   ) NEWOBJ { (  offsets Size  [K 4 K 0 TUPLE2 TUPLE1 REDUCE]  sizes Size  [K 4 M 512 TUPLE2 TUPLE1 REDUCE]  u BUILD
 *   '------- literal --------'                hole               '-literal--'               hole               '-literal'
 *
 * A shape is learned from the bytes of an object, and changes nothing. An object that fits it is made by the same functions as one
 * whose opcodes are run; one that does not is taken for a new shape, or its opcodes are run.
 */
#include "codec/bytes/util.h"
#include "codec/directory/dcp_stream_inner.h"
#include "codec/pickle/opcodes.h"

/* ---- numbers ---- */

/* Behind an int that is not negative; NULL: it is something else. */
static inline const unsigned char *read_int(const unsigned char *p, uint64_t *ret)
{
	uint8_t len;
	switch (*p) {
	case OP_BININT1:
		*ret = p[1];
		return p + 2;
	case OP_BININT2:
		*ret = wf_le16(p + 1);
		return p + 3;
	case OP_BININT:
		*ret = wf_le32(p + 1);
		return *ret <= INT32_MAX ? p + 5 : NULL;
	case OP_LONG1:
		len = p[1];
		*ret = 0;
		for (uint8_t i = 0; i < len && i < 8; i++)
			*ret |= (uint64_t)p[2 + i] << 8 * i;
		return len > 0 && len <= 8 && !(p[1 + len] & 0x80) && *ret <= STREAM_INT_MAX ? p + 2 + len : NULL;
	default:
		return NULL;
	}
}

/* Behind a tuple of numbers, and how many they are. */
static inline const unsigned char *read_tuple(const unsigned char *p, uint64_t *numbers, uint32_t *ret_n)
{
	bool marked = *p == OP_MARK;
	uint32_t n = 0;
	const unsigned char *next = p += marked;
	while (n < STREAM_SHAPE_NUMBERS && (next = read_int(p, &numbers[n]))) {
		p = next;
		n++;
	}
	*ret_n = n;
	return n == 0 ? (!marked && *p == OP_EMPTY_TUPLE ? p + 1 : NULL)
	       : *p == (marked ? OP_TUPLE : OP_TUPLE1 + n - 1) && (marked || n <= 3) ? p + 1
										     : NULL;
}

/* Behind the call of torch.Size with a tuple. */
static inline const unsigned char *read_call(const unsigned char *p, bool has_numbers)
{
	static const unsigned char call[] = {OP_MEMOIZE, OP_TUPLE1, OP_MEMOIZE, OP_REDUCE, OP_MEMOIZE};
	const unsigned char *from = has_numbers ? call : call + 1; /* the empty tuple is not put into the memo */
	size_t len = sizeof call - !has_numbers;
	return memcmp(p, from, len) == 0 ? p + len : NULL;
}

/* Behind the index of a value in the memo; NULL: it is something else. */
static inline const unsigned char *read_get(const unsigned char *p, uint32_t *ret)
{
	*ret = *p == OP_BINGET ? p[1] : wf_le32(p + 1);
	return *p == OP_BINGET ? p + 2 : *p == OP_LONG_BINGET ? p + 5 : NULL;
}

/* ---- learning ---- */

/* Adds the hole that is at p, behind a literal that began there. */
static struct stream_hole *add_hole(struct stream_shape *shape, const unsigned char *literal, const unsigned char *p,
				    enum stream_hole_kind kind)
{
	size_t len = (size_t)(p - literal);
	struct stream_hole *h = &shape->holes[shape->count++];
	unsigned char bytes[STREAM_LITERAL_BYTES] = {0}, mask[STREAM_LITERAL_BYTES] = {0};
	memcpy(bytes, literal, len);
	memset(mask, 0xff, len);
	*h = (struct stream_hole){.kind = kind, .len = (uint8_t)len};
	memcpy(h->literal, bytes, sizeof h->literal);
	memcpy(h->mask, mask, sizeof h->mask);
	return h;
}

/* A value, in front of which its name stands. Behind it; NULL: such a value is none that a shape has. */
static const unsigned char *learn_value(struct dcp_stream *s, struct stream_shape *shape, const unsigned char *literal,
					const unsigned char *p)
{
	uint64_t numbers[STREAM_SHAPE_NUMBERS];
	uint32_t index, n;
	const unsigned char *end = read_int(p, numbers);
	if (end) {
		add_hole(shape, literal, p, HOLE_INT);
		return end;
	}
	if (*p == OP_SHORT_BINUNICODE && p[2 + p[1]] == OP_MEMOIZE) {
		add_hole(shape, literal, p, HOLE_TEXT);
		return p + 3 + p[1];
	}
	if (*p == OP_NONE) {
		add_hole(shape, literal, p, HOLE_NONE);
		return p + 1;
	}
	end = read_get(p, &index);
	stream_value v = end ? stream_get(&s->memo, index) : 0;
	if (!v)
		return NULL;
	if (stream_kind(v) != S_GLOBAL || s->globals[stream_number(v)].is != G_SIZE) {
		add_hole(shape, literal, p, HOLE_GET);
		return end;
	}
	add_hole(shape, literal, end, HOLE_SIZE);
	end = read_tuple(end, numbers, &n);
	return end ? read_call(end, n > 0) : NULL;
}

/* The object and its mapping; of a size the tuple and the one around it, too. */
static void count_indices(struct stream_shape *shape, uint32_t is)
{
	uint32_t values = 0;
	shape->indices = 2;
	for (uint32_t i = 0; i < shape->count; i++) {
		uint8_t kind = shape->holes[i].kind;
		if (kind != HOLE_SIZE && kind != HOLE_TEXT)
			continue;
		shape->indices += kind == HOLE_SIZE ? 3 : 1;
		shape->remembered |= UINT64_C(1) << (shape->indices - 1);
		if (values++ < 2)
			shape->pair[values - 1] = (uint8_t)i;
	}
	const struct stream_hole *first = &shape->holes[shape->pair[0]], *second = &shape->holes[shape->pair[1]];
	bool chunk = is == G_CLASS + WF_DCP_CHUNK && first->kind == HOLE_SIZE && first->field == WF_DCP_OFFSETS &&
		     second->kind == HOLE_SIZE && second->field == WF_DCP_SIZES;
	bool index = is == G_CLASS + WF_DCP_INDEX && first->kind == HOLE_TEXT && second->kind == HOLE_SIZE;
	if (values == 2 && (chunk || index))
		shape->leaves = LEAVES_PAIR;
	else if (values == 0 && (is == G_CLASS + WF_DCP_INDEX || is == G_CLASS + WF_DCP_INFO))
		shape->leaves = LEAVES_NOTHING;
}

/* From the bytes behind the class. What a shape's objects take at most is within the margin behind the window. */
static __attribute__((noinline)) bool learn(struct dcp_stream *s, uint32_t is, const unsigned char *p,
					    struct stream_shape *shape)
{
	static const unsigned char new[] = {OP_EMPTY_TUPLE, OP_NEWOBJ, OP_MEMOIZE, OP_EMPTY_DICT, OP_MEMOIZE, OP_MARK};
	const unsigned char *literal = p, *start = p;
	uint32_t index, bytes = 0;
	*shape = (struct stream_shape){.known = false};
	if (memcmp(p, new, sizeof new) != 0)
		return false;
	p += sizeof new;
	while (*p != OP_SETITEMS) {
		const unsigned char *value = read_get(p, &index);
		stream_value name = value ? stream_get(&s->memo, index) : 0;
		uint64_t field = stream_number(name);
		if (shape->count == STREAM_SHAPE_HOLES || stream_kind(name) != S_TEXT || field >= STREAM_ATTRIBUTES ||
		    shape->fields & 1u << field || p - start > STREAM_MARGIN_BYTES / 2)
			return false;
		shape->fields |= 1u << field;
		struct stream_hole *h = &shape->holes[shape->count];
		p = learn_value(s, shape, literal, value);
		if (!p)
			return false;
		h->field = (uint8_t)field;
		literal = p;
	}
	if (p[1] != OP_BUILD)
		return false;
	add_hole(shape, literal, p + 2, HOLE_END);
	for (uint32_t i = 0; i < shape->count; i++)
		bytes += STREAM_LITERAL_BYTES +
			 (shape->holes[i].kind == HOLE_TEXT ? 258u : 10u * (STREAM_SHAPE_NUMBERS + 1));
	count_indices(shape, is);
	return shape->known = bytes <= STREAM_MARGIN_BYTES;
}

/* ---- fitting ---- */

static inline uint64_t word_at(const unsigned char *p)
{
	uint64_t word;
	memcpy(&word, p, sizeof word);
	return word;
}

static inline bool has_literal(const struct stream_hole *h, const unsigned char *p)
{
	return ((word_at(p) ^ h->literal[0]) & h->mask[0]) == 0 && ((word_at(p + 8) ^ h->literal[1]) & h->mask[1]) == 0;
}

static __attribute__((noinline)) const unsigned char *read_size(struct dcp_stream *s, struct stream_hole *h,
								const unsigned char *p, stream_value *ret)
{
	uint64_t numbers[STREAM_SHAPE_NUMBERS];
	uint32_t n;
	const unsigned char *end = read_tuple(p, numbers, &n);
	if (!end || !(end = read_call(end, n > 0)))
		return NULL;
	s->code = stream_numbers(s, numbers, n, S_SIZE, ret);
	h->empty = n == 0;
	return s->code == 0 ? end : NULL;
}

/* Sizes repeat, and what is written as one that was is that one. The first eight bytes are within the call, of which the numbers take two at
 * least. */
static inline const unsigned char *fill_size(struct dcp_stream *s, struct stream_hole *h, const unsigned char *p,
					     stream_value *ret)
{
	uint64_t begin = word_at(p), rest = word_at(p + sizeof begin);
	struct stream_written_size *was =
		&s->sizes[begin * UINT64_C(0x9e3779b97f4a7c15) >> 32 & (STREAM_WRITTEN_SIZES - 1)];
	if (was->len == 0 || begin != was->begin || ((rest ^ was->rest) & was->rest_mask) != 0) {
		const unsigned char *end = read_size(s, h, p, ret);
		size_t len = end ? (size_t)(end - p) : 0;
		if (len >= sizeof begin && len <= sizeof begin + sizeof rest)
			*was = (struct stream_written_size){.begin = begin,
							    .rest = rest,
							    .rest_mask = len < 16 ? (UINT64_C(1) << 8 * (len - 8)) - 1
										  : UINT64_MAX,
							    .value = *ret,
							    .len = len};
		return end;
	}
	h->empty = false;
	*ret = was->value;
	/* mostly as long as the last one: a guess lets the processor go on before it has looked */
	if (__builtin_expect_with_probability(was->len != h->size_len, 0, 0.999))
		h->size_len = (uint8_t)was->len;
	return p + h->size_len;
}

/* Behind the value; NULL: it is none of that kind, or s->code is set. */
static inline const unsigned char *fill_hole(struct dcp_stream *s, struct stream_hole *h, const unsigned char *p,
					     stream_value *ret)
{
	uint64_t number;
	uint32_t index, text;
	switch (h->kind) {
	case HOLE_SIZE:
		return fill_size(s, h, p, ret);
	case HOLE_INT:
		p = read_int(p, &number);
		*ret = stream_make(S_INT, p ? number : 0);
		return p;
	case HOLE_TEXT:
		if (*p != OP_SHORT_BINUNICODE || p[2 + p[1]] != OP_MEMOIZE)
			return NULL;
		s->code = stream_text(s, p + 2, p[1], &text);
		*ret = stream_make(S_TEXT, text);
		return s->code == 0 ? p + 3 + p[1] : NULL;
	case HOLE_GET:
		p = read_get(p, &index);
		*ret = p ? stream_get(&s->memo, index) : 0;
		return *ret && stream_kind(*ret) != S_GLOBAL ? p : NULL;
	default:
		*ret = stream_make(S_NONE, 0);
		return *p == OP_NONE ? p + 1 : NULL;
	}
}

/* The object and what it was made of, into the memo one by one. */
static __attribute__((noinline)) void remember(struct dcp_stream *s, const struct stream_shape *shape,
					       stream_value object)
{
	stream_put(&s->memo, object);
	stream_pass(&s->memo, 1);
	for (const struct stream_hole *h = shape->holes; h->kind != HOLE_END; h++) {
		if (h->kind == HOLE_SIZE)
			stream_pass(&s->memo, h->empty ? 1 : 2);
		if (h->kind == HOLE_SIZE || h->kind == HOLE_TEXT)
			stream_put(&s->memo, s->fields[h->field]);
	}
}

/* The same at once, of what most objects are. */
static inline bool remember_at_once(struct dcp_stream *s, const struct stream_shape *shape, stream_value object)
{
	struct stream_memo *m = &s->memo;
	if (shape->leaves == LEAVES_NOTHING) {
		if (stream_kind(object) == S_INFO)
			stream_put_info(m, m->count, stream_number(object));
		stream_pass(m, shape->indices);
		return true;
	}
	const struct stream_hole *first = &shape->holes[shape->pair[0]], *second = &shape->holes[shape->pair[1]];
	const stream_value values[2] = {s->fields[first->field], s->fields[second->field]};
	if (shape->leaves != LEAVES_PAIR || first->empty || second->empty || (values[0] | values[1]) > UINT32_MAX)
		return false;
	uint64_t pair = stream_kind(object) == S_CHUNK
				? STREAM_PAIRS_OF_CHUNKS | stream_number(object)
				: STREAM_PAIRS_OF_INDICES | stream_number(values[1]) << STREAM_PAIR_BITS |
					  stream_number(values[0]);
	stream_put_pair(m, shape->indices, shape->remembered, pair, values);
	return true;
}

/* Behind the object; p: it does not fit; NULL: s->code says why it all ends. */
static inline const unsigned char *fit(struct dcp_stream *s, struct stream_shape *shape, stream_value class,
				       const unsigned char *p, stream_value *ret)
{
	const unsigned char *start = p;
	struct stream_hole *h = shape->holes;
	s->fields_number++;
	for (;; h++) {
		if (!has_literal(h, p))
			return start;
		p += h->len;
		if (h->kind == HOLE_END)
			break;
		s->code = 0;
		p = fill_hole(s, h, p, &s->fields[h->field]);
		if (!p)
			return s->code == 0 ? start : NULL;
	}
	s->fields_set = shape->fields;
	s->code = stream_make_object(s, class, ret);
	if (s->code != 0)
		return NULL;
	if (!remember_at_once(s, shape, *ret))
		remember(s, shape, *ret);
	return p;
}

/* The object of the class that is at sp, in place of it. Behind it; p: none that is known. */
static inline const unsigned char *take_object(struct dcp_stream *s, stream_value *sp, const unsigned char *p)
{
	uint32_t is = s->globals[stream_number(*sp)].is;
	if (is < G_CLASS || s->memo.rewritten)
		return p;
	struct stream_shape *shape = &s->shapes[is - G_CLASS];
	for (bool learned = false;; learned = true) {
		const unsigned char *end = shape->known ? fit(s, shape, *sp, p, sp) : p;
		if (end != p || learned || !learn(s, is, p, shape))
			return end;
	}
}

stream_value *stream_shaped(struct dcp_stream *s, stream_value *sp, struct stream_place *at)
{
	const unsigned char *p = at->p, *end;
	uint32_t index;
	for (;;) {
		end = take_object(s, sp, p);
		if (!end)
			return NULL;
		at->p = end;
		sp++;
		if (end == p || end >= at->safe || !(p = read_get(end, &index)))
			return sp;
		*sp = stream_get(&s->memo, index);
		if (stream_kind(*sp) != S_GLOBAL)
			return sp;
	}
}
