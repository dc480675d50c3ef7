/* Files onto the device: file -> window -> device, several windows at a time in each of several threads, since one
 * thread's memcpy gives about 5 GB/s and the copy engine takes ten times that. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "cuda_ring.h"
#include "segments.h"

#define WINDOWS_A_THREAD 3u
#define LOAD_THREADS 10u

struct load {
	struct cuda_device *device;
	const struct dev_memory *memory;
	struct dev_pieces *pieces;
	int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len);
	void *ctx;
	atomic_int status;
};

/* Fills one window with the next piece of the work and sends it off. Returns 1 when it did, 0 when no work is left. */
static int load_piece(struct load *l, struct cuda_window *w)
{
	struct cuda_device *d = l->device;
	struct dev_piece piece;
	if (atomic_load(&l->status) < 0 || !dev_pieces_next(l->pieces, CUDA_WINDOW_BYTES, &piece))
		return 0;
	int r = dev_piece_read(l->pieces, &piece, w->host, l->seen, l->ctx);
	if (r == 0)
		r = cuda_status(d, d->cu->copy_in(l->memory->address + piece.memory_offset, w->host, piece.size_bytes,
						  w->stream));
	if (r == 0)
		r = cuda_status(d, d->cu->event_record(w->done, w->stream));
	return r < 0 ? r : 1;
}

static void *load_thread(void *arg)
{
	struct load *l = arg;
	struct cuda_device *d = l->device;
	struct cuda_window *w[WINDOWS_A_THREAD];
	int r = cuda_enter(d);
	if (r == 0)
		r = cuda_ring_take(d, w, WINDOWS_A_THREAD);
	if (r == 0) {
		for (size_t i = 0; r >= 0; i++) {
			struct cuda_window *x = w[i % WINDOWS_A_THREAD];
			if (i >= WINDOWS_A_THREAD && (r = cuda_status(d, d->cu->event_synchronize(x->done))) < 0)
				break;
			r = load_piece(l, x);
			if (r == 0)
				break;
		}
		for (size_t i = 0; i < WINDOWS_A_THREAD; i++) {
			int last = cuda_status(d, cuda_ring_settle(d, w[i]));
			r = r < 0 ? r : last;
		}
		cuda_ring_give(d, w, WINDOWS_A_THREAD);
	}
	int expected = 0;
	if (r < 0)
		atomic_compare_exchange_strong(&l->status, &expected, r);
	return NULL;
}

/* Not more than there are cores, nor than there is work for: a storage that is loaded at its first use may be small. */
static unsigned int threads_for(const struct dev_segment *segments, size_t n)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t bytes = 0, want = cores < 1 ? 1 : cores < LOAD_THREADS ? (uint64_t)cores : LOAD_THREADS;
	for (size_t i = 0; i < n; i++)
		bytes += segments[i].size_bytes;
	uint64_t pieces = bytes / CUDA_WINDOW_BYTES + 1;
	return (unsigned int)(pieces < want ? pieces : want);
}

int cuda_load(struct device *base, const struct dev_memory *m, const struct dev_segment *segments, size_t n,
	      int (*seen)(void *, size_t, uint64_t, const void *, size_t), void *ctx)
{
	struct cuda_device *d = cuda_self(base);
	struct dev_pieces pieces;
	int r = dev_pieces_init(&pieces, segments, n, m->size_bytes);
	if (r < 0)
		return r;
	struct load l = {.device = d, .memory = m, .pieces = &pieces, .seen = seen, .ctx = ctx};
	unsigned int want = threads_for(segments, n), started = 0;
	pthread_t threads[LOAD_THREADS];
	while (started < want - 1 && pthread_create(&threads[started], NULL, load_thread, &l) == 0)
		started++;
	load_thread(&l); /* the caller works as well: it goes on, slower, where no thread can be had */
	while (started > 0)
		pthread_join(threads[--started], NULL);
	dev_pieces_free(&pieces);
	return atomic_load(&l.status);
}
