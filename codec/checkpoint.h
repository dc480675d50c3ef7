/* SPDX-License-Identifier: MIT */
/* The front door of the codec: a checkpoint as a tree of files. fs/ and the tools include this header only. It brings what its
 * callers need with it: options and stat (edit/types.h), edits (edit/calls.h), commits (commit/calls.h), files made of tensors
 * (compose/calls.h), errors, buffers, arrays that grow, and the reader of JSON.
 *
 * Calling sequence: wf_open; stat, lookup, list, read and, when writable, edit from any thread; wf_commit when asked; wf_close, which
 * does not commit, when no other thread is inside any more. wf_open replays the edits of an overlay that an earlier mount left behind.
 *
 * Nothing in a checkpoint is ever executed. The base is immutable; edits are copy-on-write in CHECKPOINT.weightfs/ and become durable
 * with wf_sync; a commit writes them into a new checkpoint.
 *
 * An ino is the number of a node: a directory, file or link of the tree. The root is WF_ROOT, no node is 0, and two names of one
 * tensor have one ino. A number is given once while the checkpoint is open: it outlives renames and commits, its node has no name any
 * more when the last one is removed, and only wf_revert and a new .weightfs/objects end numbers. Any function may be given any number:
 * it answers -ENOENT where there is no such node. Two openings give the same numbers where wf_generation is the same.
 *
 * A cookie is a place in a directory between two entries: 0 before the first, and each entry comes with the one behind it (`next`).
 * It stays a place though entries come and go: what is removed leaves a hole, what is new goes to the end. It means nothing
 * for another directory, and a commit that numbers a list anew may make a listing that is under way miss elements.
 *
 * Errors: functions return 0, or what is said here, or a negative errno that a FUSE reply can carry. Where nothing else is said,
 * these are -ENOENT (no such node), -ENOMEM, -EUCLEAN (the file breaks a rule of its format) and -EIO (the system could not read).
 * Outputs are written on success only. struct wf_error is the caller's, may be NULL, and is filled on failure with one sentence.
 *
 * Ownership: texts that are given are borrowed during the call. A struct wf_buffer is the caller's, is appended to, and may hold a part
 * after a failure. What each() gets is valid until it returns; it must not call back into the codec, for the lock is held.
 *
 * Threads: every function may be called from any thread. Inside, one reader-writer lock: reads run side by side, and edits wait for a
 * commit (contrib/docs/locks.md).
 *
 * Units: sizes and offsets are bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "codec/bytes/array.h"
#include "codec/bytes/buffer.h"
#include "codec/bytes/ends.h"
#include "codec/bytes/err.h"
#include "codec/bytes/json.h"
#include "codec/bytes/map.h"
#include "codec/commit/calls.h"
#include "codec/compose/calls.h"
#include "codec/edit/calls.h"

/* Opens the checkpoint at path. options and what they name are
 * borrowed during the call, but for the functions and their contexts, which have to live until wf_close. *ret is the caller's until
 * wf_close.
 * Returns: 0; -EMEDIUMTYPE, -EUCLEAN, -EOPNOTSUPP, -E2BIG with a text; -EBUSY when another writer holds the overlay (the text
 * names its pid); -ESTALE when the overlay belongs to another file; -EINVAL, -ENODEV, -ENOMEM when storages cannot be placed as
 * map_location and preload say; or the system's error. */
int wf_open(const char *path, const struct wf_open_options *options, struct wf_checkpoint **ret, struct wf_error *err);
/* Lets go of everything; ck may be NULL. Edits that no wf_sync made durable are lost. */
void wf_close(struct wf_checkpoint *ck);

/* Lists the directory dir (a path, empty: the root) of a file as wf_readdir would, in less than half of the time that opening takes:
 * for completions. What each() returns but 0 ends it. Returns: 0; 1, and nothing was listed, where that cannot be told without wf_open (edits
 * that wait, objects, keys of several kinds, other formats than torch.save's, no such directory); -ENOMEM. */
