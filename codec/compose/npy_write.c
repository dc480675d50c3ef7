/* SPDX-License-Identifier: MIT */
/* Writing .npy files: each is a tensor.
 *
 * Bytes that are written over the elements of a file whose head stays as it is go to the tensor at once, as those of its own file do. In
 * every other case, a new head or another size above all, the file is gathered in one without a name beside the checkpoint, and becomes
 * the tensor when it is judged: at a close, at fsync and at the end. So a head can come in any number of writes, and is in force, as it
 * was written, until the last writer is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/compose/inner.h"
#include "codec/compose/npy_head.h"
#include "codec/value/text.h"

#define PIECE_BYTES (1u << 20)
#define LINE_MAX (64u << 10) /* content up to this is looked at: could it be taken for a line of text? */

struct wf_npy_file {
	struct wf_checkpoint *ck;
	wf_ino ino;
	pthread_mutex_t lock;
	struct wf_composed *shown;  /* NULL: a file that was made anew */
	uint64_t head_bytes;        /* of it */
	bool plain;                 /* its elements stand as in the tensor's file */
	struct wf_opening *opening; /* through which elements are written over; NULL: none so far */
	int fd;                     /* the gathered file; -1 */
	bool changed;               /* since it was judged */
	int refused;                /* what it was refused with then, or 0 */
	bool accepted;              /* once at least */
};

/* ---- the life of one ---- */

static int gather(struct wf_npy_file *f)
{
	cleanup_fd int home = wf_overlay_open_home(f->ck->overlay);
	f->fd = home < 0 ? home : openat(home, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd < 0 && home >= 0 && errno != ENOSPC) /* a file system without such files */
		f->fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return f->fd < 0 ? (home < 0 ? home : -errno) : 0;
}

/* The file as it is shown goes to the gathered one. */
static int copy_shown(struct wf_npy_file *f)
{
	uint64_t size = f->shown ? wf_composed_size(f->shown) : 0;
	cleanup_free unsigned char *piece = malloc(PIECE_BYTES);
	int r = piece ? gather(f) : -ENOMEM;
	for (uint64_t at = 0; at < size && r == 0;) {
		ssize_t n = wf_composed_read(f->ck, f->shown, at, piece, PIECE_BYTES);
		r = n < 0 ? (int)n : wf_pwrite_all(f->fd, piece, (size_t)n, at);
		at += n > 0 ? (uint64_t)n : 0;
	}
	if (r < 0 && f->fd >= 0) {
		close(f->fd);
		f->fd = -1;
	}
	return r;
}

int wf_npy_open(struct wf_checkpoint *ck, uint32_t ino, bool anew, struct wf_npy_file **ret)
{
	struct wf_tensor t;
	if (!ck->writable || !ck->overlay)
		return -EROFS;
	struct wf_npy_file *f = calloc(1, sizeof *f);
	if (!f)
		return -ENOMEM;
	*f = (struct wf_npy_file){.ck = ck, .ino = ino, .fd = -1};
	pthread_mutex_init(&f->lock, NULL);
	int r = anew ? gather(f) : wf_compose_npy(ck, ino, &f->shown);
	if (r == 0 && !anew) {
		pthread_rwlock_rdlock(&ck->lock);
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		r = n ? wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL) : -ENOENT;
		pthread_rwlock_unlock(&ck->lock);
		f->head_bytes = r == 0 ? wf_composed_size(f->shown) - t.size_bytes : 0;
		f->plain = r == 0 && !t.swap && !wf_piece_by_columns(&t);
	}
	if (r < 0) {
		wf_npy_close(f);
		return r;
	}
	*ret = f;
	return 0;
}

bool wf_npy_close(struct wf_npy_file *f)
{
	bool accepted = f->accepted || f->shown;
	if (f->opening)
		wf_release(f->ck, f->ino, f->opening);
	if (f->fd >= 0)
		close(f->fd);
	wf_composed_free(f->shown);
	pthread_mutex_destroy(&f->lock);
	free(f);
	return accepted;
}

