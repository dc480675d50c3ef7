/* SPDX-License-Identifier: MIT */
/* The hidden directory .weightfs: the requests for its entries (entries.c has their table) and for what is in them.
 *
 * On a read-only mount without map_location no open arrives (ops_data.c), so texts are kept from the first use on: nothing there
 * changes them, but for the log, which is made anew at each read.
 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "entries.h"
#include "errors.h"
#include "handles.h"
#include "inode.h"
#include "npy_files.h"
#include "reply.h"
#include "signals.h"
#include "tree.h"
#include "views.h"

struct fs_control {
	pthread_mutex_t lock;
	struct wf_buffer texts[FS_ENTRIES]; /* kept on read-only mounts */
};

/* Of a tree whose nodes are those of the codec, as far as the entry; else as far as the name in .weightfs. */
static void path_of(struct fs *fs, uint64_t ino, struct wf_buffer *out)
{
	const struct fs_entry *e = fs_entry_of(ino);
	uint32_t node;
	wf_buffer_puts(out, FS_CONTROL_NAME);
	if (e)
		wf_buffer_printf(out, "/%s", e->name);
	if (fs_control_attributes(fs, ino, &node) == 0 && node != WF_ROOT) {
		wf_buffer_putc(out, '/');
		wf_path_of(fs->checkpoint, node, out);
	}
}

int fs_control_start(struct fs *fs)
{
	fs->control_path = path_of;
	fs->control = calloc(1, sizeof *fs->control);
	if (!fs->control)
		return -ENOMEM;
	pthread_mutex_init(&fs->control->lock, NULL);
	fs->handles = fs_handles_new();
	fs->views = fs_views_new();
	fs->npy_files = fs_npy_files_new();
	return fs->handles && fs->views && fs->npy_files ? 0 : -ENOMEM;
}

void fs_control_free(struct fs *fs)
{
	struct fs_control *c = fs->control;
	fs_handles_free(fs);
	fs_views_free(fs);
	fs_npy_files_free(fs);
	if (!c)
		return;
	for (size_t i = 0; i < FS_ENTRIES; i++)
		wf_buffer_free(&c->texts[i]);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- numbers ---- */

/* What the name of an entry leads to. */
static fuse_ino_t number_of_entry(struct fs *fs, const struct fs_entry *e)
{
	return e->directory ? e->directory(fs) : fs_entry_number(e, e->node ? e->node(fs) : 0);
}

static double timeout_of(const struct fs *fs, const struct fs_entry *e)
{
	return fs->writable && e && e->tree && e->tree->follows ? 0 : 1.0;
}

/* ---- texts ---- */

/* The kept text of a read-only mount, made at the first call. The lock is held; borrowed until the mount ends. */
static int kept_text(struct fs *fs, const struct fs_entry *e, const struct wf_buffer **ret)
{
	struct wf_buffer *text = &fs->control->texts[e - fs_entries];
	if (e->is_lively)
		wf_buffer_free(text);
	int r = text->data ? 0 : e->text(fs, text);
	*ret = text;
	return r;
}

static int text_size(struct fs *fs, const struct fs_entry *e, uint64_t *ret)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	const struct wf_buffer *kept;
	int r;
	if (e->is_long && (fs->writable || fs->options.map_location)) {
		*ret = 0;
		return 0;
	}
	if (fs->writable) {
		r = e->text(fs, &text);
		*ret = text.len;
		wf_buffer_free(&text);
		return r;
	}
	pthread_mutex_lock(&fs->control->lock);
	r = kept_text(fs, e, &kept);
	*ret = kept->len;
	pthread_mutex_unlock(&fs->control->lock);
	return r;
}

/* ---- attributes ---- */

/* Of .weightfs itself (NULL), a text or a command. */
static int stat_fixed(struct fs *fs, const struct fs_entry *e, struct stat *ret)
{
	struct wf_stat root;
	uint64_t size = 0;
	int r = wf_getattr(fs->checkpoint, WF_ROOT, &root);
	if (r < 0)
		return r;
	root.type = e ? WF_FILE : WF_DIRECTORY;
	root.looks.set = 0;
	fs_stat(fs, &root, ret);
	if (!e)
		return 0;
	if (e->text) {
		r = text_size(fs, e, &size);
		clock_gettime(CLOCK_REALTIME, &ret->st_mtim); /* so that cached pages of an older text are dropped */
	}
	ret->st_nlink = 1;
	ret->st_size = (off_t)size;
	ret->st_blocks = (blkcnt_t)((size + 511) / 512);
	return r;
}

