/* SPDX-License-Identifier: MIT */
/* Host memory: the reference implementation, and the oracle of the device tests. An address is a pointer of this
 * process. */
#include "device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "segments.h"
#include "view.h"

#define ALIGN_BYTES 512u
#define PIECE_BYTES (4u << 20)

static unsigned char *bytes(const struct dev_memory *m)
{
	return (unsigned char *)(uintptr_t)m->address;
}

static int host_describe(struct device *d, struct dev_info *ret)
{
	*ret = (struct dev_info){.name = "cpu", .description = "host memory"};
	long page = sysconf(_SC_PAGESIZE), total = sysconf(_SC_PHYS_PAGES), available = sysconf(_SC_AVPHYS_PAGES);
	if (page > 0 && total > 0 && available > 0) {
		ret->total_bytes = (uint64_t)total * (uint64_t)page;
		ret->free_bytes = (uint64_t)available * (uint64_t)page;
	}
	return 0;
}

static int host_alloc(struct device *d, uint64_t size_bytes, struct dev_memory *ret)
{
	void *p = NULL;
	if (posix_memalign(&p, ALIGN_BYTES, size_bytes ? size_bytes : 1) != 0)
		return -ENOMEM;
	*ret = (struct dev_memory){.address = (uintptr_t)p, .size_bytes = size_bytes};
	return 0;
}

static void host_free(struct device *d, struct dev_memory *m)
{
	free(bytes(m));
	*m = (struct dev_memory){0};
}

static int host_copy_in(struct device *d, const struct dev_memory *m, uint64_t offset, const void *src, size_t len)
{
	if (!dev_range_inside(m, offset, len))
		return -ERANGE;
	memcpy(bytes(m) + offset, src, len);
	return 0;
}

static int host_copy_out(struct device *d, const struct dev_memory *m, uint64_t offset, void *dst, size_t len)
{
	if (!dev_range_inside(m, offset, len))
		return -ERANGE;
	memcpy(dst, bytes(m) + offset, len);
	return 0;
}

static int host_copy(struct device *d, const struct dev_memory *to, uint64_t to_offset, const struct dev_memory *from,
		     uint64_t from_offset, uint64_t len)
{
	if (!dev_range_inside(to, to_offset, len) || !dev_range_inside(from, from_offset, len))
		return -ERANGE;
	memcpy(bytes(to) + to_offset, bytes(from) + from_offset, len);
	return 0;
}

static int host_gather(struct device *d, const struct dev_memory *m, const struct dev_view *v, uint64_t first_elem,
		       uint64_t n_elems, void *dst)
{
	if (!dev_view_inside(v, m, first_elem, n_elems))
		return -ERANGE;
	const unsigned char *base = bytes(m) + v->offset_bytes;
	unsigned char *out = dst;
	for (uint64_t i = 0; i < n_elems; i++) {
		uint64_t rest = first_elem + i, at = 0;
		for (uint32_t dim = v->ndim; dim-- > 0;) {
			at += rest % v->shape[dim] * v->stride_elems[dim];
			rest /= v->shape[dim];
		}
		memcpy(out + i * v->element_bytes, base + at * v->element_bytes, v->element_bytes);
	}
	return 0;
}

static int host_load(struct device *d, const struct dev_memory *m, const struct dev_segment *segments, size_t n,
		     int (*seen)(void *, size_t, uint64_t, const void *, size_t), void *ctx)
{
	struct dev_pieces pieces;
	struct dev_piece piece;
	int r = dev_pieces_init(&pieces, segments, n, m->size_bytes, false);
	if (r < 0)
		return r;
	while (r == 0 && dev_pieces_next(&pieces, PIECE_BYTES, &piece))
		r = dev_piece_read(&pieces, &piece, bytes(m) + piece.memory_offset, seen, ctx);
	dev_pieces_free(&pieces);
	return r;
}

static int host_share(struct device *d, const struct dev_memory *m, struct dev_share *ret)
{
	return -EOPNOTSUPP;
}

static const char *host_why(struct device *d)
{
	return NULL;
}

static bool host_lost(struct device *d)
{
	return false;
}

static void host_close(struct device *d)
{
	free(d);
}

static const struct dev_ops host_ops = {
	.describe = host_describe,
	.alloc = host_alloc,
	.free = host_free,
	.copy_in = host_copy_in,
	.copy_out = host_copy_out,
	.copy = host_copy,
	.gather = host_gather,
	.load = host_load,
	.share = host_share,
	.why = host_why,
	.lost = host_lost,
	.close = host_close,
};

int dev_host_open(struct device **ret)
{
	struct device *d = calloc(1, sizeof *d);
	if (!d)
		return -ENOMEM;
	d->ops = &host_ops;
	*ret = d;
	return 0;
}
