/* SPDX-License-Identifier: MIT */
/* Storages on a device, as torch.load's map_location places them.
 *
 * The file with its overlay stays the truth: what is placed is a copy that every write reaches as well, so that a device
 * that fails costs speed and never bytes. A storage is placed when its tensor is first read (or all of them at once by
 * wf_placement_preload), and only where its location tag names a device that map_location leads to; the others stay in
 * the file. All storages of a device share one allocation (a slab), in the order of the table, each aligned to
 * WF_PLACE_ALIGN; where there is no room for that, and for a storage that was made or moved later, it has one of its own.
 *
 * map_location, as in torch: "cpu", "cuda" (which is "cuda:0") or "cuda:N" for every storage; or FROM=TO joined by ';',
 * which changes the named tags and leaves the others. The tags of the graph are changed at once, in memory.
 *
 * A device that fails for good (a poisoned context) costs a line in the log: all its storages are read from the file, and the
 * next one to be placed finds it started anew, once nobody leases what was on it, if the driver can do that in one process.
 *
 * Threads: wf_placement_read, _device, _devices, _bytes, _lease, _lease_all, _leased and _release from any, beside each other, with
 * the checkpoint's lock held shared (_release without any); the rest with it held exclusively.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/err.h"
#include "codec/bytes/log.h"
#include "codec/tensor/storage.h"
#include "codec/tensor/tensor.h"

#define WF_PLACE_ALIGN 512u

struct device;
struct dev_share;
struct wf_lease;
struct wf_placement;

struct wf_placement_options {
	const char *map_location; /* NULL: nothing is placed but what wf_placement_move is asked for */
	bool verify;              /* hold what is loaded against the CRC of its record */
	/* Opens "cpu" or "cuda:N". Returns 0, or a negative errno with a reason that is valid for ever. */
	int (*open_device)(void *ctx, const char *name, struct device **ret, const char **ret_why);
	void *device_ctx;
	struct wf_log log;
};

/* Reads map_location, opens the devices it leads to, and changes the tags of ss. The storages are borrowed until
 * wf_placement_free. Returns: 0; -EINVAL map_location cannot be read; -ENODEV no such device; -ENOMEM. */
int wf_placement_new(const struct wf_placement_options *options, struct wf_storages *ss, struct wf_placement **ret,
		     struct wf_error *err);
/* Gives the devices' memory back. Every lease has been released. */
void wf_placement_free(struct wf_placement *p);

/* For storages that take the place of those given before, their tags already mapped by wf_placement_map: everything is
 * given up, and the new ones are placed when they are read. -EBUSY while something is leased. */
bool wf_placement_is_leased(struct wf_placement *p);
int wf_placement_map(struct wf_placement *p, struct wf_storages *ss); /* 0 or -ENOMEM */
void wf_placement_start_over(struct wf_placement *p, struct wf_storages *ss);

/* How many storages have another location by map_location than the checkpoint's file says. */
uint32_t wf_placement_relocated(struct wf_placement *p);

/* Places every storage that has a device. progress() may be NULL and is called from several threads.
 * Returns: 0; -ENOMEM; -EUCLEAN a record fails its CRC or the file ended early; -EIO; nothing is placed then. */
int wf_placement_preload(struct wf_placement *p, void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes),
			 void *ctx, struct wf_error *err);

/* Whether reads of the storage are to go through wf_placement_read: it is placed, or will be by its first read. */
bool wf_placement_has(struct wf_placement *p, uint32_t storage);
/* Bytes [offset, offset + len) of the tensor's file, from the device, placing the storage where it is not yet.
 * Returns: 1; 0 they are to be read from the file; -EUCLEAN the storage failed its CRC. */
int wf_placement_read(struct wf_placement *p, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len);

/* "cpu", "cuda:0", or NULL while the bytes are in the file alone. */
const char *wf_placement_device(struct wf_placement *p, uint32_t storage);
/* Moves a storage: "file", "cpu", "cuda" or "cuda:N". Returns: 0; -EINVAL no such name; -EBUSY it is leased; -ENODEV;
 * -ENOMEM; -EIO; it is where it was then. */
int wf_placement_move(struct wf_placement *p, uint32_t storage, const char *to);
/* Whether any storage is on a device, or will be when it is used. NULL has none. */
bool wf_placement_has_devices(struct wf_placement *p);
/* What the devices in use say of themselves. */
struct wf_device_status {
	const char *name, *description;
	const char *loading, *sharing; /* in words; "": not yet known */
	uint64_t free_bytes, total_bytes;
};
void wf_placement_devices(struct wf_placement *p, void (*each)(void *ctx, const struct wf_device_status *status),
			  void *ctx);
/* Calls each() for the file and every device in use with the bytes of the storages there. */
void wf_placement_bytes(struct wf_placement *p, void (*each)(void *ctx, const char *name, uint64_t bytes), void *ctx);

/* ---- sharing with other processes ---- */
/* Whether a lease can be had: the storage is, or will be, on a device that shares. */
bool wf_placement_shares(struct wf_placement *p, uint32_t storage);
/* Places the storage and keeps it there until the lease is released. Returns: 0; -EOPNOTSUPP; -ENOMEM there is no room on the
 * device; -EUCLEAN; -EIO. */
int wf_placement_lease(struct wf_placement *p, uint32_t storage, struct wf_lease **ret);
/* The same for every storage that is, or is to be, on a device that shares; what cannot be placed stays in the file. A
 * lease of nothing is one as well: who has it knows where bytes stand in the file. Returns 0 or -ENOMEM. */
int wf_placement_lease_all(struct wf_placement *p, struct wf_lease **ret);
bool wf_placement_is_held(struct wf_placement *p); /* whether any of those is left */
void wf_placement_release(struct wf_placement *p, struct wf_lease *lease);

/* How another process maps a storage. Valid while it is leased. */
struct wf_shared {
	const char *device, *uuid;
	const struct dev_share *share;
	uint64_t start; /* where the storage starts in what the handle opens */
};
/* false when the storage is not leased. */
bool wf_placement_leased(struct wf_placement *p, uint32_t storage, struct wf_shared *ret);
