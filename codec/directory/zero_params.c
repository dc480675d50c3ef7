/* SPDX-License-Identifier: MIT */
/* Parameters and moments of ZeRO 1, 2 and 3, put together as deepspeed/utils/zero_to_fp32.py does it:
 *
 *   1, 2   every group is one vector, of which each rank has the next part; the parameters stand in it one after the other
 *   3      every rank has a vector of its own (its groups one after the other), in which each parameter of n elements has
 *          ceil(n / ranks) of them; the parts of all ranks one after the other, cut to n, are the parameter
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"

/* Where a parameter stands: in the vector of a group, or of every rank. */
struct zero_place {
	wf_ref name;
	uint32_t group; /* also of stage 3: the flat group that it begins in */
	uint64_t at;
	struct zero_shape shape;
};

static uint64_t share(const struct zero_states *s, uint64_t numel)
{
	return numel / s->world + (numel % s->world > 0);
}

/* The parts of all ranks, cut to the parameter. */
static int gather(const struct zero_states *s, const struct zero_field *f, const struct zero_place *p,
		  struct zero_vector *v)
{
	uint64_t part = share(s, p->shape.numel), left = p->shape.numel;
	int r = 0;
	if (s->stage < 3)
		return zero_vector_cut(v, &f->parts[p->group], p->at, left);
	for (uint32_t i = 0; i < s->world && left > 0 && r == 0; i++) {
		uint64_t n = WF_MIN(part, left);
		r = zero_vector_cut(v, &f->parts[i], p->at, n);
		left -= n;
	}
	if (v->dtype == WF_DTYPE_INVALID)
		v->dtype = f->parts[0].dtype;
	return r;
}

static int make_field(struct zero_states *s, const struct zero_field *f, const struct zero_place *p, wf_ref *ret)
{
	struct zero_vector v = {0};
	int r = gather(s, f, p, &v);
	r = r < 0 ? wf_fail(s->l->err, r, "the vectors of a parameter: %s", strerror(-r))
		  : zero_make_tensor(s->l, &v, &p->shape, ret);
	zero_vector_free(&v);
	return r;
}

/* What is one number for a whole group (step) is that of each of its parameters. */
static int set_scalars(struct zero_states *s, const struct zero_place *p, wf_ref *moments)
{
	uint32_t n;
	int r = 0;
	const struct wf_item *items = zero_items(s->l->g, zero_state_of(s, s->first, p->group), &n);
	struct wf_tensor t;
	for (uint32_t i = 0; i < n && r == 0; i++) {
		wf_ref value = items[i].value;
		bool number = wf_is(s->l->g, value, WF_INT) || wf_is(s->l->g, value, WF_FLOAT) ||
			      (wf_is_tensor(s->l->g, value) &&
			       wf_tensor_decode(s->l->g, s->l->storages, value, &t, NULL) == 0 && t.ndim == 0);
		if (number && wf_is(s->l->g, items[i].key, WF_STR))
			r = zero_set_moment(s->l, p->name, moments, items[i].key, value);
	}
	return r;
}

static int set_param(struct zero_states *s, const struct zero_place *p)
{
	wf_ref tensor, moments = WF_NIL;
	int r = make_field(s, &s->fields[0], p, &tensor);
	if (r == 0)
		r = zero_set_param(s->l, p->name, tensor);
	for (uint32_t i = 1; i < s->field_count && r == 0; i++) {
		wf_ref of_first = zero_state_tensor(s, &s->fields[i], s->first, p->group);
		if (of_first == WF_NIL)
			continue; /* another group's kind of state */
		r = make_field(s, &s->fields[i], p, &tensor);
		if (r == 0)
			r = zero_set_moment(s->l, p->name, &moments, s->fields[i].name, tensor);
	}
	return r == 0 ? set_scalars(s, p, &moments) : r;
}

/* Padding between the parameters of a group, since 0.19. */
static uint64_t padding_after(const struct zero_states *s, uint32_t group, uint32_t i)
{
	const struct wf_graph *g = s->l->g;
	wf_ref all = zero_get(g, s->first, "param_alignment_paddings");
	int64_t v;
	return s->stage < 3 && wf_int_value(g, wf_element(g, wf_element(g, all, group), i), &v) && v > 0 ? (uint64_t)v
													 : 0;
}

/* How far a place goes in its vector. */
static bool place_next(const struct zero_states *s, uint32_t group, uint32_t i, const struct zero_shape *shape,
		       uint64_t *at)
{
	uint64_t n = s->stage == 3 ? share(s, shape->numel) : shape->numel;
	return wf_add_u64(*at, n, at) || wf_add_u64(*at, padding_after(s, group, i), at);
}

static bool rounds_to(uint64_t a, uint64_t b, uint64_t to)
{
	return (a + to - 1) / to == (b + to - 1) / to;
}

/* A vector that the parameters do not fill, but for what rounds it up, is not theirs. */
static void check_vector(const struct zero_states *s, uint32_t part, uint64_t used)
{
	struct zero_vector *v = &s->fields[0].parts[part];
	uint64_t have = zero_vector_numel(v);
	bool lost = false;
	for (uint32_t i = 0; i < s->world; i++)
		lost |= s->ranks[i] == WF_NIL;
	bool same = s->stage == 3 ? used == have : rounds_to(used, have, 2ull * s->world) || (lost && used <= have);
	if (!same && !v->problem[0])
		snprintf(v->problem, sizeof v->problem,
			 "the parameters fill %" PRIu64 " of the %" PRIu64 " elements of their vector", used, have);
	for (uint32_t i = 1; i < s->field_count; i++)
		if (!s->fields[i].parts[part].problem[0])
			memcpy(s->fields[i].parts[part].problem, v->problem, sizeof v->problem);
}

