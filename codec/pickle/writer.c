/* SPDX-License-Identifier: MIT */
/* The frames of the pickle writer: which objects are being written, and how far each is. */
#include <errno.h>

#include "codec/bytes/array.h"
#include "codec/pickle/writer.h"
#include "codec/bytes/util.h"

/* Elements that may be written again because the object around them contains itself. */
#define MAX_REPEATS (4u << 20)
#define MAX_DEPTH ((uint32_t)(WF_GRAPH_MAX_BYTES / sizeof(struct pickle_frame)))

int wf_pickle_push_frame(struct pickle_writer *w, struct pickle_frame f)
{
	if (w->depth == w->cap) {
		int rc = wf_array_reserve(&w->frames, &w->cap, (uint64_t)w->depth + 1, sizeof *w->frames, MAX_DEPTH);
		if (rc < 0)
			return rc == -E2BIG ? wf_fail(w->out.err, rc, "objects nested deeper than %u", w->depth)
					    : wf_fail(w->out.err, rc, "out of memory");
	}
	w->frames[w->depth++] = f;
	return 0;
}

int wf_pickle_pop_frame(struct pickle_writer *w)
{
	w->depth--;
	return 0;
}

bool wf_pickle_is_entered(const struct pickle_writer *w, wf_ref r)
{
	return !wf_is_constant(w->out.g, r) && w->entered[r >> 3] >> (r & 7) & 1;
}

int wf_pickle_charge_repeat(struct pickle_writer *w, uint32_t parts)
{
	w->repeats += (uint64_t)parts + 1;
	if (w->repeats > MAX_REPEATS)
		return wf_fail(w->out.err, -E2BIG, "objects that contain themselves in too many ways");
	return 0;
}

int wf_pickle_enter(struct pickle_writer *w, struct pickle_frame f, uint32_t parts)
{
	if (wf_pickle_is_entered(w, f.ref)) {
		int rc = wf_pickle_charge_repeat(w, parts);
		if (rc < 0)
			return rc;
		f.again = true;
	}
	w->entered[f.ref >> 3] |= (unsigned char)(1u << (f.ref & 7));
	return wf_pickle_push_frame(w, f);
}

uint32_t wf_pickle_count_live(const struct wf_graph *g, wf_ref r)
{
	uint32_t n, live = 0;

	if (!wf_is(g, r, WF_DICT)) {
		wf_elements(g, r, &n);
		return n;
	}
	const struct wf_item *items = wf_items(g, r, &n);
	for (uint32_t i = 0; i < n; i++)
		live += items[i].key != WF_NIL;
	return live;
}

bool wf_pickle_is_filled(const struct pickle_writer *w, wf_ref r)
{
	return wf_is(w->out.g, r, WF_LIST) || wf_is(w->out.g, r, WF_DICT);
}

int wf_pickle_make_room(struct pickle_writer *w)
{
	uint32_t had = w->out.limit, limit = wf_graph_limit(w->out.g);
	if (limit <= had)
		return 0;
	limit += had ? limit / 2 : 0; /* more may come */
	uint32_t *memo = calloc(limit, sizeof *memo);
	unsigned char *entered = calloc(limit / 8 + 1, 1);
	if (!memo || !entered) {
		free(memo);
		free(entered);
		return wf_fail(w->out.err, -ENOMEM, "out of memory");
	}
	if (had) {
		memcpy(memo, w->out.memo, had * sizeof *memo);
		memcpy(entered, w->entered, had / 8 + 1);
	}
	free(w->out.memo);
	free(w->entered);
	w->out.memo = memo;
	w->out.limit = limit;
	w->entered = entered;
	return 0;
}

bool wf_pickle_is_made(const struct pickle_writer *w, wf_ref dict)
{
	return w->out.hooks->made.item && w->out.hooks->made.dict == dict;
}

int wf_pickle_make_item(struct pickle_writer *w, uint32_t i)
{
	const struct wf_pickle_writer *hooks = w->out.hooks;
	uint32_t limit = wf_graph_limit(w->out.g), kept;
	int rc = hooks->made.item(hooks->ctx, i, &w->item, &kept, w->out.err);
	for (uint32_t r = kept; rc == 0 && r < limit; r++) {
		w->out.memo[r] = 0;
		w->entered[r >> 3] &= (unsigned char)~(1u << (r & 7));
	}
	return rc < 0 ? rc : wf_pickle_make_room(w);
}

static int enter_batch(struct pickle_writer *w, struct pickle_frame f)
{
	if (wf_pickle_is_filled(w, f.ref)) {
		f.again = wf_pickle_is_entered(w, f.ref);
		w->entered[f.ref >> 3] |= (unsigned char)(1u << (f.ref & 7));
	}
	return wf_pickle_push_frame(w, f);
}

int wf_pickle_leave_batch(struct pickle_writer *w, const struct pickle_frame *f)
{
	if (wf_pickle_is_filled(w, f->ref) && !f->again)
		w->entered[f->ref >> 3] &= (unsigned char)~(1u << (f->ref & 7));
	return wf_pickle_pop_frame(w);
}

int wf_pickle_push_batch(struct pickle_writer *w, wf_ref container, bool own)
{
	uint32_t total = 0;

	if (container)
		total = wf_pickle_is_made(w, container) ? w->out.hooks->made.count
							: wf_pickle_count_live(w->out.g, container);

	if (total == 0)
		return 0;
	return enter_batch(w, (struct pickle_frame){.kind = FRAME_BATCH, .ref = container, .own = own, .total = total});
}

void wf_pickle_writer_free(struct pickle_writer *w)
{
	free(w->out.buf);
	free(w->out.memo);
	free(w->frames);
	free(w->entered);
}
