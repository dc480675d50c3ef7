/* SPDX-License-Identifier: MIT */
/* The slices that a commit of a distributed checkpoint writes, one behind the other in one file, each as torch.save writes it: one for each
 * new entry, and one for each chunk of a tensor that stays which bytes were written to. */
#include "codec/commit/dcp_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/crc32.h"
#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/container/tensor_maker.h"
#include "codec/directory/box.h"
#include "codec/directory/dcp_entries.h"
#include "codec/tensor/layout.h"

#define PIECE_BYTES (1u << 20)
#define MAX_FILES 100000u
#define MAX_NUMBER UINT64_C(1000000000000)
/* Runs of a chunk that are this near to each other in the whole are read as one: cheaper than a call for each. */
#define NEAR_BYTES 8192u

/* ---- which ---- */

static int no_memory(const struct wf_dcp_plan *p)
{
	return wf_fail(p->err, -ENOMEM, "out of memory");
}

static int add_slice(struct wf_dcp_plan *p, struct dcp_leaf *leaf, struct dcp_slice slice)
{
	if (wf_array_reserve(&p->slices, &p->slice_room, (uint64_t)p->slice_count + 1, sizeof *p->slices,
			     UINT32_MAX - 1) < 0)
		return no_memory(p);
	if (leaf->slice_count++ == 0)
		leaf->slices = p->slice_count;
	slice.leaf = p->count; /* that is being added */
	p->slices[p->slice_count++] = slice;
	return 0;
}

int dcp_add_slice(struct wf_dcp_plan *p, struct dcp_leaf *leaf)
{
	return add_slice(p, leaf, (struct dcp_slice){0});
}

static bool was_written(const struct wf_extents *dirty, const struct wf_box *box)
{
	uint32_t n;
	uint64_t run, first = wf_box_place(box, 0, &run), last = wf_box_place(box, wf_box_bytes(box) - 1, &run);
	const struct wf_extent *e = wf_extents_all(dirty, &n);
	uint32_t from = wf_first_not(k, n, e[k].end <= first);
	for (uint32_t i = from; i < n && e[i].start <= last; i++)
		if (wf_box_before(box, e[i].end) > wf_box_before(box, e[i].start))
			return true;
	return false;
}

static struct wf_box box_of(const struct wf_tensor *t, const uint64_t *numbers, uint64_t whole[WF_MAX_NDIM])
{
	for (uint32_t d = 0; d < t->ndim; d++)
		whole[d] = (uint64_t)t->shape[d];
	return (struct wf_box){.ndim = t->ndim,
			       .element_bytes = wf_dtype_info(t->dtype)->size_bytes,
			       .whole = whole,
			       .offsets = numbers,
			       .sizes = numbers + t->ndim};
}

static int add_box(struct wf_dcp_plan *p, struct dcp_leaf *leaf, uint32_t old, const uint64_t *numbers, uint32_t n)
{
	if (wf_array_reserve(&p->numbers, &p->number_room, (uint64_t)p->number_count + n, sizeof *p->numbers,
			     UINT32_MAX - 1) < 0)
		return no_memory(p);
	struct dcp_slice slice = {.old = old, .box = p->number_count};
	memcpy(p->numbers + p->number_count, numbers, n * sizeof *numbers);
	p->number_count += n;
	return add_slice(p, leaf, slice);
}

int dcp_find_changed_chunks(struct wf_dcp_plan *p, struct dcp_leaf *leaf, const struct wf_tensor *t)
{
	cleanup_free uint64_t *numbers = NULL;
	uint64_t whole[WF_MAX_NDIM];
	uint32_t count = 0, len;
	const char *name = wf_dcp_entry_name(p->in.container, leaf->entry, &len);
	int r = wf_dcp_writer_boxes(p->writer, name, len, t->ndim, &numbers, &count, p->err);
	for (uint32_t i = 0; i < count && r == 0; i++) {
		const uint64_t *at = numbers + (size_t)i * 2 * t->ndim;
		const struct wf_box box = box_of(t, at, whole);
		if (wf_box_bytes(&box) > 0 && was_written(wf_storage_get(p->in.storages, t->storage)->dirty, &box))
			r = add_box(p, leaf, i, at, 2 * t->ndim);
	}
	return r;
}

