/* SPDX-License-Identifier: MIT */
/* Removals inside an object whose entries cannot go one by one: a tuple, a sparse tensor, a module. `rm -r` takes them away
 * before it takes the object, and a directory that refuses the first leaves nobody a way to the second. So a removal hides
 * the entry, and the object's own rmdir, when nothing is left to be seen, removes it with all that it holds.
 *
 * Nothing of it is in the log, for nothing has changed until that rmdir. Where it does not follow within seconds the
 * entries are there again: by the clock, which every look at a name asks; nobody need wake up for it. The next commit
 * says which they were.
 *
 * A mapping that another key shows, too, as a link, gives its entries away one by one. But where its own rmdir follows, that takes away
 * one of its places, and the other one has all of it (as after del in Python). So removals in it, and in what is inside of it, are put off
 * likewise.
 *
 * A mapping inside such an object gives its entries away one by one. But where its own rmdir follows, which only hides it, it has to come
 * back with all that it had: so a removal in it is put off. The next edit that is no removal, a sync, a commit, whoever looks into
 * .weightfs, and whoever follows a link to what was removed have it made (edit/removals.c); an rmdir of the mapping makes it one more hidden entry. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"

#define HIDDEN_SECONDS 5
#define NAMES_LOGGED 20 /* lines in the log for one commit; the rest is counted */

/* Of an entry. HIDDEN_WITH: what is around it was hidden after it, and it is a part of that. LEFT: hidden, by a program that has ended since: it is
 * no part of what another one removes around it. */
enum { SHOWN, HIDDEN, HIDDEN_WITH, LEFT, RETURNED, PUT_OFF };

struct wf_hidden {
	wf_ino top;               /* the outermost object: its rmdir is what is waited for */
	int64_t last_nsec;        /* of a top: the last removal in it */
	uint32_t hidden, put_off; /* entries in those states */
	uint32_t count;
	uint8_t states[]; /* by position, which stays while an entry is in one of them; those behind are shown */
};

static bool is_hidden(uint8_t state)
{
	return state == HIDDEN || state == HIDDEN_WITH || state == LEFT;
}

static int64_t now_nsec(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct wf_hidden *hidden_of(const struct wf_checkpoint *ck, wf_ino dir)
{
	const struct wf_file *f = ck->edits && ck->edits->hiding_dirs > 0 ? wf_edit_known(ck, dir) : NULL;
	return f ? f->hidden : NULL;
}

static bool in_time(const struct wf_checkpoint *ck, const struct wf_hidden *h)
{
	const struct wf_hidden *top = hidden_of(ck, h->top);
	return top && now_nsec() - top->last_nsec <= HIDDEN_SECONDS * INT64_C(1000000000);
}

bool wf_edits_hides(const struct wf_checkpoint *ck, wf_ino dir, uint32_t position)
{
	const struct wf_hidden *h = hidden_of(ck, dir);
	return h && position < h->count &&
	       (h->states[position] == PUT_OFF || (is_hidden(h->states[position]) && in_time(ck, h)));
}

uint32_t wf_edits_shown(const struct wf_checkpoint *ck, wf_ino dir)
{
	const struct wf_hidden *h = hidden_of(ck, dir);
	uint32_t live = wf_tree_dir(ck->tree, dir)->live;
	if (h)
		live -= h->put_off;
	return h && h->hidden > 0 && in_time(ck, h) ? live - h->hidden : live;
}

bool wf_edits_is_hiding(const struct wf_checkpoint *ck)
{
	return ck->edits && ck->edits->hiding_dirs > 0;
}

bool wf_edits_one_by_one(const struct wf_checkpoint *ck, wf_ino dir)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	return !d->read_only_names && (d->kind != WF_DIR_SEQUENCE || wf_is(ck->graph, d->container, WF_LIST));
}

/* The object that can be removed, with all that is around the directory and cannot. */
static wf_ino top_of(const struct wf_checkpoint *ck, wf_ino dir)
{
	while (dir != WF_INO_ROOT) {
		wf_ino above = wf_tree_node(ck->tree, dir)->parent;
		if (wf_edits_one_by_one(ck, above))
			return dir;
		dir = above;
	}
	return WF_NO_INO;
}

