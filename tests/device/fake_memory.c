/* SPDX-License-Identifier: MIT */
/* The double's memory: a file in /dev/shm for each allocation, mapped elsewhere than at its device addresses. */
#include "fake_cuda.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALLOCATIONS_MAX 4096
#define PINNED_MAX 64
#define RESERVED_BYTES (1ull << 38)
#define GRANULE_BYTES (2ull << 20)
#define SMALL_BYTES (1ull << 20) /* up to here allocations share blocks, as the driver has it */
#define BLOCKS_MAX 256

static struct allocation allocations[ALLOCATIONS_MAX];
static size_t allocation_count; /* highest slot ever used */
static unsigned int serial;     /* of names */
static size_t used_bytes[DEVICES_MAX];
static CUdeviceptr next_address;
/* GRANULE_BYTES each, that small allocations are parts of: handed out from the front, and gone with the last part. */
static struct block {
	unsigned char *host; /* NULL: free */
	CUdeviceptr start;
	char name[40];
	int device, parts;
	size_t used;
} blocks[BLOCKS_MAX];
static struct {
	unsigned char *start;
	size_t size;
} pinned[PINNED_MAX];

void fake_memory_init(void)
{
	/* addresses that nothing may follow */
	void *reserved = mmap(NULL, RESERVED_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		fake_die("out of address space", "cuInit");
	next_address = ((uintptr_t)reserved + GRANULE_BYTES) & ~(GRANULE_BYTES - 1);
}

bool fake_memory_leaks(void)
{
	bool leak = false;
	for (size_t i = 0; i < allocation_count; i++) {
		leak |= allocations[i].size != 0;
		if (allocations[i].size && !allocations[i].opened && !allocations[i].handle)
			shm_unlink(allocations[i].name);
	}
	for (int i = 0; i < PINNED_MAX; i++)
		leak |= pinned[i].size != 0;
	return leak;
}

unsigned char *fake_translate(CUdeviceptr p, size_t size, const char *where)
{
	for (size_t i = 0; i < allocation_count; i++) {
		struct allocation *a = &allocations[i];
		if (!a->size || p < a->start || p - a->start > a->size || size > a->size - (p - a->start))
			continue;
		if (!a->accessible)
			fake_die("memory that is mapped, but not for this device", where);
		return a->host + (p - a->start);
	}
	fake_die("an address outside every allocation", where);
}

bool fake_is_pinned(const void *p, size_t size)
{
	for (int i = 0; i < PINNED_MAX; i++) {
		const unsigned char *start = pinned[i].start;
		if (pinned[i].size && (const unsigned char *)p >= start &&
		    (const unsigned char *)p + size <= start + pinned[i].size)
			return true;
	}
	return false;
}

bool fake_is_writable(CUdeviceptr p)
{
	for (size_t i = 0; i < allocation_count; i++)
		if (allocations[i].size && p >= allocations[i].start && p - allocations[i].start < allocations[i].size)
			return !allocations[i].read_only;
	return true;
}

struct allocation *fake_new_allocation(const char *where)
{
	size_t i = 0;
	while (i < allocation_count && allocations[i].size)
		i++;
	if (i == ALLOCATIONS_MAX)
		fake_die("too many allocations: one slab was expected", where);
	allocation_count += i == allocation_count;
	return &allocations[i];
}

struct allocation *fake_find_allocation(CUdeviceptr start)
{
	for (size_t i = 0; i < allocation_count; i++)
		if (allocations[i].size && allocations[i].start == start)
			return &allocations[i];
	return NULL;
}

CUdeviceptr fake_new_address(size_t size)
{
	CUdeviceptr p = next_address;
	next_address += (size + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES + GRANULE_BYTES;
	return p;
}

size_t *fake_used_bytes(int device)
{
	return &used_bytes[device];
}

static unsigned char *map_file(int fd, size_t size)
{
	unsigned char *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (host == MAP_FAILED)
		fake_die("out of address space", "cuMemAlloc_v2");
	return host;
}

static unsigned char *new_file(char *name, size_t name_room, size_t size)
{
	snprintf(name, name_room, "/fake-cuda-%d-%u", (int)fake.owner, serial++);
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		fake_die("no shared memory", "cuMemAlloc_v2");
	return map_file(fd, size);
}

/* The block that has room for a part of that size. */
static int block_for(int device, size_t size)
{
	int i = 0, free_one = -1;
	for (; i < BLOCKS_MAX; i++) {
		if (blocks[i].host && blocks[i].device == device && size <= GRANULE_BYTES - blocks[i].used)
			return i;
		if (!blocks[i].host && free_one < 0)
			free_one = i;
	}
	if (free_one < 0)
		fake_die("too many small allocations", "cuMemAlloc_v2");
	struct block *b = &blocks[free_one];
	*b = (struct block){.device = device, .start = fake_new_address(GRANULE_BYTES)};
	b->host = new_file(b->name, sizeof b->name, GRANULE_BYTES);
	return free_one;
}

static void allocate(struct allocation *a, size_t size, int device)
{
	*a = (struct allocation){.size = size, .device = device, .accessible = true};
	if (size > SMALL_BYTES) {
		a->host = new_file(a->name, sizeof a->name, size);
		a->start = fake_new_address(size);
		a->name_size = size;
		return;
	}
	int k = block_for(device, size);
	struct block *b = &blocks[k];
	a->host = b->host + b->used;
	a->start = b->start + b->used;
	a->name_offset = b->used;
	a->name_size = GRANULE_BYTES;
	snprintf(a->name, sizeof a->name, "%s", b->name);
	a->block = k + 1;
	b->used += (size + 511) / 512 * 512;
	b->parts++;
}

static void release(struct allocation *a)
{
	struct block *b = a->block ? &blocks[a->block - 1] : NULL;
	used_bytes[a->device] -= a->size;
	if (!b) {
		munmap(a->host, a->size);
		shm_unlink(a->name);
	} else if (--b->parts == 0) {
		munmap(b->host, GRANULE_BYTES);
		shm_unlink(b->name);
		b->host = NULL;
	}
	a->size = 0;
}

void fake_memory_drop(int device)
{
	for (size_t i = 0; i < allocation_count; i++) {
		struct allocation *a = &allocations[i];
		if (!a->size || a->device != device)
			continue;
		if (a->handle)
			fake_vmm_unmapped(a);
		else if (a->opened)
			munmap(a->host - a->name_offset, a->name_size);
		else {
			release(a);
			continue;
		}
		a->size = 0;
	}
	for (int i = 0; i < PINNED_MAX; i++)
		pinned[i].size = 0; /* of whichever device: the double has one that pins */
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr *ret, size_t size)
{
	ENTER(true)
	int device = fake_current->device;
	if (size == 0) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	if (size > fake.device_memory - used_bytes[device]) {
		result = CUDA_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	struct allocation *a = fake_new_allocation(__func__);
	allocate(a, size, device);
	if (!fake.instant)
		memset(a->host, 0xd0, size < (1u << 20) ? size : (1u << 20)); /* content is undefined, not zero */
	used_bytes[device] += size;
	*ret = a->start;
	LEAVE
}

CUresult CUDAAPI cuMemFree(CUdeviceptr p)
{
	ENTER(true)
	while (fake.pending_operations) /* the real one waits for work that is under way, too */
		pthread_cond_wait(&fake.changed, &fake.lock);
	struct allocation *a = fake_find_allocation(p);
	if (!a || a->opened || a->handle)
		fake_die("freed twice, or never allocated", __func__);
	release(a);
	LEAVE
}

CUresult CUDAAPI cuMemGetInfo(size_t *ret_free, size_t *ret_total)
{
	ENTER(true)
	*ret_free = fake.device_memory - used_bytes[fake_current->device];
	*ret_total = fake.device_memory;
	LEAVE
}

CUresult CUDAAPI cuMemHostRegister(void *p, size_t size, unsigned int flags)
{
	ENTER(true)
	int i = 0;
	for (int k = 0; k < PINNED_MAX; k++)
		if (pinned[k].size && (unsigned char *)p < pinned[k].start + pinned[k].size &&
		    pinned[k].start < (unsigned char *)p + size) {
			result = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
			goto out;
		}
	while (i < PINNED_MAX && pinned[i].size)
		i++;
	if (i == PINNED_MAX)
		fake_die("too many pinned ranges: one ring was expected", __func__);
	if (fake.instant)
		madvise(p, size, MADV_POPULATE_WRITE); /* pinned pages are there, and count as the caller's memory */
	pinned[i].start = p;
	pinned[i].size = size;
	LEAVE
}

CUresult CUDAAPI cuMemHostUnregister(void *p)
{
	ENTER(true)
	int i = 0;
	while (i < PINNED_MAX && !(pinned[i].size && pinned[i].start == p))
		i++;
	if (i == PINNED_MAX)
		fake_die("not registered", __func__);
	pinned[i].size = 0;
	LEAVE
}

/* A handle: how large the file in /dev/shm is, where in it the allocation lies, and its name. */
struct ipc_handle {
	uint64_t file_size, offset, size;
	char name[40];
};
_Static_assert(sizeof(struct ipc_handle) == sizeof(CUipcMemHandle), "a handle");

CUresult CUDAAPI cuIpcGetMemHandle(CUipcMemHandle *ret, CUdeviceptr p)
{
	ENTER(true)
	struct ipc_handle handle = {0};
	for (size_t i = 0; i < allocation_count; i++) {
		struct allocation *a = &allocations[i];
		if (!a->size || p < a->start || p - a->start >= a->size || a->handle || a->opened)
			continue;
		handle = (struct ipc_handle){a->name_size, a->name_offset, a->size, ""};
		memcpy(handle.name, a->name, sizeof handle.name);
	}
	if (handle.size == 0)
		result = CUDA_ERROR_INVALID_VALUE;
	memcpy(ret->reserved, &handle, sizeof handle);
	LEAVE
}

/* What is opened is all of the block, whatever else lies in it; it stays when its owner frees it. */
CUresult CUDAAPI cuIpcOpenMemHandle(CUdeviceptr *ret, CUipcMemHandle raw, unsigned int flags)
{
	ENTER(true)
	struct ipc_handle handle;
	memcpy(&handle, raw.reserved, sizeof handle);
	handle.name[sizeof handle.name - 1] = '\0';
	for (size_t i = 0; i < allocation_count; i++) {
		struct allocation *known = &allocations[i];
		if (!known->size || strcmp(known->name, handle.name))
			continue;
		if (!known->opened) { /* one's own */
			result = CUDA_ERROR_INVALID_CONTEXT;
			goto out;
		}
		if (fake.ipc_once) {
			result = CUDA_ERROR_ALREADY_MAPPED;
			goto out;
		}
		if (known->name_offset != handle.offset)
			continue;
		known->opened++;
		*ret = known->start;
		goto out;
	}
	int fd = shm_open(handle.name, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	struct allocation *a = fake_new_allocation(__func__);
	*a = (struct allocation){.size = handle.size,
				 .name_size = handle.file_size,
				 .name_offset = handle.offset,
				 .opened = 1,
				 .device = fake_current->device,
				 .accessible = true};
	snprintf(a->name, sizeof a->name, "%s", handle.name);
	a->host = map_file(fd, handle.file_size) + handle.offset;
	a->start = fake_new_address(handle.file_size) + handle.offset;
	*ret = a->start;
	LEAVE
}

CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr p)
{
	ENTER(true)
	struct allocation *a = fake_find_allocation(p);
	if (!a || !a->opened)
		result = CUDA_ERROR_INVALID_VALUE;
	else if (--a->opened == 0) {
		munmap(a->host - a->name_offset, a->name_size);
		a->size = 0;
	}
	LEAVE
}