/* ---- bytes ---- */

struct slicer {
	struct wf_dcp_plan *p;
	struct wf_zip_writer zip;
	struct wf_out *out;
	unsigned char *piece, *span; /* PIECE_BYTES each */
};

static int put_record(struct slicer *s, const char *name, const void *data, size_t len)
{
	struct wf_zip_entry e;
	wf_zip_entry_init(&e, name, strlen(name), len);
	int r = wf_zip_begin(&s->zip, &e, 0, 0);
	if (r == 0)
		r = wf_out_write(s->out, data, len);
	e.crc32 = wf_crc32(0, data, len);
	return r < 0 ? r : wf_zip_end(&s->zip, &e);
}

/* What a record's bytes are read from: a box of a tensor, or where t is NULL a storage. */
struct slice_data {
	const struct wf_tensor *t;
	const struct wf_box *box; /* NULL: all of it */
	uint32_t storage;
	uint64_t size_bytes;
};

/* How far the runs of a box from byte `local` on are read as one span of the whole, which begins at *ret_start. Returns how many bytes of the
 * box that is. */
static uint64_t measure_span(const struct wf_box *box, uint64_t local, uint64_t size, uint64_t *ret_start,
			     uint64_t *ret_end)
{
	uint64_t run, at = local;
	*ret_start = *ret_end = wf_box_place(box, local, &run);
	while (at < size) {
		uint64_t place = wf_box_place(box, at, &run);
		if (at > local && (place - *ret_end > NEAR_BYTES || place + run - *ret_start > PIECE_BYTES))
			break;
		run = WF_MIN(run, *ret_start + PIECE_BYTES - place); /* the first one may be longer */
		*ret_end = place + run;
		at += run;
		if (*ret_end - *ret_start == PIECE_BYTES)
			break;
	}
	return at - local;
}

static int read_box(struct slicer *s, const struct slice_data *d, uint64_t local, size_t *ret_len)
{
	uint64_t start, end, run, len = measure_span(d->box, local, d->size_bytes, &start, &end);
	int r = wf_tensor_read(s->p->in.storages, d->t, start, s->span, (size_t)(end - start));
	for (uint64_t at = 0; at < len && r == 0; at += run) {
		uint64_t place = wf_box_place(d->box, local + at, &run);
		run = WF_MIN(run, len - at);
		memcpy(s->piece + at, s->span + (place - start), (size_t)run);
	}
	*ret_len = (size_t)len;
	return r;
}

static int read_piece(struct slicer *s, const struct slice_data *d, uint64_t at, size_t *ret_len)
{
	struct wf_storages *ss = s->p->in.storages;
	if (d->box)
		return read_box(s, d, at, ret_len);
	*ret_len = (size_t)WF_MIN(d->size_bytes - at, (uint64_t)PIECE_BYTES);
	return d->t ? wf_tensor_read(ss, d->t, at, s->piece, *ret_len)
		    : wf_storage_read(ss, d->storage, at, s->piece, *ret_len);
}

static int put_data(struct slicer *s, const char *name, const struct slice_data *d)
{
	struct wf_zip_entry e;
	size_t n = 0;
	wf_zip_entry_init(&e, name, strlen(name), d->size_bytes);
	int r = wf_zip_begin(&s->zip, &e, 0, 0);
	e.crc32 = 0;
	for (uint64_t at = 0; at < d->size_bytes && r == 0; at += n) {
		r = read_piece(s, d, at, &n);
		if (r == 0)
			r = wf_out_write(s->out, s->piece, n);
		e.crc32 = wf_crc32(e.crc32, s->piece, n);
	}
	return r < 0 ? r : wf_zip_end(&s->zip, &e);
}

static int put_value(struct slicer *s, const struct dcp_leaf *leaf)
{
	const struct wf_dcp_plan *p = s->p;
	char name[40];
	int r = put_record(s, "archive/data.pkl", leaf->pickle.data, leaf->pickle.len);
	if (r == 0)
		r = put_record(s, "archive/byteorder", "little", strlen("little"));
	for (uint32_t k = 0; k < leaf->storage_count && r == 0; k++) {
		uint32_t storage = p->storages[leaf->storages + k];
		const struct slice_data d = {.storage = storage,
					     .size_bytes = wf_storage_get(p->in.storages, storage)->size_bytes};
		snprintf(name, sizeof name, "archive/data/%" PRIu32, k);
		r = put_data(s, name, &d);
	}
	return r;
}

