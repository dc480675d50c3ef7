/* SPDX-License-Identifier: MIT */
/* The object graph: what a pickle says, without anything of it being run.
 *
 * An object is named by a wf_ref, a 32-bit number that stays valid as long as the graph. Equal refs are the same
 * Python object; identity is kept because a checkpoint must be writable again with the same aliases. Small ints are
 * immediates inside the ref itself and have no identity, as in pickle. All memory belongs to the graph and goes with
 * it: no object is freed alone, nothing is recursive.
 *
 * Compactness is a goal (about 90 bytes for a tensor with its name): an object is an 8-byte header and its payload,
 * aligned to 8, in an arena of chunks that never move, so that pointers from wf_bytes and wf_tuple_items stay valid. The
 * eight objects of a tensor as torch writes most of them share 64 bytes (wf_packed_tensor); each is an object as any other.
 *
 * What REDUCE, NEWOBJ, NEWOBJ_EX, INST, OBJ and BUILD would have called is a WF_CALL: function, arguments, and what
 * was done to the result since (items set, elements appended, states built), in the order it was done.
 *
 * Threads: any number of readers, or one writer; the checkpoint's lock provides that.
 * Limits: WF_GRAPH_MAX_BYTES in all; exceeding it makes constructors return WF_NIL (and wf_graph_failed say why).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/err.h"
#include "codec/bytes/source.h"

#define WF_GRAPH_MAX_BYTES (1ull << 30)
#define WF_INLINE_MAX (64u << 10) /* longer strings and bytes stay in the pickle and are read on demand */

typedef uint32_t wf_ref;
#define WF_NIL ((wf_ref)0) /* no object (not Python's None) */

enum wf_kind {
	WF_NONE,
	WF_BOOL,
	WF_INT,  /* fits int64 */
	WF_LONG, /* does not: little-endian two's complement bytes, see wf_bytes */
	WF_FLOAT,
	WF_STR,   /* UTF-8 with lone surrogates passed through as three bytes */
	WF_PYSTR, /* a Python 2 str: bytes of unknown encoding */
	WF_BYTES,
	WF_BYTEARRAY,
	WF_TUPLE,
	WF_LIST,
	WF_DICT,
	WF_SET,
	WF_FROZENSET,
	WF_GLOBAL, /* module and name */
	WF_CALL,
	WF_PERSID, /* BINPERSID: its id object */
	WF_KIND_COUNT
};

enum wf_call_form { WF_CALL_REDUCE, WF_CALL_NEWOBJ, WF_CALL_NEWOBJ_EX };

struct wf_item {
	wf_ref key; /* WF_NIL marks a removed item whose position is kept */
	wf_ref value;
};

/* One round of changes to the result of a call: first the items, elements and members, then the state. A pickle that
 * goes on after a BUILD has a further round. */
struct wf_effects {
	wf_ref dict;  /* WF_DICT of SETITEM(S), or WF_NIL */
	wf_ref list;  /* WF_LIST of APPEND(S), or WF_NIL */
	wf_ref set;   /* WF_SET of ADDITEMS, or WF_NIL */
	wf_ref state; /* argument of BUILD, or WF_NIL */
};

struct wf_graph;

int wf_graph_new(struct wf_graph **ret);
void wf_graph_free(struct wf_graph *g);
/* 0, -ENOMEM, or -E2BIG once the limit was met; constructors return WF_NIL from then on. Check after a batch. */
int wf_graph_failed(const struct wf_graph *g);
/* Bytes of memory held by the graph. */
uint64_t wf_graph_bytes(const struct wf_graph *g);
/* Counts the times that expanding shared containers had to be given up, so that each further try can be cut shorter: a
 * graph may be made of nothing but such traps. Any thread. */
void wf_graph_note_expansion(const struct wf_graph *g);
uint32_t wf_graph_expansions(const struct wf_graph *g);
/* Strings longer than WF_INLINE_MAX refer to this source (the pickle's); the graph takes a reference. */
void wf_graph_set_source(struct wf_graph *g, struct wf_source *s);
struct wf_source *wf_graph_source(const struct wf_graph *g);
/* The protocol of the pickle that was read last: 0 to 5; 2 before that. */
uint8_t wf_graph_protocol(const struct wf_graph *g);
void wf_graph_set_protocol(struct wf_graph *g, uint8_t protocol);
/* What the pickle that was read last did, in its order, as one number (pickle/pickle.h: wf_pickle_faithful). */
uint64_t wf_graph_trace(const struct wf_graph *g);
void wf_graph_set_trace(struct wf_graph *g, uint64_t trace);
/* Why a pickle written from this graph would not mean what the pickle read did (a fixed sentence, for a message), or
 * NULL when it would. */
