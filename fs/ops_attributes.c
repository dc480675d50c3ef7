/* SPDX-License-Identifier: MIT */
/* Extended attributes. */
#include <errno.h>
#include <string.h>

#include "codec/bytes/buffer.h"
#include "control.h"
#include "errors.h"
#include "fs.h"
#include "inode.h"
#include "ops.h"

static void reply(fuse_req_t req, fuse_ino_t ino, int r, const struct wf_buffer *value, size_t size)
{
	if (r < 0)
		fuse_reply_err(req, fs_errno(fs_of(req), ino, r));
	else if (size == 0)
		fuse_reply_xattr(req, value->len);
	else if (size < value->len)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value->data, value->len);
}

/* The codec's node that has attributes; -ENODATA: nothing of .weightfs but objects/ has any. */
static int subject(struct fs *fs, fuse_ino_t ino, uint32_t *ret)
{
	*ret = (uint32_t)ino;
	return fs_is_control(ino) ? fs_control_attributes(fs, ino, ret) : 0;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct wf_buffer value = WF_BUFFER_INIT;
	/* ls -l asks for security.selinux and the ACLs of every file, but no more of a device where the answer is "not supported":
	 * that saves two requests a file */
	uint32_t node;
	int r = strncmp(name, "user.", 5) != 0 ? -EOPNOTSUPP : subject(fs_of(req), ino, &node);
	if (r == 0)
		r = wf_getxattr(fs_of(req)->checkpoint, node, name, &value);
	reply(req, ino, r, &value, size);
	wf_buffer_free(&value);
}

static int collect(void *ctx, const char *name)
{
	wf_buffer_append(ctx, name, strlen(name) + 1);
	return 0;
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct wf_buffer names = WF_BUFFER_INIT;
	uint32_t node;
	int r = subject(fs_of(req), ino, &node);
	r = r == -ENODATA ? 0 : r < 0 ? r : wf_listxattr(fs_of(req)->checkpoint, node, collect, &names);
	reply(req, ino, r < 0 ? r : wf_buffer_status(&names), &names, size);
	wf_buffer_free(&names);
}

void fs_ops_attributes(struct fuse_lowlevel_ops *ops)
{
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
}
