/* SPDX-License-Identifier: MIT */
/* .weightfs/cuda: for every tensor on a device that other processes can map, PATH.json tells how. Holding that file open
 * is the lease that keeps the tensor's storage there.
 *
 * Its numbers are those of the tensors, and of the directories that it mirrors; 0 is the root.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/ends.h"
#include "inode.h"
#include "tree.h"

#define SUFFIX ".json"
#define BATCH 128

static uint32_t mirrored(uint64_t node)
{
	return node == 0 ? WF_ROOT : (uint32_t)node;
}

static int cuda_stat(struct fs *fs, uint64_t node, struct stat *ret)
{
	struct wf_stat st;
	int r = wf_getattr(fs->checkpoint, mirrored(node), &st);
	if (r < 0)
		return r;
	st.writable = false;
	st.nlink = 1;
	st.size_bytes = st.storage_bytes = 0; /* known when it is opened; as in /proc */
	fs_stat(fs, &st, ret);
	return 0;
}

static int cuda_lookup(struct fs *fs, uint64_t parent, const char *name, uint64_t *ret)
{
	uint32_t dir = mirrored(parent);
	char stem[NAME_MAX + 1];
	ssize_t len = wf_before_end(name, SUFFIX);
	struct wf_stat st;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	if (len > 0) {
		snprintf(stem, sizeof stem, "%.*s", (int)len, name);
		if (wf_lookup(fs->checkpoint, dir, stem, &st) == 0 && st.type == WF_FILE &&
		    wf_is_shared(fs->checkpoint, st.ino)) {
			*ret = st.ino;
			return 0;
		}
	}
	int r = wf_lookup(fs->checkpoint, dir, name, &st);
	if (r == 0 && st.type != WF_DIRECTORY)
		r = -ENOENT;
	if (r == 0)
		*ret = st.ino;
	return r;
}

static int cuda_text(struct fs *fs, uint64_t node, struct wf_buffer *out, struct wf_lease **ret_lease)
{
	return wf_share(fs->checkpoint, (uint32_t)node, out, ret_lease);
}

/* ---- directories ---- */

struct batch {
	uint32_t n;
	struct entry {
		char name[NAME_MAX + 1];
		uint64_t next;
		struct wf_stat st;
	} entries[BATCH];
};

/* Only notes: the checkpoint's lock is held. */
static int note(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	struct batch *b = ctx;
	struct entry *e = &b->entries[b->n++];
	snprintf(e->name, sizeof e->name, "%s", name);
	e->next = next;
	e->st = *st;
	return b->n == BATCH;
}

/* The name that an entry has here; false when it has none. */
static bool name_of(struct fs *fs, const struct entry *e, char *ret, size_t size)
{
	if (e->st.type == WF_DIRECTORY)
		return snprintf(ret, size, "%s", e->name) > 0;
	return e->st.type == WF_FILE && wf_is_shared(fs->checkpoint, e->st.ino) &&
	       snprintf(ret, size, "%s" SUFFIX, e->name) <= NAME_MAX;
}

static int cuda_list(struct fs *fs, uint64_t dir, uint64_t cookie, struct fs_listing *l)
{
	struct batch *b = malloc(sizeof *b);
	char name[NAME_MAX + sizeof SUFFIX];
	struct stat st;
	int r = b ? 0 : -ENOMEM;
	bool full = false;
	do {
		if (r == 0) {
			b->n = 0;
			r = wf_readdir(fs->checkpoint, mirrored(dir), cookie, note, b);
		}
		for (uint32_t i = 0; r == 0 && i < b->n && !full; i++) {
			const struct entry *e = &b->entries[i];
			cookie = e->next;
			if (name_of(fs, e, name, sizeof name) && cuda_stat(fs, e->st.ino, &st) == 0)
				full = fs_listing_add(l, name, e->st.ino, cookie, &st);
		}
	} while (r == 0 && b->n == BATCH && !full);
	free(b);
	return r;
}

const struct fs_tree fs_cuda_tree = {.stat = cuda_stat, .lookup = cuda_lookup, .list = cuda_list, .text = cuda_text};
