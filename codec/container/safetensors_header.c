/* SPDX-License-Identifier: MIT */
/* Reads the header of a safetensors file: container/safetensors_head.h draws it. */
#include "codec/container/safetensors_read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/json.h"
#include "codec/bytes/map.h"
#include "codec/bytes/util.h"

#define MAX_TENSORS (1u << 24)
#define HEAD 8u /* bytes before the text */
/* Blanks before the brace that are looked through for it; a reader takes more, but nobody writes any. */
#define BLANKS_MAX 4096u
/* A header longer than that is no damaged one of ours, but another kind of file. */
#define CLAIM_MAX_BYTES (1ull << 40)

struct header_reading {
	struct wf_safetensors_header *h;
	struct wf_json json;
	struct wf_error *err;
	bool has_metadata;
};

/* ---- whether it is one ---- */

static bool is_blank(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int wf_safetensors_begins(struct wf_source *file)
{
	unsigned char head[8 + BLANKS_MAX];
	uint64_t size = wf_source_size(file);
	size_t len = (size_t)WF_MIN(size, (uint64_t)sizeof head), at = 8;
	if (len < 10)
		return 0;
	/* nearly all have the brace at once */
	int r = wf_source_read(file, 0, head, 10);
	if (r < 0)
		return r;
	uint64_t n = wf_le64(head);
	if (n < 2 || n > CLAIM_MAX_BYTES || (head[8] != '{' && !is_blank(head[8])))
		return 0;
	if (head[8] != '{') {
		r = wf_source_read(file, 0, head, len);
		if (r < 0)
			return r;
		while (at < len && at < 8 + n && is_blank(head[at]))
			at++;
		return at < len && at < 8 + n && head[at] == '{';
	}
	/* a size of the file that is beyond it, and text behind a brace that is no JSON, may be anything */
	return n <= size - 8 || head[9] == '"' || head[9] == '}' || is_blank(head[9]);
}

/* ---- the grammar ---- */

static int broken(struct header_reading *r)
{
	return wf_fail_at(r->err, r->json.code ? r->json.code : -EUCLEAN, "header", r->json.at - HEAD, "%s",
			  r->json.error ? r->json.error : "it is not what a header is made of");
}

static int bad(struct header_reading *r, const char *what)
{
	return wf_fail_at(r->err, -EUCLEAN, "header", r->json.at - HEAD, "%s", what);
}

/* The next token has to be of a kind. */
static int expect(struct header_reading *r, enum wf_json_kind kind, const char *else_what)
{
	enum wf_json_kind k = wf_json_next(&r->json);
	return k == kind ? 0 : k == WF_JSON_BROKEN ? broken(r) : bad(r, else_what);
}

static int keep_text(struct header_reading *r, size_t *ret_at, uint32_t *ret_len)
{
	*ret_at = r->h->text.len;
	*ret_len = (uint32_t)r->json.text_len; /* at most WF_JSON_MAX_STRING */
	wf_buffer_append(&r->h->text, r->json.text, r->json.text_len + 1);
	return wf_buffer_status(&r->h->text) < 0 ? wf_fail(r->err, -ENOMEM, "out of memory") : 0;
}

/* Digits alone: no sign, no point, no exponent. */
static bool parse_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;
	for (; *s >= '0' && *s <= '9'; s++)
		if (wf_mul_u64(v, 10, &v) || wf_add_u64(v, (uint64_t)(*s - '0'), &v))
			return false;
	*ret = v;
	return *s == '\0';
}

static int expect_u64(struct header_reading *r, uint64_t *ret, const char *what)
{
	int e = expect(r, WF_JSON_NUMBER, what);
	return e < 0 ? e : parse_u64(r->json.text, ret) ? 0 : bad(r, what);
}

/* ---- a tensor ---- */

enum member { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };

struct entry {
	struct wf_safetensors_tensor t;
	unsigned int seen; /* of enum member */
	uint32_t bits;
	char dtype[24];
	bool huge; /* a dimension that no int64 holds */
};

static int read_dtype(struct header_reading *r, struct entry *e)
{
	int error = expect(r, WF_JSON_STRING, "a dtype has to be a string");
	if (error < 0)
		return error;
	snprintf(e->dtype, sizeof e->dtype, "%s", r->json.text);
	/* a NUL or more letters than any dtype has make another name of it */
	bool whole = strlen(e->dtype) == r->json.text_len;
	e->t.dtype = wf_safetensors_dtype(whole ? e->dtype : "", &e->bits);
	return e->bits ? 0
		       : wf_fail_at(r->err, -EUCLEAN, "header", r->json.at - HEAD, "there is no dtype \"%s\"",
				    e->dtype);
}

