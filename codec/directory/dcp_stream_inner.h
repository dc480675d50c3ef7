/* SPDX-License-Identifier: MIT */
/* What the files of the stream reader share among themselves: its values, and the machine that makes them. Nobody else includes it. */
#pragma once

#include "codec/directory/dcp_fill.h"
#include "codec/directory/dcp_object.h"
#include "codec/directory/dcp_stream.h"

#define STREAM_NONE UINT32_MAX
#define STREAM_NOT_KNOWN 1 /* what functions return, and wf_dcp_metadata_stream does */
#define STREAM_BATCH 4096u /* indices and infos that wait for the end of their batch; picklers make batches of 1000 */
#define STREAM_MAX_GLOBALS 4096u
#define STREAM_RECENT \
	4096u /* tensors of a model have few shapes, and their chunks the same offsets and sizes again and again */
#define STREAM_MAX_FIELDS 16u

/* A value of the pickle: a kind, and above it a number. Values behind STREAM_CAN_CHANGE change in place, where they were made, and the memo
 * does not have them. */
typedef uint64_t stream_value;

enum stream_kind {
	S_MARK,   /* and no value: it is in no memo. Where the floor below was */
	S_SCALAR, /* that nothing is asked of: a number, bytes */
	S_NONE,
	S_INT,         /* not negative */
	S_TEXT,        /* in texts */
	S_GLOBAL,      /* in globals */
	S_NO_TUPLE,    /* () */
	S_NUMBERS,     /* a tuple of ints: in the tables' numbers, their count before them */
	S_ONE_NUMBERS, /* a tuple that holds just that */
	S_SIZE,        /* torch.Size of it */
	S_TUPLE,       /* another one: in tuples, its count before it */
	S_STRIDED,     /* the layout */
	S_OBJECT,      /* a call that nothing is asked of */
	S_METADATA,
	S_TENSOR,     /* in tensors */
	S_BYTES,      /* its chunk */
	S_CHUNK,      /* in the tables' chunks */
	S_INDEX,      /* the how manieth: in indices */
	S_INFO,       /* in infos */
	S_PROPERTIES, /* in properties */
	STREAM_CAN_CHANGE,
	S_NO_LIST = STREAM_CAN_CHANGE,
	S_CHUNKS, /* a list of chunks that follow each other: a run */
	S_LIST,   /* another one; what it holds is forgotten */
	S_NO_DICT,
	S_FIELDS,  /* attributes: in fields, if those are still the ones */
	S_ENTRIES, /* state_dict_metadata, in the tables */
	S_PLACES,  /* texts to tuples: a run of places */
	S_SLICES,  /* storage_data, in the tables */
	S_DICT,
};

#define STREAM_KIND_BITS 5
_Static_assert(S_DICT < 1 << STREAM_KIND_BITS, "kinds have so many bits");

static inline stream_value stream_make(enum stream_kind kind, uint64_t n)
{
	return n << STREAM_KIND_BITS | kind;
}

static inline enum stream_kind stream_kind(stream_value v)
{
	return (enum stream_kind)(v & ((1u << STREAM_KIND_BITS) - 1));
}

static inline uint64_t stream_number(stream_value v)
{
	return v >> STREAM_KIND_BITS;
}

#define STREAM_INT_MAX (UINT64_MAX >> STREAM_KIND_BITS)

/* The number of a run: the first, and how many. */
#define STREAM_RUN_BITS 28
#define STREAM_RUN_MAX ((1u << STREAM_RUN_BITS) - 1)

static inline stream_value stream_run(enum stream_kind kind, uint64_t first, uint64_t count)
{
	return stream_make(kind, count << STREAM_RUN_BITS | first);
}

static inline uint64_t stream_first(stream_value v)
{
	return stream_number(v) & STREAM_RUN_MAX;
}

static inline uint64_t stream_count(stream_value v)
{
	return stream_number(v) >> STREAM_RUN_BITS;
}

