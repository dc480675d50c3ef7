/* SPDX-License-Identifier: MIT */
/* The part of the front door that edits: what a user asks for, each call with its lock, its record and its effect.
 *
 * checkpoint.h brings it, and tells what an ino is, who owns what, and of threads. What edits mean for the checkpoint is in the
 * man page weightfs(1); names that editors leave behind (wf_name_is_scratch) stay outside of it.
 *
 * Errors of all edits, beside those that are said below: -EROFS on a read-only checkpoint; -ENOENT, -ENOTDIR, -EISDIR, -EEXIST as of the
 * system call of that name; -EPERM what names or content of the object cannot do, or a pickle that has to stay as it is (the function
 * `refused` of wf_open_options gets the reason); -EINVAL content, a name or a value that does not fit; -EFBIG; -ENOSPC, -EDQUOT, -EIO
 * the overlay cannot take the edit. Nothing has changed then. An edit waits for a commit that is going on.
 *
 * Each edit is one record of the overlay's log, in memory at first: wf_sync makes it durable.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/bytes/err.h"
#include "codec/edit/types.h"

/* ---- edits ---- */
/* Whether a new entry of that name is scratch space of a mount and never becomes a key. */
bool wf_is_scratch_name(const char *name);
/* flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE. -EPERM for fixed names, -EINVAL for a directory into itself or a name that
 * is no key, -ENOTEMPTY, -EEXIST, ... as rename(2). */
int wf_rename(struct wf_checkpoint *ck, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
	      unsigned int flags);
/* In an object whose entries cannot go one by one (a tuple, a module) unlink and rmdir hide an entry, so that rm -r can
 * remove the object. Where no rmdir of it follows within 5 seconds of the last removal, they are there again. */
int wf_unlink(struct wf_checkpoint *ck, uint32_t dir, const char *name);
int wf_rmdir(struct wf_checkpoint *ck, uint32_t dir, const char *name);
/* In a mapping inside of such an object a removal is made a moment later, for its rmdir may follow. This makes it now, so that what is
 * composed of all tensors lacks the entry. */
void wf_settle_removals(struct wf_checkpoint *ck);
/* The same where whoever removed has ended: what it removed is no part of what another program removes around it. */
void wf_end_removals(struct wf_checkpoint *ck);
/* rmdir of a directory with all that it holds: the caller took it for a link, which it was. */
int wf_remove_whole(struct wf_checkpoint *ck, uint32_t dir, const char *name);
int wf_mkdir(struct wf_checkpoint *ck, uint32_t dir, const char *name,
	     struct wf_stat *ret); /* a mapping of the class of dir's */
/* A new empty file. -EEXIST. */
int wf_create(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret);
/* A second name of a file. */
int wf_link(struct wf_checkpoint *ck, uint32_t ino, uint32_t new_dir, const char *new_name, struct wf_stat *ret);
/* A link to a directory of this mount is the same container at a second place; -EPERM for any other target, but for names
 * that editors leave behind: Emacs' locks are links to nowhere. */
int wf_symlink(struct wf_checkpoint *ck, const char *target, uint32_t dir, const char *name, struct wf_stat *ret);
/* Handles: an opening for writing has a struct wf_opening, one for reading NULL. Content is judged at wf_flush and at the last
 * wf_release; the writer's bytes stay as they are until then, whatever a judgement said. An unlinked file lives until its
 * last release. */
struct wf_opening;
enum wf_access { WF_READS, WF_WRITES, WF_APPENDS };
/* *ret: NULL for reading, else the caller's until wf_release. -EISDIR, -EPERM: content that cannot be written. */
int wf_open_file(struct wf_checkpoint *ck, uint32_t ino, enum wf_access access, struct wf_opening **ret);
void wf_release(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o);
/* Whether a new file that nothing was written into was closed, as far as can be seen: it is an entry when the release has come. */
bool wf_is_closing(struct wf_checkpoint *ck);
/* No release will come any more. What was closed, as far as can be seen, is taken for closed. */
int wf_release_closed(struct wf_checkpoint *ck);
/* -EINVAL: content that does not fit; the old one stays. */
int wf_flush(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o);
/* All of buf is written, and len returned, or nothing. o: through which opening, or NULL where there is none. -EINVAL: a whole line that
 * cannot be the value. */
