/* SPDX-License-Identifier: MIT */
/* Moving bytes between a tensor's file and its storage.
 *
 * A range of the file is at most 2 * ndim - 1 boxes of whole runs, and a part of a run at either end. A box is moved in
 * the order of the storage, not of the file, so that a window of the storage is read once however the dimensions are
 * permuted: in the file's order a transposed matrix would cost one pread for each element.
 *
 *   file    0 1 2 3 4 5 ...        storage of a transposed 3 x 4:  0 3 6 9 | 1 4 7 10 | 2 5 8 11
 *           [  range   ]           box: axes sorted by their step in the storage, each with its step in the file
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tensor/layout.h"
#include "codec/bytes/util.h"

/* Below glibc's threshold for mmap: a larger window would be mapped and cleared anew for each read. */
#define WINDOW_BYTES (120u << 10)
/* Bytes between two runs that are read along with them: about what is copied in the time that a pread takes. */
#define READ_GAP_BYTES 4096u
/* The same for writing, where they are written along as well, and take room in the overlay. */
#define WRITE_GAP_BYTES 256u
#define RESOLVE_BYTES (64u << 10)

struct axis {
	uint64_t n;
	uint64_t storage_step, file_step; /* bytes */
};

struct box {
	uint64_t storage;    /* offset of its first run */
	unsigned char *file; /* where that stands in the caller's buffer */
	uint64_t run_bytes;
	uint32_t naxes;
	struct axis axis[WF_MAX_NDIM]; /* sorted by storage_step, the smallest first */
};

struct mover {
	struct wf_storages *ss;
	const struct wf_tensor *t;
	bool write;
	unsigned char *window; /* made when first needed */
	uint64_t run_bytes;
	uint32_t naxes;
	struct axis axis[WF_MAX_NDIM]; /* the tensor's, innermost first, merged where one continues the other */
};

static void find_axes(struct mover *m)
{
	const struct wf_tensor *t = m->t;
	uint64_t element = wf_dtype_info(t->dtype)->size_bytes, file_step;

	m->run_bytes = element;
	for (uint32_t d = t->ndim; d-- > 0;) {
		uint64_t n = (uint64_t)t->shape[d], step = (uint64_t)t->stride[d] * element;
		struct axis *last = m->naxes > 0 ? &m->axis[m->naxes - 1] : NULL;
		if (n == 1)
			continue;
		if (!last && step == m->run_bytes)
			m->run_bytes *= n;
		else if (last && step == last->storage_step * last->n)
			last->n *= n;
		else
			m->axis[m->naxes++] = (struct axis){.n = n, .storage_step = step};
	}
	file_step = m->run_bytes;
	for (uint32_t k = 0; k < m->naxes; k++) {
		m->axis[k].file_step = file_step;
		file_step *= m->axis[k].n;
	}
}

static uint64_t storage_of_run(const struct mover *m, uint64_t run)
{
	uint64_t at = wf_layout_start(m->t);

	for (uint32_t k = 0; k < m->naxes; k++) {
		at += run % m->axis[k].n * m->axis[k].storage_step;
		run /= m->axis[k].n;
	}
	return at;
}

static int move_plain(struct mover *m, uint64_t storage, unsigned char *file, size_t len)
{
	return m->write ? wf_storage_write(m->ss, m->t->storage, storage, file, len)
			: wf_storage_read(m->ss, m->t->storage, storage, file, len);
}

/* ---- between window and buffer ---- */

#define COPY_AXIS(type)                                                    \
	for (uint64_t i = 0; i < n; i++, to += to_step, from += from_step) \
	memcpy(to, from, sizeof(type))

static void copy_axis(unsigned char *to, const unsigned char *from, uint64_t n, uint64_t to_step, uint64_t from_step,
		      size_t run)
{
	switch (run) {
	case 1:
		COPY_AXIS(uint8_t);
		break;
	case 2:
		COPY_AXIS(uint16_t);
		break;
	case 4:
		COPY_AXIS(uint32_t);
		break;
	case 8:
		COPY_AXIS(uint64_t);
		break;
	default:
		for (uint64_t i = 0; i < n; i++, to += to_step, from += from_step)
			memcpy(to, from, run);
	}
}

/* All runs of b, between a window that starts at the box's first run and the buffer. */
static void copy_box(const struct mover *m, const struct box *b)
{
	uint64_t index[WF_MAX_NDIM] = {0};
	unsigned char *window = m->window, *file = b->file;
	uint32_t k = 0;

	do {
		const struct axis *a = &b->axis[0];
		if (m->write)
			copy_axis(window, file, a->n, a->storage_step, a->file_step, b->run_bytes);
		else
			copy_axis(file, window, a->n, a->file_step, a->storage_step, b->run_bytes);
		for (k = 1; k < b->naxes; k++) {
			window += b->axis[k].storage_step;
			file += b->axis[k].file_step;
			if (++index[k] < b->axis[k].n)
				break;
			window -= b->axis[k].n * b->axis[k].storage_step;
			file -= b->axis[k].n * b->axis[k].file_step;
			index[k] = 0;
		}
	} while (k < b->naxes);
}

