/* SPDX-License-Identifier: MIT */
/* The bytes of a changed storage: clean runs move inside the kernel, written ones come from the overlay.
 *
 * The sum of a record whose changed bytes are few follows from its old sum, the old bytes in their place and the new
 * ones: the rest is not read. An old sum of 0 was left out on purpose (torch's set_crc32_options, skip_data) and tells
 * nothing.
 */
#include "codec/commit/commit.h"

#include <errno.h>

#include "codec/bytes/crc32.h"
#include "codec/object/dtype.h"
#include "codec/bytes/util.h"

#define PIECE_BYTES (1u << 20)

int wf_commit_locate(const struct wf_plan *p, uint32_t record, uint64_t at, struct wf_file_run *ret,
		     struct wf_error *err)
{
	uint64_t start;
	int r = wf_container_locate(p->in.container, record, &start, err);
	if (r < 0)
		return r;
	if (!wf_source_locate(wf_container_file(p->in.container), start + at, ret))
		return wf_fail(err, -EOPNOTSUPP, "its bytes do not lie in a file as they are");
	return 0;
}

int wf_commit_copy(const struct wf_plan *p, uint32_t record, uint64_t start, uint64_t end, struct wf_out *o,
		   struct wf_error *err)
{
	cleanup_free unsigned char *piece = NULL;
	uint64_t base = 0;
	int r = wf_container_locate(p->in.container, record, &base, err);
	while (start < end && r == 0) {
		struct wf_file_run run;
		uint64_t n;
		if (wf_source_locate(wf_container_file(p->in.container), base + start, &run)) {
			n = WF_MIN(run.len, end - start);
			r = wf_out_copy(o, run.fd, run.offset, n);
			wf_file_run_end(&run);
		} else {
			n = WF_MIN(end - start, (uint64_t)PIECE_BYTES);
			if (!piece && !(piece = malloc(PIECE_BYTES)))
				return wf_fail(err, -ENOMEM, "out of memory");
			r = wf_source_read(wf_container_file(p->in.container), base + start, piece, n);
			if (r == 0)
				r = wf_out_write(o, piece, n);
		}
		start += n;
	}
	return r;
}

struct merge {
	const struct wf_plan *plan;
	const struct wf_storage *s;
	uint32_t storage;
	struct wf_out *out;
	struct wf_error *err;
	bool patch; /* crc starts as the old record's */
	uint32_t crc;
	unsigned char *bytes, *old;
};

static int no_memory(struct merge *m)
{
	return wf_fail(m->err, -ENOMEM, "out of memory");
}

static int cannot_read(struct merge *m, int code, uint64_t offset)
{
	return wf_fail_at(m->err, code, wf_storage_key(m->plan->in.storages, m->storage), offset,
			  "cannot read the storage: %s", strerror(-code));
}

static uint32_t swap_unit(const struct merge *m)
{
	return m->s->persid != WF_NIL && !m->s->untyped && wf_container_big_endian(m->plan->in.container)
		       ? wf_dtype_info(m->s->dtype)->swap_bytes
		       : 1;
}

static void swap(unsigned char *p, size_t len, uint32_t unit)
{
	for (size_t at = 0; at + unit <= len; at += unit)
		for (uint32_t k = 0; k < unit / 2; k++) {
			unsigned char c = p[at + k];
			p[at + k] = p[at + unit - 1 - k];
			p[at + unit - 1 - k] = c;
		}
}

