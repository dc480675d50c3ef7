/* SPDX-License-Identifier: MIT */
/* Edits as the commit and the front door see them: their life from an opening to a close. Nothing here is for fs/ or the tools.
 *
 * One live truth: an edit changes graph, tree and storages in memory and appends one record to the overlay's log; the
 * next wf_open replays the records through the same functions. Three things stand beside the tree:
 *
 * - pending content: what a writer has made of a file and nobody has judged yet (wf_flush and the last wf_release do), and
 *   the bytes of new keys as they were written, until a commit.
 * - scratch directories: the scratch entries of a directory (*.swp, .nfs*, ...), in a mapping of their own that the checkpoint never
 *   sees.
 * - orphans: files unlinked while open.
 *
 * Threads: all with the checkpoint's lock held: the hooks for reading shared, the rest exclusively.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/err.h"
#include "codec/tree/tree.h"

struct wf_checkpoint;
struct wf_looks;
struct wf_stat;

/* After graph, storages and tree are there, with ck's overlay open: replays the log. A checkpoint without overlay
 * (plain reading) needs no call. */
int wf_edits_open(struct wf_checkpoint *ck, struct wf_error *err);
void wf_edits_close(struct wf_checkpoint *ck);

/* What the edits of the checkpoint at path stand beside, absolute: of a file itself, links resolved; of an index or .metadata the
 * directory that it is the main file of. Where there is no checkpoint, the path. For free(); NULL: out of memory. */
char *wf_edited_path(const char *path);

/* ---- hooks for reading ---- */
/* Whether the content of ino stands here and not in the graph; wf_edits_pending_size may be called only then. */
bool wf_edits_is_pending(const struct wf_checkpoint *ck, wf_ino ino);
uint64_t wf_edits_pending_size(const struct wf_checkpoint *ck, wf_ino ino);
/* Corrects dtype, shape and stride of a decoded tensor to what its pending content is going to mean. */
void wf_edits_pending_type(const struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t);
/* Whether single entries of the directory can be removed: not those of a tuple or a module. */
bool wf_edits_one_by_one(const struct wf_checkpoint *ck, wf_ino dir);
/* Whether the entry was removed, though its object is still there; and how many entries a directory shows. */
bool wf_edits_hides(const struct wf_checkpoint *ck, wf_ino dir, uint32_t position);
uint32_t wf_edits_shown(const struct wf_checkpoint *ck, wf_ino dir);
/* Whether an object around the directory can only be removed whole: a removal in the directory is put off (edit/hide.c). */
bool wf_edits_is_held(const struct wf_checkpoint *ck, wf_ino dir);
bool wf_edits_is_hiding(
	const struct wf_checkpoint *ck); /* such an entry waits for the next commit, which is to name it */
/* Times, mode and owner of a node; also without edits. */
void wf_edits_looks(const struct wf_checkpoint *ck, wf_ino ino, struct wf_looks *ret);
/* The scratch directory of a directory; WF_NO_INO: it has none. And the way back; WF_NO_INO: it is no scratch directory. */
wf_ino wf_edits_scratch_dir(const struct wf_checkpoint *ck, wf_ino dir);
wf_ino wf_edits_scratch_owner(const struct wf_checkpoint *ck, wf_ino scratch_dir);
/* As a user sees it: dir, or the directory whose scratch directory it is. */
wf_ino wf_edits_visible_dir(const struct wf_checkpoint *ck, wf_ino dir);
/* A name among the keys of a directory, or among its scratch entries. -ENOENT, -ENOTDIR. */
int wf_edits_lookup(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino *ret);

/* The storages whose bytes somebody can be writing without our knowledge: of files that are open for writing, which may be mapped,
 * and what is written there is in the kernel's memory for some time. *ret: [wf_storages_count], the caller's; NULL: none is.
 * Returns 0 or -ENOMEM. The lock is held. */
int wf_edits_in_writing(struct wf_checkpoint *ck, bool **ret);
/* A number that every edit, commit or revert changes. */
uint64_t wf_edits_edition(const struct wf_checkpoint *ck);