static int read_shape(struct header_reading *r, struct entry *e)
{
	static const char what[] = "a dimension has to be a whole number of 0 to 2^64 - 1";
	int error = expect(r, WF_JSON_ARRAY, "a shape has to be a list");
	e->t.shape = r->h->size_count;
	for (uint32_t n = 0; error == 0; n++) {
		enum wf_json_kind k = wf_json_next(&r->json);
		uint64_t v;
		if (k == WF_JSON_ARRAY_END) {
			e->t.ndim = n;
			return 0;
		}
		if (k != WF_JSON_NUMBER || !parse_u64(r->json.text, &v))
			return k == WF_JSON_BROKEN ? broken(r) : bad(r, what);
		e->huge |= v > INT64_MAX;
		/* further ones are checked, counted and not kept */
		if (n >= WF_MAX_NDIM)
			continue;
		if (wf_array_reserve(&r->h->sizes, &r->h->size_capacity, (uint64_t)r->h->size_count + 1,
				     sizeof *r->h->sizes, UINT32_MAX) < 0)
			return wf_fail(r->err, -ENOMEM, "out of memory");
		r->h->sizes[r->h->size_count++] = (int64_t)v;
	}
	return error;
}

static int read_offsets(struct header_reading *r, struct entry *e)
{
	static const char what[] = "data_offsets has to be a list of two whole numbers of 0 to 2^64 - 1";
	int error = expect(r, WF_JSON_ARRAY, what);
	if (error == 0)
		error = expect_u64(r, &e->t.begin, what);
	if (error == 0)
		error = expect_u64(r, &e->t.end, what);
	return error < 0 ? error : expect(r, WF_JSON_ARRAY_END, what);
}

static int read_member(struct header_reading *r, struct entry *e, unsigned int member)
{
	if (e->seen & member)
		return bad(r, "a tensor has a member twice");
	e->seen |= member;
	return member == DTYPE ? read_dtype(r, e) : member == SHAPE ? read_shape(r, e) : read_offsets(r, e);
}

static int read_members(struct header_reading *r, struct entry *e)
{
	enum wf_json_kind k;
	while ((k = wf_json_next(&r->json)) == WF_JSON_KEY) {
		const char *key = r->json.text;
		bool whole = strlen(key) == r->json.text_len;
		unsigned int member = !whole                         ? 0
				      : !strcmp(key, "dtype")        ? DTYPE
				      : !strcmp(key, "shape")        ? SHAPE
				      : !strcmp(key, "data_offsets") ? OFFSETS
								     : 0;
		int error = member ? read_member(r, e, member) : wf_json_skip(&r->json, k) ? 0 : broken(r);
		if (error < 0)
			return error;
	}
	return k == WF_JSON_OBJECT_END ? 0 : broken(r);
}

/* The three without their names, which that reader takes as well. */
static int read_row(struct header_reading *r, struct entry *e)
{
	int error = read_member(r, e, DTYPE);
	if (error == 0)
		error = read_member(r, e, SHAPE);
	if (error == 0)
		error = read_member(r, e, OFFSETS);
	return error < 0 ? error : expect(r, WF_JSON_ARRAY_END, "a tensor has more than dtype, shape and data_offsets");
}

/* The name for messages; one of many letters is cut by them. */
static int wrong(const struct header_reading *r, const struct wf_safetensors_tensor *t, int code, const char *what)
{
	return wf_fail_at(r->err, code, r->h->text.data + t->name, WF_ERROR_NO_OFFSET, "%s", what);
}

/* What the shape says against what the offsets say. */
static int check_size(struct header_reading *r, struct entry *e)
{
	struct wf_safetensors_tensor *t = &e->t;
	uint64_t product = 1, bits;
	for (uint32_t i = 0; i < WF_MIN(t->ndim, (uint32_t)WF_MAX_NDIM); i++)
		if (wf_mul_u64(product, (uint64_t)r->h->sizes[t->shape + i], &product))
			return wrong(r, t, -EUCLEAN, "the product of its dimensions passes 2^64");
	if (e->huge || t->ndim > WF_MAX_NDIM)
		return wrong(r, t, -EOPNOTSUPP,
			     e->huge ? "a dimension of 2^63 or more, which torch does not have"
				     : "more than 64 dimensions, which torch does not have");
	if (wf_mul_u64(product, e->bits, &bits))
		return wrong(r, t, -EUCLEAN, "its size in bits passes 2^64");
	if (bits % 8 != 0)
		return wrong(r, t, -EUCLEAN, "it ends inside a byte");
	if (t->end < t->begin || t->end - t->begin != bits / 8)
		return wf_fail_at(r->err, -EUCLEAN, r->h->text.data + t->name, WF_ERROR_NO_OFFSET,
				  "its shape asks for %" PRIu64 " bytes, and its data_offsets are %" PRIu64
				  " and %" PRIu64,
				  bits / 8, t->begin, t->end);
	if (t->dtype == WF_DTYPE_INVALID)
		return wf_fail_at(r->err, -EOPNOTSUPP, r->h->text.data + t->name, WF_ERROR_NO_OFFSET,
				  "its dtype %s is one that torch does not have", e->dtype);
	if (t->dtype == WF_FLOAT4_E2M1FN_X2) {
		/* two values in an element of torch's */
		int64_t *last = &r->h->sizes[t->shape + t->ndim - 1];
		if (*last % 2 != 0)
			return wrong(
				r, t, -EOPNOTSUPP,
				"its last dimension is odd, and an element of torch's float4_e2m1fn_x2 has two values");
		*last /= 2;
	}
	return 0;
}

