/* SPDX-License-Identifier: MIT */
/* The double's streams: each has a thread that executes its operations late and out of step with the others. With
 * instant=1 an operation is over when it is submitted, and moves nothing. */
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/gather_kernel.h"

void weightfs_gather(const struct dev_gather_args a); /* gather.cu, compiled for the host */

struct operation {
	enum { COPY_IN, COPY_OUT, COPY_INSIDE, RECORD, LAUNCH } kind;
	void *host;
	CUdeviceptr device;
	size_t size;
	uint64_t sum; /* of the source at submission */
	CUevent event;
	uint64_t event_generation;
	struct dev_gather_args gather;
	struct operation *next;
};

struct CUevent_st {
	uint64_t recorded, completed;
	struct CUctx_st *context;
	struct CUevent_st *next;
};

struct CUstream_st {
	pthread_t thread;
	struct operation *first, **last;
	bool busy, stop;
	unsigned int seed;
	struct CUctx_st *context;
	struct CUstream_st *next;
};

static CUstream all_streams;
static CUevent all_events;

static uint64_t sum(const void *data, size_t size)
{
	const unsigned char *p = data;
	uint64_t h = 14695981039346656037u;
	for (size_t i = 0; i + 8 <= size; i += 8) {
		uint64_t v;
		memcpy(&v, p + i, 8);
		h = (h ^ v) * 1099511628211u;
	}
	for (size_t i = size & ~(size_t)7; i < size; i++)
		h = (h ^ p[i]) * 1099511628211u;
	return h;
}

static void execute(struct operation *o)
{
	switch (o->kind) {
	case COPY_IN:
		if (sum(o->host, o->size) != o->sum)
			fake_die("the source changed while its copy was in flight", "cuMemcpyHtoDAsync_v2");
		memcpy(fake_translate(o->device, o->size, "cuMemcpyHtoDAsync_v2"), o->host, o->size);
		fake.bytes_in += o->size;
		break;
	case COPY_OUT:
		memcpy(o->host, fake_translate(o->device, o->size, "cuMemcpyDtoHAsync_v2"), o->size);
		fake.bytes_out += o->size;
		break;
	case COPY_INSIDE:
		memmove(fake_translate(o->device, o->size, "cuMemcpyDtoDAsync_v2"),
			fake_translate((CUdeviceptr)(uintptr_t)o->host, o->size, "cuMemcpyDtoDAsync_v2"), o->size);
		break;
	case LAUNCH:
		weightfs_gather(o->gather);
		break;
	case RECORD:
		o->event->completed = o->event_generation;
		break;
	}
}

static void *stream_thread(void *arg)
{
	CUstream s = arg;
	pthread_mutex_lock(&fake.lock);
	for (;;) {
		while (!s->first && !s->stop)
			pthread_cond_wait(&fake.changed, &fake.lock);
		if (!s->first)
			break;
		struct operation *o = s->first;
		s->busy = true;
		pthread_mutex_unlock(&fake.lock);
		if (fake.delay_usec)
			usleep((unsigned int)rand_r(&s->seed) % fake.delay_usec);
		pthread_mutex_lock(&fake.lock);
		execute(o);
		s->first = o->next;
		if (!s->first)
			s->last = &s->first;
		s->busy = false;
		fake.pending_operations--;
		free(o);
		pthread_cond_broadcast(&fake.changed);
	}
	pthread_mutex_unlock(&fake.lock);
	return NULL;
}

static void submit(CUstream s, struct operation o)
{
	if (fake.instant) {
		if (o.kind == RECORD)
			o.event->completed = o.event_generation;
		fake.bytes_in += o.kind == COPY_IN ? o.size : 0;
		fake.bytes_out += o.kind == COPY_OUT ? o.size : 0;
		return;
	}
	struct operation *copy = malloc(sizeof *copy);
	*copy = o;
	copy->next = NULL;
	*s->last = copy;
	fake.pending_operations++;
	s->last = &copy->next;
	pthread_cond_broadcast(&fake.changed);
}

CUresult CUDAAPI cuStreamCreate(CUstream *ret, unsigned int flags)
{
	ENTER(true)
	CUstream s = calloc(1, sizeof *s);
	s->last = &s->first;
	s->seed = (unsigned int)fake.streams++;
	s->context = fake_current;
	s->next = all_streams;
	all_streams = s;
	pthread_create(&s->thread, NULL, stream_thread, s);
	*ret = s;
	LEAVE
}

CUresult CUDAAPI cuStreamSynchronize(CUstream s)
{
	ENTER(true)
	while (s->first || s->busy)
		pthread_cond_wait(&fake.changed, &fake.lock);
	LEAVE
}

/* The lock is held, and let go of while the thread ends. */
static void destroy_stream(CUstream s)
{
	CUstream *at = &all_streams;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->stop = true;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
	pthread_join(s->thread, NULL);
	pthread_mutex_lock(&fake.lock);
	fake.streams--;
	free(s);
}

static void destroy_event(CUevent e)
{
	CUevent *at = &all_events;
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	fake.events--;
	free(e);
}

void fake_streams_drop(struct CUctx_st *context)
{
	pthread_mutex_lock(&fake.lock);
	for (CUstream s = all_streams; s;) {
		bool its = s->context == context;
		CUstream gone = s;
		s = s->next;
		if (its) {
			destroy_stream(gone);
			s = all_streams; /* the list may have changed meanwhile */
		}
	}
	for (CUevent e = all_events, next; e; e = next) {
		next = e->next;
		if (e->context == context)
			destroy_event(e);
	}
	pthread_mutex_unlock(&fake.lock);
}

