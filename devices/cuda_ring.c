#include "cuda_ring.h"

#include <errno.h>
#include <stdlib.h>

static int make_windows(struct cuda_device *d)
{
	if (!d->ring) {
		d->ring = aligned_alloc(4096, (size_t)CUDA_WINDOWS * CUDA_WINDOW_BYTES);
		if (!d->ring)
			return -ENOMEM;
	}
	if (!d->ring_registered) {
		cu_result r = d->cu->host_register(d->ring, (size_t)CUDA_WINDOWS * CUDA_WINDOW_BYTES, 0);
		if (r != CU_SUCCESS)
			return cuda_status(d, r);
		d->ring_registered = true;
	}
	while (d->windows_made < CUDA_WINDOWS) {
		struct cuda_window *w = &d->windows[d->windows_made];
		cu_result r = d->cu->stream_create(&w->stream, CU_STREAM_NON_BLOCKING);
		if (r == CU_SUCCESS && (r = d->cu->event_create(&w->done, CU_EVENT_DISABLE_TIMING)) != CU_SUCCESS)
			d->cu->stream_destroy(w->stream);
		if (r != CU_SUCCESS)
			return cuda_status(d, r);
		w->host = d->ring + (size_t)d->windows_made * CUDA_WINDOW_BYTES;
		w->next = d->free_list;
		d->free_list = w;
		d->windows_made++;
	}
	return 0;
}

cu_result cuda_ring_settle(struct cuda_device *d, struct cuda_window *w)
{
	cu_result r = d->cu->stream_synchronize(w->stream);
	if (r != CU_SUCCESS) {
		pthread_mutex_lock(&d->lock);
		d->broken = true;
		pthread_cond_broadcast(&d->freed);
		pthread_mutex_unlock(&d->lock);
	}
	return r;
}

int cuda_ring_take(struct cuda_device *d, struct cuda_window **ret, unsigned int want)
{
	pthread_mutex_lock(&d->lock);
	int r = d->windows_made < CUDA_WINDOWS ? make_windows(d) : 0;
	for (;;) {
		unsigned int n = 0;
		for (struct cuda_window *w = d->free_list; w && n < want; w = w->next)
			n++;
		if (d->broken)
			r = -EIO;
		if (r < 0 || n == want)
			break;
		pthread_cond_wait(&d->freed, &d->lock);
	}
	for (unsigned int i = 0; r == 0 && i < want; i++) {
		ret[i] = d->free_list;
		d->free_list = ret[i]->next;
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

void cuda_ring_give(struct cuda_device *d, struct cuda_window **w, unsigned int n)
{
	pthread_mutex_lock(&d->lock);
	for (unsigned int i = 0; i < n; i++) {
		w[i]->next = d->free_list;
		d->free_list = w[i];
	}
	pthread_cond_broadcast(&d->freed);
	pthread_mutex_unlock(&d->lock);
}

void cuda_ring_close(struct cuda_device *d)
{
	for (unsigned int i = 0; i < d->windows_made; i++) {
		/* after a failed wait something may still be under way: the stream drains first */
		d->cu->stream_destroy(d->windows[i].stream);
		d->cu->event_destroy(d->windows[i].done);
		if (d->windows[i].scratch)
			d->cu->free(d->windows[i].scratch);
	}
	if (d->ring_registered)
		d->cu->host_unregister(d->ring);
}
