/* Where the bytes of a storage can live: one small interface, libc types only.
 *
 * A device is a table of operations and its private state. Memory on it is a handle, never a pointer to follow: what
 * a handle's address means is the device's own business. Each slot lists its return values; every slot exists.
 * Units: bytes. Threads: every slot may be called from any thread; calls on different ranges run side by side.
 */
#pragma once

#include <stdint.h>
#include <stddef.h>

struct dev_memory {
	uint64_t address;   /* device address; meaningful to the device only */
	uint64_t size_bytes;
};

struct dev_info {
	char name[64];         /* "cpu", "cuda:0" */
	char description[128]; /* for people */
	uint64_t total_bytes, free_bytes;
};

struct device;

struct dev_ops {
	/* Fills *ret. Returns: 0, -EIO when the device does not answer. */
	int (*describe)(struct device *d, struct dev_info *ret);
	/* Memory aligned to at least 512 bytes, content undefined. Returns: 0, -ENOMEM, -EIO. */
	int (*alloc)(struct device *d, uint64_t size_bytes, struct dev_memory *ret);
	/* Gives it back; every copy into or out of it has ended. Accepts a zeroed handle. */
	void (*free)(struct device *d, struct dev_memory *m);
	/* Host -> device, complete on return. Returns: 0, -ERANGE outside the memory, -EIO. */
	int (*copy_in)(struct device *d, const struct dev_memory *m, uint64_t offset, const void *src, size_t len);
	/* Device -> host, complete on return. Returns: 0, -ERANGE, -EIO. */
	int (*copy_out)(struct device *d, const struct dev_memory *m, uint64_t offset, void *dst, size_t len);
	/* Ends the device; all its memory has been freed. */
	void (*close)(struct device *d);
};

struct device {
	const struct dev_ops *ops;
	/* the device's own state follows in its private struct */
};

/* Host memory: the reference implementation, always there. */
int dev_host_open(struct device **ret);
