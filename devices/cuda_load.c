/* SPDX-License-Identifier: MIT */
/* Files onto the device: file -> window -> device, by several threads, since one thread's memcpy gives about 7 GB/s and the
 * copy engine takes eight times that. A thread takes a window for each piece, so that loads share the ring: one that waits for
 * its file keeps a window a thread, and the others go on. */
#include <pthread.h>
#include <stdatomic.h>

#include "cuda_slots.h"
#include "segments.h"

#define MAX_THREADS 64u

struct load {
	struct cuda_device *device;
	struct cuda_ring *ring;
	const struct dev_memory *memory;
	struct dev_pieces *pieces;
	int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len);
	void *ctx;
	atomic_int status;
};

/* Reads a piece into a window and sends it off. A window of the ring for loads goes back while its copy is under way. */
static int send_piece(struct load *l, const struct dev_piece *piece)
{
	struct cuda_device *d = l->device;
	struct cuda_window *w;
	void *data;
	int r = cuda_ring_take(d, l->ring, &w, 1);
	if (r < 0)
		return r;
	r = dev_piece_read_window(l->pieces, piece, w->host, l->seen, l->ctx, &data);
	if (r == 0)
		r = cuda_status(d, d->cu->copy_in(l->memory->address + piece->memory_offset, data, piece->size_bytes,
						  w->stream));
	if (r == 0 && l->ring->one_stream && (r = cuda_status(d, d->cu->event_record(w->done, w->stream))) == 0) {
		cuda_ring_pass(d, w);
		return 0;
	}
	int last = cuda_status(d, cuda_ring_settle(d, w));
	cuda_ring_give(d, &w, 1);
	return r != 0 ? r : last;
}

static void *load_thread(void *arg)
{
	struct load *l = arg;
	struct dev_piece piece;
	bool sent = false;
	int r = cuda_enter(l->device);
	while (r == 0 && atomic_load(&l->status) == 0 && dev_pieces_next(l->pieces, l->ring->window_bytes, &piece)) {
		r = send_piece(l, &piece);
		sent |= r == 0;
	}
	if (sent && l->ring->one_stream) {
		int last = cuda_status(l->device, cuda_ring_settle(l->device, &l->ring->windows[0]));
		r = r != 0 ? r : last;
	}
	int expected = 0;
	if (r != 0)
		atomic_compare_exchange_strong(&l->status, &expected, r);
	return NULL;
}

/* The caller works as well: it goes on, slower, where no thread can be had. */
static void run_threads(struct load *l, unsigned int want)
{
	pthread_t threads[MAX_THREADS];
	unsigned int started = 0;
	const struct cuda_settings *s = &l->device->settings;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	if (s->numa_node >= 0)
		pthread_attr_setaffinity_np(&attributes, sizeof s->cpus, &s->cpus);
	while (started + 1 < want && pthread_create(&threads[started], &attributes, load_thread, l) == 0)
		started++;
	pthread_attr_destroy(&attributes);
	load_thread(l);
	while (started > 0)
		pthread_join(threads[--started], NULL);
}

int cuda_load(struct device *base, const struct dev_memory *m, const struct dev_segment *segments, size_t n,
	      int (*seen)(void *, size_t, uint64_t, const void *, size_t), void *ctx)
{
	struct cuda_device *d = cuda_self(base);
	struct dev_pieces pieces;
	uint64_t bytes = 0;
	int r = dev_pieces_init(&pieces, segments, n, m->size_bytes, d->settings.direct);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		bytes += segments[i].size_bytes;
	/* a storage that is loaded at its first use is small, and not worth a ring and threads of its own */
	bool small = bytes <= CUDA_COPY_WINDOWS / 2 * (uint64_t)CUDA_COPY_BYTES;
	struct load l = {.device = d,
			 .ring = small ? &d->copies : &d->loads,
			 .memory = m,
			 .pieces = &pieces,
			 .seen = seen,
			 .ctx = ctx};
	uint64_t work = bytes / l.ring->window_bytes + 1, most = d->settings.threads;
	run_threads(&l, (unsigned int)(work < most ? work : most));
	dev_pieces_free(&pieces);
	return atomic_load(&l.status);
}
