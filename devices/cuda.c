/* SPDX-License-Identifier: MIT */
/* CUDA memory through the driver API: the slots of device.h. Allocations and loads have files of their own (cuda_slots.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_kernels.h"
#include "cuda_slots.h"
#include "gather_kernel.h"
#include "view.h"

static int cuda_describe(struct device *base, struct dev_info *ret)
{
	struct cuda_device *d = cuda_self(base);
	struct dev_info info = {0};
	struct cu_uuid uuid;
	size_t free_bytes, total_bytes;
	int r = cuda_enter(d);
	if (r < 0)
		return r;
	cu_result e = d->cu->device_name(info.description, sizeof info.description, d->device);
	if (e == CU_SUCCESS)
		e = d->cu->device_uuid(&uuid, d->device);
	if (e == CU_SUCCESS)
		e = d->cu->memory_info(&free_bytes, &total_bytes);
	if (e != CU_SUCCESS)
		return cuda_status(d, e);
	snprintf(info.name, sizeof info.name, "cuda:%d", d->ordinal);
	const unsigned char *u = (const unsigned char *)uuid.bytes;
	snprintf(info.uuid, sizeof info.uuid,
		 "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
		 u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	info.free_bytes = free_bytes;
	info.total_bytes = total_bytes;
	snprintf(info.loading, sizeof info.loading, "%s", d->settings.text);
	*ret = info;
	return 0;
}

static int cuda_copy_in(struct device *base, const struct dev_memory *m, uint64_t offset, const void *src, size_t len)
{
	struct cuda_device *d = cuda_self(base);
	struct cuda_window *w[2];
	unsigned int windows = len > CUDA_COPY_BYTES ? 2 : 1;
	if (!dev_range_inside(m, offset, len))
		return -ERANGE;
	int r = cuda_enter(d);
	if (r < 0 || len == 0 || (r = cuda_ring_take(d, &d->copies, w, windows)) < 0)
		return r;
	cu_result e = CU_SUCCESS;
	for (size_t done = 0, i = 0; done < len && e == CU_SUCCESS; i++) {
		struct cuda_window *x = w[i & 1];
		size_t n = len - done < CUDA_COPY_BYTES ? len - done : CUDA_COPY_BYTES;
		if (i >= 2)
			e = cuda_ring_wait(d, x);
		if (e != CU_SUCCESS)
			break;
		memcpy(x->host, (const char *)src + done, n);
		e = d->cu->copy_in(m->address + offset + done, x->host, n, x->stream);
		if (e == CU_SUCCESS && windows > 1)
			e = d->cu->event_record(x->done, x->stream);
		done += n;
	}
	for (unsigned int i = 0; i < windows; i++) {
		cu_result last = cuda_ring_settle(d, w[i]);
		e = e == CU_SUCCESS ? last : e;
	}
	cuda_ring_give(d, w, windows);
	return cuda_status(d, e);
}

/* What a read through a mount is: one piece, with as few calls as there can be. */
static int copy_out_piece(struct cuda_device *d, cu_deviceptr from, void *dst, size_t len)
{
	struct cuda_window *w;
	int r = cuda_ring_take(d, &d->copies, &w, 1);
	if (r < 0)
		return r;
	cu_result e = d->cu->copy_out(w->host, from, len, w->stream);
	cu_result last = cuda_ring_settle(d, w);
	e = e == CU_SUCCESS ? last : e;
	if (e == CU_SUCCESS)
		memcpy(dst, w->host, len);
	cuda_ring_give(d, &w, 1);
	return cuda_status(d, e);
}

static int cuda_copy_out(struct device *base, const struct dev_memory *m, uint64_t offset, void *dst, size_t len)
{
	struct cuda_device *d = cuda_self(base);
	struct cuda_window *w[2];
	if (!dev_range_inside(m, offset, len))
		return -ERANGE;
	int r = cuda_enter(d);
	if (r == 0 && len > 0 && len <= CUDA_COPY_BYTES)
		return copy_out_piece(d, m->address + offset, dst, len);
	if (r < 0 || len == 0 || (r = cuda_ring_take(d, &d->copies, w, 2)) < 0)
		return r;
	cu_result e = CU_SUCCESS;
	size_t pieces = (len + CUDA_COPY_BYTES - 1) / CUDA_COPY_BYTES;
	/* piece i is on its way while piece i - 1 is copied out of its window */
	for (size_t i = 0; i <= pieces && e == CU_SUCCESS; i++) {
		if (i < pieces) {
			struct cuda_window *x = w[i & 1];
			size_t at = i * CUDA_COPY_BYTES, n = len - at < CUDA_COPY_BYTES ? len - at : CUDA_COPY_BYTES;
			e = d->cu->copy_out(x->host, m->address + offset + at, n, x->stream);
			if (e == CU_SUCCESS)
				e = d->cu->event_record(x->done, x->stream);
		}
		if (i > 0 && e == CU_SUCCESS) {
			struct cuda_window *x = w[(i - 1) & 1];
			size_t at = (i - 1) * CUDA_COPY_BYTES,
			       n = len - at < CUDA_COPY_BYTES ? len - at : CUDA_COPY_BYTES;
			e = cuda_ring_wait(d, x);
			if (e == CU_SUCCESS)
				memcpy((char *)dst + at, x->host, n);
		}
	}
	for (int i = 0; i < 2; i++) {
		cu_result last = cuda_ring_settle(d, w[i]);
		e = e == CU_SUCCESS ? last : e;
	}
	cuda_ring_give(d, w, 2);
	return cuda_status(d, e);
}

