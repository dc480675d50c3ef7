/* SPDX-License-Identifier: MIT */
/* The head of a safetensors file, byte for byte as the format's own writer makes it.
 *
 *   0      u64     N: bytes of JSON, at most 100,000,000
 *   8      JSON    {"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...}, then spaces up to
 *                  a multiple of 8
 *   8 + N  data    without gaps, in the order of the JSON: dtypes by the format's list from its end, then names by their bytes
 *
 * Knows names, dtypes and shapes; nothing of where bytes come from. Calling sequence: fill items, wf_safetensors_sort (which also
 * tells names that are there twice), drop what is to be dropped, wf_safetensors_place, wf_safetensors_head. Threads: pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/object/dtype.h"

#define WF_SAFETENSORS_JSON_MAX 100000000u

struct wf_safetensors_item {
	const char *name;     /* UTF-8, borrowed; not terminated */
	const int64_t *shape; /* as torch counts, borrowed */
	uint32_t name_len;
	uint32_t ndim;
	enum wf_dtype dtype;
	uint32_t id;         /* the caller's */
	uint64_t size_bytes; /* of the data */
	uint64_t begin;      /* of the data, behind the head; set by wf_safetensors_place */
};

/* Items that are made when they are asked for, all but `begin`: a list of 100,000 of them is 5 MB. */
struct wf_safetensors_items {
	size_t count;
	void (*get)(const void *ctx, size_t i, struct wf_safetensors_item *ret);
	const void *ctx;
};

/* A line of __metadata__, both UTF-8. */
struct wf_safetensors_note {
	const char *key, *value;
	uint32_t key_len, value_len;
};

/* The dtype that the format calls so. *ret_bits: of an element as the format counts them. WF_DTYPE_INVALID: torch has no such one;
 * *ret_bits is 0 then where the format has none either. */
enum wf_dtype wf_safetensors_dtype(const char *name, uint32_t *ret_bits);
/* NULL: an item of this dtype and shape can be said; else a sentence that tells why not. */
const char *wf_safetensors_refuses(enum wf_dtype dtype, const int64_t *shape, uint32_t ndim);
/* The same of a name. */
const char *wf_safetensors_refuses_name(const char *name, size_t len);

/* By name. The same names stay in their order. */
int wf_safetensors_sort(struct wf_safetensors_item *items, size_t n); /* 0, -ENOMEM */
/* From the order of names to that of the file, with `begin` of each. Returns the bytes of all data in *ret_bytes. */
int wf_safetensors_place(struct wf_safetensors_item *items, size_t n, uint64_t *ret_bytes); /* 0, -ENOMEM, -EFBIG */
/* The same, as the numbers of the items in the order of the file. */
int wf_safetensors_order(const struct wf_safetensors_items *items, uint32_t *ret_order, uint64_t *ret_bytes);
/* Sets `begin` of each and leaves the order: those of the largest elements come first, so that all of them are aligned. */
int wf_safetensors_align(struct wf_safetensors_item *items, size_t n, uint64_t *ret_bytes); /* 0, -EFBIG */
/* Appends the head of placed items. Notes are written in the order given; NULL: there is no __metadata__, which {} is not. 0; -ENOMEM; -EFBIG: more JSON than a reader takes. */
int wf_safetensors_head(const struct wf_safetensors_item *items, size_t n, const struct wf_safetensors_note *notes,
			size_t note_count, struct wf_buffer *out);
/* The same of items that stand one behind the other, in the order given. */
int wf_safetensors_head_of(const struct wf_safetensors_items *items, const struct wf_safetensors_note *notes,
			   size_t note_count, struct wf_buffer *out);
/* The same in two passes, without the whole of it in memory: its bytes, and then the head piece by piece. head_bytes: what the first
 * returned for the same items. Returns what put() does when that fails. */
int wf_safetensors_head_bytes(const struct wf_safetensors_items *items, const struct wf_safetensors_note *notes,
			      size_t note_count, uint64_t *ret);
int wf_safetensors_head_put(const struct wf_safetensors_items *items, const struct wf_safetensors_note *notes,
			    size_t note_count, uint64_t head_bytes, int (*put)(void *ctx, const void *data, size_t len),
			    void *ctx);
