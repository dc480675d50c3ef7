/* SPDX-License-Identifier: MIT */
/* Times, modes and owners, for the rest of the mount: no checkpoint holds them, no log speaks of them and setting them is
 * no edit. What was edited has the time of its edit, so that rsync, cp -u, make and find -newer see it; everything else
 * that of the file when it was opened, also after a commit. Edits that a log brings back have the log's time. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"

static struct timespec now(const struct wf_checkpoint *ck)
{
	struct timespec t = ck->edits->replay_time;
	if (!ck->edits->replaying)
		clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

/* NULL: the node is gone, or there is no memory. */
static struct wf_looks *looks_of(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_tree_node(ck->tree, ino) ? wf_edit_file(ck, ino) : NULL;
	if (f && !f->looks) {
		f->looks = calloc(1, sizeof *f->looks);
		if (f->looks)
			f->looks->atime = f->looks->mtime = f->looks->ctime = ck->opened.st_mtim;
	}
	return f ? f->looks : NULL;
}

void wf_edits_looks(const struct wf_checkpoint *ck, wf_ino ino, struct wf_looks *ret)
{
	const struct wf_file *f = ck->edits ? wf_edit_known(ck, ino) : NULL;
	const struct timespec base = ck->opened.st_mtim;
	if (f && f->looks)
		*ret = *f->looks;
	else
		*ret = (struct wf_looks){.atime = base, .mtime = base, .ctime = base};
}

static void stamp(struct wf_checkpoint *ck, wf_ino ino, bool content)
{
	struct wf_looks *l = looks_of(ck, ino);
	if (!l)
		return; /* a time is not worth a failed edit */
	l->ctime = now(ck);
	if (content)
		l->mtime = l->ctime;
}

void wf_edit_stamp(struct wf_checkpoint *ck, wf_ino ino, bool content)
{
	stamp(ck, ino, content);
	wf_edit_note_outside(ck, ino);
}

void wf_edit_stamp_viewer(struct wf_checkpoint *ck, wf_ino ino)
{
	stamp(ck, ino, true);
}

void wf_edit_stamp_made(struct wf_checkpoint *ck, wf_ino dir, wf_ino ino)
{
	struct wf_looks *l = looks_of(ck, ino);
	wf_edit_stamp(ck, dir, true);
	if (l)
		l->atime = l->mtime = l->ctime = now(ck);
}

void wf_edit_reordered(struct wf_checkpoint *ck, wf_ino dir)
{
	dir = wf_edits_visible_dir(ck, dir);
	wf_edit_stamp(ck, dir, true);
	wf_edit_notify_changed(ck, dir);
}

static wf_ino file_at(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_place p;
	return name && wf_edit_find(ck, dir, name, &p) == 0 ? wf_edit_entry(ck, &p)->ino : WF_NO_INO;
}

struct wf_names_edit wf_edit_before(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino new_dir,
				    const char *new_name)
{
	return (struct wf_names_edit){dir, new_dir, file_at(ck, dir, name), file_at(ck, new_dir, new_name)};
}

void wf_edit_stamp_names(struct wf_checkpoint *ck, const struct wf_names_edit *e)
{
	const wf_ino files[] = {e->file, e->replaced};
	wf_edit_stamp(ck, e->dir, true);
	if (e->new_dir != e->dir)
		wf_edit_stamp(ck, e->new_dir, true);
	for (size_t i = 0; i < WF_ARRAY_SIZE(files); i++) {
		const struct wf_node *n = files[i] != WF_NO_INO ? wf_tree_node(ck->tree, files[i]) : NULL;
		if (n && n->nlink > 0) /* or nobody sees it any more */
			wf_edit_stamp(ck, files[i], false);
	}
}

void wf_edit_replay_time(struct wf_checkpoint *ck)
{
	struct wf_buffer path = WF_BUFFER_INIT;
	struct stat st;
	wf_buffer_printf(&path, "%s/log", wf_overlay_directory(ck->overlay));
	bool there = wf_buffer_status(&path) == 0 && stat(path.data, &st) == 0;
	ck->edits->replay_time = there ? st.st_mtim : ck->opened.st_mtim;
	wf_buffer_free(&path);
}

int wf_set_looks(struct wf_checkpoint *ck, uint32_t ino, const struct wf_looks *to)
{
	int r = 0;
	if (!ck->writable || !ck->overlay)
		return -EROFS;
	pthread_rwlock_wrlock(&ck->lock);
	struct wf_looks *l = looks_of(ck, ino);
	if (!l) {
		r = wf_tree_node(ck->tree, ino) ? -ENOMEM : -ENOENT;
	} else {
		l->set |= to->set;
		l->ctime = now(ck);
		if (to->set & WF_SET_ATIME)
			l->atime = to->atime;
		if (to->set & WF_SET_MTIME)
			l->mtime = to->mtime;
		if (to->set & WF_SET_MODE)
			l->mode = to->mode;
		if (to->set & WF_SET_UID)
			l->uid = to->uid;
		if (to->set & WF_SET_GID)
			l->gid = to->gid;
	}
	pthread_rwlock_unlock(&ck->lock);
	return r;
}
