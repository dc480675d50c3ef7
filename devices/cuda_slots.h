/* SPDX-License-Identifier: MIT */
/* The slots of device.h that have files of their own (cuda_memory.c, cuda_load.c); cuda.c, which has the others, puts all
 * of them into its table. What each returns and when it may be called stands in device.h. */
#pragma once

#include "cuda_context.h"

int cuda_alloc(struct device *base, uint64_t size_bytes, struct dev_memory *ret);
void cuda_free(struct device *base, struct dev_memory *m);
int cuda_share(struct device *base, const struct dev_memory *m, struct dev_share *ret);
int cuda_load(struct device *base, const struct dev_memory *m, const struct dev_segment *segments, size_t n,
	      int (*seen)(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len), void *ctx);

/* At close: no more descriptors are handed out. */
void cuda_memory_close(struct cuda_device *d);
