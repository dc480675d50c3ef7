/* What the daemon's files share: one struct for each mount, passed as libfuse's userdata. No globals.
 *
 * Node numbers are explained in inode.c.
 *
 * Threads: the operations run in several; the codec locks inside.
 */
#pragma once

#include "options.h"

#include <stdatomic.h>
#include <string.h>
#include <syslog.h>

struct fs_invalidator;
struct fs_waiting;
struct fs_was_links;
struct fs_control;
struct fs_handles;
struct fs_views;
struct fs_write_behind;
struct fs_signals;
struct fs_log_lines;
struct wf_buffer;

struct fs {
	struct fs_options options;
	struct wf_checkpoint *checkpoint;
	struct fuse_session *session;
	struct fs_invalidator *invalidator;
	struct fs_waiting *waiting;
	struct fs_was_links *was_links; /* NULL on a read-only mount */
	struct fs_control *control;
	struct fs_handles *handles; /* what is open in .weightfs */
	struct fs_views *views;     /* what its safetensors files are made of */
	struct fs_write_behind *write_behind; /* NULL on a read-only mount */
	struct fs_signals *signals;
	struct fs_log_lines *log; /* what .weightfs/log shows */
	/* Opens a device for the codec: main.c, which alone knows them. */
	int (*open_device)(void *ctx, const char *name, struct device **ret, const char **ret_why);
	uint32_t generation; /* of node numbers, for handles that outlive the mount; never 0 */
	int beside;          /* the directory that edits and commits are written in; -1 on a read-only mount */
	bool writable;
	bool on_terminal;          /* stderr was one at the start */
	_Atomic uint64_t preload_shown; /* bytes when the progress line was last written */
	bool to_syslog;            /* in the background */
	_Atomic uint64_t told[64]; /* errors.c: what the log has */
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* One line for the administrator: stderr in the foreground, syslog in the background; the last ones in .weightfs/log. */
void fs_log(struct fs *fs, int priority, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* One line for who made the mount do something, in .weightfs/log alone: anybody's refused call would fill syslog. */
void fs_log_only_here(struct fs *fs, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct fs_log_lines *fs_log_new(void);
void fs_log_free(struct fs_log_lines *l);
int fs_log_text(struct fs *fs, struct wf_buffer *out);

/* What a caller gets to see for an error of the codec: the positive errno. Classes of our own become EIO, and are
 * logged. */
int fs_errno(struct fs *fs, fuse_ino_t ino, int error);
/* The same for a call that edits, with 0 (or more) for one that was done: a refused one is told in .weightfs/log with
 * its name (NULL: the node alone), its errno and the codec's reason. Once for each such call, on the thread that made it. */
int fs_outcome(struct fs *fs, fuse_ino_t ino, const char *call, const char *name, int r);
/* For struct wf_open_options.refused. */
void fs_note_reason(void *ctx, int code, const char *reason);

/* ---- was_link.c: links that became directories under the eyes of who removes them ---- */
struct fs_was_links *fs_was_links_new(void);
void fs_was_links_free(struct fs_was_links *l); /* accepts NULL */
/* Around a call of the codec that removes something; NULL: it is over. */
void fs_removing_for(fuse_req_t req);
void fs_became_directory(void *ctx, uint32_t ino); /* for struct wf_open_options */
/* Whether the caller still sees a link there; for the last time: from now on it sees the directory. */
bool fs_sees_link(fuse_req_t req, uint32_t ino, bool for_the_last_time);
/* Whether somebody sees a link there (0: anywhere): what one is shown is not for the kernel to keep for others. */
bool fs_somebody_sees_link(const struct fs *fs, uint32_t ino);
void fs_show_link(fuse_req_t req, struct wf_stat *st); /* makes it one, for such a caller */

/* The operations, by family. */
void fs_ops_names(struct fuse_lowlevel_ops *ops);
void fs_ops_data(struct fuse_lowlevel_ops *ops, bool writable);
void fs_ops_attributes(struct fuse_lowlevel_ops *ops);
void fs_ops_edit(struct fuse_lowlevel_ops *ops);

/* ---- write_behind.c: makes edits durable without being asked, from a thread of its own ---- */
int fs_write_behind_start(struct fs *fs);
void fs_write_behind_stop(struct fs *fs); /* accepts that it was never started */
void fs_edited(struct fs *fs);            /* an edit was made */

/* ---- invalidate.c: tells the kernel which cached pages are stale, from a thread of its own ---- */
/* fs->session must exist before the first change is told. */
int fs_invalidator_start(struct fs *fs);
void fs_invalidator_stop(struct fs *fs); /* accepts that it was never started */
/* For struct wf_open_options.changed: only queues. ctx is the struct fs. */
void fs_invalidate(void *ctx, uint32_t ino, uint64_t offset, uint64_t len);
/* The same for a name of a directory: whether it is there, and which node it is. Returns 0 or -ENOMEM. */
int fs_invalidate_entry(struct fs *fs, uint32_t dir, const char *name);
/* Waits until the kernel knows of the changes so far, for a moment at most. Before an edit is answered. */
void fs_settle(struct fs *fs);
void fs_settle_close(struct fs *fs); /* likewise before a close or fsync is answered, for longer */

/* ---- waiting.c: sizes that were set without an opening are judged when no write follows, by a thread of its own ---- */
int fs_waiting_start(struct fs *fs);
void fs_waiting_stop(struct fs *fs); /* accepts that it was never started */
void fs_waiting_begins(struct fs *fs);
