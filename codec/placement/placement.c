/* SPDX-License-Identifier: MIT */
/* Reads what is on a device, and passes on to it what is written. */
#include "codec/placement/placement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tensor/layout.h"
#include "codec/placement/inner.h"
#include "codec/bytes/util.h"

bool wf_placement_has(struct wf_placement *p, uint32_t storage)
{
	if (!p || !atomic_load(&p->active))
		return false;
	struct storage_place place = placement_look(p, storage);
	return place.state == PLACE_READY || place.state == PLACE_BAD || place.state == PLACE_LOADING ||
	       (place.state == PLACE_OPEN && placement_target(p, storage));
}

/* ---- reading ---- */

static int gather(struct wf_placement *p, const struct storage_place *at, const struct wf_tensor *t, uint64_t offset,
		  void *buf, size_t len)
{
	struct place_device *d = at->slab->device;
	uint32_t element = wf_dtype_info(t->dtype)->size_bytes;
	struct dev_view v = {
		.offset_bytes = at->offset + wf_layout_start(t), .element_bytes = element, .ndim = t->ndim};
	if (d->no_gather || offset % element || len % element)
		return -EOPNOTSUPP;
	for (uint32_t i = 0; i < t->ndim; i++) {
		v.shape[i] = (uint64_t)t->shape[i];
		v.stride_elems[i] = (uint64_t)t->stride[i];
	}
	int r = d->device->ops->gather(d->device, &at->slab->memory, &v, offset / element, len / element, buf);
	if (r == -EOPNOTSUPP && !d->no_gather) { /* one way only, and every thread finds the same */
		const char *why = d->device->ops->why(d->device);
		d->no_gather = true;
		wf_log_line(&p->options.log, "%s: views that are not contiguous are read from the file: %s", d->name,
			    why ? why : "this program was built without device kernels");
	}
	return r;
}

/* From the device. The gate is held shared, so that the place stays. Returns as the device; 1: not from there. */
static int read_placed(struct wf_placement *p, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len,
		       struct place_device **ret_device)
{
	struct storage_place at = placement_look(p, t->storage);
	/* the logical values of a conjugate or negative view are worked out from the file */
	if (at.state != PLACE_READY || t->conj || t->neg || t->swap)
		return 1;
	struct device *d = at.slab->device->device;
	*ret_device = at.slab->device;
	return t->contiguous ? d->ops->copy_out(d, &at.slab->memory, at.offset + wf_layout_start(t) + offset, buf, len)
			     : gather(p, &at, t, offset, buf, len);
}

int wf_placement_read(struct wf_placement *p, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len)
{
	struct place_device *d = NULL;
	if (!p || !atomic_load(&p->active) || t->storage == WF_NO_STORAGE)
		return 0;
	if (placement_find(p, t->storage).state == PLACE_BAD)
		return -EUCLEAN;
	pthread_rwlock_rdlock(&p->gate);
	int r = read_placed(p, t, offset, buf, len, &d);
	pthread_rwlock_unlock(&p->gate);
	if (r < 0 && r != -EOPNOTSUPP)
		placement_give_up(p, d, t->storage, r, "is read from the file from now on");
	return r == 0;
}

/* ---- keeping up with edits ---- */

static void written(void *ctx, uint32_t storage, uint64_t offset, const void *data, size_t len)
{
	static const char zeroes[64 << 10];
	struct wf_placement *p = ctx;
	int r = 0;
	pthread_rwlock_rdlock(&p->gate);
	struct storage_place at = placement_look(p, storage);
	struct place_device *d = at.state == PLACE_READY ? at.slab->device : NULL;
	for (size_t n; d && r == 0 && len > 0; offset += n, len -= n) {
		n = data ? len : WF_MIN(len, sizeof zeroes);
		r = d->device->ops->copy_in(d->device, &at.slab->memory, at.offset + offset, data ? data : zeroes, n);
	}
	pthread_rwlock_unlock(&p->gate);
	if (r < 0)
		placement_give_up(p, d, storage, r, "is in the file alone from now on");
}

/* Its room is given up; whoever has leased the old bytes keeps those. */
static void resized(void *ctx, uint32_t storage)
{
	struct wf_placement *p = ctx;
	pthread_rwlock_wrlock(&p->gate);
	pthread_mutex_lock(&p->lock);
	if (storage < p->place_count) {
		placement_leave(p->places[storage].slab);
		p->places[storage] = (struct storage_place){0};
	}
	pthread_mutex_unlock(&p->lock);
	pthread_rwlock_unlock(&p->gate);
}

/* The checkpoint's lock is held exclusively in these: nothing is read or loaded, but leases end. */
static int move_to_file(struct wf_placement *p, uint32_t storage)
{
	pthread_mutex_lock(&p->lock);
	struct storage_place *place = placement_place(p, storage);
	int r = !place ? -ENOMEM : place->leases > 0 ? -EBUSY : 0;
	if (r == 0)
		place->state = PLACE_FILE;
	pthread_mutex_unlock(&p->lock);
	if (r == 0) {
		pthread_rwlock_wrlock(&p->gate);
		placement_compact(p);
		pthread_rwlock_unlock(&p->gate);
	}
	return r;
}

