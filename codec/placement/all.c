/* SPDX-License-Identifier: MIT */
/* All storages of a device at once: at the mount (preload), or for who maps them all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/placement/inner.h"

/* How far all devices are together. */
struct tally {
	pthread_mutex_t lock;
	uint64_t done, total;
	void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	void *ctx;
};

struct job {
	struct wf_placement *p;
	struct place_device *device;
	struct tally *tally;
	uint64_t done, total; /* of the load that runs, in the tally already */
	bool strict;          /* a failure ends it */
	struct wf_error err;
	int status;
	pthread_t thread;
	bool started;
};

static void add_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct job *j = ctx;
	struct tally *t = j->tally;
	pthread_mutex_lock(&t->lock);
	t->done += done_bytes - j->done;
	t->total += total_bytes - j->total;
	j->done = done_bytes;
	j->total = total_bytes;
	t->progress(t->ctx, t->done, t->total);
	pthread_mutex_unlock(&t->lock);
}

static int fail_room(struct job *j, int r, uint64_t bytes)
{
	struct place_device *d = j->device;
	struct dev_info info = {0};
	const char *why = placement_why(d, r);
	d->device->ops->describe(d->device, &info);
	return wf_fail(&j->err, r, "%s: %s: the storages need %llu bytes, %llu of %llu are free", d->name, why,
		       (unsigned long long)bytes, (unsigned long long)info.free_bytes,
		       (unsigned long long)info.total_bytes);
}

/* The storages that wait in one slab, PLACE_LOADING from here on. p->lock is held. Returns their number; 0: none waits. */
static uint32_t take_slab(struct job *j, struct placement_item *items, const struct dev_memory **ret_memory)
{
	struct wf_placement *p = j->p;
	const struct slab *slab = NULL;
	uint32_t n = 0;
	for (uint32_t i = 0; i < p->place_count; i++) {
		struct storage_place *place = &p->places[i];
		if (place->state != PLACE_OPEN || !place->slab || place->slab->device != j->device ||
		    (slab && place->slab != slab))
			continue;
		slab = place->slab;
		place->state = PLACE_LOADING;
		items[n++] = (struct placement_item){.storage = i, .offset = place->offset};
	}
	*ret_memory = slab ? &slab->memory : NULL;
	return n;
}

/* p->lock is held. */
static void settle_slab(struct job *j, const struct placement_item *items, uint32_t n, int r)
{
	struct wf_placement *p = j->p;
	struct place_device *d = j->device;
	for (uint32_t k = 0; k < n; k++) {
		const char *key = wf_storage_key(p->ss, items[k].storage);
		p->places[items[k].storage].state = r < 0          ? (j->strict ? PLACE_OPEN : PLACE_FILE)
						    : items[k].bad ? PLACE_BAD
								   : PLACE_READY;
		if (r < 0 || !items[k].bad)
			continue;
		if (j->strict)
			j->status = wf_fail(&j->err, -EUCLEAN,
					    "storage %s: its bytes do not have the CRC that their record tells", key);
		else
			wf_log_line(&p->options.log,
				    "storage %s: its bytes do not have the CRC that their record tells", key);
	}
	if (r < 0 && j->strict)
		j->status = wf_fail(&j->err, r, "%s: the storages cannot be loaded: %s", d->name, placement_why(d, r));
	else if (r < 0 && d->device->ops->lost(d->device))
		placement_lose(p, d);
	else if (r < 0)
		wf_log_line(&p->options.log, "%u storages stay in the file: %s: %s", n, d->name, placement_why(d, r));
	pthread_cond_broadcast(&p->loaded);
}

static void load_slabs(struct job *j)
{
	struct wf_placement *p = j->p;
	const struct dev_memory *memory;
	struct placement_item *items = calloc(p->place_count + 1, sizeof *items);
	uint32_t n;
	if (!items)
		j->status = wf_fail(&j->err, -ENOMEM, "out of memory");
	while (j->status == 0 && (n = take_slab(j, items, &memory)) > 0) {
		pthread_mutex_unlock(&p->lock);
		pthread_rwlock_rdlock(&p->gate);
		j->done = j->total = 0;
		int r = placement_load(p, j->device, memory, items, n, j->tally->progress ? add_progress : NULL, j);
		pthread_rwlock_unlock(&p->gate);
		pthread_mutex_lock(&p->lock);
		settle_slab(j, items, n, r);
	}
	free(items);
}

/* Where there is no room for all, as many as there is room for. */
static void load_one_by_one(struct job *j)
{
	struct wf_placement *p = j->p;
	for (uint32_t i = 0; i < wf_storages_count(p->ss); i++)
		if (placement_target(p, i) == j->device)
			placement_find(p, i);
}

static void *run(void *arg)
{
	struct job *j = arg;
	struct wf_placement *p = j->p;
	uint64_t bytes = 0;
	j->status = placement_ready(p, j->device);
	if (j->status < 0) {
		wf_fail(&j->err, j->status, "%s: no such device", j->device->name);
		return NULL;
	}
	pthread_mutex_lock(&p->lock);
	int r = placement_reserve_all(p, j->device, &bytes);
	if (r < 0 && j->strict)
		j->status = fail_room(j, r, bytes);
	else if (r == 0)
		load_slabs(j);
	pthread_mutex_unlock(&p->lock);
	if (!j->strict)
		load_one_by_one(j); /* also those that another thread had begun with */
	return NULL;
}

int placement_load_devices(struct wf_placement *p, bool (*wanted)(const struct place_device *d),
			   void (*progress)(void *, uint64_t, uint64_t), void *ctx, struct wf_error *err)
{
	struct tally tally = {.lock = PTHREAD_MUTEX_INITIALIZER, .progress = progress, .ctx = ctx};
	struct job *jobs = calloc(MAX_DEVICES, sizeof *jobs);
	uint32_t n = 0;
	int r = jobs ? 0 : -ENOMEM;
	for (uint32_t i = 0; jobs && i < p->device_count; i++)
		if (p->devices[i].target && wanted(&p->devices[i]))
			jobs[n++] = (struct job){.p = p, .device = &p->devices[i], .tally = &tally, .strict = err};
	/* the last one by this thread, and so are those that get none */
	for (uint32_t k = 0; k < n; k++)
		jobs[k].started = k + 1 < n && pthread_create(&jobs[k].thread, NULL, run, &jobs[k]) == 0;
	for (uint32_t k = 0; k < n; k++)
		if (!jobs[k].started)
			run(&jobs[k]);
	for (uint32_t k = 0; k < n; k++) {
		if (jobs[k].started)
			pthread_join(jobs[k].thread, NULL);
		if (r == 0 && jobs[k].status < 0) {
			r = jobs[k].status;
			if (err)
				*err = jobs[k].err;
		}
	}
	free(jobs);
	return r;
}