static int read_tensor(struct header_reading *r, size_t name, uint32_t name_len)
{
	struct wf_safetensors_header *h = r->h;
	struct entry e = {.t = {.name = name, .name_len = name_len}};
	enum wf_json_kind k = wf_json_next(&r->json);
	int error = k == WF_JSON_OBJECT  ? read_members(r, &e)
		    : k == WF_JSON_ARRAY ? read_row(r, &e)
					 : bad(r, "a tensor has to be an object");
	if (k == WF_JSON_BROKEN)
		error = broken(r);
	if (error < 0)
		return error;
	if (e.seen != (DTYPE | SHAPE | OFFSETS))
		return wrong(r, &e.t, -EUCLEAN,
			     !(e.seen & DTYPE)   ? "it has no dtype"
			     : !(e.seen & SHAPE) ? "it has no shape"
						 : "it has no data_offsets");
	error = check_size(r, &e);
	if (error == 0)
		error = wf_array_reserve(&h->tensors, &h->tensor_capacity, (uint64_t)h->tensor_count + 1,
					 sizeof *h->tensors, MAX_TENSORS);
	if (error == -E2BIG)
		return wf_fail(r->err, error, "more than %u tensors", MAX_TENSORS);
	if (error == 0)
		h->tensors[h->tensor_count++] = e.t;
	return error;
}

/* ---- metadata ---- */

static int read_metadata(struct header_reading *r)
{
	struct wf_safetensors_header *h = r->h;
	enum wf_json_kind k = wf_json_next(&r->json);
	if (r->has_metadata)
		return bad(r, "__metadata__ stands there twice");
	r->has_metadata = true;
	if (k == WF_JSON_NULL)
		return 0;
	h->has_metadata = k == WF_JSON_OBJECT;
	if (k != WF_JSON_OBJECT)
		return k == WF_JSON_BROKEN ? broken(r) : bad(r, "__metadata__ has to be an object");
	while ((k = wf_json_next(&r->json)) == WF_JSON_KEY) {
		struct wf_safetensors_pair pair;
		int error = keep_text(r, &pair.key, &pair.key_len);
		if (error == 0)
			error = expect(r, WF_JSON_STRING, "a value of __metadata__ has to be a string");
		if (error == 0)
			error = keep_text(r, &pair.value, &pair.value_len);
		if (error == 0 && wf_array_reserve(&h->pairs, &h->pair_capacity, (uint64_t)h->pair_count + 1,
						   sizeof *h->pairs, MAX_TENSORS) < 0)
			error = wf_fail(r->err, -ENOMEM, "out of memory");
		if (error < 0)
			return error;
		h->pairs[h->pair_count++] = pair;
	}
	return k == WF_JSON_OBJECT_END ? 0 : broken(r);
}

/* ---- the whole ---- */

static int read_json(struct header_reading *r)
{
	enum wf_json_kind k;
	int error = expect(r, WF_JSON_OBJECT, "a header has to be an object");
	while (error == 0 && (k = wf_json_next(&r->json)) == WF_JSON_KEY) {
		size_t name;
		uint32_t len;
		if (r->json.text_len == strlen("__metadata__") && !strcmp(r->json.text, "__metadata__")) {
			error = read_metadata(r);
			continue;
		}
		error = keep_text(r, &name, &len);
		if (error == 0)
			error = read_tensor(r, name, len);
	}
	if (error == 0 && k != WF_JSON_OBJECT_END)
		error = broken(r);
	if (error == 0 && wf_json_next(&r->json) != WF_JSON_END)
		error = broken(r);
	return error;
}

