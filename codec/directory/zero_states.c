/* SPDX-License-Identifier: MIT */
/* Parameters and moments of ZeRO 1, 2 and 3, as deepspeed/utils/zero_to_fp32.py puts them together:
 *
 *   1, 2   every group is one vector, of which each rank has the next part; the parameters stand in it one after the other
 *   3      every rank has a vector of its own (its groups one after the other), in which each parameter of n elements has
 *          ceil(n / ranks) of them; the parts of all ranks one after the other, cut to n, are the parameter
 *
 * The moments (exp_avg, ...) are vectors of the same lengths; only what fills up a rank's part at its end may be longer.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"

static int no_memory(const struct zero_states *s)
{
	return wf_fail(s->l->err, -ENOMEM, "out of memory");
}

/* ---- what the files of the ranks say ---- */

static bool number_of(const struct wf_graph *g, wf_ref r, uint32_t max, uint32_t *ret)
{
	int64_t v;
	/* an enum of deepspeed, called with its value */
	if (wf_is(g, r, WF_CALL))
		r = wf_element(g, wf_call_args(g, r), 0);
	if (!wf_int_value(g, r, &v) || v < 0 || v > max)
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* Of a list its largest: groups of experts are partitioned over fewer ranks. */
static bool partition_count(const struct wf_graph *g, wf_ref r, uint32_t *ret)
{
	uint32_t n, each;
	const wf_ref *e = wf_elements(g, r, &n);
	if (!wf_is(g, r, WF_LIST) && !wf_is(g, r, WF_TUPLE))
		return number_of(g, r, WF_MEMBERS_MAX, ret) && *ret > 0;
	*ret = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (!number_of(g, e[i], WF_MEMBERS_MAX, &each))
			return false;
		*ret = WF_MAX(*ret, each);
	}
	return *ret > 0;
}

static wf_ref optimizer_of(const struct wf_graph *g, const struct zero_file *f)
{
	return f->root ? zero_get(g, f->root, "optimizer_state_dict") : WF_NIL;
}

/* world and stage, by the first file that can be read. */
static int read_world(struct zero_states *s)
{
	const struct zero_listing *list = &s->l->z->list;
	const struct wf_graph *g = s->l->g;
	for (uint32_t i = 0; i < list->count && s->first == WF_NIL; i++)
		if (list->files[i].kind == ZERO_OPTIM)
			s->first = optimizer_of(g, &list->files[i]);
	if (s->first == WF_NIL)
		return zero_leave(s->l, "no optimizer file can be read");
	if (!number_of(g, zero_get(g, s->first, "zero_stage"), 3, &s->stage) || s->stage == 0)
		return zero_leave(s->l, "an optimizer file without a ZeRO stage from 1 to 3");
	if (!partition_count(g, zero_get(g, s->first, "partition_count"), &s->world))
		return zero_leave(s->l, "an optimizer file without a partition_count");
	if (list->of_kind[ZERO_OPTIM] > s->world)
		return zero_leave(s->l, "%u optimizer files, where %u ranks wrote some", list->of_kind[ZERO_OPTIM],
				  s->world);
	if (zero_get(g, s->first, "ds_zero_partition_groups") != WF_NIL)
		return zero_leave(s->l, "parameters partitioned over groups of ranks");
	s->ranks = calloc(s->world, sizeof *s->ranks);
	s->models = calloc(s->world, sizeof *s->models);
	return s->ranks && s->models ? 0 : no_memory(s);
}

static int read_rank(struct zero_states *s, const struct zero_file *f)
{
	const struct wf_graph *g = s->l->g;
	wf_ref *to = f->kind == ZERO_OPTIM ? s->ranks : s->models, value = f->root;
	uint32_t stage, world;
	if (f->rank >= s->world)
		return zero_leave(s->l, "%.120s, where %u ranks wrote some", f->name, s->world);
	if (f->kind == ZERO_OPTIM) {
		value = optimizer_of(g, f);
		if (value && (!number_of(g, zero_get(g, value, "zero_stage"), 3, &stage) || stage != s->stage ||
			      !partition_count(g, zero_get(g, value, "partition_count"), &world) || world != s->world))
			return zero_leave(s->l, "files of two different runs (%s)", f->name);
	}
	if (value && to[f->rank])
		return zero_leave(s->l, "two files of rank %u (%.120s)", f->rank, f->name);
	if (value)
		to[f->rank] = value;
	return 0;
}

