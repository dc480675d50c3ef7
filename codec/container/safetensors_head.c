/* SPDX-License-Identifier: MIT */
/* Makes the header of a safetensors file. */
#include "codec/container/safetensors_head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/sort.h"
#include "codec/bytes/util.h"

/* The format's list of dtypes, in its order, with those that torch has. F4 counts values, of which torch's elements hold two. */
static const struct {
	enum wf_dtype dtype;
	const char *name;
} dtypes[] = {
	{WF_BOOL8, "BOOL"},
	{WF_FLOAT4_E2M1FN_X2, "F4"},
	{WF_UINT8, "U8"},
	{WF_INT8, "I8"},
	{WF_FLOAT8_E5M2, "F8_E5M2"},
	{WF_FLOAT8_E4M3FN, "F8_E4M3"},
	{WF_FLOAT8_E8M0FNU, "F8_E8M0"},
	{WF_FLOAT8_E4M3FNUZ, "F8_E4M3FNUZ"},
	{WF_FLOAT8_E5M2FNUZ, "F8_E5M2FNUZ"},
	{WF_INT16, "I16"},
	{WF_UINT16, "U16"},
	{WF_FLOAT16, "F16"},
	{WF_BFLOAT16, "BF16"},
	{WF_INT32, "I32"},
	{WF_UINT32, "U32"},
	{WF_FLOAT32, "F32"},
	{WF_COMPLEX64, "C64"},
	{WF_FLOAT64, "F64"},
	{WF_INT64, "I64"},
	{WF_UINT64, "U64"},
};
#define DTYPES WF_ARRAY_SIZE(dtypes)

static size_t rank_of(enum wf_dtype dtype)
{
	size_t i = 0;
	while (i < DTYPES && dtypes[i].dtype != dtype)
		i++;
	return i;
}

/* "F32"; NULL: the format has no such dtype. */
static const char *name_of(enum wf_dtype dtype)
{
	size_t i = rank_of(dtype);
	return i < DTYPES ? dtypes[i].name : NULL;
}

enum wf_dtype wf_safetensors_dtype(const char *name, uint32_t *ret_bits)
{
	*ret_bits = !strcmp(name, "F6_E2M3") || !strcmp(name, "F6_E3M2") ? 6 : 0;
	for (size_t i = 0; i < DTYPES; i++)
		if (!strcmp(dtypes[i].name, name)) {
			bool packed = dtypes[i].dtype == WF_FLOAT4_E2M1FN_X2;
			*ret_bits = packed ? 4 : 8u * wf_dtype_info(dtypes[i].dtype)->size_bytes;
			return dtypes[i].dtype;
		}
	return WF_DTYPE_INVALID;
}

const char *wf_safetensors_refuses(enum wf_dtype dtype, const int64_t *shape, uint32_t ndim)
{
	uint64_t product = 1;
	if (!name_of(dtype))
		return "safetensors has no such dtype";
	if (dtype == WF_FLOAT4_E2M1FN_X2 && ndim == 0)
		return "two values in one byte have no 0-d shape";
	/* a reader multiplies the dimensions in their order, and stops before it comes to a zero */
	for (uint32_t i = 0; i < ndim; i++)
		if (wf_mul_u64(product, (uint64_t)shape[i], &product) ||
		    (i + 1 == ndim && dtype == WF_FLOAT4_E2M1FN_X2 && wf_mul_u64(product, 2, &product)))
			return "the product of its dimensions passes 2^64";
	return NULL;
}

/* A lone surrogate, as Python's str can hold one. */
static bool has_surrogate(const char *s, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++)
		if ((unsigned char)s[i] == 0xed && (unsigned char)s[i + 1] >= 0xa0)
			return true;
	return false;
}

const char *wf_safetensors_refuses_name(const char *name, size_t len)
{
	if (len == strlen("__metadata__") && !memcmp(name, "__metadata__", len))
		return "safetensors keeps that name for itself";
	return has_surrogate(name, len) ? "the name holds half of a character" : NULL;
}

#define GIVE_BYTES (64u << 10) /* of a head that is not kept */

/* ---- order ---- */

static int compare_names(const void *items, uint32_t a, uint32_t b)
{
	const struct wf_safetensors_item *x = (const struct wf_safetensors_item *)items + a,
					 *y = (const struct wf_safetensors_item *)items + b;
	int c = memcmp(x->name, y->name, WF_MIN(x->name_len, y->name_len));
	return c ? c : x->name_len < y->name_len ? -1 : x->name_len > y->name_len;
}

/* The item that order[i] numbers goes to place i: along each circle of places, so that there is no second array of items. order is used up. */
static void put_in_order(struct wf_safetensors_item *items, uint32_t *order, size_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct wf_safetensors_item first = items[i];
		uint32_t at = i;
		while (order[at] != i) {
			uint32_t next = order[at];
			items[at] = items[next];
			order[at] = at;
			at = next;
		}
		items[at] = first;
		order[at] = at;
	}
}

