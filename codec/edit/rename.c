/* SPDX-License-Identifier: MIT */
/* Renaming, and what a new file takes over from the entry whose name it gets. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/bytes/util.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1u
#endif
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2u
#endif

/* Moves an entry to another mapping's end. A directory gets its new place before it loses the old one: one without any
 * would give way to a link to it. A file the other way round, so that its node names the new directory. */
static int move_entry(struct wf_checkpoint *ck, const struct wf_place *from, wf_ino to, const char *name, wf_ref key)
{
	struct wf_place at;
	struct wf_entry e = *wf_edit_entry(ck, from);
	bool is_dir = wf_edit_node(ck, from)->type == WF_NODE_DIR;
	int r = is_dir ? wf_edit_add_entry(ck, to, name, key, e.value, e.ino, &at)
		       : wf_tree_remove(ck->tree, from->dir, from->position, NULL);
	if (r == 0)
		r = is_dir ? wf_tree_remove(ck->tree, from->dir, from->position, NULL)
			   : wf_edit_add_entry(ck, to, name, key, e.value, e.ino, &at);
	return r;
}

static int check_replace(const struct wf_checkpoint *ck, const struct wf_place *from, const struct wf_place *onto)
{
	bool from_dir = wf_edit_node(ck, from)->type == WF_NODE_DIR,
	     onto_dir = wf_edit_node(ck, onto)->type == WF_NODE_DIR;
	/* an element can be another value, and not be gone */
	bool element = wf_tree_dir(ck->tree, onto->dir)->kind == WF_DIR_SEQUENCE;
	if (wf_tree_dir(ck->tree, onto->dir)->read_only_names || (element && (from_dir || onto_dir)))
		return -EPERM;
	if (ck->edits->replaying)
		return 0;
	if (from_dir != onto_dir)
		return from_dir ? -ENOTDIR : -EISDIR;
	if (!onto_dir)
		return 0;
	if (wf_edit_is_within(ck, from->dir, wf_edit_entry(ck, onto)->ino))
		return -ENOTEMPTY;
	return wf_edit_is_empty(ck, wf_edit_entry(ck, onto)->ino) ? 0 : -ENOTEMPTY;
}

static int exchange_entries(struct wf_checkpoint *ck, const struct wf_place *a, const struct wf_place *b)
{
	struct wf_entry x = *wf_edit_entry(ck, a), y = *wf_edit_entry(ck, b);
	if (!wf_edit_removable(ck, a) || !wf_edit_removable(ck, b) ||
	    wf_tree_dir(ck->tree, a->dir)->kind != WF_DIR_MAPPING ||
	    wf_tree_dir(ck->tree, b->dir)->kind != WF_DIR_MAPPING)
		return -EPERM;
	if ((wf_tree_dir(ck->tree, x.ino) && wf_edit_is_within(ck, b->dir, x.ino)) ||
	    (wf_tree_dir(ck->tree, y.ino) && wf_edit_is_within(ck, a->dir, y.ino)))
		return -EINVAL;
	int r = wf_edit_record(ck, EDIT_RENAME, wf_edit_pending_at(ck, a->dir) || wf_edit_pending_at(ck, b->dir));
	if (r < 0 || x.ino == y.ino)
		return r;
	ck->edits->generation++;
	if (a->dir == b->dir) {
		r = wf_tree_set_key(ck->tree, a->dir, a->position, y.key);
		return r < 0 ? r : wf_tree_set_key(ck->tree, b->dir, b->position, x.key);
	}
	r = move_entry(ck, a, b->dir, "", y.key);
	if (r == 0)
		r = move_entry(ck, b, a->dir, "", x.key);
	if (r == 0 && wf_edit_pending_at(ck, a->dir) != wf_edit_pending_at(ck, b->dir))
		wf_edit_keep_places(ck);
	return r;
}

static int take_place(struct wf_checkpoint *ck, const struct wf_place *from, const struct wf_place *onto)
{
	struct wf_entry e = *wf_edit_entry(ck, from);
	wf_ino old = wf_edit_entry(ck, onto)->ino;
	int r = wf_tree_replace(ck->tree, onto->dir, onto->position, e.value, e.ino);
	if (r == 0)
		r = wf_tree_remove(ck->tree, from->dir, from->position, NULL);
	wf_edit_note_place(ck, e.ino, onto->dir, onto->position);
	wf_edit_forget(ck, old);
	return r;
}

