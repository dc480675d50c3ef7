/* SPDX-License-Identifier: MIT */
/* Reading a file past the page cache where its bytes are not in it: an NVMe drive gives a multiple of what the kernel's own
 * reading ahead does, and the pages would be of no more use. What is cached is taken from there.
 *
 * Direct reads are of whole blocks into memory at whole blocks: the caller leaves DIRECT_BLOCK_BYTES before and behind what
 * it wants, where bytes may be read over and are put back, and places the buffer so that its address and the offset in the
 * file agree modulo DIRECT_BLOCK_BYTES.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIRECT_BLOCK_BYTES 4096u
#define DIRECT_LEAST_BYTES (64u << 10) /* below this the page cache does it */

/* A second descriptor of the file that fd has, for direct reads; -1 where the file system has none. */
int dev_direct_open(int fd);
/* Whether most of a range is not in the page cache. */
bool dev_direct_is_cold(int fd, uint64_t offset, uint64_t len);
/* Reads exactly len bytes at offset into buf. direct: from dev_direct_open, or -1.
 * Returns: 0; -EUCLEAN the file ends early; the error of pread. */
int dev_direct_read(int fd, int direct, uint64_t offset, char *buf, uint64_t len);