bool wf_edit_can_go(const struct wf_checkpoint *ck, wf_ino dir)
{
	return top_of(ck, dir) != WF_NO_INO;
}

/* The outermost object around the directory whose entries cannot go one by one; WF_NO_INO: none. */
static wf_ino holder_of(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino holder = WF_NO_INO;
	while (dir != WF_INO_ROOT) {
		wf_ino above = wf_tree_node(ck->tree, dir)->parent;
		if (wf_edits_one_by_one(ck, above) && !wf_edits_one_by_one(ck, dir))
			holder = dir;
		dir = above;
	}
	return holder;
}

/* The outermost directory around this one, or itself, that another key may show as well. */
static wf_ino linked_around(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino linked = WF_NO_INO;
	for (;; dir = wf_tree_node(ck->tree, dir)->parent) {
		if (dir == WF_INO_ROOT)
			return linked;
		if (wf_tree_node(ck->tree, dir)->linked)
			linked = dir;
	}
}

/* The object, or the mapping, whose own rmdir decides what becomes of removals in the directory; WF_NO_INO: nothing is waited for. */
static wf_ino waits_for(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino holder = holder_of(ck, dir);
	return holder != WF_NO_INO ? holder : linked_around(ck, dir);
}

static void show_again(struct wf_hidden *h)
{
	for (uint32_t k = 0; k < h->count; k++)
		h->states[k] = is_hidden(h->states[k]) ? RETURNED : h->states[k];
	h->hidden = 0;
}

/* Made when missing, and for all entries that there are; NULL: no memory. */
static struct wf_hidden *need_hidden(struct wf_checkpoint *ck, wf_ino dir, wf_ino top)
{
	struct wf_file *f = wf_edit_file(ck, dir);
	uint32_t count = wf_tree_dir(ck->tree, dir)->count, known = f && f->hidden ? f->hidden->count : 0;
	if (f && (!f->hidden || known < count)) {
		struct wf_hidden *h = realloc(f->hidden, sizeof *h + count);
		if (!h)
			return NULL;
		if (!f->hidden) {
			*h = (struct wf_hidden){0};
			ck->edits->hiding_dirs++;
		}
		memset(h->states + known, SHOWN, count - known);
		h->count = count;
		f->hidden = h;
	}
	if (f && f->hidden->top != top) {
		/* what came back under the clock of another object stays so */
		if (f->hidden->top != WF_NO_INO && !in_time(ck, f->hidden))
			show_again(f->hidden);
		f->hidden->top = top;
	}
	return f ? f->hidden : NULL;
}

void wf_edit_forget_hidden(struct wf_checkpoint *ck, struct wf_file *f)
{
	if (f->hidden)
		ck->edits->hiding_dirs--;
	free(f->hidden);
	f->hidden = NULL;
}

/* What was hidden in the object and came back stays so, whatever is removed from now on. */
static void give_back(struct wf_checkpoint *ck, wf_ino top)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->files_count; i++) {
		struct wf_hidden *h = e->files[i] ? e->files[i]->hidden : NULL;
		if (!h || h->top != top || h->hidden == 0)
			continue;
		show_again(h);
		wf_edit_notify_changed(ck, i + 1);
	}
}

/* A removal in the directory begins, as a part of that of the object: its clock starts again. NULL: no memory. */
static struct wf_hidden *begin_hiding(struct wf_checkpoint *ck, wf_ino dir, wf_ino top)
{
	struct wf_hidden *first = need_hidden(ck, top, top), *h = first ? need_hidden(ck, dir, top) : NULL;
	if (!h)
		return NULL;
	if (!in_time(ck, first))
		give_back(ck, top);
	first->last_nsec = now_nsec();
	return h;
}

/* ---- removals that are put off ---- */

static struct wf_hidden *put_off_at(const struct wf_checkpoint *ck, const struct wf_place *p)
{
	struct wf_hidden *h = hidden_of(ck, p->dir);
	return h && p->position < h->count && h->states[p->position] == PUT_OFF ? h : NULL;
}

bool wf_edits_is_held(const struct wf_checkpoint *ck, wf_ino dir)
{
	return ck->edits && !ck->edits->replaying && waits_for(ck, dir) != WF_NO_INO;
}

