/* SPDX-License-Identifier: MIT */
/* Passes a change on to every file that shows it. */
#include "changed.h"

#include "entries.h"
#include "invalidate.h"
#include "npy_files.h"
#include "tree.h"

void fs_changed_npy(struct fs *fs, uint32_t ino)
{
	if (fs->npy_files && fs_npy_is_open(fs, ino))
		fs_invalidate_node(fs, fs_entry_number(fs_entry_of_tree(&fs_npy_tree), ino), 0, 0);
}

void fs_changed(void *ctx, uint32_t ino, uint64_t offset, uint64_t len)
{
	fs_invalidate_node(ctx, ino, offset, len);
	fs_changed_npy(ctx, ino);
}
