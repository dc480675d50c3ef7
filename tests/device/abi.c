/* Holds our own declaration of every driver entry point against the toolkit's cuda.h: a wrong prototype does not compile. */
#include <cuda.h>

#include "devices/cuda_driver.h"

_Static_assert(sizeof(cu_result) == sizeof(CUresult), "CUresult");
_Static_assert(sizeof(cu_device) == sizeof(CUdevice), "CUdevice");
_Static_assert(sizeof(cu_deviceptr) == sizeof(CUdeviceptr), "CUdeviceptr");
_Static_assert(sizeof(cu_context) == sizeof(CUcontext), "CUcontext");
_Static_assert(sizeof(struct cu_uuid) == sizeof(CUuuid), "CUuuid");
_Static_assert(sizeof(struct cu_ipc_mem_handle) == sizeof(CUipcMemHandle), "CUipcMemHandle");
_Static_assert(CU_SUCCESS == CUDA_SUCCESS && CU_ERROR_OUT_OF_MEMORY == CUDA_ERROR_OUT_OF_MEMORY &&
		       CU_ERROR_STUB_LIBRARY == CUDA_ERROR_STUB_LIBRARY && CU_ERROR_NO_DEVICE == CUDA_ERROR_NO_DEVICE,
	       "results");

/* Each entry point declared a second time, with our parameters and the header's names for the types that differ in name
 * only: the compiler refuses the redeclaration when anything else differs. */
#define cu_result CUresult
#define cu_uuid CUuuid_st
#define cu_ipc_mem_handle CUipcMemHandle_st
#define F(member, name, parameters) CUresult name parameters;
DEV_CUDA_FUNCTIONS(F)
