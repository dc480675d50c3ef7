/* SPDX-License-Identifier: MIT */
/* The requests that change something in .weightfs: its commands, and files of trees that can be written. */
#include <errno.h>
#include <fcntl.h>

#include "control.h"
#include "entries.h"
#include "errors.h"
#include "inode.h"
#include "invalidate.h"
#include "log.h"
#include "releases.h"
#include "reply.h"
#include "tree.h"
#include "write_behind.h"

static void run_command(fuse_req_t req, const struct fs_entry *e, fuse_ino_t ino, size_t size)
{
	struct fs *fs = fs_of(req);
	struct wf_error err = {0};
	char text[700];
	int r = fs_do_after_releases(fs, e->command, &err);
	fs_settle(fs);
	if (r > 0) {
		fs_log(fs, LOG_WARNING, "%s, but %s", e->done, err.text);
		fuse_reply_err(req, ENOTEMPTY);
	} else if (r < 0) {
		fs_log(fs, LOG_ERR, "not %s: %s", e->done, wf_error_format(&err, text, sizeof text));
		fuse_reply_err(req, fs_errno(fs, ino, r));
	} else {
		fuse_reply_write(req, size);
	}
}

void fs_control_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off)
{
	struct fs *fs = fs_of(req);
	const struct fs_entry *e = fs_entry_of(ino);
	if (e && e->command) {
		run_command(req, e, ino, size);
		return;
	}
	ssize_t n = e && e->tree && e->tree->write ? e->tree->write(fs, fs_entry_node(ino), (uint64_t)off, buf, size)
						   : -EACCES;
	fs_settle(fs);
	fs_reply_written(req, ino, n);
}

void fs_control_create(fuse_req_t req, fuse_ino_t parent, const char *name, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fs_entry *e = fs_entry_of(parent);
	struct fuse_entry_param made;
	uint64_t node;
	int r = e && e->tree && e->tree->create ? e->tree->create(fs, fs_entry_node(parent), name, &node) : -EPERM;
	if (r == 0 && (r = fs_control_entry(fs, fs_entry_number(e, node), &made)) < 0)
		e->tree->release(fs, node, fi->flags | O_WRONLY);
	fs_settle(fs);
	int error = fs_outcome(fs, parent, "create", name, r);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	/* the entry is open for writing in any case */
	fi->flags = (fi->flags & ~O_ACCMODE) | O_RDWR;
	fi->fh = 1; /* as in an opening for writing */
	if (fuse_reply_create(req, &made, fi) == -ENOENT)
		e->tree->release(fs, node, fi->flags);
}

void fs_control_setattr(fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set)
{
	struct fs *fs = fs_of(req);
	const struct fs_entry *e = fs_entry_of(ino);
	int r = 0;
	/* > .weightfs/commit truncates first; times and modes are not kept here */
	if (to_set & FUSE_SET_ATTR_SIZE && e && e->tree)
		r = e->tree->resize ? e->tree->resize(fs, fs_entry_node(ino), (uint64_t)attr->st_size) : -EACCES;
	fs_settle(fs);
	int error = fs_outcome(fs, ino, "truncate", NULL, r);
	if (error)
		fuse_reply_err(req, error);
	else
		fs_control_getattr(req, ino);
}

int fs_control_flush(struct fs *fs, fuse_ino_t ino)
{
	const struct fs_entry *e = fs_entry_of(ino);
	return e && e->tree && e->tree->flush ? e->tree->flush(fs, fs_entry_node(ino)) : 0;
}
