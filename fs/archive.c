/* SPDX-License-Identifier: MIT */
/* .weightfs/archive: the container's records as they are stored. Its numbers are those of the codec's tree of records. */
#include <errno.h>

#include "inode.h"
#include "tree.h"

static void fill(const struct fs *fs, const struct wf_stat *root, const struct wf_record_stat *from, struct stat *ret)
{
	struct wf_stat st = *root; /* times are the checkpoint's */
	st.type = from->directory ? WF_DIRECTORY : WF_FILE;
	st.nlink = 1;
	st.size_bytes = st.storage_bytes = from->stored_bytes;
	fs_stat(fs, &st, ret);
}

static int archive_stat(struct fs *fs, uint64_t node, struct stat *ret)
{
	struct wf_record_stat st;
	struct wf_stat root;
	int r = wf_getattr(fs->checkpoint, WF_ROOT, &root);
	if (r == 0)
		r = wf_record_stat(fs->checkpoint, (uint32_t)node, &st);
	if (r == 0)
		fill(fs, &root, &st, ret);
	return r;
}

static int archive_lookup(struct fs *fs, uint64_t dir, const char *name, uint64_t *ret)
{
	struct wf_record_stat st;
	int r = wf_record_lookup(fs->checkpoint, (uint32_t)dir, name, &st);
	if (r == 0)
		*ret = st.node;
	return r;
}

struct records {
	struct fs *fs;
	struct fs_listing *listing;
	struct wf_stat root;
};

static int add(void *ctx, const char *name, uint64_t next, const struct wf_record_stat *record)
{
	struct records *l = ctx;
	struct stat st;
	fill(l->fs, &l->root, record, &st);
	return fs_listing_add(l->listing, name, record->node, next, &st);
}

static int archive_list(struct fs *fs, uint64_t dir, uint64_t cookie, struct fs_listing *listing)
{
	struct records l = {.fs = fs, .listing = listing};
	int r = wf_getattr(fs->checkpoint, WF_ROOT, &l.root);
	return r < 0 ? r : wf_record_list(fs->checkpoint, (uint32_t)dir, cookie, add, &l);
}

static ssize_t archive_read(struct fs *fs, uint64_t node, uint64_t offset, void *buf, size_t len)
{
	return wf_record_read(fs->checkpoint, (uint32_t)node, offset, buf, len);
}

_Static_assert(WF_RECORD_TOP == 0, "0 is the entry itself");

const struct fs_tree fs_archive_tree = {
	.stat = archive_stat, .lookup = archive_lookup, .list = archive_list, .read = archive_read};
