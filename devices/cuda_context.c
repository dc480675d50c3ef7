/* SPDX-License-Identifier: MIT */
/* Enters and leaves the context of a CUDA device, and tells what a result of the driver means. */
#include "cuda_context.h"

#include <errno.h>

/* The context, with all memory in it, is of no use after these: each later call gives the same again. */
bool cuda_is_fatal(cu_result r)
{
	static const short fatal[] = {4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999};
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		if (fatal[i] == r)
			return true;
	return false;
}

int cuda_status(struct cuda_device *d, cu_result r)
{
	if (r != CU_SUCCESS)
		atomic_store(&d->failure, r);
	if (cuda_is_fatal(r))
		atomic_store(&d->lost, true);
	return r == CU_SUCCESS ? 0 : r == CU_ERROR_OUT_OF_MEMORY ? -ENOMEM : -EIO;
}

int cuda_enter(struct cuda_device *d)
{
	return atomic_load(&d->lost) ? -EIO : cuda_enter_lost(d);
}

int cuda_enter_lost(struct cuda_device *d)
{
	cu_result r = CU_SUCCESS;
	pthread_mutex_lock(&d->lock);
	if (!d->context) {
		/* waiting threads sleep: there are more of them than cores */
		if (d->cu->context_flags)
			d->cu->context_flags(d->device, CU_CTX_SCHED_BLOCKING_SYNC);
		r = d->cu->context_retain(&d->context, d->device);
	}
	cu_context context = d->context;
	pthread_mutex_unlock(&d->lock);
	if (r == CU_SUCCESS)
		r = d->cu->context_set(context);
	return cuda_status(d, r);
}
