/* SPDX-License-Identifier: MIT */
/* Tells where the bytes of a view are in its storage. */
#include "codec/tensor/layout.h"

#include "codec/bytes/util.h"

static uint64_t element_bytes(const struct wf_tensor *t)
{
	return wf_dtype_info(t->dtype)->size_bytes;
}

uint64_t wf_layout_start(const struct wf_tensor *t)
{
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);

	return t->offset_elems / info->values_per_byte * info->size_bytes;
}

static bool is_stored_as_shown(const struct wf_tensor *t)
{
	return t->kind != WF_TENSOR_META && t->contiguous && !t->conj && !t->neg && !t->swap && t->size_bytes > 0;
}

bool wf_tensor_locate(const struct wf_storages *ss, const struct wf_tensor *t, struct wf_file_run *ret)
{
	*ret = (struct wf_file_run)WF_FILE_RUN_INIT;
	if (!is_stored_as_shown(t) || !wf_storage_locate(ss, t->storage, wf_layout_start(t), ret))
		return false;
	if (ret->len >= t->size_bytes)
		return true;
	wf_file_run_end(ret);
	return false;
}

bool wf_tensor_find_run(const struct wf_storages *ss, const struct wf_tensor *t, uint64_t at, struct wf_file_run *ret,
			bool *ret_written)
{
	*ret = (struct wf_file_run)WF_FILE_RUN_INIT;
	if (!is_stored_as_shown(t) || at >= t->size_bytes ||
	    !wf_storage_find_run(ss, t->storage, wf_layout_start(t) + at, ret, ret_written))
		return false;
	ret->len = WF_MIN(ret->len, t->size_bytes - at);
	return true;
}

void wf_layout_span(const struct wf_tensor *t, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t last = 0;

	*ret_start = *ret_end = 0;
	if (t->numel == 0)
		return;
	*ret_start = wf_layout_start(t);
	if (t->contiguous) {
		*ret_end = *ret_start + t->size_bytes;
		return;
	}
	for (uint32_t d = 0; d < t->ndim; d++)
		last += (uint64_t)(t->shape[d] - 1) * (uint64_t)t->stride[d];
	*ret_end = *ret_start + (last + 1) * element_bytes(t);
}

bool wf_layout_overlaps(const struct wf_tensor *t)
{
	uint32_t order[WF_MAX_NDIM], n = 0;

	if (t->contiguous || t->numel <= 1)
		return false;
	/* sorted by stride, each dimension must step over everything that the smaller ones span */
	for (uint32_t d = 0; d < t->ndim; d++) {
		if (t->shape[d] <= 1)
			continue;
		uint32_t i = n++;
		for (; i > 0 && t->stride[order[i - 1]] > t->stride[d]; i--)
			order[i] = order[i - 1];
		order[i] = d;
	}
	uint64_t span = 1; /* elements from the first to one past the last of the dimensions so far */
	for (uint32_t i = 0; i < n; i++) {
		if ((uint64_t)t->stride[order[i]] < span)
			return true;
		span += (uint64_t)(t->shape[order[i]] - 1) * (uint64_t)t->stride[order[i]];
	}
	return false;
}
