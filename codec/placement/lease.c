/* SPDX-License-Identifier: MIT */
/* Who asks where storages are: status and attributes, and other processes that map them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/placement/inner.h"

const char *wf_placement_device(struct wf_placement *p, uint32_t storage)
{
	if (!p || !atomic_load(&p->active))
		return NULL;
	struct storage_place place = placement_look(p, storage);
	return place.state == PLACE_READY ? place.slab->device->name : NULL;
}

void wf_placement_bytes(struct wf_placement *p, void (*each)(void *ctx, const char *name, uint64_t bytes), void *ctx)
{
	uint64_t file = 0, on[MAX_DEVICES] = {0};
	for (uint32_t i = 0; i < wf_storages_count(p->ss); i++) {
		struct storage_place place = placement_look(p, i);
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

bool wf_placement_has_devices(struct wf_placement *p)
{
	bool any = false;
	if (!p)
		return false;
	pthread_mutex_lock(&p->lock);
	for (uint32_t i = 0; i < p->device_count; i++)
		any |= p->devices[i].target || p->devices[i].slabs > 0;
	pthread_mutex_unlock(&p->lock);
	return any;
}

/* What is asked of a device makes its context: only one that is in use is asked. */
void wf_placement_devices(struct wf_placement *p, void (*each)(void *ctx, const struct wf_device_status *status),
			  void *ctx)
{
	struct dev_info info;
	pthread_rwlock_rdlock(&p->gate);
	for (uint32_t i = 0; i < p->device_count; i++) {
		struct place_device *d = &p->devices[i];
		pthread_mutex_lock(&p->lock);
		bool used = d->slabs > 0;
		pthread_mutex_unlock(&p->lock);
		if (!used || d->device->ops->describe(d->device, &info) < 0)
			continue;
		struct wf_device_status status = {.name = d->name,
						  .description = info.description,
						  .loading = info.loading,
						  .sharing = d->sharing,
						  .free_bytes = info.free_bytes,
						  .total_bytes = info.total_bytes};
		each(ctx, &status);
	}
	pthread_rwlock_unlock(&p->gate);
}

/* ---- leases ---- */

static bool can_share(const struct place_device *d)
{
	return !strncmp(d->name, "cuda", 4);
}

bool wf_placement_shares(struct wf_placement *p, uint32_t storage)
{
	if (!wf_placement_has(p, storage))
		return false;
	struct storage_place place = placement_look(p, storage);
	const struct place_device *d = place.state == PLACE_READY ? place.slab->device : placement_target(p, storage);
	return d && can_share(d);
}

/* One storage more in the lease, if it is on a device that shares it. Both locks are held. 0; -EOPNOTSUPP; -EIO. */
static int add(struct wf_placement *p, struct wf_lease *lease, uint32_t storage)
{
	struct storage_place *place = &p->places[storage];
	int r = placement_share(p, place->slab);
	if (r < 0)
		return r;
	place->leases++;
	place->slab->users++;
	place->slab->leases++;
	lease->of[lease->n++] = (struct leased){storage, place->slab};
	return 0;
}

static int lease_of_room(uint32_t n, struct wf_lease **ret)
{
	*ret = calloc(1, sizeof **ret + n * sizeof(*ret)->of[0]);
	return *ret ? 0 : -ENOMEM;
}

int wf_placement_lease(struct wf_placement *p, uint32_t storage, struct wf_lease **ret)
{
	struct wf_lease *lease;
	if (lease_of_room(1, &lease) < 0)
		return -ENOMEM;
	placement_find(p, storage);
	pthread_rwlock_rdlock(&p->gate);
	pthread_mutex_lock(&p->lock);
	uint8_t state = storage < p->place_count ? p->places[storage].state : PLACE_OPEN;
	int r = state == PLACE_BAD ? -EUCLEAN : state != PLACE_READY ? -ENOMEM : add(p, lease, storage);
	pthread_mutex_unlock(&p->lock);
	pthread_rwlock_unlock(&p->gate);
	if (r < 0) {
		free(lease);
		return r;
	}
	atomic_fetch_add(&p->lease_count, 1);
	*ret = lease;
	return 0;
}

int wf_placement_lease_all(struct wf_placement *p, struct wf_lease **ret)
{
	struct wf_lease *lease;
	placement_load_devices(p, can_share, NULL, NULL, NULL);
	pthread_rwlock_rdlock(&p->gate);
	pthread_mutex_lock(&p->lock);
	int r = lease_of_room(p->place_count, &lease);
	for (uint32_t i = 0; r == 0 && i < p->place_count; i++)
		if (p->places[i].state == PLACE_READY && can_share(p->places[i].slab->device))
			add(p, lease, i); /* what is not shared is read through the mount */
	pthread_mutex_unlock(&p->lock);
	pthread_rwlock_unlock(&p->gate);
	if (r < 0)
		return r;
	/* with nothing on a device, too: somebody knows then where bytes stand in the file */
	lease->all = true;
	atomic_fetch_add(&p->hold_count, 1);
	if (lease->n > 0)
		atomic_fetch_add(&p->lease_count, 1);
	*ret = lease;
	return 0;
}

/* A storage can have been moved, resized or dropped by a discard since: its lease is of the memory. */
void wf_placement_release(struct wf_placement *p, struct wf_lease *lease)
{
	pthread_rwlock_wrlock(&p->gate);
	pthread_mutex_lock(&p->lock);
	for (uint32_t i = 0; i < lease->n; i++) {
		struct leased *of = &lease->of[i];
		struct storage_place *place = of->storage < p->place_count ? &p->places[of->storage] : NULL;
		if (place && place->slab == of->slab && place->leases > 0)
			place->leases--;
		of->slab->leases--;
		placement_leave(of->slab);
	}
	pthread_mutex_unlock(&p->lock);
	placement_compact(p);
	pthread_rwlock_unlock(&p->gate);
	if (lease->all)
		atomic_fetch_sub(&p->hold_count, 1);
	if (!lease->all || lease->n > 0)
		atomic_fetch_sub(&p->lease_count, 1);
	free(lease);
}

bool wf_placement_leased(struct wf_placement *p, uint32_t storage, struct wf_shared *ret)
{
	pthread_mutex_lock(&p->lock);
	const struct storage_place *place = storage < p->place_count ? &p->places[storage] : NULL;
	bool leased = place && place->leases > 0 && place->state == PLACE_READY;
	if (leased) {
		const struct slab *s = place->slab;
		*ret = (struct wf_shared){.device = s->device->name,
					  .uuid = s->device->uuid,
					  .share = &s->share,
					  .start = s->share.offset_bytes + place->offset};
	}
	pthread_mutex_unlock(&p->lock);
	return leased;
}
