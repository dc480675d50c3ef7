/* The front door of the codec: a checkpoint as a tree of files. fs/ and the tools include this header only.
 *
 * Calling sequence: wf_open; stat, lookup, list, read and, when writable, edit from any thread; wf_commit when asked;
 * wf_close (which does not commit). wf_open replays the edits of an overlay that an earlier mount left behind.
 *
 * Nothing in a checkpoint is ever executed. The base is immutable; edits are copy-on-write in CHECKPOINT.weightfs/ and
 * become durable with wf_sync; a commit writes them into a new checkpoint. Inode numbers stay valid across a commit.
 *
 * Threads: every function may be called from any thread. Inside, one reader-writer lock: reads run side by side.
 * All functions return 0 (or a count) or a negative errno that a FUSE reply can carry.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "err.h"

struct device; /* devices/device.h */
struct wf_checkpoint;
struct wf_buffer;
struct wf_lease;

#define WF_ROOT 1u

enum wf_commit_mode { WF_COMMIT_AUTO, WF_COMMIT_REPLACE, WF_COMMIT_APPEND };

struct wf_open_options {
	bool writable;            /* take the overlay's lock and accept edits; false: read only (an overlay is still shown) */
	bool ignore_overlay;      /* the tools' view of the plain file */
	const char *output;       /* commits go there; NULL: the checkpoint itself. Borrowed during wf_open */
	const char *edits_of; /* wf_commit_onto's: the edits that wait beside that path, instead of the file's own. NULL */
	enum wf_commit_mode commit_mode;
	/* An inode's content or attributes changed by an edit to another one (a view of the same storage, a tie broken, a
	 * commit): cached pages of [offset, offset + len) are stale. len 0: everything. Called with the checkpoint's lock
	 * held: must not call back and must not wait for the kernel. May be NULL. */
	void (*changed)(void *ctx, uint32_t ino, uint64_t offset, uint64_t len);
	/* A name stands for another inode though no edit of that name was asked for. As above. */
	void (*renamed)(void *ctx, uint32_t dir, const char *name);
	/* What was a link to a directory that is being removed is the directory now. As above. */
	void (*became_directory)(void *ctx, uint32_t ino);
	void *changed_ctx;
	/* Where storages are placed, as torch.load's map_location (placement.h); NULL: they stay in the file. A commit records
	 * the new locations. preload: all of them now, else each at its first read. verify: hold what is loaded against the
	 * CRC of its record. Borrowed during wf_open. */
	const char *map_location;
	bool preload, verify;
	void (*preloaded)(void *ctx, uint64_t done_bytes, uint64_t total_bytes); /* from several threads; may be NULL */
	void *preloaded_ctx;
	/* Opens the device called "cpu" or "cuda:N". Returns 0, or a negative errno with a reason that is valid for ever. NULL:
	 * there are no devices. */
	int (*open_device)(void *ctx, const char *name, struct device **ret, const char **ret_why);
	void *device_ctx;
	/* Told one line for the log (a tensor that cannot be read, an extent that was cut off); may be NULL. */
	void (*log)(void *ctx, const char *line);
	void *log_ctx;
	/* Told why the call that is going on in this thread will be refused with that (negative) errno; may be NULL. As with
	 * `changed`, the lock may be held. */
	void (*refused)(void *ctx, int code, const char *reason);
	void *refused_ctx;
};

enum wf_type { WF_DIRECTORY, WF_FILE, WF_SYMLINK };

/* What stat shows and no checkpoint holds: it lasts as long as the mount. */
struct wf_looks {
	unsigned int set; /* WF_SET_...: what somebody set; mode, uid and gid mean something only then */
	struct timespec atime, mtime, ctime;
	mode_t mode; /* permission bits */
	uid_t uid;
	gid_t gid;
};
enum { WF_SET_ATIME = 1, WF_SET_MTIME = 2, WF_SET_MODE = 4, WF_SET_UID = 8, WF_SET_GID = 16 };

struct wf_stat {
	uint32_t ino;
	enum wf_type type;
	uint32_t nlink;
	uint64_t size_bytes;      /* of a file's content, of a link's target; directories: number of entries */
	bool writable;            /* its content can be written (mode bits) */
	bool immutable_bytes;     /* content cannot change without an edit through us: may be cached for ever */
	struct wf_looks looks;
	uint64_t storage_bytes;   /* for st_blocks */
};

