/* SPDX-License-Identifier: MIT */
/* Device memory, and how other processes get to it.
 *
 * First choice: memory that the driver makes, maps and exports in separate steps. Its export is a descriptor, which goes over
 * a socket, so that a container with a PID namespace of its own gets it, too; who imports it maps it read-only; and it lives
 * until the last process has let it go. Where the driver has no such memory, one allocation with a CUDA IPC handle: 64 bytes
 * that another process of the same PID namespace opens, to read and write. Either way whole pages of CUDA_PAGE_BYTES are
 * taken, for a handle opens all of the pages that it touches, whoever else's memory is on them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cuda_slots.h"

#define CUDA_PAGE_BYTES (2ull << 20)

struct cuda_block {
	cu_deviceptr address;
	uint64_t size_bytes; /* whole pages */
	cu_vmm_handle vmm;
	bool is_vmm, shared;
	int fd; /* of a vmm, until it is published; else -1 */
	struct dev_share share;
	struct cuda_block *next;
};

/* ---- by steps ---- */

static const char *failed_step(const struct cuda_device *d, char *buf, size_t size, const char *step, cu_result r)
{
	snprintf(buf, size, "%s: %s", step, dev_cuda_error_name(d->cu, r));
	return buf;
}

static void unmap(struct cuda_device *d, cu_deviceptr p, uint64_t bytes, bool mapped)
{
	if (mapped)
		d->cu->vmm_unmap(p, bytes);
	d->cu->vmm_unreserve(p, bytes);
}

/* Maps b->vmm for reading and writing by this process. */
static cu_result map_block(struct cuda_device *d, struct cuda_block *b, const char **ret_step)
{
	struct cu_access_desc access = {.location = {.type = 1, .id = d->device}, .flags = 3};
	*ret_step = "cuMemAddressReserve";
	cu_result r = d->cu->vmm_reserve(&b->address, b->size_bytes, 0, 0, 0);
	if (r != CU_SUCCESS)
		return r;
	*ret_step = "cuMemMap";
	r = d->cu->vmm_map(b->address, b->size_bytes, 0, b->vmm, 0);
	bool mapped = r == CU_SUCCESS;
	if (mapped) {
		*ret_step = "cuMemSetAccess";
		r = d->cu->vmm_access(b->address, b->size_bytes, &access, 1);
	}
	if (r != CU_SUCCESS)
		unmap(d, b->address, b->size_bytes, mapped);
	return r;
}

/* Also exports it at once: memory that cannot be exported is to be allocated the other way. */
static cu_result make_vmm(struct cuda_device *d, struct cuda_block *b, const char **ret_step)
{
	struct cu_allocation_prop prop = {
		.type = 1, .handle_types = CU_HANDLE_TYPE_POSIX_FD, .location = {.type = 1, .id = d->device}};
	size_t granularity = CUDA_PAGE_BYTES;
	*ret_step = "cuMemGetAllocationGranularity";
	cu_result r = d->cu->vmm_granularity(&granularity, &prop, CU_GRANULARITY_MINIMUM);
	if (r != CU_SUCCESS)
		return r;
	b->size_bytes = (b->size_bytes + granularity - 1) / granularity * granularity;
	*ret_step = "cuMemCreate";
	r = d->cu->vmm_create(&b->vmm, b->size_bytes, &prop, 0);
	if (r != CU_SUCCESS)
		return r;
	*ret_step = "cuMemExportToShareableHandle";
	r = d->cu->vmm_export(&b->fd, b->vmm, CU_HANDLE_TYPE_POSIX_FD, 0);
	if (r != CU_SUCCESS)
		b->fd = -1;
	else
		r = map_block(d, b, ret_step);
	if (r == CU_SUCCESS) {
		b->is_vmm = true;
		return r;
	}
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
	d->cu->vmm_release(b->vmm);
	return r;
}

static bool has_vmm(const struct cuda_device *d)
{
	return d->cu->vmm_granularity && d->cu->vmm_create && d->cu->vmm_release && d->cu->vmm_reserve &&
	       d->cu->vmm_unreserve && d->cu->vmm_map && d->cu->vmm_unmap && d->cu->vmm_access && d->cu->vmm_export;
}

/* Whether memory is to be had by steps; once it is not, d->no_vmm says why. */
static bool wants_vmm(struct cuda_device *d)
{
	const char *asked = getenv("WEIGHTFS_SHARE");
	if (!d->no_vmm[0] && asked && !strcmp(asked, "ipc"))
		snprintf(d->no_vmm, sizeof d->no_vmm, "WEIGHTFS_SHARE=ipc");
	else if (!d->no_vmm[0] && !has_vmm(d))
		snprintf(d->no_vmm, sizeof d->no_vmm, "the driver has no cuMemCreate");
	return !d->no_vmm[0];
}

/* ---- the slots ---- */