ssize_t wf_write(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, uint64_t offset, const void *buf,
		 size_t len);
/* The content of a file that is new or emptied becomes that of a tensor of another checkpoint: its bytes are read where they stand, once, by
 * the commit. Returns: 0; 1, and nothing was done, where they do not stand in a file as they are, are few, or either checkpoint is one that
 * lives on; as wf_write. */
int wf_write_from(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, struct wf_checkpoint *from,
		  uint32_t from_ino);
/* Without an opening, while somebody has it open for writing, a size of 0 is that of an open with O_TRUNC; while nobody has,
 * it waits some seconds for a write, and is judged by wf_judge_waiting. */
int wf_truncate(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, uint64_t size_bytes);
int64_t wf_judge_waiting(struct wf_checkpoint *ck); /* milliseconds until the next is due; -1: none waits */
int wf_allocate(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, int mode, uint64_t offset,
		uint64_t len); /* fallocate(2) */
/* The value need not end with a zero; a newline at its end is left out. flags as of setxattr(2). -EOPNOTSUPP: none of ours. */
int wf_setxattr(struct wf_checkpoint *ck, uint32_t ino, const char *name, const void *value, size_t len, int flags);
/* -EPERM: none of them can be without a value; -ENODATA. */
int wf_removexattr(struct wf_checkpoint *ck, uint32_t ino, const char *name);
/* Takes over what `set` says; ctime is now. No edit: nothing is logged or committed. -ENOENT, -EROFS, -ENOMEM. */
int wf_set_looks(struct wf_checkpoint *ck, uint32_t ino, const struct wf_looks *to);
/* Times or the mode of a directory were set, which tools that copy do last: one that waits for the parts of a tensor is that tensor if
 * they are there. -EINVAL, once, with the mode: a class that was set on it was refused, for cp -a ignores errors of setxattr. */
int wf_directory_is_dressed(struct wf_checkpoint *ck, uint32_t ino, bool mode);
/* Makes every edit so far durable in the overlay. 0; -ENOSPC, -EIO: what the disk said; nothing is known to be durable then. */
int wf_sync(struct wf_checkpoint *ck);
/* The same, for a thread that does so every few seconds: judges nobody's unfinished content. -EAGAIN: a commit is going on. */
int wf_sync_behind(struct wf_checkpoint *ck);
bool wf_is_dirty(struct wf_checkpoint *ck); /* edits not yet committed */

/* ---- extended attributes: the user.torch.* and user.numpy.* of the contract ---- */
int wf_getxattr(struct wf_checkpoint *ck, uint32_t ino, const char *name, struct wf_buffer *ret); /* -ENODATA */
/* user.torch.key of one name of a directory: what a node with several names says is the key of one of them. -ENOENT, -ENODATA. */
int wf_key(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_buffer *ret);
/* The class of a key whose JSON is not the key itself, but a text that stands for it: bytes, a member of an Enum, a scalar of NumPy, ...
 * -ENODATA: it is the key. */
int wf_key_class(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_buffer *ret);
/* Calls each() for every attribute name that the node has; a non-zero answer ends it and is returned. */
int wf_listxattr(struct wf_checkpoint *ck, uint32_t ino, int (*each)(void *ctx, const char *name), void *ctx);

/* Drops the edits that no commit has written: the checkpoint is what its file says again. Every node but the root gets
 * another number; the old ones are gone. Returns: 0; -EBUSY a file is open, or a lease held; -ESTALE the file was changed
 * by someone else; -EROFS; -ENOMEM; or the system's error. After a failure everything is as it was. */
int wf_revert(struct wf_checkpoint *ck, struct wf_error *err);

/* ---- without a mount ---- */
/* What waits beside the file at path (a checkpoint, or an output that need not exist), which is not opened: the number of edits,
 * and why the last commit failed (empty: it did not). Returns 0; -EPERM not ours; -EUCLEAN, -EOPNOTSUPP, or the system's
 * error. */
int wf_waiting(const char *path, uint64_t *ret_edits, char *ret_failure, size_t size, struct wf_error *err);
/* Drops the overlay of the checkpoint at path. -ENOENT when it has none, -EBUSY while it is mounted. */
int wf_discard(const char *path, struct wf_error *err);
