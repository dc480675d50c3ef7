/* SPDX-License-Identifier: MIT */
/* The state of a CUDA device, its context, and what a result of the driver means.
 *
 * The context is the device's primary one, taken at the first use and given back at close; it costs hundreds of MB on the
 * GPU. Every entry makes it current for its thread: the driver keeps that per thread, and our callers' threads come and go.
 *
 * This is the lowest of the device's files: cuda_ring.c has the windows, cuda_memory.c allocations and shares, cuda_load.c
 * what reads files into the windows, cuda.c the other slots of device.h. All of them enter here first.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cuda_driver.h"
#include "cuda_ring.h"
#include "cuda_settings.h"
#include "descriptors.h"
#include "device.h"

struct cuda_block;

struct cuda_device {
	struct device base;
	const struct dev_cuda_driver *cu;
	int ordinal;
	cu_device device;
	struct cuda_settings settings;
	pthread_mutex_t lock; /* all below; and the free lists with `freed` */
	pthread_cond_t freed;
	cu_context context;
	struct cuda_ring copies, loads;
	struct cuda_block *blocks;
	char no_vmm[96];                     /* why memory is not made by steps; "": it is */
	struct dev_descriptors *descriptors; /* from the first share of such memory on */
	atomic_bool lost; /* a failure that the context does not survive: copies may still be in flight in the rings */
	atomic_int failure; /* the driver's result that why() will tell; CU_SUCCESS: none */
	cu_module module;
	cu_function gather;
	int gather_status; /* 0 not tried, 1 there, negative errno */
};

static inline struct cuda_device *cuda_self(struct device *d)
{
	return (struct cuda_device *)d;
}

/* 0, -ENOMEM or -EIO; a failure is kept for why(). */
int cuda_status(struct cuda_device *d, cu_result r);
/* Whether a result means that the context is of no use any more, whatever is called. */
bool cuda_is_fatal(cu_result r);

/* Makes the context current for this thread, and the context itself at the first call. Returns: 0; -ENOMEM; -EIO. */
int cuda_enter(struct cuda_device *d);
/* The same for giving things back, also on a device that is lost: memory that was made by steps is not the context's. */
int cuda_enter_lost(struct cuda_device *d);
