/* The hidden directory .weightfs: found by name, never listed.
 *
 *   status, summary, globals   texts, made when they are opened
 *   tensors.json               a line a tensor; where a mount can change, its size is 0 until it is open, as in /proc
 *   log                        the last lines that the daemon logged, and why calls were refused (log.c)
 *   commit, discard            any write commits the edits, or drops them; its errno says whether that worked
 *   cuda/                      how to map tensors that are on a device (cuda.c)
 *   archive/                   the container's records as they are stored (tree/archive.c)
 *   objects/                   the whole graph of objects (objects.c)
 *
 * On a read-only mount no open arrives (ops_data.c), so texts are kept from the first use on: nothing there changes
 * them, but for the log, which is made anew at each read.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "codec/bytes/buffer.h"
#include "control.h"
#include "fs.h"
#include "signals.h"

enum { NODE_ROOT, NODE_STATUS, NODE_SUMMARY, NODE_GLOBALS, NODE_TENSORS, NODE_LOG, NODE_COMMIT, NODE_DISCARD, NODE_FIXED };

static const char *const fixed_names[NODE_FIXED] = {
	"", "status", "summary", "globals", "tensors.json", "log", "commit", "discard"};

/* What is written to, and does something. */
static bool is_command(uint64_t node)
{
	return node == NODE_COMMIT || node == NODE_DISCARD;
}

/* What an open text file shows: made when it was opened, the same for every read of that handle. */
struct open_text {
	struct wf_buffer text;
	struct wf_lease *lease; /* of a file in cuda/, and of tensors.json */
	pid_t opener;
	struct open_text *next, **link; /* the kernel need not release what is open when the session ends */
};

struct fs_control {
	pthread_mutex_t lock;
	struct open_text *open;
	struct wf_buffer texts[NODE_FIXED]; /* kept on read-only mounts */
};

struct fs_control *fs_control_new(void)
{
	struct fs_control *c = calloc(1, sizeof *c);
	if (c)
		pthread_mutex_init(&c->lock, NULL);
	return c;
}

static void free_text(struct fs *fs, struct open_text *o)
{
	if (o->lease)
		wf_unshare(fs->checkpoint, o->lease);
	wf_buffer_free(&o->text);
	free(o);
}

void fs_control_free(struct fs *fs)
{
	struct fs_control *c = fs->control;
	if (!c)
		return;
	for (int i = 0; i < NODE_FIXED; i++)
		wf_buffer_free(&c->texts[i]);
	for (struct open_text *o = c->open, *next; o; o = next) {
		next = o->next;
		free_text(fs, o);
	}
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- texts ---- */

static int make_text(struct fs *fs, int node, struct wf_buffer *out)
{
	return node == NODE_STATUS    ? wf_status(fs->checkpoint, out)
	       : node == NODE_SUMMARY ? wf_summary(fs->checkpoint, out)
	       : node == NODE_GLOBALS ? wf_globals(fs->checkpoint, out)
	       : node == NODE_TENSORS ? wf_tensors_json(fs->checkpoint, out)
	       : node == NODE_LOG     ? fs_log_text(fs, out)
				      : 0;
}

/* The kept text of a read-only mount, made at the first call. The lock is held; borrowed until the mount ends. */
static int kept_text(struct fs *fs, int node, const struct wf_buffer **ret)
{
	struct wf_buffer *text = &fs->control->texts[node];
	if (node == NODE_LOG)
		wf_buffer_free(text);
	int r = text->data ? 0 : make_text(fs, node, text);
	*ret = text;
	return r;
}

static int text_size(struct fs *fs, int node, uint64_t *ret)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	const struct wf_buffer *kept;
	int r;
	if (node == NODE_TENSORS && (fs->writable || fs->options.map_location)) {
		*ret = 0; /* known when it is opened: it can be long, and a stat is to be cheap */
		return 0;
	}
	if (fs->writable) {
		r = make_text(fs, node, &text);
		*ret = text.len;
		wf_buffer_free(&text);
		return r;
	}
	pthread_mutex_lock(&fs->control->lock);
	r = kept_text(fs, node, &kept);
	*ret = kept->len;
	pthread_mutex_unlock(&fs->control->lock);
	return r;
}

