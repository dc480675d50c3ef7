/* SPDX-License-Identifier: MIT */
/* The operations of libfuse's low-level interface, by family. Each takes its arguments apart, makes one call of the codec and sends one
 * reply; what is in .weightfs goes to control.h.
 *
 * Threads: libfuse calls them from several.
 */
#pragma once

#include "fs.h"

enum wf_access fs_access(const struct fuse_file_info *fi); /* how a file is opened or made */

void fs_ops_names(struct fuse_lowlevel_ops *ops); /* looking: lookup, getattr, directories, links, statfs */
void fs_ops_data(struct fuse_lowlevel_ops *ops, bool writable); /* open, read, write, flush, fsync */
void fs_ops_attributes(struct fuse_lowlevel_ops *ops);          /* reading extended attributes */
void fs_ops_edit(struct fuse_lowlevel_ops *ops);                /* everything else that edits; of a writable mount */
