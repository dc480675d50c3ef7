/* SPDX-License-Identifier: MIT */
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
	CUresult poison; /* an error that it does not survive: each later call gives the same */
};

/* Device memory as this process sees it: its own, a part of a block that small allocations share, another process's, or a
 * mapping of memory that was made by steps. It is one while it has a size. */
struct allocation {
	CUdeviceptr start;
	size_t size;
	unsigned char *host;
	char name[40];      /* of the file in /dev/shm; "" for memory made by steps */
	size_t name_offset; /* in that file */
	size_t name_size;   /* of that file */
	int device;
	int block;           /* + 1: the block that it is a part of */
	unsigned int opened; /* how often, where it is another process's */
	int handle;          /* + 1: of memory made by steps that is mapped here */
	bool read_only, accessible;
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
	bool ipc_once; /* a handle whose block is open already gives CUDA_ERROR_ALREADY_MAPPED, as older drivers do */
	CUresult dead; /* an error that this process does not survive, in whatever context */
	bool no_vmm;   /* memory is not to be had by steps */
	int arch;      /* kernels for less are refused; 0: all run */
	unsigned int cost_usec;   /* of each call */
	int visible[DEVICES_MAX]; /* CUDA_VISIBLE_DEVICES: which device has this number */
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
bool fake_is_writable(CUdeviceptr p);
bool fake_is_pinned(const void *p, size_t size);
/* Removes what is left; whether anything was. */
bool fake_memory_leaks(void);
/* All that belongs to the context of a device goes with it. */
void fake_memory_drop(int device);
struct allocation *fake_new_allocation(const char *where);
struct allocation *fake_find_allocation(CUdeviceptr start);
CUdeviceptr fake_new_address(size_t size);
size_t *fake_used_bytes(int device);

/* fake_vmm.c; the lock is held */
bool fake_vmm_leaks(void);
void fake_vmm_unmapped(struct allocation *a);
void fake_vmm_drop(int device);

/* fake_streams.c; without the lock */
void fake_streams_drop(struct CUctx_st *context);