/* The pickle of a tensor that is all of its storage. */
static int make_pickle(struct wf_dcp_plan *p, const struct dcp_leaf *leaf, const struct wf_tensor *t,
		       const int64_t *sizes, uint64_t bytes, struct wf_buffer *ret)
{
	struct wf_graph *g = NULL;
	struct wf_tensor_maker maker;
	wf_ref made = WF_NIL;
	int r = wf_graph_new(&g) < 0 ? no_memory(p) : 0;
	if (r == 0)
		r = wf_tensor_maker_init(&maker, g, p->err);
	if (r == 0)
		r = wf_tensor_maker_make(&maker, t->dtype, "0", sizes, t->ndim, bytes, p->names.data + leaf->name,
					 &made, p->err);
	if (r == 0)
		r = wf_pickle_write_buffer(g, made, NULL, NULL, ret, p->err);
	wf_graph_free(g);
	return r;
}

static int put_tensor(struct slicer *s, const struct dcp_leaf *leaf, const struct dcp_slice *slice)
{
	struct wf_dcp_plan *p = s->p;
	struct wf_buffer pickle = WF_BUFFER_INIT;
	struct wf_tensor t;
	uint64_t whole[WF_MAX_NDIM];
	int64_t sizes[WF_MAX_NDIM];
	int r = wf_tensor_decode(p->in.graph, p->in.storages, leaf->object, &t, p->err);
	if (r < 0)
		return r;
	bool all = leaf->entry == UINT32_MAX;
	const struct wf_box box = all ? (struct wf_box){0} : box_of(&t, p->numbers + slice->box, whole);
	for (uint32_t i = 0; i < t.ndim; i++)
		sizes[i] = all ? t.shape[i] : (int64_t)box.sizes[i];
	const struct slice_data d = {
		.t = &t, .box = all ? NULL : &box, .size_bytes = all ? t.size_bytes : wf_box_bytes(&box)};
	r = make_pickle(p, leaf, &t, sizes, d.size_bytes, &pickle);
	if (r == 0)
		r = put_record(s, "archive/data.pkl", pickle.data, pickle.len);
	if (r == 0)
		r = put_record(s, "archive/byteorder", "little", strlen("little"));
	if (r == 0)
		r = put_data(s, "archive/data/0", &d);
	wf_buffer_free(&pickle);
	return r;
}

static int put_slice(struct slicer *s, const struct dcp_leaf *leaf, struct dcp_slice *slice)
{
	wf_zip_writer_init(&s->zip, s->out, WF_ZIP_ALIGNMENT);
	s->zip.origin = slice->offset = s->out->at;
	int r = leaf->tensor ? put_tensor(s, leaf, slice) : put_value(s, leaf);
	if (r == 0)
		r = put_record(s, "archive/version", "3\n", 2);
	if (r == 0)
		r = wf_zip_finish(&s->zip);
	if (r == 0)
		r = wf_out_flush(s->out);
	slice->length = s->out->at - slice->offset;
	wf_zip_writer_free(&s->zip);
	return r;
}

/* ---- the file ---- */

bool dcp_is_own_file(const char *name, uint64_t *ret_number)
{
	size_t digits = strncmp(name, "__w_", 4) == 0 ? strspn(name + 4, "0123456789") : 0;
	*ret_number = digits > 0 ? strtoull(name + 4, NULL, 10) : 0;
	return digits > 0 && strcmp(name + 4 + digits, ".distcp") == 0;
}

/* One more than any file has that is there, so that who reads the old metadata meanwhile never meets another file under a name in it. What a
 * crash left over is removed after the commit. */
