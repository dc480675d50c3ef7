/* SPDX-License-Identifier: MIT */
/* Turns nodes of the codec into what the kernel is told of them: number, generation, times, mode, and for how long it holds.
 *
 * A node has three identifiers, and who mixes them up serves another file's bytes:
 *
 *   the codec's number    wf_stat's ino: 1 for the root, below 2^32. It stays the same file as long as the checkpoint is open, also
 *                         across renames and commits. Opened again without edits that waited, the same file gives the same numbers.
 *   the kernel's number   fuse_ino_t, 64 bits. The high bits say whose number the low FS_NODE_BITS are:
 *
 *                           high bits   low bits
 *                           0           the codec's number: everything of the checkpoint
 *                           1           0: the hidden directory .weightfs itself (FS_CONTROL)
 *                           2 + row     an entry of .weightfs by its row in the table of control.c; 0 is the entry itself, other
 *                                       numbers are what its tree makes of them (tree.h)
 *
 *   st_ino                what stat(2) shows: the kernel's number again. A tie is one node under two names, so that both show it.
 *
 * So a number needs no table: it is taken apart where it arrives. A lookup allocates nothing, there are no lookup counts, and a
 * forget has nothing to do, which is why the daemon has no such operation.
 *
 * The generation goes with the number into a handle of NFS or name_to_handle_at, which outlives the mount. wf_generation is another
 * one when the file is another one, or when edits waited: such a handle is then stale, rather than a different tensor. Every answer
 * that tells a node of the codec goes through fs_fill_entry, because the same number with two generations would be two files to the
 * kernel. The root always has generation 0: the kernel makes that node by itself.
 *
 * For how long the kernel may keep what it was told: nothing changes but through the mount, and the daemon tells the kernel of changes
 * that it did not ask for (invalidate.c), so that FS_TIMEOUT is a day. Names get less where they can change without an edit of that
 * very name: positions of a list, which a commit numbers anew (wf_names_stay); links, which become the directory when its other name
 * is removed (was_link.c). What is in .weightfs is asked for anew each second.
 */
#include "inode.h"

#include <string.h>
#include <unistd.h>

#include "was_link.h"

void fs_stat(const struct fs *fs, const struct wf_stat *from, struct stat *ret)
{
	mode_t mode = from->type == WF_DIRECTORY ? S_IFDIR | (fs->writable ? 0755 : 0555)
		      : from->type == WF_SYMLINK ? S_IFLNK | 0777
						 : S_IFREG | (from->writable ? 0644 : 0444);
	const struct wf_looks *l = &from->looks;
	if (l->set & WF_SET_MODE)
		mode = (mode & S_IFMT) | l->mode;
	memset(ret, 0, sizeof *ret);
	ret->st_ino = from->ino;
	ret->st_mode = from->type == WF_SYMLINK ? mode : mode & ~(fs->options.set_umask ? fs->options.umask : 0);
	ret->st_nlink = from->type == WF_DIRECTORY ? 2 : from->nlink;
	ret->st_uid = l->set & WF_SET_UID ? l->uid : fs->options.set_uid ? fs->options.uid : getuid();
	ret->st_gid = l->set & WF_SET_GID ? l->gid : fs->options.set_gid ? fs->options.gid : getgid();
	ret->st_size = (off_t)from->size_bytes;
	ret->st_blocks = (blkcnt_t)((from->storage_bytes + 511) / 512);
	ret->st_blksize = 1 << 20;
	ret->st_atim = l->atime;
	ret->st_mtim = l->mtime;
	ret->st_ctim = l->ctime;
}

double fs_entry_timeout(const struct fs *fs, fuse_ino_t parent)
{
	return wf_names_stay(fs->checkpoint, (uint32_t)parent) ? FS_TIMEOUT : 0;
}

void fs_fill_entry(const struct fs *fs, const struct wf_stat *st, double timeout, struct fuse_entry_param *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->ino = st->ino;
	ret->generation = st->ino == WF_ROOT ? 0 : fs->generation;
	/* a name that shows a link can become that of the directory when another name is edited, and then it is still a link
	 * to some */
	bool stays = !fs->writable || (st->type != WF_SYMLINK && !fs_somebody_sees_link(fs, st->ino));
	ret->entry_timeout = stays ? timeout : 0;
	ret->attr_timeout = FS_TIMEOUT;
	fs_stat(fs, st, &ret->attr);
}
