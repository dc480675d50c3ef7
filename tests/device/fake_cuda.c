/* SPDX-License-Identifier: MIT */
/* A double of the CUDA driver, for machines without a GPU: libcuda.so.1 with the entry points that devices/cuda.c uses,
 * under their real versioned names, compiled against the toolkit's own cuda.h so that a wrong prototype does not
 * compile.
 *
 * "Device" memory is a file in /dev/shm, mapped somewhere else than at its device addresses; those lie in a range
 * reserved without access, so that a host access to a device pointer faults, and an IPC handle (the file's name) really
 * opens in a second process. Every stream has a thread that executes its copies late and out of step with other
 * streams. What a real driver leaves undefined ends the process with a line on stderr: an address outside an
 * allocation, a double free, a call without a current context or after a fork, a pinned buffer changed while its copy
 * was in flight, a leak at exit.
 *
 * FAKE_CUDA=devices=2,memory=64M,fail=cuMemAlloc_v2:3:2,delay=200,report=FILE
 *   fail=NAME:N:CODE   the Nth call of NAME returns CODE (several times, separated by ';'); after one that a context does
 *                      not survive every call gives it, until the context is released and made anew; after 700 in every context
 *   vmm=0              memory cannot be made by steps (cuMemCreate)
 *   ipc_once=1         a block of memory is opened once in a process, as older drivers want it
 *   arch=80            kernels need code for that architecture, or an older one's PTX
 *   cost=USEC          each call takes that long
 *   delay=USEC         a stream waits up to that long before each operation (default 50)
 *   instant=1          copies and kernels do nothing and take no time, and an event is over when it is recorded: what
 * is left is the caller's own cost report=FILE        at exit: a line "NAME CALLS" for each entry point, and bytes
 * moved
 *
 * fake_cuda.c has devices, contexts, settings and what is counted; fake_memory.c allocations, pinned ranges and IPC
 * handles; fake_streams.c streams, events, copies and kernels.
 */
#include "fake_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct fake fake = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.device_count = 1,
	.device_memory = 256u << 20,
	.delay_usec = 50,
};
__thread CUcontext fake_current;

static struct {
	char name[48];
	unsigned long at, code;
} failures[16];
static size_t failure_count;
static struct {
	const char *name;
	unsigned long calls;
} counters[64];
static char report_path[256];

_Noreturn void fake_die(const char *what, const char *where)
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
			fake_die("FAKE_CUDA is malformed", item);
		*value++ = '\0';
		if (!strcmp(item, "devices"))
			fake.device_count = atoi(value);
		else if (!strcmp(item, "memory"))
			fake.device_memory = strtoull(value, NULL, 10) << 20;
		else if (!strcmp(item, "delay"))
			fake.delay_usec = (unsigned int)atoi(value);
		else if (!strcmp(item, "ipc_once"))
			fake.ipc_once = atoi(value) != 0;
		else if (!strcmp(item, "vmm"))
			fake.no_vmm = atoi(value) == 0;
		else if (!strcmp(item, "arch"))
			fake.arch = atoi(value);
		else if (!strcmp(item, "cost"))
			fake.cost_usec = (unsigned int)atoi(value);
		else if (!strcmp(item, "instant"))
			fake.instant = atoi(value) != 0;
		else if (!strcmp(item, "report"))
			snprintf(report_path, sizeof report_path, "%s", value);
		else if (!strcmp(item, "fail")) {
			for (char *f = strtok_r(value, ";", &failsave); f && failure_count < 16;
			     f = strtok_r(NULL, ";", &failsave))
				if (sscanf(f, "%47[^:]:%lu:%lu", failures[failure_count].name,
					   &failures[failure_count].at, &failures[failure_count].code) == 3)
					failure_count++;
		} else {
			fake_die("FAKE_CUDA has an unknown item", item);
		}
	}
}

static void at_exit(void)
{
	if (getpid() != fake.owner)
		return;
	FILE *report = report_path[0] ? fopen(report_path, "w") : NULL;
	for (size_t i = 0; report && i < 64 && counters[i].name; i++)
		fprintf(report, "%s %lu\n", counters[i].name, counters[i].calls);
	if (report) {
		fprintf(report, "bytes_in %llu\nbytes_out %llu\npageable_copies %llu\n", fake.bytes_in, fake.bytes_out,
			fake.pageable_copies);
		fclose(report);
	}
	bool leak = fake_memory_leaks() | fake_vmm_leaks() || fake_vmm_leaks() || fake.streams || fake.events;
	for (int i = 0; i < DEVICES_MAX; i++)
		leak |= fake.contexts[i].references != 0;
	if (leak && !getenv("FAKE_CUDA_NO_LEAK_CHECK"))
		fake_die("memory, streams, events, pinned memory or a context are left at exit", "exit");
}