static uint64_t next_number(const char *path)
{
	DIR *directory = opendir(path);
	uint64_t next = 0, number;
	for (const struct dirent *e = directory ? readdir(directory) : NULL; e; e = readdir(directory))
		if (dcp_is_own_file(e->d_name, &number) && number < MAX_NUMBER)
			next = WF_MAX(next, number + 1);
	if (directory)
		closedir(directory);
	return next;
}

/* None that a file here has, or one of the checkpoint's, which may stand elsewhere. */
int dcp_name_file(struct wf_dcp_plan *p)
{
	uint64_t first = p->slice_count > 0 ? next_number(p->home) : 0;
	for (uint64_t n = first; p->slice_count > 0 && n < first + MAX_FILES; n++) {
		free(p->path);
		if (asprintf(&p->path, "%s/__w_%" PRIu64 ".distcp", p->home, n) < 0) {
			p->path = NULL;
			break;
		}
		const char *name = strrchr(p->path, '/') + 1;
		if (wf_dcp_has_file(p->in.container, name))
			continue;
		p->file = strdup(name);
		break;
	}
	return p->slice_count == 0 || p->file ? 0
					      : wf_fail(p->err, -ENOMEM, "there is no name for a file of what is new");
}

static int make_file(struct wf_dcp_plan *p)
{
	p->fd = open(p->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	return p->fd < 0 ? -errno : 0;
}

static int sync_home(const struct wf_dcp_plan *p)
{
	cleanup_fd int home = open(p->home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return home < 0 ? -errno : wf_sync_directory(home);
}

static int put_slices(struct wf_dcp_plan *p, struct slicer *s)
{
	int r = 0;
	p->err->code = 0;
	for (uint32_t i = 0; i < p->slice_count && r == 0; i++) {
		const struct dcp_leaf *leaf = &p->leaves[p->slices[i].leaf];
		r = put_slice(s, leaf, &p->slices[i]);
		if (r < 0 && p->err->code == 0)
			wf_fail(p->err, r, "%s cannot be written: %s", p->names.data + leaf->name, strerror(-r));
	}
	return r;
}

int dcp_write_slices(struct wf_dcp_plan *p, _Atomic uint64_t *done_bytes)
{
	struct wf_out out;
	cleanup_free unsigned char *pieces = malloc(2 * (size_t)PIECE_BYTES);
	struct slicer s = {.p = p, .out = &out, .piece = pieces, .span = pieces ? pieces + PIECE_BYTES : NULL};
	int r = pieces ? make_file(p) : -ENOMEM;
	if (r == 0)
		r = wf_out_init(&out, p->fd, 0, done_bytes);
	if (r < 0)
		return wf_fail(p->err, r, "cannot make a file for what is new: %s", strerror(-r));
	r = put_slices(p, &s);
	wf_out_free(&out);
	if (r == 0 && fsync(p->fd) < 0)
		r = wf_fail(p->err, -errno, "cannot make %s durable: %s", p->file, strerror(errno));
	if (r == 0 && (r = sync_home(p)) < 0)
		wf_fail(p->err, r, "cannot make %s durable: %s", p->file, strerror(-r));
	return r;
}

/* ---- what was written ---- */

static int check_slice(struct wf_dcp_plan *p, struct wf_source *file, const struct dcp_leaf *leaf,
		       const struct dcp_slice *slice)
{
	cleanup_with(wf_source_unrefp) struct wf_source *source = NULL;
	cleanup_with(wf_container_freep) struct wf_container *c = NULL;
	int r = wf_source_slice(file, slice->offset, slice->length, &source);
	if (r == 0)
		r = wf_container_open(source, &c, p->err);
	uint32_t records = leaf->tensor ? 1 : leaf->storage_count;
	if (r == 0 && wf_container_count(c) != 3 + records)
		r = -EUCLEAN;
	return r < 0 ? wf_fail(p->err, -EUCLEAN, "the file just written is wrong: the slice of %s does not read",
			       p->names.data + leaf->name)
		     : 0;
}

int dcp_check_slices(struct wf_dcp_plan *p)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	int r = p->file ? wf_source_open_file(p->path, &file, p->err) : 0;
	for (uint32_t i = 0; i < p->slice_count && r == 0; i++)
		r = check_slice(p, file, &p->leaves[p->slices[i].leaf], &p->slices[i]);
	return r;
}
