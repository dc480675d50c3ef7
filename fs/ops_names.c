/* SPDX-License-Identifier: MIT */
/* Looking: lookup, getattr, directories, links, statfs. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "codec/bytes/buffer.h"
#include "control.h"
#include "errors.h"
#include "fs.h"
#include "inode.h"
#include "invalidate.h"
#include "ops.h"
#include "reply.h"
#include "was_link.h"

#define FREE_ENTRIES (1u << 20) /* names that can be made: there is no limit, but df wants a number */

/* "." and "..", which the kernel asks for nodes that it has forgotten: somebody came with a handle (NFS, open_by_handle_at). What
 * has no name any more is not found. */
static void lookup_dots(fuse_req_t req, fuse_ino_t ino, bool up)
{
	struct fs *fs = fs_of(req);
	struct wf_stat st;
	uint32_t node = (uint32_t)ino;
	if (fs_is_control(ino)) {
		fs_control_lookup(req, ino, up ? ".." : ".");
		return;
	}
	int r = up ? wf_parent(fs->checkpoint, (uint32_t)ino, &node) : 0;
	if (r == 0)
		r = wf_getattr(fs->checkpoint, node, &st);
	if (r == 0 && st.nlink > 0)
		fs_reply_entry(req, node, &st);
	else
		fuse_reply_err(req, ENOENT);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct wf_stat st;
	if (!strcmp(name, ".") || !strcmp(name, "..")) {
		lookup_dots(req, parent, name[1] == '.');
		return;
	}
	if (fs_is_fixed(parent, name)) {
		fs_control_lookup(req, parent, name);
		return;
	}
	if (strlen(name) > NAME_MAX) { /* the kernel leaves that to us */
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	int r = wf_lookup(fs->checkpoint, (uint32_t)parent, name, &st);
	if (r == 0 && st.type == WF_DIRECTORY)
		fs_settle_names(fs);
	if (r == 0) {
		fs_show_link(req, &st);
		fs_reply_entry(req, parent, &st);
	} else if (r == -ENOENT) {
		/* a negative entry: what is not there does not appear but through us */
		struct fuse_entry_param e = {.entry_timeout = fs_entry_timeout(fs, parent)};
		if (wf_names_return(fs->checkpoint, (uint32_t)parent))
			e.entry_timeout = 0;
		fuse_reply_entry(req, &e);
	} else {
		fuse_reply_err(req, fs_errno(fs, parent, r));
	}
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct wf_stat st;
	struct stat attr;
	if (fs_is_control(ino)) {
		fs_control_getattr(req, ino);
		return;
	}
	int r = wf_getattr(fs->checkpoint, (uint32_t)ino, &st);
	if (r < 0) {
		fuse_reply_err(req, fs_errno(fs, ino, r));
		return;
	}
	fs_show_link(req, &st);
	fs_stat(fs, &st, &attr);
	fuse_reply_attr(req, &attr, FS_TIMEOUT);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct wf_buffer target = WF_BUFFER_INIT;
	if (fs_sees_link(req, (uint32_t)ino, true)) { /* the name, again, which is a directory by the next look */
		wf_path_of(fs_of(req)->checkpoint, (uint32_t)ino, &target);
		const char *path = target.data ? target.data : "", *slash = strrchr(path, '/');
		fuse_reply_readlink(req, slash ? slash + 1 : path);
		wf_buffer_free(&target);
		return;
	}
	int r = wf_readlink(fs_of(req)->checkpoint, (uint32_t)ino, &target);
	if (r == -ESTALE) { /* no fault: the kernel looks the name up again, when it has forgotten the link */
		fs_settle_names(fs_of(req));
		fuse_reply_err(req, ESTALE);
	} else if (r < 0)
		fuse_reply_err(req, fs_errno(fs_of(req), ino, r));
	else
		fuse_reply_readlink(req, target.data ? target.data : "");
	wf_buffer_free(&target);
}

/* ---- directories ---- */

/* Cookies 1 and 2 are "." and ".."; those of the codec follow, shifted by 2. */
static int add_node(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	struct fs_page *p = ctx;
	struct fuse_entry_param e;
	struct wf_stat shown = *st;
	fs_show_link(p->req, &shown);
	fs_fill_entry(fs_of(p->req), &shown, p->entry_timeout, &e);
	return fs_page_add(p, name, &e, (off_t)next + 2);
}

/* "." and "..": an entry with node 0 is no lookup. */
static int add_dot(struct fs_page *p, const char *name, uint32_t ino, off_t next)
{
	struct fuse_entry_param e = {.attr = {.st_ino = ino, .st_mode = S_IFDIR}};
	return fs_page_add(p, name, &e, next);
}

static void readdir_page(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct fs *fs = fs_of(req);
	if (fs_is_control(ino)) {
		fs_control_readdir(req, ino, size, off, plus);
		return;
	}
	struct fs_page p;
	uint32_t parent;
	int r = fs_page_begin(&p, req, size, plus);
	p.entry_timeout = fs_entry_timeout(fs, ino);
	if (r == 0)
		r = wf_parent(fs->checkpoint, (uint32_t)ino, &parent);
	if (r == 0 && off < 1)
		r = add_dot(&p, ".", (uint32_t)ino, 1);
	if (r == 0 && off < 2)
		r = add_dot(&p, "..", parent, 2);
	if (r == 0)
		r = wf_readdir(fs->checkpoint, (uint32_t)ino, off > 2 ? (uint64_t)off - 2 : 0, add_node, &p);
	fs_page_reply(&p, ino, r);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_page(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_page(req, ino, size, off, true);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	/* the kernel keeps a directory's listing, with the types; its own operations on it drop that again */
	struct fs *fs = fs_of(req);
	fi->cache_readdir = !fs_is_control(ino) && wf_names_stay(fs->checkpoint, (uint32_t)ino) &&
			    !wf_names_return(fs->checkpoint, (uint32_t)ino) && wf_types_stay(fs->checkpoint) &&
			    !fs_somebody_sees_link(fs, 0);
	fi->keep_cache = fi->cache_readdir;
	fuse_reply_open(req, fi);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct wf_totals totals;
	struct statvfs host, st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};
	int r = wf_totals(fs->checkpoint, &totals);
	if (r < 0) {
		fuse_reply_err(req, fs_errno(fs, ino, r));
		return;
	}
	st.f_blocks = (totals.file_bytes + st.f_frsize - 1) / st.f_frsize;
	st.f_files = totals.entries;
	/* what an edit can take is what is free beside the checkpoint */
	if (fs->writable && fstatvfs(fs->beside, &host) == 0) {
		st.f_bfree = host.f_bfree * host.f_frsize / st.f_frsize;
		st.f_bavail = host.f_bavail * host.f_frsize / st.f_frsize;
		st.f_blocks += st.f_bfree;
		st.f_ffree = st.f_favail = FREE_ENTRIES;
		st.f_files += st.f_ffree;
	}
	fuse_reply_statfs(req, &st);
}

void fs_ops_names(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->getattr = op_getattr;
	ops->readlink = op_readlink;
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->statfs = op_statfs;
}
