/* SPDX-License-Identifier: MIT */
/* The life of open files. Content is judged when a descriptor of a writer is closed, and by fsync, and readers see what came of
 * it at once; what the writer has in its hands goes on until its last release. Readers end nothing.
 *
 * Nobody says whether a descriptor that is closed was the last one: a shell's stays open over the commands of a group, whose
 * ends look the same. The release says so, but later than the caller of close goes on. So what was judged is the end of a round
 * when somebody else edits the file: an opening that found settled content belongs to the next round, which begins when it
 * writes; it finds the entry as it was judged, and has that to go back to. An opening of an earlier round that writes once more
 * was open all along, and counts again from then on. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

static void count_writer(struct wf_file *f, struct wf_opening *o)
{
	f->writers += !f->settled;
	f->newcomers += f->settled;
	f->in_hand++;
	o->round = f->round + f->settled;
}

static int note_open(struct wf_checkpoint *ck, wf_ino ino, struct wf_opening *o)
{
	int r = 0;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = n ? wf_edit_file(ck, ino) : NULL;
	if (!f)
		r = n ? -ENOMEM : -ENOENT;
	else if (o && n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		r = n->type == WF_NODE_DIR ? -EISDIR : -EPERM;
	else if (o && n->type == WF_NODE_VALUE && n->object != WF_NIL && f->pending == PENDING_NOT &&
		 !wf_value_is_settable(ck->graph, n->object))
		r = wf_refuse(ck, -EPERM, "a value of its class cannot be given as text; remove it and make a new one");
	if (r == 0) {
		f->openers++;
		if (o)
			count_writer(f, o);
	}
	return r;
}

static int count_open(struct wf_checkpoint *ck, wf_ino ino, struct wf_opening *o)
{
	int r = 0;
	pthread_rwlock_rdlock(&ck->lock);
	bool room = ino <= ck->edits->files_count; /* else the table grows, under the eyes of its readers */
	if (room) {
		pthread_mutex_lock(&ck->open_lock);
		r = note_open(ck, ino, o);
		pthread_mutex_unlock(&ck->open_lock);
	}
	pthread_rwlock_unlock(&ck->lock);
	if (room)
		return r;
	pthread_rwlock_wrlock(&ck->lock);
	r = note_open(ck, ino, o);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_open_file(struct wf_checkpoint *ck, uint32_t ino, enum wf_access access, struct wf_opening **ret)
{
	struct wf_opening *o = NULL;
	*ret = NULL;
	if (access != WF_READS && !ck->writable)
		return -EROFS;
	if (!ck->overlay)
		return 0;
	if (access != WF_READS && !(o = calloc(1, sizeof *o)))
		return -ENOMEM;
	if (o)
		o->appends = access == WF_APPENDS;
	int r = count_open(ck, ino, o);
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
	bool has = f && (f->touched || o->failed || (!f->settled && (f->pending != PENDING_NOT || f->old || f->undo)));
	pthread_rwlock_unlock(&ck->lock);
	return has;
}

/* The first of an opening's descriptors is closed. Waits for no edit, and for no commit. */
static void note_closed(struct wf_checkpoint *ck, wf_ino ino)
{
	pthread_rwlock_rdlock(&ck->lock);
	struct wf_file *f = wf_edit_known(ck, ino);
	pthread_mutex_lock(&ck->open_lock);
	if (f && f->in_hand > 0)
		f->in_hand--;
	pthread_mutex_unlock(&ck->open_lock);
	pthread_rwlock_unlock(&ck->lock);
}

static int settle(struct wf_checkpoint *ck, wf_ino ino, const struct wf_opening *o)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	int r = 0;
	if (o->failed && f->writers <= 1) {
		/* it changes nothing; and what came of it is no success, should something have been written behind it */
		r = wf_edit_restore(ck, ino);
		f->touched = false;
		f->refused = true;
		if (r == 0)
			wf_edit_settle(ck, ino);
		if (r == 0 && f->pending != PENDING_NOT && wf_edits_pending_size(ck, ino) > 0)
			r = o->failed;
		return r;
	}
	if (f->touched)
		r = wf_edit_judge(ck, ino);
	if (!f->touched && (r == 0 || f->refused))
		wf_edit_settle(ck, ino);
	return r;
}