enum stream_global { G_OTHER, G_SIZE, G_LAYOUT, G_PROPERTIES, G_CLASS };

/* Each text once. The first ones are the names of attributes, by number, and `index`. */
#define STREAM_INDEX WF_DCP_ATTRIBUTE_COUNT
#define STREAM_ATTRIBUTES (WF_DCP_ATTRIBUTE_COUNT + 1)

struct stream_text {
	uint64_t at;
	uint32_t len;
	uint32_t entry; /* in entries, that has it for its name; STREAM_NONE */
	uint32_t file;  /* the number of the file of that name; STREAM_NONE: not asked yet */
	bool placed;    /* planner_data has it */
};

struct stream_global_name {
	uint32_t module, name; /* texts */
	uint32_t is;           /* enum stream_global; G_CLASS + enum wf_dcp_class */
};

struct stream_tensor {
	stream_value properties;
	uint32_t size; /* in the tables' numbers: the count, and then they */
	uint32_t first, count;
	bool built, used;
};

struct stream_properties {
	stream_value dtype;
	bool strided, built;
};

/* An entry of this file. */
struct stream_entry {
	uint32_t entry; /* in the tables */
	uint32_t text;
	uint32_t first, count; /* chunks */
	uint32_t ndim;
	bool tensor;
	bool distinct; /* no two chunks have the same offsets */
};

struct stream_index {
	uint64_t number;  /* which one it is; UINT64_MAX: none */
	uint64_t hint;    /* which chunk of the entry it should be */
	uint32_t fqn;     /* a text */
	uint32_t offsets; /* as size above; STREAM_NONE */
};

struct stream_info {
	uint64_t number;
	struct dcp_stored slice; /* without the file */
	uint32_t path;           /* a text */
};

/* Values by their index, which is that of the pickle. Of those that no pickler takes from its memo again, or whose number is large, it has
 * none: a chunk leaves four values under twenty-five indices. Those of objects that follow each other are mostly told by their tables: see
 * STREAM_PAIRS. */
struct stream_block {
	uint64_t has;   /* a bit for each of 64 indices */
	uint64_t first; /* in values, or pairs */
};

/* What chunks leave are their offsets and their sizes, which are in the tables; and indices, the next text each and mostly the same offsets.
 * A block of nothing else has no values: its `first` says a kind, whether it begins with the second of two, and the first chunk,
 * or the first text and above it the offsets. */
#define STREAM_PAIRS_OF_CHUNKS (UINT64_C(1) << 62)
#define STREAM_PAIRS_OF_INDICES (UINT64_C(2) << 62)
#define STREAM_PAIRS (UINT64_C(3) << 62)
#define STREAM_SECOND (UINT64_C(1) << 61)
#define STREAM_PAIR_BITS 28

#define STREAM_CACHED 512u

struct stream_memo {
	const struct wf_dcp_metadata *tables; /* NULL: their chunks were moved */
	bool rewritten;                       /* a value that was there is another one now */
	struct stream_block *blocks;
	uint32_t *values;
	uint32_t count, block_room; /* indices; blocks */
	uint32_t value_count, value_room;
	uint64_t next_pair; /* that goes on with those of the last block; 0: none does */
	struct {
		uint32_t index;
		stream_value value; /* 0: none */
	} cached[STREAM_CACHED];
	struct {
		uint32_t index, info;
	} infos[STREAM_BATCH]; /* the last ones: those before are out of reach */
	uint64_t info_count;
};

#define STREAM_REMEMBERED                                                                               \
	(1u << S_SCALAR | 1u << S_NONE | 1u << S_TEXT | 1u << S_GLOBAL | 1u << S_SIZE | 1u << S_TUPLE | \
	 1u << S_STRIDED | 1u << S_OBJECT | 1u << S_PROPERTIES | 1u << S_BYTES | 1u << S_TENSOR)

