/* SPDX-License-Identifier: MIT */
/* .weightfs/npy: the tree again, KEY.npy for each tensor that np.save could write. Its numbers are the codec's; the root is 0.
 *
 * A head is made for each opening and each look, which costs some hundred bytes; what a file holds follows every edit, so that the kernel
 * keeps nothing from one opening to the next. What is written is a struct wf_npy_file's until the last writer is gone (npy_files.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "codec/bytes/ends.h"
#include "errors.h"
#include "inode.h"
#include "invalidate.h"
#include "log.h"
#include "npy_files.h"
#include "tree.h"
#include "write_behind.h"

#define SUFFIX ".npy"

static uint32_t codec_node(uint64_t node)
{
	return node == 0 ? WF_ROOT : (uint32_t)node;
}

/* -ENOENT: np.save could not write it, or it is no tensor. */
static int compose(struct fs *fs, uint32_t ino, struct wf_composed **ret)
{
	int r = wf_compose_npy(fs->checkpoint, ino, ret);
	return r == -EOPNOTSUPP || r == -ENODATA ? -ENOENT : r;
}

/* -ENOENT as above. */
static int size_of(struct fs *fs, uint32_t ino, uint64_t *ret)
{
	struct wf_composed *c;
	struct wf_npy_file *written = fs_npy_hold(fs, ino);
	if (written) {
		*ret = wf_npy_size(written);
		fs_npy_drop(fs, ino);
		return 0;
	}
	int r = compose(fs, ino, &c);
	if (r == 0) {
		*ret = wf_composed_size(c);
		wf_composed_free(c);
	}
	return r;
}

static int fill(struct fs *fs, struct wf_stat *st, struct stat *ret)
{
	if (st->type == WF_FILE) {
		int r = size_of(fs, st->ino, &st->size_bytes);
		if (r < 0)
			return r;
		st->storage_bytes = st->size_bytes;
	}
	fs_stat(fs, st, ret);
	return 0;
}

static int npy_stat(struct fs *fs, uint64_t node, struct stat *ret)
{
	struct wf_stat st;
	int r = wf_getattr(fs->checkpoint, codec_node(node), &st);
	return r < 0 ? r : fill(fs, &st, ret);
}

/* The name of the tree that NAME.npy stands for; NULL: it ends otherwise. */
static const char *without_suffix(const char *name, char buf[NAME_MAX + 1])
{
	ssize_t len = wf_before_end(name, SUFFIX);
	if (len <= 0 || len > NAME_MAX)
		return NULL;
	snprintf(buf, NAME_MAX + 1, "%.*s", (int)len, name);
	return buf;
}

static int npy_lookup(struct fs *fs, uint64_t dir, const char *name, uint64_t *ret)
{
	char buf[NAME_MAX + 1];
	struct wf_stat st;
	uint64_t size;
	const char *key = without_suffix(name, buf);
	int r = key ? wf_lookup(fs->checkpoint, codec_node(dir), key, &st) : -ENOENT;
	if (r == 0)
		r = st.type == WF_FILE ? size_of(fs, st.ino, &size) : -ENOENT;
	if (r == -ENOENT) { /* a directory, whatever it is called */
		r = strlen(name) > NAME_MAX ? -ENAMETOOLONG : wf_lookup(fs->checkpoint, codec_node(dir), name, &st);
		if (r == 0 && st.type == WF_FILE)
			r = -ENOENT;
	}
	if (r == 0)
		*ret = st.ino;
	return r;
}

/* The listing runs under the checkpoint's lock, so that what it tells is looked at afterwards, some entries at a time. */
struct some {
	struct entry {
		char name[NAME_MAX + sizeof SUFFIX];
		uint64_t next;
		struct wf_stat st;
	} entries[64];
	uint32_t count;
};

static int collect(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	struct some *some = ctx;
	struct entry *e = &some->entries[some->count++];
	snprintf(e->name, sizeof e->name, "%s%s", name, st->type == WF_FILE ? SUFFIX : "");
	e->next = next;
	e->st = *st;
	return some->count == sizeof some->entries / sizeof *some->entries;
}

