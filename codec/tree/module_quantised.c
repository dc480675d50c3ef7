/* SPDX-License-Identifier: MIT */
/* Quantised modules keep their weights packed, outside of parameters and buffers. What their _save_to_state_dict gives,
 * without it being called:
 *
 *   Linear, QFunctional ...   scale, zero_point (a float and an int of the object)
 *   LinearPackedParams        dtype, _packed_params: the pair (weight, bias)
 *   EmbeddingPackedParams     dtype, _packed_weight: the weight
 *   Conv1d, Conv2d ...        weight, bias, scale, zero_point, out of the tuple that is its state
 *   LSTM, GRUCell ...         the packed objects themselves
 *
 * A packed object is torch.ScriptObject with the state (its own state, class), or in TorchScript
 * __torch__.torch.classes.quantized.... with its own state. Source: torch/ao/nn/quantized, torch/csrc/jit/api/object.h.
 */
#include <string.h>

#include "codec/tree/module_inner.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

#define CONV_WEIGHT 10u /* places in the state of a convolution */
#define CONV_BIAS 11u
#define CONV_SCALE 12u
#define CONV_ZERO_POINT 13u

bool wf_is_quantised(const struct wf_graph *g, wf_ref module)
{
	const char *path = wf_global_module(g, wf_class_of(g, wf_call_func(g, module)));
	return strstr(path, ".quantized.") || strstr(path, ".quantizable.") || strstr(path, ".qat.");
}

/* The state of a packed object, WF_NIL when r is none. */
static wf_ref packed_state(const struct wf_graph *g, wf_ref r)
{
	wf_ref func = wf_call_func(g, r), state = wf_call_state(g, r);
	if (wf_is_global(g, func, "torch", "ScriptObject") || wf_is_global(g, func, "torch._C", "ScriptObject"))
		return wf_element(g, state, 0) == WF_NIL ? state : wf_element(g, state, 0);
	return !strncmp(wf_global_module(g, func), "__torch__.torch.classes.", 24) ? state : WF_NIL;
}

/* What torch's own state_dict has under that name: the pair of a Linear, the weight of an Embedding, else the object.
 */
static wf_ref unpacked(const struct wf_graph *g, const char *name, wf_ref packed)
{
	wf_ref state = packed_state(g, packed), list = wf_element(g, state, 1);
	if (!strcmp(name, "_packed_params") && wf_is(g, state, WF_TUPLE))
		return state;
	if (strcmp(name, "_packed_weight") != 0)
		return packed;
	if (wf_is(g, list, WF_CALL)) /* build_tensorlist([...]) */
		list = wf_element(g, wf_call_args(g, list), 0);
	wf_ref weight = wf_element(g, list, 0);
	return weight != WF_NIL ? weight : packed;
}

static int emit(struct wf_state_walk *w, const char *name, wf_ref value)
{
	return value == WF_NIL ? 0 : wf_state_emit(w, name, strlen(name), value);
}

static int emit_convolution(struct wf_state_walk *w, wf_ref state)
{
	static const struct {
		const char *name;
		uint32_t place;
	} parts[] = {
		{"weight", CONV_WEIGHT}, {"bias", CONV_BIAS}, {"scale", CONV_SCALE}, {"zero_point", CONV_ZERO_POINT}};
	const char *names[5];
	wf_ref objects[5], weight = wf_element(w->g, state, CONV_WEIGHT);
	int r = 0;
	if (weight == WF_NIL || !(wf_is_tensor(w->g, weight) || wf_tensor_components(w->g, weight, names, objects)))
		return 0;
	for (size_t i = 0; i < WF_ARRAY_SIZE(parts) && r == 0; i++)
		r = emit(w, parts[i].name, wf_element(w->g, state, parts[i].place));
	return r;
}

int wf_quantised_entries(struct wf_state_walk *w, wf_ref module, wf_ref state)
{
	struct wf_graph *g = w->g;
	uint32_t n;
	size_t len;
	if (wf_is(g, state, WF_TUPLE))
		return emit_convolution(w, state);
	const struct wf_item *items = wf_items(g, state, &n);
	int r = wf_state_spend(w->shared, n * 4ull);
	bool quantised = wf_is_quantised(g, module);
	wf_ref scale = r == 0 && quantised ? wf_dict_get(g, state, "scale") : WF_NIL;
	if (wf_is(g, scale, WF_FLOAT)) {
		r = emit(w, "scale", scale);
		if (r == 0)
			r = emit(w, "zero_point", wf_dict_get(g, state, "zero_point"));
	}
	bool dtype =
		quantised && strstr(wf_global_name(g, wf_class_of(g, wf_call_func(g, module))), "PackedParams") != NULL;
	if (r == 0 && dtype)
		r = emit(w, "dtype", wf_dict_get(g, state, "dtype"));
	for (uint32_t i = 0; r == 0 && i < n; i++) {
		items = wf_items(g, state, &n);
		const char *name = wf_is(g, items[i].key, WF_STR) ? wf_bytes(g, items[i].key, &len) : NULL;
		if (name && packed_state(g, items[i].value) != WF_NIL)
			r = emit(w, name, unpacked(g, name, items[i].value));
	}
	return r;
}