/* ---- reading and writing ---- */

static uint64_t size_of(const struct wf_npy_file *f)
{
	struct stat st;
	if (f->fd < 0)
		return wf_composed_size(f->shown);
	return fstat(f->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

uint64_t wf_npy_size(struct wf_npy_file *f)
{
	pthread_mutex_lock(&f->lock);
	uint64_t size = size_of(f);
	pthread_mutex_unlock(&f->lock);
	return size;
}

ssize_t wf_npy_read(struct wf_npy_file *f, uint64_t offset, void *buf, size_t len)
{
	size_t got;
	pthread_mutex_lock(&f->lock);
	ssize_t n = f->fd < 0 ? wf_composed_read(f->ck, f->shown, offset, buf, len) : 0;
	if (f->fd >= 0) {
		int r = offset > INT64_MAX ? -EINVAL : wf_pread_most(f->fd, buf, len, offset, &got);
		n = r < 0 ? r : (ssize_t)got;
	}
	pthread_mutex_unlock(&f->lock);
	return n;
}

/* Whether the write changes elements alone: what it says of the head is there already. */
static bool is_over_elements(struct wf_npy_file *f, uint64_t offset, const void *buf, size_t len)
{
	unsigned char head[4096];
	if (f->fd >= 0 || !f->plain || offset > wf_composed_size(f->shown) || len > wf_composed_size(f->shown) - offset)
		return false;
	if (offset >= f->head_bytes)
		return true;
	size_t n = WF_MIN(len, f->head_bytes - offset);
	return n <= sizeof head && wf_composed_read(f->ck, f->shown, offset, head, n) == (ssize_t)n &&
	       !memcmp(head, buf, n);
}

static int write_over(struct wf_npy_file *f, uint64_t offset, const unsigned char *buf, size_t len)
{
	size_t head = offset < f->head_bytes ? WF_MIN(len, f->head_bytes - offset) : 0;
	int r = f->opening || head == len ? 0 : wf_open_file(f->ck, f->ino, WF_WRITES, &f->opening);
	for (size_t at = head; at < len && r == 0;) {
		ssize_t n = wf_write(f->ck, f->ino, f->opening, offset + at - f->head_bytes, buf + at, len - at);
		r = n < 0 ? (int)n : n == 0 ? -EIO : 0;
		at += n > 0 ? (size_t)n : 0;
	}
	return r;
}

static int write_gathered(struct wf_npy_file *f, uint64_t offset, const void *buf, size_t len)
{
	int r = offset > INT64_MAX - len ? -EFBIG : f->fd < 0 ? copy_shown(f) : 0;
	if (r == 0)
		r = wf_pwrite_all(f->fd, buf, len, offset);
	f->changed |= r == 0;
	return r;
}

ssize_t wf_npy_write(struct wf_npy_file *f, uint64_t offset, const void *buf, size_t len)
{
	pthread_mutex_lock(&f->lock);
	int r = is_over_elements(f, offset, buf, len) ? write_over(f, offset, buf, len)
						      : write_gathered(f, offset, buf, len);
	pthread_mutex_unlock(&f->lock);
	return r < 0 ? r : (ssize_t)len;
}

int wf_npy_resize(struct wf_npy_file *f, uint64_t size)
{
	int r = 0;
	pthread_mutex_lock(&f->lock);
	if (size != size_of(f)) {
		if (f->fd < 0)
			r = size == 0 ? gather(f) : copy_shown(f);
		if (r == 0 && (size > INT64_MAX || ftruncate(f->fd, (off_t)size) < 0))
			r = size > INT64_MAX ? -EFBIG : -errno;
		f->changed |= r == 0;
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}

/* ---- from a file to a tensor ---- */

struct elements {
	const struct wf_npy_head *head;
	const unsigned char *data; /* of the file */
	uint64_t element_bytes;
	int64_t index[WF_MAX_NDIM]; /* by columns: of the next element */
	uint64_t at;                /* the next one of its bytes */
};

/* The next elements row by row, little endian. */
static void take_elements(struct elements *e, unsigned char *out, size_t bytes)
{
	const struct wf_npy_head *h = e->head;
	unsigned int unit = h->big_endian ? wf_dtype_info(h->dtype)->swap_bytes : 1;
	for (size_t i = 0; i < bytes && h->by_columns; i += e->element_bytes) {
		uint64_t step = e->element_bytes, from = 0;
		for (uint32_t d = 0; d < h->ndim; d++) {
			from += (uint64_t)e->index[d] * step;
			step *= (uint64_t)h->shape[d];
		}
		memcpy(out + i, e->data + from, e->element_bytes);
		for (uint32_t d = h->ndim; d-- > 0 && ++e->index[d] == h->shape[d];)
			e->index[d] = 0;
	}
	if (!h->by_columns)
		memcpy(out, e->data + e->at, bytes);
	e->at += bytes;
	for (size_t i = 0; i < bytes && unit > 1; i += unit)
		for (unsigned int k = 0; k < unit / 2; k++) {
			unsigned char c = out[i + k];
			out[i + k] = out[i + unit - 1 - k];
			out[i + unit - 1 - k] = c;
		}
}

static int write_elements(struct wf_npy_file *f, struct wf_opening *o, struct elements *e)
{
	uint64_t total = e->head->size_bytes;
	cleanup_free unsigned char *piece = malloc(PIECE_BYTES);
	if (!piece)
		return -ENOMEM;
	while (e->at < total) {
		uint64_t start = e->at;
		size_t n = (size_t)WF_MIN(total - start,
					  (uint64_t)PIECE_BYTES); /* whole elements: their sizes are powers of 2 */
		take_elements(e, piece, n);
		for (size_t done = 0; done < n;) {
			ssize_t written = wf_write(f->ck, f->ino, o, start + done, piece + done, n - done);
			if (written <= 0)
				return written < 0 ? (int)written : -EIO;
			done += (size_t)written;
		}
	}
	return 0;
}

static int set_form(struct wf_npy_file *f, const struct wf_npy_head *h)
{
	struct wf_buffer shape = WF_BUFFER_INIT;
	const char *dtype = wf_dtype_info(h->dtype)->name;
	wf_json_ints(&shape, h->shape, h->ndim);
	int r = wf_buffer_status(&shape);
	if (r == 0)
		r = wf_setxattr(f->ck, f->ino, "user.torch.dtype", dtype, strlen(dtype), 0);
	if (r == 0)
		r = wf_setxattr(f->ck, f->ino, "user.torch.shape", shape.data, shape.len, 0);
	wf_buffer_free(&shape);
	return r;
}

/* 0, or a negative errno: then the entry is what it was before this opening. */
static int end_opening(struct wf_npy_file *f, struct wf_opening *o, int r)
{
	int judged = wf_flush(f->ck, f->ino, o);
	wf_release(f->ck, f->ino, o);
	return r < 0 ? r : judged;
}

/* Bytes of a size that does not change are never taken for text. */
static int write_in_place(struct wf_npy_file *f, struct elements *e)
{
	struct wf_opening *o;
	int r = wf_open_file(f->ck, f->ino, WF_WRITES, &o);
	return r < 0 ? r : end_opening(f, o, write_elements(f, o, e));
}

static int write_anew(struct wf_npy_file *f, const struct wf_npy_head *form, struct elements *e)
{
	struct wf_opening *o;
	int r = wf_open_file(f->ck, f->ino, WF_WRITES, &o);
	if (r < 0)
		return r;
	r = wf_truncate(f->ck, f->ino, o, 0);
	if (r == 0)
		r = set_form(f, form);
	if (r == 0)
		r = write_elements(f, o, e);
	return end_opening(f, o, r);
}

static bool has_form(struct wf_npy_file *f, const struct wf_npy_head *h)
{
	struct wf_tensor t;
	pthread_rwlock_rdlock(&f->ck->lock);
	const struct wf_node *n = wf_tree_node(f->ck->tree, f->ino);
	bool same = n && n->type == WF_NODE_TENSOR &&
		    wf_tensor_decode(f->ck->graph, f->ck->storages, n->object, &t, NULL) == 0 && t.record == WF_NIL &&
		    t.dtype == h->dtype && t.ndim == h->ndim && t.size_bytes == h->size_bytes &&
		    (t.ndim == 0 || !memcmp(t.shape, h->shape, t.ndim * sizeof *t.shape)) &&
		    !wf_edits_is_pending(f->ck, f->ino);
	pthread_rwlock_unlock(&f->ck->lock);
	return same && (f->shown || f->accepted);
}

static int store(struct wf_npy_file *f, const struct wf_npy_head *h, const unsigned char *data)
{
	struct elements e = {.head = h, .data = data, .element_bytes = wf_dtype_info(h->dtype)->size_bytes};
	if (has_form(f, h))
		return write_in_place(f, &e);
	/* A few bytes can read as a line of text, which is judged as what it says; but never where elements are bytes. */
	if (h->size_bytes == 0 || h->size_bytes > LINE_MAX || data[h->size_bytes - 1] != '\n')
		return write_anew(f, h, &e);
	const struct wf_npy_head bytes = {.dtype = WF_UINT8, .ndim = 1, .shape = {(int64_t)h->size_bytes}};
	int r = write_anew(f, &bytes, &e);
	return r < 0 ? r : set_form(f, h);
}

static int refuse(struct wf_npy_file *f, const char *why)
{
	return wf_refuse(f->ck, -EINVAL, "not taken as an .npy file: %s", why);
}

static int judge(struct wf_npy_file *f)
{
	struct wf_npy_head h;
	const char *why = "it is empty";
	uint64_t size = size_of(f);
	cleanup_free unsigned char *start = malloc(WF_NPY_HEAD_MAX);
	size_t got = 0;
	int r = start ? wf_pread_most(f->fd, start, WF_NPY_HEAD_MAX, 0, &got) : -ENOMEM;
	if (r == 0)
		r = wf_npy_head_parse(start, got, &h, &why);
	if (r < 0)
		return r == -ENODATA ? refuse(f, "its head is cut off") : r == -EINVAL ? refuse(f, why) : r;
	/* a head alone is what numpy.lib.format.open_memmap makes before it maps the file: zeroes follow */
	if (size == h.data_offset &&
	    (h.size_bytes == 0 || ftruncate(f->fd, (off_t)(h.data_offset + h.size_bytes)) == 0))
		size = h.data_offset + h.size_bytes;
	if (size != h.data_offset + h.size_bytes)
		return refuse(f, size < h.data_offset + h.size_bytes ? "elements are missing"
								     : "there is more than the elements of its shape");
	unsigned char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, f->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	r = store(f, &h, map + h.data_offset);
	munmap(map, size);
	return r;
}

int wf_npy_flush(struct wf_npy_file *f)
{
	int r = 0;
	pthread_mutex_lock(&f->lock);
	if (f->fd < 0 && f->opening) {
		r = wf_flush(f->ck, f->ino, f->opening);
	} else if (f->fd >= 0 && f->changed && size_of(f) > 0) {
		if (f->opening) { /* what it wrote before is in the gathered file */
			wf_release(f->ck, f->ino, f->opening);
			f->opening = NULL;
		}
		r = judge(f);
		f->changed = false;
		f->refused = r;
		f->accepted |= r == 0;
	} else if (f->fd >= 0 && !f->changed) {
		/* the close that was told of it may have been that of a copy, and nobody listened: np.save writes through one */
		r = f->refused;
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}
