/* SPDX-License-Identifier: MIT */
/* How files get onto a CUDA device: what the machine has and the environment asks for.
 *
 * WEIGHTFS_LOAD_THREADS (1 to 64), WEIGHTFS_LOAD_WINDOW (256K to 64M), WEIGHTFS_LOAD_DEPTH (windows a thread, 1 to 16) and
 * WEIGHTFS_LOAD_DIRECT (0 or 1). The defaults were measured on H200 and H100 with PCIe 5: 16 threads with two windows of 3 MiB
 * reach 0.94 of what the bus gives. The engine rests for 3 us between two copies, which smaller windows make more of. Larger
 * ones, more of them or more threads cost the first load the time to pin them, and a ring that does not stay in the processor's
 * cache is slow: with 4 MiB later loads took between 0.75 and 0.96 of the bus, as the neighbours of the virtual machine let them.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

struct cuda_settings {
	unsigned int threads; /* the cores that the process may use, at most 32 */
	unsigned int depth;
	uint64_t window_bytes; /* a multiple of 4096 */
	bool direct;           /* read past the page cache what is not in it */
	int numa_node;         /* of the device; -1: unknown, or there is only one */
	cpu_set_t cpus;        /* of that node, as far as the process may use them */
	char text[160];        /* all of it in words, and what could not be had */
};

/* pci: the device's bus id in sysfs form, or "". */
void cuda_settings_init(struct cuda_settings *s, const char *pci);