CUresult CUDAAPI cuStreamDestroy(CUstream s)
{
	ENTER(true)
	destroy_stream(s);
	LEAVE
}

CUresult CUDAAPI cuEventCreate(CUevent *ret, unsigned int flags)
{
	ENTER(true)
	CUevent e = calloc(1, sizeof *e);
	e->context = fake_current;
	e->next = all_events;
	all_events = *ret = e;
	fake.events++;
	LEAVE
}

CUresult CUDAAPI cuEventRecord(CUevent e, CUstream s)
{
	ENTER(true)
	submit(s, (struct operation){.kind = RECORD, .event = e, .event_generation = ++e->recorded});
	LEAVE
}

CUresult CUDAAPI cuEventQuery(CUevent e)
{
	ENTER(true)
	if (e->completed < e->recorded)
		result = CUDA_ERROR_NOT_READY;
	LEAVE
}

CUresult CUDAAPI cuEventSynchronize(CUevent e)
{
	ENTER(true)
	while (e->completed < e->recorded)
		pthread_cond_wait(&fake.changed, &fake.lock);
	LEAVE
}

CUresult CUDAAPI cuEventDestroy(CUevent e)
{
	ENTER(true)
	destroy_event(e);
	LEAVE
}

static void count_pageable(const void *host, size_t size)
{
	if (!fake_is_pinned(host, size))
		fake.pageable_copies++;
}

CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t size, CUstream s)
{
	ENTER(true)
	fake_translate(dst, size, __func__);
	if (!fake_is_writable(dst)) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	count_pageable(src, size);
	submit(s, (struct operation){.kind = COPY_IN,
				     .host = (void *)src,
				     .device = dst,
				     .size = size,
				     .sum = fake.instant ? 0 : sum(src, size)});
	LEAVE
}

CUresult CUDAAPI cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t size, CUstream s)
{
	ENTER(true)
	fake_translate(src, size, __func__);
	count_pageable(dst, size);
	if (!fake.instant)
		memset(dst, 0xdb, size); /* what a reader sees that does not wait */
	submit(s, (struct operation){.kind = COPY_OUT, .host = dst, .device = src, .size = size});
	LEAVE
}

CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr dst, CUdeviceptr src, size_t size, CUstream s)
{
	ENTER(true)
	fake_translate(src, size, __func__);
	fake_translate(dst, size, __func__);
	if (!fake_is_writable(dst))
		result = CUDA_ERROR_INVALID_VALUE;
	else
		submit(s, (struct operation){
				  .kind = COPY_INSIDE, .host = (void *)(uintptr_t)src, .device = dst, .size = size});
	LEAVE
}

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr dst, const void *src, size_t size)
{
	ENTER(true)
	unsigned char *host = fake_translate(dst, size, __func__);
	if (!fake_is_writable(dst))
		result = CUDA_ERROR_INVALID_VALUE;
	else
		memcpy(host, src, size);
	LEAVE
}

/* Complete on return; streams that do not block, as all of ours, go on beside it. */
CUresult CUDAAPI cuMemcpyDtoH(void *dst, CUdeviceptr src, size_t size)
{
	ENTER(true)
	memcpy(dst, fake_translate(src, size, __func__), size);
	fake.bytes_out += size;
	LEAVE
}

CUresult CUDAAPI cuCtxSynchronize(void)
{
	ENTER(true)
	while (fake.pending_operations)
		pthread_cond_wait(&fake.changed, &fake.lock);
	LEAVE
}

/* ---- kernels ---- */

CUresult CUDAAPI cuModuleLoadData(CUmodule *ret, const void *image)
{
	ENTER(true)
	/* a fat binary begins with this number (fatbinary_section.h); anything else is no image */
	if (!image || *(const unsigned int *)image != 0xba55ed50) {
		result = CUDA_ERROR_INVALID_IMAGE;
		goto out;
	}
	if (fake.arch && fake.arch < 75) { /* older than the toolkit's oldest: neither code nor PTX runs there */
		result = CUDA_ERROR_NO_BINARY_FOR_GPU;
		goto out;
	}
	*ret = (CUmodule)&fake.contexts;
	LEAVE
}

CUresult CUDAAPI cuModuleUnload(CUmodule m){ENTER(true) LEAVE}

CUresult CUDAAPI cuModuleGetFunction(CUfunction *ret, CUmodule m, const char *name)
{
	ENTER(true)
	if (strcmp(name, "weightfs_gather")) {
		result = CUDA_ERROR_NOT_FOUND;
		goto out;
	}
	*ret = (CUfunction)&weightfs_gather;
	LEAVE
}

CUresult CUDAAPI cuLaunchKernel(CUfunction f, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
				unsigned int block_x, unsigned int block_y, unsigned int block_z,
				unsigned int shared_bytes, CUstream s, void **parameters, void **extra)
{
	ENTER(true)
	if (f != (CUfunction)&weightfs_gather || !grid_x || !grid_y || !grid_z || !block_x ||
	    block_x * block_y * block_z > 1024) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	struct dev_gather_args a = *(struct dev_gather_args *)parameters[0];
	uint64_t last = 0;
	for (unsigned int d = 0; d < a.ndim; d++)
		last += (a.shape[d] - 1) * a.stride_elems[d];
	a.source = (uintptr_t)fake_translate(a.source, (last + 1) * a.element_bytes, __func__);
	a.destination = (uintptr_t)fake_translate(a.destination, a.n_elems * a.element_bytes, __func__);
	submit(s, (struct operation){.kind = LAUNCH, .gather = a});
	LEAVE
}
