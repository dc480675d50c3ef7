/* SPDX-License-Identifier: MIT */
/* Lets a host compiler build devices/gather.cu: one grid of one block of one thread, which the grid-stride loop turns into
 * a plain loop over all elements. */
#pragma once

struct shim_dim3 {
	unsigned int x, y, z;
};

static const shim_dim3 blockIdx = {0, 0, 0}, threadIdx = {0, 0, 0}, blockDim = {1, 1, 1}, gridDim = {1, 1, 1};

#define __device__
#define __global__
