/* CUDA memory through the driver API.
 *
 * One pinned ring for each device serves every copy: WINDOWS pieces of WINDOW_BYTES, page-locked once at the first copy
 * and kept. Pinning runs at some 1.7 GB/s and the copy engine at some 50, so pinning what is copied once would cost
 * thirty times the copy; and a copy from pageable memory runs at a fifth of the engine's speed. Bytes go file -> window
 * -> device, several windows at a time, since one thread's memcpy gives about 5 GB/s.
 *
 * The context is the device's primary one, taken at the first alloc and given back at close; it costs hundreds of MB on
 * the GPU, so describe() does without it when it can. Every entry makes it current for its thread: the driver keeps
 * that per thread, and our callers' threads come and go.
 */
#include "device.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cuda_driver.h"
#include "cuda_kernels.h"
#include "gather_kernel.h"
#include "segments.h"
#include "view.h"

#define WINDOW_BYTES (4u << 20)
#define WINDOWS 32u /* 128 MiB pinned */
#define WINDOWS_A_THREAD 3u
#define LOAD_THREADS 10u

struct window {
	unsigned char *host; /* pinned */
	cu_stream stream;
	cu_event done;       /* recorded after the last copy from or to host */
	struct window *next; /* in the free list */
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
	struct window windows[WINDOWS];
	struct window *free_list;
	bool broken; /* a wait failed: copies may still be in flight in the ring, so no window is handed out again */
	cu_module module;
	cu_function gather;
	int gather_status; /* 0 not tried, 1 there, negative errno */
};

static struct cuda_device *self(struct device *d)
{
	return (struct cuda_device *)d;
}

static int status_of(cu_result r)
{
	return r == CU_SUCCESS ? 0 : r == CU_ERROR_OUT_OF_MEMORY ? -ENOMEM : -EIO;
}

/* ---- context and ring ---- */

/* Makes the context current for this thread, and the context itself at the first call. */
static int enter(struct cuda_device *d)
{
	cu_result r = CU_SUCCESS;
	pthread_mutex_lock(&d->lock);
	if (!d->context)
		r = d->cu->context_retain(&d->context, d->device);
	cu_context context = d->context;
	pthread_mutex_unlock(&d->lock);
	if (r == CU_SUCCESS)
		r = d->cu->context_set(context);
	return status_of(r);
}

static int make_windows(struct cuda_device *d)
{
	if (!d->ring) {
		d->ring = aligned_alloc(4096, (size_t)WINDOWS * WINDOW_BYTES);
		if (!d->ring)
			return -ENOMEM;
	}
	if (!d->ring_registered) {
		cu_result r = d->cu->host_register(d->ring, (size_t)WINDOWS * WINDOW_BYTES, 0);
		if (r != CU_SUCCESS)
			return status_of(r);
		d->ring_registered = true;
	}
	while (d->windows_made < WINDOWS) {
		struct window *w = &d->windows[d->windows_made];
		cu_result r = d->cu->stream_create(&w->stream, CU_STREAM_NON_BLOCKING);
		if (r == CU_SUCCESS && (r = d->cu->event_create(&w->done, CU_EVENT_DISABLE_TIMING)) != CU_SUCCESS)
			d->cu->stream_destroy(w->stream);
		if (r != CU_SUCCESS)
			return status_of(r);
		w->host = d->ring + (size_t)d->windows_made * WINDOW_BYTES;
		w->next = d->free_list;
		d->free_list = w;
		d->windows_made++;
	}
	return 0;
}

/* Waits for everything on a window's stream. */
static cu_result settle(struct cuda_device *d, struct window *w)
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