/* Where a file stood that was moved away and gets its name back, also over what was made in its place meanwhile; UINT32_MAX
 * for any other. */
static uint32_t place_of_return(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_place *onto, wf_ino to,
				const char *name)
{
	const struct wf_past *past = wf_past_of(ck, to, name);
	return !past || past->ino != ino ? UINT32_MAX : onto ? onto->position : past->position;
}

static int back_in_place(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name, uint32_t position)
{
	struct wf_place p;
	if (wf_edit_find(ck, dir, name, &p) < 0)
		return 0;
	const struct wf_dir *d = wf_tree_dir(ck->tree, p.dir);
	if (d->kind != WF_DIR_MAPPING || position >= d->count || d->entries[position].ino != WF_NO_INO)
		return 0;
	int r = wf_tree_exchange(ck->tree, p.dir, position, p.position);
	if (r == 0)
		wf_edit_note_place(ck, ino, p.dir, position);
	return r;
}

struct move {
	struct wf_place from;
	const struct wf_place *onto; /* NULL: the name is free */
	const char *name, *new_name;
	wf_ino to;
	wf_ref key;
	bool is_dir, is_new;
	bool heir; /* a new file that was judged by what stands or stood at the name */
};

static int exchange(struct wf_checkpoint *ck, const struct move *m)
{
	int r = exchange_entries(ck, &m->from, m->onto);
	if (r < 0)
		return r;
	/* each name has an entry again, and no new one: what it remembers is of nothing that is to come */
	wf_past_forget(ck, m->from.dir, m->name);
	wf_past_forget(ck, m->onto->dir, m->new_name);
	return 0;
}

/* A new file takes the type and the place of what it replaces, as sed -i and editors expect. */
static int rename_onto(struct wf_checkpoint *ck, const struct move *m)
{
	int r = m->is_dir ? 0 : wf_past_keep(ck, m->onto, m->new_name, true);
	struct wf_file *f = wf_edit_known(ck, wf_edit_entry(ck, &m->from)->ino);
	bool element = wf_tree_dir(ck->tree, m->to)->kind == WF_DIR_SEQUENCE;
	if (r < 0 || (!element && (!m->is_new || m->is_dir)))
		return r < 0 ? r : wf_edit_take_entry(ck, m->onto);
	if (f && m->is_new)
		f->is_new = !m->heir; /* it is that entry from now on */
	return take_place(ck, &m->from, m->onto);
}

static int rename_checked(struct wf_checkpoint *ck, const struct move *m)
{
	wf_ino ino = wf_edit_entry(ck, &m->from)->ino;
	bool scratch = wf_edit_is_scratch(ck, m->to), was_scratch = wf_edit_is_scratch(ck, m->from.dir);
	uint32_t place = m->is_new || m->is_dir ? UINT32_MAX : place_of_return(ck, ino, m->onto, m->to, m->new_name);
	int r = wf_edit_record(ck, m->heir ? EDIT_HEIR : EDIT_RENAME, !scratch || !was_scratch);
	/* a new file that comes in place of an entry had a name for the time being: the next one under it is another */
	if (r == 0 && !m->is_dir && !(m->is_new && (m->onto || m->heir)))
		r = wf_past_keep(ck, &m->from, m->name, scratch);
	if (r < 0)
		return r;
	if (m->is_dir)
		ck->edits->generation++;
	if (m->onto) {
		r = rename_onto(ck, m);
		if (r < 0 || wf_tree_node(ck->tree, ino)->type == WF_NODE_GONE)
			return r;
		const struct wf_dir *d = wf_tree_dir(ck->tree, m->onto->dir);
		if (d->entries[m->onto->position].ino == ino)
			return 0; /* it took the place */
	}
	if (m->from.dir == m->to) {
		r = wf_tree_set_key(ck->tree, m->to, m->from.position, m->key);
	} else {
		r = move_entry(ck, &m->from, m->to, m->new_name, m->key);
		if (r == 0 && scratch != was_scratch)
			wf_edit_keep_places(ck);
	}
	if (r < 0 || m->is_dir || scratch)
		return r;
	if (m->is_new)
		return m->heir && !m->onto ? wf_edit_take_place(ck, ino) : 0;
	r = back_in_place(ck, ino, m->to, m->new_name, place);
	wf_past_forget(ck, m->to, m->new_name);
	return r;
}

