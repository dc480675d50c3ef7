/* SPDX-License-Identifier: MIT */
/* The life of open files. Content is judged when a descriptor of a writer is closed, and by fsync; what the writer has in
 * its hands goes on until its last release. Readers end nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

static int note_open(struct wf_checkpoint *ck, wf_ino ino, bool for_writing)
{
	int r = 0;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = n ? wf_edit_file(ck, ino) : NULL;
	if (!f)
		r = n ? -ENOMEM : -ENOENT;
	else if (for_writing && n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		r = n->type == WF_NODE_DIR ? -EISDIR : -EPERM;
	else if (for_writing && n->type == WF_NODE_VALUE && n->object != WF_NIL && f->pending == PENDING_NOT &&
		 !wf_value_is_settable(ck->graph, n->object))
		r = wf_refuse(ck, -EPERM, "a value of its class cannot be given as text; remove it and make a new one");
	if (r == 0) {
		f->openers++;
		f->writers += for_writing;
	}
	return r;
}

static int count_open(struct wf_checkpoint *ck, wf_ino ino, bool for_writing)
{
	int r = 0;
	pthread_rwlock_rdlock(&ck->lock);
	bool room = ino <= ck->edits->files_count; /* else the table grows, under the eyes of its readers */
	if (room) {
		pthread_mutex_lock(&ck->open_lock);
		r = note_open(ck, ino, for_writing);
		pthread_mutex_unlock(&ck->open_lock);
	}
	pthread_rwlock_unlock(&ck->lock);
	if (room)
		return r;
	pthread_rwlock_wrlock(&ck->lock);
	r = note_open(ck, ino, for_writing);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_open_file(struct wf_checkpoint *ck, uint32_t ino, bool for_writing, struct wf_opening **ret)
{
	struct wf_opening *o = NULL;
	*ret = NULL;
	if (for_writing && !ck->writable)
		return -EROFS;
	if (!ck->overlay)
		return 0;
	if (for_writing && !(o = calloc(1, sizeof *o)))
		return -ENOMEM;
	int r = count_open(ck, ino, for_writing);
	if (r < 0)
		free(o);
	else
		*ret = o;
	return r;
}

/* A look, so that a close that ends nothing waits for no edit. */
static bool has_to_be_judged(struct wf_checkpoint *ck, wf_ino ino, const struct wf_opening *o)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool has = f && (f->touched || o->failed);
	pthread_rwlock_unlock(&ck->lock);
	return has;
}

int wf_flush(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o)
{
	if (!ck->overlay || !o)
		return 0;
	o->flushed = true;
	if (!has_to_be_judged(ck, ino, o))
		return 0;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (o->failed && f && f->writers <= 1) {
		/* it changes nothing; and what came of it is no success, should something have been written behind it */
		r = wf_edit_restore(ck, ino);
		if (r == 0 && f->pending != PENDING_NOT && wf_edits_pending_size(ck, ino) > 0)
			r = o->failed;
		f->touched = false;
	} else if (f && f->touched) {
		r = wf_edit_judge(ck, ino);
	}
	wf_edit_end(ck);
	return r;
}

static bool ends_something(struct wf_checkpoint *ck, wf_ino ino)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool ends =
		f && (f->pending != PENDING_NOT || f->touched || f->old || f->declared || (f->is_new && !f->judged));
	pthread_rwlock_unlock(&ck->lock);
	return ends;
}

/* The end of reading changes nothing but a count, unless the file has no name any more. */
static bool release_reader(struct wf_checkpoint *ck, wf_ino ino)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = n && n->nlink > 0 ? wf_edit_known(ck, ino) : NULL;
	if (f) {
		pthread_mutex_lock(&ck->open_lock);
		f->openers -= f->openers > 0;
		pthread_mutex_unlock(&ck->open_lock);
	}
	pthread_rwlock_unlock(&ck->lock);
	return f != NULL;
}

void wf_release(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o)
{
	if (!ck->overlay || (!o && release_reader(ck, ino)))
		return;
	bool edits = o && ends_something(ck, ino) && wf_edit_begin(ck) == 0;
	if (!edits)
		pthread_rwlock_wrlock(&ck->lock);
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f) {
		f->openers -= f->openers > 0;
		f->writers -= o && f->writers > 0;
		f->failed |= o && o->failed && f->writers == 0 && !f->touched;
		if (edits && f->writers == 0)
			wf_edit_end_writing(ck, ino);
		wf_edit_forget(ck, ino);
	}
	if (edits)
		wf_edit_end(ck);
	else
		pthread_rwlock_unlock(&ck->lock);
	free(o);
}
