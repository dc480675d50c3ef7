/* SPDX-License-Identifier: MIT */
/* Changing the object graph. */
#include "codec/object/object.h"

#include <errno.h>

#include "codec/object/inner.h"
#include "codec/bytes/map.h"
#include "codec/bytes/util.h"

static struct wf_vector_object *container_of(const struct wf_graph *g, wf_ref r)
{
	enum wf_packed_part part;
	if (r == WF_NIL || r >= g->next || wf_packed_at(g, r, &part))
		return NULL;
	struct wf_object *o = wf_object_at(g, r);
	return o->kind == WF_LIST || o->kind == WF_SET || o->kind == WF_DICT ? (struct wf_vector_object *)o : NULL;
}

static size_t element_bytes(const struct wf_vector_object *c)
{
	return c->head.kind == WF_DICT ? sizeof(struct wf_item) : sizeof(wf_ref);
}

static int resize(struct wf_graph *g, struct wf_vector_object *c, uint32_t cap)
{
	size_t elem = element_bytes(c);

	if (cap == 0) {
		g->nvectors -= c->vector != NULL;
		free(c->vector);
		c->vector = NULL;
	} else {
		if (cap > c->cap && !wf_graph_charge(g, (uint64_t)(cap - c->cap) * elem))
			return g->failed;
		void *v = realloc(c->vector, cap * elem);
		if (!v) {
			if (cap > c->cap)
				g->bytes -= (uint64_t)(cap - c->cap) * elem;
			return -ENOMEM;
		}
		if (!c->vector)
			g->nvectors++;
		c->vector = v;
	}
	if (cap < c->cap)
		g->bytes -= (uint64_t)(c->cap - cap) * elem;
	c->cap = cap;
	return 0;
}

/* Room for one more. Steps of a half keep the peak low; the limit of the graph keeps cap far from overflow. */
static int grow(struct wf_graph *g, struct wf_vector_object *c)
{
	if (c->head.n < c->cap)
		return 0;
	return resize(g, c, c->cap < 4 ? c->cap + 1 + c->cap / 2 : c->cap + c->cap / 2);
}

int wf_list_append(struct wf_graph *g, wf_ref list, wf_ref value)
{
	struct wf_vector_object *c = container_of(g, list);

	if (!c || c->head.kind == WF_DICT)
		return -EINVAL;
	int rc = grow(g, c);
	if (rc < 0)
		return rc;
	((wf_ref *)c->vector)[c->head.n++] = value;
	return 0;
}

int wf_list_set(struct wf_graph *g, wf_ref list, uint32_t i, wf_ref value)
{
	struct wf_vector_object *c = container_of(g, list);

	if (!c || c->head.kind == WF_DICT || i >= c->head.n)
		return -EINVAL;
	((wf_ref *)c->vector)[i] = value;
	return 0;
}

int wf_list_truncate(struct wf_graph *g, wf_ref list, uint32_t n)
{
	struct wf_vector_object *c = container_of(g, list);

	if (!c || c->head.kind == WF_DICT || n > c->head.n)
		return -EINVAL;
	c->head.n = n;
	return 0;
}

int wf_dict_append(struct wf_graph *g, wf_ref dict, wf_ref key, wf_ref value)
{
	struct wf_vector_object *c = container_of(g, dict);

	if (!c || c->head.kind != WF_DICT)
		return -EINVAL;
	int rc = grow(g, c);
	if (rc < 0)
		return rc;
	((struct wf_item *)c->vector)[c->head.n++] = (struct wf_item){key, value};
	return 0;
}

int wf_dict_set_at(struct wf_graph *g, wf_ref dict, uint32_t i, wf_ref key, wf_ref value)
{
	struct wf_vector_object *c = container_of(g, dict);

	if (!c || c->head.kind != WF_DICT || i >= c->head.n)
		return -EINVAL;
	((struct wf_item *)c->vector)[i] = (struct wf_item){key, value};
	return 0;
}

void wf_dict_compact(struct wf_graph *g, wf_ref dict)
{
	struct wf_vector_object *c = container_of(g, dict);

	if (!c || c->head.kind != WF_DICT)
		return;
	struct wf_item *items = c->vector;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < c->head.n; i++)
		if (items[i].key)
			items[kept++] = items[i];
	c->head.n = kept;
}

