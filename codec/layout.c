#include "layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define GATHER_WINDOW (1u << 20) /* bytes of a storage read at once for a strided view */

static uint64_t element_bytes(const struct wf_tensor *t)
{
	return wf_dtype_info(t->dtype)->size_bytes;
}

void wf_layout_init(struct wf_layout *l, const struct wf_tensor *t, uint64_t offset, uint64_t len)
{
	*l = (struct wf_layout){.tensor = t, .pos = offset, .end = offset + len, .run_elems = 1, .outer_ndim = t->ndim};
	if (t->contiguous) {
		l->run_elems = t->numel;
		l->outer_ndim = 0;
		return;
	}
	/* the innermost dimensions whose strides are those of a dense block are walked as one run */
	while (l->outer_ndim > 0) {
		uint32_t d = l->outer_ndim - 1;
		if (t->shape[d] != 1 && (uint64_t)t->stride[d] != l->run_elems)
			break;
		l->run_elems *= (uint64_t)t->shape[d];
		l->outer_ndim--;
	}
}

bool wf_layout_next(struct wf_layout *l, struct wf_run *ret)
{
	const struct wf_tensor *t = l->tensor;
	uint64_t size = element_bytes(t), run_bytes = l->run_elems * size;
	if (l->pos >= l->end)
		return false;
	uint64_t block = l->pos / run_bytes, inside = l->pos % run_bytes, at = t->offset_elems;
	for (uint32_t d = l->outer_ndim; d-- > 0;) {
		at += block % (uint64_t)t->shape[d] * (uint64_t)t->stride[d];
		block /= (uint64_t)t->shape[d];
	}
	ret->file_offset = l->pos;
	ret->storage_offset = at * size + inside;
	ret->len = WF_MIN(run_bytes - inside, l->end - l->pos);
	l->pos += ret->len;
	return true;
}

void wf_layout_span(const struct wf_tensor *t, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t size = element_bytes(t), last = t->offset_elems;
	*ret_start = *ret_end = t->offset_elems * size;
	if (t->numel == 0)
		return;
	if (t->contiguous) {
		*ret_end += t->size_bytes;
		return;
	}
	for (uint32_t d = 0; d < t->ndim; d++)
		last += (uint64_t)(t->shape[d] - 1) * (uint64_t)t->stride[d];
	*ret_end = (last + 1) * size;
}

bool wf_layout_overlaps(const struct wf_tensor *t)
{
	uint32_t order[WF_MAX_NDIM], n = 0;
	if (t->contiguous || t->numel <= 1)
		return false;
	/* sorted by stride, each dimension must step over everything that the smaller ones span */
	for (uint32_t d = 0; d < t->ndim; d++) {
		if (t->shape[d] <= 1)
			continue;
		uint32_t i = n++;
		for (; i > 0 && t->stride[order[i - 1]] > t->stride[d]; i--)
			order[i] = order[i - 1];
		order[i] = d;
	}
	uint64_t span = 1; /* elements from the first to one past the last of the dimensions so far */
	for (uint32_t i = 0; i < n; i++) {
		if ((uint64_t)t->stride[order[i]] < span)
			return true;
		span += (uint64_t)(t->shape[order[i]] - 1) * (uint64_t)t->stride[order[i]];
	}
	return false;
}

/* ---- logical values: conjugate and negative bits, and NumPy's big-endian elements ---- */

static void swap_bytes(unsigned char *p, size_t unit)
{
	for (size_t i = 0; i < unit / 2; i++) {
		unsigned char c = p[i];
		p[i] = p[unit - 1 - i];
		p[unit - 1 - i] = c;
	}
}

static bool resolves(const struct wf_tensor *t)
{
	return t->conj || t->neg || t->swap;
}

/* Integers are negated by arithmetic, floating point by its sign bit, which is the same operation both ways. */
static void negate(const struct wf_tensor *t, unsigned char *p, size_t unit)
{
	uint64_t v = 0;
	bool integer = t->dtype == WF_INT64 || t->dtype == WF_INT32 || t->dtype == WF_INT16 || t->dtype == WF_INT8 ||
		       t->dtype == WF_UINT8 || t->dtype == WF_UINT16 || t->dtype == WF_UINT32 || t->dtype == WF_UINT64;
	if (!integer) {
		p[unit - 1] ^= 0x80;
		return;
	}
	memcpy(&v, p, unit);
	v = 0 - v;
	memcpy(p, &v, unit);
}

/* Turns whole elements of the storage into those of the file, or back: every step is its own inverse. */
static void resolve(const struct wf_tensor *t, unsigned char *buf, size_t len)
{
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);
	size_t unit = info->swap_bytes;
	for (size_t at = 0; at + info->size_bytes <= len; at += info->size_bytes) {
		for (size_t part = 0; part < info->size_bytes; part += unit) {
			if (t->swap)
				swap_bytes(buf + at + part, unit);
			if (t->neg != (t->conj && part > 0))
				negate(t, buf + at + part, unit);
		}
	}
}

