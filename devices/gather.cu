/* SPDX-License-Identifier: MIT */
/* Elements of a strided view in row-major order: one thread an element, a grid-stride loop.
 *
 * Compiled by nvcc for the device, and by the host compiler through tests/device/cuda_shim.h for the double of the
 * driver, so that the same source is tested where there is no GPU. A view's inner dimensions are merged by the caller,
 * which keeps ndim small: the loop over dimensions costs one division each. */
#include "gather_kernel.h"

template <typename T>
__device__ static void gather(const dev_gather_args &a, unsigned long long thread, unsigned long long threads)
{
	const T *source = (const T *)a.source;
	T *destination = (T *)a.destination;
	for (unsigned long long i = thread; i < a.n_elems; i += threads) {
		unsigned long long rest = a.first_elem + i, at = 0;
		for (unsigned int d = a.ndim; d-- > 0;) {
			at += rest % a.shape[d] * a.stride_elems[d];
			rest /= a.shape[d];
		}
		destination[i] = source[at];
	}
}

struct alignas(16) bytes16 {
	unsigned long long low, high;
};

extern "C" __global__ void weightfs_gather(const dev_gather_args a)
{
	unsigned long long thread = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
	unsigned long long threads = gridDim.x * (unsigned long long)blockDim.x;
	switch (a.element_bytes) {
	case 1:
		gather<unsigned char>(a, thread, threads);
		break;
	case 2:
		gather<unsigned short>(a, thread, threads);
		break;
	case 4:
		gather<unsigned int>(a, thread, threads);
		break;
	case 8:
		gather<unsigned long long>(a, thread, threads);
		break;
	case 16:
		gather<bytes16>(a, thread, threads);
		break;
	}
}