/* A new file is judged by the type that it is going to replace before anything changes. */
static int judge_heir(struct wf_checkpoint *ck, wf_ino ino, const struct wf_place *onto, const struct wf_past *past,
		      bool *ret)
{
	struct wf_wanted w;
	struct wf_file *f = wf_edit_known(ck, ino);
	bool touched = f->touched, refused = f->refused, stands = f->judged && !touched;
	if (f->declared_fits && f->judged &&
	    !f->touched) { /* attributes have made it what it is: it takes the place alone */
		*ret = true;
		return 0;
	}
	int r = wf_edit_wanted(ck, ino, onto, past, &w);
	if (r < 0 || w.kind == WANT_NEW)
		return r;
	w.place = false; /* comes with the name */
	bool insisted = w.insists;
	w.insists = true;
	if (stands) /* a refusal leaves it as it was judged, also where its release has not come yet */
		wf_edit_keep_as_judged(ck, ino);
	r = wf_edit_judge_as(ck, ino, &w);
	if (r == 0 && wf_edit_size(ck, ino) == 0 && !w.declared)
		r = wf_edit_is_judged(ck, ino, &w) ? 0 : -EINVAL;
	if (r < 0 && stands)
		wf_edit_keep_as_judged(ck, ino);
	else if (r < 0)
		wf_edit_rest(ck, ino);
	if (r < 0 && !stands && f->writers > 0) { /* its own name's judgement is still to come */
		f->touched = touched;
		f->refused = refused;
	}
	*ret = r == 0;
	return r == -EINVAL && !insisted ? 0 : r;
}