/* Returns: 0; -EMEDIUMTYPE, -EUCLEAN, -EOPNOTSUPP, -E2BIG with a text; -EBUSY when another writer holds the overlay (the
 * text names its pid); -ESTALE when the overlay belongs to another file; -EINVAL, -ENODEV, -ENOMEM when storages cannot be
 * placed as map_location and preload say; or the system's error. */
int wf_open(const char *path, const struct wf_open_options *options, struct wf_checkpoint **ret, struct wf_error *err);
void wf_close(struct wf_checkpoint *ck);

bool wf_is_writable(const struct wf_checkpoint *ck);
const char *wf_path(const struct wf_checkpoint *ck); /* resolved, absolute; valid until wf_close */
/* Never 0, and the same for two openings in which the same numbers are the same nodes: of the same unchanged file without edits that
 * waited. Where it differs they need not be. */
uint32_t wf_generation(const struct wf_checkpoint *ck);

/* ---- names ---- */
int wf_getattr(struct wf_checkpoint *ck, uint32_t ino, struct wf_stat *ret);
int wf_lookup(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret);
/* Calls each() for the entries after cookie (0: from the start) until it returns non-zero or the end is reached. `next` is
 * the cookie that goes on after this entry. "." and ".." are not given. */
int wf_readdir(struct wf_checkpoint *ck, uint32_t dir, uint64_t cookie,
	    int (*each)(void *ctx, const char *name, uint64_t next, const struct wf_stat *st), void *ctx);
int wf_parent(struct wf_checkpoint *ck, uint32_t dir, uint32_t *ret);
/* Appends the path of a node from the root, for people; nothing when it has none. */
void wf_path_of(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret);
/* Whether a name in the directory stands for the same file until an edit of that name: not where names are the positions
 * of a list that can be edited, which a commit numbers anew. */
bool wf_names_stay(struct wf_checkpoint *ck, uint32_t dir);
/* Whether a name that was removed from the directory may be there again without an edit: the listing, and that a name is
 * not there, hold for this moment only. */
bool wf_names_return(struct wf_checkpoint *ck, uint32_t dir);
/* Appends the target. */
int wf_readlink(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret);

/* ---- content ---- */
/* Returns the bytes read (short only at the end of the file) or a negative errno. */
ssize_t wf_read(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, void *buf, size_t len);
/* Where [offset, offset + *ret_len) of the file lies unchanged in the checkpoint's own file; -ENOENT when it does not. */
int wf_locate(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, int *ret_fd, uint64_t *ret_file_offset,
	      uint64_t *ret_len);

/* ---- extended attributes: the user.torch.* and user.numpy.* of the contract ---- */
int wf_getxattr(struct wf_checkpoint *ck, uint32_t ino, const char *name, struct wf_buffer *ret); /* -ENODATA */
/* Calls each() for every attribute name. */
int wf_listxattr(struct wf_checkpoint *ck, uint32_t ino, int (*each)(void *ctx, const char *name), void *ctx);

/* ---- sharing: a tensor on a device that other processes can map ---- */
/* Whether wf_share can do it: the tensor's storage is on such a device, or will be by its first read. */
bool wf_is_shared(struct wf_checkpoint *ck, uint32_t ino);
/* Appends JSON that tells how to map the tensor: device, uuid, handle, offset, bytes, dtype, shape, stride (the man page
 * explains them), and keeps its storage on the device until wf_unshare.
 * Returns: 0; -ENOENT not shared; -ENOMEM no room on the device; -EUCLEAN; -EIO. */
int wf_share(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret_json, struct wf_lease **ret);
/* The same for all tensors in one text, the lines of tensors.json: everything that map_location sends to a device that shares is
 * placed there and stays until wf_unshare. *ret_lease is NULL when nothing is on one. */
int wf_share_all(struct wf_checkpoint *ck, struct wf_buffer *ret_json, struct wf_lease **ret_lease);
void wf_unshare(struct wf_checkpoint *ck, struct wf_lease *lease);
bool wf_is_leased(struct wf_checkpoint *ck);

