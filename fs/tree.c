/* SPDX-License-Identifier: MIT */
/* What the trees of .weightfs have in common: how a node of theirs is shown. */
#include "tree.h"

#include "reply.h"

void fs_stat_read_only(struct stat *st, fuse_ino_t ino)
{
	st->st_ino = ino;
	if (!S_ISLNK(st->st_mode))
		st->st_mode &= ~(mode_t)0222;
}

int fs_listing_add(struct fs_listing *l, const char *name, uint64_t node, uint64_t next, const struct stat *st)
{
	struct fuse_entry_param e = {.ino = l->first + node, .entry_timeout = l->timeout, .attr = *st};
	e.attr.st_ino = e.ino;
	if (!l->writable)
		fs_stat_read_only(&e.attr, e.ino);
	return fs_page_add(l->page, name, &e, (off_t)next);
}
