/* SPDX-License-Identifier: MIT */
/* .weightfs/safetensors: the directories of the tree, each with model.safetensors and model.skipped; and these two of the root in
 * .weightfs itself.
 *
 *   number   edition (22 bits) | what (2) | the codec's number (32)      of a directory the edition is 0
 *
 * An edit gives the files other numbers: the kernel keeps the pages of one number as long as it likes, and who has a file open reads on
 * what it opened.
 */
#include <errno.h>
#include <limits.h>

#include "inode.h"
#include "tree.h"
#include "views.h"

enum what { DIRECTORY, MODEL, SKIPPED };

#define WHAT_SHIFT 32
#define EDITION_SHIFT 34

static const char *const names[] = {[MODEL] = "model.safetensors", [SKIPPED] = "model.skipped"};

static uint32_t dir_of(uint64_t node)
{
	return node == 0 ? WF_ROOT : (uint32_t)node;
}

static enum what what_of(uint64_t node)
{
	return (enum what)(node >> WHAT_SHIFT & 3);
}

static uint32_t edition_of(uint64_t node)
{
	return (uint32_t)(node >> EDITION_SHIFT);
}

static uint64_t file_number(struct fs *fs, uint32_t dir, enum what what)
{
	return (uint64_t)fs_views_edition(fs) << EDITION_SHIFT | (uint64_t)what << WHAT_SHIFT | dir;
}

static int stat_file(struct fs *fs, uint64_t node, struct stat *ret)
{
	const struct fs_view *v;
	struct wf_stat st;
	int r = wf_getattr(fs->checkpoint, WF_ROOT, &st); /* times are the checkpoint's */
	if (r == 0)
		r = fs_views_get(fs, dir_of(node), edition_of(node), &v);
	if (r < 0)
		return r;
	st.type = WF_FILE;
	st.nlink = 1;
	st.looks.set = 0;
	st.size_bytes = what_of(node) == MODEL ? wf_composed_size(v->file) : wf_composed_skipped(v->file)->len;
	st.storage_bytes = st.size_bytes;
	if (v->made.tv_sec)
		st.looks.mtime = st.looks.ctime = v->made;
	fs_views_put(fs, v);
	fs_stat(fs, &st, ret);
	return 0;
}

static int safetensors_stat(struct fs *fs, uint64_t node, struct stat *ret)
{
	struct wf_stat st;
	if (what_of(node) != DIRECTORY)
		return stat_file(fs, node, ret);
	int r = wf_getattr(fs->checkpoint, dir_of(node), &st);
	if (r == 0 && st.type == WF_FILE)
		r = -ENOENT;
	if (r == 0)
		fs_stat(fs, &st, ret);
	return r;
}

static int safetensors_lookup(struct fs *fs, uint64_t dir, const char *name, uint64_t *ret)
{
	struct wf_stat st;
	for (int what = MODEL; what <= SKIPPED; what++)
		if (!strcmp(name, names[what])) {
			*ret = file_number(fs, dir_of(dir), (enum what)what);
			return 0;
		}
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	int r = wf_lookup(fs->checkpoint, dir_of(dir), name, &st);
	if (r == 0 && st.type == WF_FILE)
		r = -ENOENT;
	if (r == 0)
		*ret = st.ino;
	return r;
}

struct directories {
	struct fs *fs;
	struct fs_listing *listing;
};

static int add(void *ctx, const char *name, uint64_t next, const struct wf_stat *from)
{
	struct directories *l = ctx;
	struct stat st;
	if (from->type == WF_FILE || !strcmp(name, names[MODEL]) || !strcmp(name, names[SKIPPED]))
		return 0;
	fs_stat(l->fs, from, &st);
	return fs_listing_add(l->listing, name, from->ino, next + SKIPPED, &st);
}

/* Cookies 1 and 2 are the two files. */
static int safetensors_list(struct fs *fs, uint64_t node, uint64_t cookie, struct fs_listing *listing)
{
	struct directories l = {.fs = fs, .listing = listing};
	for (uint64_t what = cookie + 1; what <= SKIPPED; what++) {
		struct stat st;
		uint64_t file = file_number(fs, dir_of(node), (enum what)what);
		int r = stat_file(fs, file, &st);
		if (r == 0 && fs_listing_add(listing, names[what], file, what, &st) != 0)
			return 0;
	}
	return wf_readdir(fs->checkpoint, dir_of(node), cookie > SKIPPED ? cookie - SKIPPED : 0, add, &l);
}

static ssize_t safetensors_read(struct fs *fs, uint64_t node, uint64_t offset, void *buf, size_t len)
{
	const struct fs_view *v;
	int r = fs_views_get(fs, dir_of(node), edition_of(node), &v);
	if (r < 0)
		return r;
	ssize_t n;
	if (what_of(node) == MODEL) {
		n = wf_composed_read(fs->checkpoint, v->file, offset, buf, len);
	} else {
		const struct wf_buffer *text = wf_composed_skipped(v->file);
		size_t rest = offset < text->len ? text->len - (size_t)offset : 0;
		n = (ssize_t)(rest < len ? rest : len);
		if (n > 0)
			memcpy(buf, text->data + offset, (size_t)n);
	}
	fs_views_put(fs, v);
	return n;
}

static int safetensors_parent(struct fs *fs, uint64_t dir, uint64_t *ret)
{
	uint32_t parent;
	int r = wf_parent(fs->checkpoint, dir_of(dir), &parent);
	if (r == 0)
		*ret = parent == WF_ROOT ? 0 : parent;
	return r;
}

static int safetensors_open(struct fs *fs, uint64_t node, int flags)
{
	if (what_of(node) == DIRECTORY)
		return -EISDIR;
	return (flags & O_ACCMODE) != O_RDONLY ? -EACCES : fs_views_pin(fs, dir_of(node), edition_of(node));
}

static void safetensors_release(struct fs *fs, uint64_t node, int flags)
{
	fs_views_unpin(fs, dir_of(node), edition_of(node));
}

uint64_t fs_root_safetensors(struct fs *fs)
{
	return file_number(fs, wf_flat_root(fs->checkpoint), MODEL);
}

uint64_t fs_root_skipped(struct fs *fs)
{
	return file_number(fs, wf_flat_root(fs->checkpoint), SKIPPED);
}

const struct fs_tree fs_safetensors_tree = {.stat = safetensors_stat,
					    .lookup = safetensors_lookup,
					    .list = safetensors_list,
					    .read = safetensors_read,
					    .parent = safetensors_parent,
					    .open = safetensors_open,
					    .release = safetensors_release,
					    .keeps_pages = true,
					    .follows = true};
