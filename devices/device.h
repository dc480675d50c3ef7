/* SPDX-License-Identifier: MIT */
/* Where the bytes of a storage can live: one small interface, libc types only.
 *
 * A device is a table of operations and its private state. Memory on it is a handle, never a pointer to follow: what a
 * handle's address means is the device's own business, and nobody asks which device it is. Each slot lists its return
 * values; every device has every slot.
 *
 * Units: bytes unless a name says _elems. Threads: every slot may be called from any thread; calls on different ranges
 * run side by side. After a fork a device must not be touched by the child.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dev_memory {
	uint64_t address; /* the device's own; 0 when there is none */
	uint64_t size_bytes;
};

struct dev_info {
	char name[64];         /* "cpu", "cuda:0" */
	char description[128]; /* for people */
	char uuid[48];         /* "GPU-xxxxxxxx-..." as the vendor's tools print it; "" for the host */
	uint64_t total_bytes, free_bytes;
	char loading[160]; /* how load() works: threads, windows, what the environment asked for in vain; for people */
};

/* One piece of a file that goes to one place of the memory. */
struct dev_segment {
	int fd;
	uint64_t file_offset;
	uint64_t memory_offset;
	uint64_t size_bytes;
};

/* A strided view whose elements are wanted in row-major order. */
#define DEV_MAX_NDIM 64
struct dev_view {
	uint64_t offset_bytes;  /* of the first element in the memory */
	uint32_t element_bytes; /* 1, 2, 4, 8 or 16 */
	uint32_t ndim;
	uint64_t shape[DEV_MAX_NDIM];
	uint64_t stride_elems[DEV_MAX_NDIM];
};

/* What another process needs to map the memory: a handle that the vendor's driver opens, or, where there is a socket, one
 * for which who listens there hands out a descriptor (descriptors.h). */
struct dev_share {
	unsigned char handle[64];
	uint64_t offset_bytes; /* of the memory inside what the handle opens */
	char socket[108];      /* its path; "": none */
	char how[160];         /* the way, and why no better one; for people */
};

struct device;

struct dev_ops {
	/* Fills *ret. Returns: 0; -EIO the device does not answer. */
	int (*describe)(struct device *d, struct dev_info *ret);

	/* Memory aligned to at least 512 bytes, content undefined. It shares no page with other memory, so that sharing it
	 * shows nothing else. Returns: 0; -ENOMEM; -EIO. */
	int (*alloc)(struct device *d, uint64_t size_bytes, struct dev_memory *ret);

	/* Gives it back and zeroes the handle; every call that uses it has ended. Accepts a zeroed handle. */
	void (*free)(struct device *d, struct dev_memory *m);

	/* Host -> device, complete on return. Returns: 0; -ERANGE outside the memory; -EIO. */
	int (*copy_in)(struct device *d, const struct dev_memory *m, uint64_t offset, const void *src, size_t len);

	/* Device -> host, complete on return. Returns: 0; -ERANGE; -EIO. */
	int (*copy_out)(struct device *d, const struct dev_memory *m, uint64_t offset, void *dst, size_t len);

	/* From one memory of the device to another, complete on return. The ranges are of different memories.
	 * Returns: 0; -ERANGE; -EIO. */
	int (*copy)(struct device *d, const struct dev_memory *to, uint64_t to_offset, const struct dev_memory *from,
		    uint64_t from_offset, uint64_t len);

	/* Copies elements [first_elem, first_elem + n_elems) of the view, in row-major order, to dst. The caller has
	 * proven that the view lies in the memory; it is checked again. Returns: 0; -ERANGE; -EIO; -EOPNOTSUPP when the
	 * device has no kernels, or no room for what they make (the caller then finds the elements another way; why() says
	 * why where it was not the build that left them out). */
	int (*gather)(struct device *d, const struct dev_memory *m, const struct dev_view *v, uint64_t first_elem,
		      uint64_t n_elems, void *dst);

	/* Reads the segments from their files into the memory with several threads. seen(), which may be NULL, is given
	 * every piece of bytes on its way, from those threads, in any order (check sums, progress); when it returns
	 * non-zero the loading ends with that. Complete on return. Returns: 0; -ERANGE; -EIO; -EUCLEAN a file ended
	 * early; the error of pread; what seen() returned. */
	int (*load)(struct device *d, const struct dev_memory *m, const struct dev_segment *segments, size_t n,
		    int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len), void *ctx);

	/* Makes the memory known to other processes while it lives; the same answer each time, made once. Returns: 0;
	 * -EOPNOTSUPP; -EIO. */
	int (*share)(struct device *d, const struct dev_memory *m, struct dev_share *ret);

	/* What the last failure was in the words of whoever is behind the device ("CUDA_ERROR_OUT_OF_MEMORY"), once: valid for
	 * ever, and NULL when there was none since it was last asked. */
	const char *(*why)(struct device *d);

	/* Whether a failure has ended the device for this process: nothing on it can be reached any more, and it never
	 * recovers. Closed and opened again it may work. */
	bool (*lost)(struct device *d);

	/* Ends the device; all its memory has been freed. */
	void (*close)(struct device *d);
};

struct device {
	const struct dev_ops *ops;
	/* the device's own state follows in its private struct */
};

/* Host memory: the reference implementation, always there. */
int dev_host_open(struct device **ret);

/* CUDA device number `ordinal`. Loads the driver at the first call; makes no context before the first alloc. On failure
 * *ret_why is one line for people, valid for ever. Returns: 0; -ENODEV no driver, no GPU, or no such device; -ENOMEM.
 */
int dev_cuda_open(int ordinal, struct device **ret, const char **ret_why);