/* ---- shapes, of which dcp_stream_shapes.c tells ---- */

#define STREAM_SHAPE_HOLES 6u
#define STREAM_SHAPE_NUMBERS 8u
#define STREAM_LITERAL_BYTES 16u /* begins an object, names an attribute, and names a class */
#define STREAM_WRITTEN_SIZES 1024u

/* What an object leaves in the memo. */
enum stream_leaves { LEAVES_VALUES, LEAVES_PAIR, LEAVES_NOTHING };

enum stream_hole_kind { HOLE_SIZE, HOLE_INT, HOLE_TEXT, HOLE_GET, HOLE_NONE, HOLE_END };

/* What differs from object to object, and the literal in front of it. */
struct stream_hole {
	uint64_t literal[STREAM_LITERAL_BYTES / 8], mask[STREAM_LITERAL_BYTES / 8];
	uint8_t kind, field;
	uint8_t len;      /* of the literal */
	bool empty;       /* the size of the last object: of no numbers */
	uint8_t size_len; /* ... and in how many bytes it is written */
};

struct stream_shape {
	struct stream_hole holes[STREAM_SHAPE_HOLES + 1];
	uint32_t count, fields;
	uint32_t indices;    /* that an object takes of the memo, where no size in it is empty */
	uint64_t remembered; /* ... a bit for each that has a value */
	uint8_t leaves;      /* enum stream_leaves */
	uint8_t pair[2];     /* holes */
	bool known;
};

/* A call of torch.Size as it is written, of a tuple of numbers, and what it makes. */
struct stream_written_size {
	uint64_t begin, rest, rest_mask; /* its bytes: eight of them, and those behind */
	stream_value value;
	size_t len; /* 0: none */
};

struct dcp_stream {
	struct dcp_fill fill;
	int code; /* why it ended */

	struct wf_source *file;
	unsigned char *window;
	uint64_t window_at, size; /* in the file */
	size_t window_len;

	stream_value *stack, *floor; /* no opcode reaches below the floor */
	struct stream_memo memo;
	uint64_t held, limit; /* bytes of all arrays that grow */

	struct stream_shape shapes[WF_DCP_CLASS_COUNT];
	struct stream_written_size sizes[STREAM_WRITTEN_SIZES]; /* the last one of each hash */

	struct wf_buffer bytes; /* of texts */
	struct stream_text *texts;
	uint32_t text_count, text_room;
	struct wf_map text_index;
	uint32_t strided, torch; /* texts */

	struct stream_global_name *globals;
	uint32_t global_count, global_room;
	stream_value *tuples;
	uint32_t tuple_count, tuple_room;
	uint32_t no_numbers;            /* as size above, of none */
	uint32_t recent[STREAM_RECENT]; /* the last numbers of each hash */

	struct stream_tensor *tensors;
	uint32_t tensor_count, tensor_room;
	struct stream_properties *properties;
	uint32_t property_count, property_room;
	struct stream_index *indices; /* the last STREAM_BATCH */
	struct stream_info *infos;
	uint64_t index_count, info_count;

	uint64_t fields_number; /* of the mapping whose fields these are */
	uint32_t fields_set;    /* a bit for each */
	stream_value fields[STREAM_ATTRIBUTES];

	struct stream_entry *entries;
	uint32_t entry_count, entry_room;
	stream_value *places; /* key, value */
	uint32_t place_count, place_room;
	uint32_t first_chunk; /* of this file */
	uint32_t owned, dead; /* chunks that have an entry; that are not told of again */
	uint32_t expected;    /* entry that the next index is likely to mean */
	uint32_t metadata_count;
	bool has_entries, has_slices, has_slots, built;
};

/* Chunks without an entry. */
#define STREAM_UNBUILT (UINT32_MAX - 1)
#define STREAM_UNOWNED UINT32_MAX
#define STREAM_DEAD (UINT32_MAX - 2)