static void trim(struct wf_graph *g, wf_ref r)
{
	struct wf_vector_object *c = container_of(g, r);

	if (c && c->head.n < c->cap)
		resize(g, c, c->head.n); /* a vector that could not shrink is as good as it was */
}

/* ---- duplicate keys ---- */

/* For up to this many items comparing all pairs is cheaper than a table. */
#define PAIRWISE_MAX 8

static bool has_duplicate(const struct wf_graph *g, const struct wf_item *items, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
		for (uint32_t j = 0; j < i; j++)
			if (items[i].key && items[j].key && wf_key_equal(g, items[i].key, items[j].key))
				return true;
	return false;
}

/* The later value of two equal keys goes to the place of the first, and its own place becomes a hole. */
static int fold_duplicates(const struct wf_graph *g, struct wf_item *items, uint32_t n, bool *ret_found)
{
	cleanup_with(wf_map_free) struct wf_map seen = {0};
	int r = wf_map_reserve(&seen, n);

	if (r < 0)
		return r;
	*ret_found = false;
	for (uint32_t i = 0; i < n; i++) {
		if (!items[i].key)
			continue;
		uint32_t first = 0, hash = (uint32_t)wf_key_hash(g, items[i].key);
		struct wf_map_probe p = wf_map_probe(&seen, hash);
		bool twice = false;
		while (!twice && wf_map_next(&p, &first))
			twice = wf_key_equal(g, items[first].key, items[i].key);
		if (!twice) {
			wf_map_add(&seen, hash, i);
			continue;
		}
		items[first].value = items[i].value;
		items[i] = (struct wf_item){0};
		*ret_found = true;
	}
	return 0;
}

int wf_dict_dedup(struct wf_graph *g, wf_ref dict)
{
	struct wf_vector_object *c = container_of(g, dict);

	if (!c || c->head.kind != WF_DICT)
		return -EINVAL;
	struct wf_item *items = c->vector;
	uint32_t n = c->head.n;
	if (n < 2 || (n <= PAIRWISE_MAX && !has_duplicate(g, items, n)))
		return 0;
	bool found;
	int r = fold_duplicates(g, items, n, &found);
	if (r == 0 && found)
		wf_dict_compact(g, dict);
	return r;
}

/* Of 100,000 tensors in one dict that dict is the only container with elements, and the first object of all. */
int wf_graph_settle(struct wf_graph *g, uint32_t limit)
{
	uint32_t left = g->nvectors;

	for (wf_ref r = wf_graph_since(g, limit); r && left; r = wf_graph_next(g, r)) {
		struct wf_vector_object *c = container_of(g, r);
		if (!c || !c->vector)
			continue;
		left--;
		if (c->head.kind == WF_DICT && wf_dict_dedup(g, r) < 0)
			return -ENOMEM;
		trim(g, r);
	}
	return 0;
}

/* ---- calls ---- */

/* The error of a change to what is no object of that kind, or to a packed one for which there is no room. */
static int unchanged(const struct wf_graph *g, wf_ref r, enum wf_kind kind)
{
	return wf_is(g, r, kind) ? wf_graph_failed(g) : -EINVAL;
}

/* The open round: the last one, or a new one where the last has got its state. */
static struct wf_effects *open_round(struct wf_graph *g, wf_ref call)
{
	struct wf_object *o = wf_object_changed(g, call, WF_CALL);

	if (!o)
		return NULL;
	if (!o->n) {
		wf_ref made = wf_graph_new_effects(g);
		if (!made)
			return NULL;
		o->n = made;
	}
	struct wf_effects_object *e = (struct wf_effects_object *)wf_object_at(g, o->n);
	uint32_t extra = e->head.n - 1;
	struct wf_effects *last = extra ? &e->more[extra - 1] : &e->first;
	if (!last->state)
		return last;
	if ((extra & (extra - 1)) == 0) { /* 0 and the powers of two: full */
		uint32_t cap = extra ? 2 * extra : 1;
		if (!wf_graph_charge(g, (uint64_t)(cap - extra) * sizeof *last))
			return NULL;
		struct wf_effects *more = realloc(e->more, cap * sizeof *more);
		if (!more) {
			g->failed = -ENOMEM;
			return NULL;
		}
		if (!e->more)
			g->nvectors++;
		e->more = more;
	}
	e->head.n++;
	e->more[extra] = (struct wf_effects){0};
	return &e->more[extra];
}