int wf_list_unopened(const char *path, const char *dir, int (*each)(void *ctx, const char *name, bool directory),
		     void *ctx);

/* Resolved, absolute; the checkpoint's until wf_close. */
const char *wf_path(const struct wf_checkpoint *ck);
/* Where the checkpoint that path leads to is changed, without an output of its own: its overlay is called *ret_path with .weightfs behind
 * it, and a commit writes in the directory of *ret_main; of one file both are that file, and none is a link. Both for free(); nothing of
 * the checkpoint is read but what tells its kind. Returns 0, or what wf_open says of it. */
int wf_places(const char *path, char **ret_path, char **ret_main, struct wf_error *err);
/* Never 0, and the same for two openings in which the same numbers are the same nodes: of the same unchanged file without edits that
 * waited. Where it differs they need not be. */
uint32_t wf_generation(const struct wf_checkpoint *ck);

/* ---- names ---- */
int wf_getattr(struct wf_checkpoint *ck, uint32_t ino, struct wf_stat *ret);
/* A name in a directory, one of a scratch entry, too. -ENOENT, -ENOTDIR. */
int wf_lookup(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret);
/* Calls each() for the entries behind the cookie until it returns non-zero or the end is reached. "." and ".." are not given.
 * Returns: 0, also when each() ended it with a positive number; a negative number of each(); -ENOTDIR for all that is no directory. */
int wf_readdir(struct wf_checkpoint *ck, uint32_t dir, uint64_t cookie,
	       int (*each)(void *ctx, const char *name, uint64_t next, const struct wf_stat *st), void *ctx);
/* The directory that holds a directory; of the root: the root. -ENOTDIR for all that is no directory. */
int wf_parent(struct wf_checkpoint *ck, uint32_t dir, uint32_t *ret);
/* Appends the path of a node from the root, for people; nothing when it has none. */
void wf_path_of(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret);
/* Whether a name in the directory stands for the same file until an edit of that name: not where names are the positions
 * of a list that can be edited, which a commit numbers anew. */
bool wf_names_stay(struct wf_checkpoint *ck, uint32_t dir);
/* Whether a name that was removed from the directory may be there again without an edit: the listing, and that a name is
 * not there, hold for this moment only. */
bool wf_names_return(struct wf_checkpoint *ck, uint32_t dir);
/* Whether every name shows a file of the type that it shows now until an edit of that name: not where there are links, for
 * one becomes the directory when that is removed under its other name. */
bool wf_types_stay(struct wf_checkpoint *ck);
/* Appends the target of a link, relative to the directory that holds it. A removal of the directory that was put off is made first; -ESTALE:
 * this link is the directory by that, which a lookup tells. -EINVAL: it is no link; -ENAMETOOLONG. */
int wf_readlink(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret);

/* The directory of a safetensors file's __metadata__: a text for each key, which edits change as they change any other. The root does not
 * name it; it stands for WF_METADATA_NAME there. -ENOENT: no other format has one. */
#define WF_METADATA_NAME ".weightfs/metadata"
int wf_metadata(struct wf_checkpoint *ck, uint32_t *ret);

/* ---- content ---- */
/* Returns the bytes read, fewer than len at the end of the file only; -EISDIR; -EINVAL for a link; -ENODATA for a meta tensor, which
 * has no bytes. */
ssize_t wf_read(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, void *buf, size_t len);
/* Appends why the bytes of a tensor cannot be read: a file that is missing, or was changed by someone else, a storage of another size.
 * -ENODATA: nothing is known against it. */
int wf_why_unread(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret);
/* Tells the log which tensors cannot be read now, in one line: their names stay, their reads fail, each with its reason. wf_open does it, unless
 * tells_unread was asked for; then whoever opened it may, while no other thread uses ck. */