int wf_flush(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o)
{
	if (!ck->overlay || !o)
		return 0;
	if (!atomic_exchange(&o->flushed, true))
		note_closed(ck, ino);
	if (!has_to_be_judged(ck, ino, o))
		return 0;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f && o->round == f->round)
		r = settle(ck, ino, o);
	wf_edit_end(ck);
	return r;
}

static bool ends_something(struct wf_checkpoint *ck, wf_ino ino)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool ends = f && (f->pending != PENDING_NOT || f->touched || f->old || f->undo || f->declared || f->settled ||
			  f->refused || f->anew || (f->is_new && !f->judged));
	pthread_rwlock_unlock(&ck->lock);
	return ends;
}

/* Whether the log has to hear of what a release ends. */
static bool is_told(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_opening *o)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f && (f->touched || (o->failed && !f->settled) || f->failed || f->declared ||
		     (f->is_new && !f->judged) || (f->pending == PENDING_BYTES && !ck->edits->unnamed[f->storage]));
}

/* After a commit all is said as a rule: a log that were begun then would look as if something waited for the next one. */
static bool begin_ending(struct wf_checkpoint *ck, wf_ino ino, const struct wf_opening *o)
{
	wf_edit_begin_untold(ck);
	if (!is_told(ck, ino, o))
		return true;
	wf_edit_end(ck);
	return wf_edit_begin(ck) == 0;
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

/* The last writer of this round has closed it. */
static void end_last(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool refused = f->is_new && f->refused;
	int r = wf_edit_next_round(ck, ino);
	if (refused || r == -EINVAL)
		wf_edit_take_away(ck, ino);
}

static bool is_closed(const struct wf_file *f)
{
	return f && f->writers + f->newcomers > 0 && f->in_hand == 0;
}

static bool is_closing(struct wf_checkpoint *ck, bool (*is)(struct wf_checkpoint *ck, wf_ino ino))
{
	bool closing = false;
	pthread_mutex_lock(&ck->open_lock);
	for (wf_ino ino = 1; !closing && ino <= ck->edits->files_count; ino++)
		closing = is_closed(wf_edit_known(ck, ino)) && is(ck, ino);
	pthread_mutex_unlock(&ck->open_lock);
	return closing;
}

static bool may_be_unjudged(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f->is_new && !f->judged;
}

bool wf_is_closing(struct wf_checkpoint *ck)
{
	if (!ck->overlay)
		return false;
	pthread_rwlock_rdlock(&ck->lock);
	bool closing = is_closing(ck, may_be_unjudged);
	pthread_rwlock_unlock(&ck->lock);
	if (!closing)
		return false;
	pthread_rwlock_wrlock(&ck->lock); /* who asks where an entry is notes the answer */
	closing = is_closing(ck, wf_edit_is_unjudged);
	pthread_rwlock_unlock(&ck->lock);
	return closing;
}

int wf_release_closed(struct wf_checkpoint *ck)
{
	if (!ck->overlay)
		return 0;
	int r = wf_edit_begin(ck);
	for (wf_ino ino = 1; r == 0 && ino <= ck->edits->files_count; ino++) {
		struct wf_file *f = wf_edit_known(ck, ino);
		if (!is_closed(f) || wf_tree_node(ck->tree, ino)->nlink == 0)
			continue;
		f->writers = f->newcomers = 0;
		end_last(ck, ino);
	}
	if (r == 0)
		wf_edit_end(ck);
	return r;
}

void wf_release(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o)
{
	if (!ck->overlay || (!o && release_reader(ck, ino)))
		return;
	bool edits = o && ends_something(ck, ino) && begin_ending(ck, ino, o);
	if (!edits)
		pthread_rwlock_wrlock(&ck->lock);
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f) {
		bool counts = o && o->round == f->round;
		f->openers -= f->openers > 0;
		f->in_hand -= o && !o->flushed && f->in_hand > 0;
		f->writers -= counts && f->writers > 0;
		f->newcomers -= o && o->round == f->round + 1 && f->newcomers > 0;
		f->failed |= edits && counts && o->failed && f->writers == 0 && !f->touched && !f->settled;
		if (edits && counts && f->writers == 0)
			end_last(ck, ino);
		wf_edit_forget(ck, ino);
	}
	if (edits)
		wf_edit_end(ck);
	else
		pthread_rwlock_unlock(&ck->lock);
	free(o);
}