const char *wf_graph_lossy(const struct wf_graph *g);
void wf_graph_set_lossy(struct wf_graph *g, const char *why);

/* ---- constructors: return the new object, or WF_NIL when out of memory or over the limit ---- */
wf_ref wf_none(struct wf_graph *g);
wf_ref wf_bool(struct wf_graph *g, bool v);
wf_ref wf_int(struct wf_graph *g, int64_t v);
wf_ref wf_long(struct wf_graph *g, const void *le_bytes, size_t len); /* normalised: becomes WF_INT where it fits */
wf_ref wf_float(struct wf_graph *g, double v);
/* kind: WF_STR, WF_PYSTR, WF_BYTES or WF_BYTEARRAY; copies data */
wf_ref wf_string(struct wf_graph *g, enum wf_kind kind, const void *data, size_t len);
wf_ref wf_str(struct wf_graph *g, const char *s);
/* The same, with its bytes left at [offset, offset + len) of wf_graph_source */
wf_ref wf_string_external(struct wf_graph *g, enum wf_kind kind, uint64_t offset, uint64_t len);
wf_ref wf_tuple(struct wf_graph *g, const wf_ref *items, uint32_t n); /* n == 0 gives the one empty tuple */
wf_ref wf_list(struct wf_graph *g);
wf_ref wf_dict(struct wf_graph *g);
wf_ref wf_set(struct wf_graph *g); /* grows with wf_list_append */
wf_ref wf_frozenset(struct wf_graph *g, const wf_ref *items, uint32_t n);
wf_ref wf_global(struct wf_graph *g, wf_ref module, wf_ref name); /* both WF_STR */
wf_ref wf_global_named(struct wf_graph *g, const char *module, const char *name);
/* For a graph that is made to be written: wf_global_named, and wf_shared_str, give the object that they gave before for the same names. As
 * in what Python pickles, where a class is one object: of 100,000 tensors the globals would be two thirds of the memory. */
void wf_graph_share_constants(struct wf_graph *g);
wf_ref wf_shared_str(struct wf_graph *g, const char *s); /* wf_str in all other graphs */
/* For such a graph that is written part by part: forgets what was made since wf_graph_limit was `limit`, to which nothing that is left may
 * refer; all of it stays where a constant to be shared, or anything that grows, is among it. Returns the limit that there is then. */
uint32_t wf_graph_rewind(struct wf_graph *g, uint32_t limit);
/* kwargs only for WF_CALL_NEWOBJ_EX, else WF_NIL */
wf_ref wf_call(struct wf_graph *g, enum wf_call_form form, wf_ref func, wf_ref args, wf_ref kwargs);
wf_ref wf_persid(struct wf_graph *g, wf_ref id);

/* What torch writes of a tensor: func(PERSID(('storage', class, key, location, numel)), offset, size, stride,
 * requires_grad, hooks_func()), with torch._utils._rebuild_tensor_v2 for func. The parts that are named here exist; the
 * other eight objects are made. */
struct wf_packed_parts {
	wf_ref func, hooks_func;
	wf_ref storage, class, location, numel, offset, requires_grad;
	const char *key;
	size_t key_len;
	uint32_t ndim;
	const wf_ref *shape; /* sizes, then strides */
};
#define WF_PACKED_OBJECTS 8u
#define WF_PACKED_MAX_NDIM 64u
/* The call, which is the last of its objects: they are the refs up to it, in the order key, id, PERSID, size, stride,
 * hooks, args, call. Size and stride without dimensions are the empty tuple. WF_NIL and nothing is made: it does not fit
 * the form (a key of 12 bytes or more, or with a NUL; ints that are no immediates; more dimensions), or the graph failed. */
wf_ref wf_packed_tensor(struct wf_graph *g, const struct wf_packed_parts *parts);