int wf_safetensors_sort(struct wf_safetensors_item *items, size_t n)
{
	cleanup_free uint32_t *order = n < UINT32_MAX ? reallocarray(NULL, n + 1, sizeof *order) : NULL;
	if (!order)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	int r = wf_sort_stable(order, n, compare_names, items);
	if (r == 0)
		put_in_order(items, order, n);
	return r;
}

/* false: behind them a header and its padding would pass what a file can be. */
static bool move_on(uint64_t *at, uint64_t bytes)
{
	return !wf_add_u64(*at, bytes, at) && *at <= INT64_MAX - 2 * (uint64_t)WF_SAFETENSORS_JSON_MAX;
}

int wf_safetensors_align(struct wf_safetensors_item *items, size_t n, uint64_t *ret_bytes)
{
	uint64_t at = 0;
	for (uint8_t width = 8; width > 0; width /= 2)
		for (size_t i = 0; i < n; i++) {
			if (wf_dtype_info(items[i].dtype)->size_bytes != width)
				continue;
			items[i].begin = at;
			if (!move_on(&at, items[i].size_bytes))
				return -EFBIG;
		}
	*ret_bytes = at;
	return 0;
}

int wf_safetensors_order(const struct wf_safetensors_items *items, uint32_t *ret_order, uint64_t *ret_bytes)
{
	struct wf_safetensors_item item;
	size_t start[DTYPES + 2] = {0}, next = 0;
	uint64_t at = 0;
	for (size_t i = 0; i < items->count; i++) {
		items->get(items->ctx, i, &item);
		start[rank_of(item.dtype)]++;
		if (!move_on(&at, item.size_bytes))
			return -EFBIG;
	}
	for (size_t rank = DTYPES + 1; rank-- > 0;) { /* the last dtype of the list comes first */
		size_t count = start[rank];
		start[rank] = next;
		next += count;
	}
	for (uint32_t i = 0; i < items->count; i++) {
		items->get(items->ctx, i, &item);
		ret_order[start[rank_of(item.dtype)]++] = i;
	}
	*ret_bytes = at;
	return 0;
}

static void get_from_array(const void *ctx, size_t i, struct wf_safetensors_item *ret)
{
	*ret = ((const struct wf_safetensors_item *)ctx)[i];
}

int wf_safetensors_place(struct wf_safetensors_item *items, size_t n, uint64_t *ret_bytes)
{
	uint64_t at = 0;
	cleanup_free uint32_t *order = n < UINT32_MAX ? reallocarray(NULL, n + 1, sizeof *order) : NULL;
	int r = order ? wf_safetensors_order(&(struct wf_safetensors_items){n, get_from_array, items}, order, ret_bytes)
		      : -ENOMEM;
	if (r < 0)
		return r;
	put_in_order(items, order, n);
	for (size_t i = 0; i < n; i++) {
		items[i].begin = at;
		at += items[i].size_bytes;
	}
	return 0;
}

/* ---- text ---- */

