/* What another process needs to map a tensor that is on a device. */
#include <errno.h>
#include <string.h>

#include "checkpoint_impl.h"
#include "devices/device.h"
#include "layout.h"
#include "value.h"

/* The tensor of a node whose content is in the graph. */
static int tensor_of(struct wf_checkpoint *ck, uint32_t ino, struct wf_tensor *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!ck->placement || !n || n->type != WF_NODE_TENSOR || (ck->edits && wf_edits_holds(ck, ino)))
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

static void describe(const struct wf_checkpoint *ck, const struct wf_tensor *t, const char *uuid,
		     const struct dev_share *share, uint64_t start, struct wf_buffer *out)
{
	wf_buffer_printf(out, "{\n  \"device\": \"%s\",\n  \"uuid\": \"%s\",\n  \"handle\": \"",
			 wf_placement_device(ck->placement, t->storage), uuid);
	for (size_t i = 0; i < sizeof share->handle; i++)
		wf_buffer_printf(out, "%02x", share->handle[i]);
	wf_buffer_printf(out, "\",\n  \"offset\": %llu,\n  \"bytes\": %llu,\n  \"dtype\": \"%s\",\n",
			 (unsigned long long)(start + wf_layout_start(t)), (unsigned long long)t->size_bytes,
			 wf_dtype_info(t->dtype)->name);
	wf_buffer_puts(out, "  \"shape\": ");
	wf_json_ints(out, t->shape, t->ndim);
	wf_buffer_puts(out, ",\n  \"stride\": ");
	wf_json_ints(out, t->stride, t->ndim);
	wf_buffer_printf(out,
			 ",\n  \"storage_start\": %llu,\n  \"storage_bytes\": %llu,\n  \"storage_offset\": %llu,\n"
			 "  \"conj\": %s,\n  \"neg\": %s,\n  \"requires_grad\": %s\n}\n",
			 (unsigned long long)start,
			 (unsigned long long)wf_storage_get(ck->storages, t->storage)->size_bytes,
			 (unsigned long long)t->offset_elems, t->conj ? "true" : "false", t->neg ? "true" : "false",
			 t->requires_grad ? "true" : "false");
}

int wf_share(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret_json, struct wf_lease **ret)
{
	struct wf_tensor t;
	struct wf_lease *lease;
	struct dev_share share;
	uint64_t start;
	char uuid[64];
	pthread_rwlock_rdlock(&ck->lock);
	int r = tensor_of(ck, ino, &t);
	if (r == 0 && !wf_placement_shares(ck->placement, t.storage))
		r = -ENOENT;
	if (r == 0)
		r = wf_placement_lease(ck->placement, t.storage, &lease, &share, &start);
	if (r == 0) {
		r = wf_placement_uuid(lease, uuid, sizeof uuid);
		if (r == 0) {
			describe(ck, &t, uuid, &share, start, ret_json);
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

void wf_unshare(struct wf_checkpoint *ck, struct wf_lease *lease)
{
	wf_placement_release(ck->placement, lease);
}
