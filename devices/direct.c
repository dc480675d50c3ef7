/* SPDX-License-Identifier: MIT */
/* Reads blocks of a file with O_DIRECT, where they are not in the page cache. */
#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int dev_direct_open(int fd)
{
	char path[40];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

static int read_exactly(int fd, uint64_t offset, char *buf, uint64_t len)
{
	while (len > 0) {
		ssize_t n = pread(fd, buf, len, (off_t)offset);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EUCLEAN;
		if (n > 0) {
			buf += n;
			offset += (uint64_t)n;
			len -= (uint64_t)n;
		}
	}
	return 0;
}

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* mincore() of a mapping, for kernels before 6.5. */
static uint64_t resident_pages(int fd, uint64_t offset, uint64_t len)
{
	uint64_t start = offset / DIRECT_BLOCK_BYTES * DIRECT_BLOCK_BYTES, n = 0;
	size_t pages = (offset + len - start + DIRECT_BLOCK_BYTES - 1) / DIRECT_BLOCK_BYTES;
	void *p = mmap(NULL, pages * DIRECT_BLOCK_BYTES, PROT_READ, MAP_SHARED, fd, (off_t)start);
	unsigned char *resident = malloc(pages);
	if (p == MAP_FAILED || !resident || mincore(p, pages * DIRECT_BLOCK_BYTES, resident) < 0)
		n = pages; /* nobody knows: the page cache it is */
	else
		for (size_t i = 0; i < pages; i++)
			n += resident[i] & 1;
	if (p != MAP_FAILED)
		munmap(p, pages * DIRECT_BLOCK_BYTES);
	free(resident);
	return n;
}

/* Not by trying: a read that must not wait starts the kernel's reading ahead, and then the drive reads everything twice. */
bool dev_direct_is_cold(int fd, uint64_t offset, uint64_t len)
{
	struct {
		uint64_t offset, len;
	} range = {offset, len};
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} counted;
	uint64_t cached =
		syscall(SYS_cachestat, fd, &range, &counted, 0) == 0 ? counted.cached : resident_pages(fd, offset, len);
	return cached * 2 * DIRECT_BLOCK_BYTES < len;
}

/* Whole blocks around [offset, offset + len). Returns how many of the wanted bytes are there. */
static uint64_t read_blocks(int direct, uint64_t offset, char *buf, uint64_t len)
{
	char before[DIRECT_BLOCK_BYTES], behind[DIRECT_BLOCK_BYTES];
	uint64_t head = offset % DIRECT_BLOCK_BYTES, tail = -(offset + len) % DIRECT_BLOCK_BYTES, got = 0,
		 all = head + len + tail;
	memcpy(before, buf - head, head);
	memcpy(behind, buf + len, tail);
	while (got < all) {
		ssize_t n = pread(direct, buf - head + got, all - got, (off_t)(offset - head + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (uint64_t)n;
		if (n % DIRECT_BLOCK_BYTES) /* the end of the file, or a place where the next read could not start */
			break;
	}
	memcpy(buf - head, before, head);
	memcpy(buf + len, behind, tail);
	return got <= head ? 0 : got - head < len ? got - head : len;
}

int dev_direct_read(int fd, int direct, uint64_t offset, char *buf, uint64_t len)
{
	uint64_t got = 0;
	if (direct >= 0 && len >= DIRECT_LEAST_BYTES &&
	    (uintptr_t)buf % DIRECT_BLOCK_BYTES == offset % DIRECT_BLOCK_BYTES && dev_direct_is_cold(fd, offset, len))
		got = read_blocks(direct, offset, buf, len);
	return read_exactly(fd, offset + got, buf + got, len - got);
}
