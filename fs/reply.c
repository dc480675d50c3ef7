/* SPDX-License-Identifier: MIT */
/* Answers that more than one family of operations gives: an entry, bytes, a page of a directory. */
#include "reply.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "errors.h"
#include "inode.h"

/* ---- the buffer of a thread ---- */

static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
	pthread_key_create(&buffer_key, free);
}

char *fs_thread_buffer(void)
{
	pthread_once(&buffer_once, make_key);
	char *buf = pthread_getspecific(buffer_key);
	if (!buf && (buf = aligned_alloc(4096, FS_READ_MAX)))
		pthread_setspecific(buffer_key, buf);
	return buf;
}

/* ---- answers ---- */

void fs_reply_entry(fuse_req_t req, fuse_ino_t parent, const struct wf_stat *st)
{
	struct fuse_entry_param e;
	fs_fill_entry(fs_of(req), st, fs_entry_timeout(fs_of(req), parent), &e);
	fuse_reply_entry(req, &e);
}

void fs_reply_bytes(fuse_req_t req, fuse_ino_t ino, const char *data, ssize_t n)
{
	if (n < 0)
		fuse_reply_err(req, fs_errno(fs_of(req), ino, (int)n));
	else
		fuse_reply_buf(req, data, (size_t)n);
}

void fs_reply_written(fuse_req_t req, fuse_ino_t ino, ssize_t n)
{
	int error = fs_outcome(fs_of(req), ino, "write", NULL, n < 0 ? (int)n : 0);
	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_write(req, (size_t)n);
}

int fs_page_begin(struct fs_page *p, fuse_req_t req, size_t size, bool plus)
{
	*p = (struct fs_page){.req = req, .data = malloc(size), .size = size, .plus = plus};
	return p->data ? 0 : -ENOMEM;
}

int fs_page_add(struct fs_page *p, const char *name, const struct fuse_entry_param *e, off_t next)
{
	size_t room = p->size - p->used;
	size_t n = p->plus ? fuse_add_direntry_plus(p->req, p->data + p->used, room, name, e, next)
			   : fuse_add_direntry(p->req, p->data + p->used, room, name, &e->attr, next);
	if (n > room)
		return 1;
	p->used += n;
	return 0;
}

void fs_page_reply(struct fs_page *p, fuse_ino_t ino, int r)
{
	fs_reply_bytes(p->req, ino, p->data, r < 0 ? r : (ssize_t)p->used);
	free(p->data);
}
