/* A double of the CUDA driver, for machines without a GPU: libcuda.so.1 with the entry points that devices/cuda.c uses, under
 * their real versioned names, compiled against the toolkit's own cuda.h so that a wrong prototype does not compile.
 *
 * "Device" memory is a file in /dev/shm, mapped somewhere else than at its device addresses; those lie in a range reserved
 * without access, so that a host access to a device pointer faults, and an IPC handle (the file's name) really opens in a
 * second process. Every stream has a thread that executes its copies late and out of step with other streams. What a real
 * driver leaves undefined ends the process with a line on stderr: an address outside an allocation, a double free, a call
 * without a current context or after a fork, a pinned buffer changed while its copy was in flight, a leak at exit.
 *
 * FAKE_CUDA=devices=2,memory=64M,fail=cuMemAlloc_v2:3:2,delay=200,report=FILE
 *   fail=NAME:N:CODE   the Nth call of NAME returns CODE (several times, separated by ';')
 *   delay=USEC         a stream waits up to that long before each operation (default 50)
 *   report=FILE        at exit: a line "NAME CALLS" for each entry point, and bytes moved
 */
#include <cuda.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/gather_kernel.h"

void weightfs_gather(const struct dev_gather_args a); /* gather.cu, compiled for the host */

#define DEVICES_MAX 8
#define ALLOCATIONS_MAX 4096
#define PINNED_MAX 64
#define RESERVED_BYTES (1ull << 40)

struct allocation {
	CUdeviceptr start;
	size_t size;
	unsigned char *host;
	char name[40];
	int device;
	bool imported;
};

struct operation {
	enum { COPY_IN, COPY_OUT, RECORD, LAUNCH } kind;
	void *host;
	CUdeviceptr device;
	size_t size;
	uint64_t sum; /* of the source at submission */
	bool pinned;
	CUevent event;
	uint64_t event_generation;
	struct dev_gather_args gather;
	struct operation *next;
};

struct CUevent_st {
	uint64_t recorded, completed;
};

struct CUstream_st {
	pthread_t thread;
	struct operation *first, **last;
	bool busy, stop;
	unsigned int seed;
};

struct CUctx_st {
	int device, references;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct allocation allocations[ALLOCATIONS_MAX];
static size_t allocation_count;
static struct {
	unsigned char *start;
	size_t size;
} pinned[PINNED_MAX];
static struct CUctx_st contexts[DEVICES_MAX];
static size_t used_bytes[DEVICES_MAX];
static __thread CUcontext current;
static CUdeviceptr reserved, next_address;
static int device_count = 1;
static size_t device_memory = 256u << 20;
static unsigned int delay_usec = 50;
static pid_t owner;
static bool initialised;
static int stream_count, event_count, pending_operations;
static struct {
	char name[48];
	unsigned long at, code;
} failures[16];
static size_t failure_count;
static struct {
	const char *name;
	unsigned long calls;
} counters[64];
static unsigned long long bytes_in, bytes_out, pageable_copies;
static char report_path[256];

static void die(const char *what, const char *where)
{
	fprintf(stderr, "fake CUDA: %s: %s\n", where, what);
	_exit(99);
}

static void configure(void)
{
	const char *text = getenv("FAKE_CUDA");
	char copy[1024], *save, *failsave;
	snprintf(copy, sizeof copy, "%s", text ? text : "");
	for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		char *value = strchr(item, '=');
		if (!value)
			die("FAKE_CUDA is malformed", item);
		*value++ = '\0';
		if (!strcmp(item, "devices"))
			device_count = atoi(value);
		else if (!strcmp(item, "memory"))
			device_memory = strtoull(value, NULL, 10) << 20;
		else if (!strcmp(item, "delay"))
			delay_usec = (unsigned int)atoi(value);
		else if (!strcmp(item, "report"))
			snprintf(report_path, sizeof report_path, "%s", value);
		else if (!strcmp(item, "fail")) {
			for (char *f = strtok_r(value, ";", &failsave); f && failure_count < 16; f = strtok_r(NULL, ";", &failsave))
				if (sscanf(f, "%47[^:]:%lu:%lu", failures[failure_count].name, &failures[failure_count].at,
					   &failures[failure_count].code) == 3)
					failure_count++;
		} else {
			die("FAKE_CUDA has an unknown item", item);
		}
	}
}