int wf_edit_put_off(struct wf_checkpoint *ck, const struct wf_place *p)
{
	struct wf_edits *e = ck->edits;
	wf_ino top = waits_for(ck, p->dir), ino = wf_tree_dir(ck->tree, p->dir)->entries[p->position].ino;
	int r = wf_edit_grow((void **)&e->put_off, &e->put_off_room, e->put_off_count + 1, sizeof *e->put_off, 0);
	if (r < 0)
		return r;
	struct wf_hidden *h = begin_hiding(ck, p->dir, top);
	if (!h)
		return -ENOMEM;
	wf_edit_call_off(ck, ino);
	h->states[p->position] = PUT_OFF;
	h->put_off++;
	e->put_off[e->put_off_count++] = *p;
	e->changes++;
	return 0;
}

/* Of an object that goes on elsewhere: what the program that removes its directory hid on the way is shown, as if nothing had been. What another
 * program hid is back, and the next commit says so. Whether there is any. */
static bool keep_returned(struct wf_hidden *h)
{
	bool any = false;
	for (uint32_t k = 0; k < h->count; k++) {
		h->states[k] = h->states[k] == LEFT || h->states[k] == RETURNED ? RETURNED : SHOWN;
		any |= h->states[k] == RETURNED;
	}
	h->hidden = 0;
	h->top = WF_NO_INO;
	return any;
}

void wf_edit_call_off(struct wf_checkpoint *ck, wf_ino dir)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; wf_tree_dir(ck->tree, dir) && i < e->put_off_count; i++) {
		struct wf_hidden *h = put_off_at(ck, &e->put_off[i]);
		if (!h || !wf_edit_is_within(ck, e->put_off[i].dir, dir))
			continue;
		h->states[e->put_off[i].position] = SHOWN;
		h->put_off--;
	}
	/* and objects inside that lost entries on the way have them where the directory is from now on */
	for (uint32_t i = 0; e->hiding_dirs > 0 && i < e->files_count; i++)
		if (e->files[i] && e->files[i]->hidden && wf_tree_dir(ck->tree, i + 1) &&
		    wf_edit_is_within(ck, i + 1, dir) && !keep_returned(e->files[i]->hidden))
			wf_edit_forget_hidden(ck, e->files[i]);
}

void wf_edits_leave_hidden(struct wf_checkpoint *ck)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; e && e->hiding_dirs > 0 && i < e->files_count; i++) {
		struct wf_hidden *h = e->files[i] ? e->files[i]->hidden : NULL;
		for (uint32_t k = 0; h && h->hidden > 0 && k < h->count; k++)
			h->states[k] = h->states[k] == HIDDEN ? LEFT : h->states[k];
	}
}

/* Those inside a directory that is hidden now stand or fall with it. */
static void hide_with(struct wf_checkpoint *ck, wf_ino dir, wf_ino top)
{
	struct wf_edits *e = ck->edits;
	uint32_t left = 0;
	for (uint32_t i = 0; i < e->put_off_count; i++) {
		const struct wf_place p = e->put_off[i];
		struct wf_hidden *h = put_off_at(ck, &p);
		if (!h)
			continue;
		if (!wf_edit_is_within(ck, p.dir, dir)) {
			e->put_off[left++] = p;
			continue;
		}
		h->states[p.position] = HIDDEN;
		h->put_off--;
		h->hidden++;
		h->top = top;
	}
	e->put_off_count = left;
	/* and objects inside that were hidden for themselves on the way: their own rmdir does not come any more */
	for (uint32_t i = 0; i < e->files_count; i++) {
		struct wf_hidden *h = e->files[i] ? e->files[i]->hidden : NULL;
		if (!h || !wf_tree_dir(ck->tree, i + 1) || !wf_edit_is_within(ck, i + 1, dir))
			continue;
		h->top = i + 1 != dir ? top : h->top;
		for (uint32_t k = 0; k < h->count; k++)
			h->states[k] = h->states[k] == HIDDEN ? HIDDEN_WITH : h->states[k];
	}
}

bool wf_edit_next_put_off(struct wf_checkpoint *ck, struct wf_place *ret)
{
	struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->put_off_count; i++) {
		*ret = e->put_off[i];
		struct wf_hidden *h = put_off_at(ck, ret);
		if (!h)
			continue;
		h->states[ret->position] = SHOWN;
		h->put_off--;
		e->put_off_count -= i + 1;
		memmove(e->put_off, e->put_off + i + 1, e->put_off_count * sizeof *e->put_off);
		return true;
	}
	e->put_off_count = 0;
	return false;
}

