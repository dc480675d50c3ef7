/* SPDX-License-Identifier: MIT */
/* Memory of the object graph.
 *
 *   ref, 32 bits      1vvv...v           small int, 31-bit two's complement
 *                     0uuu...u           unit u: byte 8 * u of the arena, a row of 1 MiB chunks that never move; of the first one
 *                                        only the beginning is there
 *   units 1 to 4      None, False, True, ()
 *
 *   object            u8 kind | u8 flags | u16 aux | u32 n | payload ...                      multiple of 8 bytes
 *   INT, FLOAT        payload 8
 *   strings, LONG     aux < 0xffff: length is aux, bytes and a NUL follow at offset 4, over n
 *                     aux = 0xffff: length is n, bytes and a NUL follow at offset 8
 *                     external:     u64 offset, u64 length at offset 8
 *   TUPLE, FROZENSET  like strings, with refs for bytes and no NUL
 *   LIST, SET, DICT   n elements in a vector of its own: pointer, u32 capacity
 *   GLOBAL            n module, u32 name
 *   CALL              n effects or 0, u32 function, u32 arguments, with NEWOBJ_EX u32 keyword arguments
 *   EFFECTS           n rounds: the first in place, the others in a vector
 *   PERSID            n id, u32 number of its storage + 1
 *   FILLER            n units skipped at the end of a chunk
 *   packed tensor     eight units, without a header: object/packed.c
 *   FORM              aux dimensions, u32 function, u32 class of the hooks, sizes, strides
 *
 * Lengths at offset 4 save 8 bytes for every second string and tuple.
 */
#include "codec/object/object.h"

#include <errno.h>

#include "codec/object/inner.h"
#include "codec/bytes/map.h"
#include "codec/bytes/util.h"

#define CHUNK_UNITS WF_CHUNK_UNITS
#define CHUNK_BYTES (CHUNK_UNITS * 8)
#define FIRST_BYTES (WF_FIRST_UNITS * 8)
#define FIRST_END (WF_FIRST_UNITS - 1) /* a FILLER has room there, whose units reach to the next chunk */
#define FIRST_REF 8u

static size_t object_units(const struct wf_object *o)
{
	size_t head = o->aux == WF_LONG_FORM ? 8 : 4;

	switch (o->kind) {
	case WF_INT:
	case WF_FLOAT:
	case WF_GLOBAL:
	case WF_PERSID:
		return 2;
	case WF_LONG:
	case WF_STR:
	case WF_PYSTR:
	case WF_BYTES:
	case WF_BYTEARRAY:
		return o->flags & WF_FLAG_EXTERNAL ? 3 : wf_units_of(head + wf_object_count(o) + 1);
	case WF_TUPLE:
	case WF_FROZENSET:
		return wf_units_of(head + wf_object_count(o) * sizeof(wf_ref));
	case WF_LIST:
	case WF_DICT:
	case WF_SET:
		return sizeof(struct wf_vector_object) / 8;
	case WF_CALL:
		return o->aux == WF_CALL_NEWOBJ_EX ? 3 : 2;
	case WF_KIND_EFFECTS:
		return sizeof(struct wf_effects_object) / 8;
	case WF_KIND_FILLER:
		return o->n;
	case WF_KIND_FORM:
		return wf_units_of(sizeof(struct wf_form_object) + 2 * o->aux * sizeof(wf_ref));
	default:
		return 1;
	}
}

/* The units from here to the next object that has a header, or to the next packed tensor. */
static uint32_t units_at(const struct wf_graph *g, uint32_t u)
{
	enum wf_packed_part part;
	return wf_packed_at(g, u, &part) ? WF_PACKED_UNITS - part : (uint32_t)object_units(wf_object_at(g, u));
}

/* ---- memory ---- */

wf_ref wf_graph_fail(struct wf_graph *g, int code)
{
	if (!g->failed)
		g->failed = code;
	return WF_NIL;
}

bool wf_graph_charge(struct wf_graph *g, uint64_t bytes)
{
	if (g->failed)
		return false;
	if (bytes > WF_GRAPH_MAX_BYTES || g->bytes > WF_GRAPH_MAX_BYTES - bytes) {
		wf_graph_fail(g, -E2BIG);
		return false;
	}
	g->bytes += bytes;
	return true;
}

