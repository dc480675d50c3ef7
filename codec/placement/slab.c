/* SPDX-License-Identifier: MIT */
/* The memory behind places: one allocation for all storages of a device, or one of its own for a storage. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/placement/inner.h"
#include "codec/bytes/util.h"

#define DEAD_BYTES (2ull << 20) /* what is worth moving the rest for: a page of the device */

struct storage_place *placement_place(struct wf_placement *p, uint32_t storage)
{
	if (storage >= p->place_count) {
		uint32_t n = WF_MAX(wf_storages_count(p->ss), storage + 1);
		struct storage_place *places = reallocarray(p->places, n, sizeof *places);
		if (!places)
			return NULL;
		memset(places + p->place_count, 0, (n - p->place_count) * sizeof *places);
		p->places = places;
		p->place_count = n;
	}
	return &p->places[storage];
}

struct storage_place placement_look(struct wf_placement *p, uint32_t storage)
{
	struct storage_place place = {0};
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
	pthread_cond_broadcast(&p->loaded);
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
	s->share_status = 1;
	d->slabs++;
	*ret = s;
	return 0;
}

void placement_leave(struct slab *s)
{
	if (!s || --s->users > 0)
		return;
	s->device->device->ops->free(s->device->device, &s->memory);
	s->device->slabs--;
	free(s);
}

static uint64_t room_for(const struct wf_placement *p, uint32_t storage)
{
	return (wf_storage_get(p->ss, storage)->size_bytes + WF_PLACE_ALIGN - 1) & ~(uint64_t)(WF_PLACE_ALIGN - 1);
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
		p->places[i].offset = size;
		if (wf_add_u64(size, room_for(p, i), &size))
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
	if (!d->shared_tried && (r = placement_reserve_all(p, d, &bytes)) < 0)
		wf_log_line(&p->options.log,
			    "%s: no memory for all storages in one piece (%s): they are placed one by one", d->name,
			    placement_why(d, r));
	struct storage_place *place = placement_place(p, storage);
	r = place ? 0 : -ENOMEM;
	if (r == 0 && !place->slab) {
		r = placement_reserve_own(p, d, storage, &place->slab);
		place->offset = 0;
	}
	return r;
}

/* ---- memory that nobody needs any more ---- */

/* How much of each slab is in use. */
static void count_live(struct wf_placement *p)
{
	for (uint32_t i = 0; i < p->place_count; i++)
		if (p->places[i].slab)
			p->places[i].slab->live_bytes = 0;
	for (uint32_t i = 0; i < p->place_count; i++)
		if (p->places[i].slab)
			p->places[i].slab->live_bytes += room_for(p, i);
}

/* The storages of a slab, in the order of the table, which is that of their places in it. Neighbours go together. */
static int copy_places(const struct wf_placement *p, const struct slab *from, const struct slab *to)
{
	const struct device *d = from->device->device;
	uint64_t at = 0, start = 0, old_start = 0, old_end = 0;
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < p->place_count; i++) {
		const struct storage_place *place = &p->places[i];
		if (place->slab != from)
			continue;
		if (place->offset != old_end) {
			r = d->ops->copy((struct device *)d, &to->memory, start, &from->memory, old_start, at - start);
			start = at;
			old_start = place->offset;
		}
		old_end = place->offset + room_for(p, i);
		at += room_for(p, i);
	}
	/* the last storage ends where the memory does, not at a multiple of the alignment */
	uint64_t rest = WF_MIN(at, to->memory.size_bytes) - start;
	rest = WF_MIN(rest, from->memory.size_bytes - old_start);
	return r < 0 ? r : d->ops->copy((struct device *)d, &to->memory, start, &from->memory, old_start, rest);
}

static int move_together(struct wf_placement *p, struct slab *from)
{
	struct slab *to;
	uint64_t at = 0;
	int r = new_slab(from->device, from->live_bytes, from->users, &to);
	if (r == 0 && (r = copy_places(p, from, to)) < 0) {
		to->users = 1;
		placement_leave(to);
	}
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < p->place_count; i++)
		if (p->places[i].slab == from) {
			p->places[i].slab = to;
			p->places[i].offset = at;
			at += room_for(p, i);
		}
	from->users = 1;
	placement_leave(from);
	return 0;
}

void placement_compact(struct wf_placement *p)
{
	pthread_mutex_lock(&p->lock);
	for (uint32_t i = 0; i < p->place_count; i++)
		if (p->places[i].slab && p->places[i].state == PLACE_FILE && p->places[i].leases == 0) {
			placement_leave(p->places[i].slab);
			p->places[i].slab = NULL;
		}
	count_live(p);
	for (uint32_t i = 0; i < p->place_count; i++) {
		struct slab *s = p->places[i].slab;
		if (!s || s->leases > 0 || s->live_bytes + DEAD_BYTES > s->memory.size_bytes ||
		    s->device->device->ops->lost(s->device->device))
			continue;
		struct place_device *d = s->device;
		int r = move_together(p, s);
		if (r < 0) {
			s->live_bytes = s->memory.size_bytes; /* is not tried again in this pass */
			wf_log_line(&p->options.log, "%s: the memory of storages that left it is kept for now: %s",
				    d->name, placement_why(d, r));
		}
	}
	pthread_mutex_unlock(&p->lock);
}