/* The flat group of stage 3 that an element of a rank's vector is in. */
static uint32_t group_at(const struct zero_states *s, uint64_t at)
{
	const struct zero_vector *v = &s->fields[0].parts[0];
	uint32_t i = 0;
	while (i + 1 < v->count && v->ends[i] <= at)
		i++;
	return i;
}

/* Goes through the parameters of a list of shapes: measures them, or makes them. */
static int each_param(struct zero_states *s, wf_ref shapes, uint32_t list, uint64_t *at, bool make)
{
	const struct wf_graph *g = s->l->g;
	uint32_t n;
	int r = 0;
	const struct wf_item *items = zero_items(g, wf_element(g, shapes, list), &n);
	for (uint32_t i = 0; i < n && r == 0 && !s->l->why[0]; i++) {
		struct zero_place p = {.name = items[i].key, .at = *at};
		if (!wf_is(g, p.name, WF_STR) || !zero_shape_of(g, items[i].value, &p.shape) ||
		    place_next(s, list, i, &p.shape, at))
			return zero_leave(s->l, "a parameter whose shape is none");
		if (!make)
			continue;
		p.group = s->stage == 3 ? group_at(s, p.at) : list;
		r = set_param(s, &p);
	}
	return r;
}

static int make_params(struct zero_states *s, wf_ref shapes)
{
	uint32_t lists;
	uint64_t at = 0;
	int r = 0;
	wf_elements(s->l->g, shapes, &lists);
	if (s->stage < 3 && lists != s->groups)
		return zero_leave(s->l, "%u groups of parameters, and %u vectors", lists, s->groups);
	for (uint32_t i = 0; i < lists && r == 0 && !s->l->why[0]; i++) {
		at = s->stage == 3 ? at : 0;
		r = each_param(s, shapes, i, &at, false);
		if (s->stage < 3)
			check_vector(s, i, at);
	}
	for (uint32_t i = 0; s->stage == 3 && i < s->world; i++)
		check_vector(s, i, at);
	at = 0;
	for (uint32_t i = 0; i < lists && r == 0 && !s->l->why[0]; i++) {
		at = s->stage == 3 ? at : 0;
		r = each_param(s, shapes, i, &at, true);
	}
	return r;
}

int zero_make_params(struct zero_states *s, wf_ref model_states)
{
	wf_ref shapes = zero_get(s->l->g, model_states, "param_shapes");
	if (shapes && zero_is_mapping(s->l->g, shapes)) { /* one group, before there were several */
		wf_ref list = wf_list(s->l->g);
		if (!list || wf_list_append(s->l->g, list, shapes) < 0)
			return zero_full(s->l);
		shapes = list;
	}
	if (!wf_is(s->l->g, shapes, WF_LIST) && !wf_is(s->l->g, shapes, WF_TUPLE))
		return zero_leave(s->l, "a model file without param_shapes");
	return make_params(s, shapes);
}

/* ---- frozen ones ---- */

static wf_ref fragment(struct zero_states *s, wf_ref model_states, wf_ref name, uint32_t near)
{
	return zero_get_near(s->l, zero_get(s->l->g, model_states, "frozen_param_fragments"), name, near);
}

static int gather_fragments(struct zero_states *s, wf_ref name, uint32_t near, const struct zero_shape *shape,
			    wf_ref *ret)
{
	struct zero_vector all = {0}, v = {0};
	char why[128];
	int r = 0;
	for (uint32_t i = 0; i < s->world && r == 0; i++) {
		struct zero_piece piece = {
			.file = UINT32_MAX, .lost = ZERO_MODEL, .at = i, .numel = share(s, shape->numel)};
		enum wf_dtype dtype = WF_FLOAT32;
		if (s->models[i] == WF_NIL)
			dtype = all.dtype != WF_DTYPE_INVALID ? all.dtype : dtype;
		else if (!zero_piece_of(s->l, fragment(s, s->models[i], name, near), &piece, &dtype, why, sizeof why) &&
			 !all.problem[0])
			snprintf(all.problem, sizeof all.problem, "the fragment in %.120s %s",
				 zero_name_of(&s->l->z->list, ZERO_MODEL, i), why);
		r = zero_vector_add(&all, &piece, dtype);
	}
	if (r == 0)
		r = zero_vector_cut(&v, &all, 0, shape->numel);
	r = r < 0 ? wf_fail(s->l->err, r, "a frozen parameter: %s", strerror(-r))
		  : zero_make_tensor(s->l, &v, shape, ret);
	zero_vector_free(&all);
	zero_vector_free(&v);
	return r;
}

int zero_make_frozen(struct zero_states *s, wf_ref model_states)
{
	const struct wf_graph *g = s->l->g;
	uint32_t n;
	int r = 0;
	const struct wf_item *items = zero_items(g, zero_get(g, model_states, "frozen_param_shapes"), &n);
	for (uint32_t i = 0; i < n && r == 0 && !s->l->why[0]; i++) {
		struct zero_shape shape;
		wf_ref value = WF_NIL;
		if (!wf_is(g, items[i].key, WF_STR) || !zero_shape_of(g, items[i].value, &shape))
			return zero_leave(s->l, "a parameter whose shape is none");
		if (zero_param(s->l, items[i].key) != WF_NIL)
			continue; /* a universal checkpoint has it as fp32 */
		if (s->stage == 3)
			r = gather_fragments(s, items[i].key, i, &shape, &value);
		else if (!wf_is_tensor(g, value = fragment(s, model_states, items[i].key, i)))
			r = zero_make_lost(s->l, &shape, "the model file has no tensor of it", &value);
		if (r == 0)
			r = zero_set_param(s->l, items[i].key, value);
	}
	return r;
}