/* ---- reading ---- */

/* Runs of a strided view are usually a few bytes each and close together: one window of the storage serves many. */
struct window {
	unsigned char *data;
	uint64_t start, end;
	uint64_t span_start, span_end; /* of the view: nothing outside is read */
};

static int read_run(struct wf_storages *ss, const struct wf_tensor *t, struct window *w, const struct wf_run *run,
		    char *out)
{
	if (run->len >= GATHER_WINDOW / 4)
		return wf_storage_read(ss, t->storage, run->storage_offset, out, run->len);
	if (run->storage_offset < w->start || run->storage_offset + run->len > w->end) {
		/* a column of a row-major matrix jumps farther than a window helps with: then read just the run */
		uint64_t want = run->storage_offset >= w->end && run->storage_offset - w->end < GATHER_WINDOW
					? GATHER_WINDOW
					: 4096;
		uint64_t start = WF_MAX(run->storage_offset & ~(uint64_t)63, w->span_start);
		uint64_t end = WF_MIN(start + WF_MAX(want, run->len + 64), w->span_end);
		int r = wf_storage_read(ss, t->storage, start, w->data, end - start);
		if (r < 0) {
			w->start = w->end = 0;
			return r;
		}
		w->start = start;
		w->end = end;
	}
	memcpy(out, w->data + (run->storage_offset - w->start), run->len);
	return 0;
}

static int read_raw(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len)
{
	struct wf_layout l;
	struct wf_run run;
	struct window w = {0};
	int r = 0;
	wf_layout_init(&l, t, offset, len);
	if (l.outer_ndim == 0)
		return wf_storage_read(ss, t->storage, t->offset_elems * element_bytes(t) + offset, buf, len);
	cleanup_free void *data = malloc(GATHER_WINDOW);
	if (!data)
		return -ENOMEM;
	w.data = data;
	wf_layout_span(t, &w.span_start, &w.span_end);
	while (r == 0 && wf_layout_next(&l, &run))
		r = read_run(ss, t, &w, &run, (char *)buf + (run.file_offset - offset));
	return r;
}

/* The range widened to whole elements: *ret_start is where it starts, the result is its length. */
static uint64_t widen(const struct wf_tensor *t, uint64_t offset, size_t len, uint64_t *ret_start)
{
	uint64_t size = element_bytes(t);
	*ret_start = offset / size * size;
	return (offset + len + size - 1) / size * size - *ret_start;
}

int wf_tensor_read(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len)
{
	if (t->kind == WF_TENSOR_META)
		return -ENODATA;
	if (offset > t->size_bytes || len > t->size_bytes - offset)
		return -EUCLEAN;
	if (len == 0)
		return 0;
	if (!resolves(t))
		return read_raw(ss, t, offset, buf, len);
	uint64_t start, wide = widen(t, offset, len, &start);
	cleanup_free unsigned char *whole = malloc(wide);
	if (!whole)
		return -ENOMEM;
	int r = read_raw(ss, t, start, whole, wide);
	if (r < 0)
		return r;
	resolve(t, whole, wide);
	memcpy(buf, whole + (offset - start), len);
	return 0;
}

/* ---- writing ---- */

static int write_raw(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, const void *buf, size_t len)
{
	struct wf_layout l;
	struct wf_run run;
	int r = 0;
	wf_layout_init(&l, t, offset, len);
	if (l.outer_ndim == 0)
		return wf_storage_write(ss, t->storage, t->offset_elems * element_bytes(t) + offset, buf, len);
	while (r == 0 && wf_layout_next(&l, &run))
		r = wf_storage_write(ss, t->storage, run.storage_offset, (const char *)buf + (run.file_offset - offset),
				     run.len);
	return r;
}

int wf_tensor_write(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, const void *buf, size_t len)
{
	if (t->kind == WF_TENSOR_META)
		return -ENODATA;
	if (offset > t->size_bytes || len > t->size_bytes - offset)
		return -EUCLEAN;
	if (len == 0)
		return 0;
	if (wf_layout_overlaps(t))
		return -EOPNOTSUPP;
	if (!resolves(t))
		return write_raw(ss, t, offset, buf, len);
	uint64_t start, wide = widen(t, offset, len, &start);
	cleanup_free unsigned char *whole = malloc(wide);
	if (!whole)
		return -ENOMEM;
	int r = wide == len ? 0 : wf_tensor_read(ss, t, start, whole, wide);
	if (r < 0)
		return r;
	memcpy(whole + (offset - start), buf, len);
	resolve(t, whole, wide);
	return write_raw(ss, t, start, whole, wide);
}
