/* SPDX-License-Identifier: MIT */
/* The bytes of a pickle under way: buffered output, the memo, and everything that is written in one go. Part of the
 * pickle writer and of nothing else. */
#pragma once

#include "codec/pickle/pickle.h"
#include "codec/pickle/inner.h"

#define PICKLE_OUT_BYTES (64u << 10)

/* What the older protocols have no opcode for is a call of one of these. */
enum pickle_helper {
	HELPER_ENCODE, /* _codecs.encode, for bytes */
	HELPER_LATIN1, /* its second argument */
	HELPER_BYTES,  /* for b'' */
	HELPER_BYTEARRAY,
	HELPER_SET,
	HELPER_FROZENSET,
	HELPER_GETATTR,
	HELPER_COUNT
};

struct pickle_out {
	const struct wf_graph *g;
	const struct wf_pickle_writer *hooks;
	struct wf_error *err;
	unsigned char *buf;
	size_t len;
	uint8_t protocol;
	int failed;     /* the first failure; nothing is written after it */
	uint32_t *memo; /* by ref below the limit: memo index + 1 */
	uint32_t limit; /* of the graph */
	uint32_t next_memo;
	uint32_t helpers[HELPER_COUNT]; /* memo index + 1 */
};

void wf_emit(struct pickle_out *o, const void *data, size_t len);
void wf_emit_op(struct pickle_out *o, uint8_t op);
void wf_emit_u8(struct pickle_out *o, uint8_t op, uint8_t v);
void wf_emit_u32(struct pickle_out *o, uint8_t op, uint32_t v);
void wf_emit_u64(struct pickle_out *o, uint8_t op, uint64_t v);
void wf_emit_fail(struct pickle_out *o, int code); /* the first one stays */
int wf_emit_flush(struct pickle_out *o);

bool wf_emit_is_memoised(const struct pickle_out *o, wf_ref r);
void wf_emit_put(struct pickle_out *o, wf_ref r); /* WF_NIL: an object that is in no graph takes a memo index too */
void wf_emit_get(struct pickle_out *o, wf_ref r);

void wf_emit_put_index(struct pickle_out *o); /* the next one */
void wf_emit_get_index(struct pickle_out *o, uint32_t index);

/* EMPTY_TUPLE, EMPTY_LIST or EMPTY_DICT, or what protocol 0 has for it. */
void wf_emit_empty(struct pickle_out *o, uint8_t op);
/* A tuple of n > 0 elements: before them, whether that wrote a MARK; and behind them. */
bool wf_emit_tuple_mark(struct pickle_out *o, uint32_t n);
void wf_emit_tuple(struct pickle_out *o, uint32_t n);

void wf_emit_bool(struct pickle_out *o, bool v);
void wf_emit_int(struct pickle_out *o, int64_t v);
void wf_emit_long(struct pickle_out *o, wf_ref r);
void wf_emit_float(struct pickle_out *o, double v);
/* Strings and globals, memoised. */
void wf_emit_string(struct pickle_out *o, wf_ref r);
void wf_emit_global(struct pickle_out *o, wf_ref r);
/* The one opcode of bytes, as `op` stands for them: raw, or as text in latin-1; not memoised. A longer form where that is too short. */
void wf_emit_bytes_as(struct pickle_out *o, uint8_t op, wf_ref r);
void wf_emit_helper(struct pickle_out *o, enum pickle_helper h);
