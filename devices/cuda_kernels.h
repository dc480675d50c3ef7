/* SPDX-License-Identifier: MIT */
/* The device code that nvcc made from gather.cu, if the build had nvcc. */
#pragma once

#include <stddef.h>

/* A fat binary for cuModuleLoadData, or NULL in a build without device kernels. */
const void *dev_cuda_kernels(size_t *ret_size);