static int cuda_copy(struct device *base, const struct dev_memory *to, uint64_t to_offset,
		     const struct dev_memory *from, uint64_t from_offset, uint64_t len)
{
	struct cuda_device *d = cuda_self(base);
	struct cuda_window *w;
	if (!dev_range_inside(to, to_offset, len) || !dev_range_inside(from, from_offset, len))
		return -ERANGE;
	int r = cuda_enter(d);
	if (r < 0 || len == 0 || (r = cuda_ring_take(d, &d->copies, &w, 1)) < 0) /* for its stream */
		return r;
	cu_result e = d->cu->copy_inside(to->address + to_offset, from->address + from_offset, len, w->stream);
	cu_result last = cuda_ring_settle(d, w);
	cuda_ring_give(d, &w, 1);
	return cuda_status(d, e == CU_SUCCESS ? last : e);
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
		else if (cuda_status(d, d->cu->module_load(&d->module, image)) < 0)
			d->gather_status = -EOPNOTSUPP; /* no code for this architecture, say: the slow way works */
		else
			d->gather_status =
				cuda_status(d, d->cu->module_function(&d->gather, d->module, "weightfs_gather"));
		if (d->gather_status == 0)
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
	return cuda_status(d, d->cu->launch(d->gather, blocks > 65535 ? 65535 : (unsigned int)blocks, 1, 1, block, 1, 1,
					    0, stream, parameters, NULL));
}

static int cuda_gather(struct device *base, const struct dev_memory *m, const struct dev_view *v, uint64_t first_elem,
		       uint64_t n_elems, void *dst)
{
	struct cuda_device *d = cuda_self(base);
	struct cuda_window *w;
	if (!dev_view_inside(v, m, first_elem, n_elems))
		return -ERANGE;
	int r = cuda_enter(d);
	if (r < 0 || n_elems == 0 || (r = load_kernels(d)) < 0 || (r = cuda_ring_take(d, &d->copies, &w, 1)) < 0)
		return r;
	/* gathered on the device window by window, so that the memory there stays small whatever the view's size; it is
	 * kept, since freeing device memory waits for everything that runs on the device */
	uint64_t step = CUDA_COPY_BYTES / v->element_bytes;
	if (!w->scratch && (r = cuda_status(d, d->cu->alloc(&w->scratch, CUDA_COPY_BYTES))) == -ENOMEM)
		r = -EOPNOTSUPP; /* the storages have taken all there was: the slow way works */
	struct dev_gather_args args = {.source = m->address + v->offset_bytes,
				       .destination = w->scratch,
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
			r = cuda_status(d, d->cu->copy_out(w->host, w->scratch, n * v->element_bytes, w->stream));
		cu_result last = cuda_ring_settle(d, w);
		r = r < 0 ? r : cuda_status(d, last);
		if (r == 0)
			memcpy((char *)dst + done * v->element_bytes, w->host, n * v->element_bytes);
	}
	cuda_ring_give(d, &w, 1);
	return r;
}

/* ---- close, open ---- */

static const char *cuda_why(struct device *base)
{
	struct cuda_device *d = cuda_self(base);
	cu_result r = atomic_exchange(&d->failure, CU_SUCCESS);
	return r == CU_SUCCESS ? NULL : dev_cuda_error_name(d->cu, r);
}

static bool cuda_lost(struct device *base)
{
	return atomic_load(&cuda_self(base)->lost);
}

static void cuda_close(struct device *base)
{
	struct cuda_device *d = cuda_self(base);
	cuda_memory_close(d);
	if (d->context) {
		if (cuda_enter_lost(d) == 0) {
			cuda_ring_close(d, &d->copies);
			cuda_ring_close(d, &d->loads);
			if (d->module)
				d->cu->module_unload(d->module);
		}
		d->cu->context_set(NULL);
		d->cu->context_release(d->device);
		if (cuda_lost(base) && d->cu->context_reset)
			d->cu->context_reset(d->device); /* somebody else in this process may hold it, too */
	}
	cuda_ring_free(&d->copies);
	cuda_ring_free(&d->loads);
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
	.copy = cuda_copy,
	.gather = cuda_gather,
	.load = cuda_load,
	.share = cuda_share,
	.why = cuda_why,
	.lost = cuda_lost,
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
	cu_result e = cu->device_get(&d->device, ordinal);
	if (e != CU_SUCCESS) {
		*ret_why = dev_cuda_error_name(cu, e);
		free(d);
		return -ENODEV;
	}
	char pci[32] = "";
	if (cu->pci_bus_id)
		cu->pci_bus_id(pci, sizeof pci, d->device);
	cuda_settings_init(&d->settings, pci);
	d->copies = (struct cuda_ring){.count = CUDA_COPY_WINDOWS, .window_bytes = CUDA_COPY_BYTES};
	d->loads = (struct cuda_ring){.count = d->settings.threads * d->settings.depth,
				      .window_bytes = d->settings.window_bytes,
				      .one_stream = true};
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->freed, NULL);
	*ret = &d->base;
	return 0;
}
