/* What the daemon's files share: one struct for each mount, passed as libfuse's userdata. No globals.
 *
 * Node numbers. A codec node is wf_stat's ino: 1 for the root, below 2^32, valid as long as the checkpoint is open,
 * also across commits.
 *
 * What the kernel holds, fuse_ino_t, IS the codec node for everything of the checkpoint: nothing is allocated for a
 * lookup, nothing need be forgotten, and stat shows the same number again after a remount of the same file. A handle of NFS
 * (or name_to_handle_at) is that number and a generation, which is another one when the file is another one.
 *
 * FS_CONTROL and up is the hidden directory .weightfs and what is in it (control.c): never codec nodes.
 *
 * Threads: the operations run in several; the codec locks inside.
 */
#pragma once

#include "options.h"

#include <stdatomic.h>
#include <string.h>
#include <syslog.h>

#define FS_CONTROL (1ull << 32)
#define FS_ARCHIVE (FS_CONTROL + (1ull << 31)) /* and up: .weightfs/archive and what is in it (tree/archive.c) */
#define FS_CUDA (1ull << 33) /* and up: .weightfs/cuda and what is in it (cuda.c) */
#define FS_OBJECTS (3ull << 32) /* and up: .weightfs/objects; the low half is the codec's number */
#define FS_CONTROL_NAME ".weightfs"
#define FS_TIMEOUT 86400.0 /* seconds: nothing changes but through us, and we tell the kernel */

struct fs_invalidator;
struct fs_waiting;
struct fs_was_links;
struct fs_control;
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

/* struct stat of a codec node. */
void fs_stat(const struct fs *fs, const struct wf_stat *from, struct stat *ret);
/* What the kernel is told of a codec node, whoever tells it: a node with two generations would be two files to it. */
void fs_fill_entry(const struct fs *fs, const struct wf_stat *st, double timeout, struct fuse_entry_param *ret);
void fs_reply_entry(fuse_req_t req, fuse_ino_t parent, const struct wf_stat *st);
double fs_entry_timeout(const struct fs *fs, fuse_ino_t parent); /* for how long a name there can be relied on */

/* Commits, as wf_commit; -EROFS on a read-only mount. */
int fs_commit(struct fs *fs, struct wf_error *err);

/* The operations, by family. */
void fs_ops_names(struct fuse_lowlevel_ops *ops);
void fs_ops_data(struct fuse_lowlevel_ops *ops, bool writable);
void fs_ops_attributes(struct fuse_lowlevel_ops *ops);
void fs_ops_edit(struct fuse_lowlevel_ops *ops);

/* A page of directory entries, filled for one request. */
struct fs_page {
	fuse_req_t req;
	char *data;
	size_t used, size;
	bool plus;
	double entry_timeout; /* of the checkpoint's entries */
};
/* Returns 1 when the entry does not fit any more. next: the offset that goes on after it. */
int fs_page_add(struct fs_page *p, const char *name, const struct fuse_entry_param *e, off_t next);

/* ---- control.c: .weightfs ---- */
static inline bool fs_is_control(fuse_ino_t ino)
{
	return ino >= FS_CONTROL;
}
static inline bool fs_is_archive(fuse_ino_t ino)
{
	return ino >= FS_ARCHIVE && ino < FS_CUDA;
}
static inline bool fs_is_cuda(fuse_ino_t ino)
{
	return ino >= FS_CUDA && ino < FS_OBJECTS;
}
static inline bool fs_is_objects(fuse_ino_t ino)
{
	return ino >= FS_OBJECTS;
}
/* An entry that edits do not touch: the hidden directory, or one in it. */
static inline bool fs_is_fixed(fuse_ino_t parent, const char *name)
{
	return fs_is_control(parent) || (parent == FUSE_ROOT_ID && !strcmp(name, FS_CONTROL_NAME));
}
void fs_control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_control_getattr(fuse_req_t req, fuse_ino_t ino);
void fs_control_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_control_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_control_write(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_control_release(struct fs *fs, struct fuse_file_info *fi);
/* The numbers of the processes that hold leases, for people. */
void fs_control_lease_holders(struct fs *fs, char *buf, size_t size);
void fs_control_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus);

/* ---- cuda.c: .weightfs/cuda ---- */
int fs_cuda_stat(struct fs *fs, fuse_ino_t ino, struct stat *ret);
int fs_cuda_lookup(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t *ret); /* -ENOENT */
/* Fills a page with the entries behind off. */
int fs_cuda_readdir(struct fs_page *p, fuse_ino_t ino, off_t off);

/* ---- objects.c: .weightfs/objects ---- */
/* The codec's number. -ENOMEM, -E2BIG: the tree cannot be made. */
int fs_objects_node(struct fs *fs, fuse_ino_t ino, uint32_t *ret);
fuse_ino_t fs_objects_parent(struct fs *fs, fuse_ino_t ino);
int fs_objects_stat(struct fs *fs, fuse_ino_t ino, struct stat *ret);
int fs_objects_lookup(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t *ret); /* -ENOENT */
int fs_objects_readdir(struct fs_page *p, fuse_ino_t ino, off_t off);

/* ---- tree/archive.c: .weightfs/archive ---- */
int fs_archive_stat(struct fs *fs, fuse_ino_t ino, struct stat *ret);
int fs_archive_lookup(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t *ret); /* -ENOENT */
int fs_archive_readdir(struct fs_page *p, fuse_ino_t ino, off_t off);

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