static int npy_list(struct fs *fs, uint64_t node, uint64_t cookie, struct fs_listing *listing)
{
	struct some some;
	do {
		some.count = 0;
		int r = wf_readdir(fs->checkpoint, codec_node(node), cookie, collect, &some);
		if (r < 0)
			return r;
		for (uint32_t i = 0; i < some.count; i++) {
			struct entry *e = &some.entries[i];
			struct stat st;
			cookie = e->next;
			if (fill(fs, &e->st, &st) == 0 &&
			    fs_listing_add(listing, e->name, e->st.ino, e->next, &st) != 0)
				return 0;
		}
	} while (some.count == sizeof some.entries / sizeof *some.entries);
	return 0;
}

static ssize_t npy_read(struct fs *fs, uint64_t node, uint64_t offset, void *buf, size_t len)
{
	struct wf_composed *c;
	uint32_t ino = codec_node(node);
	struct wf_npy_file *written = fs_npy_hold(fs, ino);
	if (written) {
		ssize_t got = wf_npy_read(written, offset, buf, len);
		fs_npy_drop(fs, ino);
		return got;
	}
	int r = compose(fs, ino, &c);
	if (r < 0)
		return r;
	ssize_t n = wf_composed_read(fs->checkpoint, c, offset, buf, len);
	wf_composed_free(c);
	return n;
}

static int npy_parent(struct fs *fs, uint64_t dir, uint64_t *ret)
{
	uint32_t parent;
	int r = wf_parent(fs->checkpoint, codec_node(dir), &parent);
	if (r == 0)
		*ret = parent == WF_ROOT ? 0 : parent;
	return r;
}

static int npy_attributes(struct fs *fs, uint64_t node, uint32_t *ret)
{
	*ret = codec_node(node);
	return 0;
}

/* ---- writing ---- */

static bool writes(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static int npy_open(struct fs *fs, uint64_t node, int flags)
{
	return fs_npy_open(fs, codec_node(node), writes(flags));
}

/* What came through a mapping after the last close is judged now, and nobody is there to be told; what a close was told of is no news. */
static void npy_release(struct fs *fs, uint64_t node, int flags)
{
	int r = fs_npy_release(fs, codec_node(node), writes(flags));
	if (r < 0 && fs_knows_reason(r))
		fs_outcome(fs, codec_node(node), "close", NULL, r);
	if (!writes(flags))
		return;
	fs_invalidate_node(fs, codec_node(node), 0, 0);
	fs_edited(fs);
}

static int npy_create(struct fs *fs, uint64_t dir, const char *name, uint64_t *ret)
{
	char buf[NAME_MAX + 1];
	struct wf_stat st;
	const char *key = without_suffix(name, buf);
	if (!key) {
		fs_note_reason(fs, -EINVAL, "a name in npy/ ends in .npy");
		return -EINVAL;
	}
	int r = fs_npy_make(fs, codec_node(dir), key, &st);
	if (r == 0)
		*ret = st.ino;
	return r;
}

static ssize_t npy_write(struct fs *fs, uint64_t node, uint64_t offset, const void *buf, size_t len)
{
	uint32_t ino = codec_node(node);
	struct wf_npy_file *f = fs_npy_hold(fs, ino);
	if (!f)
		return -EBADF;
	ssize_t n = wf_npy_write(f, offset, buf, len);
	fs_npy_drop(fs, ino);
	fs_invalidate_node(fs, ino, 0, 0); /* its elements may have changed at once */
	return n;
}

static int npy_resize(struct fs *fs, uint64_t node, uint64_t size)
{
	uint32_t ino = codec_node(node);
	struct wf_npy_file *f = fs_npy_hold(fs, ino);
	if (!f)
		return -EACCES; /* truncate(2): there is no close that would judge what comes of it */
	int r = wf_npy_resize(f, size);
	fs_npy_drop(fs, ino);
	return r;
}

static int npy_flush(struct fs *fs, uint64_t node)
{
	uint32_t ino = codec_node(node);
	struct wf_npy_file *f = fs_npy_hold(fs, ino);
	if (!f)
		return 0;
	int r = wf_npy_flush(f);
	fs_npy_drop(fs, ino);
	fs_npy_closed(fs, ino);
	fs_invalidate_node(fs, ino, 0, 0);
	fs_edited(fs);
	return r;
}

const struct fs_tree fs_npy_tree = {.stat = npy_stat,
				    .lookup = npy_lookup,
				    .list = npy_list,
				    .read = npy_read,
				    .parent = npy_parent,
				    .attributes = npy_attributes,
				    .open = npy_open,
				    .release = npy_release,
				    .create = npy_create,
				    .write = npy_write,
				    .resize = npy_resize,
				    .flush = npy_flush,
				    .follows = true};
