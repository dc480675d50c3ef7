/* SPDX-License-Identifier: MIT */
/* Finds the strings of a pickle that are the bytes of arrays, and who else uses them. */
#include "codec/tensor/inside.h"

#include <errno.h>
#include <stdlib.h>

#include "codec/bytes/util.h"
#include "codec/tensor/numpy_dtype.h"
#include "codec/tensor/storage_nested.h"
#include "codec/tensor/tensor.h"

static void graph_freep(struct wf_graph **g)
{
	wf_graph_free(*g);
}

static void places_free(struct wf_pickle_places *p)
{
	free(p->all);
}

int wf_open_pickle(const struct wf_container *c, struct wf_source **ret, struct wf_error *err)
{
	enum wf_container_kind kind = wf_container_kind_of(c);
	bool zip = kind == WF_CONTAINER_ZIP || kind == WF_CONTAINER_TORCHSCRIPT;
	uint32_t record = wf_container_find(c, zip ? "data.pkl" : "object");
	if (record == WF_NO_RECORD)
		return wf_fail(err, -EOPNOTSUPP, "a %s file has no pickle that could be copied",
			       wf_container_kind_name(c));
	return wf_container_open_record(c, record, ret, err);
}

/* ---- who uses an object: a count that ends at 255 ---- */

struct uses {
	const struct wf_graph *g;
	unsigned char *of; /* by ref */
	uint32_t limit;
};

static void use(struct uses *u, wf_ref r)
{
	if (r < u->limit && u->of[r] < UINT8_MAX)
		u->of[r]++;
}

static void use_effects(struct uses *u, wf_ref call)
{
	struct wf_effects e;
	for (uint32_t i = 0; wf_call_effects(u->g, call, i, &e); i++) {
		use(u, e.dict);
		use(u, e.list);
		use(u, e.set);
		use(u, e.state);
	}
}

static void use_parts(struct uses *u, wf_ref r)
{
	uint32_t n;
	const wf_ref *elements = wf_elements(u->g, r, &n);
	for (uint32_t i = 0; i < n; i++)
		use(u, elements[i]);
	const struct wf_item *items = wf_items(u->g, r, &n);
	for (uint32_t i = 0; i < n; i++) {
		use(u, items[i].key);
		use(u, items[i].value);
	}
	if (wf_is(u->g, r, WF_CALL)) {
		use(u, wf_call_func(u->g, r));
		use(u, wf_call_args(u->g, r));
		use(u, wf_call_kwargs(u->g, r));
		use_effects(u, r);
	}
	if (wf_is(u->g, r, WF_PERSID))
		use(u, wf_persid_id(u->g, r));
}

static bool used_once(const struct uses *u, wf_ref r)
{
	return r < u->limit && u->of[r] <= 1;
}

/* Whether nothing but the array can see its bytes: neither they nor what they are wrapped in (a tuple of arguments or of a state, a
 * call that makes bytes of text) has a second user. */
static bool is_alone(const struct uses *u, wf_ref array, wf_ref data)
{
	wf_ref r = wf_numpy_bytes(u->g, array);
	bool alone = used_once(u, wf_call_args(u->g, array)) && used_once(u, wf_numpy_parts(u->g, array));
	while (alone && r != data && wf_is(u->g, r, WF_CALL)) {
		wf_ref in = wf_call_args(u->g, r);
		alone = used_once(u, r) && used_once(u, in);
		r = wf_element(u->g, in, 0);
	}
	return alone && r == data && used_once(u, data);
}

/* ---- the table ---- */

/* The bytes of an array or of a nested storage; WF_NIL: o is neither. As the table of storages is made (tensor/storage.c). */
static wf_ref data_of(const struct wf_graph *g, wf_ref o)
{
	if (!wf_is(g, o, WF_CALL))
		return WF_NIL;
	return wf_is_nested_storage(g, o) ? wf_bytes_object(g, wf_element(g, wf_call_args(g, o), 0))
					  : wf_numpy_data(g, o);
}

