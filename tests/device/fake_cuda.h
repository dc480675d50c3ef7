/* What the three files of the driver's double share: its state, all of it under one lock, and the frame of every entry
 * point. */
#pragma once

#include <cuda.h>

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DEVICES_MAX 8

struct CUctx_st {
	int device, references;
};

struct fake {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* an operation has ended, or work has come */
	pid_t owner;            /* who called cuInit */
	bool initialised;
	/* settings */
	int device_count;
	size_t device_memory;
	unsigned int delay_usec;
	bool instant;
	/* what lives */
	struct CUctx_st contexts[DEVICES_MAX];
	int streams, events, pending_operations;
	/* what was done */
	unsigned long long bytes_in, bytes_out, pageable_copies;
};

extern struct fake fake;
extern __thread CUcontext fake_current; /* this thread's context */

/* Ends the process: the caller did what a real driver leaves undefined. */
_Noreturn void fake_die(const char *what, const char *where);
/* Counts the call and checks its state; true and *ret when this one is to fail. The lock is held. */
bool fake_enter(const char *name, bool needs_context, CUresult *ret);

#define ENTER(needs_context)                              \
	CUresult result = CUDA_SUCCESS;                   \
	pthread_mutex_lock(&fake.lock);                   \
	if (fake_enter(__func__, needs_context, &result)) \
		goto out;

#define LEAVE                             \
	out:                              \
	pthread_mutex_unlock(&fake.lock); \
	return result;

/* fake_memory.c; the lock is held */
void fake_memory_init(void);
/* Host view of device bytes [p, p + size); ends the process when they are not inside one allocation. */
unsigned char *fake_translate(CUdeviceptr p, size_t size, const char *where);
bool fake_is_pinned(const void *p, size_t size);
/* Removes what is left; whether anything was. */
bool fake_memory_leaks(void);
