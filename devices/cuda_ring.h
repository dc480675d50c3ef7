/* SPDX-License-Identifier: MIT */
/* The pinned rings that every copy goes through.
 *
 * A ring is some windows of page-locked memory, made at its first use and kept. Pinning fresh memory runs at some 5 GB/s and
 * the copy engine at some 55, so pinning what is copied once would cost ten times the copy; and a copy from pageable memory
 * runs at a sixth of the engine's speed. There are two rings, so that reads through a mount do not wait for a load: one of a
 * few windows for copies, each with a stream of its own, and a larger one for loads, whose windows have one stream together:
 * there is one engine for this direction, and on an H200 it takes 3 % longer for the same bytes when they come by eight.
 *
 * Any thread may call these; the device's lock protects the free lists.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda_driver.h"

#define CUDA_COPY_BYTES (4u << 20) /* of a window for copies */
#define CUDA_COPY_WINDOWS 8u
#define CUDA_SLACK_BYTES 8192u /* behind a window: direct reads begin and end at whole blocks (segments.h) */

struct cuda_device;
struct cuda_ring;

struct cuda_window {
	struct cuda_ring *ring;
	unsigned char *host;      /* pinned, at a multiple of 4096 */
	cu_stream stream;         /* its own, or that of all windows of the ring */
	cu_deviceptr scratch;     /* CUDA_COPY_BYTES on the device, from the first gather on */
	cu_event done;            /* recorded after the last copy from or to host */
	bool in_flight;           /* that copy may not have ended: who takes the window waits for it */
	struct cuda_window *next; /* in the free list */
};

struct cuda_ring {
	unsigned int count;    /* windows wanted */
	uint64_t window_bytes; /* of each, without the slack */
	bool one_stream;
	unsigned char *memory;
	size_t memory_bytes;
	bool registered;
	unsigned int made;
	struct cuda_window *windows;                /* [count] */
	struct cuda_window *free_list, **free_last; /* idle ones first, then those in flight, the oldest before */
};

/* Takes `want` windows, waiting until that many are free at once: a caller never waits while it holds some. The context
 * is current. Returns: 0; -ENOMEM; -EIO. */
int cuda_ring_take(struct cuda_device *d, struct cuda_ring *ring, struct cuda_window **ret, unsigned int want);
void cuda_ring_give(struct cuda_device *d, struct cuda_window **w, unsigned int n);
/* Gives a window back whose last copy is under way, its end recorded in w->done: several loads share a ring, and a thread has a
 * window only while it fills it. */
void cuda_ring_pass(struct cuda_device *d, struct cuda_window *w);
/* Waits for the last copy whose end was recorded in w->done. Returns the result of that copy. */
cu_result cuda_ring_wait(struct cuda_device *d, const struct cuda_window *w);
/* Waits for everything on a window's stream; after a failure no window is handed out again. */
cu_result cuda_ring_settle(struct cuda_device *d, struct cuda_window *w);
/* Gives back what the driver has of the ring; the context is current. And its memory, when the context is gone: while it
 * lives, the engine may still write there. */
void cuda_ring_close(struct cuda_device *d, struct cuda_ring *ring);
void cuda_ring_free(struct cuda_ring *ring);
