/* SPDX-License-Identifier: MIT */
/* What a pickle does, in its order, as one number: of the one that is read, and of the one that would be written from
 * the same graph. Both count each call, each state set, and how full an object was whenever it was used again. Sizes of
 * batches do not count, since nobody sees an object between two items unless it is used there. */
#include <errno.h>

#include "codec/pickle/writer.h"
#include "codec/bytes/util.h"

/* How much has been put into an object: elements, items, states. */
static uint64_t filled_of(const struct wf_graph *g, wf_ref r)
{
	struct wf_effects e;
	uint32_t n, m;
	uint64_t filled = 0;

	if (!wf_is(g, r, WF_CALL)) {
		wf_elements(g, r, &n);
		wf_items(g, r, &m);
		return (uint64_t)n + m;
	}
	for (uint32_t i = 0; i < PICKLE_TRACE_ROUNDS && wf_call_effects(g, r, i, &e); i++) {
		wf_elements(g, e.list, &n);
		wf_elements(g, e.set, &m);
		filled += (uint64_t)n + m + (e.state != WF_NIL);
		wf_items(g, e.dict, &n);
		filled += n;
	}
	return filled;
}

/* ---- reading ---- */

static void note(struct pickle_machine *m, uint64_t what)
{
	m->trace = wf_hash_mix(m->g, m->trace, what);
}

void wf_pickle_trace_call(struct pickle_machine *m, wf_ref r)
{
	m->before_call = m->trace;
	m->last_call = r;
	note(m, PICKLE_TRACE_CALL | r);
}

static bool same_function(const struct wf_graph *g, wf_ref a, wf_ref b)
{
	return a == b || (wf_is(g, b, WF_GLOBAL) && wf_is_global(g, a, wf_global_module(g, b), wf_global_name(g, b)));
}

/* An object that contains itself is made inside and once more outside, thrown away there, and taken from the memo: the
 * writer makes the one object twice. */
static void trace_again(struct pickle_machine *m, wf_ref r)
{
	const struct wf_graph *g = m->g;

	if (!m->just_dropped || !wf_is(g, r, WF_CALL) || r == m->last_call ||
	    !same_function(g, wf_call_func(g, r), wf_call_func(g, m->last_call)))
		return;
	m->trace = m->before_call;
	note(m, PICKLE_TRACE_CALL | r);
}

void wf_pickle_trace_seen(struct pickle_machine *m, wf_ref r)
{
	if (!wf_pickle_can_change(m->g, r))
		return;
	trace_again(m, r);
	note(m, PICKLE_TRACE_SEEN | r);
	note(m, filled_of(m->g, r));
}

/* ---- writing ---- */

void wf_pickle_write_trace(struct pickle_writer *w, uint64_t what)
{
	if (w->traced)
		w->trace = wf_hash_mix(w->out.g, w->trace, what);
}

/* How much of a list or dict has been put in: all before the batch that is being written. */
static uint64_t put_in(const struct pickle_frame *f)
{
	return f->stage == BATCH_BETWEEN ? f->done : f->round;
}

static uint64_t count_of(const struct pickle_writer *w, const struct pickle_frame *above, wf_ref container,
			 bool is_done)
{
	uint32_t n, m;

	if (above && above->kind == FRAME_BATCH && above->ref == container && container != WF_NIL)
		return put_in(above);
	wf_elements(w->out.g, container, &n);
	wf_items(w->out.g, container, &m);
	return is_done ? (uint64_t)n + m : 0;
}

/* Of a call whose changes are being written, at frame i. */
static uint64_t put_into_call(const struct pickle_writer *w, uint32_t i)
{
	const struct pickle_frame *f = &w->frames[i], *above = i + 1 < w->depth ? f + 1 : NULL;
	struct wf_effects e;
	uint64_t n = 0;

	for (uint32_t k = 0; k <= f->round && k < PICKLE_TRACE_ROUNDS && wf_call_effects(w->out.g, f->ref, k, &e);
	     k++) {
		bool past = k < f->round;
		n += count_of(w, past ? NULL : above, e.list, past || f->stage >= CALL_SET);
		n += count_of(w, past ? NULL : above, e.set, past || f->stage >= CALL_DICT);
		n += count_of(w, past ? NULL : above, e.dict, past || f->stage >= CALL_STATE);
		n += past && e.state != WF_NIL;
	}
	return n;
}

void wf_pickle_write_trace_seen(struct pickle_writer *w, wf_ref r)
{
	const struct wf_graph *g = w->out.g;
	uint32_t i = w->depth;

	if (!w->traced || !wf_pickle_can_change(g, r))
		return;
	wf_pickle_write_trace(w, PICKLE_TRACE_SEEN | r);
	while (i > 0 && !(w->frames[i - 1].ref == r &&
			  (w->frames[i - 1].kind == FRAME_BATCH || w->frames[i - 1].kind == FRAME_CALL)))
		i--;
	w->looked_for += w->depth - i + 1;
	if (i == 0)
		wf_pickle_write_trace(w, filled_of(g, r));
	else
		wf_pickle_write_trace(w, wf_is(g, r, WF_CALL) ? put_into_call(w, i - 1) : put_in(&w->frames[i - 1]));
}
