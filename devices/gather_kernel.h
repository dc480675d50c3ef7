/* SPDX-License-Identifier: MIT */
/* Arguments of the gather kernel, the same for nvcc, the host compiler and the launch. */
#pragma once

#ifdef __cplusplus
#define DEV_GATHER_ALIGN alignas(8)
#else
#define DEV_GATHER_ALIGN _Alignas(8)
#endif

struct dev_gather_args {
	DEV_GATHER_ALIGN unsigned long long source; /* device address of the view's first element */
	unsigned long long destination;             /* device address of the first element wanted */
	unsigned long long first_elem, n_elems;
	unsigned int element_bytes, ndim; /* dimensions with stride merged where they are contiguous together */
	unsigned long long shape[64], stride_elems[64];
};
