/* SPDX-License-Identifier: MIT */
/* Makes the header of a safetensors file. */
#include "codec/container/safetensors_head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- order ---- */

static int compare_names(const struct wf_safetensors_item *a, const struct wf_safetensors_item *b)
{
	int c = memcmp(a->name, b->name, WF_MIN(a->name_len, b->name_len));
	return c ? c : a->name_len < b->name_len ? -1 : a->name_len > b->name_len;
}

/* Merges two neighbouring sorted runs of pointers. */
static void merge(const struct wf_safetensors_item **from, const struct wf_safetensors_item **to, size_t start,
		  size_t middle, size_t end)
{
	size_t a = start, b = middle;
	for (size_t i = start; i < end; i++)
		to[i] = a < middle && (b >= end || compare_names(from[a], from[b]) <= 0) ? from[a++] : from[b++];
}

/* A merge sort: stable, without a worst case that names can be made for, and of pointers. */
int wf_safetensors_sort(struct wf_safetensors_item *items, size_t n)
{
	cleanup_free const struct wf_safetensors_item **from = calloc(n + 1, sizeof *from);
	cleanup_free const struct wf_safetensors_item **to = calloc(n + 1, sizeof *to);
	cleanup_free struct wf_safetensors_item *sorted = calloc(n + 1, sizeof *sorted);
	if (!from || !to || !sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		from[i] = &items[i];
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t at = 0; at < n; at += 2 * width)
			merge(from, to, at, WF_MIN(at + width, n), WF_MIN(at + 2 * width, n));
		const struct wf_safetensors_item **swap = from;
		from = to;
		to = swap;
	}
	for (size_t i = 0; i < n; i++)
		sorted[i] = *from[i];
	if (n > 0)
		memcpy(items, sorted, n * sizeof *items);
	return 0;
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

int wf_safetensors_place(struct wf_safetensors_item *items, size_t n, uint64_t *ret_bytes)
{
	size_t start[DTYPES + 2] = {0}, next = 0;
	uint64_t at = 0;
	cleanup_free struct wf_safetensors_item *placed = calloc(n + 1, sizeof *placed);
	if (!placed)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		start[rank_of(items[i].dtype)]++;
	for (size_t rank = DTYPES + 1; rank-- > 0;) { /* the last dtype of the list comes first */
		size_t count = start[rank];
		start[rank] = next;
		next += count;
	}
	for (size_t i = 0; i < n; i++)
		placed[start[rank_of(items[i].dtype)]++] = items[i];
	for (size_t i = 0; i < n; i++) {
		items[i] = placed[i];
		items[i].begin = at;
		if (!move_on(&at, items[i].size_bytes))
			return -EFBIG;
	}
	*ret_bytes = at;
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

int wf_safetensors_head(const struct wf_safetensors_item *items, size_t n, const struct wf_safetensors_note *notes,
			size_t note_count, struct wf_buffer *out)
{
	size_t start = out->len;
	wf_buffer_append(out, "\0\0\0\0\0\0\0", 8);
	wf_buffer_putc(out, '{');
	wf_buffer_puts(out, notes ? "\"__metadata__\":{" : "");
	for (size_t i = 0; i < note_count; i++) {
		wf_buffer_puts(out, i ? "," : "");
		put_string(out, notes[i].key, notes[i].key_len);
		wf_buffer_putc(out, ':');
		put_string(out, notes[i].value, notes[i].value_len);
	}
	wf_buffer_puts(out, notes ? "}" : "");
	for (size_t i = 0; i < n; i++) {
		if (i > 0 || notes)
			wf_buffer_putc(out, ',');
		put_item(out, &items[i]);
		if (out->len - start > WF_SAFETENSORS_JSON_MAX)
			return -EFBIG;
	}
	wf_buffer_putc(out, '}');
	while ((out->len - start) % 8 != 0)
		wf_buffer_putc(out, ' ');
	if (wf_buffer_status(out) < 0)
		return -ENOMEM;
	uint64_t json = out->len - start - 8;
	memcpy(out->data + start, &json, sizeof json); /* little endian hosts only, as meson.build says */
	return json > WF_SAFETENSORS_JSON_MAX ? -EFBIG : 0;
}