static bool is_fatal(CUresult r)
{
	return r == CUDA_ERROR_ILLEGAL_ADDRESS || r == CUDA_ERROR_LAUNCH_FAILED || r == CUDA_ERROR_ECC_UNCORRECTABLE;
}

static void spend(unsigned int usec)
{
	struct timespec start, t;
	clock_gettime(CLOCK_MONOTONIC, &start);
	do
		clock_gettime(CLOCK_MONOTONIC, &t);
	while ((t.tv_sec - start.tv_sec) * 1000000 + (t.tv_nsec - start.tv_nsec) / 1000 < (long)usec);
}

bool fake_enter(const char *name, bool needs_context, CUresult *ret)
{
	if (strcmp(name, "cuInit") && strcmp(name, "cuDriverGetVersion")) {
		if (!fake.initialised)
			fake_die("called before cuInit", name);
		if (getpid() != fake.owner)
			fake_die("called in a child after fork", name);
	}
	if (needs_context && !fake_current)
		fake_die("no current context in this thread", name);
	size_t i = 0;
	while (i < 63 && counters[i].name && strcmp(counters[i].name, name))
		i++;
	counters[i].name = name;
	if (fake.cost_usec)
		spend(fake.cost_usec);
	unsigned long n = ++counters[i].calls;
	for (size_t f = 0; f < failure_count; f++)
		if (failures[f].at == n && !strcmp(failures[f].name, name)) {
			*ret = (CUresult)failures[f].code;
			if (needs_context && is_fatal(*ret))
				fake_current->poison = *ret;
			if (needs_context && *ret == CUDA_ERROR_ILLEGAL_ADDRESS)
				fake.dead =
					*ret; /* as on an H200 with driver 580: a new context of this process gives it again */
			return true;
		}
	if (needs_context && (fake_current->poison || fake.dead)) {
		*ret = fake_current->poison ? fake_current->poison : fake.dead;
		return true;
	}
	return false;
}

/* ---- devices and contexts ---- */

/* "1,0", or UUIDs as far as they are given ("GPU-2222"): which devices there are, and in which order. */
static void see_devices(void)
{
	const char *text = getenv("CUDA_VISIBLE_DEVICES");
	int all = fake.device_count, n = 0;
	for (int i = 0; i < DEVICES_MAX; i++)
		fake.visible[i] = i;
	if (!text)
		return;
	while (*text && n < DEVICES_MAX) {
		unsigned int byte;
		int device = sscanf(text, "GPU-%2x", &byte) == 1 ? (int)(byte / 0x11) - 1 : atoi(text);
		if (device < 0 || device >= all)
			break;
		fake.visible[n++] = device;
		text += strcspn(text, ",");
		text += *text == ',';
	}
	fake.device_count = n;
}