/* Takes `want` windows, waiting until that many are free at once: a caller never waits while it holds some. */
static int take_windows(struct cuda_device *d, struct window **ret, unsigned int want)
{
	pthread_mutex_lock(&d->lock);
	int r = d->windows_made < WINDOWS ? make_windows(d) : 0;
	for (;;) {
		unsigned int n = 0;
		for (struct window *w = d->free_list; w && n < want; w = w->next)
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

static void give_windows(struct cuda_device *d, struct window **w, unsigned int n)
{
	pthread_mutex_lock(&d->lock);
	for (unsigned int i = 0; i < n; i++) {
		w[i]->next = d->free_list;
		d->free_list = w[i];
	}
	pthread_cond_broadcast(&d->freed);
	pthread_mutex_unlock(&d->lock);
}

/* ---- the slots ---- */

static int cuda_describe(struct device *base, struct dev_info *ret)
{
	struct cuda_device *d = self(base);
	struct dev_info info = {0};
	struct cu_uuid uuid;
	size_t free_bytes, total_bytes;
	int r = enter(d);
	if (r < 0)
		return r;
	if (d->cu->device_name(info.description, sizeof info.description, d->device) != CU_SUCCESS ||
	    d->cu->device_uuid(&uuid, d->device) != CU_SUCCESS ||
	    d->cu->memory_info(&free_bytes, &total_bytes) != CU_SUCCESS)
		return -EIO;
	snprintf(info.name, sizeof info.name, "cuda:%d", d->ordinal);
	const unsigned char *u = (const unsigned char *)uuid.bytes;
	snprintf(info.uuid, sizeof info.uuid,
		 "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
		 u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	info.free_bytes = free_bytes;
	info.total_bytes = total_bytes;
	*ret = info;
	return 0;
}

static int cuda_alloc(struct device *base, uint64_t size_bytes, struct dev_memory *ret)
{
	struct cuda_device *d = self(base);
	cu_deviceptr p;
	int r = enter(d);
	if (r < 0)
		return r;
	/* at least one byte: the driver refuses empty allocations, and an empty storage needs an address as well */
	r = status_of(d->cu->alloc(&p, size_bytes ? size_bytes : 1));
	if (r < 0)
		return r;
	*ret = (struct dev_memory){.address = p, .size_bytes = size_bytes};
	return 0;
}

static void cuda_free(struct device *base, struct dev_memory *m)
{
	struct cuda_device *d = self(base);
	if (m->address && enter(d) == 0)
		d->cu->free(m->address);
	*m = (struct dev_memory){0};
}

static int cuda_copy_in(struct device *base, const struct dev_memory *m, uint64_t offset, const void *src, size_t len)
{
	struct cuda_device *d = self(base);
	struct window *w[2];
	if (!dev_range_inside(m, offset, len))
		return -ERANGE;
	int r = enter(d);
	if (r < 0 || len == 0 || (r = take_windows(d, w, 2)) < 0)
		return r;
	cu_result e = CU_SUCCESS;
	for (size_t done = 0, i = 0; done < len && e == CU_SUCCESS; i++) {
		struct window *x = w[i & 1];
		size_t n = len - done < WINDOW_BYTES ? len - done : WINDOW_BYTES;
		if (i >= 2)
			e = d->cu->event_synchronize(x->done);
		if (e != CU_SUCCESS)
			break;
		memcpy(x->host, (const char *)src + done, n);
		e = d->cu->copy_in(m->address + offset + done, x->host, n, x->stream);
		if (e == CU_SUCCESS)
			e = d->cu->event_record(x->done, x->stream);
		done += n;
	}
	for (int i = 0; i < 2; i++) {
		cu_result last = settle(d, w[i]);
		e = e == CU_SUCCESS ? last : e;
	}
	give_windows(d, w, 2);
	return status_of(e);
}

static int cuda_copy_out(struct device *base, const struct dev_memory *m, uint64_t offset, void *dst, size_t len)
{
	struct cuda_device *d = self(base);
	struct window *w[2];
	if (!dev_range_inside(m, offset, len))
		return -ERANGE;
	int r = enter(d);
	if (r < 0 || len == 0 || (r = take_windows(d, w, 2)) < 0)
		return r;
	cu_result e = CU_SUCCESS;
	size_t pieces = (len + WINDOW_BYTES - 1) / WINDOW_BYTES;
	/* piece i is on its way while piece i - 1 is copied out of its window */
	for (size_t i = 0; i <= pieces && e == CU_SUCCESS; i++) {
		if (i < pieces) {
			struct window *x = w[i & 1];
			size_t at = i * WINDOW_BYTES, n = len - at < WINDOW_BYTES ? len - at : WINDOW_BYTES;
			e = d->cu->copy_out(x->host, m->address + offset + at, n, x->stream);
			if (e == CU_SUCCESS)
				e = d->cu->event_record(x->done, x->stream);
		}
		if (i > 0 && e == CU_SUCCESS) {
			struct window *x = w[(i - 1) & 1];
			size_t at = (i - 1) * WINDOW_BYTES, n = len - at < WINDOW_BYTES ? len - at : WINDOW_BYTES;
			e = d->cu->event_synchronize(x->done);
			if (e == CU_SUCCESS)
				memcpy((char *)dst + at, x->host, n);
		}
	}
	for (int i = 0; i < 2; i++) {
		cu_result last = settle(d, w[i]);
		e = e == CU_SUCCESS ? last : e;
	}
	give_windows(d, w, 2);
	return status_of(e);
}

/* ---- gather ---- */

static int load_kernels(struct cuda_device *d)
{
	size_t size;
	const void *image = dev_cuda_kernels(&size);
	pthread_mutex_lock(&d->lock);
	if (d->gather_status == 0) {
		if (!image)
			d->gather_status = -EOPNOTSUPP;
		else if (d->cu->module_load(&d->module, image) != CU_SUCCESS)
			d->gather_status = -EOPNOTSUPP; /* no code for this architecture: the slow way works */
		else if (d->cu->module_function(&d->gather, d->module, "weightfs_gather") != CU_SUCCESS)
			d->gather_status = -EIO;
		else
			d->gather_status = 1;
	}
	int r = d->gather_status;
	pthread_mutex_unlock(&d->lock);
	return r < 0 ? r : 0;
}

static int launch_gather(struct cuda_device *d, struct dev_gather_args *args, cu_stream stream)
{
	unsigned int block = 256;
	uint64_t blocks = (args->n_elems + block - 1) / block;
	void *parameters[] = {args};
	return status_of(d->cu->launch(d->gather, blocks > 65535 ? 65535 : (unsigned int)blocks, 1, 1, block, 1, 1, 0,
				       stream, parameters, NULL));
}

static int cuda_gather(struct device *base, const struct dev_memory *m, const struct dev_view *v, uint64_t first_elem,
		       uint64_t n_elems, void *dst)
{
	struct cuda_device *d = self(base);
	struct dev_memory out = {0};
	if (!dev_view_inside(v, m, first_elem, n_elems))
		return -ERANGE;
	int r = enter(d);
	if (r < 0 || n_elems == 0 || (r = load_kernels(d)) < 0)
		return r;
	/* gathered on the device window by window: the scratch memory there stays small whatever the view's size */
	uint64_t step = WINDOW_BYTES / v->element_bytes;
	r = cuda_alloc(base, WINDOW_BYTES, &out);
	struct window *w;
	if (r < 0 || (r = take_windows(d, &w, 1)) < 0)
		goto out_free;
	struct dev_gather_args args = {.source = m->address + v->offset_bytes,
				       .destination = out.address,
				       .element_bytes = v->element_bytes,
				       .ndim = v->ndim};
	memcpy(args.shape, v->shape, sizeof args.shape);
	memcpy(args.stride_elems, v->stride_elems, sizeof args.stride_elems);
	for (uint64_t done = 0; done < n_elems && r == 0; done += step) {
		uint64_t n = n_elems - done < step ? n_elems - done : step;
		args.first_elem = first_elem + done;
		args.n_elems = n;
		r = launch_gather(d, &args, w->stream);
		if (r == 0)
			r = status_of(d->cu->copy_out(w->host, out.address, n * v->element_bytes, w->stream));
		cu_result last = settle(d, w);
		r = r < 0 ? r : status_of(last);
		if (r == 0)
			memcpy((char *)dst + done * v->element_bytes, w->host, n * v->element_bytes);
	}
	give_windows(d, &w, 1);
out_free:
	cuda_free(base, &out);
	return r;
}

/* ---- load ---- */

struct load {
	struct cuda_device *device;
	const struct dev_memory *memory;
	struct dev_pieces *pieces;
	int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len);
	void *ctx;
	atomic_int status;
};

/* Fills one window with the next piece of the work and sends it off. Returns 1 when it did, 0 when no work is left. */
static int load_piece(struct load *l, struct window *w)
{
	struct cuda_device *d = l->device;
	struct dev_piece piece;
	if (atomic_load(&l->status) < 0 || !dev_pieces_next(l->pieces, WINDOW_BYTES, &piece))
		return 0;
	int r = dev_piece_read(l->pieces, &piece, w->host, l->seen, l->ctx);
	if (r == 0)
		r = status_of(
			d->cu->copy_in(l->memory->address + piece.memory_offset, w->host, piece.size_bytes, w->stream));
	if (r == 0)
		r = status_of(d->cu->event_record(w->done, w->stream));
	return r < 0 ? r : 1;
}

static void *load_thread(void *arg)
{
	struct load *l = arg;
	struct cuda_device *d = l->device;
	struct window *w[WINDOWS_A_THREAD];
	int r = enter(d);
	if (r == 0)
		r = take_windows(d, w, WINDOWS_A_THREAD);
	if (r == 0) {
		for (size_t i = 0; r >= 0; i++) {
			struct window *x = w[i % WINDOWS_A_THREAD];
			if (i >= WINDOWS_A_THREAD && (r = status_of(d->cu->event_synchronize(x->done))) < 0)
				break;
			r = load_piece(l, x);
			if (r == 0)
				break;
		}
		for (size_t i = 0; i < WINDOWS_A_THREAD; i++) {
			int last = status_of(settle(d, w[i]));
			r = r < 0 ? r : last;
		}
		give_windows(d, w, WINDOWS_A_THREAD);
	}
	int expected = 0;
	if (r < 0)
		atomic_compare_exchange_strong(&l->status, &expected, r);
	return NULL;
}

static int cuda_load(struct device *base, const struct dev_memory *m, const struct dev_segment *segments, size_t n,
		     int (*seen)(void *, size_t, uint64_t, const void *, size_t), void *ctx)
{
	struct cuda_device *d = self(base);
	struct dev_pieces pieces;
	int r = dev_pieces_init(&pieces, segments, n, m->size_bytes);
	if (r < 0)
		return r;
	struct load l = {.device = d, .memory = m, .pieces = &pieces, .seen = seen, .ctx = ctx};
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int want = cores < 1 ? 1 : cores < LOAD_THREADS ? (unsigned int)cores : LOAD_THREADS, started = 0;
	pthread_t threads[LOAD_THREADS];
	while (started < want - 1 && pthread_create(&threads[started], NULL, load_thread, &l) == 0)
		started++;
	load_thread(&l); /* the caller works as well: it goes on, slower, where no thread can be had */
	while (started > 0)
		pthread_join(threads[--started], NULL);
	dev_pieces_free(&pieces);
	return atomic_load(&l.status);
}

/* ---- share, close, open ---- */

static int cuda_share(struct device *base, const struct dev_memory *m, struct dev_share *ret)
{
	struct cuda_device *d = self(base);
	struct cu_ipc_mem_handle handle;
	int r = enter(d);
	if (r < 0)
		return r;
	if (d->cu->ipc_get_handle(&handle, m->address) != CU_SUCCESS)
		return -EIO;
	memcpy(ret->handle, handle.reserved, sizeof ret->handle);
	ret->offset_bytes = 0; /* ours is the base of its own allocation */
	return 0;
}

static void cuda_close(struct device *base)
{
	struct cuda_device *d = self(base);
	if (d->context && enter(d) == 0) {
		for (unsigned int i = 0; i < d->windows_made; i++) {
			/* after a failed wait something may still be under way: the stream drains first */
			d->cu->stream_destroy(d->windows[i].stream);
			d->cu->event_destroy(d->windows[i].done);
		}
		if (d->ring_registered)
			d->cu->host_unregister(d->ring);
		if (d->module)
			d->cu->module_unload(d->module);
		d->cu->context_set(NULL);
		d->cu->context_release(d->device);
	}
	free(d->ring);
	pthread_cond_destroy(&d->freed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static const struct dev_ops cuda_ops = {
	.describe = cuda_describe,
	.alloc = cuda_alloc,
	.free = cuda_free,
	.copy_in = cuda_copy_in,
	.copy_out = cuda_copy_out,
	.gather = cuda_gather,
	.load = cuda_load,
	.share = cuda_share,
	.close = cuda_close,
};

int dev_cuda_open(int ordinal, struct device **ret, const char **ret_why)
{
	const struct dev_cuda_driver *cu;
	int r = dev_cuda_driver_load(&cu, ret_why);
	if (r < 0)
		return -ENODEV;
	if (ordinal < 0 || ordinal >= cu->device_count) {
		*ret_why = cu->device_count == 1 ? "there is one CUDA device, number 0"
						 : "there are fewer CUDA devices than that";
		return -ENODEV;
	}
	struct cuda_device *d = calloc(1, sizeof *d);
	if (!d)
		return -ENOMEM;
	d->base.ops = &cuda_ops;
	d->cu = cu;
	d->ordinal = ordinal;
	if (cu->device_get(&d->device, ordinal) != CU_SUCCESS) {
		*ret_why = "the CUDA driver does not give that device";
		free(d);
		return -ENODEV;
	}
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->freed, NULL);
	*ret = &d->base;
	return 0;
}
