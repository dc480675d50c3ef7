/* SPDX-License-Identifier: MIT */
/* What the `.metadata` of torch.distributed.checkpoint says, as plain tables: which tensors and values there are, where in the tree each
 * stands, and which slices of which files hold them. It knows pickles, and no file but the ones it is given.
 *
 *   Metadata
 *     state_dict_metadata   fqn -> TensorStorageMetadata {properties, size, chunks: [{offsets, sizes}]} or BytesStorageMetadata
 *     planner_data          fqn -> (step, ...): a text is a key of a mapping, a number a position in a list; None: the fqn is the key
 *     storage_data          {fqn, offset} -> _StorageInfo {relative_path, offset, length, transform_descriptors}
 *
 * The classes moved from package to package (torch 1.13, 2.0 to 2.2, 2.3 and later); nothing of them is run. What cannot be understood
 * in the whole is refused; what is wrong with one tensor is its `problem`, and the others stand.
 *
 * Calling sequence: an all-zero struct, wf_dcp_metadata_read for `.metadata`, or for each `__RANK.metadata`, then
 * wf_dcp_metadata_finish, and wf_dcp_metadata_free at the end. Threads: as any plain data.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/err.h"
#include "codec/bytes/key_map.h"
#include "codec/bytes/map.h"
#include "codec/bytes/source.h"
#include "codec/object/dtype.h"

#define WF_DCP_MAX_METADATA_BYTES (1ull << 32)
/* A commit makes the graph of the old file and of the new one, which then are far below WF_GRAPH_MAX_BYTES; a larger file it copies in ranges. */
#define WF_DCP_MAX_GRAPH_BYTES (256ull << 20)
#define WF_DCP_MAX_ENTRIES (1u << 24)
#define WF_DCP_MAX_CHUNKS (1u << 28)

struct wf_dcp_chunk {
	uint64_t offset, length; /* the slice; length 0: no slice is known */
	uint32_t offsets, sizes; /* of a tensor: where in numbers ndim of them stand; chunks may have the same ones */
	uint32_t file;           /* in files */
	uint32_t entry;
};

/* A part of the way to an entry. */
struct wf_dcp_step {
	uint64_t text; /* in texts; of a position in a list the number itself */
	uint32_t len;
	bool position;
};

struct wf_dcp_entry {
	uint64_t name;    /* the fqn, in texts, ended by a NUL */
	uint64_t problem; /* why its bytes cannot be had, a text in texts; 0: nothing is wrong */
	uint32_t sizes;   /* of a tensor: ndim of them in numbers */
	uint32_t name_len, ndim;
	uint32_t steps, step_count;   /* step_count 0: it stands in the root under its fqn */
	uint32_t chunks, chunk_count; /* after wf_dcp_metadata_finish */
	bool tensor;
	uint8_t dtype; /* enum wf_dtype */
};

struct wf_dcp_metadata {
	struct wf_dcp_entry *entries;
	struct wf_dcp_chunk *chunks; /* of one entry beside each other, after wf_dcp_metadata_finish */
	struct wf_dcp_step *steps;
	uint64_t *numbers;
	uint32_t entry_count, chunk_count, step_count, number_count;
	uint32_t entry_room, chunk_room, step_room, number_room;
	struct wf_buffer texts;  /* begins with a NUL: 0 is no text */
	struct wf_map names;     /* of entries, by fqn */
	struct wf_key_map files; /* relative paths as they are written, in the order in which they were met */
};

/* Adds what one file says. An entry that another file told of gets its chunks too. folder: where that checkpoint is below the directory,
 * "" for the directory itself; its entries then stand below that name, and have it and a slash before their own.
 * Returns: 0; -EMEDIUMTYPE a pickle of something else; -EUCLEAN, -EOPNOTSUPP, -E2BIG; or the source's error. */
int wf_dcp_metadata_read(struct wf_dcp_metadata *m, struct wf_source *file, const char *folder, struct wf_error *err);
/* Sorts the chunks by entry. Of chunks that are there twice (a tensor that each rank wrote) one is left. -ENOMEM. */
int wf_dcp_metadata_finish(struct wf_dcp_metadata *m);
void wf_dcp_metadata_free(struct wf_dcp_metadata *m);

/* Gives the entry a problem, unless it has one. -ENOMEM. */
int wf_dcp_problem(struct wf_dcp_metadata *m, struct wf_dcp_entry *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- for those that fill the tables ---- */
uint32_t wf_dcp_find(const struct wf_dcp_metadata *m, const char *name, size_t len); /* an entry, or UINT32_MAX */
int wf_dcp_add_entry(struct wf_dcp_metadata *m, const char *name, size_t len, uint32_t *ret, struct wf_error *err);
/* box: ndim offsets, then ndim sizes. */
int wf_dcp_add_chunk(struct wf_dcp_metadata *m, uint32_t entry, const uint64_t *box, uint32_t ndim, uint32_t *ret,
		     struct wf_error *err);
int wf_dcp_add_numbers(struct wf_dcp_metadata *m, const uint64_t *v, uint32_t n, uint32_t *ret);
int wf_dcp_reserve_steps(struct wf_dcp_metadata *m, uint64_t n);
/* Sizes that torch can have: the bytes of all elements are a number. */
bool wf_dcp_size_fits(const uint64_t *sizes, uint32_t ndim, uint32_t element_bytes);

static inline const char *wf_dcp_text(const struct wf_dcp_metadata *m, uint64_t at)
{
	return m->texts.data + at;
}
