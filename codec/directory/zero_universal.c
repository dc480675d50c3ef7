/* SPDX-License-Identifier: MIT */
/* Universal checkpoints (deepspeed/checkpoint/ds_to_universal.py): zero/NAME/fp32.pt, exp_avg.pt and others hold what was put together
 * already. Of stages 1 and 2 a file is a mapping with `param`; of stage 3 it is a flat tensor, whose shape the model's file tells. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"

struct universal {
	struct zero_load *l;
	struct wf_key_map shapes; /* names to objects */
	wf_ref name, moments;     /* of the parameter whose files are read */
	const char *text;
	size_t len;
};

static int add_shapes(struct universal *u, wf_ref mapping)
{
	uint32_t n;
	const char *text;
	size_t len;
	int r = 0;
	const struct wf_item *items = zero_items(u->l->g, mapping, &n);
	for (uint32_t i = 0; i < n && r == 0; i++)
		if (zero_text(u->l->g, items[i].key, &text, &len))
			r = wf_key_map_put(&u->shapes, text, len, items[i].value);
	return r < 0 ? wf_fail(u->l->err, r, "the shapes of the parameters: %s", strerror(-r)) : 0;
}

static int read_shapes(struct universal *u, wf_ref model_states)
{
	wf_ref shapes = zero_get(u->l->g, model_states, "param_shapes");
	uint32_t n;
	const wf_ref *e = wf_elements(u->l->g, shapes, &n);
	int r = add_shapes(u, shapes);
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = add_shapes(u, e[i]);
	return r;
}

static bool shape_of(const struct universal *u, struct zero_shape *ret)
{
	const uint64_t *object = wf_key_map_get(&u->shapes, u->text, u->len);
	return object && zero_shape_of(u->l->g, (wf_ref)*object, ret);
}

/* A flat tensor as one of the parameter's shape, over the same bytes. */
static int shaped(struct universal *u, wf_ref flat, const struct zero_shape *shape, wf_ref *ret)
{
	struct zero_load *l = u->l;
	struct wf_tensor t;
	char why[96];
	if (wf_tensor_decode(l->g, l->storages, flat, &t, NULL) < 0 || t.ndim != 1 || t.kind != WF_TENSOR_DENSE ||
	    !t.contiguous || (shape->ndim == 1 && t.numel == shape->numel)) {
		*ret = flat; /* as it is; also what cannot be read, and says so */
		return 0;
	}
	if (t.numel != shape->numel) {
		snprintf(why, sizeof why, "it has %" PRIu64 " elements by its shape, and %" PRIu64 " in its file",
			 shape->numel, t.numel);
		return zero_make_lost(l, shape, why, ret);
	}
	wf_ref persid = wf_storage_get(l->storages, t.storage)->persid;
	int r = wf_tensor_make(l->g, persid, t.dtype, t.offset_elems, shape->sizes, shape->ndim, false, ret);
	return r < 0 ? zero_full(l) : 0;
}

/* What the file of a state holds. */
static int value_of(struct universal *u, const struct zero_file *f, bool is_param, wf_ref *ret)
{
	struct zero_load *l = u->l;
	struct zero_shape shape = {.numel = 1};
	bool has_shape = shape_of(u, &shape);
	wf_ref value = f->root;
	*ret = WF_NIL;
	if (value == WF_NIL)
		return has_shape || is_param ? zero_make_lost(l, &shape, f->problem, ret) : 0;
	if (zero_is_mapping(l->g, value))
		*ret = zero_get(l->g, value, "param");
	else if (has_shape && wf_is_tensor(l->g, value))
		return shaped(u, value, &shape, ret);
	else
		*ret = value;
	bool tensor = *ret != WF_NIL && wf_is_tensor(l->g, *ret);
	return is_param && !tensor ? zero_make_lost(l, &shape, "its file holds no tensor", ret) : 0;
}

static int read_part(struct universal *u, const struct zero_file *f)
{
	const char *start = strchr(f->name, '/') + 1, *slash = strrchr(f->name, '/');
	struct zero_load *l = u->l;
	wf_ref value, state;
	if (slash < start) {
		if (strcmp(start, "optimizer_state.pt") == 0)
			l->rest = f->root;
		return 0;
	}
	size_t len = (size_t)(slash - start), state_len = strlen(slash + 1) - strlen(".pt");
	if (!u->text || u->len != len || memcmp(u->text, start, len) != 0) {
		u->name = wf_string(l->g, WF_STR, start, len);
		u->moments = WF_NIL;
		u->text = start;
		u->len = len;
	}
	bool is_param = state_len == 4 && memcmp(slash + 1, "fp32", 4) == 0;
	int r = u->name ? value_of(u, f, is_param, &value) : zero_full(l);
	if (r < 0 || value == WF_NIL)
		return r;
	if (is_param)
		return zero_set_param(l, u->name, value);
	state = wf_string(l->g, WF_STR, slash + 1, state_len);
	return state ? zero_set_moment(l, u->name, &u->moments, state, value) : zero_full(l);
}

/* Of stage 3 the frozen ones are in the models' files as they were before. */
static int read_frozen(struct zero_load *l, wf_ref model_states)
{
	struct zero_states s = {.l = l, .stage = 1};
	const struct zero_listing *list = &l->z->list;
	int r = 0;
	for (uint32_t i = 0; i < list->count; i++)
		if (list->files[i].kind == ZERO_MODEL && list->files[i].mp == 0) {
			s.world = WF_MAX(s.world, list->files[i].rank + 1);
			s.stage = strncmp(list->files[i].name, "mp_", 3) == 0 ? s.stage : 3;
		}
	if (s.world > list->of_kind[ZERO_MODEL])
		return zero_leave(l, "a model file is missing");
	s.models = calloc(WF_MAX(s.world, 1u), sizeof *s.models);
	if (!s.models)
		return wf_fail(l->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < list->count; i++)
		if (list->files[i].kind == ZERO_MODEL && list->files[i].mp == 0)
			s.models[list->files[i].rank] = list->files[i].root;
	r = zero_make_frozen(&s, model_states);
	free(s.models);
	return r;
}

int zero_read_universal(struct zero_load *l, wf_ref model_states)
{
	struct universal u = {.l = l};
	const struct zero_listing *list = &l->z->list;
	int r = read_shapes(&u, model_states);
	for (uint32_t i = 0; i < list->count && r == 0; i++)
		if (list->files[i].kind == ZERO_PART)
			r = read_part(&u, &list->files[i]);
	wf_key_map_free(&u.shapes);
	return r == 0 ? read_frozen(l, model_states) : r;
}
