/* .weightfs/archive: the container's records as they are stored. Node numbers: FS_ARCHIVE + the codec's node. */
#include <errno.h>

#include "fs.h"

static void fill(const struct fs *fs, const struct wf_stat *root, const struct wf_record_stat *from, struct stat *ret)
{
	struct wf_stat st = *root; /* times are the checkpoint's */
	st.type = from->directory ? WF_DIRECTORY : WF_FILE;
	st.nlink = 1;
	st.size_bytes = st.storage_bytes = from->stored_bytes;
	fs_stat(fs, &st, ret);
	ret->st_ino = FS_ARCHIVE + from->node;
	ret->st_mode &= ~(mode_t)0222;
}

int fs_archive_stat(struct fs *fs, fuse_ino_t ino, struct stat *ret)
{
	struct wf_record_stat st;
	struct wf_stat root;
	int r = wf_getattr(fs->checkpoint, WF_ROOT, &root);
	if (r == 0)
		r = wf_record_stat(fs->checkpoint, (uint32_t)(ino - FS_ARCHIVE), &st);
	if (r == 0)
		fill(fs, &root, &st, ret);
	return r;
}

int fs_archive_lookup(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t *ret)
{
	struct wf_record_stat st;
	int r = wf_record_lookup(fs->checkpoint, (uint32_t)(parent - FS_ARCHIVE), name, &st);
	if (r == 0)
		*ret = FS_ARCHIVE + st.node;
	return r;
}

struct listing {
	struct fs_page *page;
	struct wf_stat root;
};

static int add(void *ctx, const char *name, uint64_t next, const struct wf_record_stat *st)
{
	struct listing *l = ctx;
	struct fuse_entry_param e = {.ino = FS_ARCHIVE + st->node, .entry_timeout = 1.0};
	fill(fs_of(l->page->req), &l->root, st, &e.attr);
	return fs_page_add(l->page, name, &e, (off_t)next);
}

int fs_archive_readdir(struct fs_page *p, fuse_ino_t ino, off_t off)
{
	struct fs *fs = fs_of(p->req);
	struct listing l = {.page = p};
	int r = wf_getattr(fs->checkpoint, WF_ROOT, &l.root);
	return r < 0 ? r : wf_record_list(fs->checkpoint, (uint32_t)(ino - FS_ARCHIVE), (uint64_t)off, add, &l);
}
