/* SPDX-License-Identifier: MIT */
/* A tree of files below one entry of .weightfs: archive/, cuda/, objects/, safetensors/, npy/.
 *
 * control.c has the one table of the entries. Who adds one writes its operations in a file of its own, declares them at the end of
 * this header, and adds a row to that table: name and tree. Lookups, pages of directories, open handles, node numbers as the kernel
 * sees them and the answers to requests are control.c's.
 *
 * A tree numbers its nodes as it likes, below 2^FS_NODE_BITS (inode.h). 0 is the entry itself: as a rule a directory, and it may be a
 * file. A number has to lead back to the node by itself, for nothing is kept of it between two requests.
 *
 * All operations return 0 or more, or a negative errno; what they report is written on success alone.
 *
 * Threads: every operation can be called from several at once. The callbacks of the codec's listings run under the checkpoint's lock,
 * so that fs_listing_add calls nothing of the codec.
 */
#pragma once

#include "fs.h"

struct fs_page;
struct wf_lease;

/* What a directory is listed into. */
struct fs_listing {
	struct fs_page *page;
	fuse_ino_t first; /* the number of the entry itself */
	double timeout;   /* for how many seconds a name can be relied on */
	bool writable;
};
/* Returns 0, or 1 when the page is full: `list` ends then and returns 0. next: the cookie that goes on after this entry, above 0. */
int fs_listing_add(struct fs_listing *l, const char *name, uint64_t node, uint64_t next, const struct stat *st);

struct fs_tree {
	/* st_ino and the bits for writing are set by the caller. */
	int (*stat)(struct fs *fs, uint64_t node, struct stat *ret);
	/* -ENOENT. A name may be longer than NAME_MAX. */
	int (*lookup)(struct fs *fs, uint64_t dir, const char *name, uint64_t *ret);
	/* Adds the entries behind the cookie (0: all of them). */
	int (*list)(struct fs *fs, uint64_t dir, uint64_t cookie, struct fs_listing *l);
	/* Of a file that is no text. Returns the bytes read, short only at its end. */
	ssize_t (*read)(struct fs *fs, uint64_t node, uint64_t offset, void *buf, size_t len);
	/* Optional: the file is a text, made when it is opened and the same for every read of that handle. Appends it, and leaves the
	 * lease that the handle holds, NULL for none. -EOPNOTSUPP: this file is none, `read` reads it. */
	int (*text)(struct fs *fs, uint64_t node, struct wf_buffer *out, struct wf_lease **ret_lease);
	/* Optional: the directory above one that is not the entry itself, which who comes with a handle (NFS) asks for. Without it such
	 * a directory is only found again as long as somebody has it open. */
	int (*parent)(struct fs *fs, uint64_t dir, uint64_t *ret);
	/* Optional, for files that are no texts: told of each opening (flags as open(2) has them), and of its end. Who looks at the table of
	 * openings finds the file by its number; on a read-only mount none is told. */
	int (*open)(struct fs *fs, uint64_t node, int flags);
	void (*release)(struct fs *fs, uint64_t node, int flags);
	/* Optional, all or none: files that can be written on a writable mount. create makes one of a name that is not there and opens it for
	 * writing; flush is a writer's close, or its fsync. */
	int (*create)(struct fs *fs, uint64_t dir, const char *name, uint64_t *ret);
	ssize_t (*write)(struct fs *fs, uint64_t node, uint64_t offset, const void *buf, size_t len);
	int (*resize)(struct fs *fs, uint64_t node, uint64_t size);
	int (*flush)(struct fs *fs, uint64_t node);
	bool keeps_pages; /* the number of a file stands for its bytes: what the kernel has read it may keep */
	bool follows;     /* after an edit a name leads to another number: the kernel asks each time */
	/* Optional: the node of the codec whose attributes these are. */
	int (*attributes)(struct fs *fs, uint64_t node, uint32_t *ret);
};

/* Makes a stat one of a node of .weightfs: its number, and nobody writes it. */
void fs_stat_read_only(struct stat *st, fuse_ino_t ino);

extern const struct fs_tree fs_archive_tree;     /* archive.c: the container's records as they are stored */
extern const struct fs_tree fs_cuda_tree;        /* cuda.c: how to map tensors that are on a device */
extern const struct fs_tree fs_objects_tree;     /* objects.c: the whole graph of objects */
extern const struct fs_tree fs_safetensors_tree; /* safetensors.c: the tensors of each mapping in one file */
extern const struct fs_tree fs_npy_tree;         /* npy.c: each tensor as np.save writes it */
/* The nodes in safetensors/ that .weightfs/model.safetensors and model.skipped are. */
uint64_t fs_root_safetensors(struct fs *fs);
uint64_t fs_root_skipped(struct fs *fs);