/* Into memory of its own: *ret is where, or nothing changed. */
static int load_alone(struct wf_placement *p, uint32_t storage, struct place_device *d, struct slab **ret)
{
	struct placement_item item = {.storage = storage};
	pthread_mutex_lock(&p->lock);
	int r = placement_reserve_own(p, d, storage, ret);
	pthread_mutex_unlock(&p->lock);
	if (r < 0)
		return r;
	r = placement_load(p, d, &(*ret)->memory, &item, 1, NULL, NULL);
	r = r == 0 && item.bad ? -EUCLEAN : r;
	if (r == 0)
		return 0;
	pthread_mutex_lock(&p->lock);
	placement_leave(*ret);
	if (d->device->ops->lost(d->device))
		placement_lose(p, d);
	pthread_mutex_unlock(&p->lock);
	return r;
}

static int move_to_device(struct wf_placement *p, uint32_t storage, struct place_device *d)
{
	struct slab *slab = NULL;
	struct storage_place now = placement_look(p, storage);
	if (now.state == PLACE_READY && now.slab->device == d && !d->device->ops->lost(d->device))
		return 0;
	if (now.leases > 0)
		return -EBUSY;
	int r = placement_ready(p, d);
	if (r == 0)
		r = load_alone(p, storage, d, &slab);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&p->gate);
	pthread_mutex_lock(&p->lock);
	struct storage_place *place = placement_place(p, storage);
	if (place) {
		placement_leave(place->slab);
		*place = (struct storage_place){.state = PLACE_READY, .slab = slab};
		atomic_store(&p->active, true);
	} else {
		placement_leave(slab);
		r = -ENOMEM;
	}
	pthread_mutex_unlock(&p->lock);
	placement_compact(p);
	pthread_rwlock_unlock(&p->gate);
	return r;
}

int wf_placement_move(struct wf_placement *p, uint32_t storage, const char *to)
{
	const struct wf_storage *s = wf_storage_get(p->ss, storage);
	if (!s || s->persid == WF_NIL)
		return -EOPNOTSUPP; /* bytes inside the pickle */
	if (!strcmp(to, "file"))
		return move_to_file(p, storage);
	struct place_device *d = placement_named(p, to, strlen(to));
	if (!d)
		return -EINVAL;
	return move_to_device(p, storage, d);
}

/* ---- all at once ---- */

static bool any_device(const struct place_device *d)
{
	return true;
}

int wf_placement_preload(struct wf_placement *p, void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes),
			 void *ctx, struct wf_error *err)
{
	return placement_load_devices(p, any_device, progress, ctx, err);
}

/* ---- asking ---- */

uint32_t wf_placement_relocated(struct wf_placement *p)
{
	return p ? p->relocated : 0;
}

/* ---- the whole ---- */

int wf_placement_new(const struct wf_placement_options *options, struct wf_storages *ss, struct wf_placement **ret,
		     struct wf_error *err)
{
	struct wf_placement *p = calloc(1, sizeof *p);
	if (!p)
		return wf_fail(err, -ENOMEM, "out of memory");
	p->options = *options;
	p->ss = ss;
	p->mirror = (struct wf_storage_mirror){.written = written, .resized = resized, .ctx = p};
	pthread_rwlockattr_t writers_first;
	pthread_rwlockattr_init(&writers_first);
	pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&p->gate, &writers_first);
	pthread_rwlockattr_destroy(&writers_first);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->loaded, NULL);
	int r = options->map_location ? placement_parse(p, options->map_location, err) : 0;
	for (uint32_t i = 0; r == 0 && i < p->device_count; i++) {
		const char *why;
		r = placement_open(p, &p->devices[i], &why);
		if (r < 0)
			wf_fail(err, r, "map_location: %s: %s", p->devices[i].name, why);
	}
	if (r == 0 && (r = wf_placement_map(p, ss)) < 0)
		wf_fail(err, r, "out of memory");
	if (r < 0) {
		wf_placement_free(p);
		return r;
	}
	atomic_store(&p->active, p->rule_count > 0);
	wf_storages_set_mirror(ss, &p->mirror);
	*ret = p;
	return 0;
}

bool wf_placement_is_leased(struct wf_placement *p)
{
	return atomic_load(&p->lease_count) > 0;
}

bool wf_placement_is_held(struct wf_placement *p)
{
	return atomic_load(&p->hold_count) > 0;
}

static void give_up_places(struct wf_placement *p)
{
	for (uint32_t i = 0; i < p->place_count; i++)
		placement_leave(p->places[i].slab);
	free(p->places);
	p->places = NULL;
	p->place_count = 0;
}

void wf_placement_start_over(struct wf_placement *p, struct wf_storages *ss)
{
	pthread_rwlock_wrlock(&p->gate);
	pthread_mutex_lock(&p->lock);
	give_up_places(p);
	for (uint32_t i = 0; i < p->device_count; i++)
		p->devices[i].shared_tried = false;
	p->ss = ss;
	pthread_mutex_unlock(&p->lock);
	pthread_rwlock_unlock(&p->gate);
	wf_storages_set_mirror(ss, &p->mirror);
}

void wf_placement_free(struct wf_placement *p)
{
	if (!p)
		return;
	wf_storages_set_mirror(p->ss, NULL);
	give_up_places(p);
	for (uint32_t i = 0; i < p->device_count; i++)
		if (p->devices[i].device)
			p->devices[i].device->ops->close(p->devices[i].device);
	for (uint32_t i = 0; i < p->rule_count; i++)
		free(p->rules[i].from);
	pthread_cond_destroy(&p->loaded);
	pthread_mutex_destroy(&p->lock);
	pthread_rwlock_destroy(&p->gate);
	free(p->rules);
	free(p);
}