static int get_stat(struct fs *fs, fuse_ino_t ino, struct stat *ret)
{
	const struct fs_entry *e = fs_entry_of(ino);
	if (!e && ino != FS_CONTROL)
		return -ENOENT;
	int r = e && e->tree ? e->tree->stat(fs, fs_entry_node(ino), ret) : stat_fixed(fs, e, ret);
	bool writable = fs->writable && e && e->tree && e->tree->write;
	if (r == 0 && !writable)
		fs_stat_read_only(ret, ino);
	ret->st_ino = ino;
	if (r == 0 && e && e->command)
		ret->st_mode = S_IFREG | 0200;
	return r;
}

int fs_control_entry(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *ret)
{
	struct wf_stat st;
	if (!fs_is_control(ino)) { /* of the codec */
		int r = wf_getattr(fs->checkpoint, (uint32_t)ino, &st);
		if (r == 0)
			fs_fill_entry(fs, &st, timeout_of(fs, NULL), ret);
		return r;
	}
	*ret = (struct fuse_entry_param){.ino = ino, .entry_timeout = timeout_of(fs, fs_entry_of(ino))};
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

int fs_control_attributes(struct fs *fs, fuse_ino_t ino, uint32_t *ret)
{
	const struct fs_entry *e = fs_entry_of(ino);
	return e && e->tree && e->tree->attributes ? e->tree->attributes(fs, fs_entry_node(ino), ret) : -ENODATA;
}

/* ---- names ---- */

static int find_parent(struct fs *fs, fuse_ino_t ino, fuse_ino_t *ret)
{
	const struct fs_entry *e = fs_entry_of(ino);
	uint64_t node;
	*ret = ino == FS_CONTROL ? FUSE_ROOT_ID : FS_CONTROL;
	if (fs_entry_node(ino) == 0)
		return 0;
	int r = e && e->tree && e->tree->parent ? e->tree->parent(fs, fs_entry_node(ino), &node) : -ENOENT;
	if (r == 0)
		*ret = fs_entry_number(e, node);
	return r;
}

static int find(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t *ret)
{
	const struct fs_entry *e = fs_entry_of(parent);
	uint64_t node;
	if (!fs_is_control(parent)) {
		*ret = FS_CONTROL;
		return 0;
	}
	if (parent == FS_CONTROL)
		for (e = fs_entries; e < fs_entries + FS_ENTRIES; e++)
			if (!strcmp(name, e->name)) {
				*ret = number_of_entry(fs, e);
				return 0;
			}
	int r = parent != FS_CONTROL && e && e->tree ? e->tree->lookup(fs, fs_entry_node(parent), name, &node)
						     : -ENOENT;
	if (r == 0)
		*ret = fs_entry_number(e, node);
	return r;
}

void fs_control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	fuse_ino_t ino = parent;
	int r = 0;
	wf_settle_removals(fs->checkpoint);
	if (!strcmp(name, ".."))
		r = find_parent(fs, parent, &ino);
	else if (strcmp(name, ".") != 0)
		r = find(fs, parent, name, &ino);
	if (r == 0)
		r = fs_control_entry(fs, ino, &e);
	if (r < 0)
		fuse_reply_err(req, fs_errno(fs, parent, r));
	else
		fuse_reply_entry(req, &e);
}

/* ---- directories ---- */

/* What is in .weightfs; the offset of an entry is its place from 1 on. */
static int list_entries(struct fs_page *p, off_t off)
{
	int r = 0;
	for (size_t i = (size_t)off; r == 0 && i < FS_ENTRIES; i++) {
		struct fuse_entry_param e;
		if (fs_control_entry(fs_of(p->req), number_of_entry(fs_of(p->req), &fs_entries[i]), &e) == 0)
			r = fs_page_add(p, fs_entries[i].name, &e, (off_t)i + 1);
	}
	return 0;
}

void fs_control_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	const struct fs_entry *e = fs_entry_of(ino);
	struct fs_page p;
	struct fs_listing l = {.page = &p,
			       .first = ino - fs_entry_node(ino),
			       .timeout = timeout_of(fs_of(req), e),
			       .writable = fs_of(req)->writable && e && e->tree && e->tree->write};
	wf_settle_removals(fs_of(req)->checkpoint);
	int r = fs_page_begin(&p, req, size, plus);
	if (r == 0 && ino == FS_CONTROL)
		r = list_entries(&p, off);
	else if (r == 0)
		r = e && e->tree ? e->tree->list(fs_of(req), fs_entry_node(ino), (uint64_t)off, &l) : -ENOTDIR;
	fs_page_reply(&p, ino, r);
}

/* ---- content ---- */

