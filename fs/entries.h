/* SPDX-License-Identifier: MIT */
/* What is in .weightfs: texts, commands, and trees of files. Who adds an entry adds a row to the table in entries.c; a tree brings its
 * operations along (tree.h). control.c does the rest.
 *
 * Threads: the table is constant; its functions can be called from several threads at once.
 */
#pragma once

#include "fs.h"

struct wf_lease;

/* A row has one of text, command, tree and directory. */
struct fs_entry {
	const char *name;
	/* A text: made when it is opened, and for its size. Appends it. */
	int (*text)(struct fs *fs, struct wf_buffer *out);
	/* Optional, at an open: the same with the lease that the handle holds, NULL for none. */
	int (*share)(struct fs *fs, struct wf_buffer *out, struct wf_lease **ret_lease);
	bool is_long; /* where the mount can change, its size is 0 until it is open, as in /proc: a stat is to be cheap */
	bool is_lively; /* it changes on a read-only mount, too */
	/* A command: any write runs it, and fails as it fails. Above 0: done, but err says what is left. */
	int (*command)(struct fs *fs, struct wf_error *err);
	const char *done; /* "committed", for the log */
	const struct fs_tree *tree;
	/* A directory of the codec, which is one as any other: its number; 0: the checkpoint has none, and the name is not there. */
	fuse_ino_t (*directory)(struct fs *fs);
	uint64_t (*node)(struct fs *fs); /* optional: of the tree, what the name leads to at the moment; else 0 */
};

#define FS_ENTRIES 17
extern const struct fs_entry fs_entries[FS_ENTRIES];

/* Numbers of the kernel (inode.c): the row that one belongs to, NULL for .weightfs itself or a number of no row; the node of its tree; and
 * the way back. */
const struct fs_entry *fs_entry_of(fuse_ino_t ino);
uint64_t fs_entry_node(fuse_ino_t ino);
fuse_ino_t fs_entry_number(const struct fs_entry *e, uint64_t node);
const struct fs_entry *fs_entry_of_tree(const struct fs_tree *tree); /* the first row that has it; NULL: none */
