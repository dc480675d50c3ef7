#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
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

/* How much from the start the page cache gives without waiting. */
static uint64_t read_cached(int fd, uint64_t offset, char *buf, uint64_t len)
{
	uint64_t got = 0;
	while (got < len) {
		struct iovec part = {buf + got, len - got};
		ssize_t n = preadv2(fd, &part, 1, (off_t)(offset + got), RWF_NOWAIT);
		if (n <= 0)
			break;
		got += (uint64_t)n;
	}
	return got;
}

/* Whole blocks around [offset, offset + len). Returns how many of the wanted bytes are there. */
static uint64_t read_blocks(int direct, uint64_t offset, char *buf, uint64_t len)
{
	char before[DIRECT_BLOCK_BYTES], behind[DIRECT_BLOCK_BYTES];
	uint64_t head = offset % DIRECT_BLOCK_BYTES, tail = -(offset + len) % DIRECT_BLOCK_BYTES, got = 0, all = head + len + tail;
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
	if (direct >= 0 && len >= DIRECT_LEAST_BYTES) {
		got = read_cached(fd, offset, buf, len);
		/* the cache ends at a page of the file, so that what is left stays as well placed as the whole */
		if (len - got >= DIRECT_LEAST_BYTES && (uintptr_t)(buf + got) % DIRECT_BLOCK_BYTES == (offset + got) % DIRECT_BLOCK_BYTES)
			got += read_blocks(direct, offset + got, buf + got, len - got);
	}
	return read_exactly(fd, offset + got, buf + got, len - got);
}
