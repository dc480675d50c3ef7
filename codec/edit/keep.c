/* SPDX-License-Identifier: MIT */
/* Edits around a commit: everything judged before it; what scratch entries and files that were unlinked while open
 * need of the old base carried over it, since the new one holds nothing of theirs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/bytes/util.h"

#define CHUNK (1u << 20)

/* Content that goes on growing in the storage of what was judged: the id says how much is there. */
static int fit_grown(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_tensor t;
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || f->pending != PENDING_BYTES || wf_edit_tensor(ck, ino, &t) < 0 || t.storage != f->storage)
		return 0;
	return wf_storage_set_form(ck->storages, f->storage, WF_UINT8, NULL);
}

/* A new file that was never judged is no part of the checkpoint yet: while a commit writes it, the mapping has a hole there. */
static int set_aside(struct wf_checkpoint *ck, bool aside)
{
	struct wf_place p;
	int r = 0;
	for (wf_ino ino = 1; r == 0 && ino <= ck->edits->files_count; ino++) {
		struct wf_file *f = wf_edit_known(ck, ino);
		if (!f || (aside ? !wf_edit_is_unjudged(ck, ino) : !f->aside) || wf_edit_place_of(ck, ino, &p) < 0)
			continue;
		const struct wf_dir *d = wf_tree_dir(ck->tree, p.dir);
		const struct wf_entry *e = &d->entries[p.position];
		f->aside = aside;
		ck->edits->changes += !aside; /* what was composed meanwhile lacks it */
		r = wf_dict_set_at(ck->graph, d->container, p.position, aside ? WF_NIL : e->key,
				   aside ? WF_NIL : e->value);
	}
	return r;
}

bool wf_edits_is_aside(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = ck->edits ? wf_edit_known(ck, ino) : NULL;
	return f && f->aside;
}

/* ---- backups ---- */

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
	return n && n->nlink == 1 && n->type != WF_NODE_LINK && dir && dir->nlink > 0 &&
	       !wf_edit_is_scratch(ck, home->dir) && wf_edit_place_of(ck, ino, &p) == 0 &&
	       wf_edits_scratch_owner(ck, p.dir) == home->dir &&
	       wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p.dir), p.position, name) && is_backup(name, home->name) &&
	       wf_edit_find(ck, home->dir, home->name, &p) == -ENOENT;
}

/* Entries of which there is nothing but a backup have their names again. */
static int restore_backups(struct wf_checkpoint *ck)
{
	char name[WF_NAME_MAX + 1];
	const struct wf_edits *e = ck->edits;
	for (wf_ino ino = 1; ino <= e->files_count && e->scratch_dir_count > 0; ino++) {
		struct wf_file *f = wf_edit_known(ck, ino);
		if (!f || !f->home || !backup_name(ck, ino, f->home, name))
			continue;
		wf_ino dir = f->home->dir;
		int r = wf_overlay_prepare_removal(ck->overlay);
		if (r < 0)
			return r;
		wf_log_line(&ck->log, "%s is %s again: a commit found nothing but this backup of it", name,
			    f->home->name);
		r = wf_apply_rename(ck, dir, name, dir, f->home->name, 0, NULL); /* forgets the home */
		if (r == -ENOMEM)
			return r;
		if (ck->renamed)
			ck->renamed(ck->changed_ctx, dir, name);
		wf_edit_notify_renamed(ck, ino);
	}
	return 0;
}

/* ---- before ---- */

int wf_edits_before_commit(struct wf_checkpoint *ck, struct wf_error *err)
{
	if (!ck->edits)
		return 0;
	int r = ck->edits->pending_count > 0 ? wf_overlay_prepare_removal(ck->overlay) : 0;
	if (r == 0)
		r = restore_backups(ck);
	if (r == 0)
		r = wf_edit_judge_all(ck);
	if (r == 0)
		r = wf_edit_part_twins(ck);
	for (wf_ino ino = 1; r == 0 && ino <= ck->edits->files_count; ino++)
		r = fit_grown(ck, ino);
	if (r == 0)
		r = wf_edit_compact(ck);
	if (r == 0)
		r = set_aside(ck, true);
	return r < 0 ? wf_fail(err, r, "%s", strerror(-r)) : 0;
}