/* ---- attributes ---- */

static int get_stat(struct fs *fs, fuse_ino_t ino, struct stat *ret)
{
	uint64_t node = ino - FS_CONTROL, size = 0;
	struct wf_stat root;
	if (fs_is_cuda(ino))
		return fs_cuda_stat(fs, ino, ret);
	if (fs_is_archive(ino))
		return fs_archive_stat(fs, ino, ret);
	if (fs_is_objects(ino))
		return fs_objects_stat(fs, ino, ret);
	int r = wf_getattr(fs->checkpoint, WF_ROOT, &root);
	if (r < 0)
		return r;
	root.type = node == NODE_ROOT ? WF_DIRECTORY : WF_FILE;
	root.writable = false;
	root.looks.set = 0;
	fs_stat(fs, &root, ret);
	ret->st_ino = ino;
	ret->st_mode &= ~(mode_t)0222;
	if (root.type == WF_DIRECTORY)
		return 0;
	if (is_command(node)) {
		ret->st_mode = S_IFREG | 0200;
	} else {
		r = text_size(fs, (int)node, &size);
		clock_gettime(CLOCK_REALTIME, &ret->st_mtim); /* so that cached pages of an older text are dropped */
	}
	ret->st_nlink = 1;
	ret->st_size = (off_t)size;
	ret->st_blocks = (blkcnt_t)((size + 511) / 512);
	return r;
}

static int fill(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){.ino = ino, .entry_timeout = 1.0};
	return get_stat(fs, ino, &ret->attr);
}

void fs_control_getattr(fuse_req_t req, fuse_ino_t ino)
{
	struct stat st;
	int r = get_stat(fs_of(req), ino, &st);
	if (r < 0)
		fuse_reply_err(req, fs_errno(fs_of(req), ino, r));
	else
		fuse_reply_attr(req, &st, 0);
}

/* Of a directory in .weightfs that was asked for by its handle. The trees below it do not know who is above: to find such a directory
 * again by its handle, somebody must have it open. */
static fuse_ino_t parent_of(fuse_ino_t ino)
{
	bool top = ino == FS_ARCHIVE + WF_RECORD_TOP || ino == FS_CUDA + WF_ROOT || ino < FS_ARCHIVE;
	return ino == FS_CONTROL ? FUSE_ROOT_ID : top ? FS_CONTROL : 0;
}

void fs_control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	fuse_ino_t ino = 0;
	int r = 0;
	if (!strcmp(name, "."))
		ino = parent;
	else if (!strcmp(name, ".."))
		ino = fs_is_objects(parent) ? fs_objects_parent(fs, parent) : parent_of(parent);
	else if (!fs_is_control(parent))
		ino = FS_CONTROL;
	else if (parent == FS_CONTROL) {
		for (int i = 1; i < NODE_FIXED; i++)
			if (!strcmp(name, fixed_names[i]))
				ino = FS_CONTROL + (fuse_ino_t)i;
		if (!strcmp(name, "archive"))
			ino = FS_ARCHIVE + WF_RECORD_TOP;
		if (!strcmp(name, "cuda"))
			ino = FS_CUDA + WF_ROOT;
		if (!strcmp(name, "objects"))
			ino = FS_OBJECTS;
	} else if (fs_is_cuda(parent)) {
		fs_cuda_lookup(fs, parent, name, &ino);
	} else if (fs_is_objects(parent)) {
		r = fs_objects_lookup(fs, parent, name, &ino);
	} else {
		fs_archive_lookup(fs, parent, name, &ino);
	}
	r = r < 0 ? r : ino ? fill(fs, ino, &e) : -ENOENT;
	if (r < 0)
		fuse_reply_err(req, fs_errno(fs, parent, r));
	else
		fuse_reply_entry(req, &e);
}

/* ---- directories ---- */

