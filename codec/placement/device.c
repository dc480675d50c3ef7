/* SPDX-License-Identifier: MIT */
/* Devices that come and fail. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/placement/inner.h"

static bool is_lost(const struct place_device *d)
{
	return d->device && d->device->ops->lost(d->device);
}

/* Both locks are held, the gate exclusively: nobody is in the device. What leases still hold keeps its memory. */
static int close_lost(struct wf_placement *p, struct place_device *d)
{
	for (uint32_t i = 0; i < p->place_count; i++) {
		struct storage_place *place = &p->places[i];
		if (!place->slab || place->slab->device != d || place->leases > 0)
			continue;
		placement_leave(place->slab);
		place->slab = NULL;
		if (place->state == PLACE_READY)
			place->state = PLACE_FILE;
	}
	if (d->slabs > 0)
		return -EBUSY;
	d->device->ops->close(d->device);
	d->device = NULL;
	d->dead = d->again && !atomic_load(&d->worked);
	d->again = true;
	atomic_store(&d->worked, false);
	d->shared_tried = d->no_gather = d->lost_told = false;
	if (d->dead)
		wf_log_line(&p->options.log, "%s: does not work again in this process: unmount and mount to use it",
			    d->name);
	return d->dead ? -ENODEV : 0;
}

int placement_ready(struct wf_placement *p, struct place_device *d)
{
	const char *why = "";
	int r = 0;
	pthread_mutex_lock(&p->lock);
	bool good = d->device && !is_lost(d), dead = d->dead;
	pthread_mutex_unlock(&p->lock);
	if (good || dead)
		return good ? 0 : -ENODEV;
	pthread_rwlock_wrlock(&p->gate);
	pthread_mutex_lock(&p->lock);
	if (is_lost(d))
		r = close_lost(p, d);
	if (r == -EBUSY)
		wf_log_line(&p->options.log, "%s: is not started anew before what was on it is leased no more",
			    d->name);
	if (r == 0 && (r = placement_open(p, d, &why)) < 0) {
		wf_log_line(&p->options.log, "%s: %s", d->name, why);
		r = -ENODEV;
	}
	pthread_mutex_unlock(&p->lock);
	pthread_rwlock_unlock(&p->gate);
	return r;
}

void placement_lose(struct wf_placement *p, struct place_device *d)
{
	uint32_t n = 0, leased = 0;
	for (uint32_t i = 0; i < p->place_count; i++) {
		struct storage_place *place = &p->places[i];
		if (place->state != PLACE_READY || place->slab->device != d)
			continue;
		place->state = PLACE_FILE;
		n++;
		leased += place->leases > 0;
	}
	if (d->lost_told)
		return;
	d->lost_told = true;
	const char *why = d->device->ops->why(d->device);
	wf_log_line(&p->options.log, "%s has failed: %s: its %u storages are read from the file from now on", d->name,
		    why ? why : strerror(EIO), n);
	if (leased)
		wf_log_line(&p->options.log,
			    "%s: %u of them are leased: who has mapped them is left with what the driver makes of that",
			    d->name, leased);
}

int placement_share(struct wf_placement *p, struct slab *s)
{
	struct place_device *d = s->device;
	struct dev_info info;
	if (s->share_status <= 0)
		return s->share_status;
	int r = d->device->ops->share(d->device, &s->memory, &s->share);
	if (r == 0 && !d->uuid[0] && (r = d->device->ops->describe(d->device, &info)) == 0)
		snprintf(d->uuid, sizeof d->uuid, "%s", info.uuid);
	if (r == -EIO && is_lost(d))
		placement_lose(p, d);
	if (strcmp(d->sharing, s->share.how) != 0) {
		snprintf(d->sharing, sizeof d->sharing, "%s", s->share.how);
		if (r == -EOPNOTSUPP)
			wf_log_line(&p->options.log,
				    "%s: its memory is not shared, other processes read through the mount: %s", d->name,
				    s->share.how);
		else
			wf_log_line(&p->options.log, "%s: its memory is shared %s", d->name, s->share.how);
	}
	s->share_status = r;
	return r;
}
