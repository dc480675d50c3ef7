/* The double's memory: a file in /dev/shm for each allocation, mapped elsewhere than at its device addresses. */
#include "fake_cuda.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALLOCATIONS_MAX 4096
#define PINNED_MAX 64
#define RESERVED_BYTES (1ull << 40)
#define GRANULE_BYTES (2ull << 20)

struct allocation {
	CUdeviceptr start;
	size_t size;
	unsigned char *host;
	char name[40];
	int device;
	unsigned int opened; /* how often, where it is another process's */
};

static struct allocation allocations[ALLOCATIONS_MAX];
static size_t allocation_count; /* highest slot ever used */
static unsigned int serial;     /* of names */
static size_t used_bytes[DEVICES_MAX];
static CUdeviceptr next_address;
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
		if (allocations[i].size && !allocations[i].opened)
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
		if (a->size && p >= a->start && p - a->start <= a->size && size <= a->size - (p - a->start))
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

/* A free slot: an allocation is one while it has a size. */
static struct allocation *new_allocation(const char *where)
{
	size_t i = 0;
	while (i < allocation_count && allocations[i].size)
		i++;
	if (i == ALLOCATIONS_MAX)
		fake_die("too many allocations: one slab was expected", where);
	allocation_count += i == allocation_count;
	return &allocations[i];
}

static void map_allocation(struct allocation *a, int fd)
{
	a->host = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (a->host == MAP_FAILED)
		fake_die("out of address space", "cuMemAlloc_v2");
	a->start = next_address;
	next_address += (a->size + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES + GRANULE_BYTES;
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
	struct allocation *a = new_allocation(__func__);
	*a = (struct allocation){.size = size, .device = device};
	snprintf(a->name, sizeof a->name, "/fake-cuda-%d-%u", (int)fake.owner, serial++);
	int fd = shm_open(a->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		fake_die("no shared memory", __func__);
	map_allocation(a, fd);
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
	struct allocation *a = NULL;
	for (size_t i = 0; i < allocation_count; i++)
		if (allocations[i].size && allocations[i].start == p)
			a = &allocations[i];
	if (!a || a->opened)
		fake_die("freed twice, or never allocated", __func__);
	munmap(a->host, a->size);
	shm_unlink(a->name);
	used_bytes[a->device] -= a->size;
	a->size = 0;
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

CUresult CUDAAPI cuIpcGetMemHandle(CUipcMemHandle *ret, CUdeviceptr p)
{
	ENTER(true)
	memset(ret, 0, sizeof *ret);
	for (size_t i = 0; i < allocation_count; i++)
		if (allocations[i].size && allocations[i].start == p) {
			memcpy(ret->reserved, &allocations[i].size, sizeof allocations[i].size);
			snprintf(ret->reserved + 8, sizeof ret->reserved - 8, "%s", allocations[i].name);
			goto out;
		}
	result = CUDA_ERROR_INVALID_VALUE;
	LEAVE
}

CUresult CUDAAPI cuIpcOpenMemHandle(CUdeviceptr *ret, CUipcMemHandle handle, unsigned int flags)
{
	ENTER(true)
	struct allocation a = {.opened = 1, .device = fake_current->device};
	memcpy(&a.size, handle.reserved, sizeof a.size);
	snprintf(a.name, sizeof a.name, "%.39s", handle.reserved + 8);
	for (size_t i = 0; i < allocation_count; i++) {
		struct allocation *known = &allocations[i];
		if (!known->size || strcmp(known->name, a.name))
			continue;
		if (!known->opened) { /* one's own */
			result = CUDA_ERROR_INVALID_CONTEXT;
			goto out;
		}
		known->opened++;
		*ret = known->start;
		goto out;
	}
	int fd = shm_open(a.name, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	map_allocation(&a, fd);
	*new_allocation(__func__) = a;
	*ret = a.start;
	LEAVE
}

CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr p)
{
	ENTER(true)
	for (size_t i = 0; i < allocation_count; i++)
		if (allocations[i].size && allocations[i].opened && allocations[i].start == p) {
			if (--allocations[i].opened == 0) {
				munmap(allocations[i].host, allocations[i].size);
				allocations[i].size = 0;
			}
			goto out;
		}
	result = CUDA_ERROR_INVALID_VALUE;
	LEAVE
}