/* What is in .weightfs; the offset of an entry is its place from 1 on. */
static int list_fixed(struct fs_page *p, off_t off)
{
	int r = 0;
	static const char *const directories[] = {"archive", "cuda", "objects"};
	static const fuse_ino_t numbers[] = {FS_ARCHIVE + WF_RECORD_TOP, FS_CUDA + WF_ROOT, FS_OBJECTS};
	for (int i = 1; r == 0 && i < NODE_FIXED + 3; i++) {
		const char *name = i < NODE_FIXED ? fixed_names[i] : directories[i - NODE_FIXED];
		struct fuse_entry_param e;
		fuse_ino_t ino = i < NODE_FIXED ? FS_CONTROL + (fuse_ino_t)i : numbers[i - NODE_FIXED];
		if (i > off && fill(fs_of(p->req), ino, &e) == 0)
			r = fs_page_add(p, name, &e, i);
	}
	return 0;
}

void fs_control_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct fs_page p = {.req = req, .data = malloc(size), .size = size, .plus = plus};
	int r = !p.data              ? -ENOMEM
		: ino == FS_CONTROL  ? list_fixed(&p, off)
		: fs_is_cuda(ino)    ? fs_cuda_readdir(&p, ino, off)
		: fs_is_archive(ino) ? fs_archive_readdir(&p, ino, off)
		: fs_is_objects(ino) ? fs_objects_readdir(&p, ino, off)
				     : -ENOTDIR;
	if (r < 0)
		fuse_reply_err(req, fs_errno(fs_of(req), ino, r));
	else
		fuse_reply_buf(req, p.data, p.used);
	free(p.data);
}

/* ---- content ---- */

static int open_text(struct fs *fs, fuse_ino_t ino, pid_t opener, struct open_text **ret)
{
	struct open_text *o = calloc(1, sizeof *o);
	if (!o)
		return -ENOMEM;
	int r = fs_is_cuda(ino) ? wf_share(fs->checkpoint, (uint32_t)(ino - FS_CUDA), &o->text, &o->lease)
		: ino == FS_CONTROL + NODE_TENSORS ? wf_share_all(fs->checkpoint, &o->text, &o->lease)
				: make_text(fs, (int)(ino - FS_CONTROL), &o->text);
	if (r < 0) {
		free_text(fs, o);
		return r;
	}
	o->opener = opener;
	pthread_mutex_lock(&fs->control->lock);
	o->next = fs->control->open;
	o->link = &fs->control->open;
	if (o->next)
		o->next->link = &o->next;
	fs->control->open = o;
	pthread_mutex_unlock(&fs->control->lock);
	*ret = o;
	return 0;
}

void fs_control_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	uint64_t node = ino - FS_CONTROL;
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;
	fi->fh = 0;
	if (writes != is_command(node)) { /* root's opens pass the mode bits */
		fuse_reply_err(req, EACCES);
		return;
	}
	bool is_text = fs_is_cuda(ino) || (node < NODE_FIXED && !is_command(node));
	fi->direct_io = is_text || is_command(node); /* the size that stat told may be an older text's */
	if (is_text) {
		struct open_text *o = NULL;
		int r = open_text(fs, ino, fuse_req_ctx(req)->pid, &o);
		if (r < 0) {
			fuse_reply_err(req, fs_errno(fs, ino, r));
			return;
		}
		fi->fh = (uintptr_t)o;
	}
	if (fuse_reply_open(req, fi) == -ENOENT)
		fs_control_release(fs, fi);
}

void fs_control_release(struct fs *fs, struct fuse_file_info *fi)
{
	struct open_text *o = (struct open_text *)(uintptr_t)fi->fh;
	fi->fh = 0;
	if (!o)
		return;
	pthread_mutex_lock(&fs->control->lock);
	*o->link = o->next;
	if (o->next)
		o->next->link = o->link;
	pthread_mutex_unlock(&fs->control->lock);
	bool leased = o->lease;
	free_text(fs, o);
	if (leased)
		fs_signals_lease_ended(fs);
}

