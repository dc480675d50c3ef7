/* SPDX-License-Identifier: MIT */
/* Editing: every operation is one call of the codec. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "errors.h"
#include "fs.h"
#include "inode.h"
#include "invalidate.h"
#include "ops.h"
#include "reply.h"
#include "waiting.h"
#include "was_link.h"

static void reply(fuse_req_t req, fuse_ino_t ino, const char *call, const char *name, int r)
{
	fs_settle(fs_of(req));
	fuse_reply_err(req, fs_outcome(fs_of(req), ino, call, name, r));
}

static void reply_node(fuse_req_t req, fuse_ino_t parent, const char *call, const char *name, int r,
		       const struct wf_stat *st)
{
	fs_settle(fs_of(req));
	int error = fs_outcome(fs_of(req), parent, call, name, r);
	if (error)
		fuse_reply_err(req, error);
	else
		fs_reply_entry(req, parent, st);
}

/* ---- what stat shows and no checkpoint holds ---- */

/* As chown(2): who is not root gives no file away, and it goes only to a group of his. The kernel asks that itself, but
 * only with default_permissions. */
static int check_owner(fuse_req_t req, const struct stat *now, const struct stat *attr, int to_set)
{
	const struct fuse_ctx *who = fuse_req_ctx(req);
	gid_t groups[256];
	if (who->uid == 0)
		return 0;
	if (to_set & FUSE_SET_ATTR_UID && attr->st_uid != now->st_uid)
		return -EPERM;
	if (!(to_set & FUSE_SET_ATTR_GID) || attr->st_gid == now->st_gid || attr->st_gid == who->gid)
		return 0;
	int n = fuse_req_getgroups(req, (int)(sizeof groups / sizeof *groups), groups);
	for (int i = 0; i < n && i < (int)(sizeof groups / sizeof *groups); i++)
		if (groups[i] == attr->st_gid)
			return 0;
	return -EPERM;
}

/* What a checkpoint does not hold. */
static int set_looks(fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set)
{
	struct fs *fs = fs_of(req);
	struct wf_stat st;
	struct stat now;
	struct timespec clock;
	clock_gettime(CLOCK_REALTIME, &clock);
	struct wf_looks l = {.atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? clock : attr->st_atim,
			     .mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? clock : attr->st_mtim,
			     .mode = attr->st_mode & 07777,
			     .uid = attr->st_uid,
			     .gid = attr->st_gid};
	l.set = (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW) ? WF_SET_ATIME : 0u) |
		(to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW) ? WF_SET_MTIME : 0u) |
		(to_set & FUSE_SET_ATTR_MODE ? WF_SET_MODE : 0u) | (to_set & FUSE_SET_ATTR_UID ? WF_SET_UID : 0u) |
		(to_set & FUSE_SET_ATTR_GID ? WF_SET_GID : 0u);
	if (l.set == 0)
		return 0;
	int r = wf_getattr(fs->checkpoint, (uint32_t)ino, &st);
	if (r < 0)
		return r;
	fs_stat(fs, &st, &now);
	r = check_owner(req, &now, attr, to_set);
	if (r == 0)
		r = wf_set_looks(fs->checkpoint, (uint32_t)ino, &l);
	return r < 0 ? r : wf_directory_is_dressed(fs->checkpoint, (uint32_t)ino, l.set & WF_SET_MODE);
}

/* A new entry has the mode that it was made with: tar sets none that it has asked for already. An entry that somebody else
 * than the owner makes is shown as the owner's, and stays as open as all others, or its maker could not use it. */
static void keep_mode(fuse_req_t req, mode_t mode, struct wf_stat *st)
{
	struct fs *fs = fs_of(req);
	struct stat shown;
	fs_stat(fs, st, &shown);
	uid_t who = fuse_req_ctx(req)->uid;
	st->looks.mode = mode & 07777;
	if (st->looks.mode == (shown.st_mode & 07777) || (who != 0 && who != shown.st_uid))
		return;
	st->looks.set |= WF_SET_MODE;
	struct wf_looks l = {.set = WF_SET_MODE, .mode = st->looks.mode};
	wf_set_looks(fs->checkpoint, st->ino, &l);
}

/* ---- operations ---- */

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		      unsigned int flags)
{
	struct fs *fs = fs_of(req);
	int r = fs_is_fixed(parent, name) || fs_is_fixed(new_parent, new_name)
			? -EPERM
			: wf_rename(fs->checkpoint, (uint32_t)parent, name, (uint32_t)new_parent, new_name, flags);
	reply(req, parent, "rename", name, r);
	/* the kernel moves its entry with the time that it had in the old directory; it can drop it only when it has the
	 * answer */
	if (r == 0 && !wf_names_stay(fs->checkpoint, (uint32_t)new_parent))
		fs_invalidate_entry(fs, (uint32_t)new_parent, new_name);
}

