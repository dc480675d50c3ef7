/* SPDX-License-Identifier: MIT */
/* A trim: for each storage the part that tensors use, which is all that is written of it. */
#include "codec/commit/trim.h"

#include <errno.h>

#include "codec/object/dtype.h"
#include "codec/tensor/layout.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

/* Element sizes divide this, so that offsets stay whole numbers of every dtype that views a storage. */
#define GRAIN_BYTES 16u

struct use {
	uint64_t start, end; /* bytes that tensors span */
	uint32_t references; /* places in the graph that hold a PERSID of it */
	uint32_t tensors;    /* of which this many are recognised tensors' */
};

static void count_references(const struct wf_graph *g, const struct wf_storages *ss, wf_ref o, struct use *uses)
{
	uint32_t n, m;
	const wf_ref *e = wf_elements(g, o, &n);
	const struct wf_item *items = wf_items(g, o, &m);
	for (uint32_t i = 0; i < n + m; i++) {
		uint32_t s = wf_storage_of(ss, i < n ? e[i] : items[i - n].value);
		if (s != WF_NO_STORAGE)
			uses[s].references++;
	}
}

/* Whether o is the call itself that names a storage, and not a wrapper around one. */
static bool decode(const struct wf_graph *g, const struct wf_storages *ss, wf_ref o, struct wf_tensor *t)
{
	return wf_is(g, o, WF_CALL) && wf_is_tensor(g, o) && wf_tensor_decode(g, ss, o, t, NULL) == 0 &&
	       t->kind == WF_TENSOR_DENSE && t->rebuild == o;
}

static void survey(const struct wf_graph *g, const struct wf_storages *ss, struct use *uses)
{
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o)) {
		struct wf_tensor t;
		count_references(g, ss, o, uses);
		if (!decode(g, ss, o, &t))
			continue;
		struct use *u = &uses[t.storage];
		uint64_t start, end;
		wf_layout_span(&t, &start, &end);
		/* a packed dtype counts several values a byte: its offsets are not bytes' */
		if (wf_dtype_info(t.dtype)->values_per_byte == 1)
			u->tensors++;
		if (start == end)
			continue;
		u->start = u->end == 0 ? start : WF_MIN(u->start, start);
		u->end = WF_MAX(u->end, end);
	}
}

static struct wf_window window_of(const struct wf_storage *s, const struct use *u)
{
	struct wf_window w = {.size_bytes = s->size_bytes};
	if (s->bad || s->companion || s->persid == WF_NIL || u->tensors == 0 || u->references > u->tensors)
		return w;
	uint64_t item = wf_dtype_info(s->dtype)->size_bytes;
	uint64_t end = WF_MIN((u->end + item - 1) / item * item, s->size_bytes);
	w.start = u->start / GRAIN_BYTES * GRAIN_BYTES;
	w.size_bytes = end - w.start;
	return w;
}

/* The tensor with its offset counted from the window's start, and its storage's id without a view. */
static int shift(struct wf_graph *g, struct wf_storages *ss, struct wf_tensor *t, const struct wf_window *w)
{
	uint32_t n;
	wf_ref persid = wf_element(g, wf_call_args(g, t->rebuild), 0);
	const wf_ref *e = wf_elements(g, wf_persid_id(g, persid), &n);
	if (wf_storage_of(ss, persid) == WF_NO_STORAGE || n < 5)
		persid = wf_storage_get(ss, t->storage)->persid;
	bool viewed = n == 6 && !wf_is(g, e[5], WF_NONE);
	if (viewed) {
		wf_ref id = wf_tuple(g, e, 5);
		persid = id == WF_NIL ? WF_NIL : wf_persid(g, id);
		int r = persid == WF_NIL ? -ENOMEM : wf_storage_adopt(ss, t->storage, persid);
		if (r < 0)
			return r;
	}
	uint64_t cut = w->start / wf_dtype_info(t->dtype)->size_bytes;
	if (!viewed && cut == 0 && !(t->numel == 0 && t->offset_elems))
		return 0;
	t->offset_elems = t->numel == 0 ? 0 : t->offset_elems - cut;
	return wf_tensor_update(g, t, persid);
}

static int shift_all(struct wf_graph *g, struct wf_storages *ss, const struct wf_window *windows)
{
	uint32_t limit = wf_graph_limit(g);
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL && o < limit; o = wf_graph_next(g, o)) {
		struct wf_tensor t;
		if (!decode(g, ss, o, &t))
			continue;
		const struct wf_window *w = &windows[t.storage];
		if (w->start == 0 && w->size_bytes == wf_storage_get(ss, t.storage)->size_bytes)
			continue;
		int r = shift(g, ss, &t, w);
		if (r < 0)
			return r;
	}
	return 0;
}

int wf_trim(struct wf_graph *g, struct wf_storages *ss, struct wf_window **ret, struct wf_error *err)
{
	uint32_t n = wf_storages_count(ss);
	cleanup_free struct use *uses = calloc(WF_MAX(n, 1u), sizeof *uses);
	cleanup_free struct wf_window *windows = calloc(WF_MAX(n, 1u), sizeof *windows);
	if (!uses || !windows)
		return wf_fail(err, -ENOMEM, "out of memory");
	survey(g, ss, uses);
	for (uint32_t i = 0; i < n; i++)
		windows[i] = window_of(wf_storage_get(ss, i), &uses[i]);
	int r = shift_all(g, ss, windows);
	if (r < 0)
		return wf_fail(err, r, "cannot cut the storages: %s", strerror(-r));
	*ret = steal_pointer(&windows);
	return 0;
}