static int by_string(const void *key, const void *element)
{
	wf_ref r = *(const wf_ref *)key, of = ((const struct wf_pickle_place *)element)->string;
	return r < of ? -1 : r > of;
}

static void note(const struct uses *u, const struct wf_pickle_places *strings, wf_ref array, wf_ref data,
		 struct wf_inside *ret)
{
	const struct wf_pickle_place *p =
		strings->count ? bsearch(&data, strings->all, strings->count, sizeof *p, by_string) : NULL;
	if (p) /* else made by a call, as no bytes are */
		*ret = (struct wf_inside){
			.start = p->start, .end = p->end, .op = p->op, .shared = !is_alone(u, array, data)};
}

/* Frames go to the end, out of the way of the strings, whose objects are in the order in which they were made. */
static int part_frames(struct wf_pickle_places *p, struct wf_insides *ret)
{
	uint32_t strings = 0, frames = 0;
	for (uint32_t i = 0; i < p->count; i++)
		frames += p->all[i].string == WF_NIL;
	ret->frames = malloc(WF_MAX(frames, 1u) * sizeof *ret->frames);
	if (!ret->frames)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->count; i++)
		if (p->all[i].string == WF_NIL)
			ret->frames[ret->frame_count++] = p->all[i];
		else
			p->all[strings++] = p->all[i];
	p->count = strings;
	return 0;
}

static uint32_t next_inside(const struct wf_storages *ss, uint32_t i)
{
	while (i < wf_storages_count(ss) && !wf_storage_get(ss, i)->inside)
		i++;
	return i;
}

static int fill(const struct wf_graph *g, const struct wf_storages *ss, struct wf_pickle_places *places,
		struct wf_insides *ret)
{
	struct uses u = {.g = g, .limit = wf_graph_limit(g)};
	cleanup_free unsigned char *of = u.of = calloc(u.limit, 1);
	ret->count = wf_storages_count(ss);
	ret->all = calloc(WF_MAX(ret->count, 1u), sizeof *ret->all);
	int r = of && ret->all ? part_frames(places, ret) : -ENOMEM;
	for (wf_ref o = wf_graph_next(g, WF_NIL); r == 0 && o != WF_NIL; o = wf_graph_next(g, o))
		use_parts(&u, o);
	uint32_t i = next_inside(ss, 0);
	for (wf_ref o = wf_graph_next(g, WF_NIL); r == 0 && o != WF_NIL; o = wf_graph_next(g, o)) {
		wf_ref data = data_of(g, o);
		if (data == WF_NIL && !wf_is_nested_storage(g, o))
			continue;
		if (i >= ret->count)
			return -EUCLEAN;
		if (data != WF_NIL)
			note(&u, places, o, data, &ret->all[i]);
		i = next_inside(ss, i + 1);
	}
	return r;
}

int wf_insides_find(const struct wf_container *c, const struct wf_storages *ss, struct wf_insides *ret,
		    struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *s = NULL;
	cleanup_with(graph_freep) struct wf_graph *g = NULL;
	cleanup_with(places_free) struct wf_pickle_places places = {0};
	const struct wf_pickle_reader reader = {.places = &places};
	struct wf_insides t = {0};
	wf_ref root;
	uint64_t end;
	int r = wf_open_pickle(c, &s, err);
	if (r < 0)
		return r;
	if ((r = wf_graph_new(&g)) < 0)
		return wf_fail(err, r, "out of memory");
	r = wf_pickle_read(g, s, 0, wf_source_size(s), &reader, &root, &end, err);
	if (r < 0)
		return r;
	r = fill(g, ss, &places, &t);
	if (r < 0) {
		wf_insides_free(&t);
		return wf_fail(err, r, "the arrays inside the pickle cannot be found again: %s", strerror(-r));
	}
	*ret = t;
	return 0;
}

void wf_insides_free(struct wf_insides *t)
{
	free(t->all);
	free(t->frames);
	*t = (struct wf_insides){0};
}