void wf_edits_end_commit(struct wf_checkpoint *ck)
{
	if (!ck->edits)
		return;
	set_aside(ck, false);
	wf_edits_drop_next(ck->edits);
}

/* ---- what is kept ---- */

static wf_ref note_kept(void *ctx, wf_ref persid, wf_ref id)
{
	struct wf_checkpoint *ck = ctx;
	uint32_t i = wf_storage_of(ck->storages, persid);
	if (i < ck->edits->kept_count)
		ck->edits->kept[i] = true;
	return id;
}

/* Files without a name, and content that goes on. */
static void note_files(struct wf_checkpoint *ck)
{
	struct wf_edits *e = ck->edits;
	struct wf_tensor t;
	for (uint32_t k = 0; k < e->files_count; k++) {
		const struct wf_file *f = e->files[k];
		const struct wf_node *n = f ? wf_tree_node(ck->tree, k + 1) : NULL;
		if (n && f->pending == PENDING_BYTES && f->storage < e->kept_count &&
		    (f->writers > 0 || wf_edit_is_scratch_file(ck, k + 1)))
			e->kept[f->storage] = true;
		if (!n || n->type != WF_NODE_TENSOR)
			continue;
		if ((n->nlink == 0 || f->aside) && f->openers > 0 && wf_edit_tensor(ck, k + 1, &t) == 0 &&
		    t.storage < e->kept_count)
			e->kept[t.storage] = true;
	}
}

static int copy_range(struct wf_checkpoint *ck, uint32_t storage, uint64_t at, uint64_t end, char *buf,
		      bool *ret_unreadable)
{
	int r = 0;
	for (; r == 0 && at < end; at += CHUNK) {
		size_t n = WF_MIN(end - at, (uint64_t)CHUNK);
		r = wf_storage_read(ck->storages, storage, at, buf, n);
		*ret_unreadable = r < 0 && r != -ENOMEM;
		if (r == 0)
			r = wf_storage_write(ck->storages, storage, at, buf, n);
	}
	return r;
}

/* Copies what still stands in the base to the storage's data file. No record says so: after a crash before the commit
 * those bytes are in the base as ever. *ret_unreadable: they are not there to be kept. */
static int own_bytes(struct wf_checkpoint *ck, uint32_t storage, bool *ret_unreadable)
{
	const struct wf_storage *s = wf_storage_get(ck->storages, storage);
	int r = 0;
	*ret_unreadable = s->bad;
	if (s->bad)
		return s->bad;
	if (wf_edit_number(ck, storage) == WF_NO_NUMBER) {
		r = wf_edit_set_number(ck, storage, wf_overlay_new_number(ck->overlay));
		if (r < 0)
			return r;
		ck->edits->unnamed[storage] = true;
	}
	uint64_t base = WF_MIN(s->base_bytes, s->size_bytes), end;
	cleanup_free char *buf = base > 0 ? malloc(CHUNK) : NULL;
	if (base > 0 && !buf)
		return -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < base; at = end) {
		bool written = wf_extents_find(s->dirty, at, &end);
		end = WF_MIN(end, base);
		r = written ? 0 : copy_range(ck, storage, at, end, buf, ret_unreadable);
	}
	wf_overlay_touched(ck->overlay, wf_edit_number(ck, storage));
	return r;
}

