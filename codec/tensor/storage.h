/* SPDX-License-Identifier: MIT */
/* Storages: the flat arrays that tensors are views of, each the base bytes of the checkpoint plus what was written since.
 *
 * A storage is named by its index in the table, stable while the checkpoint is open; indices of the base come first, in
 * the order in which the graph's objects were made, new ones follow. PERSID objects with the same key name one storage;
 * the bytes of each ndarray inside the pickle are one of their own. Bytes are always little endian here: a
 * big-endian file's elements are swapped on the way (source: torch/storage.py byteswap; untyped ones are never swapped,
 * as in torch).
 *
 * Where base bytes come from: a stored record (read from the file by offset, never copied), a deflated record (inflated
 * into host memory up to WF_STORAGE_CACHE_MAX for all of them together, the longest unused dropped first; read through
 * the stream where one alone is larger), or the pickle itself (bytes of a NumPy array).
 * What was written lies in an extent file of the overlay at the same offsets; `dirty` says which ranges.
 *
 * Threads: wf_storage_read from any number of threads beside each other; writes and table changes exclusively (the
 * checkpoint's lock provides that). The cache of inflated records locks inside.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/container/container.h"
#include "codec/object/dtype.h"
#include "codec/bytes/err.h"
#include "codec/bytes/extents.h"
#include "codec/object/object.h"

#define WF_STORAGE_CACHE_MAX (256ull << 20)
#define WF_NO_STORAGE UINT32_MAX
#define WF_RECORD_KEPT (WF_NO_RECORD - 1) /* for wf_storages_rebase */

/* 40 bytes: there can be 100,000. */
struct wf_storage {
	/* the first PERSID object that names it, or the call of one inside the pickle; WF_NIL for an ndarray's bytes */
	wf_ref persid;
	uint32_t persids;    /* PERSID objects that name it: with one, a tensor over it is its only view */
	uint64_t size_bytes; /* present size: numel x element size of the first PERSID; changed by wf_storage_resize */
	uint64_t base_bytes; /* size of the base; 0 for a new storage */
	struct wf_extents *dirty; /* written ranges in bytes; NULL while untouched */
	uint32_t record;          /* container record of the base, or WF_NO_RECORD */
	uint8_t dtype;            /* enum wf_dtype of the first PERSID's class; WF_UINT8 for an untyped one */
	bool inside : 1;          /* its bytes stand inside the pickle: wf_storage_array, wf_storage_data */
	bool untyped : 1;         /* class is UntypedStorage */
	bool resized : 1;         /* since the base, maybe back to its size */
	bool given : 1;           /* its bytes, all written, are read from a source in place of the extent file */
	bool companion : 1; /* named by a pickle that no commit writes (wf_container_companion): bytes change, and nothing else */
	int16_t bad; /* 0, or the negative errno that reading gives (record missing, size mismatch, ...) */
};
_Static_assert(sizeof(struct wf_storage) == 40, "there can be 100,000");

struct wf_storages;

/* Finds the storages that the graph's PERSID objects name and checks them against the container: missing records,
 * record length != numel x element size, disagreeing ids, overlapping records. What is wrong with one storage makes that
 * one `bad`, with a text from wf_storage_problem; the rest works. */
int wf_storages_new(struct wf_graph *g, struct wf_container *c, struct wf_storages **ret, struct wf_error *err);
void wf_storages_free(struct wf_storages *ss);

uint32_t wf_storages_count(const struct wf_storages *ss);
const struct wf_storage *wf_storage_get(const struct wf_storages *ss, uint32_t i); /* NULL past the end */
/* Index of the storage that a PERSID object or an ndarray names; WF_NO_STORAGE when it names none. */
uint32_t wf_storage_of(const struct wf_storages *ss, wf_ref object);
/* Of one inside the pickle the ndarray whose bytes it is, or the call (tensor/storage_nested.h); WF_NIL of any other. */
wf_ref wf_storage_array(const struct wf_storages *ss, uint32_t i);
/* Of those, the string object with the bytes (a WF_STR means them in latin-1), and how many stand in front of the first element. */
wf_ref wf_storage_data(const struct wf_storages *ss, uint32_t i, uint32_t *ret_skip_bytes);
/* The sentence behind `bad`; "" when there is none. */
const char *wf_storage_problem(const struct wf_storages *ss, uint32_t i);
/* Key as text (from the PERSID id), location tag, element count of the class. "" where there is none. */
const char *wf_storage_key(const struct wf_storages *ss, uint32_t i);
const char *wf_storage_location(const struct wf_storages *ss, uint32_t i);

/* Base bytes merged with what was written. Returns 0; -EUCLEAN (range); `bad`; or the source's error. */
int wf_storage_read(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len);
/* The bytes in front of the first element of a storage inside the pickle. */
int wf_storage_read_head(struct wf_storages *ss, uint32_t i, void *buf);
/* The clean, stored run that starts at offset, in the file where it lies unchanged; the caller gives it back (wf_file_run_end).
 * false when offset itself is not such a byte. */
bool wf_storage_locate(const struct wf_storages *ss, uint32_t i, uint64_t offset, struct wf_file_run *ret);
/* The same, however short, and for bytes that were written (*ret_written) where they lie in the extent file, whose fd is valid as long as no write
 * comes: as far as one of the two goes. */
