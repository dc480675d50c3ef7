/* SPDX-License-Identifier: MIT */
/* What the users of a checkpoint and its edits say to each other: the options of an opening, and what stat shows. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct device; /* devices/device.h */
struct wf_checkpoint;
struct wf_buffer;
struct wf_lease;

#define WF_ROOT 1u

enum wf_commit_mode { WF_COMMIT_AUTO, WF_COMMIT_REPLACE, WF_COMMIT_APPEND };

struct wf_open_options {
	bool writable; /* take the overlay's lock and accept edits; false: read only (an overlay is still shown) */
	/* Of a writer that makes some edits and commits them, as the tools do: until that commit nothing of them is durable, so that a kill
	 * leaves what was there before, and wf_close without a commit drops them. */
	bool at_once;
	bool ignore_overlay; /* the tools' view of the plain file */
	const char *output;  /* commits go there; NULL: the checkpoint itself. Borrowed during wf_open */
	/* wf_commit_onto's: the edits that wait beside that path, absolute, instead of the file's own. NULL */
	const char *edits_of;
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
	/* Where storages are placed, as torch.load's map_location (placement/placement.h); NULL: they stay in the file. A commit records
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
	/* Whoever opens it tells of tensors that cannot be read himself, with wf_log_unread, or in the words of what failed for them. */
	bool tells_unread;
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
	uint64_t size_bytes; /* of a file's content, of a link's target; directories: number of entries */
	bool tensor;         /* a file of elements, and no text */
	bool writable;       /* its content can be written (mode bits) */
	struct wf_looks looks;
	uint64_t storage_bytes; /* for st_blocks */
};

/* Tensors that stand in .weightfs/objects alone. */
struct wf_unseen {
	uint64_t tensors, bytes;
};
