/* SPDX-License-Identifier: MIT */
/* The end of writing: content is judged, what was pending goes, and who reads the file hears of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/value/text.h"

static void note_refused(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_edits *e = ck->edits;
	struct wf_buffer path = WF_BUFFER_INIT;
	wf_tree_path(ck->tree, ino, &path);
	const char *where = path.data ? path.data : "?";
	wf_log_line(&ck->log, "%s: the content does not fit: the old one stays", where);
	char **lines = reallocarray(e->refused, e->refused_count + 1, sizeof *lines);
	if (lines)
		e->refused = lines;
	if (lines && e->refused_count < WF_REFUSED_MAX) {
		char *line = strdup(where);
		if (line)
			lines[e->refused_count++] = line;
	}
	wf_buffer_free(&path);
}

/* What readers see of pending content that stays or goes: whether another text comes in its place. */
static bool shows_the_same(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_buffer now = WF_BUFFER_INIT;
	if (f->pending != PENDING_TEXT || n->type != WF_NODE_VALUE)
		return f->pending == PENDING_NOT;
	bool same = wf_value_text(ck->graph, n->object, &now) == 0 && now.len == f->text.len &&
		    (now.len == 0 || !memcmp(now.data, f->text.data, now.len));
	wf_buffer_free(&now);
	return same;
}

static bool is_unjudged(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f->is_new && !f->judged && wf_tree_node(ck->tree, ino)->type == WF_NODE_TENSOR;
}

int wf_edit_end_writing(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	bool failed = f->failed;
	int r = 0;
	/* an empty file that was made and never written is judged, too: it may be what a tensor without elements was */
	bool never_written = !f->refused && is_unjudged(ck, ino);
	if ((f->touched || never_written) && !failed)
		r = wf_edit_judge(ck, ino);
	if (wf_edit_is_refusal(r))
		note_refused(ck, ino);
	if (failed)
		wf_edit_restore(ck, ino);
	if (f->pending != PENDING_NOT && (failed || !wf_edit_keeps_text(ck, ino))) {
		bool same = wf_edit_stands_aside(ck, ino) || shows_the_same(ck, ino);
		int dropped = wf_edit_drop_pending(ck, ino);
		r = r < 0 ? r : dropped;
		if (!same)
			wf_edit_notify_changed(ck, ino);
	}
	/* nothing is left of content that was refused: it is an empty entry, as one that was never written */
	if (f->refused && is_unjudged(ck, ino) && (!wf_edit_is_flat(ck) || wf_edit_is_scratch_file(ck, ino)))
		f->judged = true;
	wf_edit_forget_old(ck, ino);
	wf_edit_free_undo(f);
	f->anew = f->touched = f->sized = f->failed = f->refused = f->settled = false;
	/* those of an entry that is empty wait for content, for which it need not be open yet */
	bool wait = f->declared && !f->declared_fits && wf_edit_size(ck, ino) == 0;
	if (!f->is_new && !wait)
		wf_declared_clear(f);
	int told = wf_edit_tell_known(ck, ino);
	return r < 0 ? r : told;
}

void wf_edit_keep_as_judged(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	wf_edit_forget_old(ck, ino);
	wf_edit_free_undo(f);
	f->refused = false;
}

void wf_edit_rest(struct wf_checkpoint *ck, wf_ino ino)
{
	if (wf_edit_known(ck, ino)->writers == 0)
		wf_edit_keep_as_judged(ck, ino);
}

/* ---- between the last close and the release ---- */

void wf_edit_settle(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f->settled || (f->is_new && !f->judged) || wf_tree_node(ck->tree, ino)->nlink == 0)
		return;
	f->settled = true;
	f->seen = false;
	ck->edits->changes++;
	if (wf_edit_stands_aside(ck, ino) && !shows_the_same(ck, ino))
		wf_edit_notify_changed(ck, ino);
}

int wf_edit_next_round(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	int r = wf_edit_end_writing(ck, ino);
	f->round++;
	f->writers = f->newcomers;
	f->newcomers = 0;
	return r;
}

int wf_edit_end_round(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f && f->settled ? wf_edit_next_round(ck, ino) : 0;
}

/* The opening counts among those of this round: one of an earlier round was open all along, one of the next comes in between. */
static void join(struct wf_file *f, struct wf_opening *o)
{
	if (o->round == f->round)
		return;
	f->newcomers -= o->round == f->round + 1;
	o->round = f->round;
	f->writers++;
}

int wf_edit_resume(struct wf_checkpoint *ck, wf_ino ino, struct wf_opening *o)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	int r = 0;
	if (!f)
		return 0;
	if (!o || o->round == f->round + 1)
		r = wf_edit_end_round(ck, ino);
	if (o)
		join(f, o);
	if (!f->settled)
		return r;
	bool shown = wf_edit_stands_aside(ck, ino) && f->seen;
	f->settled = false;
	ck->edits->changes++;
	if (shown)
		wf_edit_notify_changed(ck, ino);
	return r;
}

void wf_edit_take_away(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_place p;
	char name[WF_NAME_MAX + 1];
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (!f->is_new || f->judged || !wf_edit_is_flat(ck) || f->writers > 0 || f->stand_in ||
	    wf_tree_node(ck->tree, ino)->nlink != 1 || wf_edit_place_of(ck, ino, &p) < 0 ||
	    wf_edit_is_scratch(ck, p.dir) || !wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p.dir), p.position, name))
		return;
	wf_ino dir = p.dir;
	if (wf_apply_unlink(ck, dir, name) == 0 && ck->renamed)
		ck->renamed(ck->changed_ctx, wf_edits_visible_dir(ck, dir), name);
}

int wf_edit_judge_again(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || !f->is_new || !f->judged)
		return 0; /* it is judged when it is closed */
	int r = wf_edit_judge(ck, ino);
	if (f->writers == 0)
		r = wf_edit_end_writing(ck, ino);
	return r == -EINVAL ? 0 : r;
}

int wf_edit_judge_all(struct wf_checkpoint *ck)
{
	for (wf_ino ino = 1; ino <= ck->edits->files_count; ino++) {
		struct wf_file *f = wf_edit_known(ck, ino);
		/* what a writer has in its hands is not judged by somebody else's commit */
		if (!f || !f->touched || f->writers > 0 || wf_tree_node(ck->tree, ino)->nlink == 0)
			continue;
		int r = wf_edit_end_writing(ck, ino);
		if (r < 0 && !wf_edit_is_refusal(r))
			return r;
	}
	return 0;
}