bool wf_storage_find_run(const struct wf_storages *ss, uint32_t i, uint64_t offset, struct wf_file_run *ret,
			 bool *ret_written);

/* The container's record of the base bytes, NULL for none; and whether its elements are of the other byte order. */
const struct wf_record *wf_storage_record(const struct wf_storages *ss, uint32_t i);
bool wf_storage_swapped(const struct wf_storages *ss, uint32_t i);

/* ---- a copy of storages elsewhere, which is to stay the same ---- */
struct wf_storage_mirror {
	void (*written)(void *ctx, uint32_t i, uint64_t offset, const void *data, size_t len); /* NULL: zeroes */
	void (*resized)(void *ctx, uint32_t i);
	void *ctx;
};
/* Told of every write and change of size from now on; NULL: nobody is. Borrowed. */
void wf_storages_set_mirror(struct wf_storages *ss, const struct wf_storage_mirror *mirror);

/* ---- writing: the overlay gives one file for each storage ---- */
struct wf_extent_files {
	/* The extent file of storage i, made when missing; borrowed. Returns 0 or a negative errno. */
	int (*open)(void *ctx, uint32_t i, int *ret_fd);
	/* Told after bytes were written, or the size was set to `offset` (len is then 0), to be logged. */
	void (*written)(void *ctx, uint32_t i, uint64_t offset, uint64_t len);
	void *ctx;
	/* Asked before bytes are written; a negative errno refuses it. May be NULL. */
	int (*before)(void *ctx, uint32_t i, uint64_t offset, uint64_t len);
};
void wf_storages_set_extent_files(struct wf_storages *ss, const struct wf_extent_files *files);
/* Returns 0; -EROFS without extent files; -EUCLEAN past the size; -ENOSPC, -EIO, ... and then nothing is marked written. */
int wf_storage_write(struct wf_storages *ss, uint32_t i, uint64_t offset, const void *buf, size_t len);
/* Writes zeroes, as a hole of the extent file where its file system has them: in no time and no space. */
int wf_storage_zero(struct wf_storages *ss, uint32_t i, uint64_t offset, uint64_t len);
/* A new storage of zero bytes with that PERSID (made by the caller). Its key may be that of another: a commit gives it one
 * of its own. Returns 0; -EINVAL object is none; -EEXIST it has a storage; -ENOMEM. */
int wf_storage_new(struct wf_storages *ss, wf_ref persid, uint64_t size_bytes, uint32_t *ret);
/* A storage for the bytes of an ndarray or the call of a storage inside the pickle, where it has none. 0, -EINVAL, -ENOMEM. */
int wf_storages_add_array(struct wf_storages *ss, wf_ref array);
/* The same for each ndarray that was made since wf_graph_limit returned limit. 0 or -ENOMEM. */
int wf_storages_add_arrays(struct wf_storages *ss, uint32_t limit);
/* wf_storage_read as if nothing had been written: the base, and zeroes behind it. */
int wf_storage_read_clean(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len);
/* Grows with zeroes or cuts. What was cut off does not come back. */
int wf_storage_resize(struct wf_storages *ss, uint32_t i, uint64_t size_bytes);
/* All bytes of a storage that has none yet are those of the source, which has to stay as it is while they are read: nothing is copied until
 * something else is written into it. Takes its own reference. Returns 0, -EINVAL, -ENOMEM. */
int wf_storage_give(struct wf_storages *ss, uint32_t i, struct wf_source *source);
/* Marks a range as written without writing: replay of the log, whose extent file holds the bytes already. */
int wf_storage_mark(struct wf_storages *ss, uint32_t i, uint64_t offset, uint64_t len);
/* Another PERSID object of the graph that names storage i (a new view). */
int wf_storage_adopt(struct wf_storages *ss, uint32_t i, wf_ref object);

/* Makes every PERSID of storage i say this dtype (its class, and the element count for the present size) and location
 * (NULL: as it is). Returns 0, -EINVAL (bytes inside the pickle; a size that is no multiple), -ENOMEM. */
int wf_storage_set_form(struct wf_storages *ss, uint32_t i, enum wf_dtype dtype, const char *location);

/* Gives every PERSID object the location that to() answers for its present one; NULL: it stays. *ret_changed: storages that
 * have another one now, companions' not counted, of which no commit can record it. Returns 0 or -ENOMEM (some have been changed then). */
int wf_storages_relocate(struct wf_storages *ss, const char *(*to)(void *ctx, const char *tag), void *ctx,
			 uint32_t *ret_changed);

/* After a commit: the base is now this container; record_of(ctx, i) gives each storage's record in it (WF_NO_RECORD for
 * one that was dropped: reading it gives -ESTALE; WF_RECORD_KEPT for one whose bytes all stand in its extent file: it
 * goes on as a new one). Extents are forgotten otherwise, those of an ndarray when it has other bytes in the graph than
 * before (wf_numpy_set_bytes). The old container may be freed afterwards. */
int wf_storages_rebase(struct wf_storages *ss, struct wf_container *c, uint32_t (*record_of)(void *, uint32_t),
		       void *ctx, struct wf_error *err);
