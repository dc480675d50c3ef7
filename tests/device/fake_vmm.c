/* SPDX-License-Identifier: MIT */
/* The double's memory that is made, mapped and exported in steps: a memfd for each, which is what a descriptor of it is. */
#include "fake_cuda.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDLES_MAX 256
#define RANGES_MAX 256
#define GRANULE_BYTES (2ull << 20)

static struct made {
	int fd, device;
	size_t size; /* 0: free */
	unsigned int mapped;
	bool released, imported;
} handles[HANDLES_MAX];
static struct {
	CUdeviceptr start;
	size_t size;
	bool mapped;
} ranges[RANGES_MAX];

/* A handle's number is its index + 1. It goes when it is released and mapped nowhere. */
static struct made *handle_of(CUmemGenericAllocationHandle h, const char *where)
{
	if (h < 1 || h > HANDLES_MAX || !handles[h - 1].size || handles[h - 1].released)
		fake_die("no handle of memory, or one that was released", where);
	return &handles[h - 1];
}

static void drop_if_unused(struct made *m)
{
	if (!m->released || m->mapped)
		return;
	if (!m->imported)
		*fake_used_bytes(m->device) -= m->size;
	close(m->fd);
	m->size = 0;
}

static CUmemGenericAllocationHandle new_handle(int fd, size_t size, int device, bool imported)
{
	for (int i = 0; i < HANDLES_MAX; i++)
		if (!handles[i].size) {
			handles[i] = (struct made){.fd = fd, .size = size, .device = device, .imported = imported};
			return (CUmemGenericAllocationHandle)i + 1;
		}
	fake_die("too many handles of memory: one slab was expected", "cuMemCreate");
}

CUresult CUDAAPI cuMemGetAllocationGranularity(size_t *ret, const CUmemAllocationProp *prop,
					       CUmemAllocationGranularity_flags option)
{
	ENTER(false)
	if (fake.no_vmm)
		result = CUDA_ERROR_NOT_SUPPORTED;
	*ret = GRANULE_BYTES;
	LEAVE
}

CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle *ret, size_t size, const CUmemAllocationProp *prop,
			     unsigned long long flags)
{
	ENTER(true)
	int device = fake.visible[prop->location.id];
	if (fake.no_vmm || prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		result = CUDA_ERROR_NOT_SUPPORTED;
	else if (size == 0 || size % GRANULE_BYTES || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
		 prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		result = CUDA_ERROR_INVALID_VALUE;
	else if (size > fake.device_memory - *fake_used_bytes(device))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	if (result != CUDA_SUCCESS)
		goto out;
	int fd = memfd_create("fake-cuda", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		fake_die("no shared memory", __func__);
	*fake_used_bytes(device) += size;
	*ret = new_handle(fd, size, device, false);
	LEAVE
}

CUresult CUDAAPI cuMemRelease(CUmemGenericAllocationHandle h)
{
	ENTER(true)
	struct made *m = handle_of(h, __func__);
	m->released = true;
	drop_if_unused(m);
	LEAVE
}

CUresult CUDAAPI cuMemExportToShareableHandle(void *ret, CUmemGenericAllocationHandle h, CUmemAllocationHandleType type,
					      unsigned long long flags)
{
	ENTER(true)
	int fd = fcntl(handle_of(h, __func__)->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		result = CUDA_ERROR_INVALID_VALUE;
	else
		*(int *)ret = fd;
	LEAVE
}

CUresult CUDAAPI cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *ret, void *os_handle,
						CUmemAllocationHandleType type)
{
	ENTER(true)
	struct stat st;
	int fd = fcntl((int)(intptr_t)os_handle, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
		result = CUDA_ERROR_INVALID_VALUE;
	else
		*ret = new_handle(fd, (size_t)st.st_size, fake_current->device, true);
	LEAVE
}

CUresult CUDAAPI cuMemAddressReserve(CUdeviceptr *ret, size_t size, size_t alignment, CUdeviceptr address,
				     unsigned long long flags)
{
	ENTER(true)
	int i = 0;
	while (i < RANGES_MAX && ranges[i].size)
		i++;
	if (i == RANGES_MAX || size == 0 || size % GRANULE_BYTES) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	ranges[i].start = *ret = fake_new_address(size);
	ranges[i].size = size;
	ranges[i].mapped = false;
	LEAVE
}

static int range_of(CUdeviceptr p, size_t size, const char *where)
{
	for (int i = 0; i < RANGES_MAX; i++)
		if (ranges[i].size == size && ranges[i].start == p)
			return i;
	fake_die("not a reserved range of addresses", where);
}

CUresult CUDAAPI cuMemAddressFree(CUdeviceptr p, size_t size)
{
	ENTER(true)
	int i = range_of(p, size, __func__);
	if (ranges[i].mapped)
		fake_die("the addresses are still mapped", __func__);
	ranges[i].size = 0;
	LEAVE
}

CUresult CUDAAPI cuMemMap(CUdeviceptr p, size_t size, size_t offset, CUmemGenericAllocationHandle h,
			  unsigned long long flags)
{
	ENTER(true)
	int i = range_of(p, size, __func__);
	struct made *m = handle_of(h, __func__);
	if (ranges[i].mapped || size != m->size || offset) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	struct allocation *a = fake_new_allocation(__func__);
	*a = (struct allocation){.start = p, .size = size, .device = m->device, .handle = (int)h};
	a->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (a->host == MAP_FAILED)
		fake_die("out of address space", __func__);
	if (!fake.instant && !m->imported)
		memset(a->host, 0xd0, size < (1u << 20) ? size : (1u << 20));
	m->mapped++;
	ranges[i].mapped = true;
	LEAVE
}

CUresult CUDAAPI cuMemSetAccess(CUdeviceptr p, size_t size, const CUmemAccessDesc *desc, size_t count)
{
	ENTER(true)
	struct allocation *a = fake_find_allocation(p);
	if (!a || a->size != size || count != 1 || fake.visible[desc->location.id] != a->device ||
	    desc->flags == CU_MEM_ACCESS_FLAGS_PROT_NONE) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	a->accessible = true;
	a->read_only = desc->flags == CU_MEM_ACCESS_FLAGS_PROT_READ;
	LEAVE
}

/* The mapping goes; its slot is the caller's. */
void fake_vmm_unmapped(struct allocation *a)
{
	struct made *m = &handles[a->handle - 1];
	munmap(a->host, a->size);
	m->mapped--;
	drop_if_unused(m);
}

CUresult CUDAAPI cuMemUnmap(CUdeviceptr p, size_t size)
{
	ENTER(true)
	while (fake.pending_operations)
		pthread_cond_wait(&fake.changed, &fake.lock);
	struct allocation *a = fake_find_allocation(p);
	if (!a || !a->handle || a->size != size)
		fake_die("nothing is mapped there", __func__);
	fake_vmm_unmapped(a);
	a->size = 0;
	ranges[range_of(p, size, __func__)].mapped = false;
	LEAVE
}

bool fake_vmm_leaks(void)
{
	bool leak = false;
	for (int i = 0; i < HANDLES_MAX; i++)
		leak |= handles[i].size != 0;
	for (int i = 0; i < RANGES_MAX; i++)
		leak |= ranges[i].size != 0;
	return leak;
}

/* The context of a device is gone: its mappings were unmapped already (fake_memory_drop). */
void fake_vmm_drop(int device)
{
	for (int i = 0; i < HANDLES_MAX; i++)
		if (handles[i].size && handles[i].device == device) {
			handles[i].released = true;
			drop_if_unused(&handles[i]);
		}
	for (int i = 0; i < RANGES_MAX; i++)
		ranges[i].size = 0;
}
