/* Editing: every operation is one call of the codec. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs.h"

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

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	reply(req, parent, "unlink", name,
	      fs_is_fixed(parent, name) ? -EPERM : wf_unlink(fs_of(req)->checkpoint, (uint32_t)parent, name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	reply(req, parent, "rmdir", name,
	      fs_is_fixed(parent, name) ? -EPERM : wf_rmdir(fs_of(req)->checkpoint, (uint32_t)parent, name));
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct wf_stat st;
	int r = fs_is_fixed(parent, name) ? -EPERM : wf_mkdir(fs_of(req)->checkpoint, (uint32_t)parent, name, &st);
	reply_node(req, parent, "mkdir", name, r, &st);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct wf_stat st;
	int r = fs_is_fixed(parent, name) || !S_ISREG(mode)
			? -EPERM
			: wf_create(fs_of(req)->checkpoint, (uint32_t)parent, name, &st);
	reply_node(req, parent, "create", name, r, &st);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct wf_stat st;
	bool writing = (fi->flags & O_ACCMODE) != O_RDONLY;
	int r = fs_is_fixed(parent, name) ? -EPERM : wf_create(fs->checkpoint, (uint32_t)parent, name, &st);
	if (r == 0)
		r = wf_open_file(fs->checkpoint, st.ino, writing);
	int error = fs_outcome(fs, parent, "create", name, r);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	struct fuse_entry_param e = {
		.ino = st.ino, .entry_timeout = fs_entry_timeout(fs, parent), .attr_timeout = FS_TIMEOUT};
	fs_stat(fs, &st, &e.attr);
	fi->keep_cache = 1;
	if (fuse_reply_create(req, &e, fi) == -ENOENT)
		wf_release(fs->checkpoint, st.ino, writing);
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

/* Sizes are edits. Owner, mode and times belong to the checkpoint as a whole: setting them is accepted and does
 * nothing, so that cp -a, tar and editors do not complain about every file. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct wf_stat st;
	struct stat result;
	int r = 0;
	if (fs_is_control(ino)) { /* > .weightfs/commit truncates first */
		fs_control_getattr(req, ino);
		return;
	}
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = attr->st_size < 0 ? -EINVAL : wf_truncate(fs->checkpoint, (uint32_t)ino, (uint64_t)attr->st_size);
	if (r == 0)
		r = wf_getattr(fs->checkpoint, (uint32_t)ino, &st);
	fs_settle(fs);
	int error = fs_outcome(fs, ino, "truncate", NULL, r);
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