CUresult CUDAAPI cuInit(unsigned int flags)
{
	ENTER(false)
	if (!fake.initialised) {
		fake.owner = getpid();
		configure();
		see_devices();
		fake_memory_init();
		atexit(at_exit);
		fake.initialised = true;
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
	*ret = error == CUDA_ERROR_OUT_OF_MEMORY                    ? "CUDA_ERROR_OUT_OF_MEMORY"
	       : error == CUDA_ERROR_NO_DEVICE                      ? "CUDA_ERROR_NO_DEVICE"
	       : error == CUDA_ERROR_INVALID_VALUE                  ? "CUDA_ERROR_INVALID_VALUE"
	       : error == CUDA_ERROR_ILLEGAL_ADDRESS                ? "CUDA_ERROR_ILLEGAL_ADDRESS"
	       : error == CUDA_ERROR_LAUNCH_FAILED                  ? "CUDA_ERROR_LAUNCH_FAILED"
	       : error == CUDA_ERROR_STUB_LIBRARY                   ? "CUDA_ERROR_STUB_LIBRARY"
	       : error == CUDA_ERROR_NOT_SUPPORTED                  ? "CUDA_ERROR_NOT_SUPPORTED"
	       : error == CUDA_ERROR_ALREADY_MAPPED                 ? "CUDA_ERROR_ALREADY_MAPPED"
	       : error == CUDA_ERROR_NO_BINARY_FOR_GPU              ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
	       : error == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED ? "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"
	       : error == CUDA_ERROR_ECC_UNCORRECTABLE              ? "CUDA_ERROR_ECC_UNCORRECTABLE"
	       : error == CUDA_ERROR_DEVICE_UNAVAILABLE             ? "CUDA_ERROR_DEVICE_UNAVAILABLE"
								    : "CUDA_ERROR_UNKNOWN";
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetCount(int *ret)
{
	ENTER(false)
	*ret = fake.device_count;
	LEAVE
}

CUresult CUDAAPI cuDeviceGet(CUdevice *ret, int ordinal)
{
	ENTER(false)
	if (ordinal < 0 || ordinal >= fake.device_count)
		result = CUDA_ERROR_INVALID_DEVICE;
	else
		*ret = ordinal;
	LEAVE
}

CUresult CUDAAPI cuDeviceGetName(char *ret, int len, CUdevice d)
{
	ENTER(false)
	snprintf(ret, (size_t)len, "Double of a GPU, number %d", fake.visible[d]);
	LEAVE
}

CUresult CUDAAPI cuDeviceGetUuid(CUuuid *ret, CUdevice d)
{
	ENTER(false)
	memset(ret, 0x11 * (fake.visible[d] + 1), sizeof *ret);
	LEAVE
}

CUresult CUDAAPI cuDeviceGetPCIBusId(char *ret, int len, CUdevice d)
{
	ENTER(false)
	snprintf(ret, (size_t)len, "0000:00:%02X.0", fake.visible[d]);
	LEAVE
}

CUresult CUDAAPI cuDevicePrimaryCtxSetFlags(CUdevice d, unsigned int flags)
{
	ENTER(false)
	if (flags > CU_CTX_FLAGS_MASK)
		result = CUDA_ERROR_INVALID_VALUE;
	LEAVE
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *ret, CUdevice d)
{
	ENTER(false)
	struct CUctx_st *c = &fake.contexts[fake.visible[d]];
	c->device = fake.visible[d];
	c->references++;
	*ret = c;
	LEAVE
}

/* With the last reference a context that has failed goes, and all that was in it; from a sound one everything must be gone. */
CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice d)
{
	ENTER(false)
	struct CUctx_st *c = &fake.contexts[fake.visible[d]];
	if (c->references-- <= 0)
		fake_die("released more often than retained", __func__);
	if (c->references == 0 && (c->poison || fake.dead)) {
		pthread_mutex_unlock(&fake.lock);
		fake_streams_drop(c);
		pthread_mutex_lock(&fake.lock);
		fake_memory_drop(c->device);
		fake_vmm_drop(c->device);
		c->poison = CUDA_SUCCESS;
	}
	LEAVE
}

CUresult CUDAAPI cuDevicePrimaryCtxReset(CUdevice d)
{
	ENTER(false)
	if (fake.contexts[fake.visible[d]].references)
		fake_die("a context that is in use was reset", __func__);
	LEAVE
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext c)
{
	ENTER(false)
	fake_current = c;
	LEAVE
}

/* ---- looking entry points up: by name without version, as the driver does ---- */

CUresult CUDAAPI cuGetProcAddress(const char *symbol, void **ret, int version, cuuint64_t flags,
				  CUdriverProcAddressQueryResult *status)
{
#define ENTRY(name)                 \
	{                           \
#name, (void *)name \
	}
	static const struct {
		const char *name;
		void *function;
	} table[] = {
		ENTRY(cuInit),
		ENTRY(cuDriverGetVersion),
		ENTRY(cuGetErrorName),
		ENTRY(cuDeviceGet),
		ENTRY(cuDeviceGetCount),
		ENTRY(cuDeviceGetName),
		ENTRY(cuDeviceGetUuid),
		ENTRY(cuDevicePrimaryCtxRetain),
		ENTRY(cuDevicePrimaryCtxRelease),
		ENTRY(cuDevicePrimaryCtxSetFlags),
		ENTRY(cuDevicePrimaryCtxReset),
		ENTRY(cuDeviceGetPCIBusId),
		ENTRY(cuMemGetAllocationGranularity),
		ENTRY(cuMemCreate),
		ENTRY(cuMemRelease),
		ENTRY(cuMemAddressReserve),
		ENTRY(cuMemAddressFree),
		ENTRY(cuMemMap),
		ENTRY(cuMemUnmap),
		ENTRY(cuMemSetAccess),
		ENTRY(cuMemExportToShareableHandle),
		ENTRY(cuMemImportFromShareableHandle),
		ENTRY(cuCtxSynchronize),
		ENTRY(cuCtxSetCurrent),
		ENTRY(cuMemGetInfo),
		ENTRY(cuMemAlloc),
		ENTRY(cuMemFree),
		ENTRY(cuMemHostRegister),
		ENTRY(cuMemHostUnregister),
		ENTRY(cuMemcpyDtoH),
		ENTRY(cuMemcpyHtoDAsync),
		ENTRY(cuMemcpyDtoHAsync),
		ENTRY(cuMemcpyDtoDAsync),
		ENTRY(cuStreamCreate),
		ENTRY(cuStreamSynchronize),
		ENTRY(cuStreamDestroy),
		ENTRY(cuEventCreate),
		ENTRY(cuEventRecord),
		ENTRY(cuEventQuery),
		ENTRY(cuEventSynchronize),
		ENTRY(cuEventDestroy),
		ENTRY(cuIpcGetMemHandle),
		ENTRY(cuIpcOpenMemHandle),
		ENTRY(cuIpcCloseMemHandle),
		ENTRY(cuModuleLoadData),
		ENTRY(cuModuleUnload),
		ENTRY(cuModuleGetFunction),
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