/* Removals wait for the rmdir that the same program sends: of one that has ended none comes any more. */
static void begin_removal(fuse_req_t req)
{
	struct fs *fs = fs_of(req);
	pid_t task = fuse_req_ctx(req)->pid, last = atomic_exchange(&fs->remover, task);
	if (last > 0 && last != task && kill(last, 0) < 0 && errno == ESRCH)
		wf_end_removals(fs->checkpoint);
	fs_removing_for(req);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct wf_checkpoint *ck = fs_of(req)->checkpoint;
	struct wf_stat st;
	int r = -EPERM;
	if (!fs_is_fixed(parent, name)) {
		begin_removal(req);
		r = wf_unlink(ck, (uint32_t)parent, name);
		if (r == -EISDIR && wf_lookup(ck, (uint32_t)parent, name, &st) == 0 && fs_sees_link(req, st.ino, true))
			r = wf_remove_whole(ck, (uint32_t)parent, name);
		fs_removing_for(NULL);
	}
	reply(req, parent, "unlink", name, r);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	int r = -EPERM;
	if (!fs_is_fixed(parent, name)) {
		begin_removal(req);
		r = wf_rmdir(fs_of(req)->checkpoint, (uint32_t)parent, name);
		fs_removing_for(NULL);
	}
	reply(req, parent, "rmdir", name, r);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct wf_stat st;
	int r = fs_is_fixed(parent, name) ? -EPERM : wf_mkdir(fs_of(req)->checkpoint, (uint32_t)parent, name, &st);
	if (r == 0)
		keep_mode(req, mode, &st);
	reply_node(req, parent, "mkdir", name, r, &st);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct wf_stat st;
	int r = fs_is_fixed(parent, name) || !S_ISREG(mode)
			? -EPERM
			: wf_create(fs_of(req)->checkpoint, (uint32_t)parent, name, &st);
	if (r == 0)
		keep_mode(req, mode, &st);
	reply_node(req, parent, "create", name, r, &st);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct wf_stat st;
	struct wf_opening *o = NULL;
	if (fs_is_control(parent)) {
		fs_control_create(req, parent, name, fi);
		return;
	}
	int r = fs_is_fixed(parent, name) ? -EPERM : wf_create(fs->checkpoint, (uint32_t)parent, name, &st);
	if (r == 0)
		r = wf_open_file(fs->checkpoint, st.ino, fs_access(fi), &o);
	if (r == 0)
		keep_mode(req, mode, &st);
	int error = fs_outcome(fs, parent, "create", name, r);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	struct fuse_entry_param e;
	fs_fill_entry(fs, &st, fs_entry_timeout(fs, parent), &e);
	fi->fh = (uintptr_t)o;
	fs_choose_cache(fs, st.ino, fi);
	if (fuse_reply_create(req, &e, fi) == -ENOENT)
		wf_release(fs->checkpoint, st.ino, o);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	struct wf_stat st;
	int r = fs_is_control(ino) || fs_is_fixed(new_parent, new_name)
			? -EPERM
			: wf_link(fs_of(req)->checkpoint, (uint32_t)ino, (uint32_t)new_parent, new_name, &st);
	reply_node(req, new_parent, "link", new_name, r, &st);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct wf_stat st;
	int r = fs_is_fixed(parent, name) ? -EPERM
					  : wf_symlink(fs_of(req)->checkpoint, target, (uint32_t)parent, name, &st);
	reply_node(req, parent, "symlink", name, r, &st);
}

static int set_size(struct fs *fs, fuse_ino_t ino, off_t size, const struct fuse_file_info *fi)
{
	struct wf_opening *o = fi ? (struct wf_opening *)(uintptr_t)fi->fh : NULL;
	if (size < 0)
		return -EINVAL;
	int r = wf_truncate(fs->checkpoint, (uint32_t)ino, o, (uint64_t)size);
	if (r == 0 && !o)
		fs_waiting_begins(fs);
	return r;
}

/* Sizes are edits. Times, mode and owner are no part of a checkpoint, but cp -a, rsync and tar want to find again what they
 * set: it is kept as long as the mount. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct wf_stat st;
	struct stat result;
	int r = 0;
	if (fs_is_control(ino)) {
		fs_control_setattr(req, ino, attr, to_set);
		return;
	}
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(fs, ino, attr->st_size, fi);
	if (r == 0)
		r = set_looks(req, ino, attr, to_set);
	if (r == 0)
		r = wf_getattr(fs->checkpoint, (uint32_t)ino, &st);
	fs_settle(fs);
	int error = fs_outcome(fs, ino, to_set & FUSE_SET_ATTR_SIZE ? "truncate" : "setattr", NULL, r);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	fs_stat(fs, &st, &result);
	fuse_reply_attr(req, &result, FS_TIMEOUT);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	int r = fs_is_control(ino) ? -EPERM
		: strncmp(name, "user.", 5) != 0
			? -EOPNOTSUPP
			: wf_setxattr(fs_of(req)->checkpoint, (uint32_t)ino, name, value, size, flags);
	reply(req, ino, "setxattr", name, r);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	reply(req, ino, "removexattr", name,
	      fs_is_control(ino) ? -EPERM : wf_removexattr(fs_of(req)->checkpoint, (uint32_t)ino, name));
}

void fs_ops_edit(struct fuse_lowlevel_ops *ops)
{
	ops->rename = op_rename;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->mkdir = op_mkdir;
	ops->mknod = op_mknod;
	ops->create = op_create;
	ops->link = op_link;
	ops->symlink = op_symlink;
	ops->setattr = op_setattr;
	ops->setxattr = op_setxattr;
	ops->removexattr = op_removexattr;
}
