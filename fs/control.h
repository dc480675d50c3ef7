/* SPDX-License-Identifier: MIT */
/* The hidden directory .weightfs: found by name, never listed by its parent. Requests for its nodes (fs_is_control) come here; the
 * table of its entries is in control.c.
 *
 * Calling sequence: fs_control_start once the checkpoint is open, requests from any thread, fs_control_free before it is closed. Requests
 * that change something are in control_edit.c.
 */
#pragma once

#include "fs.h"

int fs_control_start(struct fs *fs); /* with what its trees keep of open files. 0 or -ENOMEM */
void fs_control_free(struct fs *fs); /* accepts one that was never started */

/* Each answers the request. */
void fs_control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_control_getattr(fuse_req_t req, fuse_ino_t ino);
void fs_control_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus);
void fs_control_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_control_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_control_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off);
void fs_control_create(fuse_req_t req, fuse_ino_t parent, const char *name, struct fuse_file_info *fi);
void fs_control_setattr(fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set);
/* These do not. flush: of a writer's descriptor. */
int fs_control_flush(struct fs *fs, fuse_ino_t ino);
void fs_control_release(struct fs *fs, fuse_ino_t ino, struct fuse_file_info *fi);

/* What the kernel is told of a node. */
int fs_control_entry(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *ret);
/* The node of the codec whose attributes a node here has; -ENODATA: it has none. */
int fs_control_attributes(struct fs *fs, fuse_ino_t ino, uint32_t *ret);