/* ---- reading; a ref of the wrong kind gives the neutral answer named, never a crash ---- */
enum wf_kind wf_kind_of(const struct wf_graph *g, wf_ref r);       /* WF_NONE for WF_NIL: test for WF_NIL first */
bool wf_is(const struct wf_graph *g, wf_ref r, enum wf_kind kind); /* false for WF_NIL */
bool wf_bool_value(const struct wf_graph *g, wf_ref r);
/* true and *ret when r is an int or bool that fits */
bool wf_int_value(const struct wf_graph *g, wf_ref r, int64_t *ret);
double wf_float_value(const struct wf_graph *g, wf_ref r); /* 0.0 */
/* Bytes of a WF_STR, PYSTR, BYTES, BYTEARRAY or LONG held in memory, followed by a NUL; NULL when r is another
 * kind or external. Valid until wf_graph_free (a BYTEARRAY or any string is never changed in place). */
const char *wf_bytes(const struct wf_graph *g, wf_ref r, size_t *ret_len);
/* Length in bytes of any string kind, external or not; 0 otherwise. */
uint64_t wf_string_size(const struct wf_graph *g, wf_ref r);
/* Where an external string lies in wf_graph_source; false when it is in memory. */
bool wf_string_external_at(const struct wf_graph *g, wf_ref r, uint64_t *ret_offset);
/* Copies [offset, offset + len) of any string. Returns 0, -EUCLEAN (range), or the source's error. */
int wf_string_read(const struct wf_graph *g, wf_ref r, uint64_t offset, void *buf, size_t len);
bool wf_str_equal(const struct wf_graph *g, wf_ref r, const char *s); /* WF_STR or WF_PYSTR */

/* Elements of a TUPLE, LIST, SET or FROZENSET; *ret_n = 0 and NULL otherwise. Lists: valid until the next change. */
const wf_ref *wf_elements(const struct wf_graph *g, wf_ref r, uint32_t *ret_n);
/* Element i, or WF_NIL. */
wf_ref wf_element(const struct wf_graph *g, wf_ref r, uint32_t i);
/* Items of a DICT, removed ones included (key WF_NIL); valid until the next change. */
const struct wf_item *wf_items(const struct wf_graph *g, wf_ref r, uint32_t *ret_n);
/* Value of the last item whose key is the string s; WF_NIL when there is none. Linear. */
wf_ref wf_dict_get(const struct wf_graph *g, wf_ref dict, const char *s);

/* Module and name of a GLOBAL as C strings ("" otherwise); names with a NUL inside are refused by the reader. */
const char *wf_global_module(const struct wf_graph *g, wf_ref r);
const char *wf_global_name(const struct wf_graph *g, wf_ref r);
wf_ref wf_global_part(const struct wf_graph *g, wf_ref r, int part); /* 0: the module's, 1: the name's WF_STR */
bool wf_is_global(const struct wf_graph *g, wf_ref r, const char *module, const char *name);
/* true when a dotted name is a path of attributes (Outer.Inner): so it is in pickles of protocol 4 and later only. */
bool wf_global_nested(const struct wf_graph *g, wf_ref r);
void wf_global_set_nested(struct wf_graph *g, wf_ref r);
/* true when the pickle put the object of this id into its memo: so do the C++ writers, and the C++ reader takes two ids
 * of one key for two storages. */
bool wf_persid_memoised(const struct wf_graph *g, wf_ref r);
void wf_persid_set_memoised(struct wf_graph *g, wf_ref r);
/* true for what INST or OBJ made, which does not call an initialiser that takes nothing: its form is the nearest one. */
bool wf_call_by_mark(const struct wf_graph *g, wf_ref r);
void wf_call_set_by_mark(struct wf_graph *g, wf_ref r);
enum wf_call_form wf_call_form_of(const struct wf_graph *g, wf_ref r);
wf_ref wf_call_func(const struct wf_graph *g, wf_ref r);
wf_ref wf_call_args(const struct wf_graph *g, wf_ref r);
wf_ref wf_call_kwargs(const struct wf_graph *g, wf_ref r);
/* The arguments of the call of a packed tensor that did not change since; WF_NIL of all else: a quick look at what it is. */
wf_ref wf_packed_args(const struct wf_graph *g, wf_ref r);
/* Round i of changes; false past the last. */
bool wf_call_effects(const struct wf_graph *g, wf_ref r, uint32_t i, struct wf_effects *ret);
/* Shorthands over all rounds: the first dict, and the last state; WF_NIL when there is none. */
wf_ref wf_call_dict(const struct wf_graph *g, wf_ref r);
wf_ref wf_call_state(const struct wf_graph *g, wf_ref r);
bool wf_call_is(const struct wf_graph *g, wf_ref r, const char *module, const char *name);
wf_ref wf_persid_id(const struct wf_graph *g, wf_ref r);
/* What wf_persid_set_number left there, at first 0: no part of what a pickle says. The table of storages notes there which
 * storage it is, for a table beside the graph would be one miss of the cache more for every tensor. */
