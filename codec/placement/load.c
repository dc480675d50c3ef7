/* SPDX-License-Identifier: MIT */
/* Bytes of storages onto a device: what stands in the file as it is goes there in long pieces by several threads, what
 * does not (deflated, of the other byte order, edited) through a buffer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/crc32.h"
#include "codec/placement/inner.h"
#include "codec/bytes/util.h"

#define BUFFER_BYTES (1u << 20)
/* Of a checkpoint in more files than that, the rest goes through the buffer. */
#define MAX_HELD 64u

/* The sum of a part of a segment that a thread of the device had in its hands. */
struct part {
	size_t segment;
	uint64_t offset, len;
	uint32_t crc;
};

struct loading {
	struct wf_placement *p;
	struct dev_segment *segments;
	uint32_t *item_of; /* [segment] */
	size_t segment_count;
	struct wf_source **held; /* the files of the segments, which stay open until all is loaded */
	uint32_t held_count, held_capacity;
	pthread_mutex_t lock; /* the rest */
	struct part *parts;
	uint32_t part_count, part_capacity;
	uint64_t done, total;
	void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	void *progress_ctx;
};

/* The sum that the clean bytes of a storage must have; false when nobody has said it. */
static bool expected_crc(const struct wf_placement *p, uint32_t storage, uint32_t *ret)
{
	const struct wf_storage *s = wf_storage_get(p->ss, storage);
	const struct wf_record *record = wf_storage_record(p->ss, storage);
	uint32_t n;
	/* a sum of zero is what torch writes where it was told not to compute any */
	if (!p->options.verify || !record || !record->has_crc || record->crc32 == 0 || s->size_bytes != s->base_bytes)
		return false;
	wf_extents_all(s->dirty, &n);
	*ret = record->crc32;
	return n == 0;
}

static void count_bytes(struct loading *l, uint64_t n)
{
	l->done += n;
	if (l->progress)
		l->progress(l->progress_ctx, l->done, l->total);
}

static int seen(void *ctx, size_t segment, uint64_t offset, const void *data, size_t len)
{
	struct loading *l = ctx;
	bool verify = l->p->options.verify;
	uint32_t crc = verify ? wf_crc32(0, data, len) : 0;
	int r = 0;
	pthread_mutex_lock(&l->lock);
	if (verify)
		r = wf_array_reserve(&l->parts, &l->part_capacity, (uint64_t)l->part_count + 1, sizeof *l->parts,
				     UINT32_MAX);
	if (verify && r == 0)
		l->parts[l->part_count++] = (struct part){segment, offset, len, crc};
	count_bytes(l, len);
	pthread_mutex_unlock(&l->lock);
	return r;
}

static int compare(const void *a, const void *b)
{
	const struct part *x = a, *y = b;
	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void check_segments(struct loading *l, struct placement_item *items)
{
	if (l->part_count > 1)
		qsort(l->parts, l->part_count, sizeof *l->parts, compare);
	for (uint32_t i = 0; i < l->part_count;) {
		size_t segment = l->parts[i].segment;
		uint32_t crc = 0, wanted;
		for (; i < l->part_count && l->parts[i].segment == segment; i++)
			crc = wf_crc32_join(crc, l->parts[i].crc, l->parts[i].len);
		struct placement_item *item = &items[l->item_of[segment]];
		item->bad = expected_crc(l->p, item->storage, &wanted) && wanted != crc;
	}
}

/* Takes over the run's reference, unless it is to be given back: false. */
static bool hold(struct loading *l, struct wf_file_run *run)
{
	if (l->held_count > 0 && l->held[l->held_count - 1] == run->file) {
		wf_source_unref(run->file);
		return true;
	}
	if (wf_array_reserve(&l->held, &l->held_capacity, (uint64_t)l->held_count + 1, sizeof *l->held, MAX_HELD) < 0)
		return false;
	l->held[l->held_count++] = run->file;
	return true;
}

/* A storage that is one run of the file becomes a segment. */
static void add_segment(struct loading *l, const struct placement_item *items, uint32_t k)
{
	const struct wf_storage *s = wf_storage_get(l->p->ss, items[k].storage);
	struct dev_segment *segment = &l->segments[l->segment_count];
	struct wf_file_run run;
	if (s->size_bytes == 0 || !wf_storage_locate(l->p->ss, items[k].storage, 0, &run))
		return;
	if (run.len < s->size_bytes || !hold(l, &run)) {
		wf_file_run_end(&run);
		return;
	}
	segment->fd = run.fd;
	segment->file_offset = run.offset;
	segment->memory_offset = items[k].offset;
	segment->size_bytes = s->size_bytes;
	l->item_of[l->segment_count++] = k;
}

static int copy_plain(struct loading *l, struct place_device *d, const struct dev_memory *m,
		      struct placement_item *item, unsigned char *buf)
{
	uint64_t size = wf_storage_get(l->p->ss, item->storage)->size_bytes;
	uint32_t crc = 0, wanted;
	for (uint64_t at = 0; at < size;) {
		size_t n = WF_MIN(size - at, BUFFER_BYTES);
		int r = wf_storage_read(l->p->ss, item->storage, at, buf, n);
		if (r == 0)
			r = d->device->ops->copy_in(d->device, m, item->offset + at, buf, n);
		if (r < 0)
			return r;
		crc = l->p->options.verify ? wf_crc32(crc, buf, n) : 0;
		at += n;
		count_bytes(l, n);
	}
	item->bad = expected_crc(l->p, item->storage, &wanted) && !wf_storage_swapped(l->p->ss, item->storage) &&
		    wanted != crc;
	return 0;
}

static int load_rest(struct loading *l, struct place_device *d, const struct dev_memory *m,
		     struct placement_item *items, uint32_t n)
{
	cleanup_free unsigned char *buf = malloc(BUFFER_BYTES);
	int r = buf ? 0 : -ENOMEM;
	for (uint32_t k = 0, next = 0; r == 0 && k < n; k++) {
		if (next < l->segment_count && l->item_of[next] == k)
			next++;
		else
			r = copy_plain(l, d, m, &items[k], buf);
	}
	return r;
}

int placement_load(struct wf_placement *p, struct place_device *d, const struct dev_memory *m,
		   struct placement_item *items, uint32_t n, void (*progress)(void *, uint64_t, uint64_t), void *ctx)
{
	struct loading l = {.p = p, .progress = progress, .progress_ctx = ctx};
	l.segments = calloc(n, sizeof *l.segments);
	l.item_of = calloc(n, sizeof *l.item_of);
	int r = l.segments && l.item_of ? 0 : -ENOMEM;
	pthread_mutex_init(&l.lock, NULL);
	for (uint32_t k = 0; r == 0 && k < n; k++) {
		items[k].bad = false;
		l.total += wf_storage_get(p->ss, items[k].storage)->size_bytes;
		add_segment(&l, items, k);
	}
	if (r == 0 && l.segment_count > 0)
		r = d->device->ops->load(d->device, m, l.segments, l.segment_count,
					 progress || p->options.verify ? seen : NULL, &l);
	if (r == 0)
		check_segments(&l, items);
	if (r == 0)
		r = load_rest(&l, d, m, items, n);
	if (r == 0)
		atomic_store(&d->worked, true);
	pthread_mutex_destroy(&l.lock);
	for (uint32_t i = 0; i < l.held_count; i++)
		wf_source_unref(l.held[i]);
	free(l.held);
	free(l.parts);
	free(l.item_of);
	free(l.segments);
	return r;
}
