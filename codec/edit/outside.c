/* SPDX-License-Identifier: MIT */
/* A checkpoint of DeepSpeed is written as its model alone, whatever else the tree shows. What was edited beside the model would be in no
 * file: it is noted here, so that the commit refuses. A node that is in the model under one name is there under all of them, and one that
 * is made later has its directory stamped. */
#include <stdlib.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"

wf_ino wf_whole_start(const struct wf_checkpoint *ck)
{
	uint32_t position;
	if (wf_container_kind_of(ck->container) != WF_CONTAINER_ZERO ||
	    wf_tree_lookup(ck->tree, WF_INO_ROOT, "model", &position) < 0)
		return WF_INO_ROOT;
	wf_ino ino = wf_tree_dir(ck->tree, WF_INO_ROOT)->entries[position].ino;
	return wf_tree_dir(ck->tree, ino) ? ino : WF_INO_ROOT;
}

static bool is_inside(const struct wf_edits *e, wf_ino ino)
{
	return ino > e->inside_count || (e->inside[ino / 64] >> ino % 64 & 1);
}

/* Marks what is below the start: each directory once. */
static bool find_inside(struct wf_checkpoint *ck)
{
	struct wf_edits *e = ck->edits;
	uint32_t n = wf_tree_node_count(ck->tree), waiting = 0;
	cleanup_free wf_ino *dirs = reallocarray(NULL, n + 1u, sizeof *dirs);
	uint64_t *inside = calloc(n / 64 + 1u, sizeof *inside);
	if (!dirs || !inside) {
		free(inside);
		return false;
	}
	wf_ino start = wf_whole_start(ck);
	inside[start / 64] |= 1ull << start % 64;
	dirs[waiting++] = start;
	while (waiting > 0) {
		const struct wf_dir *d = wf_tree_dir(ck->tree, dirs[--waiting]);
		for (uint32_t i = 0; d && i < d->count; i++) {
			wf_ino ino = d->entries[i].ino;
			if (ino == WF_NO_INO || ino > n || (inside[ino / 64] >> ino % 64 & 1))
				continue;
			inside[ino / 64] |= 1ull << ino % 64;
			if (wf_tree_dir(ck->tree, ino))
				dirs[waiting++] = ino;
		}
	}
	e->inside = inside;
	e->inside_count = n;
	return true;
}

void wf_edit_note_outside(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_edits *e = ck->edits;
	if (e->outside != WF_NO_INO || wf_container_kind_of(ck->container) != WF_CONTAINER_ZERO)
		return;
	/* without memory for the marks nothing is known to be inside */
	if ((!e->inside && !find_inside(ck)) || !is_inside(e, ino))
		e->outside = ino;
}

wf_ino wf_edits_outside(const struct wf_checkpoint *ck)
{
	return ck->edits ? ck->edits->outside : WF_NO_INO;
}
