/* SPDX-License-Identifier: MIT */
/* The CUDA driver, loaded at run time: one binary that runs with and without a GPU.
 *
 * libcuda.so.1 is opened when the first device is asked for, never linked. Entry points come through cuGetProcAddress
 * where the driver has it (CUDA 11.3 and newer), else by their versioned names; the table below holds exactly those
 * that are called. The types are the driver's ABI, written down here so that the build needs no toolkit; where cuda.h
 * is installed the tests compile every row of the table against it (tests/device/abi.c).
 *
 * What is no GPU: no library, the toolkit's stub library (cuInit gives CUDA_ERROR_STUB_LIBRARY), no device.
 * CUDA does not survive a fork: nothing here may run before the daemon has forked.
 *
 * Threads: dev_cuda_driver_load may be called from several; the table is immutable afterwards.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef int cu_result;
typedef int cu_device;
typedef unsigned long long cu_deviceptr;
typedef struct CUctx_st *cu_context;
typedef struct CUstream_st *cu_stream;
typedef struct CUevent_st *cu_event;
typedef struct CUmod_st *cu_module;
typedef struct CUfunc_st *cu_function;

struct cu_uuid {
	char bytes[16];
};

struct cu_ipc_mem_handle {
	char reserved[64];
};

typedef unsigned long long cu_vmm_handle;

/* Memory that is made, mapped and exported in separate steps. */
enum cu_handle_type { CU_HANDLE_TYPE_NONE = 0, CU_HANDLE_TYPE_POSIX_FD = 1 };
enum cu_granularity { CU_GRANULARITY_MINIMUM = 0 };
struct cu_location {
	int type; /* 1: a device */
	int id;
};
struct cu_allocation_prop {
	int type; /* 1: pinned */
	int handle_types;
	struct cu_location location;
	void *win32_meta_data;
	struct {
		unsigned char compression, rdma;
		unsigned short usage;
		unsigned char reserved[4];
	} flags;
};
struct cu_access_desc {
	struct cu_location location;
	int flags; /* 1: read, 3: read and write */
};

#define CU_SUCCESS 0
#define CU_ERROR_OUT_OF_MEMORY 2
#define CU_ERROR_STUB_LIBRARY 34
#define CU_ERROR_NO_DEVICE 100
#define CU_ERROR_NOT_READY 600
#define CU_ERROR_NOT_SUPPORTED 801
#define CU_STREAM_NON_BLOCKING 1u
#define CU_CTX_SCHED_BLOCKING_SYNC 4u
#define CU_EVENT_DISABLE_TIMING 2u

/* member, exported name (the version whose signature this is), parameters */
#define DEV_CUDA_FUNCTIONS(F)                                                                                     \
	F(init, cuInit, (unsigned int flags))                                                                     \
	F(driver_version, cuDriverGetVersion, (int *ret))                                                         \
	F(error_name, cuGetErrorName, (cu_result error, const char **ret))                                        \
	F(device_get, cuDeviceGet, (cu_device * ret, int ordinal))                                                \
	F(get_device_count, cuDeviceGetCount, (int *ret))                                                         \
	F(device_name, cuDeviceGetName, (char *ret, int len, cu_device d))                                        \
	F(device_uuid, cuDeviceGetUuid_v2, (struct cu_uuid * ret, cu_device d))                                   \
	F(context_retain, cuDevicePrimaryCtxRetain, (cu_context * ret, cu_device d))                              \
	F(context_release, cuDevicePrimaryCtxRelease_v2, (cu_device d))                                           \
	F(context_set, cuCtxSetCurrent, (cu_context c))                                                           \
	F(memory_info, cuMemGetInfo_v2, (size_t * ret_free, size_t * ret_total))                                  \
	F(alloc, cuMemAlloc_v2, (cu_deviceptr * ret, size_t size))                                                \
	F(free, cuMemFree_v2, (cu_deviceptr p))                                                                   \
	F(host_register, cuMemHostRegister_v2, (void *p, size_t size, unsigned int flags))                        \
	F(host_unregister, cuMemHostUnregister, (void *p))                                                        \
	F(copy_in, cuMemcpyHtoDAsync_v2, (cu_deviceptr dst, const void *src, size_t size, cu_stream s))           \
	F(copy_out, cuMemcpyDtoHAsync_v2, (void *dst, cu_deviceptr src, size_t size, cu_stream s))                \
	F(copy_inside, cuMemcpyDtoDAsync_v2, (cu_deviceptr dst, cu_deviceptr src, size_t size, cu_stream s))      \
	F(stream_create, cuStreamCreate, (cu_stream * ret, unsigned int flags))                                   \
	F(stream_synchronize, cuStreamSynchronize, (cu_stream s))                                                 \
	F(stream_destroy, cuStreamDestroy_v2, (cu_stream s))                                                      \
	F(event_create, cuEventCreate, (cu_event * ret, unsigned int flags))                                      \
	F(event_record, cuEventRecord, (cu_event e, cu_stream s))                                                 \
	F(event_query, cuEventQuery, (cu_event e))                                                                \
	F(event_destroy, cuEventDestroy_v2, (cu_event e))                                                         \
	F(ipc_get_handle, cuIpcGetMemHandle, (struct cu_ipc_mem_handle * ret, cu_deviceptr p))                    \
	F(module_load, cuModuleLoadData, (cu_module * ret, const void *image))                                    \
	F(module_unload, cuModuleUnload, (cu_module m))                                                           \
	F(module_function, cuModuleGetFunction, (cu_function * ret, cu_module m, const char *name))               \
	F(launch, cuLaunchKernel,                                                                                 \
	  (cu_function f, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,    \
	   unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, cu_stream s, void **parameters, \
	   void **extra))

