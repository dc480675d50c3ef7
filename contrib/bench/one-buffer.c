/* SPDX-License-Identifier: MIT */
/* The least that a FUSE program can do for a reader: one file, every read answered from one buffer that is filled before the mount. What is between
 * it and the mount is the mount's own work; what is between it and a native file system, the kernel's and libfuse's.
 *
 *   one-buffer [-f] [-o OPTIONS] BYTES MOUNTPOINT       MOUNTPOINT/w has BYTES; with -o direct_io past the page cache
 *
 * With -o file=PATH each read is a pread of that file first, and an fstat, as a program has to do that does not own its bytes: what is between this
 * and the mount is the mount's own.
 */
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES (1u << 20)
#define FILE_INO 2
#define FOREVER 86400.0

struct options {
	char *bytes, *mountpoint, *path;
	int direct_io, foreground, file;
	off_t size;
	char buffer[BUFFER_BYTES];
};

static const struct fuse_opt specification[] = {{"direct_io", offsetof(struct options, direct_io), 1},
						{"file=%s", offsetof(struct options, path), 0},
						{"-f", offsetof(struct options, foreground), 1},
						FUSE_OPT_END};

static int collect(void *data, const char *arg, int key, struct fuse_args *rest)
{
	struct options *o = data;
	char **to = !o->bytes ? &o->bytes : !o->mountpoint ? &o->mountpoint : NULL;
	if (key != FUSE_OPT_KEY_NONOPT || !to)
		return 1;
	*to = strdup(arg);
	return 0;
}

static struct stat look(const struct options *o, fuse_ino_t ino)
{
	return (struct stat){.st_ino = ino,
			     .st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0555 : S_IFREG | 0444,
			     .st_nlink = 1,
			     .st_size = ino == FUSE_ROOT_ID ? 0 : o->size};
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->max_write = BUFFER_BYTES;
	conn->max_background = 64;
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.ino = FILE_INO, .attr_timeout = FOREVER, .entry_timeout = FOREVER};
	e.attr = look(fuse_req_userdata(req), FILE_INO);
	if (strcmp(name, "w") != 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = look(fuse_req_userdata(req), ino);
	fuse_reply_attr(req, &st, FOREVER);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->direct_io = ((struct options *)fuse_req_userdata(req))->direct_io != 0;
	fi->keep_cache = !fi->direct_io;
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	static _Thread_local char *own;
	struct options *o = fuse_req_userdata(req);
	off_t rest = off < o->size ? o->size - off : 0;
	size_t n = size < BUFFER_BYTES ? size : BUFFER_BYTES;
	n = (off_t)n < rest ? n : (size_t)rest;
	struct stat st;
	if (!o->path) {
		fuse_reply_buf(req, o->buffer, n);
		return;
	}
	if (!own)
		own = aligned_alloc(4096, BUFFER_BYTES);
	if (!own || pread(o->file, own, n, off) != (ssize_t)n || fstat(o->file, &st) < 0)
		fuse_reply_err(req, EIO);
	else
		fuse_reply_buf(req, own, n);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init, .lookup = op_lookup, .getattr = op_getattr, .open = op_open, .read = op_read};

static int serve(struct fuse_session *session, const struct options *o)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	if (!config || fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, o->mountpoint) != 0)
		return 1;
	fuse_daemonize(o->foreground);
	int r = fuse_session_loop_mt(session, config);
	fuse_session_unmount(session);
	fuse_loop_cfg_destroy(config);
	return r != 0;
}

int main(int argc, char **argv)
{
	static struct options o;
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	if (fuse_opt_parse(&args, &o, specification, collect) < 0 || !o.mountpoint ||
	    (o.size = (off_t)strtoll(o.bytes, NULL, 10)) <= 0) {
		fprintf(stderr, "usage: one-buffer [-f] [-o OPTIONS] BYTES MOUNTPOINT\n");
		return 2;
	}
	if (o.path && (o.file = open(o.path, O_RDONLY | O_CLOEXEC)) < 0) {
		fprintf(stderr, "one-buffer: %s: %s\n", o.path, strerror(errno));
		return 1;
	}
	memset(o.buffer, 'w', sizeof o.buffer);
	struct fuse_session *session = fuse_session_new(&args, &ops, sizeof ops, &o);
	int r = session ? serve(session, &o) : 1;
	if (session)
		fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return r;
}