/* ---- commit ---- */
/* Removals in objects that hold more are made, which were put off in case the object follows. */
int wf_edits_settle_removals(struct wf_checkpoint *ck);
/* Whether the directory, or one around it, is such a removal: no path leads there. The lock is held. */
bool wf_edits_put_off_around(const struct wf_checkpoint *ck, wf_ino dir);
/* Makes them after whatever edit or commit is at work. No lock is held. */
void wf_edits_wait_and_settle(struct wf_checkpoint *ck);
/* Entries that were removed from objects which are still there are back. Appends their names, for a sentence. Returns how
 * many they are. */
uint32_t wf_edits_return_hidden(struct wf_checkpoint *ck, struct wf_buffer *ret_names);
/* Directories that wait for the parts of a tensor are such tensors now, or mappings for good: appends the names of these, for a sentence,
 * and returns how many they are. */
uint32_t wf_edits_assemble_all(struct wf_checkpoint *ck, struct wf_buffer *ret_names);
/* Judges what nobody has open for writing and compacts the graph: afterwards the graph reachable from the root and the
 * storages are what is to be written. What a writer has in its hands goes on: the commit takes what was judged last, and
 * leaves out what never was. */
int wf_edits_before_commit(struct wf_checkpoint *ck, struct wf_error *err);
/* Whether it leaves out that file. */
bool wf_edits_is_aside(const struct wf_checkpoint *ck, wf_ino ino);
void wf_edits_end_commit(struct wf_checkpoint *ck); /* what was left out is there again; after a commit that failed */
/* For wf_status: appends JSON. Shapes that are others than at the last commit, and content that was refused. */
void wf_edits_report(struct wf_checkpoint *ck, struct wf_buffer *out);
/* Whether a tensor has another dtype, shape, storage, location or requires_grad since the last commit. */
/* The directory whose tensors are the checkpoint as a whole: the root; of DeepSpeed `model`, for that is what one asks for, and the rest is
 * what it was put together of. The lock is held. */
wf_ino wf_whole_start(const struct wf_checkpoint *ck);
/* A node that was edited and is not in it; WF_NO_INO. */
wf_ino wf_edits_outside(const struct wf_checkpoint *ck);
/* The name of the shard that the tensor is to be moved to; NULL: none was given. Valid until the next edit or commit. The lock is held. */
const char *wf_edits_shard(const struct wf_checkpoint *ck, wf_ino ino);
bool wf_edits_types_changed(const struct wf_checkpoint *ck);
/* Whether an edit since the last commit changes the pickle: always so but for bytes of tensors. */
bool wf_edits_structural(const struct wf_checkpoint *ck);
/* What scratch entries and orphans name, and the new file does not hold (live: by storage, what it does), goes to data
 * files that outlive the commit. Called with everything planned and before anything is written; leaves nothing to undo.
 * Bytes that cannot be read are not worth a failed commit. -ENOSPC, -ENOMEM, ... */
int wf_edits_keep(struct wf_checkpoint *ck, const bool *live, struct wf_error *err);
bool wf_edits_is_kept(const struct wf_checkpoint *ck, uint32_t storage);
/* The commit is done (tree and storages rebased, wf_overlay_committed not yet called): new names are ordinary ones,
 * lists are numbered anew, bindings of storages to data files forgotten but for scratch files. */
void wf_edits_committed(struct wf_checkpoint *ck);
/* Whether there is anything that the new file does not hold and a user would miss: scratch entries, and files that nobody has judged. */
bool wf_edits_needs_next(const struct wf_checkpoint *ck);
/* Where storages are in the new file; WF_NO_RECORD: not there. */
struct wf_next_base {
	uint32_t (*record_of)(void *ctx, uint32_t storage);
	void *ctx;
};
/* Records all of that, between wf_overlay_begin_next and wf_overlay_end_next. Changes nothing that readers or a commit which fails
 * would see. */
int wf_edits_log_next(struct wf_checkpoint *ck, const struct wf_next_base *base);
/* For wf_overlay_committed: whether scratch files still need the data file. ctx is the struct wf_checkpoint. */
bool wf_edits_keep_file(void *ck, uint32_t number);
