/* SPDX-License-Identifier: MIT */
/* The one table of what is in .weightfs, and the texts and commands that are a call of the codec each. */
#include "entries.h"

#include <errno.h>

#include "inode.h"
#include "invalidate.h"
#include "log.h"
#include "npy_files.h"
#include "releases.h"
#include "tree.h"

static int text_status(struct fs *fs, struct wf_buffer *out)
{
	return wf_status(fs->checkpoint, out);
}

static int text_summary(struct fs *fs, struct wf_buffer *out)
{
	return wf_summary(fs->checkpoint, out);
}

static int text_globals(struct fs *fs, struct wf_buffer *out)
{
	return wf_globals(fs->checkpoint, out);
}

static int text_tensors(struct fs *fs, struct wf_buffer *out)
{
	return wf_tensors_json(fs->checkpoint, out);
}

static int text_entries(struct fs *fs, struct wf_buffer *out)
{
	return wf_entries_json(fs->checkpoint, out);
}

static int text_columns(struct fs *fs, struct wf_buffer *out)
{
	return wf_columns_json(fs->checkpoint, out);
}

static int share_tensors(struct fs *fs, struct wf_buffer *out, struct wf_lease **ret)
{
	return wf_share_all(fs->checkpoint, out, ret);
}

static fuse_ino_t metadata(struct fs *fs)
{
	uint32_t ino;
	return wf_metadata(fs->checkpoint, &ino) == 0 ? ino : 0;
}

static bool is_closing(struct fs *fs)
{
	return wf_is_closing(fs->checkpoint) || fs_npy_is_closing(fs);
}

static int run_commit(struct fs *fs, struct wf_error *err)
{
	if (!fs->writable)
		return wf_fail(err, -EROFS, "the mount is read-only");
	fs_wait_for_releases(fs, is_closing); /* of new files that are in it, or go */
	return wf_commit(fs->checkpoint, err);
}

static int forget_entry(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	return fs_invalidate_entry(ctx, WF_ROOT, name);
}

/* What the kernel knows of the root's names, and of everything below them, is dropped with the edits. */
static int run_discard(struct fs *fs, struct wf_error *err)
{
	if (!fs->writable)
		return wf_fail(err, -EROFS, "the mount is read-only");
	int r = wf_readdir(fs->checkpoint, WF_ROOT, 0, forget_entry, fs);
	if (r == 0)
		r = wf_revert(fs->checkpoint, err);
	if (r == 0)
		r = wf_readdir(fs->checkpoint, WF_ROOT, 0, forget_entry, fs);
	for (const struct fs_entry *e = fs_entries; e < fs_entries + FS_ENTRIES; e++)
		if (e->directory)
			fs_invalidate_entry(fs, FS_CONTROL, e->name);
	fs_invalidate_node(fs, WF_ROOT, 0, 0);
	return r;
}

/* A row is an entry. Its place here is part of its node number (inode.c) and its offset in the listing. */
const struct fs_entry fs_entries[FS_ENTRIES] = {
	{"status", .text = text_status},
	{"summary", .text = text_summary},
	{"globals", .text = text_globals},
	{"tensors.json", .text = text_tensors, .share = share_tensors, .is_long = true}, /* a line a tensor */
	{"log", .text = fs_log_text, .is_lively = true},
	{"commit", .command = run_commit, .done = "committed"},
	{"discard", .command = run_discard, .done = "discarded"},
	{"archive", .tree = &fs_archive_tree},
	{"cuda", .tree = &fs_cuda_tree},
	{"objects", .tree = &fs_objects_tree},
	{"npy", .tree = &fs_npy_tree},
	{"safetensors", .tree = &fs_safetensors_tree},
	{"model.safetensors", .tree = &fs_safetensors_tree, .node = fs_root_safetensors},
	{"model.skipped", .tree = &fs_safetensors_tree, .node = fs_root_skipped},
	{"metadata", .directory = metadata},
	{"entries.json", .text = text_entries, .is_long = true}, /* a line an entry */
	{"columns.json", .text = text_columns, .is_long = true}, /* the same, shorter */
};

const struct fs_entry *fs_entry_of(fuse_ino_t ino)
{
	uint64_t row = (ino >> FS_NODE_BITS) - 2;
	return row < FS_ENTRIES ? &fs_entries[row] : NULL;
}

uint64_t fs_entry_node(fuse_ino_t ino)
{
	return ino & (FS_CONTROL - 1);
}

fuse_ino_t fs_entry_number(const struct fs_entry *e, uint64_t node)
{
	return (uint64_t)(e - fs_entries + 2) << FS_NODE_BITS | node;
}

const struct fs_entry *fs_entry_of_tree(const struct fs_tree *tree)
{
	for (size_t i = 0; i < FS_ENTRIES; i++)
		if (fs_entries[i].tree == tree)
			return &fs_entries[i];
	return NULL;
}