static cu_result allocate(struct cuda_device *d, struct cuda_block *b)
{
	const char *step;
	pthread_mutex_lock(&d->lock);
	bool by_steps = wants_vmm(d);
	pthread_mutex_unlock(&d->lock);
	cu_result r = by_steps ? make_vmm(d, b, &step) : CU_ERROR_NOT_SUPPORTED;
	if (r == CU_SUCCESS || r == CU_ERROR_OUT_OF_MEMORY || cuda_is_fatal(r))
		return r;
	if (by_steps) {
		pthread_mutex_lock(&d->lock);
		failed_step(d, d->no_vmm, sizeof d->no_vmm, step, r);
		pthread_mutex_unlock(&d->lock);
	}
	return d->cu->alloc(&b->address, b->size_bytes);
}

int cuda_alloc(struct device *base, uint64_t size_bytes, struct dev_memory *ret)
{
	struct cuda_device *d = cuda_self(base);
	uint64_t pages;
	/* an empty storage needs an address as well */
	if (__builtin_add_overflow(size_bytes ? size_bytes : 1, CUDA_PAGE_BYTES - 1, &pages))
		return -ENOMEM;
	int r = cuda_enter(d);
	struct cuda_block *b = r == 0 ? calloc(1, sizeof *b) : NULL;
	if (!b)
		return r < 0 ? r : -ENOMEM;
	b->size_bytes = pages / CUDA_PAGE_BYTES * CUDA_PAGE_BYTES;
	b->fd = -1;
	r = cuda_status(d, allocate(d, b));
	if (r < 0) {
		free(b);
		return r;
	}
	pthread_mutex_lock(&d->lock);
	b->next = d->blocks;
	d->blocks = b;
	pthread_mutex_unlock(&d->lock);
	*ret = (struct dev_memory){.address = b->address, .size_bytes = size_bytes};
	return 0;
}

void cuda_free(struct device *base, struct dev_memory *m)
{
	struct cuda_device *d = cuda_self(base);
	struct cuda_block *b = NULL;
	pthread_mutex_lock(&d->lock);
	for (struct cuda_block **at = &d->blocks; m->address && *at; at = &(*at)->next)
		if ((*at)->address == m->address) {
			b = *at;
			*at = b->next;
			break;
		}
	pthread_mutex_unlock(&d->lock);
	*m = (struct dev_memory){0};
	if (!b)
		return;
	if (b->is_vmm && b->shared)
		dev_descriptors_withdraw(d->descriptors, b->share.handle);
	if (b->fd >= 0)
		close(b->fd);
	if (cuda_enter_lost(d) == 0) { /* in a lost context these fail, and are of no consequence */
		if (b->is_vmm) {
			unmap(d, b->address, b->size_bytes, true);
			d->cu->vmm_release(b->vmm);
		} else {
			d->cu->free(b->address);
		}
	}
	free(b);
}

/* The lock is held. */
static int publish(struct cuda_device *d, struct cuda_block *b)
{
	int r = d->descriptors ? 0 : dev_descriptors_new(&d->descriptors);
	if (r == 0)
		r = dev_descriptors_publish(d->descriptors, b->fd, b->size_bytes, b->share.handle);
	if (r < 0) {
		snprintf(b->share.how, sizeof b->share.how, "no socket for descriptors: %s", strerror(-r));
		return -EOPNOTSUPP;
	}
	b->fd = -1;
	snprintf(b->share.socket, sizeof b->share.socket, "%s", dev_descriptors_socket(d->descriptors));
	snprintf(b->share.how, sizeof b->share.how, "by descriptors over %.107s, read-only", b->share.socket);
	return 0;
}

static int share_block(struct cuda_device *d, struct cuda_block *b)
{
	struct cu_ipc_mem_handle handle;
	if (b->is_vmm)
		return publish(d, b);
	cu_result e = d->cu->ipc_get_handle(&handle, b->address);
	if (e != CU_SUCCESS) {
		snprintf(b->share.how, sizeof b->share.how, "%.90s; cuIpcGetMemHandle: %s", d->no_vmm,
			 dev_cuda_error_name(d->cu, e));
		return cuda_is_fatal(e) ? cuda_status(d, e) : -EOPNOTSUPP;
	}
	memcpy(b->share.handle, handle.reserved, sizeof b->share.handle);
	snprintf(b->share.how, sizeof b->share.how, "by CUDA IPC handles, which are writable (%.100s)", d->no_vmm);
	return 0;
}

int cuda_share(struct device *base, const struct dev_memory *m, struct dev_share *ret)
{
	struct cuda_device *d = cuda_self(base);
	const char *asked = getenv("WEIGHTFS_SHARE");
	int r = cuda_enter(d);
	if (r < 0)
		return r;
	if (asked && !strcmp(asked, "none")) {
		*ret = (struct dev_share){.how = "WEIGHTFS_SHARE=none"};
		return -EOPNOTSUPP;
	}
	pthread_mutex_lock(&d->lock);
	struct cuda_block *b = d->blocks;
	while (b && b->address != m->address)
		b = b->next;
	r = !b ? -EIO : b->shared ? 0 : share_block(d, b);
	if (b) {
		b->shared = r == 0;
		*ret = b->share;
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

void cuda_memory_close(struct cuda_device *d)
{
	dev_descriptors_free(d->descriptors);
	d->descriptors = NULL;
}
