/* The hidden directory .weightfs: found by name, never listed by its parent. Requests for its nodes (fs_is_control) come here; the
 * table of its entries is in control.c.
 *
 * Calling sequence: fs_control_new once the checkpoint is open, requests from any thread, fs_control_free before it is closed. Open
 * texts are in handles.h, which has to outlive the requests.
 */
#pragma once

#include "fs.h"

struct fs_control *fs_control_new(void); /* NULL: out of memory */
void fs_control_free(struct fs *fs);     /* accepts that there is none */

/* Each answers the request. */
void fs_control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_control_getattr(fuse_req_t req, fuse_ino_t ino);
void fs_control_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus);
void fs_control_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_control_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_control_write(fuse_req_t req, fuse_ino_t ino, size_t size);
/* This one does not. */
void fs_control_release(struct fs *fs, fuse_ino_t ino, struct fuse_file_info *fi);

/* The node of the codec whose attributes a node here has; -ENODATA: it has none. */
int fs_control_attributes(struct fs *fs, fuse_ino_t ino, uint32_t *ret);
