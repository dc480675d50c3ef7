/* SPDX-License-Identifier: MIT */
/* .weightfs/objects: the whole graph of objects, read-only. Its numbers are the codec's; the root alone is 0, for its number in the
 * codec changes with edits, and it is made when something in it is asked for. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "inode.h"
#include "tree.h"

/* -ENOMEM, -E2BIG: the tree cannot be made. */
static int objects_node(struct fs *fs, uint64_t node, uint32_t *ret)
{
	*ret = (uint32_t)node;
	return node == 0 ? wf_objects(fs->checkpoint, ret) : 0;
}

static int objects_stat(struct fs *fs, uint64_t node, struct stat *ret)
{
	struct wf_stat st;
	int r = wf_getattr(fs->checkpoint, node == 0 ? WF_ROOT : (uint32_t)node, &st);
	if (r == 0)
		fs_stat(fs, &st, ret);
	return r;
}

static int objects_lookup(struct fs *fs, uint64_t parent, const char *name, uint64_t *ret)
{
	struct wf_stat st;
	uint32_t dir;
	int r = strlen(name) > NAME_MAX ? -ENAMETOOLONG : objects_node(fs, parent, &dir);
	if (r == 0)
		r = wf_lookup(fs->checkpoint, dir, name, &st);
	if (r == 0)
		*ret = st.ino;
	return r;
}

static int objects_parent(struct fs *fs, uint64_t dir, uint64_t *ret)
{
	uint32_t parent, above;
	int r = wf_parent(fs->checkpoint, (uint32_t)dir, &parent);
	if (r < 0)
		return r;
	bool top = wf_parent(fs->checkpoint, parent, &above) == 0 && above == parent;
	*ret = top ? 0 : parent;
	return 0;
}

struct objects {
	struct fs *fs;
	struct fs_listing *listing;
};

static int add(void *ctx, const char *name, uint64_t next, const struct wf_stat *from)
{
	struct objects *l = ctx;
	struct stat st;
	fs_stat(l->fs, from, &st);
	return fs_listing_add(l->listing, name, from->ino, next, &st);
}

static int objects_list(struct fs *fs, uint64_t node, uint64_t cookie, struct fs_listing *listing)
{
	struct objects l = {.fs = fs, .listing = listing};
	uint32_t dir;
	int r = objects_node(fs, node, &dir);
	return r < 0 ? r : wf_readdir(fs->checkpoint, dir, cookie, add, &l);
}

static ssize_t objects_read(struct fs *fs, uint64_t node, uint64_t offset, void *buf, size_t len)
{
	return wf_read(fs->checkpoint, (uint32_t)node, offset, buf, len);
}

const struct fs_tree fs_objects_tree = {.stat = objects_stat,
					.lookup = objects_lookup,
					.list = objects_list,
					.read = objects_read,
					.parent = objects_parent,
					.attributes = objects_node};
