/* SPDX-License-Identifier: MIT */
/* Takes checksums of the parts of a file that tell two states of it apart. */
#include "codec/bytes/edges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

#define EDGE_BYTES (64u << 10)
#define SMALL_EDGE_BYTES 4096u
#define DIRECTORY_MAX (256u << 20) /* of a directory that says it is larger, this much */
#define PIECES 64u
#define PIECE_BYTES 4096u

static int read_file(void *ctx, void *buf, size_t len, uint64_t offset)
{
	return wf_pread_all(*(const int *)ctx, buf, len, offset);
}

/* buf: of EDGE_BYTES, or of len where that is less; holds the range's last part afterwards. */
static int crc_range(const struct wf_edges_reader *f, uint64_t offset, uint64_t len, unsigned char *buf, uint32_t *crc)
{
	while (len > 0) {
		size_t n = WF_MIN(len, (uint64_t)EDGE_BYTES);
		int r = f->read(f->ctx, buf, n, offset);
		if (r < 0)
			return r;
		*crc = (uint32_t)crc32(*crc, buf, (uInt)n);
		offset += n;
		len -= n;
	}
	return 0;
}

/* buf: edge_bytes, EDGE_BYTES at most. */
static int crc_edges(const struct wf_edges_reader *f, uint64_t size_bytes, uint32_t edge_bytes, unsigned char *buf,
		     uint32_t *ret)
{
	uint32_t crc = 0;
	uint64_t first = WF_MIN(size_bytes, (uint64_t)edge_bytes);
	uint64_t last = WF_MIN(size_bytes - first, (uint64_t)edge_bytes);
	int r = crc_range(f, 0, first, buf, &crc);
	if (r == 0)
		r = crc_range(f, size_bytes - last, last, buf, &crc);
	if (r == 0)
		*ret = crc;
	return r;
}

int wf_edges_crc32(int fd, uint64_t size_bytes, uint32_t *ret)
{
	return wf_edges_crc32_of(&(struct wf_edges_reader){read_file, &fd}, size_bytes, ret);
}

int wf_edges_crc32_of(const struct wf_edges_reader *f, uint64_t size_bytes, uint32_t *ret)
{
	cleanup_free unsigned char *buf = malloc(EDGE_BYTES);
	return buf ? crc_edges(f, size_bytes, EDGE_BYTES, buf, ret) : -ENOMEM;
}

int wf_small_edges_crc32(int fd, uint64_t size_bytes, uint32_t *ret)
{
	unsigned char buf[SMALL_EDGE_BYTES];
	return crc_edges(&(struct wf_edges_reader){read_file, &fd}, size_bytes, SMALL_EDGE_BYTES, buf, ret);
}

/* The end record (22 bytes: size at 12, offset at 16), or for large archives the one that a locator in front of it (20
 * bytes: offset at 8) points to (56 bytes: size at 40, offset at 48). An empty range where there is none. */
static int find_directory(const struct wf_edges_reader *f, uint64_t size, unsigned char *buf, uint64_t *ret_offset,
			  uint64_t *ret_len)
{
	size_t n = (size_t)WF_MIN(size, (uint64_t)EDGE_BYTES);
	*ret_offset = *ret_len = 0;
	int r = f->read(f->ctx, buf, n, size - n);
	if (r < 0 || n < 22)
		return r;
	size_t at = n - 22;
	while (at > 0 && memcmp(buf + at, "PK\5\6", 4) != 0)
		at--;
	if (memcmp(buf + at, "PK\5\6", 4) != 0)
		return 0;
	uint64_t len = wf_le32(buf + at + 12), offset = wf_le32(buf + at + 16);
	if (at >= 20 && !memcmp(buf + at - 20, "PK\6\7", 4)) {
		unsigned char end64[56];
		uint64_t where = wf_le64(buf + at - 12);
		if (size < sizeof end64 || where > size - sizeof end64)
			return 0;
		if ((r = f->read(f->ctx, end64, sizeof end64, where)) < 0)
			return r;
		len = wf_le64(end64 + 40);
		offset = wf_le64(end64 + 48);
	}
	if (offset > size)
		return 0;
	*ret_offset = offset;
	*ret_len = WF_MIN(WF_MIN(len, size - offset), (uint64_t)DIRECTORY_MAX);
	return 0;
}

int wf_content_crc32(int fd, uint64_t size_bytes, uint32_t *ret)
{
	return wf_content_crc32_of(&(struct wf_edges_reader){read_file, &fd}, size_bytes, ret);
}

int wf_content_crc32_of(const struct wf_edges_reader *f, uint64_t size_bytes, uint32_t *ret)
{
	cleanup_free unsigned char *buf = malloc(EDGE_BYTES);
	uint32_t crc = 0;
	uint64_t offset, len;
	if (!buf)
		return -ENOMEM;
	int r = find_directory(f, size_bytes, buf, &offset, &len);
	if (r == 0)
		r = crc_range(f, offset, len, buf, &crc);
	for (uint64_t i = 0; r == 0 && i < PIECES; i++) {
		uint64_t at = size_bytes / PIECES * i;
		r = crc_range(f, at, WF_MIN(size_bytes - at, (uint64_t)PIECE_BYTES), buf, &crc);
	}
	if (r == 0)
		*ret = crc;
	return r;
}