/* What older drivers lack: the member is NULL there, and there is another way. */
#define DEV_CUDA_OPTIONAL_FUNCTIONS(F)                                                                                \
	F(context_flags, cuDevicePrimaryCtxSetFlags_v2, (cu_device d, unsigned int flags))                            \
	F(context_reset, cuDevicePrimaryCtxReset_v2, (cu_device d))                                                   \
	F(pci_bus_id, cuDeviceGetPCIBusId, (char *ret, int len, cu_device d))                                         \
	F(vmm_granularity, cuMemGetAllocationGranularity,                                                             \
	  (size_t * ret, const struct cu_allocation_prop *prop, enum cu_granularity option))                          \
	F(vmm_create, cuMemCreate,                                                                                    \
	  (cu_vmm_handle * ret, size_t size, const struct cu_allocation_prop *prop, unsigned long long flags))        \
	F(vmm_release, cuMemRelease, (cu_vmm_handle h))                                                               \
	F(vmm_reserve, cuMemAddressReserve,                                                                           \
	  (cu_deviceptr * ret, size_t size, size_t alignment, cu_deviceptr address, unsigned long long flags))        \
	F(vmm_unreserve, cuMemAddressFree, (cu_deviceptr p, size_t size))                                             \
	F(vmm_map, cuMemMap, (cu_deviceptr p, size_t size, size_t offset, cu_vmm_handle h, unsigned long long flags)) \
	F(vmm_unmap, cuMemUnmap, (cu_deviceptr p, size_t size))                                                       \
	F(vmm_access, cuMemSetAccess, (cu_deviceptr p, size_t size, const struct cu_access_desc *desc, size_t count)) \
	F(vmm_export, cuMemExportToShareableHandle,                                                                   \
	  (void *ret, cu_vmm_handle h, enum cu_handle_type type, unsigned long long flags))

struct dev_cuda_driver {
#define F(member, name, parameters) cu_result(*member) parameters;
	DEV_CUDA_FUNCTIONS(F)
	DEV_CUDA_OPTIONAL_FUNCTIONS(F)
#undef F
	int device_count;
};

/* Loads and initialises the driver once for the process. On failure *ret_why is one line that names the reason in the
 * driver's own words (static or valid for ever). Returns: 0; -ENODEV no driver, no device or only the stub library;
 * -ELIBACC the library lacks an entry point. */
int dev_cuda_driver_load(const struct dev_cuda_driver **ret, const char **ret_why);

/* "CUDA_ERROR_OUT_OF_MEMORY"; never NULL. */
const char *dev_cuda_error_name(const struct dev_cuda_driver *d, cu_result r);
