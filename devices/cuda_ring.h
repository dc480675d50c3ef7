/* What the files of the CUDA device share: its state, its context, and the pinned rings that every copy goes through.
 *
 * A ring is some windows of page-locked memory, made at its first use and kept. Pinning fresh memory runs at some 5 GB/s and
 * the copy engine at some 55, so pinning what is copied once would cost ten times the copy; and a copy from pageable memory
 * runs at a sixth of the engine's speed. Each window has a stream of its own. There are two rings, so that reads through a
 * mount do not wait for a load: one of a few windows for copies, a larger one for loads.
 *
 * cuda.c has the slots, cuda_memory.c allocations and shares, cuda_ring.c the windows, cuda_load.c what reads files into them.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cuda_driver.h"
#include "cuda_settings.h"
#include "descriptors.h"
#include "device.h"

#define CUDA_COPY_BYTES (4u << 20) /* of a window for copies */
#define CUDA_COPY_WINDOWS 8u
#define CUDA_SLACK_BYTES 8192u /* behind a window: direct reads begin and end at whole blocks (segments.h) */

struct cuda_ring;

struct cuda_window {
	struct cuda_ring *ring;
	unsigned char *host; /* pinned, at a multiple of 4096 */
	cu_stream stream;
	cu_deviceptr scratch;     /* CUDA_COPY_BYTES on the device, from the first gather on */
	cu_event done;            /* recorded after the last copy from or to host */
	struct cuda_window *next; /* in the free list */
};

struct cuda_ring {
	unsigned int count;    /* windows wanted */
	uint64_t window_bytes; /* of each, without the slack */
	unsigned char *memory;
	size_t memory_bytes;
	bool registered;
	unsigned int made;
	struct cuda_window *windows; /* [count] */
	struct cuda_window *free_list;
};

struct cuda_block;

struct cuda_device {
	struct device base;
	const struct dev_cuda_driver *cu;
	int ordinal;
	cu_device device;
	struct cuda_settings settings;
	pthread_mutex_t lock; /* all below; and the free lists with `freed` */
	pthread_cond_t freed;
	cu_context context;
	struct cuda_ring copies, loads;
	struct cuda_block *blocks;
	char no_vmm[96]; /* why memory is not made by steps; "": it is */
	struct dev_descriptors *descriptors; /* from the first share of such memory on */
	atomic_bool lost;   /* a failure that the context does not survive: copies may still be in flight in the rings */
	atomic_int failure; /* the driver's result that why() will tell; CU_SUCCESS: none */
	cu_module module;
	cu_function gather;
	int gather_status; /* 0 not tried, 1 there, negative errno */
};

static inline struct cuda_device *cuda_self(struct device *d)
{
	return (struct cuda_device *)d;
}

/* 0, -ENOMEM or -EIO; a failure is kept for why(). */
int cuda_status(struct cuda_device *d, cu_result r);
/* Whether a result means that the context is of no use any more, whatever is called. */
bool cuda_is_fatal(cu_result r);

/* Makes the context current for this thread, and the context itself at the first call. Returns: 0; -ENOMEM; -EIO. */
int cuda_enter(struct cuda_device *d);
/* The same for giving things back, also on a device that is lost: memory that was made by steps is not the context's. */
int cuda_enter_lost(struct cuda_device *d);

/* Takes `want` windows, waiting until that many are free at once: a caller never waits while it holds some. The context
 * is current. Returns: 0; -ENOMEM; -EIO. */
int cuda_ring_take(struct cuda_device *d, struct cuda_ring *ring, struct cuda_window **ret, unsigned int want);
void cuda_ring_give(struct cuda_device *d, struct cuda_window **w, unsigned int n);
/* Waits for everything on a window's stream; after a failure no window is handed out again. */
cu_result cuda_ring_settle(struct cuda_device *d, struct cuda_window *w);
/* Gives back what the driver has of the ring; the context is current. And its memory, when the context is gone: while it
 * lives, the engine may still write there. */
void cuda_ring_close(struct cuda_device *d, struct cuda_ring *ring);
void cuda_ring_free(struct cuda_ring *ring);

/* The slots of device.h. */
int cuda_alloc(struct device *base, uint64_t size_bytes, struct dev_memory *ret);
void cuda_free(struct device *base, struct dev_memory *m);
int cuda_share(struct device *base, const struct dev_memory *m, struct dev_share *ret);
bool cuda_lost(struct device *base);
int cuda_load(struct device *base, const struct dev_memory *m, const struct dev_segment *segments, size_t n,
	      int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len), void *ctx);

void cuda_memory_close(struct cuda_device *d);