static void at_exit(void)
{
	if (getpid() != owner)
		return;
	FILE *report = report_path[0] ? fopen(report_path, "w") : NULL;
	for (size_t i = 0; report && i < 64 && counters[i].name; i++)
		fprintf(report, "%s %lu\n", counters[i].name, counters[i].calls);
	if (report) {
		fprintf(report, "bytes_in %llu\nbytes_out %llu\npageable_copies %llu\n", bytes_in, bytes_out, pageable_copies);
		fclose(report);
	}
	bool leak = stream_count || event_count;
	for (size_t i = 0; i < allocation_count; i++) {
		leak |= allocations[i].size != 0;
		if (allocations[i].size && !allocations[i].imported)
			shm_unlink(allocations[i].name);
	}
	for (int i = 0; i < PINNED_MAX; i++)
		leak |= pinned[i].size != 0;
	for (int i = 0; i < DEVICES_MAX; i++)
		leak |= contexts[i].references != 0;
	if (leak && !getenv("FAKE_CUDA_NO_LEAK_CHECK"))
		die("memory, streams, events, pinned memory or a context are left at exit", "exit");
}

/* Counts the call; true and *ret when this one is to fail. The lock is held. */
static bool enter(const char *name, bool needs_context, CUresult *ret)
{
	if (strcmp(name, "cuInit") && strcmp(name, "cuGetErrorName")) {
		if (!initialised)
			die("called before cuInit", name);
		if (getpid() != owner)
			die("called in a child after fork", name);
	}
	if (needs_context && !current)
		die("no current context in this thread", name);
	size_t i = 0;
	while (i < 63 && counters[i].name && strcmp(counters[i].name, name))
		i++;
	counters[i].name = name;
	unsigned long n = ++counters[i].calls;
	for (size_t f = 0; f < failure_count; f++)
		if (failures[f].at == n && !strcmp(failures[f].name, name)) {
			*ret = (CUresult)failures[f].code;
			return true;
		}
	return false;
}

#define ENTER(needs_context)                                                                                           \
	CUresult result = CUDA_SUCCESS;                                                                                \
	pthread_mutex_lock(&lock);                                                                                     \
	if (enter(__func__, needs_context, &result))                                                                   \
		goto out;

#define LEAVE                                                                                                          \
out:                                                                                                                   \
	pthread_mutex_unlock(&lock);                                                                                   \
	return result;

/* Host view of device bytes [p, p + size); ends the process when they are not inside one allocation. */
static unsigned char *translate(CUdeviceptr p, size_t size, const char *where)
{
	for (size_t i = 0; i < allocation_count; i++) {
		struct allocation *a = &allocations[i];
		if (a->size && p >= a->start && p - a->start <= a->size && size <= a->size - (p - a->start))
			return a->host + (p - a->start);
	}
	die("an address outside every allocation", where);
	return NULL;
}

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

/* ---- streams ---- */

