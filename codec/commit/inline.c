/* SPDX-License-Identifier: MIT */
/* New storages of a plain pickle: it has no records, so their bytes go into the pickle.
 *
 * Where the pickle holds torch tensors, a storage becomes what pickle.dump makes of one (tensor/storage_nested.h) and the tensor
 * stays one. Otherwise the tensor becomes an ndarray, so that pickle.load needs torch no more than before.
 */
#include "codec/commit/inner.h"

#include <errno.h>

#include "codec/bytes/array.h"
#include "codec/tensor/layout.h"
#include "codec/tensor/storage_nested.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

static int too_large(uint64_t size, struct wf_error *err)
{
	return wf_fail(err, -E2BIG, "a tensor of %llu bytes is too large for a pickle (the limit is %llu)",
		       (unsigned long long)size, WF_GRAPH_MAX_BYTES / 4);
}

/* Notes what the call is, to be taken back, before it is changed. */
static int note_call(struct wf_plan *p, wf_ref call, struct wf_error *err)
{
	const struct wf_graph *g = p->in.graph;
	struct wf_call_before *more = reallocarray(p->calls, p->call_count + 1, sizeof *more);
	if (!more)
		return wf_fail(err, -ENOMEM, "out of memory");
	p->calls = more;
	p->calls[p->call_count++] = (struct wf_call_before){
		.call = call,
		.func = wf_call_func(g, call),
		.args = wf_call_args(g, call),
		.state = wf_call_state(g, call),
	};
	return 0;
}

void wf_plan_undo_inline(struct wf_plan *p)
{
	while (p->call_count > 0) {
		const struct wf_call_before *b = &p->calls[--p->call_count];
		wf_call_set_func(p->in.graph, b->call, b->func);
		wf_call_set_args(p->in.graph, b->call, b->args);
		if (b->state != wf_call_state(p->in.graph, b->call))
			wf_call_set_state(p->in.graph, b->call, b->state);
	}
}

/* A dense tensor over a storage that the pickle would name by an id. */
static bool needs_room(const struct wf_plan *p, wf_ref o, struct wf_tensor *t)
{
	const struct wf_graph *g = p->in.graph;
	if (!wf_is(g, o, WF_CALL) || !wf_is_tensor(g, o) || wf_tensor_decode(g, p->in.storages, o, t, NULL) < 0 ||
	    t->kind != WF_TENSOR_DENSE)
		return false;
	return p->live[t->storage] && !wf_storage_get(p->in.storages, t->storage)->inside;
}

/* ---- ndarrays ---- */

static int become_array(struct wf_plan *p, wf_ref o, const struct wf_tensor *t, struct wf_error *err)
{
	struct wf_graph *g = p->in.graph;
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);
	if (!info->numpy_descr || t->quantizer != WF_NIL)
		return wf_fail(err, -EOPNOTSUPP, "this pickle holds NumPy arrays, and NumPy has no %s", info->name);
	if (t->size_bytes > WF_GRAPH_MAX_BYTES / 4)
		return too_large(t->size_bytes, err);
	cleanup_free unsigned char *bytes = malloc((size_t)t->size_bytes + 1);
	if (!bytes)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_tensor_read(p->in.storages, t, 0, bytes, (size_t)t->size_bytes);
	if (r < 0)
		return wf_fail(err, r, "cannot read the bytes of a new array: %s", strerror(-r));
	wf_ref data = wf_string(g, WF_BYTES, bytes, (size_t)t->size_bytes);
	r = data == WF_NIL ? -E2BIG : note_call(p, o, err);
	if (r == 0)
		r = wf_numpy_become(g, o, t->dtype, t->shape, t->ndim, data);
	if (r == 0)
		r = wf_storages_add_array(p->in.storages, o);
	return r < 0 ? wf_fail(err, r, "cannot put a new array into the pickle: %s", strerror(-r)) : 0;
}

/* From the end: a Parameter is decoded before the tensor inside it changes. */
static int make_arrays(struct wf_plan *p, const wf_ref *objects, uint32_t n, struct wf_error *err)
{
	struct wf_tensor t;
	int r = 0;
	while (n-- > 0 && r == 0)
		if (needs_room(p, objects[n], &t))
			r = become_array(p, objects[n], &t, err);
	return r;
}

/* ---- torch tensors ---- */

static int nest(struct wf_plan *p, uint32_t storage, wf_ref *ret, struct wf_error *err)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, storage);
	if (s->untyped)
		return wf_fail(err, -EOPNOTSUPP, "PyTorch cannot load this element type from inside a pickle");
	if (s->size_bytes > WF_GRAPH_MAX_BYTES / 4)
		return too_large(s->size_bytes, err);
	cleanup_free unsigned char *bytes = malloc((size_t)s->size_bytes + 1);
	if (!bytes)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_storage_read(p->in.storages, storage, 0, bytes, (size_t)s->size_bytes);
	if (r == 0)
		r = wf_nested_make(p->in.graph, (enum wf_dtype)s->dtype, bytes, s->size_bytes, ret);
	if (r == 0)
		r = wf_storages_add_array(p->in.storages, *ret);
	return r < 0 ? wf_fail(err, r, "cannot put a new storage into the pickle: %s", strerror(-r)) : 0;
}

static int nest_tensors(struct wf_plan *p, const wf_ref *objects, uint32_t n, struct wf_error *err)
{
	struct wf_tensor t;
	uint32_t count = wf_storages_count(p->in.storages);
	cleanup_free wf_ref *nested = calloc(WF_MAX(count, 1u), sizeof *nested);
	int r = nested ? 0 : wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n && r == 0; i++) {
		if (!needs_room(p, objects[i], &t))
			continue;
		uint32_t storage = t.storage;
		if (nested[storage] == WF_NIL)
			r = nest(p, storage, &nested[storage], err);
		if (r == 0)
			r = note_call(p, t.rebuild, err);
		if (r < 0)
			return r;
		t.storage = wf_storage_of(p->in.storages, nested[storage]);
		r = wf_tensor_update(p->in.graph, &t, nested[storage]);
		if (r < 0)
			wf_fail(err, r, "cannot put a new tensor into the pickle: %s", strerror(-r));
	}
	return r;
}

/* ---- the whole ---- */

int wf_plan_inline(struct wf_plan *p, struct wf_error *err)
{
	const struct wf_graph *g = p->in.graph;
	cleanup_free wf_ref *objects = NULL;
	uint32_t n = 0, capacity = 0;
	struct wf_tensor t;
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o)) {
		if (!needs_room(p, o, &t))
			continue;
		if (wf_array_reserve(&objects, &capacity, (uint64_t)n + 1, sizeof *objects, UINT32_MAX) < 0)
			return wf_fail(err, -ENOMEM, "out of memory");
		objects[n++] = o;
	}
	return wf_holds_nested_storage(g) ? nest_tensors(p, objects, n, err) : make_arrays(p, objects, n, err);
}
