/* SPDX-License-Identifier: MIT */
/* Where a storage is, and its placing at the first use. */
#include <errno.h>
#include <string.h>

#include "codec/placement/inner.h"

/* Loads a storage whose room is reserved. The gate is held shared. */
static int load_reserved(struct wf_placement *p, uint32_t storage, enum place_state *ret_state)
{
	struct storage_place place = placement_look(p, storage);
	struct placement_item item = {.storage = storage, .offset = place.offset};
	int r = placement_load(p, place.slab->device, &place.slab->memory, &item, 1, NULL, NULL);
	if (r == 0 && item.bad)
		wf_log_line(&p->options.log, "storage %s: its bytes do not have the CRC that their record tells",
			    wf_storage_key(p->ss, storage));
	*ret_state = item.bad ? PLACE_BAD : PLACE_READY;
	return r;
}

/* A device operation for a storage gave r: it stays in the file, or all of the device's do where that was the end of it. */
void placement_give_up(struct wf_placement *p, struct place_device *d, uint32_t storage, int r, const char *what)
{
	pthread_mutex_lock(&p->lock);
	if (d->device && d->device->ops->lost(d->device))
		placement_lose(p, d);
	else
		wf_log_line(&p->options.log, "storage %s %s: %s: %s", wf_storage_key(p->ss, storage), what, d->name,
			    d->device ? placement_why(d, r) : strerror(-r));
	if (storage < p->place_count)
		p->places[storage].state = PLACE_FILE;
	pthread_cond_broadcast(&p->loaded);
	pthread_mutex_unlock(&p->lock);
}

/* First use: by this thread, or waiting for the one that is at it. Returns what became of it in *ret. */
static void place_now(struct wf_placement *p, struct place_device *d, uint32_t storage, struct storage_place *ret)
{
	enum place_state state = PLACE_FILE;
	int ready = placement_ready(p, d), r = ready;
	pthread_mutex_lock(&p->lock);
	while (storage < p->place_count && p->places[storage].state == PLACE_LOADING)
		pthread_cond_wait(&p->loaded, &p->lock);
	struct storage_place *place = placement_place(p, storage);
	bool mine = place && place->state == PLACE_OPEN;
	if (mine && r == 0)
		r = placement_reserve(p, d, storage);
	if (mine && r == 0)
		p->places[storage].state = PLACE_LOADING;
	pthread_mutex_unlock(&p->lock);
	if (mine && r == 0) {
		pthread_rwlock_rdlock(&p->gate);
		r = load_reserved(p, storage, &state);
		pthread_rwlock_unlock(&p->gate);
		if (r == 0)
			placement_set_state(p, storage, state);
	}
	if (mine && r < 0)
		placement_give_up(p, d, storage, r, "stays in the file");
	*ret = placement_look(p, storage);
}

struct storage_place placement_find(struct wf_placement *p, uint32_t storage)
{
	struct storage_place place = placement_look(p, storage);
	struct place_device *d =
		place.state == PLACE_OPEN || place.state == PLACE_LOADING ? placement_target(p, storage) : NULL;
	if (d)
		place_now(p, d, storage, &place);
	return place;
}