void fs_control_lease_holders(struct fs *fs, char *buf, size_t size)
{
	size_t n = 0;
	pthread_mutex_lock(&fs->control->lock);
	for (const struct open_text *o = fs->control->open; o && n + 16 < size; o = o->next)
		if (o->lease)
			n += (size_t)snprintf(buf + n, size - n, "%s%d", n ? ", " : "", (int)o->opener);
	pthread_mutex_unlock(&fs->control->lock);
	buf[n] = '\0';
}

/* From a copy: once the kernel has the answer, another thread may be told that the file is closed and free the text,
 * and this one is still in writev, which the sanitizers watch. */
static void reply_part(fuse_req_t req, const struct wf_buffer *text, size_t size, off_t off)
{
	size_t at = (size_t)off < text->len ? (size_t)off : text->len, rest = text->len - at;
	size_t n = rest < size ? rest : size;
	char *copy = malloc(n + 1);
	if (!copy) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (n > 0)
		memcpy(copy, text->data + at, n);
	fuse_reply_buf(req, copy, n);
	free(copy);
}

void fs_control_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	uint64_t node = ino - FS_CONTROL;
	const struct open_text *open = fi ? (const struct open_text *)(uintptr_t)fi->fh : NULL;
	const struct wf_buffer *text = open ? &open->text : NULL;
	if (text) {
		reply_part(req, text, size, off);
	} else if (fs_is_archive(ino) || fs_is_objects(ino)) {
		char *buf = malloc(size);
		ssize_t n = !buf ? -ENOMEM
			    : fs_is_objects(ino)
				    ? wf_read(fs->checkpoint, (uint32_t)ino, (uint64_t)off, buf, size)
				    : wf_record_read(fs->checkpoint, (uint32_t)(ino - FS_ARCHIVE), (uint64_t)off, buf, size);
		if (n < 0)
			fuse_reply_err(req, fs_errno(fs, ino, (int)n));
		else
			fuse_reply_buf(req, buf, (size_t)n);
		free(buf);
	} else if (node < NODE_FIXED && !is_command(node) && node != NODE_ROOT) {
		pthread_mutex_lock(&fs->control->lock);
		int r = kept_text(fs, (int)node, &text);
		if (r < 0)
			fuse_reply_err(req, fs_errno(fs, ino, r));
		else
			reply_part(req, text, size, off);
		pthread_mutex_unlock(&fs->control->lock);
	} else {
		fuse_reply_err(req, EACCES);
	}
}

static int forget_entry(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	return fs_invalidate_entry(ctx, WF_ROOT, name);
}

/* What the kernel knows of the root's names, and of everything below them, is dropped with the edits. */
static int discard(struct fs *fs, struct wf_error *err)
{
	int r = wf_readdir(fs->checkpoint, WF_ROOT, 0, forget_entry, fs);
	if (r == 0)
		r = wf_revert(fs->checkpoint, err);
	if (r == 0)
		r = wf_readdir(fs->checkpoint, WF_ROOT, 0, forget_entry, fs);
	fs_invalidate(fs, WF_ROOT, 0, 0);
	return r;
}

void fs_control_write(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *fs = fs_of(req);
	struct wf_error err = {0};
	char text[700];
	if (!is_command(ino - FS_CONTROL)) {
		fuse_reply_err(req, EACCES);
		return;
	}
	bool commits = ino == FS_CONTROL + NODE_COMMIT;
	int r = commits ? fs_commit(fs, &err) : !fs->writable ? -EROFS : discard(fs, &err);
	fs_settle(fs);
	if (r > 0) {
		fs_log(fs, LOG_WARNING, "committed, but %s", err.text);
		fuse_reply_err(req, ENOTEMPTY);
	} else if (r < 0) {
		fs_log(fs, LOG_ERR, "not %s: %s", commits ? "committed" : "discarded", wf_error_format(&err, text, sizeof text));
		fuse_reply_err(req, fs_errno(fs, ino, r));
	} else {
		fuse_reply_write(req, size);
	}
}
