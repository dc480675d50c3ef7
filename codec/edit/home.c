/* SPDX-License-Identifier: MIT */
/* Where an entry of the checkpoint stood before it was moved to a scratch name. It goes back to that place with its old name;
 * and where its only name at a commit is an editor's backup of the old one, which nothing else has taken, the editor was
 * interrupted: the entry stands under its old name again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"

static void note(struct wf_checkpoint *ck, wf_ino ino, const struct wf_place *from, const char *name)
{
	struct wf_file *f = wf_edit_file(ck, ino);
	struct wf_home *home = f && !f->is_new ? malloc(sizeof *home + strlen(name) + 1) : NULL;
	if (!home)
		return; /* then it is only scratch */
	home->dir = from->dir;
	home->position = from->position;
	strcpy(home->name, name);
	free(f->home);
	f->home = home;
}

/* The last one of a mapping goes to the hole that it left. */
static int put_in_place(struct wf_checkpoint *ck, const struct wf_home *home, const char *name)
{
	struct wf_place p;
	if (strcmp(home->name, name) || wf_edit_find(ck, home->dir, name, &p) < 0 || p.dir != home->dir)
		return 0;
	const struct wf_dir *d = wf_tree_dir(ck->tree, p.dir);
	if (d->kind != WF_DIR_MAPPING || home->position >= d->count || d->entries[home->position].ino != WF_NO_INO)
		return 0;
	wf_ino ino = d->entries[p.position].ino;
	int r = wf_tree_exchange(ck->tree, p.dir, home->position, p.position);
	if (r == 0)
		wf_edit_note_place(ck, ino, p.dir, home->position);
	return r;
}

int wf_edit_moved(struct wf_checkpoint *ck, wf_ino ino, const struct wf_place *from, const char *name, wf_ino to,
		  const char *new_name)
{
	bool was_scratch = wf_edit_is_scratch(ck, from->dir), scratch = wf_edit_is_scratch(ck, to);
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!was_scratch && scratch)
		note(ck, ino, from, name);
	if (!was_scratch || scratch || !f || !f->home)
		return 0;
	int r = f->home->dir == to ? put_in_place(ck, f->home, new_name) : 0;
	free(f->home);
	f->home = NULL;
	return r;
}

bool wf_edit_was_key(const struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	const struct wf_edits *e = ck->edits;
	if (wf_past_of(ck, dir, name))
		return true;
	for (uint32_t i = 0; i < e->files_count; i++) {
		const struct wf_file *f = e->files[i];
		if (f && f->home && f->home->dir == dir && !strcmp(f->home->name, name))
			return true;
	}
	return false;
}

void wf_edit_forget_homes(struct wf_checkpoint *ck)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->files_count; i++) {
		struct wf_file *f = e->files[i];
		if (!f)
			continue;
		free(f->home);
		f->home = NULL;
	}
}
