/* SPDX-License-Identifier: MIT */
/* Recognises the objects of torch.distributed.checkpoint, whichever version of torch made them. */
#include "codec/directory/dcp_object.h"

#include <string.h>

#include "codec/bytes/util.h"

/* Where torch keeps and kept these classes: 1.13, 2.0 to 2.2, 2.3 and later. */
static const char *const modules[] = {
	"torch.distributed.checkpoint.metadata",
	"torch.distributed.checkpoint.filesystem",
	"torch.distributed._shard.checkpoint.metadata",
	"torch.distributed._shard.checkpoint.filesystem",
};
static const char *const class_names[WF_DCP_CLASS_COUNT] = {
	[WF_DCP_METADATA] = "Metadata",          [WF_DCP_TENSOR] = "TensorStorageMetadata",
	[WF_DCP_BYTES] = "BytesStorageMetadata", [WF_DCP_CHUNK] = "ChunkStorageMetadata",
	[WF_DCP_INDEX] = "MetadataIndex",        [WF_DCP_INFO] = "_StorageInfo",
};
static const char *const attribute_names[WF_DCP_ATTRIBUTE_COUNT] = {
	[WF_DCP_STATE_DICT_METADATA] = "state_dict_metadata",
	[WF_DCP_PLANNER_DATA] = "planner_data",
	[WF_DCP_STORAGE_DATA] = "storage_data",
	[WF_DCP_PROPERTIES] = "properties",
	[WF_DCP_SIZE] = "size",
	[WF_DCP_CHUNKS] = "chunks",
	[WF_DCP_OFFSETS] = "offsets",
	[WF_DCP_SIZES] = "sizes",
	[WF_DCP_FQN] = "fqn",
	[WF_DCP_OFFSET] = "offset",
	[WF_DCP_RELATIVE_PATH] = "relative_path",
	[WF_DCP_LENGTH] = "length",
	[WF_DCP_TRANSFORMS] = "transform_descriptors",
};

bool wf_dcp_is(struct wf_dcp_graph *d, wf_ref r, enum wf_dcp_class which)
{
	wf_ref func = wf_is(d->g, r, WF_CALL) ? wf_call_func(d->g, r) : WF_NIL;
	if (func == WF_NIL)
		return false;
	if (func == d->classes[which])
		return true;
	for (size_t i = 0; i < WF_ARRAY_SIZE(modules); i++)
		if (wf_is_global(d->g, func, modules[i], class_names[which])) {
			d->classes[which] = func;
			return true;
		}
	return false;
}

bool wf_dcp_class_of(const char *module, const char *name, enum wf_dcp_class *ret)
{
	uint32_t class = 0, i = 0;
	while (class < WF_DCP_CLASS_COUNT && strcmp(name, class_names[class]) != 0)
		class ++;
	while (i < WF_ARRAY_SIZE(modules) && strcmp(module, modules[i]) != 0)
		i++;
	*ret = class;
	return class < WF_DCP_CLASS_COUNT && i < WF_ARRAY_SIZE(modules);
}

const char *wf_dcp_attribute_name(enum wf_dcp_attribute which)
{
	return attribute_names[which];
}

wf_ref wf_dcp_attribute(struct wf_dcp_graph *d, wf_ref r, enum wf_dcp_attribute which)
{
	uint32_t n = 0;
	const struct wf_item *items = wf_items(d->g, wf_call_state(d->g, r), &n);
	for (uint32_t i = 0; i < n; i++) {
		if (items[i].key == WF_NIL)
			continue;
		if (items[i].key != d->names[which] && !wf_str_equal(d->g, items[i].key, attribute_names[which]))
			continue;
		d->names[which] = items[i].key;
		return items[i].value;
	}
	return WF_NIL;
}

bool wf_dcp_number(struct wf_dcp_graph *d, wf_ref r, uint64_t *ret)
{
	int64_t v;
	if (!wf_is(d->g, r, WF_INT) || !wf_int_value(d->g, r, &v) || v < 0)
		return false;
	*ret = (uint64_t)v;
	return true;
}

int wf_dcp_size(struct wf_dcp_graph *d, wf_ref r, uint64_t *ret, uint32_t max)
{
	uint32_t n = 0;
	if (wf_call_is(d->g, r, "torch", "Size"))
		r = wf_element(d->g, wf_call_args(d->g, r), 0);
	if (!wf_is(d->g, r, WF_TUPLE) && !wf_is(d->g, r, WF_LIST))
		return -1;
	const wf_ref *items = wf_elements(d->g, r, &n);
	if (n > max)
		return -1;
	for (uint32_t i = 0; i < n; i++)
		if (!wf_dcp_number(d, items[i], &ret[i]))
			return -1;
	return (int)n;
}
