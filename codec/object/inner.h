/* SPDX-License-Identifier: MIT */
/* Layout of objects in the arena, shared by the files that implement object/object.h and by nothing else; object/arena.c draws it.
 */
#pragma once

#include "codec/object/object.h"

#define WF_LONG_FORM 0xffffu /* in aux: the count is in n and the data follow it */
#define WF_FLAG_EXTERNAL 1u  /* a string whose bytes lie in the graph's source */
#define WF_FLAG_NESTED 1u    /* a GLOBAL whose dotted name is a path of attributes */
#define WF_FLAG_MEMOISED 1u  /* a PERSID that the pickle put into its memo */
#define WF_FLAG_BY_MARK 1u   /* a CALL that INST or OBJ made */
#define WF_KIND_EFFECTS 0x40u
#define WF_KIND_FILLER 0x41u

#define WF_REF_NONE ((wf_ref)1)
#define WF_REF_FALSE ((wf_ref)2)
#define WF_REF_TRUE ((wf_ref)3)
#define WF_REF_EMPTY_TUPLE ((wf_ref)4)

#define WF_SHARED_MAX 32u /* constants; those that come later are made each time */

#define SMALL_INT_BIT 0x80000000u /* of a ref */

struct wf_object {
	uint8_t kind;
	uint8_t flags;
	uint16_t aux;
	uint32_t n;
	unsigned char payload[];
};

struct wf_vector_object {
	struct wf_object head; /* n: elements in use */
	void *vector;          /* wf_ref or struct wf_item */
	uint32_t cap;
};

struct wf_effects_object {
	struct wf_object head; /* n: rounds */
	struct wf_effects first;
	struct wf_effects *more; /* rounds from the second on; room for the next power of two */
};

struct wf_chunk {
	unsigned char *base;
	bool owner; /* false where an object of several chunks goes on */
};

struct wf_graph {
	struct wf_chunk *chunks;
	uint32_t nchunks;
	uint32_t chunk_cap;
	uint32_t next;     /* first free unit */
	uint32_t end;      /* end of the open chunk */
	uint32_t nvectors; /* containers and effects that own memory: a walk that has seen all of them may end */
	int failed;
	uint64_t bytes;
	uint64_t seed[2];
	struct wf_source *source;
	const char *lossy;
	uint8_t protocol;
	uint64_t trace;
	bool shares; /* wf_graph_share_constants, and what was made since: strings and globals */
	uint32_t nshared;
	wf_ref shared[WF_SHARED_MAX];
	_Atomic uint32_t expansions; /* the one field that changes while readers hold the graph */
};

static inline struct wf_object *wf_object_at(const struct wf_graph *g, uint32_t unit)
{
	return (struct wf_object *)(g->chunks[unit >> 17].base + (size_t)(unit & 0x1ffff) * 8);
}

/* NULL for WF_NIL, immediates and anything that is no object of kind. */
static inline struct wf_object *wf_object_of(const struct wf_graph *g, wf_ref r, enum wf_kind kind)
{
	if (r == WF_NIL || r >= g->next)
		return NULL;
	struct wf_object *o = wf_object_at(g, r);
	return o->kind == kind ? o : NULL;
}

static inline uint32_t wf_object_count(const struct wf_object *o)
{
	return o->aux == WF_LONG_FORM ? o->n : o->aux;
}

static inline void *wf_object_data(const struct wf_object *o)
{
	return (unsigned char *)o + (o->aux == WF_LONG_FORM ? 8 : 4);
}

static inline wf_ref *wf_object_refs(const struct wf_object *o)
{
	return (wf_ref *)o->payload;
}

static inline bool wf_kind_is_string(unsigned kind)
{
	return kind == WF_STR || kind == WF_PYSTR || kind == WF_BYTES || kind == WF_BYTEARRAY;
}

static inline size_t wf_units_of(size_t bytes)
{
	return (bytes + 7) / 8;
}

/* The first failure stays. Returns WF_NIL. */
wf_ref wf_graph_fail(struct wf_graph *g, int code);
/* Begins a chunk in which there is room; false and the graph failed when there is none. */
bool wf_graph_make_room(struct wf_graph *g, size_t units);

/* A new object with its header filled in and the rest not. Inline because a pickle of 100,000 tensors makes two million. */
static inline wf_ref wf_object_new(struct wf_graph *g, uint8_t kind, size_t units)
{
	if (g->failed || (units > g->end - g->next && !wf_graph_make_room(g, units)))
		return WF_NIL;
	wf_ref r = g->next;
	g->next += (uint32_t)units;
	*wf_object_at(g, r) = (struct wf_object){.kind = kind};
	return r;
}

/* Counts memory against the limit; false and the graph failed when it is met. */
bool wf_graph_charge(struct wf_graph *g, uint64_t bytes);
/* The rounds of a call, with one empty round. */
wf_ref wf_graph_new_effects(struct wf_graph *g);
