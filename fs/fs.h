/* SPDX-License-Identifier: MIT */
/* What the daemon's files share: one struct for each mount, passed as libfuse's userdata. No globals.
 *
 * Node numbers are explained in inode.c.
 *
 * Threads: the operations run in several; the codec locks inside.
 */
#pragma once

#include "options.h"

#include <stdatomic.h>

struct fs_invalidator;
struct fs_waiting;
struct fs_was_links;
struct fs_control;
struct fs_handles;
struct fs_views;
struct fs_npy_files;
struct fs_releases;
struct fs_write_behind;
struct fs_signals;
struct fs_log_lines;

struct fs {
	struct fs_options options;
	struct wf_checkpoint *checkpoint;
	struct fuse_session *session;
	struct fs_invalidator *invalidator;
	struct fs_waiting *waiting;
	struct fs_was_links *was_links; /* NULL on a read-only mount */
	struct fs_control *control;
	/* What a line of the log calls a node of .weightfs; set by fs_control_start. */
	void (*control_path)(struct fs *fs, uint64_t ino, struct wf_buffer *out);
	struct fs_handles *handles;     /* what is open in .weightfs */
	struct fs_views *views;         /* what its safetensors files are made of */
	struct fs_npy_files *npy_files; /* those of .weightfs/npy that are open */
	struct fs_releases *releases;
	struct fs_write_behind *write_behind; /* NULL on a read-only mount */
	struct fs_signals *signals;
	struct fs_log_lines *log; /* what .weightfs/log shows */
	/* Opens a device for the codec: main.c, which alone knows them. */
	int (*open_device)(void *ctx, const char *name, struct device **ret, const char **ret_why);
	uint32_t generation; /* of node numbers, for handles that outlive the mount; never 0 */
	int beside;          /* the directory that edits and commits are written in; -1 on a read-only mount */
	char *why_read_only; /* where nobody asked for that */
	bool writable;
	bool on_terminal;               /* stderr was one at the start */
	_Atomic uint64_t preload_shown; /* bytes when the progress line was last written */
	bool to_syslog;                 /* in the background */
	_Atomic pid_t remover;          /* the task that removed something last */
	_Atomic uint64_t told[64];      /* errors.c: what the log has */
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
