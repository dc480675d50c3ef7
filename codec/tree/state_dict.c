/* SPDX-License-Identifier: MIT */
/* What the walks of all modules of a tree may spend together, and the entries that they give. */
#include <errno.h>

#include "codec/tree/module_inner.h"

int wf_state_spend(struct wf_state_dicts *s, uint64_t n)
{
	if (n > s->steps)
		return -E2BIG;
	s->steps -= n;
	return 0;
}

int wf_state_emit(struct wf_state_walk *w, const char *own, size_t len, wf_ref value)
{
	size_t before = w->name.len;
	if (w->shared->keys == 0 || w->shared->key_bytes < before + len)
		return -E2BIG;
	w->shared->keys--;
	w->shared->key_bytes -= before + len;
	wf_buffer_append(&w->name, own, len);
	int r = wf_buffer_status(&w->name);
	if (r == 0)
		r = w->each(w->ctx, w->name.data ? w->name.data : "", w->name.len, value);
	w->name.len = before;
	return r;
}