/* Makes the text of an open file. -EOPNOTSUPP: it is none, its tree reads it. */
static int open_text(struct fs *fs, fuse_ino_t ino, struct wf_buffer *out, struct wf_lease **ret_lease)
{
	const struct fs_entry *e = fs_entry_of(ino);
	*ret_lease = NULL;
	if (e->tree)
		return e->tree->text ? e->tree->text(fs, fs_entry_node(ino), out, ret_lease) : -EOPNOTSUPP;
	return e->share ? e->share(fs, out, ret_lease) : e->text(fs, out);
}

static int open_handle(fuse_req_t req, fuse_ino_t ino, uint64_t *ret)
{
	struct fs *fs = fs_of(req);
	struct wf_buffer text = WF_BUFFER_INIT;
	struct wf_lease *lease;
	int r = open_text(fs, ino, &text, &lease);
	if (r == 0)
		return fs_handle_new(fs, fuse_req_ctx(req)->pid, &text, lease, ret);
	wf_buffer_free(&text);
	*ret = 0;
	return r == -EOPNOTSUPP ? 0 : r;
}

static void open_file(fuse_req_t req, const struct fs_tree *tree, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int r = tree->open(fs_of(req), fs_entry_node(ino), fi->flags);
	if (r < 0) {
		fuse_reply_err(req, fs_errno(fs_of(req), ino, r));
		return;
	}
	fi->fh = (fi->flags & O_ACCMODE) != O_RDONLY; /* a close and an fsync do not say how it was opened */
	fi->keep_cache = tree->keeps_pages;
	if (fuse_reply_open(req, fi) == -ENOENT)
		tree->release(fs_of(req), fs_entry_node(ino), fi->flags);
}

void fs_control_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fs_entry *e = fs_entry_of(ino);
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY, command = e && e->command;
	wf_settle_removals(fs_of(req)->checkpoint);
	if (e && e->tree && e->tree->open) {
		open_file(req, e->tree, ino, fi);
		return;
	}
	if (!e || writes != command) { /* root's opens pass the mode bits */
		fuse_reply_err(req, EACCES);
		return;
	}
	fi->fh = 0;
	int r = command ? 0 : open_handle(req, ino, &fi->fh);
	if (r < 0) {
		fuse_reply_err(req, fs_errno(fs_of(req), ino, r));
		return;
	}
	fi->direct_io = command || fi->fh; /* the size that stat told may be an older text's */
	if (fuse_reply_open(req, fi) == -ENOENT)
		fs_control_release(fs_of(req), ino, fi);
}

void fs_control_release(struct fs *fs, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fs_entry *e = fs_entry_of(ino);
	if (e && e->tree && e->tree->release)
		e->tree->release(fs, fs_entry_node(ino), fi->flags);
	else if (fs_handle_release(fs, fi->fh))
		fs_signals_lease_ended(fs);
	fi->fh = 0;
}

/* From a copy: once the kernel has the answer, another thread may be told that the file is closed and free the text,
 * and this one is still in writev, which the sanitizers watch. */
static void reply_part(fuse_req_t req, const struct wf_buffer *text, size_t size, off_t off)
{
	size_t at = (size_t)off < text->len ? (size_t)off : text->len, rest = text->len - at;
	size_t most = size < FS_READ_MAX ? size : FS_READ_MAX, n = rest < most ? rest : most;
	char *copy = fs_thread_buffer();
	if (!copy) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (n > 0)
		memcpy(copy, text->data + at, n);
	fuse_reply_buf(req, copy, n);
}

static void reply_tree(fuse_req_t req, const struct fs_tree *tree, fuse_ino_t ino, size_t size, off_t off)
{
	char *buf = fs_thread_buffer();
	size_t most = size < FS_READ_MAX ? size : FS_READ_MAX;
	ssize_t n = !tree->read ? -EACCES
		    : !buf      ? -ENOMEM
				: tree->read(fs_of(req), fs_entry_node(ino), (uint64_t)off, buf, most);
	fs_reply_bytes(req, ino, buf, n);
}

void fs_control_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fs_entry *e = fs_entry_of(ino);
	bool has_handle = fi && !(e && e->tree && e->tree->open);
	const struct wf_buffer *text = has_handle ? fs_handle_text(fi->fh) : NULL;
	if (text) {
		reply_part(req, text, size, off);
	} else if (e && e->tree) {
		reply_tree(req, e->tree, ino, size, off);
	} else if (e && e->text) {
		pthread_mutex_lock(&fs->control->lock);
		int r = kept_text(fs, e, &text);
		if (r < 0)
			fuse_reply_err(req, fs_errno(fs, ino, r));
		else
			reply_part(req, text, size, off);
		pthread_mutex_unlock(&fs->control->lock);
	} else {
		fuse_reply_err(req, EACCES);
	}
}
