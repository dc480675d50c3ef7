/* SPDX-License-Identifier: MIT */
/* Holds our own declaration of every driver entry point against the toolkit's cuda.h: a wrong prototype does not compile. */
#include <cuda.h>
#include <stddef.h>

#include "devices/cuda_driver.h"

_Static_assert(sizeof(cu_result) == sizeof(CUresult), "CUresult");
_Static_assert(sizeof(cu_device) == sizeof(CUdevice), "CUdevice");
_Static_assert(sizeof(cu_deviceptr) == sizeof(CUdeviceptr), "CUdeviceptr");
_Static_assert(sizeof(cu_context) == sizeof(CUcontext), "CUcontext");
_Static_assert(sizeof(struct cu_uuid) == sizeof(CUuuid), "CUuuid");
_Static_assert(sizeof(struct cu_ipc_mem_handle) == sizeof(CUipcMemHandle), "CUipcMemHandle");
_Static_assert(sizeof(struct cu_allocation_prop) == sizeof(CUmemAllocationProp) &&
		       offsetof(struct cu_allocation_prop, handle_types) ==
			       offsetof(CUmemAllocationProp, requestedHandleTypes) &&
		       offsetof(struct cu_allocation_prop, location.id) == offsetof(CUmemAllocationProp, location.id) &&
		       offsetof(struct cu_allocation_prop, flags) == offsetof(CUmemAllocationProp, allocFlags),
	       "CUmemAllocationProp");
_Static_assert(sizeof(struct cu_access_desc) == sizeof(CUmemAccessDesc) &&
		       offsetof(struct cu_access_desc, flags) == offsetof(CUmemAccessDesc, flags),
	       "CUmemAccessDesc");
_Static_assert((int)CU_HANDLE_TYPE_POSIX_FD == (int)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR &&
		       (int)CU_GRANULARITY_MINIMUM == (int)CU_MEM_ALLOC_GRANULARITY_MINIMUM,
	       "flags");
_Static_assert(CU_SUCCESS == CUDA_SUCCESS && CU_ERROR_OUT_OF_MEMORY == CUDA_ERROR_OUT_OF_MEMORY &&
		       CU_ERROR_STUB_LIBRARY == CUDA_ERROR_STUB_LIBRARY && CU_ERROR_NO_DEVICE == CUDA_ERROR_NO_DEVICE,
	       "results");

/* Each entry point declared a second time, with our parameters and the header's names for the types that differ in name
 * only: the compiler refuses the redeclaration when anything else differs. */
#define cu_result CUresult
#define cu_uuid CUuuid_st
#define cu_ipc_mem_handle CUipcMemHandle_st
#define cu_handle_type CUmemAllocationHandleType_enum
#define cu_granularity CUmemAllocationGranularity_flags_enum
#define cu_allocation_prop CUmemAllocationProp_st
#define cu_access_desc CUmemAccessDesc_st
#define F(member, name, parameters) CUresult name parameters;
DEV_CUDA_FUNCTIONS(F)
DEV_CUDA_OPTIONAL_FUNCTIONS(F)
