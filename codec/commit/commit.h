/* SPDX-License-Identifier: MIT */
/* Writing the live graph and storages as a checkpoint: what moves, what is copied, what is new; then the bytes.
 *
 * - commit/plan.c: which storages the pickle names, keys, its size and sum; commit/parts.c: the records of the new file in order.
 *   Nothing is written.
 * - commit/zip.c: a whole archive in torch's layout, or an append: pickle, changed records, a new directory.
 * - commit/legacy.c: a whole legacy stream. commit/plain.c: a pickle by itself. commit/safetensors.c: a header and the tensors' bytes;
 *   commit/stay.c and commit/in_place.c: the same where the old file is changed.
 * - commit/bytes.c: the bytes of one changed storage.
 * - commit/check.c: what was written, read again.
 * - commit/strategy.c: which of them. commit/file.c: the temporary file.
 * - commit/commit.c: the overlay's protocol and the new base; it has the invariants and the states. commit/itself.c: the same in the
 *   checkpoint itself. commit/steps.c: what both share.
 * - commit/shards.c and commit/shards_write.c: a plan for each shard of a Hugging Face checkpoint, and the index. commit/dcp.c,
 *   commit/dcp_leaves.c, commit/dcp_tensors.c, commit/dcp_slices.c and commit/directory.c: a slice file and the metadata of a distributed
 *   one. commit/output_set.c, commit/output_copy.c, commit/output_beside.c: either of them to a directory of its own.
 *
 * Unchanged bytes are never decoded. A part of the graph changes before the commit is known to succeed (strings that
 * hold array data, ids); wf_plan_undo takes that back.
 *
 * Threads: planning and undoing need graph and storages exclusively; writing only reads them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/commit/trim.h"
#include "codec/container/records.h"
#include "codec/container/safetensors_head.h"
#include "codec/bytes/out.h"
#include "codec/bytes/err.h"
#include "codec/object/object.h"
#include "codec/tensor/storage.h"
#include "codec/container/zip_write.h"
#include "codec/overlay/overlay.h"

/* What is to be written. All borrowed. */
struct wf_commit_input {
	struct wf_graph *graph;
	struct wf_storages *storages;
	struct wf_container *container;
	wf_ref root;
	wf_ref metadata; /* safetensors: the mapping of texts beside the root; else WF_NIL */
	bool canonical;  /* safetensors: as the format's own writer orders a file */
	bool verbatim;   /* the pickle cannot be written anew, and nothing in it changed */
	bool as_zip;     /* a plain pickle becomes an archive */
	enum {
		WF_SHARD_NONE,
		WF_SHARD_SAFETENSORS,
		WF_SHARD_ARCHIVE
	} shard;                     /* of a checkpoint in several files, one of them */
	uint64_t shard_header_bytes; /* of the old one, where that is safetensors */
	uint32_t alignment; /* of all records of an archive, or all tensors of a safetensors file; 0: as it is */
	bool types_changed; /* more than bytes changed: a TorchScript archive gets its pickle anew, too */
	const struct wf_window *windows; /* of each storage; NULL: all of them whole */
	bool in_place;                   /* safetensors: the old file is to be changed, if that can be */
	uint32_t insert_block;           /* then: multiples of it can be inserted at its start; 0: nothing */
};

enum wf_part_kind {
	WF_PART_KEEP,    /* a record as it stands, maybe under another name */
	WF_PART_STORAGE, /* a storage whose bytes changed, or a new one */
	WF_PART_PICKLE,
	WF_PART_TEXT, /* a few bytes */
};

/* How the bytes of a tensor come to stand where they are to be in a file that is changed in its place. */
enum wf_way {
	WF_WAY_STAYS,   /* they do already */
	WF_WAY_PATCHED, /* what was written since is written there, too */
	WF_WAY_REUSES,  /* in the place of one that goes */
	WF_WAY_GROWS,   /* behind all that stays */
};

/* One record of the new file. */
struct wf_part {
	uint8_t kind;
	uint32_t record;  /* of the old container: the bytes of KEEP; WF_NO_RECORD for a new one */
	uint32_t storage; /* WF_NO_STORAGE where it is none */
	const char *name; /* after the prefix; the old container's or the plan's */
	const char *text; /* TEXT: the plan's */
};

/* An ndarray that got other bytes, and what stood for them before. */
struct wf_moved_bytes {
	wf_ref array, from;
};

/* A piece of a pickle that is copied but for it. */
struct wf_patch {
	uint64_t start, end;   /* in the old pickle, from its first byte on */
	uint64_t bytes_out;    /* of what takes its place: */
	wf_ref bytes;          /* the bytes of an array, in the form of the opcode op; WF_NIL: a FRAME */
	uint32_t storage;      /* the array's */
	uint64_t framed_bytes; /* that it holds now */
	uint8_t op;
};

/* A call that became another one, and what it was. */
struct wf_call_before {
	wf_ref call, func, args, state;
};