static bool add_chunks(struct wf_graph *g, size_t count)
{
	if (g->nchunks + count > g->chunk_cap) {
		size_t cap = WF_MAX(g->nchunks + count, 2 * (size_t)g->chunk_cap);
		struct wf_chunk *chunks = realloc(g->chunks, cap * sizeof *chunks);
		if (!chunks) {
			wf_graph_fail(g, -ENOMEM);
			return false;
		}
		g->chunks = chunks;
		g->chunk_cap = (uint32_t)cap;
	}
	if (!wf_graph_charge(g, (uint64_t)count * CHUNK_BYTES))
		return false;
	unsigned char *base = malloc(count * CHUNK_BYTES);
	if (!base) {
		g->bytes -= (uint64_t)count * CHUNK_BYTES;
		wf_graph_fail(g, -ENOMEM);
		return false;
	}
	for (size_t i = 0; i < count; i++)
		g->chunks[g->nchunks++] = (struct wf_chunk){.base = base + i * CHUNK_BYTES, .owner = i == 0};
	return true;
}

/* An object larger than a chunk gets several chunks that follow each other in memory, so that its bytes are contiguous. */
bool wf_graph_make_room(struct wf_graph *g, size_t units)
{
	uint32_t start = g->nchunks * CHUNK_UNITS;
	if (units > WF_GRAPH_MAX_BYTES / 8) {
		wf_graph_fail(g, -E2BIG);
		return false;
	}
	if (!add_chunks(g, (units + CHUNK_UNITS - 1) / CHUNK_UNITS))
		return false;
	if (g->next < start)
		*wf_object_at(g, g->next) = (struct wf_object){.kind = WF_KIND_FILLER, .n = start - g->next};
	g->next = start;
	g->end = g->nchunks * CHUNK_UNITS;
	return true;
}

static bool add_first_chunk(struct wf_graph *g)
{
	unsigned char *base = malloc(FIRST_BYTES);
	g->chunks = malloc(sizeof *g->chunks);
	if (!base || !g->chunks) {
		free(base);
		return false;
	}
	g->chunks[g->nchunks++] = (struct wf_chunk){.base = base, .owner = true};
	g->chunk_cap = 1;
	g->bytes = FIRST_BYTES;
	return true;
}

int wf_graph_new(struct wf_graph **ret)
{
	struct wf_graph *g = calloc(1, sizeof *g);

	if (!g)
		return -ENOMEM;
	g->protocol = 2;
	if (!add_first_chunk(g)) {
		free(g->chunks);
		free(g);
		return -ENOMEM;
	}
	/* Keys come from the file: without a secret, a file could be made whose keys all collide. */
	g->seed[0] = wf_random_seed(g);
	g->seed[1] = wf_random_seed(g->chunks) | 1;
	g->next = FIRST_REF;
	g->end = FIRST_END;
	*wf_object_at(g, 0) = (struct wf_object){.kind = WF_KIND_FILLER, .n = FIRST_REF};
	*wf_object_at(g, WF_REF_NONE) = (struct wf_object){.kind = WF_NONE};
	*wf_object_at(g, WF_REF_FALSE) = (struct wf_object){.kind = WF_BOOL};
	*wf_object_at(g, WF_REF_TRUE) = (struct wf_object){.kind = WF_BOOL, .aux = 1};
	*wf_object_at(g, WF_REF_EMPTY_TUPLE) = (struct wf_object){.kind = WF_TUPLE};
	*ret = g;
	return 0;
}

static void drop_last_chunk(struct wf_graph *g)
{
	struct wf_chunk *c = &g->chunks[--g->nchunks];
	if (c->owner)
		free(c->base);
	free(c->packed);
}

void wf_graph_free(struct wf_graph *g)
{
	if (!g)
		return;
	uint32_t left = g->nvectors;
	enum wf_packed_part part;
	for (uint32_t u = FIRST_REF; u < g->next && left; u += units_at(g, u)) {
		struct wf_object *o = wf_object_at(g, u);
		void *owned = NULL;
		if (wf_packed_at(g, u, &part))
			continue;
		if (o->kind == WF_LIST || o->kind == WF_DICT || o->kind == WF_SET)
			owned = ((struct wf_vector_object *)o)->vector;
		else if (o->kind == WF_KIND_EFFECTS)
			owned = ((struct wf_effects_object *)o)->more;
		left -= owned != NULL;
		free(owned);
	}
	while (g->nchunks > 0)
		drop_last_chunk(g);
	free(g->chunks);
	free(g->forms);
	wf_map_free(&g->stand_ins);
	wf_source_unref(g->source);
	free(g);
}