/* Everything below returns 0, STREAM_NOT_KNOWN, or a negative errno with the error filled in; those that return the stack's end
 * return NULL in place of these, which are in `code` then. */

static inline stream_value *stream_end(struct dcp_stream *s, int code)
{
	s->code = code;
	return NULL;
}

/* Where the next opcode is in the window, and from where on none is read before the window is filled again. */
struct stream_place {
	const unsigned char *p, *safe;
};

/* ---- dcp_stream_memo.c ---- */

/* As wf_array_reserve, within what the file may take. */
int stream_reserve(struct dcp_stream *s, void *array, uint32_t *room, uint64_t need, size_t element_bytes);

/* Room for n values more, so that as many calls of stream_put cannot fail. */
int stream_reserve_memo(struct dcp_stream *s, uint32_t n);
void stream_free_memo(struct stream_memo *m);
/* 0: there is none, or it was not remembered. */
stream_value stream_get_slowly(struct stream_memo *m, uint32_t index);
/* Under another index than the next one. */
bool stream_put_at(struct stream_memo *m, uint32_t index, stream_value v);

static inline stream_value stream_get(struct stream_memo *m, uint32_t index)
{
	return m->cached[index % STREAM_CACHED].index == index && m->cached[index % STREAM_CACHED].value
		       ? m->cached[index % STREAM_CACHED].value
		       : stream_get_slowly(m, index);
}

/* The values of the last block, which has pairs, one by one. */
void stream_spell_out(struct stream_memo *m, struct stream_block *b);

static inline void stream_put_info(struct stream_memo *m, uint32_t index, uint64_t info)
{
	m->infos[m->info_count % STREAM_BATCH].index = index;
	m->infos[m->info_count++ % STREAM_BATCH].info = (uint32_t)info;
}

static inline void stream_put(struct stream_memo *m, stream_value v)
{
	uint32_t i = m->count++;
	struct stream_block *b = &m->blocks[i / 64];
	if (i % 64 == 0)
		*b = (struct stream_block){.first = m->value_count};
	if (STREAM_REMEMBERED >> stream_kind(v) & 1 && v <= UINT32_MAX) {
		if (b->first & STREAM_PAIRS)
			stream_spell_out(m, b);
		m->next_pair = 0;
		b->has |= UINT64_C(1) << i % 64;
		m->values[m->value_count++] = (uint32_t)v;
	} else if (stream_kind(v) == S_INFO) {
		stream_put_info(m, i, stream_number(v));
	}
}

/* As many values that are not remembered. n: up to 64. */
static inline void stream_pass(struct stream_memo *m, uint32_t n)
{
	uint32_t block = (m->count + 63) / 64;
	m->count += n;
	if (block * 64 < m->count)
		m->blocks[block] = (struct stream_block){.first = m->value_count};
}

/* n indices, up to 64, of which two have values. remembered: their bits. pair: what both are, were the block to begin with them. */
static inline void stream_put_pair(struct stream_memo *m, uint32_t n, uint64_t remembered, uint64_t pair,
				   const stream_value values[2])
{
	uint32_t shift = m->count % 64;
	struct stream_block *b = &m->blocks[m->count / 64];
	uint64_t here = remembered << shift, behind = shift + n > 64 ? remembered >> (64 - shift) : 0;
	uint32_t count = behind ? !(behind & (behind - 1)) : 2; /* of both in this block */
	bool goes_on = true;
	if (shift == 0 || b->has == 0) {
		*b = (struct stream_block){.first = pair};
	} else if (pair != m->next_pair) {
		goes_on = false;
		if (b->first & STREAM_PAIRS)
			stream_spell_out(m, b);
		for (uint32_t i = 0; i < count; i++)
			m->values[m->value_count++] = (uint32_t)values[i];
	}
	b->has |= here;
	m->next_pair = goes_on || behind ? pair + 1 : 0;
	m->count += n;
	if (shift + n > 64)
		b[1] = (struct stream_block){.has = behind,
					     .first = behind ? pair | (count ? STREAM_SECOND : 0) : m->value_count};
}