struct wf_plan {
	struct wf_commit_input in;
	bool legacy;      /* a legacy stream is written, ... */
	bool plain;       /* ... or a pickle, ... */
	bool safetensors; /* ... or a safetensors file; else a zip, ... */
	bool anew;        /* ... of which no record was in a zip before */
	bool exact;       /* a new file whose storages must lie where torch computes them, in pickle order */
	bool keep_layout; /* .format_version and .storage_alignment stay: torch will compute places */
	bool keep_pickle; /* the pickle is copied, but for patches: verbatim, or TorchScript of which bytes alone changed */
	const char *prefix; /* zip; the old container's, or "archive" */
	uint32_t alignment;
	struct wf_part *parts;
	uint32_t count, capacity;
	uint32_t *order; /* storages in the order in which the pickle names them */
	uint32_t order_count;
	bool *live;            /* by storage: the pickle names it */
	struct wf_key_map ids; /* PERSID (its ref's bytes) -> id to write in place of its own */
	char **names;          /* owned strings of parts */
	uint32_t name_count;
	uint64_t pickle_bytes;
	uint32_t pickle_crc32;
	struct wf_buffer pickle; /* the pickle itself, where it is small enough to keep */
	bool pickle_kept;
	struct wf_moved_bytes *moved;
	uint32_t moved_count;
	struct wf_patch *patches; /* in the order of the pickle */
	uint32_t patch_count;
	struct wf_call_before *calls;
	uint32_t call_count;
	/* safetensors: its header with the length before it, the entries, which are the parts, and the parts in the order of their data */
	struct wf_buffer head;
	struct wf_safetensors_item *items;
	uint32_t *data_order;
	/* and where the old file is changed: */
	bool in_place;
	const char *why_new; /* why that cannot be, though it was asked for */
	uint8_t *ways;       /* by part: enum wf_way */
	uint64_t data_start; /* in the old file; wf_safetensors_item.begin counts from there */
	struct wf_overlay_rewrite rewrite;
	struct wf_overlay_piece *pieces;
	uint64_t new_bytes; /* of pickle, texts and changed storages */
	uint64_t kept_bytes;
};

/* append: records that stay keep their places and names. Returns: 0; -EOPNOTSUPP what the format cannot hold; -EUCLEAN;
 * -E2BIG; -ENOMEM. Frees itself on failure. */
int wf_plan_make(struct wf_plan *plan, const struct wf_commit_input *in, bool append, struct wf_error *err);
/* Gives the arrays of the graph their bytes back; before wf_plan_free when the commit failed. */
void wf_plan_undo(struct wf_plan *plan);
/* The commit succeeded: ids and strings of the graph become those that were written. */
void wf_plan_adopt(struct wf_plan *plan);
void wf_plan_free(struct wf_plan *plan);
/* Whether the pickle is the old one, byte for byte. */
static inline bool wf_plan_copies_pickle(const struct wf_plan *p)
{
	return p->keep_pickle && p->patch_count == 0;
}
/* Writes the pickle of the plan. */
int wf_plan_write_pickle(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err);

/* What is written of a storage. */
static inline struct wf_window wf_plan_window(const struct wf_plan *p, uint32_t storage)
{
	if (p->in.windows)
		return p->in.windows[storage];
	return (struct wf_window){.size_bytes = wf_storage_get(p->in.storages, storage)->size_bytes};
}

/* Writes the bytes of a storage, little endian or as the file's byte order asks; *ret_crc32 of what was written. */
int wf_commit_storage(const struct wf_plan *plan, uint32_t storage, struct wf_out *o, uint32_t *ret_crc32,
		      struct wf_error *err);
/* Reads the finished file and holds it against the plan: every record is there, in its order, with its size, and every
 * storage that the pickle names has one, but for those that had none before. Fills in records[storage]. -EUCLEAN. */
int wf_commit_check(const struct wf_plan *plan, struct wf_container *written, uint32_t *records, struct wf_error *err);
/* Where the record's stored bytes from `at` on lie in a file, given back by wf_file_run_end; the run may go on behind the record.
 * 0; -EOPNOTSUPP they lie in none as they are; or the reason why they cannot be had. */
int wf_commit_locate(const struct wf_plan *plan, uint32_t record, uint64_t at, struct wf_file_run *ret,
		     struct wf_error *err);
/* Writes the record's stored bytes [start, end): what lies in a file moves inside the kernel. */
int wf_commit_copy(const struct wf_plan *plan, uint32_t record, uint64_t start, uint64_t end, struct wf_out *o,
		   struct wf_error *err);

/* Room for what the plan writes from o->at on, beside or in place of the old file: blocks where they are sure to be needed, all of them and
 * no more where the size is known, since it costs milliseconds to give back one; else the room is only looked for. *ret_bytes: how much,
 * also on failure. Returns 0 or the reason. */
int wf_commit_reserve(const struct wf_plan *plan, bool replaces, int old_fd, struct wf_out *o, uint64_t *ret_bytes);

/* Where a zip (an append that begins at `at`) will end, but for padding that makes cloning possible. */
uint64_t wf_zip_end_of(const struct wf_plan *plan, bool append, uint64_t at);

/* Writes a whole zip, legacy stream, pickle or safetensors file to o, from its start. */
int wf_replace_zip(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err);
int wf_replace_legacy(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err);
int wf_replace_plain(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err);
int wf_replace_safetensors(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err);
/* The same for the old file, open for writing, of a plan that is in_place. First what no reader of the old base can see: bytes behind its
 * end, and those that the overlay has. Then the rest, with the lock held exclusively. Durable on return. */
int wf_grow_safetensors(const struct wf_plan *plan, int fd, _Atomic uint64_t *done_bytes, struct wf_error *err);
int wf_rewrite_safetensors(const struct wf_plan *plan, int fd, struct wf_error *err);
/* A part of wf_commit_check. -EUCLEAN. */
int wf_check_safetensors(const struct wf_plan *plan, const struct wf_container *written, struct wf_error *err);
/* Writes new records and a directory behind the file's end, where o stands. */
int wf_append_zip(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err);
