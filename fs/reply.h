/* SPDX-License-Identifier: MIT */
/* Answers to requests that more than one family of operations gives. A request is answered exactly once.
 *
 * Threads: any; a page belongs to one request.
 */
#pragma once

#include "fs.h"

/* A page-aligned buffer of FS_READ_MAX bytes, each thread's own: made at its first read and freed with it. NULL: no memory. */
#define FS_READ_MAX (1u << 20)
char *fs_thread_buffer(void);

/* A node of the codec, by a name in the directory. */
void fs_reply_entry(fuse_req_t req, fuse_ino_t parent, const struct wf_stat *st);
/* Bytes, or what the negative errno of the codec means to a caller. */
void fs_reply_bytes(fuse_req_t req, fuse_ino_t ino, const char *data, ssize_t n);
/* How many bytes were written, or that; n: bytes or a negative errno. */
void fs_reply_written(fuse_req_t req, fuse_ino_t ino, ssize_t n);

/* A page of directory entries, filled for one request: fs_page_begin, fs_page_add until it is full or all are there, fs_page_reply. */
struct fs_page {
	fuse_req_t req;
	char *data;
	size_t used, size;
	bool plus;
	double entry_timeout; /* of the checkpoint's entries */
};
/* Returns 0 or -ENOMEM; fs_page_reply in every case. */
int fs_page_begin(struct fs_page *p, fuse_req_t req, size_t size, bool plus);
/* Returns 1 when the entry does not fit any more. next: the offset that goes on after it. */
int fs_page_add(struct fs_page *p, const char *name, const struct fuse_entry_param *e, off_t next);
/* Sends the page, or the error, and frees it. */
void fs_page_reply(struct fs_page *p, fuse_ino_t ino, int r);
