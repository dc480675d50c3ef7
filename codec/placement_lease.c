/* Who asks where storages are: status and attributes, and other processes that map them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "placement_inner.h"

const char *wf_placement_device(struct wf_placement *p, uint32_t storage)
{
	struct place place = p ? placement_look(p, storage) : (struct place){0};
	return place.state == PLACE_READY ? place.slab->device->name : NULL;
}

void wf_placement_bytes(struct wf_placement *p, void (*each)(void *ctx, const char *name, uint64_t bytes), void *ctx)
{
	uint64_t file = 0, on[MAX_DEVICES] = {0};
	for (uint32_t i = 0; i < wf_storages_count(p->ss); i++) {
		struct place place = placement_look(p, i);
		uint64_t bytes = wf_storage_get(p->ss, i)->size_bytes;
		if (place.state == PLACE_READY)
			on[place.slab->device - p->devices] += bytes;
		else
			file += bytes;
	}
	each(ctx, "file", file);
	for (uint32_t i = 0; i < p->device_count; i++)
		if (p->devices[i].target || on[i] > 0)
			each(ctx, p->devices[i].name, on[i]);
}

bool wf_placement_shares(struct wf_placement *p, uint32_t storage)
{
	if (!wf_placement_has(p, storage))
		return false;
	struct place place = placement_look(p, storage);
	const struct place_device *d = place.state == PLACE_READY ? place.slab->device : placement_target(p, storage);
	return d && !strncmp(d->name, "cuda", 4);
}

int wf_placement_lease(struct wf_placement *p, uint32_t storage, struct wf_lease **ret, struct dev_share *ret_share,
		       uint64_t *ret_start)
{
	struct wf_lease *lease = calloc(1, sizeof *lease);
	struct place at = lease ? placement_find(p, storage) : (struct place){0};
	int r = !lease ? -ENOMEM : at.state == PLACE_BAD ? -EUCLEAN : at.state != PLACE_READY ? -ENOMEM : 0;
	if (r == 0) {
		struct device *d = at.slab->device->device;
		r = d->ops->share(d, &at.slab->memory, ret_share);
	}
	if (r < 0) {
		free(lease);
		return r;
	}
	pthread_mutex_lock(&p->lock);
	*lease = (struct wf_lease){.storage = storage, .slab = at.slab};
	at.slab->users++;
	p->places[storage].leases++;
	pthread_mutex_unlock(&p->lock);
	*ret_start = ret_share->offset_bytes + at.offset;
	*ret = lease;
	return 0;
}

void wf_placement_release(struct wf_placement *p, struct wf_lease *lease)
{
	pthread_mutex_lock(&p->lock);
	struct place *place = &p->places[lease->storage];
	if (place->slab == lease->slab && place->leases > 0)
		place->leases--;
	placement_leave(lease->slab);
	pthread_mutex_unlock(&p->lock);
	free(lease);
}

int wf_placement_uuid(const struct wf_lease *lease, char *buf, size_t size)
{
	struct device *d = lease->slab->device->device;
	struct dev_info info;
	int r = d->ops->describe(d, &info);
	if (r == 0)
		snprintf(buf, size, "%s", info.uuid);
	return r;
}