/* Whether one of the objects from unit u on owns memory, is given again to who asks for the same, or stands in for another one. */
static bool must_stay(const struct wf_graph *g, uint32_t u)
{
	if (g->stand_ins.count > 0 || (g->nshared > 0 && g->shared[g->nshared - 1] >= u))
		return true;
	for (; u < g->next; u += units_at(g, u)) {
		enum wf_packed_part part;
		unsigned kind = wf_packed_at(g, u, &part) ? WF_KIND_FILLER : wf_object_at(g, u)->kind;
		if (kind == WF_LIST || kind == WF_DICT || kind == WF_SET || kind == WF_KIND_EFFECTS)
			return true;
	}
	return false;
}

/* Packed tensors from the unit `limit` on, which are going; those in chunks that go, go with these. And the forms, of which some may go. */
static void forget_packed(struct wf_graph *g, uint32_t limit)
{
	unsigned char mask;
	uint32_t chunk = limit / CHUNK_UNITS, end = WF_MIN(g->next, chunk * CHUNK_UNITS + wf_chunk_units(chunk));
	for (uint32_t u = limit; g->chunks[chunk].packed && u < end; u++)
		*wf_packed_bit(g, u, &mask) &= (unsigned char)~mask;
	free(g->forms);
	g->forms = NULL;
}

uint32_t wf_graph_rewind(struct wf_graph *g, uint32_t limit)
{
	uint32_t chunks = (limit + CHUNK_UNITS - 1) / CHUNK_UNITS;
	if (limit < FIRST_REF || limit >= g->next || must_stay(g, limit))
		return g->next;
	forget_packed(g, limit);
	while (g->nchunks > chunks) {
		/* none goes on in a chunk that stays: what began before the limit ends before it */
		g->bytes -= CHUNK_BYTES + (g->chunks[g->nchunks - 1].packed ? wf_packed_bytes(g->nchunks - 1) : 0);
		drop_last_chunk(g);
	}
	g->next = limit;
	g->end = chunks == 1 ? FIRST_END : chunks * CHUNK_UNITS;
	return limit;
}

int wf_graph_failed(const struct wf_graph *g)
{
	return g->failed;
}

uint64_t wf_graph_bytes(const struct wf_graph *g)
{
	return g->bytes;
}

void wf_graph_note_expansion(const struct wf_graph *g)
{
	((struct wf_graph *)g)->expansions++;
}

uint32_t wf_graph_expansions(const struct wf_graph *g)
{
	return g->expansions;
}

void wf_graph_set_source(struct wf_graph *g, struct wf_source *s)
{
	struct wf_source *old = g->source;

	g->source = s ? wf_source_ref(s) : NULL;
	wf_source_unref(old);
}

struct wf_source *wf_graph_source(const struct wf_graph *g)
{
	return g->source;
}

uint8_t wf_graph_protocol(const struct wf_graph *g)
{
	return g->protocol;
}

void wf_graph_set_protocol(struct wf_graph *g, uint8_t protocol)
{
	g->protocol = protocol;
}

uint64_t wf_graph_trace(const struct wf_graph *g)
{
	return g->trace;
}

void wf_graph_set_trace(struct wf_graph *g, uint64_t trace)
{
	g->trace = trace;
}

const char *wf_graph_lossy(const struct wf_graph *g)
{
	return g->lossy;
}

void wf_graph_set_lossy(struct wf_graph *g, const char *why)
{
	g->lossy = why;
}

/* ---- walking ---- */

wf_ref wf_graph_since(const struct wf_graph *g, uint32_t limit)
{
	enum wf_packed_part part;
	for (uint32_t u = WF_MAX(limit, FIRST_REF); u < g->next; u += units_at(g, u)) {
		if (wf_packed_at(g, u, &part))
			return u;
		const struct wf_object *o = wf_object_at(g, u);
		if (o->kind < WF_KIND_COUNT && !(o->flags & WF_FLAG_STANDS_IN))
			return u;
	}
	return WF_NIL;
}

wf_ref wf_graph_next(const struct wf_graph *g, wf_ref previous)
{
	enum wf_packed_part part;
	if (previous == WF_NIL)
		return wf_graph_since(g, FIRST_REF);
	if (previous < FIRST_REF || previous >= g->next)
		return WF_NIL;
	if (wf_packed_at(g, previous, &part) && part < WF_PACKED_CALL)
		return previous + 1;
	return wf_graph_since(g, previous + units_at(g, previous));
}

uint32_t wf_graph_limit(const struct wf_graph *g)
{
	return g->next;
}

bool wf_is_constant(const struct wf_graph *g, wf_ref r)
{
	return r < FIRST_REF || r & SMALL_INT_BIT;
}