static int read_ranks(struct zero_states *s)
{
	const struct zero_listing *list = &s->l->z->list;
	int r = read_world(s);
	for (uint32_t i = 0; i < list->count && r == 0 && !s->l->why[0]; i++)
		if (list->files[i].kind == ZERO_OPTIM || list->files[i].kind == ZERO_MODEL)
			r = read_rank(s, &list->files[i]);
	return r;
}

/* ---- the vectors ---- */

/* The list of flat fp32 groups of a rank. */
static wf_ref flat_groups(const struct zero_states *s, wf_ref optimizer)
{
	return zero_get(s->l->g, optimizer, s->stage == 3 ? "fp32_flat_groups" : "single_partition_of_fp32_groups");
}

/* The number under which the torch optimizer has the state of flat group i; by position where the groups do not tell. */
static wf_ref state_key(struct zero_states *s, wf_ref groups, uint32_t i)
{
	struct wf_graph *g = s->l->g;
	uint32_t n, m, before = 0;
	const wf_ref *e = wf_elements(g, groups, &n);
	for (uint32_t k = 0; k < n; k++) {
		wf_ref params = zero_get(g, e[k], "params");
		wf_elements(g, params, &m);
		if (i - before < m)
			return wf_element(g, params, i - before);
		before += m;
	}
	return wf_int(g, i);
}

/* The state of flat group i; WF_NIL. */
wf_ref zero_state_of(struct zero_states *s, wf_ref optimizer, uint32_t i)
{
	struct wf_graph *g = s->l->g;
	wf_ref base = zero_get(g, optimizer, s->stage == 3 ? "optimizer_state_dict" : "base_optimizer_state");
	if (wf_is(g, base, WF_LIST)) /* an elastic checkpoint */
		return wf_element(g, base, i);
	return zero_get_near(s->l, zero_get(g, base, "state"), state_key(s, zero_get(g, base, "param_groups"), i), i);
}

wf_ref zero_state_tensor(struct zero_states *s, const struct zero_field *f, wf_ref optimizer, uint32_t group)
{
	struct wf_graph *g = s->l->g;
	if (f->name == WF_NIL)
		return wf_element(g, flat_groups(s, optimizer), group);
	return zero_get_near(s->l, zero_state_of(s, optimizer, group), f->name, 0);
}

/* The part of a rank in a group is lost: as many elements as another rank has there. */
static int add_lost(struct zero_states *s, struct zero_vector *v, const struct zero_field *f, uint32_t rank,
		    uint32_t group)
{
	struct zero_piece piece = {0};
	enum wf_dtype dtype = WF_FLOAT32;
	char why[128];
	zero_piece_of(s->l, zero_state_tensor(s, f, s->first, group), &piece, &dtype, why, sizeof why);
	piece.file = UINT32_MAX;
	piece.lost = ZERO_OPTIM;
	piece.at = rank;
	return zero_vector_add(v, &piece, dtype);
}

static int add_part(struct zero_states *s, struct zero_vector *v, const struct zero_field *f, uint32_t rank,
		    uint32_t group)
{
	struct zero_piece piece;
	enum wf_dtype dtype = WF_FLOAT32;
	char why[128];
	if (s->ranks[rank] == WF_NIL)
		return add_lost(s, v, f, rank, group);
	if (!zero_piece_of(s->l, zero_state_tensor(s, f, s->ranks[rank], group), &piece, &dtype, why, sizeof why)) {
		if (!v->problem[0])
			snprintf(v->problem, sizeof v->problem, "group %u in %.120s %s", group,
				 zero_name_of(&s->l->z->list, ZERO_OPTIM, rank), why);
		return 0;
	}
	return zero_vector_add(v, &piece, dtype);
}

