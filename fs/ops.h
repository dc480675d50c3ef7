/* SPDX-License-Identifier: MIT */
/* The operations of libfuse's low-level interface, by family. Each takes its arguments apart, makes one call of the codec and sends one
 * reply; what is in .weightfs goes to control.h.
 *
 * Threads: libfuse calls them from several.
 */
#pragma once

#include "fs.h"

enum wf_access fs_access(const struct fuse_file_info *fi); /* how a file is opened or made */

/* Whether reads and writes of an opening go through the kernel's cache. */
void fs_choose_cache(struct fs *fs, fuse_ino_t ino, struct fuse_file_info *fi);

void fs_ops_start(struct fuse_lowlevel_ops *ops); /* init */
void fs_ops_names(struct fuse_lowlevel_ops *ops); /* looking: lookup, getattr, directories, links, statfs */
void fs_ops_data(struct fuse_lowlevel_ops *ops, bool writable); /* open, read, write, flush, fsync */
void fs_ops_attributes(struct fuse_lowlevel_ops *ops);          /* reading extended attributes */
void fs_ops_edit(struct fuse_lowlevel_ops *ops);                /* everything else that edits; of a writable mount */
