/* Where an entry of the checkpoint stood before it was moved to a scratch name. It goes back to that place with its old name;
 * and where its only name at a commit is an editor's backup of the old one, which nothing else has taken, the editor was
 * interrupted: the entry stands under its old name again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"

struct wf_home {
	wf_ino dir;
	uint32_t position;
	char name[];
};

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

/* "w~" or "w.~2~" of "w". */
static bool is_backup(const char *name, const char *of)
{
	size_t len = strlen(of);
	if (strncmp(name, of, len))
		return false;
	name += len;
	if (!strncmp(name, ".~", 2) && strspn(name + 2, "0123456789") > 0)
		name += 2 + strspn(name + 2, "0123456789");
	return !strcmp(name, "~");
}

/* The name under which the file is such a backup; false: it is none. */
static bool backup_name(struct wf_checkpoint *ck, wf_ino ino, const struct wf_home *home, char *name)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino), *dir = wf_tree_node(ck->tree, home->dir);
	struct wf_place p;
	return n && n->nlink == 1 && n->type != WF_NODE_LINK && dir && dir->nlink > 0 && !wf_edit_is_scratch(ck, home->dir) &&
	       wf_edit_place_of(ck, ino, &p) == 0 && wf_edits_shadowed(ck, p.dir) == home->dir &&
	       wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p.dir), p.position, name) && is_backup(name, home->name) &&
	       wf_edit_find(ck, home->dir, home->name, &p) == -ENOENT;
}

int wf_edit_restore_backups(struct wf_checkpoint *ck)
{
	char name[WF_NAME_MAX + 1];
	const struct wf_edits *e = ck->edits;
	for (wf_ino ino = 1; ino <= e->files_count && e->shadow_count > 0; ino++) {
		struct wf_file *f = wf_edit_known(ck, ino);
		if (!f || !f->home || !backup_name(ck, ino, f->home, name))
			continue;
		wf_ino dir = f->home->dir;
		int r = wf_overlay_prepare_removal(ck->overlay);
		if (r < 0)
			return r;
		wf_checkpoint_log(ck, "%s is %s again: a commit found nothing but this backup of it", name, f->home->name);
		r = wf_apply_rename(ck, dir, name, dir, f->home->name, 0, NULL); /* forgets the home */
		if (r == -ENOMEM)
			return r;
		if (ck->renamed)
			ck->renamed(ck->changed_ctx, dir, name);
		wf_edit_tell_renamed(ck, ino);
	}
	return 0;
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
