/* SPDX-License-Identifier: MIT */
/* Pins the windows of a ring, and lends them to the threads that copy. */
#include "cuda_context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HUGE_BYTES (2ull << 20)
#define MAX_FILLERS 16u
#define WAIT_NSEC 20000

/* ---- memory ---- */

/* The kernel has to zero pages before they are pinned, at 5 GB/s in one thread: several take a part each. */
struct filler {
	pthread_t thread;
	unsigned char *start;
	size_t size;
};

static void *fill(void *arg)
{
	struct filler *f = arg;
	/* not with one madvise(): that keeps who starts the next thread from mapping its stack until it is done */
	for (size_t i = 0; i < f->size; i += 4096)
		((volatile unsigned char *)f->start)[i] = 0;
	return NULL;
}

static void populate(unsigned char *memory, size_t bytes, unsigned int threads)
{
	struct filler fillers[MAX_FILLERS];
	unsigned int n = 0, want = threads < MAX_FILLERS ? threads : MAX_FILLERS;
	size_t part = (bytes / want + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
	for (size_t at = 0; at < bytes && n < MAX_FILLERS; at += part, n++) {
		fillers[n] = (struct filler){.start = memory + at, .size = bytes - at < part ? bytes - at : part};
		if (pthread_create(&fillers[n].thread, NULL, fill, &fillers[n]) != 0) {
			fillers[n].size = bytes - at; /* the caller does the rest */
			fill(&fillers[n]);
			break;
		}
	}
	while (n > 0)
		pthread_join(fillers[--n].thread, NULL);
}

/* MPOL_PREFERRED: on the device's node where that has room. libnuma is not needed for one call. */
static void prefer_node(unsigned char *memory, size_t bytes, int node)
{
	unsigned long mask[16] = {0};
	if (node < 0 || node >= (int)(sizeof mask * 8))
		return;
	mask[node / (8 * sizeof *mask)] = 1ul << (node % (8 * sizeof *mask));
	syscall(SYS_mbind, memory, bytes, 1 /* MPOL_PREFERRED */, mask, sizeof mask * 8, 0);
}

/* On huge pages, which pin at a multiple of the speed, and kept out of forked children: a child's copy-on-write would move
 * our pages away from under the engine. */
static int make_memory(struct cuda_device *d, struct cuda_ring *ring)
{
	size_t stride = ring->window_bytes + CUDA_SLACK_BYTES;
	size_t bytes = (ring->count * stride + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
	unsigned char *p = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	size_t before = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
	if (before)
		munmap(p, before);
	if (HUGE_BYTES - before)
		munmap(p + before + bytes, HUGE_BYTES - before);
	ring->memory = p + before;
	ring->memory_bytes = bytes;
	madvise(ring->memory, bytes, MADV_HUGEPAGE);
	madvise(ring->memory, bytes, MADV_DONTFORK);
	prefer_node(ring->memory, bytes, d->settings.numa_node);
	populate(ring->memory, bytes, d->settings.threads);
	return 0;
}

/* ---- windows ---- */

static void put(struct cuda_ring *ring, struct cuda_window *w, bool in_flight)
{
	struct cuda_window **at = in_flight && ring->free_list ? ring->free_last : &ring->free_list;
	w->in_flight = in_flight;
	w->next = *at;
	*at = w;
	if (!w->next)
		ring->free_last = &w->next;
}

static int make_windows(struct cuda_device *d, struct cuda_ring *ring)
{
	int status = ring->memory ? 0 : make_memory(d, ring);
	if (!ring->windows)
		ring->windows = calloc(ring->count, sizeof *ring->windows);
	if (status < 0 || !ring->windows)
		return -ENOMEM;
	if (!ring->registered) {
		cu_result r = d->cu->host_register(ring->memory, ring->memory_bytes, 0);
		if (r != CU_SUCCESS)
			return cuda_status(d, r);
		ring->registered = true;
	}
	while (ring->made < ring->count) {
		struct cuda_window *w = &ring->windows[ring->made];
		bool own = !ring->one_stream || ring->made == 0;
		w->stream = ring->windows[0].stream;
		cu_result r = own ? d->cu->stream_create(&w->stream, CU_STREAM_NON_BLOCKING) : CU_SUCCESS;
		if (r == CU_SUCCESS && (r = d->cu->event_create(&w->done, CU_EVENT_DISABLE_TIMING)) != CU_SUCCESS &&
		    own)
			d->cu->stream_destroy(w->stream);
		if (r != CU_SUCCESS)
			return cuda_status(d, r);
		w->ring = ring;
		w->host = ring->memory + ring->made * (ring->window_bytes + CUDA_SLACK_BYTES);
		put(ring, w, false);
		ring->made++;
	}
	return 0;
}

/* Asks and sleeps instead of letting the event wake it: each event that wakes somebody is an interrupt, which keeps the engine
 * from its next copy for 1 % of a window's time, and the threads that read from their work. */
cu_result cuda_ring_wait(struct cuda_device *d, const struct cuda_window *w)
{
	const struct timespec pause = {.tv_nsec = WAIT_NSEC};
	cu_result r;
	while ((r = d->cu->event_query(w->done)) == CU_ERROR_NOT_READY)
		nanosleep(&pause, NULL);
	return r;
}

/* Copies may be in flight for ever: nobody waits for windows any more. */
static void lose(struct cuda_device *d)
{
	pthread_mutex_lock(&d->lock);
	atomic_store(&d->lost, true);
	pthread_cond_broadcast(&d->freed);
	pthread_mutex_unlock(&d->lock);
}

cu_result cuda_ring_settle(struct cuda_device *d, struct cuda_window *w)
{
	cu_result r = d->cu->stream_synchronize(w->stream);
	if (r != CU_SUCCESS)
		lose(d);
	return r;
}

static int land(struct cuda_device *d, struct cuda_window *w)
{
	cu_result r = w->in_flight ? cuda_ring_wait(d, w) : CU_SUCCESS;
	w->in_flight = false;
	if (r != CU_SUCCESS)
		lose(d);
	return cuda_status(d, r);
}

int cuda_ring_take(struct cuda_device *d, struct cuda_ring *ring, struct cuda_window **ret, unsigned int want)
{
	pthread_mutex_lock(&d->lock);
	int r = ring->made < ring->count ? make_windows(d, ring) : 0;
	for (;;) {
		unsigned int n = 0;
		for (struct cuda_window *w = ring->free_list; w && n < want; w = w->next)
			n++;
		if (atomic_load(&d->lost))
			r = -EIO;
		if (r < 0 || n == want)
			break;
		pthread_cond_wait(&d->freed, &d->lock);
	}
	for (unsigned int i = 0; r == 0 && i < want; i++) {
		ret[i] = ring->free_list;
		ring->free_list = ret[i]->next;
	}
	pthread_mutex_unlock(&d->lock);
	for (unsigned int i = 0; r == 0 && i < want; i++)
		r = land(d, ret[i]);
	return r;
}

void cuda_ring_give(struct cuda_device *d, struct cuda_window **w, unsigned int n)
{
	pthread_mutex_lock(&d->lock);
	for (unsigned int i = 0; i < n; i++)
		put(w[i]->ring, w[i], false);
	pthread_cond_broadcast(&d->freed);
	pthread_mutex_unlock(&d->lock);
}

void cuda_ring_pass(struct cuda_device *d, struct cuda_window *w)
{
	pthread_mutex_lock(&d->lock);
	put(w->ring, w, true);
	pthread_cond_broadcast(&d->freed);
	pthread_mutex_unlock(&d->lock);
}

void cuda_ring_close(struct cuda_device *d, struct cuda_ring *ring)
{
	for (unsigned int i = 0; i < ring->made; i++) {
		if (!ring->one_stream || i == 0)
			d->cu->stream_destroy(ring->windows[i].stream);
		d->cu->event_destroy(ring->windows[i].done);
		if (ring->windows[i].scratch)
			d->cu->free(ring->windows[i].scratch);
	}
	if (ring->registered)
		d->cu->host_unregister(ring->memory);
}

void cuda_ring_free(struct cuda_ring *ring)
{
	free(ring->windows);
	if (ring->memory)
		munmap(ring->memory, ring->memory_bytes);
}
