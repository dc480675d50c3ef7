/* SPDX-License-Identifier: MIT */
/* What the files of the outline share among themselves: its values, and the machine that makes them. */
#pragma once

#include "codec/bytes/buffer.h"
#include "codec/bytes/cursor.h"
#include "codec/pickle/outline.h"

#define OUTLINE_KIND_BITS 4
#define OUTLINE_INDEX_MAX (UINT32_MAX >> OUTLINE_KIND_BITS)
#define OUTLINE_TEXT_MAX 85u   /* a name of that many bytes is never cut, whatever is escaped in it */
#define OUTLINE_SHORT_LIST 64u /* elements: two levels of them are far below what is shown as one text */
#define OUTLINE_NOT_KNOWN 1    /* what functions return, and wf_outline_read does */

enum outline_kind { UNKNOWN, MARK, PLAIN, INT, STR, DICT, LIST, TUPLE, GLOBAL, STORAGE, TENSOR };
enum outline_tuple { TUPLE_OTHER, TUPLE_EMPTY, TUPLE_PLAIN, TUPLE_NESTED, TUPLE_STORAGE, TUPLE_TENSOR };
enum outline_global { GLOBAL_OTHER, GLOBAL_ORDERED_DICT, GLOBAL_REBUILD_TENSOR, GLOBAL_REBUILD_PARAMETER };

struct outline_text {
	uint32_t at, len;
};

/* A dict's keys and values in turn, or a list's elements. */
struct outlined {
	wf_outlined *values;
	uint32_t count, capacity;
	uint32_t places; /* that hold it; at the second one the tree shows a link */
	bool ordered;    /* a call of OrderedDict, which takes a state */
	bool odd;        /* its state may make it something else */
};

struct wf_outline {
	wf_outlined root;
	struct wf_buffer bytes; /* of all texts */
	struct outline_text *texts;
	uint32_t text_count, text_capacity;
	struct outlined *nodes;
	uint32_t node_count, node_capacity;
};

struct outliner {
	struct wf_outline *o;
	struct wf_cursor in;
	wf_outlined *stack, *memo;
	uint32_t depth, stack_capacity, memo_capacity, memo_count;
};

static inline wf_outlined outline_make(enum outline_kind kind, uint32_t index)
{
	return (uint32_t)kind | index << OUTLINE_KIND_BITS;
}

static inline enum outline_kind outline_kind(wf_outlined v)
{
	return (enum outline_kind)(v & ((1u << OUTLINE_KIND_BITS) - 1));
}

static inline uint32_t outline_index(wf_outlined v)
{
	return v >> OUTLINE_KIND_BITS;
}

static inline bool outline_is(wf_outlined v, enum outline_kind kind, uint32_t index)
{
	return v == outline_make(kind, index);
}

static inline struct outlined *outline_node(const struct wf_outline *o, wf_outlined v)
{
	return outline_kind(v) == DICT || outline_kind(v) == LIST ? &o->nodes[outline_index(v)] : NULL;
}

static inline bool outline_is_scalar(wf_outlined v)
{
	return outline_kind(v) == PLAIN || outline_kind(v) == INT || outline_kind(v) == STR;
}

/* A plain value, or a tuple of such. */
static inline bool outline_is_flat(wf_outlined v)
{
	return outline_is_scalar(v) || outline_is(v, TUPLE, TUPLE_PLAIN) || outline_is(v, TUPLE, TUPLE_EMPTY);
}

/* Everything below is in outline_values.c, and returns 0, OUTLINE_NOT_KNOWN, or -ENOMEM. */

int wf_outline_push(struct outliner *m, wf_outlined v);
/* n operands, none of which is a mark. */
bool wf_outline_has(const struct outliner *m, uint32_t n);

int wf_outline_container(struct outliner *m, enum outline_kind kind);
/* Puts all from the position start on into the container below it. */
int wf_outline_fill(struct outliner *m, enum outline_kind kind, uint32_t start);
/* Counts a place that holds the value. */
void wf_outline_place(struct outliner *m, wf_outlined v);
/* A tuple in place of all from the position start on. */
int wf_outline_tuple(struct outliner *m, uint32_t start);
int wf_outline_string(struct outliner *m, uint64_t len);
/* A plain value of that many bytes. */
int wf_outline_skipped(struct outliner *m, uint64_t len);
int wf_outline_int(struct outliner *m, uint32_t n);
int wf_outline_global(struct outliner *m);
int wf_outline_stack_global(struct outliner *m);
int wf_outline_call(struct outliner *m);
int wf_outline_build(struct outliner *m);
int wf_outline_storage(struct outliner *m);
int wf_outline_instance(struct outliner *m);