/* ---- a box, window by window ---- */

static uint64_t span_of(const struct box *b)
{
	uint64_t span = b->run_bytes;

	for (uint32_t k = 0; k < b->naxes; k++)
		span += (b->axis[k].n - 1) * b->axis[k].storage_step;
	return span;
}

/* A box that one window holds. */
static int move_window(struct mover *m, const struct box *b)
{
	uint64_t span = span_of(b), bytes = b->run_bytes;

	if (b->naxes == 0)
		return move_plain(m, b->storage, b->file, b->run_bytes);
	if (!m->window && !(m->window = malloc(WINDOW_BYTES)))
		return -ENOMEM;
	for (uint32_t k = 0; k < b->naxes; k++)
		bytes *= b->axis[k].n;
	/* a write overwrites all of a dense window, and keeps what stands between the runs of another */
	if (!m->write || bytes != span) {
		int r = wf_storage_read(m->ss, m->t->storage, b->storage, m->window, span);
		if (r < 0)
			return r;
	}
	copy_box(m, b);
	return m->write ? wf_storage_write(m->ss, m->t->storage, b->storage, m->window, span) : 0;
}

/* How many of b's axes one window takes whole; *ret_part: how much of the next one. */
static uint32_t fit_window(const struct mover *m, const struct box *b, uint64_t *ret_part)
{
	uint64_t gap = m->write ? WRITE_GAP_BYTES : READ_GAP_BYTES, span = b->run_bytes;

	*ret_part = 1;
	for (uint32_t k = 0; k < b->naxes; k++) {
		uint64_t n = b->axis[k].n, step = b->axis[k].storage_step;
		if (span > WINDOW_BYTES || (step > span && step - span > gap))
			return k;
		uint64_t fits = step ? (WINDOW_BYTES - span) / step + 1 : n;
		if (fits < n) {
			*ret_part = fits;
			return k;
		}
		span += (n - 1) * step;
	}
	return b->naxes;
}

static int move_box(struct mover *m, struct box *b)
{
	uint64_t part, index[WF_MAX_NDIM] = {0};
	uint32_t whole = fit_window(m, b, &part), k;
	struct box w = *b;

	if (whole == b->naxes)
		return move_window(m, b);
	do {
		/* the next `part` steps of the first axis that does not fit whole */
		uint64_t left = b->axis[whole].n - index[whole];
		w.axis[whole].n = WF_MIN(part, left);
		w.naxes = whole + (w.axis[whole].n > 1);
		int r = move_window(m, &w);
		if (r < 0)
			return r;
		uint64_t steps = w.axis[whole].n;
		for (k = whole; k < b->naxes; k++) {
			w.storage += steps * b->axis[k].storage_step;
			w.file += steps * b->axis[k].file_step;
			index[k] += steps;
			if (index[k] < b->axis[k].n)
				break;
			w.storage -= b->axis[k].n * b->axis[k].storage_step;
			w.file -= b->axis[k].n * b->axis[k].file_step;
			index[k] = 0;
			steps = 1;
		}
	} while (k < b->naxes);
	return 0;
}

static void add_axis(struct box *b, const struct axis *a, uint64_t n)
{
	uint32_t i = b->naxes;

	if (n == 1)
		return;
	for (; i > 0 && b->axis[i - 1].storage_step > a->storage_step; i--)
		b->axis[i] = b->axis[i - 1];
	b->axis[i] = *a;
	b->axis[i].n = n;
	b->naxes++;
}

/* Runs [from, to) of the tensor; file is where the first one stands in the buffer. */
static int move_runs(struct mover *m, uint64_t from, uint64_t to, unsigned char *file)
{
	struct box b;

	while (from < to) {
		uint64_t runs = 1; /* in one step of axis k */
		uint32_t k = 0;
		while (k + 1 < m->naxes && from % (runs * m->axis[k].n) == 0 && runs * m->axis[k].n <= to - from)
			runs *= m->axis[k++].n;
		b.storage = storage_of_run(m, from);
		b.file = file;
		b.run_bytes = m->run_bytes;
		b.naxes = 0;
		uint64_t steps = 1;
		if (m->naxes > 0)
			steps = WF_MIN((to - from) / runs, m->axis[k].n - from / runs % m->axis[k].n);
		for (uint32_t i = 0; i < k; i++)
			add_axis(&b, &m->axis[i], m->axis[i].n);
		if (m->naxes > 0)
			add_axis(&b, &m->axis[k], steps);
		int r = move_box(m, &b);
		if (r < 0)
			return r;
		from += steps * runs;
		file += steps * runs * m->run_bytes;
	}
	return 0;
}