/* ---- whole-checkpoint texts ---- */
/* The tutorial's table: key, tab, torch.Size([...]); for a value its text (a str as JSON, bytes as Python writes them, long ones
 * cut), for a link "-> target", for an empty container {} or []. Nothing in it moves a cursor (printable.h). */
int wf_summary(struct wf_checkpoint *ck, struct wf_buffer *ret);
int wf_globals(struct wf_checkpoint *ck, struct wf_buffer *ret);  /* every class and function named, one a line, sorted */
int wf_status(struct wf_checkpoint *ck, struct wf_buffer *ret);   /* JSON */
struct wf_totals {
	uint64_t entries, tensors, tensor_bytes, file_bytes;
};
int wf_totals(struct wf_checkpoint *ck, struct wf_totals *ret);   /* for statfs and status */

/* ---- the container's records as a tree, for .weightfs/archive (archive.h) ---- */
#define WF_RECORD_TOP 0u
struct wf_record_stat {
	uint32_t node;
	bool directory;
	uint64_t stored_bytes;
};
/* A commit changes the nodes. All: -ENOENT no such node or name; -ENOMEM. */
int wf_record_stat(struct wf_checkpoint *ck, uint32_t node, struct wf_record_stat *ret);
int wf_record_lookup(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_record_stat *ret);
/* As wf_readdir; `next` is the cookie that goes on after this entry. */
int wf_record_list(struct wf_checkpoint *ck, uint32_t dir, uint64_t cookie,
		   int (*each)(void *ctx, const char *name, uint64_t next, const struct wf_record_stat *st), void *ctx);
ssize_t wf_record_read(struct wf_checkpoint *ck, uint32_t node, uint64_t offset, void *buf, size_t len); /* as stored */

/* ---- the whole graph of objects, for .weightfs/objects ---- */
/* Its root directory: for reading it is a directory as any other. Names and values being edited, the next call makes it anew,
 * and numbers given before are gone (-ENOENT). -ENOMEM, -E2BIG. */
int wf_objects(struct wf_checkpoint *ck, uint32_t *ret);
/* Tensors that stand only there. -EBUSY: not known during a commit. */
struct wf_unseen {
	uint64_t tensors, bytes;
};
int wf_count_unseen(struct wf_checkpoint *ck, struct wf_unseen *ret);

/* ---- listing for the tools ---- */
struct wf_line;
struct wf_tensor_row {
	const char *path;       /* names joined with '/', from the root */
	const char *shape;      /* JSON */
	const char *dtype, *storage, *location, *klass;
	uint64_t size_bytes;
	int error;              /* negative errno: this tensor cannot be read; error_text says why */
	const char *error_text;
	const struct wf_line *line; /* for wf_row_json */
};
/* Every tensor, in tree order. each() returning non-zero ends it. Strings are valid during the call. */
int wf_each_tensor(struct wf_checkpoint *ck, int (*each)(void *ctx, const struct wf_tensor_row *row), void *ctx);
/* Inside each(): appends the row as one line of .weightfs/tensors.json, its newline included. 0 or -ENOMEM. */
int wf_row_json(const struct wf_tensor_row *row, struct wf_buffer *ret);
/* All of .weightfs/tensors.json. */
int wf_tensors_json(struct wf_checkpoint *ck, struct wf_buffer *ret);
/* Structure, bounds and CRCs of everything. problem() is told each fault (fatal) or warning; progress() the bytes done.
 * Returns 0 when there was no fault, -EUCLEAN otherwise. */
int wf_verify(struct wf_checkpoint *ck, void (*problem)(void *ctx, bool fault, const char *line),
	      void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes), void *ctx);

/* ---- edits: -EROFS on a read-only checkpoint. Each is one record of the overlay's log. What they mean for the checkpoint is
 * the contract's table; names that editors leave behind (wf_name_is_scratch) stay outside it. ---- */
/* flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE. -EPERM for fixed names, -EINVAL for a directory into itself or a name that
 * is no key, -ENOTEMPTY, -EEXIST, ... as rename(2). */
int wf_rename(struct wf_checkpoint *ck, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
	      unsigned int flags);