static int read_field(struct zero_states *s, struct zero_field *f)
{
	uint32_t parts = s->stage == 3 ? s->world : s->groups, each = s->stage == 3 ? s->groups : s->world;
	int r = 0;
	f->parts = calloc(WF_MAX(parts, 1u), sizeof *f->parts);
	if (!f->parts)
		return no_memory(s);
	for (uint32_t i = 0; i < parts && r == 0; i++)
		for (uint32_t k = 0; k < each && r == 0; k++)
			r = s->stage == 3 ? add_part(s, &f->parts[i], f, i, k) : add_part(s, &f->parts[i], f, k, i);
	return r < 0 ? wf_fail(s->l->err, r, "the vectors of the ranks: %s", strerror(-r)) : 0;
}

/* A moment is as long as the vector whose moment it is. What fills it up is cut off one and not the other, so it may be longer where nothing
 * follows. */
static void check_moment(const struct zero_states *s, struct zero_field *f)
{
	uint32_t parts = s->stage == 3 ? s->world : s->groups;
	for (uint32_t i = 0; i < parts; i++) {
		const struct zero_vector *of = &s->fields[0].parts[i];
		struct zero_vector *v = &f->parts[i];
		uint64_t numel = zero_vector_numel(of);
		bool same = v->count == of->count;
		for (uint32_t k = 0; k < of->count && same; k++)
			same = v->ends[k] == of->ends[k] || (of->ends[k] == numel && v->ends[k] >= numel);
		if (!same && !v->problem[0])
			snprintf(v->problem, sizeof v->problem,
				 "its vectors are not as long as those of the parameters");
	}
}

static bool is_moment(const struct zero_states *s, wf_ref value)
{
	struct wf_tensor t;
	return wf_tensor_decode(s->l->g, s->l->storages, value, &t, NULL) == 0 && t.ndim == 1;
}

static bool has_field(const struct zero_states *s, wf_ref name)
{
	for (uint32_t i = 1; i < s->field_count; i++)
		if (wf_key_equal(s->l->g, s->fields[i].name, name))
			return true;
	return false;
}

/* The kinds of state, by the first rank. */
static void find_fields(struct zero_states *s)
{
	s->field_count = 1;
	for (uint32_t i = 0; i < s->groups; i++) {
		uint32_t n;
		const struct wf_item *items = zero_items(s->l->g, zero_state_of(s, s->first, i), &n);
		for (uint32_t k = 0; k < n && s->field_count < ZERO_MAX_FIELDS; k++)
			if (wf_is(s->l->g, items[k].key, WF_STR) && is_moment(s, items[k].value) &&
			    !has_field(s, items[k].key))
				s->fields[s->field_count++].name = items[k].key;
	}
}

static int read_vectors(struct zero_states *s)
{
	int r;
	wf_elements(s->l->g, flat_groups(s, s->first), &s->groups);
	find_fields(s);
	r = read_field(s, &s->fields[0]);
	for (uint32_t i = 1; i < s->field_count && r == 0; i++) {
		r = read_field(s, &s->fields[i]);
		if (r == 0)
			check_moment(s, &s->fields[i]);
	}
	return r;
}

int zero_states_read(struct zero_load *l, struct zero_states *ret)
{
	ret->l = l;
	int r = read_ranks(ret);
	return r == 0 && !l->why[0] ? read_vectors(ret) : r;
}

static void free_field(struct zero_field *f, uint32_t parts)
{
	for (uint32_t i = 0; f->parts && i < parts; i++)
		zero_vector_free(&f->parts[i]);
	free(f->parts);
}

void zero_states_free(struct zero_states *s)
{
	for (uint32_t i = 0; i < s->field_count; i++)
		free_field(&s->fields[i], s->stage == 3 ? s->world : s->groups);
	free(s->ranks);
	free(s->models);
}
