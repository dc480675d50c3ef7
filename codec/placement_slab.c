/* The memory behind places: one allocation for all storages of a device, or one of its own for a storage. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "placement_inner.h"
#include "util.h"

struct place *placement_place(struct wf_placement *p, uint32_t storage)
{
	if (storage >= p->place_count) {
		uint32_t n = WF_MAX(wf_storages_count(p->ss), storage + 1);
		struct place *places = reallocarray(p->places, n, sizeof *places);
		if (!places)
			return NULL;
		memset(places + p->place_count, 0, (n - p->place_count) * sizeof *places);
		p->places = places;
		p->place_count = n;
	}
	return &p->places[storage];
}

struct place placement_look(struct wf_placement *p, uint32_t storage)
{
	struct place place = {0};
	pthread_mutex_lock(&p->lock);
	if (storage < p->place_count)
		place = p->places[storage];
	pthread_mutex_unlock(&p->lock);
	return place;
}

void placement_set_state(struct wf_placement *p, uint32_t storage, enum place_state state)
{
	pthread_mutex_lock(&p->lock);
	if (storage < p->place_count)
		p->places[storage].state = state;
	pthread_mutex_unlock(&p->lock);
}

/* ---- slabs ---- */

static int new_slab(struct place_device *d, uint64_t size_bytes, uint32_t users, struct slab **ret)
{
	struct slab *s = calloc(1, sizeof *s);
	int r = s ? d->device->ops->alloc(d->device, size_bytes, &s->memory) : -ENOMEM;
	if (r < 0) {
		free(s);
		return r;
	}
	s->device = d;
	s->users = users;
	*ret = s;
	return 0;
}

void placement_leave(struct slab *s)
{
	if (!s || --s->users > 0)
		return;
	s->device->device->ops->free(s->device->device, &s->memory);
	free(s);
}

int placement_reserve_all(struct wf_placement *p, struct place_device *d, uint64_t *ret_bytes)
{
	uint64_t size = 0;
	uint32_t users = 0, n = wf_storages_count(p->ss);
	struct slab *slab;
	d->shared_tried = true;
	if (n > 0 && !placement_place(p, n - 1))
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		if (p->places[i].slab || p->places[i].state != PLACE_OPEN || placement_target(p, i) != d)
			continue;
		uint64_t bytes =
			(wf_storage_get(p->ss, i)->size_bytes + WF_PLACE_ALIGN - 1) & ~(uint64_t)(WF_PLACE_ALIGN - 1);
		p->places[i].offset = size;
		if (wf_add_u64(size, bytes, &size))
			return -E2BIG;
		users++;
	}
	*ret_bytes = size;
	int r = users ? new_slab(d, size, users, &slab) : 0;
	if (r < 0 || !users)
		return r;
	for (uint32_t i = 0; i < n; i++)
		if (!p->places[i].slab && p->places[i].state == PLACE_OPEN && placement_target(p, i) == d)
			p->places[i].slab = slab;
	return 0;
}

int placement_reserve_own(struct wf_placement *p, struct place_device *d, uint32_t storage, struct slab **ret)
{
	return new_slab(d, wf_storage_get(p->ss, storage)->size_bytes, 1, ret);
}

int placement_reserve(struct wf_placement *p, struct place_device *d, uint32_t storage)
{
	uint64_t bytes;
	int r = 0;
	pthread_mutex_lock(&p->lock);
	if (!d->shared_tried && (r = placement_reserve_all(p, d, &bytes)) < 0)
		placement_log(p, "%s: no memory for all storages in one piece (%s): they are placed one by one", d->name,
			      placement_why(d, r));
	struct place *place = placement_place(p, storage);
	r = place ? 0 : -ENOMEM;
	if (r == 0 && !place->slab) {
		r = placement_reserve_own(p, d, storage, &place->slab);
		place->offset = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}