/* As serde_json writes a string: only what JSON asks for is escaped. */
static void put_string(struct wf_buffer *out, const char *s, size_t len)
{
	static const char letters[] = "\bb\tt\nn\ff\rr\"\"\\\\";
	wf_buffer_putc(out, '"');
	for (size_t i = 0; i < len; i++) {
		size_t plain = i;
		while (plain < len && (unsigned char)s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\')
			plain++;
		wf_buffer_append(out, s + i, plain - i);
		if ((i = plain) == len)
			break;
		const char *letter = letters;
		while (*letter && *letter != s[i])
			letter += 2;
		if (*letter) {
			wf_buffer_append(out, (const char[]){'\\', letter[1]}, 2);
		} else {
			wf_buffer_printf(out, "\\u%04x", (unsigned int)(unsigned char)s[i]);
		}
	}
	wf_buffer_putc(out, '"');
}

static void put_item(struct wf_buffer *out, const struct wf_safetensors_item *item)
{
	put_string(out, item->name, item->name_len);
	wf_buffer_puts(out, ":{\"dtype\":\"");
	wf_buffer_puts(out, name_of(item->dtype));
	wf_buffer_puts(out, "\",\"shape\":[");
	for (uint32_t i = 0; i < item->ndim; i++) {
		bool packed = item->dtype == WF_FLOAT4_E2M1FN_X2 && i + 1 == item->ndim;
		if (i > 0)
			wf_buffer_putc(out, ',');
		wf_buffer_put_int(out, item->shape[i] * (packed ? 2 : 1));
	}
	wf_buffer_puts(out, "],\"data_offsets\":[");
	wf_buffer_put_int(out, (int64_t)item->begin);
	wf_buffer_putc(out, ',');
	wf_buffer_put_int(out, (int64_t)(item->begin + item->size_bytes));
	wf_buffer_puts(out, "]}");
}

/* A head under way: kept whole in text, or given on when there is much. */
struct head_text {
	bool placed; /* the items know where they begin; else each begins where the one before ends */
	struct wf_buffer *text;
	size_t start;                                        /* of the head in text */
	uint64_t given;                                      /* bytes given on before it */
	int (*put)(void *ctx, const void *data, size_t len); /* NULL: all is kept */
	void *ctx;
};

static uint64_t length_of(const struct head_text *h)
{
	return h->given + (h->text->len - h->start);
}

static int give(struct head_text *h, size_t least)
{
	size_t len = h->text->len - h->start;
	int r = wf_buffer_status(h->text);
	if (r < 0 || !h->put || len < least)
		return r;
	r = h->put(h->ctx, h->text->data + h->start, len);
	h->given += len;
	h->text->len = h->start;
	return r;
}

static int put_items(struct head_text *h, const struct wf_safetensors_items *items, const char *comma)
{
	struct wf_safetensors_item item;
	uint64_t at = 0;
	int r = 0;
	for (size_t i = 0; i < items->count && r == 0; i++, comma = ",") {
		items->get(items->ctx, i, &item);
		if (!h->placed)
			item.begin = at;
		at = item.begin + item.size_bytes;
		wf_buffer_puts(h->text, comma);
		put_item(h->text, &item);
		r = length_of(h) > WF_SAFETENSORS_JSON_MAX ? -EFBIG : give(h, GIVE_BYTES);
	}
	return r;
}

static int put_head(struct head_text *h, const struct wf_safetensors_items *items,
		    const struct wf_safetensors_note *notes, size_t note_count, uint64_t json)
{
	struct wf_buffer *out = h->text;
	int r = 0;
	wf_buffer_append(out, &json, 8); /* little endian hosts only, as meson.build says */
	wf_buffer_putc(out, '{');
	wf_buffer_puts(out, notes ? "\"__metadata__\":{" : "");
	for (size_t i = 0; i < note_count && r == 0; i++) {
		wf_buffer_puts(out, i ? "," : "");
		put_string(out, notes[i].key, notes[i].key_len);
		wf_buffer_putc(out, ':');
		put_string(out, notes[i].value, notes[i].value_len);
		r = give(h, GIVE_BYTES);
	}
	wf_buffer_puts(out, notes ? "}" : "");
	if (r == 0)
		r = put_items(h, items, notes ? "," : "");
	wf_buffer_putc(out, '}');
	while (length_of(h) % 8 != 0)
		wf_buffer_putc(out, ' ');
	if (r == 0)
		r = wf_buffer_status(out);
	return r == 0 && length_of(h) - 8 > WF_SAFETENSORS_JSON_MAX ? -EFBIG : r;
}

static int keep_head(struct head_text *h, const struct wf_safetensors_items *items,
		     const struct wf_safetensors_note *notes, size_t note_count)
{
	int r = put_head(h, items, notes, note_count, 0);
	uint64_t json = length_of(h) - 8;
	if (r == 0)
		memcpy(h->text->data + h->start, &json, sizeof json);
	return r;
}

int wf_safetensors_head(const struct wf_safetensors_item *items, size_t n, const struct wf_safetensors_note *notes,
			size_t note_count, struct wf_buffer *out)
{
	struct head_text h = {.text = out, .start = out->len, .placed = true};
	return keep_head(&h, &(struct wf_safetensors_items){n, get_from_array, items}, notes, note_count);
}

int wf_safetensors_head_of(const struct wf_safetensors_items *items, const struct wf_safetensors_note *notes,
			   size_t note_count, struct wf_buffer *out)
{
	struct head_text h = {.text = out, .start = out->len};
	return keep_head(&h, items, notes, note_count);
}

static int put_nowhere(void *ctx, const void *data, size_t len)
{
	return 0;
}

int wf_safetensors_head_bytes(const struct wf_safetensors_items *items, const struct wf_safetensors_note *notes,
			      size_t note_count, uint64_t *ret)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	struct head_text h = {.text = &text, .put = put_nowhere};
	int r = put_head(&h, items, notes, note_count, 0);
	*ret = length_of(&h);
	wf_buffer_free(&text);
	return r;
}

int wf_safetensors_head_put(const struct wf_safetensors_items *items, const struct wf_safetensors_note *notes,
			    size_t note_count, uint64_t head_bytes, int (*put)(void *ctx, const void *data, size_t len),
			    void *ctx)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	struct head_text h = {.text = &text, .put = put, .ctx = ctx};
	int r = put_head(&h, items, notes, note_count, head_bytes - 8);
	if (r == 0)
		r = give(&h, 0);
	wf_buffer_free(&text);
	return r;
}
