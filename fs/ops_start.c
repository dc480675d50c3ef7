/* SPDX-License-Identifier: MIT */
/* What is agreed with the kernel before the first request. */
#include "log.h"
#include "ops.h"

/* Without the kernel's word files that are opened past the page cache cannot be mapped shared: mmap(2) says ENODEV and nothing more. */
static void allow_mapping(struct fs *fs, struct fuse_conn_info *conn)
{
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP
	if (conn->capable & FUSE_CAP_DIRECT_IO_ALLOW_MMAP) {
		conn->want |= FUSE_CAP_DIRECT_IO_ALLOW_MMAP;
		return;
	}
	const char *why = "the kernel does not allow it before Linux 6.6";
#else
	const char *why = "it takes libfuse 3.17 and Linux 6.6, and this program was built with an older libfuse";
#endif
	fs_log_only_here(
		fs,
		"direct_io: shared mappings of tensor files fail with ENODEV (No such device): %s; private mappings, and those of .weightfs, work",
		why);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;
	/* where a link points to changes with the names of the directories on the way */
	if (!fs->writable)
		conn->want |= conn->capable & FUSE_CAP_CACHE_SYMLINKS;
	/* always readdirplus: the kernel's own guess (AUTO) makes a find six times slower */
	conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_EXPORT_SUPPORT);
	conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO;
	/* an open with O_TRUNC comes as an open and a truncation: one way for both */
	conn->want &= ~(unsigned)FUSE_CAP_ATOMIC_O_TRUNC;
	/* answers come from memory of ours: splicing them through a pipe is half as fast */
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	if (!fs->writable && !fs->options.map_location && !fs->options.direct_io)
		conn->want |= conn->capable & (FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT);
	if (fs->options.direct_io)
		allow_mapping(fs, conn);
	conn->max_write = 1 << 20;
	conn->max_read = 0;
	conn->max_background = 64;
}

void fs_ops_start(struct fuse_lowlevel_ops *ops)
{
	ops->init = op_init;
}
