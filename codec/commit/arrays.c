/* SPDX-License-Identifier: MIT */
/* Arrays whose bytes inside the pickle changed: each gets them as a new object of the graph.
 */
#include "codec/commit/inner.h"

#include <errno.h>

#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

/* The bytes of a storage inside the pickle as a new object of the graph, which the writer knows how to express. */
static int make_bytes(struct wf_plan *p, uint32_t i, wf_ref *ret, struct wf_error *err)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, i);
	bool array = wf_is(p->in.graph, wf_numpy_bytes(p->in.graph, wf_storage_array(p->in.storages, i)), WF_BYTEARRAY);
	if (s->size_bytes > WF_GRAPH_MAX_BYTES / 4)
		return wf_fail(err, -E2BIG, "an array of %llu bytes inside the pickle is too large to be changed",
			       (unsigned long long)s->size_bytes);
	uint32_t head;
	wf_storage_data(p->in.storages, i, &head);
	size_t n = (size_t)s->size_bytes;
	cleanup_free unsigned char *bytes = malloc(head + n + 1);
	if (!bytes)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_storage_read(p->in.storages, i, 0, bytes + head, n);
	if (r == 0 && head > 0)
		r = wf_storage_read_head(p->in.storages, i, bytes);
	if (r < 0)
		return wf_fail(err, r, "cannot read the changed bytes of an array: %s", strerror(-r));
	wf_ref made = wf_string(p->in.graph, array ? WF_BYTEARRAY : WF_BYTES, bytes, head + n);
	if (made == WF_NIL)
		return wf_fail(err, -E2BIG, "the changed array does not fit the limit of the program's object table");
	*ret = made;
	return 0;
}

static int move_bytes(struct wf_plan *p, uint32_t i, struct wf_error *err)
{
	wf_ref array = wf_storage_array(p->in.storages, i), from = wf_numpy_bytes(p->in.graph, array);
	wf_ref to = WF_NIL;
	struct wf_moved_bytes *moved = reallocarray(p->moved, p->moved_count + 1, sizeof *moved);
	if (!moved)
		return wf_fail(err, -ENOMEM, "out of memory");
	p->moved = moved;
	int r = make_bytes(p, i, &to, err);
	if (r < 0)
		return r;
	r = wf_numpy_set_bytes(p->in.graph, array, to);
	if (r < 0)
		return wf_fail(err, r, "cannot put a changed array into the pickle: %s", strerror(-r));
	p->moved[p->moved_count++] = (struct wf_moved_bytes){.array = array, .from = from};
	return 0;
}

int wf_plan_move_bytes(struct wf_plan *p, struct wf_error *err)
{
	uint32_t n = wf_storages_count(p->in.storages);
	int r = 0;
	for (uint32_t i = 0; i < n && r == 0; i++) {
		const struct wf_storage *s = wf_storage_get(p->in.storages, i);
		if (s->inside && !s->bad && (s->resized || wf_extents_bytes(s->dirty) > 0))
			r = move_bytes(p, i, err);
	}
	return r;
}

void wf_plan_undo(struct wf_plan *p)
{
	/* should memory be gone for what there was memory for on the way forth, the arrays merely show their new bytes
	 * twice: in the graph and in the extents */
	while (p->moved_count > 0) {
		const struct wf_moved_bytes *m = &p->moved[--p->moved_count];
		wf_numpy_set_bytes(p->in.graph, m->array, m->from);
	}
	wf_plan_undo_inline(p);
}