int wf_edits_keep(struct wf_checkpoint *ck, const bool *live, struct wf_error *err)
{
	struct wf_edits *e = ck->edits;
	if (!e)
		return 0;
	free(e->kept);
	e->kept_count = wf_storages_count(ck->storages);
	e->kept = calloc(WF_MAX(e->kept_count, 1u), sizeof *e->kept);
	if (!e->kept) {
		e->kept_count = 0;
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	int r = wf_edit_scratch_persids(ck, note_kept, ck);
	note_files(ck);
	e->quiet = true;
	for (uint32_t i = 0; r == 0 && i < e->kept_count; i++) {
		e->kept[i] &= !live[i] && !wf_storage_get(ck->storages, i)->inside;
		bool unreadable = false;
		r = e->kept[i] ? own_bytes(ck, i, &unreadable) : 0;
		if (unreadable) {
			e->kept[i] = false;
			r = 0;
		}
	}
	e->quiet = false;
	return r < 0 ? wf_fail(err, r, "the bytes of scratch files, which the new checkpoint does not hold: %s",
			       strerror(-r))
		     : 0;
}

bool wf_edits_keep_file(void *ctx, uint32_t number)
{
	const struct wf_checkpoint *ck = ctx;
	return wf_edits_is_kept(ck, wf_edit_storage(ck, number));
}

/* ---- afterwards ---- */

bool wf_edits_structural(const struct wf_checkpoint *ck)
{
	return ck->edits->structural;
}

bool wf_edits_types_changed(const struct wf_checkpoint *ck)
{
	return ck->edits->types_changed;
}

/* Names are ordinary ones, and what was written is what a failure brings back. Content in a writer's hands goes on. */
static void after_commit(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || f->aside)
		return;
	bool shown = wf_edits_is_pending(ck, ino);
	free(f->was);
	f->was = NULL;
	if (wf_edit_is_scratch_file(ck, ino))
		return;
	free(f->shard);
	f->shard = NULL;
	f->is_new = f->judged = f->stand_in = false;
	wf_declared_clear(f);
	wf_edit_knows(f); /* the log that begins has nothing of it */
	free(f->old);     /* what it names may be gone */
	f->old = NULL;
	wf_edit_free_undo(f);
	if (f->pending == PENDING_NOT)
		return;
	if (f->writers > 0) {
		wf_edit_keep_old(ck, ino);
		if (shown && wf_edit_stands_aside(ck, ino)) /* the text as it was typed */
			wf_edit_notify_changed(ck, ino);
		return;
	}
	if (f->pending == PENDING_TEXT)
		wf_buffer_free(&f->text);
	wf_edit_set_pending(ck, f, PENDING_NOT);
	wf_edit_notify_changed(ck, ino);
}

static void remove_lost(struct wf_checkpoint *ck)
{
	char name[WF_NAME_MAX + 1];
	const struct wf_next_log *next = &ck->edits->next;
	for (uint32_t i = 0; i < next->lost_count; i++) {
		const struct wf_place *p = &next->lost[i];
		wf_ino dir = wf_edits_visible_dir(ck, p->dir);
		bool named = wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p->dir), p->position, name);
		if (wf_tree_remove(ck->tree, p->dir, p->position, NULL) == 0 && named && ck->renamed)
			ck->renamed(ck->changed_ctx, dir, name);
	}
}

void wf_edits_committed(struct wf_checkpoint *ck)
{
	struct wf_edits *e = ck->edits;
	const bool types_changed = e->types_changed;
	e->types_changed = false;
	e->structural = e->next.structural;
	for (wf_ino ino = 1; ino <= e->files_count; ino++)
		after_commit(ck, ino);
	set_aside(ck, false);
	remove_lost(ck);
	wf_edits_settle_ties(ck, types_changed);
	for (uint32_t i = 0; i < e->refused_count; i++)
		free(e->refused[i]);
	e->refused_count = 0;
	wf_pasts_clear(e);
	wf_edit_forget_homes(ck);
	for (uint32_t i = 0; i < e->by_number_count; i++)
		if (!wf_edits_is_kept(ck, e->by_number[i]))
			e->by_number[i] = WF_NO_STORAGE;
	/* the log that begins now has not heard of all of the kept ones */
	for (uint32_t i = 0; i < e->numbers_count; i++) {
		bool kept = wf_edits_is_kept(ck, i);
		e->unnamed[i] = kept && (!e->next.unnamed || e->next.unnamed[i]);
		e->numbers[i] = kept ? e->numbers[i] : WF_NO_NUMBER;
	}
	wf_edit_forget_touched(e);
	e->changes++;
	e->generation++; /* a list's names are numbered anew */
	wf_edits_drop_next(e);
}
