/* .weightfs/objects: the whole graph of objects, read-only. Node numbers: FS_OBJECTS + the codec's; FS_OBJECTS itself
 * is the root, whose number in the codec changes with edits, and which is made when something in it is asked for.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "fs.h"

int fs_objects_node(struct fs *fs, fuse_ino_t ino, uint32_t *ret)
{
	*ret = (uint32_t)ino;
	return ino == FS_OBJECTS ? wf_objects(fs->checkpoint, ret) : 0;
}

static void fill(const struct fs *fs, const struct wf_stat *from, struct stat *ret)
{
	fs_stat(fs, from, ret);
	ret->st_ino = FS_OBJECTS + from->ino;
	if (from->type != WF_SYMLINK)
		ret->st_mode &= ~(mode_t)0222;
}

int fs_objects_stat(struct fs *fs, fuse_ino_t ino, struct stat *ret)
{
	struct wf_stat st;
	bool root = ino == FS_OBJECTS;
	int r = wf_getattr(fs->checkpoint, root ? WF_ROOT : (uint32_t)ino, &st);
	if (r == 0)
		fill(fs, &st, ret);
	if (r == 0 && root)
		ret->st_ino = FS_OBJECTS;
	return r;
}

int fs_objects_lookup(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t *ret)
{
	struct wf_stat st;
	uint32_t dir;
	int r = strlen(name) > NAME_MAX ? -ENAMETOOLONG : fs_objects_node(fs, parent, &dir);
	if (r == 0)
		r = wf_lookup(fs->checkpoint, dir, name, &st);
	if (r == 0)
		*ret = FS_OBJECTS + st.ino;
	return r;
}

fuse_ino_t fs_objects_parent(struct fs *fs, fuse_ino_t ino)
{
	uint32_t parent, above;
	if (ino == FS_OBJECTS || wf_parent(fs->checkpoint, (uint32_t)ino, &parent) < 0)
		return FS_CONTROL;
	return wf_parent(fs->checkpoint, parent, &above) == 0 && above == parent ? FS_OBJECTS : FS_OBJECTS + parent;
}

static int add(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	struct fs_page *p = ctx;
	struct fuse_entry_param e = {.ino = FS_OBJECTS + st->ino, .entry_timeout = 1.0};
	fill(fs_of(p->req), st, &e.attr);
	return fs_page_add(p, name, &e, (off_t)next);
}

int fs_objects_readdir(struct fs_page *p, fuse_ino_t ino, off_t off)
{
	struct fs *fs = fs_of(p->req);
	uint32_t dir;
	int r = fs_objects_node(fs, ino, &dir);
	return r < 0 ? r : wf_readdir(fs->checkpoint, dir, (uint64_t)off, add, p);
}