wf_ref wf_dict_target(struct wf_graph *g, wf_ref r)
{
	if (wf_object_of(g, r, WF_DICT))
		return r;
	struct wf_effects *e = open_round(g, r);
	if (e && !e->dict)
		e->dict = wf_dict(g);
	return e ? e->dict : WF_NIL;
}

wf_ref wf_list_target(struct wf_graph *g, wf_ref r)
{
	if (wf_object_of(g, r, WF_LIST))
		return r;
	struct wf_effects *e = open_round(g, r);
	if (e && !e->list)
		e->list = wf_list(g);
	return e ? e->list : WF_NIL;
}

wf_ref wf_set_target(struct wf_graph *g, wf_ref r)
{
	if (wf_object_of(g, r, WF_SET))
		return r;
	struct wf_effects *e = open_round(g, r);
	if (e && !e->set)
		e->set = wf_set(g);
	return e ? e->set : WF_NIL;
}

int wf_call_build(struct wf_graph *g, wf_ref call, wf_ref state)
{
	if (!wf_is(g, call, WF_CALL))
		return -EINVAL;
	struct wf_effects *e = open_round(g, call);
	if (!e)
		return g->failed;
	e->state = state;
	return 0;
}

int wf_call_set_state(struct wf_graph *g, wf_ref call, wf_ref state)
{
	struct wf_object *o = wf_object_changed(g, call, WF_CALL);

	if (!o)
		return unchanged(g, call, WF_CALL);
	struct wf_effects_object *e = o->n ? (struct wf_effects_object *)wf_object_at(g, o->n) : NULL;
	for (uint32_t i = e ? e->head.n : 0; i-- > 0;) {
		struct wf_effects *round = i ? &e->more[i - 1] : &e->first;
		if (!round->state)
			continue;
		round->state = state;
		return 0;
	}
	return wf_call_build(g, call, state);
}

static int set_call_ref(struct wf_graph *g, wf_ref call, unsigned i, wf_ref value)
{
	struct wf_object *o = wf_object_changed(g, call, WF_CALL);

	if (!o)
		return unchanged(g, call, WF_CALL);
	wf_object_refs(o)[i] = value;
	return 0;
}

int wf_call_set_func(struct wf_graph *g, wf_ref call, wf_ref func)
{
	return set_call_ref(g, call, 0, func);
}

int wf_call_set_args(struct wf_graph *g, wf_ref call, wf_ref args)
{
	return set_call_ref(g, call, 1, args);
}

int wf_persid_set_id(struct wf_graph *g, wf_ref persid, wf_ref id)
{
	struct wf_object *o = wf_object_changed(g, persid, WF_PERSID);

	if (!o)
		return unchanged(g, persid, WF_PERSID);
	o->n = id;
	return 0;
}

bool wf_persid_set_number(struct wf_graph *g, wf_ref r, uint32_t number)
{
	union wf_object_room room;
	enum wf_packed_part part;
	struct wf_packed *p = r == WF_NIL || r >= g->next ? NULL : wf_packed_at(g, r, &part);

	if (p && part == WF_PACKED_PERSID && wf_packed_object(g, r, p, part, &room) == &room.o) {
		p->number = number;
		return true;
	}
	struct wf_object *o = wf_object_changed(g, r, WF_PERSID);
	if (o)
		wf_object_refs(o)[0] = number;
	return o;
}

void wf_global_set_nested(struct wf_graph *g, wf_ref r)
{
	struct wf_object *o = wf_object_of(g, r, WF_GLOBAL);

	if (o)
		o->flags |= WF_FLAG_NESTED;
}

void wf_persid_set_memoised(struct wf_graph *g, wf_ref r)
{
	struct wf_object *o = wf_object_changed(g, r, WF_PERSID);

	if (o)
		o->flags |= WF_FLAG_MEMOISED;
}

void wf_call_set_by_mark(struct wf_graph *g, wf_ref r)
{
	struct wf_object *o = wf_object_changed(g, r, WF_CALL);

	if (o)
		o->flags |= WF_FLAG_BY_MARK;
}