bool wf_edits_put_off_around(const struct wf_checkpoint *ck, wf_ino dir)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; e && i < e->put_off_count; i++) {
		const struct wf_place *p = &e->put_off[i];
		if (!put_off_at(ck, p))
			continue;
		wf_ino ino = wf_tree_dir(ck->tree, p->dir)->entries[p->position].ino;
		if (wf_tree_dir(ck->tree, ino) && wf_edit_is_within(ck, dir, ino))
			return true;
	}
	return false;
}

bool wf_edit_is_removing(const struct wf_checkpoint *ck)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->put_off_count; i++) {
		const struct wf_hidden *h = put_off_at(ck, &e->put_off[i]);
		if (h && in_time(ck, h))
			return true;
	}
	return false;
}

int wf_edit_hide(struct wf_checkpoint *ck, const struct wf_place *p)
{
	wf_ino top = top_of(ck, p->dir);
	if (top == WF_NO_INO)
		return -EPERM; /* the checkpoint itself: nobody can remove it around its entries */
	struct wf_hidden *h = begin_hiding(ck, p->dir, top);
	if (!h)
		return -ENOMEM;
	h->hidden += !is_hidden(h->states[p->position]);
	h->states[p->position] = HIDDEN;
	hide_with(ck, wf_tree_dir(ck->tree, p->dir)->entries[p->position].ino, top);
	return 0;
}

void wf_edit_removed_in(struct wf_checkpoint *ck, wf_ino dir)
{
	if (ck->edits->hiding_dirs == 0)
		return;
	for (;; dir = wf_edit_parent_of(ck, dir)) {
		struct wf_hidden *h = hidden_of(ck, dir);
		if (h && h->top == dir && in_time(ck, h))
			h->last_nsec = now_nsec();
		if (dir == WF_INO_ROOT)
			return;
	}
}

void wf_edit_end_hiding(struct wf_checkpoint *ck, wf_ino top)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; e->hiding_dirs > 0 && i < e->files_count; i++)
		if (e->files[i] && e->files[i]->hidden && e->files[i]->hidden->top == top)
			wf_edit_forget_hidden(ck, e->files[i]);
}

/* ---- a commit ---- */

static void append_name(const struct wf_checkpoint *ck, wf_ino dir, uint32_t position, struct wf_buffer *out)
{
	char name[WF_NAME_MAX + 1];
	wf_tree_path(ck->tree, dir, out);
	if (wf_tree_name(ck->tree, wf_tree_dir(ck->tree, dir), position, name)) {
		wf_buffer_putc(out, '/');
		wf_buffer_puts(out, name);
	}
}

static void log_returned(const struct wf_checkpoint *ck, wf_ino dir, uint32_t position, uint32_t nth,
			 struct wf_buffer *out)
{
	struct wf_buffer name = WF_BUFFER_INIT;
	append_name(ck, dir, position, &name);
	if (nth < NAMES_LOGGED && name.data) {
		wf_log_line(&ck->log, "%s was removed and is back: the object that it belongs to was not removed",
			    name.data);
		wf_buffer_printf(out, "%s%s", nth ? ", " : "", name.data);
	}
	wf_buffer_free(&name);
}

uint32_t wf_edits_return_hidden(struct wf_checkpoint *ck, struct wf_buffer *ret_names)
{
	struct wf_edits *e = ck->edits;
	uint32_t returned = 0;
	for (uint32_t i = 0; e && e->hiding_dirs > 0 && i < e->files_count; i++) {
		struct wf_file *f = e->files[i];
		if (!f || !f->hidden)
			continue;
		for (uint32_t k = 0; k < f->hidden->count; k++)
			if (f->hidden->states[k] != SHOWN)
				log_returned(ck, i + 1, k, returned++, ret_names);
		wf_edit_forget_hidden(ck, f);
		wf_edit_notify_changed(ck, i + 1);
	}
	if (returned > NAMES_LOGGED)
		wf_buffer_printf(ret_names, " and %u more", returned - NAMES_LOGGED);
	return returned;
}