void wf_log_unread(struct wf_checkpoint *ck);
/* Appends that sentence: how many there are, the path of the first of them, and why. */
void wf_unread_sentence(struct wf_buffer *out, size_t count, const char *first, size_t first_len, const char *why);
/* As wf_read, but for that copy: bytes that stand in the checkpoint's file are given to take() as memory which it may hand to the kernel, and must not
 * look at (bytes/source.h: wf_source_lend). The checkpoint is locked meanwhile: take() calls nothing of this library. false: take() was not called, and
 * wf_read is to be asked, which also knows what is wrong. */
bool wf_lend(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, size_t len,
	     void (*take)(void *ctx, const void *data, size_t len), void *ctx);

/* ---- sharing: a tensor on a device that other processes can map ---- */
/* Whether wf_share can do it: the tensor's storage is on such a device, or will be by its first read. false for every other node. */
bool wf_is_shared(struct wf_checkpoint *ck, uint32_t ino);
/* Appends JSON that tells how to map the tensor: device, uuid, handle, offset, bytes, dtype, shape, stride (the man page
 * explains them), and keeps its storage on the device until wf_unshare. *ret is the caller's until then.
 * Returns: 0; -ENOENT not shared; -ENOMEM no room on the device; -EUCLEAN; -EIO. */
int wf_share(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret_json, struct wf_lease **ret);
/* The same for all tensors in one text, the lines of tensors.json: everything that map_location sends to a device that shares is
 * placed there and stays until wf_unshare; until then no commit moves bytes of the file either. *ret_lease is NULL where there are no
 * devices at all. */
int wf_share_all(struct wf_checkpoint *ck, struct wf_buffer *ret_json, struct wf_lease **ret_lease);
/* The end of a lease, before wf_close. */
void wf_unshare(struct wf_checkpoint *ck, struct wf_lease *lease);
bool wf_is_leased(struct wf_checkpoint *ck); /* whether there is any */

/* ---- whole-checkpoint texts ---- */
/* The tutorial's table: key, tab, torch.Size([...]); for a value its text (a str as JSON, bytes as Python writes them, long ones
 * cut), for a link "-> target", for an empty container {} or []. Nothing in it moves a cursor (bytes/printable.h). */
int wf_summary(struct wf_checkpoint *ck, struct wf_buffer *ret);
int wf_globals(struct wf_checkpoint *ck,
	       struct wf_buffer *ret);                          /* every class and function named, one a line, sorted */
int wf_status(struct wf_checkpoint *ck, struct wf_buffer *ret); /* one JSON object; its members are in the man page */
/* How far a commit is that another thread does. false: none goes on. */
bool wf_commit_progress(struct wf_checkpoint *ck, uint64_t *ret_done_bytes, uint64_t *ret_total_bytes);
struct wf_totals {
	uint64_t entries;    /* names, directories and links, too */
	uint64_t file_bytes; /* of the checkpoint's file */
};
int wf_totals(struct wf_checkpoint *ck, struct wf_totals *ret); /* for statfs: looks at every node, and at no object */

/* ---- the container's records as a tree, for .weightfs/archive (tree/archive.h) ---- */
#define WF_RECORD_TOP 0u
struct wf_record_stat {
	uint32_t node; /* a number of its own kind, no ino: valid until the next commit */
	bool directory;
	uint64_t stored_bytes; /* as it stands in the file; 0 for a directory */
};
/* All: -ENOENT no such node or name; -ENOMEM. */
int wf_record_stat(struct wf_checkpoint *ck, uint32_t node, struct wf_record_stat *ret);
int wf_record_lookup(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_record_stat *ret);
/* As wf_readdir, with cookies of its own. */
int wf_record_list(struct wf_checkpoint *ck, uint32_t dir, uint64_t cookie,
		   int (*each)(void *ctx, const char *name, uint64_t next, const struct wf_record_stat *st), void *ctx);
ssize_t wf_record_read(struct wf_checkpoint *ck, uint32_t node, uint64_t offset, void *buf, size_t len); /* as stored */

