/* SPDX-License-Identifier: MIT */
/* What verbs read and edit: a checkpoint that this process has opened, or a mount, whose files are asked by ordinary system calls. Both
 * through the same calls, which mean what the system calls of these names mean on a mount.
 *
 * A path is a KEY: names joined by '/', from the root, which is the empty path. Every call returns 0 (or a count) or a negative errno;
 * wfctl_store_fail makes the line about it. Threads: one owner. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/bytes/buffer.h"
#include "codec/checkpoint.h"

struct wfctl_file; /* an open file of a store */

struct wfctl_entry {
	enum wf_type type;
	uint64_t ino; /* the same for two names of one file */
	uint32_t links;
	uint64_t bytes;
	bool writable;
};

enum { WFCTL_READ = 0, WFCTL_WRITE = 1, WFCTL_NEW = 2, WFCTL_EMPTY = 4 }; /* as O_WRONLY, O_CREAT | O_EXCL, O_TRUNC */

struct wfctl_store;

struct wfctl_store_calls {
	/* follow: a link at the end of the path; links before it always are */
	int (*stat)(struct wfctl_store *s, const char *path, bool follow, struct wfctl_entry *ret);
	/* each() may not edit; what it returns but 0 ends the listing and is returned */
	int (*list)(struct wfctl_store *s, const char *path,
		    int (*each)(void *ctx, const char *name, const struct wfctl_entry *e), void *ctx);
	/* the path of a directory that leads over no link */
	int (*resolve)(struct wfctl_store *s, const char *path, struct wf_buffer *ret);
	int (*readlink)(struct wfctl_store *s, const char *path, struct wf_buffer *ret);
	int (*open)(struct wfctl_store *s, const char *path, int flags, struct wfctl_file **ret);
	ssize_t (*read)(struct wfctl_file *f, uint64_t offset, void *buf, size_t len);
	/* where the bytes from an offset on stand in a file; NULL, or -ENOENT: nowhere */
	int (*locate)(struct wfctl_file *f, uint64_t offset, int *ret_fd, uint64_t *ret_offset, uint64_t *ret_len);
	int (*write)(struct wfctl_file *f, uint64_t offset, const void *buf, size_t len);
	/* all of another store's file into a new or emptied one, without reading it now; 1: not done. NULL: never */
	int (*take)(struct wfctl_file *f, struct wfctl_file *from);
	int (*close)(struct wfctl_file *f); /* content that does not fit is refused here */
	/* an attribute, of what a link leads to; wfctl_store_get knows better of user.torch.key */
	int (*get)(struct wfctl_store *s, const char *path, const char *name, struct wf_buffer *ret);
	/* user.torch.key of this name: a tie has several, and a link another one than what it leads to */
	int (*key)(struct wfctl_store *s, const char *path, struct wf_buffer *ret);
	/* the class of a key that user.torch.key does not tell whole; -ENODATA: it does. NULL: nobody knows */
	int (*key_class)(struct wfctl_store *s, const char *path, struct wf_buffer *ret);
	int (*names)(struct wfctl_store *s, const char *path, int (*each)(void *ctx, const char *name), void *ctx);
	int (*set)(struct wfctl_store *s, const char *path, const char *name, const char *value);
	int (*mkdir)(struct wfctl_store *s, const char *path);
	int (*unlink)(struct wfctl_store *s, const char *path);
	int (*rmdir)(struct wfctl_store *s, const char *path);
	/* a directory with all that is in it; NULL: entry by entry */
	int (*remove)(struct wfctl_store *s, const char *path);
	int (*rename)(struct wfctl_store *s, const char *from, const char *to, unsigned int flags);
	int (*link)(struct wfctl_store *s, const char *from, const char *to);
	int (*symlink)(struct wfctl_store *s, const char *target, const char *path);
	void (*free)(struct wfctl_store *s);
};

struct wfctl_store {
	const struct wfctl_store_calls *calls;
	char *path;               /* as it was given */
	struct wf_checkpoint *ck; /* NULL: a mount */
	bool editable;
	char reason[400]; /* why the last call was refused; empty: its errno says all */
	int reason_code;
	void *own; /* of the implementation */
};

struct wfctl_file {
	struct wfctl_store *store;
	uint32_t ino;
	struct wf_opening *opening;
	int fd;
	char *path; /* of a mount's */
};

struct wfctl_open_how {
	bool edit;         /* else for looking at it */
	bool with_pending; /* edits that wait already go along; else they are a reason not to open */
	enum wf_commit_mode commit_mode;
};

/* Opens a checkpoint. NULL after saying why. */
struct wfctl_store *wfctl_open_checkpoint(const char *path, const struct wfctl_open_how *how);
/* The mount on a path that wfctl_is_mount has found. NULL after saying why. */
struct wfctl_store *wfctl_open_mount(const char *path, bool edit);
void wfctl_store_free(
	struct wfctl_store *s); /* edits that were not committed are gone, but for those of a mount. Accepts NULL */

/* An attribute of an entry, its key that of this very name. Returns 0 or a negative errno. */
int wfctl_store_get(struct wfctl_store *s, const char *path, const char *name, struct wf_buffer *ret);

/* "wfctl: PATH: KEY: what: reason" for a call that returned code; key and what may be NULL. Returns WFCTL_FAILED. */
int wfctl_store_fail(const struct wfctl_store *s, const char *key, int code, const char *what);
