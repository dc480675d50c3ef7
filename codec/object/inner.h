/* SPDX-License-Identifier: MIT */
/* Layout of objects in the arena, shared by the files that implement object/object.h and by nothing else; object/arena.c draws it.
 */
#pragma once

#include "codec/bytes/map.h"
#include "codec/bytes/util.h"
#include "codec/object/object.h"

#define WF_LONG_FORM 0xffffu /* in aux: the count is in n and the data follow it */
#define WF_FLAG_EXTERNAL 1u  /* a string whose bytes lie in the graph's source */
#define WF_FLAG_NESTED 1u    /* a GLOBAL whose dotted name is a path of attributes */
#define WF_FLAG_MEMOISED 1u  /* a PERSID that the pickle put into its memo */
#define WF_FLAG_BY_MARK 1u   /* a CALL that INST or OBJ made */
/* For a part of a packed tensor that was changed: no object of its own. */
#define WF_FLAG_STANDS_IN 0x80u
#define WF_KIND_EFFECTS 0x40u
#define WF_KIND_FILLER 0x41u
#define WF_KIND_FORM 0x42u /* what packed tensors have in common */

#define WF_REF_NONE ((wf_ref)1)
#define WF_REF_FALSE ((wf_ref)2)
#define WF_REF_TRUE ((wf_ref)3)
#define WF_REF_EMPTY_TUPLE ((wf_ref)4)

#define WF_SHARED_MAX 32u /* constants; those that come later are made each time */

#define SMALL_INT_BIT 0x80000000u /* of a ref */

#define WF_CHUNK_UNITS (1u << 17)
/* Of the first chunk: most graphs are small, and one is made for each slice of a distributed checkpoint. */
#define WF_FIRST_UNITS 2048u

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
	/* owned: a bit for each unit at which a packed tensor begins, from the ninth bit on; NULL: none does */
	unsigned char *packed;
	bool owner; /* false where an object of several chunks goes on */
};

/* ---- packed tensors: object/packed.c ---- */

#define WF_PACKED_UNITS 8u
#define WF_PACKED_KEY_BYTES 12u /* of the key, with a NUL */
#define WF_PACKED_CHANGED 0x80000000u
#define WF_FORMS_AT_HAND 64u

/* Its objects, each called by the unit of that number, in the order in which a pickle makes them. */
enum wf_packed_part {
	WF_PACKED_KEY,
	WF_PACKED_ID,
	WF_PACKED_PERSID,
	WF_PACKED_SIZE,
	WF_PACKED_STRIDE,
	WF_PACKED_HOOKS,
	WF_PACKED_ARGS,
	WF_PACKED_CALL,
};

struct wf_packed {
	wf_ref args[6], id[5];
	uint32_t number; /* of the PERSID */
	uint32_t form;   /* with WF_PACKED_CHANGED: some part may have another object that stands in for it */
	char key[WF_PACKED_KEY_BYTES];
};
_Static_assert(sizeof(struct wf_packed) == 8 * WF_PACKED_UNITS, "a packed tensor has a unit for each of its objects");

struct wf_form_object {
	struct wf_object head; /* aux: dimensions */
	wf_ref func, hooks_func;
	wf_ref shape[]; /* sizes, then strides */
};

/* Room for the header of a part, which has none in memory. */
union wf_object_room {
	struct wf_object o;
	unsigned char bytes[16];
	uint64_t align;
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
	wf_ref *forms;               /* WF_FORMS_AT_HAND of them, by hash; NULL before the first packed tensor */
	struct wf_map stand_ins;     /* part of a packed tensor -> the object that stands in for it */
	_Atomic uint32_t expansions; /* the one field that changes while readers hold the graph */
};

static inline struct wf_object *wf_object_at(const struct wf_graph *g, uint32_t unit)
{
	return (struct wf_object *)(g->chunks[unit / WF_CHUNK_UNITS].base + (size_t)(unit % WF_CHUNK_UNITS) * 8);
}

/* The packed tensor that the object at this unit is a part of, or NULL. Of the eight units up to it, one may be such a beginning. */
static inline struct wf_packed *wf_packed_at(const struct wf_graph *g, uint32_t unit, enum wf_packed_part *ret_part)
{
	const unsigned char *bits = g->chunks[unit / WF_CHUNK_UNITS].packed;
	if (!bits)
		return NULL;
	uint32_t first = unit % WF_CHUNK_UNITS + 1;
	uint32_t begins = wf_le16(bits + first / 8) >> first % 8 & 0xff;
	if (!begins)
		return NULL;
	*ret_part = (enum wf_packed_part)(__builtin_clz(begins) - 24);
	return (struct wf_packed *)wf_object_at(g, unit - *ret_part);
}

/* How much of a chunk is there, and how many bytes say where packed tensors begin in it. */
static inline uint32_t wf_chunk_units(uint32_t chunk)
{
	return chunk == 0 ? WF_FIRST_UNITS : WF_CHUNK_UNITS;
}

static inline size_t wf_packed_bytes(uint32_t chunk)
{
	return wf_chunk_units(chunk) / 8 + 2;
}

/* Where a chunk that has packed tensors says whether one begins at this unit. */
static inline unsigned char *wf_packed_bit(const struct wf_graph *g, uint32_t unit, unsigned char *ret_mask)
{
	uint32_t bit = unit % WF_CHUNK_UNITS + 8;
	*ret_mask = (unsigned char)(1u << bit % 8);
	return &g->chunks[unit / WF_CHUNK_UNITS].packed[bit / 8];
}

static inline enum wf_kind wf_packed_kind(enum wf_packed_part part)
{
	static const uint8_t kinds[] = {
		[WF_PACKED_KEY] = WF_STR,    [WF_PACKED_ID] = WF_TUPLE,     [WF_PACKED_PERSID] = WF_PERSID,
		[WF_PACKED_SIZE] = WF_TUPLE, [WF_PACKED_STRIDE] = WF_TUPLE, [WF_PACKED_HOOKS] = WF_CALL,
		[WF_PACKED_ARGS] = WF_TUPLE, [WF_PACKED_CALL] = WF_CALL,
	};
	return (enum wf_kind)kinds[part];
}

/* NULL for WF_NIL, immediates, parts of packed tensors, and anything that is no object of kind. */
static inline struct wf_object *wf_object_of(const struct wf_graph *g, wf_ref r, enum wf_kind kind)
{
	enum wf_packed_part part;
	if (r == WF_NIL || r >= g->next)
		return NULL;
	struct wf_object *o = wf_object_at(g, r);
	return o->kind == kind && !wf_packed_at(g, r, &part) ? o : NULL;
}

/* The header of a call or a persistent id, which is all of it: in room, or where another object stands in for it. */
const struct wf_object *wf_packed_object(const struct wf_graph *g, wf_ref r, const struct wf_packed *p,
					 enum wf_packed_part part, union wf_object_room *room);
/* The elements of a tuple; NULL of anything else. */
const wf_ref *wf_packed_elements(const struct wf_graph *g, const struct wf_packed *p, enum wf_packed_part part,
				 uint32_t *ret_n);

/* A CALL or a PERSID, to be changed: NULL for anything else, and when the graph has failed. */
struct wf_object *wf_object_changed(struct wf_graph *g, wf_ref r, enum wf_kind kind);

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