static bool is_zero(const unsigned char *p, size_t len)
{
	return len == PIECE_BYTES && p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* All of [start, end) through memory, summed. */
static int stream(struct merge *m, uint64_t start, uint64_t end, uint32_t unit)
{
	for (uint64_t at = start; at < end;) {
		size_t n = (size_t)WF_MIN(end - at, (uint64_t)PIECE_BYTES);
		int r = wf_storage_read(m->plan->in.storages, m->storage, at, m->bytes, n);
		if (r < 0)
			return cannot_read(m, r, at);
		if (unit > 1)
			swap(m->bytes, n, unit);
		m->crc = wf_crc32(m->crc, m->bytes, n);
		/* a hole stays one: a sparse file of terabytes must not fill the disk */
		r = is_zero(m->bytes, n) ? wf_out_skip(m->out, n) : wf_out_write(m->out, m->bytes, n);
		if (r < 0)
			return r;
		at += n;
	}
	return 0;
}

/* Written bytes in the place of old ones whose sum is known. */
static int patch(struct merge *m, uint64_t start, uint64_t end)
{
	uint32_t old_sum = 0, new_sum = 0;
	uint64_t base = 0;
	int r = wf_container_locate(m->plan->in.container, m->s->record, &base, m->err);
	for (uint64_t at = start; at < end && r == 0;) {
		size_t n = (size_t)WF_MIN(end - at, (uint64_t)PIECE_BYTES);
		r = wf_storage_read(m->plan->in.storages, m->storage, at, m->bytes, n);
		if (r == 0)
			r = wf_source_read(wf_container_file(m->plan->in.container), base + at, m->old, n);
		if (r < 0)
			return cannot_read(m, r, at);
		old_sum = wf_crc32(old_sum, m->old, n);
		new_sum = wf_crc32(new_sum, m->bytes, n);
		r = wf_out_write(m->out, m->bytes, n);
		at += n;
	}
	m->crc = wf_crc32_patch(m->crc, m->s->base_bytes, end, old_sum, new_sum);
	return r;
}

static int copy_clean(struct merge *m, uint64_t start, uint64_t end)
{
	return wf_commit_copy(m->plan, m->s->record, start, end, m->out, m->err);
}

static int fill(struct merge *m, uint64_t start, uint64_t end)
{
	m->crc = wf_crc32_join(m->crc, wf_crc32_zeroes(end - start), end - start);
	return wf_out_skip(m->out, end - start);
}

/* [start, end) lies on one side of the base's end and is written or clean as a whole. */
static int run(struct merge *m, uint64_t start, uint64_t end, bool dirty)
{
	bool in_base = start < m->s->base_bytes;
	if (!dirty && !in_base)
		return fill(m, start, end);
	if (!m->patch || !in_base)
		return stream(m, start, end, 1);
	return dirty ? patch(m, start, end) : copy_clean(m, start, end);
}

static int merge(struct merge *m, uint64_t at, uint64_t stop)
{
	uint64_t end;
	int r = 0;
	while (at < stop && r == 0) {
		bool dirty = wf_extents_find(m->s->dirty, at, &end);
		end = WF_MIN(end, stop);
		if (at < m->s->base_bytes)
			end = WF_MIN(end, m->s->base_bytes);
		r = run(m, at, end, dirty);
		at = end;
	}
	return r;
}

/* The changed bytes inside the base are at most half of it, so that reading them twice is less than reading all. */
static bool few_changes(const struct wf_storage *s)
{
	uint32_t n;
	uint64_t bytes = 0;
	const struct wf_extent *e = wf_extents_all(s->dirty, &n);
	for (uint32_t i = 0; i < n && e[i].start < s->base_bytes; i++)
		bytes += WF_MIN(e[i].end, s->base_bytes) - e[i].start;
	return bytes <= s->base_bytes / 2;
}

int wf_commit_storage(const struct wf_plan *plan, uint32_t storage, struct wf_out *o, uint32_t *ret_crc32,
		      struct wf_error *err)
{
	struct merge m = {.plan = plan, .storage = storage, .out = o, .err = err};
	m.s = wf_storage_get(plan->in.storages, storage);
	cleanup_free unsigned char *bytes = m.bytes = malloc(PIECE_BYTES);
	cleanup_free unsigned char *old = m.old = malloc(PIECE_BYTES);
	if (!bytes || !old)
		return no_memory(&m);
	const struct wf_record *record = wf_container_record(plan->in.container, m.s->record);
	const struct wf_window w = wf_plan_window(plan, storage);
	uint32_t unit = swap_unit(&m);
	int r;
	if (unit > 1 || (record && record->method != 0)) {
		r = stream(&m, w.start, w.start + w.size_bytes, unit);
	} else {
		m.patch = w.start == 0 && w.size_bytes == m.s->size_bytes && record && record->has_crc &&
			  record->crc32 != 0 && m.s->base_bytes == record->size_bytes && few_changes(m.s);
		m.crc = m.patch ? record->crc32 : 0;
		r = merge(&m, w.start, w.start + w.size_bytes);
	}
	if (r == 0)
		*ret_crc32 = m.crc;
	return r;
}
