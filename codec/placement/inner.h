/* SPDX-License-Identifier: MIT */
/* The inside of struct wf_placement, shared by, lower files first, placement/map.c (what map_location means, and the
 * devices), placement/slab.c (memory), placement/device.c (devices that come and fail), placement/load.c (how bytes get there),
 * placement/find.c (the first use), placement/all.c (everything at once), placement/placement.c (reads, edits, moves, the whole) and
 * placement/lease.c (who asks). Nobody else includes it.
 *
 * Locks, in this order: the checkpoint's; `gate`, shared by who uses a device or its memory, exclusive for who takes memory
 * away or a device anew; `lock`, for the places. Loads of different storages run side by side: each is PLACE_LOADING meanwhile.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "devices/device.h"
#include "codec/placement/placement.h"

#define MAX_DEVICES 64

struct place_device {
	char name[16];
	struct device *device; /* NULL while it was not needed */
	bool target;           /* map_location leads here */
	bool shared_tried;     /* the slab of all its storages was asked for, whatever came of it */
	bool no_gather;        /* has no kernels: strided views are read from the file */
	bool lost_told;        /* that it failed for good is in the log */
	bool again;            /* it was opened anew after that */
	atomic_bool worked;    /* something was loaded since it was opened */
	bool dead;             /* that did not help: it is not tried again */
	uint32_t slabs;        /* allocations on it */
	char uuid[48];         /* from its first lease on */
	char sharing[160];     /* how, or why not; from the first lease on */
};

/* One allocation, and who uses it: places that point to it, and leases. */
struct slab {
	struct place_device *device;
	struct dev_memory memory;
	uint32_t users, leases;
	uint64_t live_bytes; /* while it is counted */
	int share_status;    /* 1: not asked yet; 0: share is what the device said; a negative errno */
	struct dev_share share;
};

enum place_state {
	PLACE_OPEN,    /* nothing decided: its tag says whether the first read places it */
	PLACE_LOADING, /* by some thread; the others wait for `loaded` */
	PLACE_READY,   /* on the slab's device */
	PLACE_FILE,    /* stays in the file: moved there, no room on the device, or the device failed */
	PLACE_BAD,     /* its bytes failed their CRC */
};

struct storage_place {
	uint8_t state;
	uint32_t leases;
	struct slab *slab; /* where its bytes are or, while PLACE_OPEN, will be; NULL: nowhere yet */
	uint64_t offset;
};

/* The storages that somebody outside has mapped, each with the memory that it was in then. */
struct wf_lease {
	uint32_t n;
	bool all; /* of wf_placement_lease_all */
	struct leased {
		uint32_t storage;
		struct slab *slab;
	} of[];
};

/* FROM=TO; from NULL: every tag. */
struct place_rule {
	char *from;
	struct place_device *to;
};

struct wf_placement {
	struct wf_placement_options options;
	struct wf_storages *ss;
	struct place_rule *rules;
	uint32_t rule_count;
	uint32_t relocated;
	struct place_device devices[MAX_DEVICES];
	uint32_t device_count;
	atomic_bool active; /* something is or can be placed: reads look further only then */
	pthread_rwlock_t gate;
	pthread_mutex_t lock;  /* the places, slabs, devices */
	pthread_cond_t loaded; /* a place is PLACE_LOADING no more */
	struct wf_storage_mirror mirror;
	struct storage_place *places; /* [storage] */
	uint32_t place_count;
	atomic_uint lease_count; /* of memory on a device */
	atomic_uint hold_count;  /* of wf_placement_lease_all, whatever they lease */
};

/* placement/slab.c; p->lock is held, but for placement_look and _set_state */
struct storage_place *placement_place(struct wf_placement *p, uint32_t storage); /* NULL: no memory */
struct storage_place placement_look(struct wf_placement *p, uint32_t storage);
void placement_set_state(struct wf_placement *p, uint32_t storage, enum place_state state); /* wakes who waits */
/* Room for every storage that map_location sends to this device and that is nowhere, in one allocation. */
int placement_reserve_all(struct wf_placement *p, struct place_device *d, uint64_t *ret_bytes);
int placement_reserve_own(struct wf_placement *p, struct place_device *d, uint32_t storage, struct slab **ret);
/* A place for this storage, among all of its device or alone. */
int placement_reserve(struct wf_placement *p, struct place_device *d, uint32_t storage);
/* One user less. The gate is held exclusively if this may have been its last user, or the checkpoint's lock is. */
void placement_leave(struct slab *s);
/* Gives memory back that no storage is in any more: of storages that went to the file, and of slabs of which they were a part,
 * by moving the rest together. The gate is held exclusively. */
void placement_compact(struct wf_placement *p);

/* placement/device.c */
/* Opens the device where it is not. After a failure that it does not survive it is closed and opened anew, once nobody
 * leases what was on it. Takes the gate and p->lock. Returns: 0; -EBUSY; -ENODEV with a reason in the log. */
int placement_ready(struct wf_placement *p, struct place_device *d);
/* The device has failed for good: all of its storages are in the file from now on. Tells it once. p->lock is held. */
void placement_lose(struct wf_placement *p, struct place_device *d);
/* What the device says of the slab's share, asked once and logged. The gate is held shared, and p->lock. */
int placement_share(struct wf_placement *p, struct slab *s);

/* placement/map.c */
/* Returns: 0; -EINVAL with a sentence. Devices are named, not opened. */
int placement_parse(struct wf_placement *p, const char *map_location, struct wf_error *err);
/* The device of that name ("cuda" is "cuda:0"), made when missing; NULL when it is no device's name. */
struct place_device *placement_named(struct wf_placement *p, const char *name, size_t len);
int placement_open(struct wf_placement *p, struct place_device *d, const char **ret_why);
/* What an operation of the device that gave r failed of: the driver's own name for it where it was the driver. */
const char *placement_why(const struct place_device *d, int r);
/* The target that a storage's tag names; NULL: none. */
struct place_device *placement_target(const struct wf_placement *p, uint32_t storage);

/* placement/load.c */
struct placement_item {
	uint32_t storage;
	uint64_t offset; /* in the memory */
	bool bad;        /* out: its bytes are not those that the record's CRC is of */
};
/* Fills memory with the bytes of the storages. Returns 0, also where some are `bad`, or what the device or the file
 * gave. */
int placement_load(struct wf_placement *p, struct place_device *d, const struct dev_memory *m,
		   struct placement_item *items, uint32_t n, void (*progress)(void *, uint64_t, uint64_t), void *ctx);

/* placement/find.c */
/* Where the storage is, placing it when its tag says so. */
struct storage_place placement_find(struct wf_placement *p, uint32_t storage);
/* An operation of the device for a storage gave r: it stays in the file, or all of the device's do where that was the end of it. */
void placement_give_up(struct wf_placement *p, struct place_device *d, uint32_t storage, int r, const char *what);

/* placement/all.c */
/* Places all storages of these devices, each device by a thread of its own. Where err is given a failure ends it, else what
 * cannot be placed stays in the file, with a line in the log. */
int placement_load_devices(struct wf_placement *p, bool (*wanted)(const struct place_device *d),
			   void (*progress)(void *, uint64_t, uint64_t), void *ctx, struct wf_error *err);
