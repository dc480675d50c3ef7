/* SPDX-License-Identifier: MIT */
/* Gives the device code that nvcc made, if the build had nvcc. */
#include "cuda_kernels.h"

#ifdef WEIGHTFS_FATBIN

__asm__(".section .rodata\n"
	".balign 64\n"
	"weightfs_fatbin:\n"
	".incbin \"" WEIGHTFS_FATBIN "\"\n"
	"weightfs_fatbin_end:\n"
	".previous\n");

extern const char weightfs_fatbin[] __attribute__((visibility("hidden")));
extern const char weightfs_fatbin_end[] __attribute__((visibility("hidden")));

const void *dev_cuda_kernels(size_t *ret_size)
{
	*ret_size = (size_t)(weightfs_fatbin_end - weightfs_fatbin);
	return weightfs_fatbin;
}

#else

const void *dev_cuda_kernels(size_t *ret_size)
{
	*ret_size = 0;
	return NULL;
}

#endif
