/* .weightfs/npy: the tree again, KEY.npy for each tensor that np.save could write. Its numbers are the codec's; the root is 0.
 *
 * A head is made for each opening and each look, which costs some hundred bytes; what a file holds follows every edit, so that the kernel
 * keeps nothing from one opening to the next.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "inode.h"
#include "tree.h"

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

static int fill(struct fs *fs, struct wf_stat *st, struct stat *ret)
{
	struct wf_composed *c;
	if (st->type == WF_FILE) {
		int r = compose(fs, st->ino, &c);
		if (r < 0)
			return r;
		st->size_bytes = st->storage_bytes = wf_composed_size(c);
		wf_composed_free(c);
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
	size_t len = strlen(name), suffix = strlen(SUFFIX);
	if (len <= suffix || strcmp(name + len - suffix, SUFFIX) != 0)
		return NULL;
	snprintf(buf, NAME_MAX + 1, "%.*s", (int)(len - suffix), name);
	return len - suffix > NAME_MAX ? NULL : buf;
}

static int npy_lookup(struct fs *fs, uint64_t dir, const char *name, uint64_t *ret)
{
	char buf[NAME_MAX + 1];
	struct wf_stat st;
	struct wf_composed *c;
	const char *key = without_suffix(name, buf);
	int r = key ? wf_lookup(fs->checkpoint, codec_node(dir), key, &st) : -ENOENT;
	if (r == 0)
		r = st.type == WF_FILE ? compose(fs, st.ino, &c) : -ENOENT;
	if (r == 0) {
		wf_composed_free(c);
	} else if (r == -ENOENT) { /* a directory, whatever it is called */
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
			if (fill(fs, &e->st, &st) == 0 && fs_listing_add(listing, e->name, e->st.ino, e->next, &st) != 0)
				return 0;
		}
	} while (some.count == sizeof some.entries / sizeof *some.entries);
	return 0;
}

static ssize_t npy_read(struct fs *fs, uint64_t node, uint64_t offset, void *buf, size_t len)
{
	struct wf_composed *c;
	int r = compose(fs, codec_node(node), &c);
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

const struct fs_tree fs_npy_tree = {.stat = npy_stat,
				    .lookup = npy_lookup,
				    .list = npy_list,
				    .read = npy_read,
				    .parent = npy_parent,
				    .attributes = npy_attributes,
				    .follows = true};