static void execute(struct operation *o)
{
	switch (o->kind) {
	case COPY_IN:
		if (sum(o->host, o->size) != o->sum)
			die("the source changed while its copy was in flight", "cuMemcpyHtoDAsync_v2");
		memcpy(translate(o->device, o->size, "cuMemcpyHtoDAsync_v2"), o->host, o->size);
		bytes_in += o->size;
		break;
	case COPY_OUT:
		memcpy(o->host, translate(o->device, o->size, "cuMemcpyDtoHAsync_v2"), o->size);
		bytes_out += o->size;
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
	pthread_mutex_lock(&lock);
	for (;;) {
		while (!s->first && !s->stop)
			pthread_cond_wait(&changed, &lock);
		if (!s->first)
			break;
		struct operation *o = s->first;
		s->busy = true;
		pthread_mutex_unlock(&lock);
		if (delay_usec)
			usleep((unsigned int)rand_r(&s->seed) % delay_usec);
		pthread_mutex_lock(&lock);
		execute(o);
		s->first = o->next;
		if (!s->first)
			s->last = &s->first;
		s->busy = false;
		pending_operations--;
		free(o);
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void submit(CUstream s, struct operation o)
{
	struct operation *copy = malloc(sizeof *copy);
	*copy = o;
	copy->next = NULL;
	*s->last = copy;
	pending_operations++;
	s->last = &copy->next;
	pthread_cond_broadcast(&changed);
}

static bool is_pinned(const void *p, size_t size)
{
	for (int i = 0; i < PINNED_MAX; i++) {
		const unsigned char *start = pinned[i].start;
		if (pinned[i].size && (const unsigned char *)p >= start && (const unsigned char *)p + size <= start + pinned[i].size)
			return true;
	}
	pageable_copies++;
	return false;
}

CUresult CUDAAPI cuStreamCreate(CUstream *ret, unsigned int flags)
{
	ENTER(true)
	CUstream s = calloc(1, sizeof *s);
	s->last = &s->first;
	s->seed = (unsigned int)stream_count++;
	pthread_create(&s->thread, NULL, stream_thread, s);
	*ret = s;
	LEAVE
}

CUresult CUDAAPI cuStreamSynchronize(CUstream s)
{
	ENTER(true)
	while (s->first || s->busy)
		pthread_cond_wait(&changed, &lock);
	LEAVE
}

CUresult CUDAAPI cuStreamDestroy(CUstream s)
{
	pthread_t thread = s->thread;
	ENTER(true)
	s->stop = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	pthread_mutex_lock(&lock);
	stream_count--;
	free(s);
	LEAVE
}

CUresult CUDAAPI cuEventCreate(CUevent *ret, unsigned int flags)
{
	ENTER(true)
	*ret = calloc(1, sizeof **ret);
	event_count++;
	LEAVE
}

CUresult CUDAAPI cuEventRecord(CUevent e, CUstream s)
{
	ENTER(true)
	submit(s, (struct operation){ .kind = RECORD, .event = e, .event_generation = ++e->recorded });
	LEAVE
}

CUresult CUDAAPI cuEventSynchronize(CUevent e)
{
	ENTER(true)
	while (e->completed < e->recorded)
		pthread_cond_wait(&changed, &lock);
	LEAVE
}

CUresult CUDAAPI cuEventDestroy(CUevent e)
{
	ENTER(true)
	event_count--;
	free(e);
	LEAVE
}

CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t size, CUstream s)
{
	ENTER(true)
	translate(dst, size, __func__);
	submit(s, (struct operation){ .kind = COPY_IN, .host = (void *)src, .device = dst, .size = size, .sum = sum(src, size),
				      .pinned = is_pinned(src, size) });
	LEAVE
}

CUresult CUDAAPI cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t size, CUstream s)
{
	ENTER(true)
	translate(src, size, __func__);
	memset(dst, 0xdb, size); /* what a reader sees that does not wait */
	submit(s, (struct operation){ .kind = COPY_OUT, .host = dst, .device = src, .size = size, .pinned = is_pinned(dst, size) });
	LEAVE
}

/* ---- memory ---- */

static void map_allocation(struct allocation *a, int fd)
{
	a->host = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (a->host == MAP_FAILED)
		die("out of address space", "cuMemAlloc_v2");
	a->start = next_address;
	next_address += (a->size + (2u << 20) - 1) / (2u << 20) * (2u << 20) + (2u << 20);
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr *ret, size_t size)
{
	ENTER(true)
	int device = current->device;
	if (size == 0) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	if (size > device_memory - used_bytes[device]) {
		result = CUDA_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	if (allocation_count == ALLOCATIONS_MAX)
		die("too many allocations: one slab was expected", __func__);
	struct allocation *a = &allocations[allocation_count];
	*a = (struct allocation){ .size = size, .device = device };
	snprintf(a->name, sizeof a->name, "/fake-cuda-%d-%zu", (int)owner, allocation_count);
	int fd = shm_open(a->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		die("no shared memory", __func__);
	map_allocation(a, fd);
	memset(a->host, 0xd0, size < (1u << 20) ? size : (1u << 20)); /* content is undefined, not zero */
	allocation_count++;
	used_bytes[device] += size;
	*ret = a->start;
	LEAVE
}

CUresult CUDAAPI cuMemFree(CUdeviceptr p)
{
	ENTER(true)
	while (pending_operations) /* the real one waits for work that is under way, too */
		pthread_cond_wait(&changed, &lock);
	struct allocation *a = NULL;
	for (size_t i = 0; i < allocation_count; i++)
		if (allocations[i].size && allocations[i].start == p)
			a = &allocations[i];
	if (!a || a->imported)
		die("freed twice, or never allocated", __func__);
	munmap(a->host, a->size);
	shm_unlink(a->name);
	used_bytes[a->device] -= a->size;
	a->size = 0;
	LEAVE
}

CUresult CUDAAPI cuMemGetInfo(size_t *ret_free, size_t *ret_total)
{
	ENTER(true)
	*ret_free = device_memory - used_bytes[current->device];
	*ret_total = device_memory;
	LEAVE
}

CUresult CUDAAPI cuMemHostRegister(void *p, size_t size, unsigned int flags)
{
	ENTER(true)
	int i = 0;
	while (i < PINNED_MAX && pinned[i].size)
		i++;
	if (i == PINNED_MAX)
		die("too many pinned ranges: one ring was expected", __func__);
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
		die("not registered", __func__);
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
	struct allocation *a = &allocations[allocation_count];
	*a = (struct allocation){ .imported = true, .device = current->device };
	memcpy(&a->size, handle.reserved, sizeof a->size);
	snprintf(a->name, sizeof a->name, "%.39s", handle.reserved + 8);
	int fd = shm_open(a->name, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0) {
		a->size = 0;
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	map_allocation(a, fd);
	allocation_count++;
	*ret = a->start;
	LEAVE
}

CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr p)
{
	ENTER(true)
	for (size_t i = 0; i < allocation_count; i++)
		if (allocations[i].size && allocations[i].imported && allocations[i].start == p) {
			munmap(allocations[i].host, allocations[i].size);
			allocations[i].size = 0;
			goto out;
		}
	result = CUDA_ERROR_INVALID_VALUE;
	LEAVE
}

/* ---- kernels ---- */

CUresult CUDAAPI cuModuleLoadData(CUmodule *ret, const void *image)
{
	ENTER(true)
	/* a fat binary begins with this number (fatbinary_section.h's content); anything else is no image */
	if (!image || *(const unsigned int *)image != 0xba55ed50) {
		result = CUDA_ERROR_INVALID_IMAGE;
		goto out;
	}
	*ret = (CUmodule)&contexts;
	LEAVE
}

CUresult CUDAAPI cuModuleUnload(CUmodule m)
{
	ENTER(true)
	LEAVE
}

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

CUresult CUDAAPI cuLaunchKernel(CUfunction f, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
				unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, CUstream s, void **parameters,
				void **extra)
{
	ENTER(true)
	if (f != (CUfunction)&weightfs_gather || !grid_x || !grid_y || !grid_z || !block_x || block_x * block_y * block_z > 1024) {
		result = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	struct dev_gather_args a = *(struct dev_gather_args *)parameters[0];
	uint64_t last = 0;
	for (unsigned int d = 0; d < a.ndim; d++)
		last += (a.shape[d] - 1) * a.stride_elems[d];
	a.source = (uintptr_t)translate(a.source, (last + 1) * a.element_bytes, __func__);
	a.destination = (uintptr_t)translate(a.destination, a.n_elems * a.element_bytes, __func__);
	submit(s, (struct operation){ .kind = LAUNCH, .gather = a });
	LEAVE
}

/* ---- devices and contexts ---- */

CUresult CUDAAPI cuInit(unsigned int flags)
{
	ENTER(false)
	if (!initialised) {
		owner = getpid();
		configure();
		/* addresses that nothing may follow */
		reserved = (uintptr_t)mmap(NULL, RESERVED_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		next_address = (reserved + (2u << 20)) & ~(CUdeviceptr)((2u << 20) - 1);
		atexit(at_exit);
		initialised = true;
	}
	LEAVE
}

CUresult CUDAAPI cuDriverGetVersion(int *ret)
{
	ENTER(false)
	*ret = CUDA_VERSION;
	LEAVE
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char **ret)
{
	*ret = error == CUDA_ERROR_OUT_OF_MEMORY	 ? "CUDA_ERROR_OUT_OF_MEMORY"
	       : error == CUDA_ERROR_NO_DEVICE		 ? "CUDA_ERROR_NO_DEVICE"
	       : error == CUDA_ERROR_INVALID_VALUE	 ? "CUDA_ERROR_INVALID_VALUE"
	       : error == CUDA_ERROR_ILLEGAL_ADDRESS	 ? "CUDA_ERROR_ILLEGAL_ADDRESS"
	       : error == CUDA_ERROR_STUB_LIBRARY	 ? "CUDA_ERROR_STUB_LIBRARY"
	       : error == CUDA_ERROR_DEVICE_UNAVAILABLE ? "CUDA_ERROR_DEVICE_UNAVAILABLE"
							 : "CUDA_ERROR_UNKNOWN";
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetCount(int *ret)
{
	ENTER(false)
	*ret = device_count;
	LEAVE
}

CUresult CUDAAPI cuDeviceGet(CUdevice *ret, int ordinal)
{
	ENTER(false)
	if (ordinal < 0 || ordinal >= device_count)
		result = CUDA_ERROR_INVALID_DEVICE;
	else
		*ret = ordinal;
	LEAVE
}

CUresult CUDAAPI cuDeviceGetName(char *ret, int len, CUdevice d)
{
	ENTER(false)
	snprintf(ret, (size_t)len, "Double of a GPU, number %d", d);
	LEAVE
}

CUresult CUDAAPI cuDeviceGetUuid(CUuuid *ret, CUdevice d)
{
	ENTER(false)
	memset(ret, 0x11 * (d + 1), sizeof *ret);
	LEAVE
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *ret, CUdevice d)
{
	ENTER(false)
	contexts[d].device = d;
	contexts[d].references++;
	*ret = &contexts[d];
	LEAVE
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice d)
{
	ENTER(false)
	if (contexts[d].references-- <= 0)
		die("released more often than retained", __func__);
	LEAVE
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext c)
{
	ENTER(false)
	current = c;
	LEAVE
}

/* ---- looking entry points up: by name without version, as the driver does ---- */

CUresult CUDAAPI cuGetProcAddress(const char *symbol, void **ret, int version, cuuint64_t flags,
				  CUdriverProcAddressQueryResult *status)
{
#define ENTRY(name) { #name, (void *)name }
	static const struct {
		const char *name;
		void *function;
	} table[] = {
		ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuGetErrorName), ENTRY(cuDeviceGet), ENTRY(cuDeviceGetCount),
		ENTRY(cuDeviceGetName), ENTRY(cuDeviceGetUuid), ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuDevicePrimaryCtxRelease),
		ENTRY(cuCtxSetCurrent), ENTRY(cuMemGetInfo), ENTRY(cuMemAlloc), ENTRY(cuMemFree), ENTRY(cuMemHostRegister),
		ENTRY(cuMemHostUnregister), ENTRY(cuMemcpyHtoDAsync), ENTRY(cuMemcpyDtoHAsync), ENTRY(cuStreamCreate),
		ENTRY(cuStreamSynchronize), ENTRY(cuStreamDestroy), ENTRY(cuEventCreate), ENTRY(cuEventRecord),
		ENTRY(cuEventSynchronize), ENTRY(cuEventDestroy), ENTRY(cuIpcGetMemHandle), ENTRY(cuIpcOpenMemHandle),
		ENTRY(cuIpcCloseMemHandle), ENTRY(cuModuleLoadData), ENTRY(cuModuleUnload), ENTRY(cuModuleGetFunction),
		ENTRY(cuLaunchKernel),
	};
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		/* the macros of cuda.h turn cuMemAlloc into cuMemAlloc_v2 here, too: compare without the version */
		size_t n = strlen(symbol);
		if (!strncmp(table[i].name, symbol, n) && (!table[i].name[n] || !strncmp(table[i].name + n, "_v", 2))) {
			*ret = table[i].function;
			if (status)
				*status = CU_GET_PROC_ADDRESS_SUCCESS;
			return CUDA_SUCCESS;
		}
	}
	*ret = NULL;
	if (status)
		*status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	return CUDA_ERROR_NOT_FOUND;
}
