/* SPDX-License-Identifier: MIT */
/* What another process needs to map a tensor that is on a device. */
#include <errno.h>
#include <string.h>

#include "codec/checkpoint.h"
#include "codec/edit/state.h"
#include "devices/device.h"
#include "codec/tensor/layout.h"
#include "codec/lines.h"
#include "codec/value/text.h"

/* The tensor of a node whose content is in the graph. */
static int tensor_of(struct wf_checkpoint *ck, uint32_t ino, struct wf_tensor *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!ck->placement || !n || n->type != WF_NODE_TENSOR || (ck->edits && wf_edits_is_pending(ck, ino)))
		return -ENOENT;
	int r = wf_tensor_decode(ck->graph, ck->storages, n->object, ret, NULL);
	return r < 0 || ret->storage == WF_NO_STORAGE ? -ENOENT : 0;
}

bool wf_is_shared(struct wf_checkpoint *ck, uint32_t ino)
{
	struct wf_tensor t;
	pthread_rwlock_rdlock(&ck->lock);
	bool shared = tensor_of(ck, ino, &t) == 0 && wf_placement_shares(ck->placement, t.storage);
	pthread_rwlock_unlock(&ck->lock);
	return shared;
}

static void describe(const struct wf_checkpoint *ck, const struct wf_tensor *t, const struct wf_shared *shared,
		     struct wf_buffer *out)
{
	wf_buffer_printf(out, "{\"device\": \"%s\", ", shared->device);
	wf_share_json(shared, out);
	wf_buffer_printf(out, ", \"offset\": %llu, \"bytes\": %llu, \"dtype\": \"%s\", \"shape\": ",
			 (unsigned long long)(shared->start + wf_layout_start(t)), (unsigned long long)t->size_bytes,
			 wf_dtype_info(t->dtype)->name);
	wf_json_ints(out, t->shape, t->ndim);
	wf_buffer_puts(out, ", \"stride\": ");
	wf_json_ints(out, t->stride, t->ndim);
	wf_buffer_printf(out,
			 ", \"storage_start\": %llu, \"storage_bytes\": %llu, \"storage_offset\": %llu, \"conj\": %s, "
			 "\"neg\": %s, \"requires_grad\": %s}\n",
			 (unsigned long long)shared->start,
			 (unsigned long long)wf_storage_get(ck->storages, t->storage)->size_bytes,
			 (unsigned long long)t->offset_elems, t->conj ? "true" : "false", t->neg ? "true" : "false",
			 t->requires_grad ? "true" : "false");
}

int wf_share(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret_json, struct wf_lease **ret)
{
	struct wf_tensor t;
	struct wf_lease *lease = NULL;
	struct wf_shared shared;
	pthread_rwlock_rdlock(&ck->lock);
	int r = tensor_of(ck, ino, &t);
	if (r == 0 && !wf_placement_shares(ck->placement, t.storage))
		r = -ENOENT;
	if (r == 0)
		r = wf_placement_lease(ck->placement, t.storage, &lease);
	if (r == 0) {
		r = wf_placement_leased(ck->placement, t.storage, &shared) ? 0 : -EIO; /* it failed meanwhile */
		if (r == 0) {
			describe(ck, &t, &shared, ret_json);
			r = wf_buffer_status(ret_json);
		}
		if (r < 0)
			wf_placement_release(ck->placement, lease);
	}
	pthread_rwlock_unlock(&ck->lock);
	if (r == 0)
		*ret = lease;
	return r;
}

int wf_share_all(struct wf_checkpoint *ck, struct wf_buffer *ret_json, struct wf_lease **ret)
{
	*ret = NULL;
	pthread_rwlock_rdlock(&ck->lock);
	int r = ck->placement ? wf_placement_lease_all(ck->placement, ret) : 0;
	pthread_rwlock_unlock(&ck->lock);
	if (r == 0)
		r = wf_tensors_json(ck, ret_json);
	if (r < 0 && *ret)
		wf_unshare(ck, *ret);
	return r;
}

void wf_unshare(struct wf_checkpoint *ck, struct wf_lease *lease)
{
	wf_placement_release(ck->placement, lease);
}

bool wf_is_leased(struct wf_checkpoint *ck)
{
	return ck->placement && wf_placement_is_leased(ck->placement);
}