static int find_both(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino new_dir, const char *new_name,
		     unsigned int flags, struct wf_place *from, struct wf_place *onto, bool *ret_replace)
{
	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	int r = wf_edit_find(ck, dir, name, from);
	if (r < 0)
		return r;
	r = wf_edit_find(ck, new_dir, new_name, onto);
	*ret_replace = r == 0;
	if (r < 0 && r != -ENOENT)
		return r;
	if (*ret_replace && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (!*ret_replace && (flags & RENAME_EXCHANGE))
		return -ENOENT;
	wf_ino ino = wf_edit_entry(ck, from)->ino;
	if (wf_tree_dir(ck->tree, ino) && wf_edit_is_within(ck, new_dir, ino))
		return -EINVAL;
	return wf_edit_removable(ck, from) ? 0 : -EPERM;
}

/* Where the entry goes, and under which key. */
static int destination(struct wf_checkpoint *ck, const struct wf_place *from, wf_ino new_dir, struct move *m)
{
	if (m->onto) {
		m->to = m->onto->dir;
		m->key = wf_edit_entry(ck, m->onto)->key;
		return 0;
	}
	wf_ref old = wf_tree_dir(ck->tree, from->dir)->kind == WF_DIR_MAPPING ? wf_edit_entry(ck, from)->key : WF_NIL;
	int r = wf_edit_room_for(ck, new_dir, m->new_name, old, &m->to, &m->key);
	if (r == 0 && m->to == from->dir && wf_tree_dir(ck->tree, m->to)->kind == WF_DIR_SEQUENCE)
		r = -EPERM; /* names of a list are its positions */
	return r;
}

/* What stands at the end of it, where the format holds not everything everywhere. */
static int check_kinds(struct wf_checkpoint *ck, const struct move *m, bool exchanges)
{
	int moved = m->is_dir ? wf_edit_check_moved_mapping(ck, wf_edit_entry(ck, &m->from)->ino, m->to, m->key) : 0;
	if (moved == 0 && exchanges)
		moved = wf_edit_check_moved_mapping(ck, wf_edit_entry(ck, m->onto)->ino, m->from.dir,
						    wf_edit_entry(ck, &m->from)->key);
	if (moved < 0)
		return moved;
	if (m->from.dir == m->to)
		return 0;
	if (m->is_dir)
		return wf_edit_check_directory(ck, m->to);
	/* a backup that is a link is a tie once it is a key */
	if (wf_edit_is_flat(ck) && !ck->edits->replaying && wf_edit_is_scratch(ck, m->from.dir) &&
	    !wf_edit_is_scratch(ck, m->to) && wf_edit_node(ck, &m->from)->nlink > 1)
		return wf_refuse(ck, -EPERM, "it has another name, and a safetensors file has no ties");
	/* one that was written beside the metadata is judged by its new place */
	bool judged_there = m->is_new && wf_edit_in_metadata(ck, m->to) && wf_edit_is_scratch(ck, m->from.dir);
	int r = judged_there ? 0 : wf_edit_check_object(ck, m->to, wf_edit_entry(ck, &m->from)->value);
	if (r == 0 && exchanges)
		r = wf_edit_node(ck, m->onto)->type == WF_NODE_DIR
			    ? wf_edit_check_directory(ck, m->from.dir)
			    : wf_edit_check_object(ck, m->from.dir, wf_edit_entry(ck, m->onto)->value);
	return r == -EINVAL ? -EPERM : r; /* of rename(2) that is a directory that moves into itself */
}

/* What comes back from a scratch name has its old one again, as a rule. */
static int check_shards(struct wf_checkpoint *ck, const struct move *m, bool exchanges)
{
	int r = m->is_dir || wf_edit_is_scratch(ck, m->from.dir)
			? 0
			: wf_edit_check_shard(ck, wf_edit_entry(ck, &m->from)->value, m->to);
	return r == 0 && exchanges ? wf_edit_check_shard(ck, wf_edit_entry(ck, m->onto)->value, m->from.dir) : r;
}

/* heir: of a replay, whose file was judged; NULL: it is found out. */
int wf_apply_rename(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino new_dir, const char *new_name,
		    unsigned int flags, const bool *heir)
{
	struct wf_place from, onto = {0};
	bool replace, exchanges = flags & RENAME_EXCHANGE;
	int r = find_both(ck, dir, name, new_dir, new_name, flags, &from, &onto, &replace);
	if (r < 0)
		return r;
	wf_ino ino = wf_edit_entry(ck, &from)->ino;
	const struct wf_file *f = wf_edit_known(ck, ino);
	struct move m = {.from = from,
			 .onto = replace ? &onto : NULL,
			 .name = name,
			 .new_name = new_name,
			 .is_dir = wf_edit_node(ck, &from)->type == WF_NODE_DIR,
			 .is_new = f && f->is_new,
			 .heir = heir && *heir};
	if (replace && !exchanges && wf_edit_entry(ck, &onto)->ino == ino)
		return 0; /* two names of one file: rename(2) does nothing */
	if (replace && !exchanges)
		r = check_replace(ck, &from, &onto);
	if (r == 0)
		r = destination(ck, &from, new_dir, &m);
	if (r == 0)
		r = check_kinds(ck, &m, exchanges);
	if (r == 0)
		r = check_shards(ck, &m, exchanges);
	if (r == 0 && (wf_edit_pending_at(ck, from.dir) || wf_edit_pending_at(ck, m.to)))
		r = wf_edit_check_names(ck);
	if (r < 0)
		return r;
	bool judges = m.is_new && !m.is_dir && !exchanges && !ck->edits->replaying && !wf_edit_is_scratch(ck, m.to);
	const struct wf_past *past = replace ? NULL : wf_past_of(ck, m.to, new_name);
	if (judges && (replace || past))
		r = judge_heir(ck, ino, m.onto, past, &m.heir);
	struct wf_buffer *b = wf_edit_payload(ck);
	wf_put_u32(b, flags);
	if (r == 0)
		r = wf_put_path(ck, b, from.dir, name);
	if (r == 0)
		r = wf_put_path(ck, b, m.to, new_name);
	if (r == 0 &&
	    ((!wf_edit_is_scratch(ck, m.to) && wf_edit_leads_away(ck, ino)) ||
	     (exchanges && !wf_edit_is_scratch(ck, from.dir) && wf_edit_leads_away(ck, wf_edit_entry(ck, &onto)->ino))))
		r = -EPERM;
	if (r < 0)
		return r;
	if (exchanges)
		return exchange(ck, &m);
	r = rename_checked(ck, &m);
	wf_edit_knows(wf_edit_known(ck, ino));
	if (r == 0)
		r = wf_edit_moved(ck, ino, &from, name, m.to, new_name);
	/* what it took over is its type from now on, as of any other entry */
	if (r == 0 && m.heir && f->writers == 0 && !ck->edits->replaying)
		r = wf_edit_end_writing(ck, ino);
	/* under a name that says nothing it is new content */
	return r < 0 || !judges || m.heir ? r : wf_edit_judge_again(ck, ino);
}
