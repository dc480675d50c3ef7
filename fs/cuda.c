/* .weightfs/cuda: for every tensor on a device that other processes can map, PATH.json tells how. Holding that file open
 * is the lease that keeps the tensor's storage there.
 *
 * Node numbers: FS_CUDA + the number of the tensor or of the directory that it mirrors.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs.h"

#define SUFFIX ".json"
#define BATCH 128

int fs_cuda_stat(struct fs *fs, fuse_ino_t ino, struct stat *ret)
{
	struct wf_stat st;
	int r = wf_getattr(fs->checkpoint, (uint32_t)(ino - FS_CUDA), &st);
	if (r < 0)
		return r;
	st.writable = false;
	st.nlink = 1;
	st.size_bytes = st.storage_bytes = 0; /* known when it is opened; as in /proc */
	fs_stat(fs, &st, ret);
	ret->st_ino = ino;
	ret->st_mode &= ~(mode_t)0222;
	return 0;
}

int fs_cuda_lookup(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t *ret)
{
	uint32_t dir = (uint32_t)(parent - FS_CUDA);
	char stem[NAME_MAX + 1];
	size_t len = strlen(name), suffix = strlen(SUFFIX);
	struct wf_stat st;
	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	if (len > suffix && !strcmp(name + len - suffix, SUFFIX)) {
		snprintf(stem, sizeof stem, "%.*s", (int)(len - suffix), name);
		if (wf_lookup(fs->checkpoint, dir, stem, &st) == 0 && st.type == WF_FILE &&
		    wf_is_shared(fs->checkpoint, st.ino)) {
			*ret = FS_CUDA + st.ino;
			return 0;
		}
	}
	int r = wf_lookup(fs->checkpoint, dir, name, &st);
	if (r == 0 && st.type != WF_DIRECTORY)
		r = -ENOENT;
	if (r == 0)
		*ret = FS_CUDA + st.ino;
	return r;
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

int fs_cuda_readdir(struct fs_page *p, fuse_ino_t ino, off_t off)
{
	struct fs *fs = fs_of(p->req);
	struct batch *b = malloc(sizeof *b);
	char name[NAME_MAX + sizeof SUFFIX];
	uint64_t cookie = (uint64_t)off;
	int r = b ? 0 : -ENOMEM;
	bool full = false;
	do {
		if (r == 0) {
			b->n = 0;
			r = wf_readdir(fs->checkpoint, (uint32_t)(ino - FS_CUDA), cookie, note, b);
		}
		for (uint32_t i = 0; r == 0 && i < b->n && !full; i++) {
			struct fuse_entry_param e = {.ino = FS_CUDA + b->entries[i].st.ino, .entry_timeout = 1.0};
			cookie = b->entries[i].next;
			if (name_of(fs, &b->entries[i], name, sizeof name) && fs_cuda_stat(fs, e.ino, &e.attr) == 0)
				full = fs_page_add(p, name, &e, (off_t)cookie);
		}
	} while (r == 0 && b->n == BATCH && !full);
	free(b);
	return r;
}