/* ---- dcp_stream_values.c ---- */

int stream_begin_texts(struct dcp_stream *s);
int stream_text(struct dcp_stream *s, const void *bytes, size_t len, uint32_t *ret);
int stream_global(struct dcp_stream *s, uint32_t module, uint32_t name, stream_value *ret);
/* A tuple of n ints, as S_NUMBERS or another kind. */
int stream_numbers(struct dcp_stream *s, const uint64_t *v, size_t n, enum stream_kind kind, stream_value *ret);
/* A tuple of the n values from there on. */
int stream_tuple(struct dcp_stream *s, const stream_value *from, size_t n, stream_value *ret);
int stream_reduce(struct dcp_stream *s, stream_value func, stream_value args, stream_value *ret);
int stream_reserve_chunk(struct dcp_stream *s);

/* state: STREAM_UNBUILT, STREAM_UNOWNED. */
static inline int stream_new_chunk(struct dcp_stream *s, enum stream_kind kind, struct wf_dcp_chunk chunk,
				   stream_value *ret)
{
	struct wf_dcp_metadata *m = s->fill.m;
	int r = m->chunk_count == m->chunk_room ? stream_reserve_chunk(s) : 0;
	if (r != 0)
		return r;
	m->chunks[m->chunk_count] = chunk;
	*ret = stream_make(kind, m->chunk_count++);
	return 0;
}

/* ---- dcp_stream_objects.c ---- */

int stream_new(struct dcp_stream *s, stream_value class, stream_value args, stream_value *ret);
int stream_build(struct dcp_stream *s, stream_value object, stream_value state);
/* Both at once, with the attributes in fields. */
int stream_make_object(struct dcp_stream *s, stream_value class, stream_value *ret);
int stream_append(struct dcp_stream *s, stream_value *list, const stream_value *from, size_t n);

/* ---- dcp_stream_shapes.c ---- */

/* Behind a class, which is at sp: an object of it with its state in place of it, and those behind, as long as they are written as others are.
 * at->p is behind what was read. Returns the stack's end; NULL: s->code says why it all ends. */
stream_value *stream_shaped(struct dcp_stream *s, stream_value *sp, struct stream_place *at);

/* ---- dcp_stream_tables.c ---- */

/* n values: keys and values in turn. */
int stream_set(struct dcp_stream *s, stream_value *dict, const stream_value *from, size_t n);
/* state_dict_metadata, storage_data and planner_data of the metadata. */
int stream_finish(struct dcp_stream *s, stream_value entries, stream_value slices, stream_value places);

/* ---- dcp_stream_opcodes.c ---- */

#define STREAM_WINDOW_BYTES (256u << 10)
#define STREAM_MARGIN_BYTES 1024u
#define STREAM_STACK_ROOM (2 * STREAM_WINDOW_BYTES)

/* Fills the window from p on, and behind the end of the file with zeroes, which are no opcodes. False: the file ends before p, or there is no
 * room for what its bytes may bring; s->code says which. */
bool stream_fill_window(struct dcp_stream *s, struct stream_place *at, const stream_value *sp);
stream_value *stream_push_text(struct dcp_stream *s, stream_value *sp, const unsigned char *bytes, size_t len);
/* SETITEM(S) and APPEND(S). */
stream_value *stream_fill(struct dcp_stream *s, stream_value *sp, uint8_t op);
/* NEWOBJ, REDUCE and BUILD. */
stream_value *stream_call(struct dcp_stream *s, stream_value *sp, uint8_t op);
/* Any opcode but those that get at the memo, small ints and STOP. */
stream_value *stream_run_other(struct dcp_stream *s, stream_value *sp, uint8_t op, struct stream_place *at);