/* Raw bytes [offset, offset + len) of the tensor's file, len > 0. */
static int move_raw(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, unsigned char *file, size_t len,
		    bool write)
{
	struct mover m = {.ss = ss, .t = t, .write = write};
	int r = 0;

	if (t->contiguous)
		return move_plain(&m, wf_layout_start(t) + offset, file, len);
	find_axes(&m);
	uint64_t inside = offset % m.run_bytes, run = offset / m.run_bytes;
	if (inside > 0) {
		size_t n = WF_MIN(len, m.run_bytes - inside);
		r = move_plain(&m, storage_of_run(&m, run) + inside, file, n);
		file += n;
		len -= n;
		run++;
	}
	uint64_t runs = len / m.run_bytes;
	if (r == 0)
		r = move_runs(&m, run, run + runs, file);
	if (r == 0 && len % m.run_bytes > 0)
		r = move_plain(&m, storage_of_run(&m, run + runs), file + runs * m.run_bytes, len % m.run_bytes);
	free(m.window);
	return r;
}

/* ---- logical values: conjugate and negative bits, and NumPy's big-endian elements ---- */

static bool resolves(const struct wf_tensor *t)
{
	return t->conj || t->neg || t->swap;
}

static void swap_bytes(unsigned char *p, size_t unit)
{
	for (size_t i = 0; i < unit / 2; i++) {
		unsigned char c = p[i];
		p[i] = p[unit - 1 - i];
		p[unit - 1 - i] = c;
	}
}

static bool is_integer(enum wf_dtype d)
{
	return d == WF_INT64 || d == WF_INT32 || d == WF_INT16 || d == WF_INT8 || d == WF_UINT8 || d == WF_UINT16 ||
	       d == WF_UINT32 || d == WF_UINT64;
}

static void negate(const struct wf_tensor *t, unsigned char *p, size_t unit)
{
	uint64_t v = 0;

	if (!is_integer(t->dtype)) {
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

	for (size_t at = 0; at < len; at += info->size_bytes)
		for (size_t part = 0; part < info->size_bytes; part += unit) {
			if (t->swap)
				swap_bytes(buf + at + part, unit);
			if (t->neg != (t->conj && part > 0))
				negate(t, buf + at + part, unit);
		}
}

/* One element, for a range that begins or ends inside it: [skip, skip + len) of it goes to or comes from buf. */
static int move_part(struct wf_storages *ss, const struct wf_tensor *t, uint64_t element_offset, size_t skip,
		     unsigned char *buf, size_t len, bool write)
{
	unsigned char element[16];
	size_t size = wf_dtype_info(t->dtype)->size_bytes;
	int r = move_raw(ss, t, element_offset, element, size, false);

	if (r < 0)
		return r;
	resolve(t, element, size);
	if (!write) {
		memcpy(buf, element + skip, len);
		return 0;
	}
	memcpy(element + skip, buf, len);
	resolve(t, element, size);
	return move_raw(ss, t, element_offset, element, size, true);
}

static int move_resolved(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, unsigned char *buf,
			 size_t len, bool write)
{
	size_t size = wf_dtype_info(t->dtype)->size_bytes;
	cleanup_free unsigned char *copy = write ? malloc(RESOLVE_BYTES) : NULL;

	if (write && !copy)
		return -ENOMEM;
	while (len > 0) {
		size_t skip = offset % size, n = WF_MIN(len - len % size, write ? RESOLVE_BYTES : SIZE_MAX);
		int r;
		if (skip > 0 || n == 0) {
			n = WF_MIN(len, size - skip);
			r = move_part(ss, t, offset - skip, skip, buf, n, write);
		} else if (write) {
			memcpy(copy, buf, n);
			resolve(t, copy, n);
			r = move_raw(ss, t, offset, copy, n, true);
		} else {
			r = move_raw(ss, t, offset, buf, n, false);
			if (r == 0)
				resolve(t, buf, n);
		}
		if (r < 0)
			return r;
		buf += n;
		offset += n;
		len -= n;
	}
	return 0;
}

/* ---- the two ways ---- */

static int move(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, unsigned char *buf, size_t len,
		bool write)
{
	if (t->kind == WF_TENSOR_META)
		return -ENODATA;
	if (offset > t->size_bytes || len > t->size_bytes - offset)
		return -EUCLEAN;
	if (len == 0)
		return 0;
	if (write && wf_layout_overlaps(t))
		return -EOPNOTSUPP;
	return resolves(t) ? move_resolved(ss, t, offset, buf, len, write) : move_raw(ss, t, offset, buf, len, write);
}

int wf_tensor_read(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, void *buf, size_t len)
{
	return move(ss, t, offset, buf, len, false);
}

int wf_tensor_write(struct wf_storages *ss, const struct wf_tensor *t, uint64_t offset, const void *buf, size_t len)
{
	return move(ss, t, offset, (unsigned char *)(uintptr_t)buf, len, true); /* only read when writing */
}