uint32_t wf_persid_number(const struct wf_graph *g, wf_ref r);
/* The class that r names: r itself for a GLOBAL, the class inside a legacy ('module', class, file, source) id. WF_NIL
 * for anything else. */
wf_ref wf_class_of(const struct wf_graph *g, wf_ref r);

/* ---- changing; return 0, -ENOMEM, -E2BIG, or -EINVAL for a wrong kind ---- */
int wf_list_append(struct wf_graph *g, wf_ref list, wf_ref value);
int wf_list_set(struct wf_graph *g, wf_ref list, uint32_t i, wf_ref value);
int wf_list_truncate(struct wf_graph *g, wf_ref list, uint32_t n);
/* Appends without looking for an equal key: the reader's way. Duplicates are resolved by wf_dict_dedup. */
int wf_dict_append(struct wf_graph *g, wf_ref dict, wf_ref key, wf_ref value);
/* Key and value of position i; key WF_NIL removes the item and keeps its position. */
int wf_dict_set_at(struct wf_graph *g, wf_ref dict, uint32_t i, wf_ref key, wf_ref value);
/* Drops removed positions. */
void wf_dict_compact(struct wf_graph *g, wf_ref dict);
/* Of items with equal keys the first place keeps the last value, as in Python's dict. Positions stay as they are when
 * no two keys are equal. Linear in the number of items. */
int wf_dict_dedup(struct wf_graph *g, wf_ref dict);
/* Of every LIST, SET and DICT that was made since wf_graph_limit was `limit`: gives back the room for growth, and removes the keys that a
 * DICT has twice, as above. Returns 0 or -ENOMEM. */
int wf_graph_settle(struct wf_graph *g, uint32_t limit);
/* The container that SETITEM, APPEND or ADDITEMS on r writes to: r itself for a DICT, LIST or SET, the right one of
 * the latest round (made when missing) for a CALL; WF_NIL when r takes no such thing. */
wf_ref wf_dict_target(struct wf_graph *g, wf_ref r);
wf_ref wf_list_target(struct wf_graph *g, wf_ref r);
wf_ref wf_set_target(struct wf_graph *g, wf_ref r);
int wf_call_build(struct wf_graph *g, wf_ref call, wf_ref state);
int wf_call_set_args(struct wf_graph *g, wf_ref call, wf_ref args);
int wf_call_set_func(struct wf_graph *g, wf_ref call, wf_ref func);
int wf_call_set_state(struct wf_graph *g, wf_ref call, wf_ref state); /* replaces the last state, or builds one */
int wf_persid_set_id(struct wf_graph *g, wf_ref persid, wf_ref id);
/* false, and nothing is set: r is no PERSID. */
bool wf_persid_set_number(struct wf_graph *g, wf_ref r, uint32_t number);

/* Every object in order of creation (immediates and the constants left out). Start with WF_NIL; returns WF_NIL after
 * the last. Objects made meanwhile are met too. */
wf_ref wf_graph_next(const struct wf_graph *g, wf_ref previous);
/* One past the largest ref handed out so far: the size of a table indexed by ref (immediates are not below it). */
uint32_t wf_graph_limit(const struct wf_graph *g);
/* The first object made since wf_graph_limit returned limit, or WF_NIL; wf_graph_next goes on from it. */
wf_ref wf_graph_since(const struct wf_graph *g, uint32_t limit);
/* true for immediates and shared constants, which have no identity. */
bool wf_is_constant(const struct wf_graph *g, wf_ref r);

/* Structural equality of two keys as Python's dict sees it: 1 == 1.0 == True, strings by bytes, globals by name, tuples
 * by elements (to a fixed depth, number of elements and bytes; the rest by identity, as calls and strings of more than
 * 4 KiB). PYSTR equals STR with the same ASCII bytes. */
bool wf_key_equal(const struct wf_graph *g, wf_ref a, wf_ref b);
uint64_t wf_key_hash(const struct wf_graph *g, wf_ref r); /* equal keys, equal hashes */
/* One more number into a hash h (0 at first), by a secret of the graph: no file can be made of numbers that collide. */
uint64_t wf_hash_mix(const struct wf_graph *g, uint64_t h, uint64_t v);