/* ---- the whole graph of objects, for .weightfs/objects ---- */
/* The ino of its root directory: for reading it is a directory as any other. After an edit of names or values the next call makes it
 * anew, and numbers given before are gone (-ENOENT). Waits for a commit. -ENOMEM, -E2BIG. */
int wf_objects(struct wf_checkpoint *ck, uint32_t *ret);
/* The tensors that stand only there. During a commit it is what it was before; -EBUSY: that is not known. */
int wf_count_unseen(struct wf_checkpoint *ck, struct wf_unseen *ret);

/* ---- listing for the tools ---- */
struct wf_line;
struct wf_tensor_row {
	const char *path;  /* names joined with '/', from the root */
	const char *shape; /* JSON */
	const char *dtype, *storage, *location,
		*klass;      /* texts of the attributes of those names; empty where there is none */
	uint64_t size_bytes; /* of the elements */
	int error;           /* negative errno: this tensor cannot be read; error_text says why */
	const char *error_text;
	const struct wf_line *line; /* for wf_row_json */
};
/* Every name of a tensor, in tree order. Returns as wf_readdir. */
int wf_each_tensor(struct wf_checkpoint *ck, int (*each)(void *ctx, const struct wf_tensor_row *row), void *ctx);
/* Inside each(): appends the row as one line of .weightfs/tensors.json, its newline included. 0 or -ENOMEM. */
int wf_row_json(const struct wf_tensor_row *row, struct wf_buffer *ret);
/* All of .weightfs/tensors.json. */
int wf_tensors_json(struct wf_checkpoint *ck, struct wf_buffer *ret);
/* All of .weightfs/entries.json: those lines, and between them one for every other entry in the order of the tree, the root's (its path
 * is "") first. Each has path, key (the root has none), and class; a container `container`: "mapping", "sequence" or "object"; a link
 * `link`: its target; a value one of `value`: as JSON says it, `text`: of its file, `hex`: the bytes of what is no text, `size`: in bytes,
 * of what is too long for a line; what cannot be read `error`. */
int wf_entries_json(struct wf_checkpoint *ck, struct wf_buffer *ret);
/* All of .weightfs/columns.json: the same in less text (codec/columns.c draws it). */
int wf_columns_json(struct wf_checkpoint *ck, struct wf_buffer *ret);
/* Structure, bounds and CRCs of everything. problem() gets a line for each fault, and for what is worth a warning (fault is false);
 * progress() the bytes done; it may be NULL. Returns 0 when there was no fault, -EUCLEAN otherwise; -ENOMEM. */
int wf_verify(struct wf_checkpoint *ck, void (*problem)(void *ctx, bool fault, const char *line),
	      void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes), void *ctx);

/* ---- without a mount ---- */
/* Makes an empty checkpoint, as torch.save({}, path) does; of a name that ends in .safetensors such a file. Returns: 0; -EEXIST; or the system's error. One thread: it asks for the umask. */
int wf_new(const char *path, struct wf_error *err);
/* Commits the edits that wait beside the file at path (which may have been changed, or be gone) to another file, where every name
 * that they touch must be there with the same dtype and shape; all or nothing. They are gone from beside path then.
 * Returns: 0; -ENOENT there are none; -ESTALE something is different; -EEXIST the other file has edits of its own; -EBUSY; what
 * wf_commit returns. */
int wf_commit_onto(const char *path, const char *onto, struct wf_error *err);
/* Rewrites without dead bytes; trim: each storage cut to what its views use. alignment: every record of an archive begins at a multiple of
 * it, and does so after later commits, too: a power of two up to 32768, or 0 (as it is). -EOPNOTSUPP: no archive, and so no padding. Edits that wait beside it are a
 * reason to refuse (-EBUSY), or, with_pending, go along. */
#define WF_EDITS_WAIT                                                                                            \
	"edits wait for a commit beside it: wfctl commit writes them, wfctl discard drops them, --with-pending " \
	"takes them along"
int wf_repack(const char *path, bool trim, uint32_t alignment, bool with_pending, struct wf_error *err);