/* In an object whose entries cannot go one by one (a tuple, a module) unlink and rmdir hide an entry, so that rm -r can
 * remove the object. Where no rmdir of it follows within 5 seconds of the last removal, they are there again. */
int wf_unlink(struct wf_checkpoint *ck, uint32_t dir, const char *name);
int wf_rmdir(struct wf_checkpoint *ck, uint32_t dir, const char *name);
/* rmdir of a directory with all that it holds: the caller took it for a link, which it was. */
int wf_remove_whole(struct wf_checkpoint *ck, uint32_t dir, const char *name);
int wf_mkdir(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret);
/* A new empty file. -EEXIST. */
int wf_create(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret);
int wf_link(struct wf_checkpoint *ck, uint32_t ino, uint32_t new_dir, const char *new_name, struct wf_stat *ret);
/* A link to a directory of this mount is the same container at a second place; -EPERM for any other target, but for names
 * that editors leave behind: Emacs' locks are links to nowhere. */
int wf_symlink(struct wf_checkpoint *ck, const char *target, uint32_t dir, const char *name, struct wf_stat *ret);
/* Handles: an opening for writing has a struct wf_opening, one for reading NULL. Content is judged at wf_flush and at the last
 * wf_release; the writer's bytes stay as they are until then, whatever a judgement said. An unlinked file lives until its
 * last release. */
struct wf_opening;
int wf_open_file(struct wf_checkpoint *ck, uint32_t ino, bool for_writing, struct wf_opening **ret);
void wf_release(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o);
/* -EINVAL: content that does not fit; the old one stays. */
int wf_flush(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o);
/* o: through which opening, or NULL where there is none. -EINVAL: a whole line that cannot be the value. */
ssize_t wf_write(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, uint64_t offset, const void *buf, size_t len);
/* Without an opening, while somebody has it open for writing, a size of 0 is that of an open with O_TRUNC; while nobody has,
 * it waits some seconds for a write, and is judged by wf_judge_waiting. */
int wf_truncate(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, uint64_t size_bytes);
int64_t wf_judge_waiting(struct wf_checkpoint *ck); /* milliseconds until the next is due; -1: none waits */
int wf_allocate(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, int mode, uint64_t offset,
		uint64_t len); /* fallocate(2) */
int wf_setxattr(struct wf_checkpoint *ck, uint32_t ino, const char *name, const void *value, size_t len, int flags);
int wf_removexattr(struct wf_checkpoint *ck, uint32_t ino, const char *name);
/* Takes over what `set` says; ctime is now. No edit: nothing is logged or committed. -ENOENT, -EROFS, -ENOMEM. */
int wf_set_looks(struct wf_checkpoint *ck, uint32_t ino, const struct wf_looks *to);
/* Makes every edit so far durable in the overlay. */
int wf_sync(struct wf_checkpoint *ck);
/* The same, for a thread that does so every few seconds: judges nobody's unfinished content. -EAGAIN: a commit is going on. */
int wf_sync_behind(struct wf_checkpoint *ck);
bool wf_is_dirty(struct wf_checkpoint *ck); /* edits not yet committed */

/* Writes the edits into the checkpoint (or the output). Reads go on meanwhile, edits wait. On failure nothing changed and
 * the overlay is as it was. Returns: 0; or how many entries had been removed from objects that cannot lose single entries
 * and are still there: these are back, err names them, and all else is committed; -ESTALE the checkpoint was changed by someone else; -EOPNOTSUPP something the
 * format cannot hold, found before the first byte; -ENOSPC, -EIO, -EROFS ... */
int wf_commit(struct wf_checkpoint *ck, struct wf_error *err);

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
/* Commits the edits that wait beside the file at path (which may have been changed, or be gone) to another file, where every name
 * that they touch must be there with the same dtype and shape; all or nothing. They are gone from beside path then.
 * Returns: 0; -ENOENT there are none; -ESTALE something is different; -EEXIST the other file has edits of its own; -EBUSY; what
 * wf_commit returns. */
int wf_commit_onto(const char *path, const char *onto, struct wf_error *err);
/* Rewrites without dead bytes; trim: each storage cut to what its views use. */
int wf_repack(const char *path, bool trim, struct wf_error *err);
