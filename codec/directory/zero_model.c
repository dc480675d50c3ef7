/* SPDX-License-Identifier: MIT */
/* `model` and `client` of a DeepSpeed checkpoint: the parameters that were put together and the buffers as they are, in the order of the
 * model's state_dict; and everything else that the model's file says. */
#include <errno.h>

#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"

/* `model` on its way. */
struct model {
	struct zero_load *l;
	wf_ref dict, shared;
	struct wf_key_map buffers, done; /* names */
	bool placeholders;               /* stage 3 has tensors without elements where the parameters were */
};

static int put_key(struct model *m, struct wf_key_map *map, wf_ref name)
{
	const char *text;
	size_t len;
	if (!zero_text(m->l->g, name, &text, &len))
		return 0;
	int r = wf_key_map_put(map, text, len, 1);
	return r < 0 ? wf_fail(m->l->err, r, "the names of the model: %s", strerror(-r)) : 0;
}

static bool has_key(const struct model *m, const struct wf_key_map *map, wf_ref name)
{
	const char *text;
	size_t len;
	return zero_text(m->l->g, name, &text, &len) && wf_key_map_get(map, text, len);
}

static int set_entry(struct model *m, wf_ref name, wf_ref value)
{
	if (has_key(m, &m->done, name))
		return 0;
	int r = put_key(m, &m->done, name);
	return r == 0 && wf_dict_append(m->l->g, m->dict, name, value) < 0 ? zero_full(m->l) : r;
}

static bool is_empty_tensor(const struct model *m, wf_ref value)
{
	struct wf_tensor t;
	return wf_is_tensor(m->l->g, value) && wf_tensor_decode(m->l->g, m->l->storages, value, &t, NULL) == 0 &&
	       t.numel == 0;
}

/* The parameter whose other name this is. */
static wf_ref kept_one(const struct model *m, wf_ref name, uint32_t near)
{
	wf_ref kept = zero_get_near(m->l, m->shared, name, near);
	return kept ? zero_param(m->l, kept) : WF_NIL;
}

static int set_module_entry(struct model *m, const struct wf_item *item, uint32_t i)
{
	wf_ref value = WF_NIL;
	if (!wf_is(m->l->g, item->key, WF_STR))
		return 0;
	if (has_key(m, &m->buffers, item->key))
		return set_entry(m, item->key, item->value);
	value = kept_one(m, item->key, i);
	if (value == WF_NIL)
		value = zero_param(m->l, item->key);
	if (value == WF_NIL && m->placeholders && is_empty_tensor(m, item->value)) {
		m->l->left_out++;
		return 0;
	}
	return set_entry(m, item->key, value ? value : item->value);
}

static int read_buffers(struct model *m, wf_ref names)
{
	uint32_t n;
	int r = 0;
	const wf_ref *e = wf_elements(m->l->g, names, &n);
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = put_key(m, &m->buffers, e[i]);
	return r;
}

/* Names that the module's state_dict does not have: whoever cut them out of it left the vectors. */
static int set_rest(struct model *m)
{
	const struct wf_key_map *params = &m->l->params;
	uint32_t n;
	int r = 0;
	for (uint32_t i = 0; i < params->count && r == 0; i++) {
		wf_ref name = wf_string(m->l->g, WF_STR, params->keys[i].bytes, params->keys[i].len);
		r = name ? set_entry(m, name, m->l->values[params->keys[i].value]) : zero_full(m->l);
	}
	const struct wf_item *shared = zero_items(m->l->g, m->shared, &n);
	for (uint32_t i = 0; i < n && r == 0; i++) {
		wf_ref value = zero_param(m->l, shared[i].value);
		if (value && wf_is(m->l->g, shared[i].key, WF_STR))
			r = set_entry(m, shared[i].key, value);
	}
	return r;
}

int zero_make_model(struct zero_load *l, wf_ref model_states)
{
	struct wf_graph *g = l->g;
	struct model m = {.l = l, .dict = wf_dict(g), .shared = zero_get(g, model_states, "shared_params")};
	const struct zero_listing *list = &l->z->list;
	uint32_t n;
	for (uint32_t i = 0; i < list->count; i++)
		m.placeholders |= list->files[i].kind == ZERO_MODEL && strncmp(list->files[i].name, "mp_", 3) != 0;
	int r = m.dict ? read_buffers(&m, zero_get(g, model_states, "buffer_names")) : zero_full(l);
	const struct wf_item *items = zero_items(g, zero_get(g, model_states, "module"), &n);
	for (uint32_t i = 0; i < n && r == 0; i++)
		if (items[i].key != WF_NIL)
			r = set_module_entry(&m, &items[i], i);
	if (r == 0)
		r = set_rest(&m);
	l->model = m.dict;
	wf_key_map_free(&m.buffers);
	wf_key_map_free(&m.done);
	return r;
}

/* ---- client ---- */

static bool is_one_of(const struct wf_graph *g, wf_ref key, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (wf_str_equal(g, key, words[i]))
			return true;
	return false;
}

static int copy_items(struct zero_load *l, wf_ref to, wf_ref from, const char *const *but, size_t but_count)
{
	uint32_t n;
	const struct wf_item *items = zero_items(l->g, from, &n);
	for (uint32_t i = 0; i < n; i++)
		if (items[i].key != WF_NIL && !is_one_of(l->g, items[i].key, but, but_count) &&
		    wf_dict_append(l->g, to, items[i].key, items[i].value) < 0)
			return zero_full(l);
	return 0;
}

/* What an optimizer's file says beside its tensors. */
static int put_optimizer(struct zero_load *l)
{
	static const char *const vectors[] = {
		"single_partition_of_fp32_groups",
		"fp32_flat_groups",
		"base_optimizer_state",
		"optimizer_state_dict",
		"param_slice_mappings",
		"param_groups",
	};
	struct wf_graph *g = l->g;
	wf_ref dict = wf_dict(g), key = wf_str(g, "optimizer"), groups_key = wf_str(g, "param_groups");
	if (!dict || !key || !groups_key)
		return zero_full(l);
	int r = copy_items(l, dict, l->rest, vectors, WF_ARRAY_SIZE(vectors));
	wf_ref groups = zero_get(g, l->rest, "param_groups");
	for (size_t i = 2; i < 4 && groups == WF_NIL; i++)
		groups = zero_get(g, zero_get(g, l->rest, vectors[i]), "param_groups");
	if (r == 0 && groups != WF_NIL && wf_dict_append(g, dict, groups_key, groups) < 0)
		r = zero_full(l);
	return r == 0 && wf_dict_append(g, l->client, key, dict) < 0 ? zero_full(l) : r;
}

int zero_make_client(struct zero_load *l, wf_ref model_states)
{
	static const char *const parts[] = {
		"module",        "buffer_names", "param_shapes", "frozen_param_shapes", "frozen_param_fragments",
		"shared_params", "optimizer",
	};
	l->client = wf_dict(l->g);
	int r = l->client ? copy_items(l, l->client, model_states, parts, WF_ARRAY_SIZE(parts)) : zero_full(l);
	return r == 0 && l->rest != WF_NIL ? put_optimizer(l) : r;
}
