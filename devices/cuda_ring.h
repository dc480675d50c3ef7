/* What the files of the CUDA device share: its state, its context, and the pinned ring that every copy goes through.
 *
 * The ring is CUDA_WINDOWS pieces of CUDA_WINDOW_BYTES, page-locked once at the first copy and kept. Pinning runs at
 * some 1.7 GB/s and the copy engine at some 50, so pinning what is copied once would cost thirty times the copy; and a
 * copy from pageable memory runs at a fifth of the engine's speed. Each window has a stream of its own.
 *
 * cuda.c has the slots, cuda_ring.c the windows, cuda_load.c what reads files into them.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cuda_driver.h"
#include "device.h"

#define CUDA_WINDOW_BYTES (4u << 20)
#define CUDA_WINDOWS 32u /* 128 MiB pinned */

struct cuda_window {
	unsigned char *host; /* pinned */
	cu_stream stream;
	cu_deviceptr scratch;     /* CUDA_WINDOW_BYTES on the device, from the first gather on */
	cu_event done;            /* recorded after the last copy from or to host */
	struct cuda_window *next; /* in the free list */
};

struct cuda_device {
	struct device base;
	const struct dev_cuda_driver *cu;
	int ordinal;
	cu_device device;
	pthread_mutex_t lock; /* context, ring, kernels; and the free list with `freed` */
	pthread_cond_t freed;
	cu_context context;
	unsigned char *ring;
	bool ring_registered;
	unsigned int windows_made;
	struct cuda_window windows[CUDA_WINDOWS];
	struct cuda_window *free_list;
	bool broken; /* a wait failed: copies may still be in flight in the ring, so no window is handed out again */
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

/* Makes the context current for this thread, and the context itself at the first call. Returns: 0; -ENOMEM; -EIO. */
int cuda_enter(struct cuda_device *d);

/* Takes `want` windows, waiting until that many are free at once: a caller never waits while it holds some. The context
 * is current. Returns: 0; -ENOMEM; -EIO. */
int cuda_ring_take(struct cuda_device *d, struct cuda_window **ret, unsigned int want);
void cuda_ring_give(struct cuda_device *d, struct cuda_window **w, unsigned int n);
/* Waits for everything on a window's stream; after a failure no window is handed out again. */
cu_result cuda_ring_settle(struct cuda_device *d, struct cuda_window *w);
/* Ends the ring; the context is current. */
void cuda_ring_close(struct cuda_device *d);

/* The slot of device.h. */
int cuda_load(struct device *base, const struct dev_memory *m, const struct dev_segment *segments, size_t n,
	      int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len), void *ctx);
