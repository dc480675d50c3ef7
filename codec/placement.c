#include "placement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "placement_inner.h"
#include "util.h"

void placement_log(const struct wf_placement *p, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	if (!p->options.log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	p->options.log(p->options.log_ctx, line);
}

const char *placement_why(const struct place_device *d, int r)
{
	const char *text = r == -EIO || r == -ENOMEM ? d->device->ops->why(d->device) : NULL;
	return text ? text : strerror(-r);
}

/* Loads a storage whose room is reserved. load_lock is held. */
static int load_reserved(struct wf_placement *p, uint32_t storage)
{
	struct place place = placement_look(p, storage);
	struct placement_item item = {.storage = storage, .offset = place.offset};
	int r = placement_load(p, place.slab->device, &place.slab->memory, &item, 1, NULL, NULL);
	if (r == 0 && item.bad)
		placement_log(p, "storage %s: its bytes do not have the CRC that their record tells",
			      wf_storage_key(p->ss, storage));
	if (r == 0)
		placement_set_state(p, storage, item.bad ? PLACE_BAD : PLACE_READY);
	return r;
}

/* First use. Returns what became of it in *ret. */
static void place_now(struct wf_placement *p, struct place_device *d, uint32_t storage, struct place *ret)
{
	pthread_mutex_lock(&p->load_lock);
	*ret = placement_look(p, storage);
	if (ret->state == PLACE_OPEN) {
		int r = placement_reserve(p, d, storage);
		if (r == 0)
			r = load_reserved(p, storage);
		if (r < 0) {
			placement_log(p, "storage %s stays in the file: %s: %s", wf_storage_key(p->ss, storage), d->name,
				      placement_why(d, r));
			placement_set_state(p, storage, PLACE_FILE);
		}
		*ret = placement_look(p, storage);
	}
	pthread_mutex_unlock(&p->load_lock);
}

struct place placement_find(struct wf_placement *p, uint32_t storage)
{
	struct place place = placement_look(p, storage);
	struct place_device *d = place.state == PLACE_OPEN ? placement_target(p, storage) : NULL;
	if (d)
		place_now(p, d, storage, &place);
	return place;
}

bool wf_placement_has(struct wf_placement *p, uint32_t storage)
{
	if (!p || !atomic_load(&p->active))
		return false;
	struct place place = placement_look(p, storage);
	return place.state == PLACE_READY || place.state == PLACE_BAD ||
	       (place.state == PLACE_OPEN && placement_target(p, storage));
}

/* ---- reading ---- */

static int gather(const struct place *at, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len)
{
	struct place_device *d = at->slab->device;
	uint32_t element = wf_dtype_info(t->dtype)->size_bytes;
	struct dev_view v = {.offset_bytes = at->offset + wf_layout_start(t), .element_bytes = element, .ndim = t->ndim};
	if (d->no_gather || offset % element || len % element)
		return -EOPNOTSUPP;
	for (uint32_t i = 0; i < t->ndim; i++) {
		v.shape[i] = (uint64_t)t->shape[i];
		v.stride_elems[i] = (uint64_t)t->stride[i];
	}
	int r = d->device->ops->gather(d->device, &at->slab->memory, &v, offset / element, len / element, buf);
	if (r == -EOPNOTSUPP)
		d->no_gather = true; /* one way only, and every thread finds the same */
	return r;
}

int wf_placement_read(struct wf_placement *p, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len)
{
	if (!p || !atomic_load(&p->active) || t->storage == WF_NO_STORAGE)
		return 0;
	struct place at = placement_find(p, t->storage);
	if (at.state == PLACE_BAD)
		return -EUCLEAN;
	/* the logical values of a conjugate or negative view are worked out from the file */
	if (at.state != PLACE_READY || t->conj || t->neg || t->swap)
		return 0;
	struct device *d = at.slab->device->device;
	int r = t->contiguous
			? d->ops->copy_out(d, &at.slab->memory, at.offset + wf_layout_start(t) + offset, buf, len)
			: gather(&at, t, offset, buf, len);
	if (r == 0)
		return 1;
	if (r != -EOPNOTSUPP) {
		placement_log(p, "storage %s is read from the file from now on: %s: %s", wf_storage_key(p->ss, t->storage),
			      at.slab->device->name, placement_why(at.slab->device, r));
		placement_set_state(p, t->storage, PLACE_FILE);
	}
	return 0;
}

/* ---- keeping up with edits ---- */

static void written(void *ctx, uint32_t storage, uint64_t offset, const void *data, size_t len)
{
	struct wf_placement *p = ctx;
	struct place at = placement_look(p, storage);
	if (at.state != PLACE_READY)
		return;
	static const char zeroes[64 << 10];
	struct device *d = at.slab->device->device;
	int r = 0;
	for (size_t n; r == 0 && len > 0; offset += n, len -= n) {
		n = data ? len : WF_MIN(len, sizeof zeroes);
		r = d->ops->copy_in(d, &at.slab->memory, at.offset + offset, data ? data : zeroes, n);
	}
	if (r < 0) {
		placement_log(p, "storage %s is in the file alone from now on: %s: %s", wf_storage_key(p->ss, storage),
			      at.slab->device->name, placement_why(at.slab->device, r));
		placement_set_state(p, storage, PLACE_FILE);
	}
}

/* Its room is given up; whoever has leased the old bytes keeps those. */
static void resized(void *ctx, uint32_t storage)
{
	struct wf_placement *p = ctx;
	pthread_mutex_lock(&p->lock);
	if (storage < p->place_count) {
		placement_leave(p->places[storage].slab);
		p->places[storage] = (struct place){0};
	}
	pthread_mutex_unlock(&p->lock);
}

static int move_to_file(struct wf_placement *p, uint32_t storage)
{
	pthread_mutex_lock(&p->lock);
	struct place *place = placement_place(p, storage);
	int r = !place ? -ENOMEM : place->leases > 0 ? -EBUSY : 0;
	if (r == 0) {
		placement_leave(place->slab);
		*place = (struct place){.state = PLACE_FILE};
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

static int move_to_device(struct wf_placement *p, uint32_t storage, struct place_device *d)
{
	struct slab *slab = NULL;
	struct place now = placement_look(p, storage);
	const char *why;
	if (now.state == PLACE_READY && now.slab->device == d)
		return 0;
	if (now.leases > 0)
		return -EBUSY;
	int r = placement_open(p, d, &why);
	if (r < 0) {
		placement_log(p, "%s: %s", d->name, why);
		return -ENODEV;
	}
	r = placement_reserve_own(p, d, storage, &slab);
	if (r < 0)
		return r;
	struct placement_item item = {.storage = storage};
	r = placement_load(p, d, &slab->memory, &item, 1, NULL, NULL);
	pthread_mutex_lock(&p->lock);
	struct place *place = placement_place(p, storage);
	if (r == 0 && (!place || item.bad))
		r = place ? -EUCLEAN : -ENOMEM;
	if (r == 0) {
		placement_leave(place->slab);
		*place = (struct place){.state = PLACE_READY, .slab = slab};
		atomic_store(&p->active, true);
	} else {
		placement_leave(slab);
	}
	pthread_mutex_unlock(&p->lock);
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
	pthread_mutex_lock(&p->load_lock);
	int r = move_to_device(p, storage, d);
	pthread_mutex_unlock(&p->load_lock);
	return r;
}

/* ---- all at once ---- */

static int preload_device(struct wf_placement *p, struct place_device *d, void (*progress)(void *, uint64_t, uint64_t),
			  void *ctx, struct wf_error *err)
{
	uint64_t bytes = 0;
	struct dev_info info = {0};
	uint32_t n = 0;
	pthread_mutex_lock(&p->lock);
	int r = placement_reserve_all(p, d, &bytes);
	pthread_mutex_unlock(&p->lock);
	if (r < 0) {
		d->device->ops->describe(d->device, &info);
		return wf_fail(err, r, "%s: %s: the storages need %llu bytes, %llu of %llu are free", d->name,
			       placement_why(d, r), (unsigned long long)bytes, (unsigned long long)info.free_bytes,
			       (unsigned long long)info.total_bytes);
	}
	struct placement_item *items = calloc(p->place_count + 1, sizeof *items);
	const struct dev_memory *memory = NULL;
	for (uint32_t i = 0; items && i < p->place_count; i++)
		if (p->places[i].slab && p->places[i].slab->device == d) {
			memory = &p->places[i].slab->memory;
			items[n++] = (struct placement_item){.storage = i, .offset = p->places[i].offset};
		}
	r = !items ? -ENOMEM : n ? placement_load(p, d, memory, items, n, progress, ctx) : 0;
	if (r < 0)
		wf_fail(err, r, "%s: the storages cannot be loaded: %s", d->name, placement_why(d, r));
	for (uint32_t k = 0; r == 0 && k < n; k++) {
		if (items[k].bad)
			r = wf_fail(err, -EUCLEAN, "storage %s: its bytes do not have the CRC that their record tells",
				    wf_storage_key(p->ss, items[k].storage));
		else
			placement_set_state(p, items[k].storage, PLACE_READY);
	}
	free(items);
	return r;
}

int wf_placement_preload(struct wf_placement *p, void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes),
			 void *ctx, struct wf_error *err)
{
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < p->device_count; i++)
		if (p->devices[i].target)
			r = preload_device(p, &p->devices[i], progress, ctx, err);
	return r;
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
	pthread_mutex_init(&p->load_lock, NULL);
	pthread_mutex_init(&p->lock, NULL);
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
	bool leased = false;
	pthread_mutex_lock(&p->lock);
	for (uint32_t i = 0; i < p->place_count; i++)
		leased |= p->places[i].leases > 0;
	pthread_mutex_unlock(&p->lock);
	return leased;
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
	pthread_mutex_lock(&p->lock);
	give_up_places(p);
	for (uint32_t i = 0; i < p->device_count; i++)
		p->devices[i].shared_tried = false;
	p->ss = ss;
	pthread_mutex_unlock(&p->lock);
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
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_destroy(&p->load_lock);
	free(p->rules);
	free(p);
}