static int check_twice(struct header_reading *r, bool pairs)
{
	const struct wf_safetensors_header *h = r->h;
	uint32_t n = pairs ? h->pair_count : h->tensor_count;
	struct wf_map seen = {0};
	cleanup_free size_t *places = calloc((size_t)n + 1, sizeof *places);
	cleanup_free uint32_t *lens = calloc((size_t)n + 1, sizeof *lens);
	int error = places && lens ? wf_map_reserve(&seen, n) : -ENOMEM;
	for (uint32_t i = 0; i < n && error == 0; i++) {
		places[i] = pairs ? h->pairs[i].key : h->tensors[i].name;
		lens[i] = pairs ? h->pairs[i].key_len : h->tensors[i].name_len;
		uint32_t hash = wf_map_hash(&seen, h->text.data + places[i], lens[i]), other;
		struct wf_map_probe p = wf_map_probe(&seen, hash);
		while (error == 0 && wf_map_next(&p, &other))
			if (lens[other] == lens[i] &&
			    !memcmp(h->text.data + places[other], h->text.data + places[i], lens[i]))
				error = wf_fail_at(r->err, -EUCLEAN, h->text.data + places[i], WF_ERROR_NO_OFFSET,
						   pairs ? "__metadata__ has this key twice"
							 : "two tensors have this name");
		wf_map_add(&seen, hash, i);
	}
	wf_map_free(&seen);
	return error == -ENOMEM ? wf_fail(r->err, error, "out of memory") : error;
}

struct data_place {
	uint64_t begin, end;
	uint32_t tensor;
};

static int by_place(const void *a, const void *b)
{
	const struct data_place *x = a, *y = b;
	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

/* The data is covered from its first byte to the file's last, once. */
static int check_places(struct header_reading *r, uint64_t data_bytes)
{
	const struct wf_safetensors_header *h = r->h;
	uint64_t at = 0;
	cleanup_free struct data_place *places = calloc((size_t)h->tensor_count + 1, sizeof *places);
	if (!places)
		return wf_fail(r->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < h->tensor_count; i++)
		places[i] = (struct data_place){h->tensors[i].begin, h->tensors[i].end, i};
	qsort(places, h->tensor_count, sizeof *places, by_place);
	for (uint32_t i = 0; i < h->tensor_count; at = places[i++].end)
		if (places[i].begin != at)
			return wrong(r, &h->tensors[places[i].tensor], -EUCLEAN,
				     places[i].begin < at ? "its data lies over that of another tensor"
							  : "bytes before its data belong to no tensor");
	if (at > data_bytes) {
		wf_fail(r->err, -EUCLEAN,
			"truncated: the header tells of %" PRIu64 " bytes of data, and there are %" PRIu64, at,
			data_bytes);
		if (r->err)
			r->err->cut = true;
		return -EUCLEAN;
	}
	if (at < data_bytes)
		return wf_fail(r->err, -EUCLEAN, "the last %" PRIu64 " bytes of the file belong to no tensor",
			       data_bytes - at);
	return 0;
}

int wf_safetensors_header_read(struct wf_source *file, struct wf_safetensors_header *h, struct wf_error *err)
{
	unsigned char head[8];
	uint64_t size = wf_source_size(file);
	struct wf_cursor cursor;
	struct header_reading r = {.h = h, .err = err};
	*h = (struct wf_safetensors_header){0};
	int error = size < sizeof head ? -EUCLEAN : wf_source_read(file, 0, head, sizeof head);
	if (error < 0)
		return wf_fail(err, error, "cannot read the file: %s", strerror(-error));
	h->json_bytes = wf_le64(head);
	if (h->json_bytes > WF_SAFETENSORS_JSON_MAX)
		return wf_fail(err, -E2BIG,
			       "a safetensors header of %" PRIu64 " bytes; %u are the most that there can be",
			       h->json_bytes, WF_SAFETENSORS_JSON_MAX);
	if (h->json_bytes > size - sizeof head)
		return wf_fail(err, -EUCLEAN,
			       "truncated: a safetensors header of %" PRIu64 " bytes in a file of %" PRIu64,
			       h->json_bytes, size);
	error = wf_cursor_init_source(&cursor, file, sizeof head, h->json_bytes);
	if (error < 0)
		return wf_fail(err, error, "cannot read the header: %s", strerror(-error));
	wf_json_init(&r.json, &cursor, 0);
	error = read_json(&r);
	wf_json_free(&r.json);
	wf_cursor_free(&cursor);
	if (error == 0)
		error = check_twice(&r, false);
	if (error == 0)
		error = check_twice(&r, true);
	if (error == 0)
		error = check_places(&r, size - sizeof head - h->json_bytes);
	return error;
}

void wf_safetensors_header_free(struct wf_safetensors_header *h)
{
	wf_buffer_free(&h->text);
	free(h->sizes);
	free(h->tensors);
	free(h->pairs);
	*h = (struct wf_safetensors_header){0};
}
