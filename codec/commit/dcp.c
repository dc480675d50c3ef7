/* SPDX-License-Identifier: MIT */
/* Writes what is new of a distributed checkpoint: a slice for each new entry, one behind the other in one file, each as torch.save writes
 * it, and then the metadata. */
#include "codec/commit/dcp_inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/crc32.h"
#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_entries.h"
#include "codec/directory/dcp_metadata.h"
#include "codec/tensor/layout.h"

#define PIECE_BYTES (1u << 20)
#define MAX_FILES 100000u

/* ---- the plan ---- */

static int open_writer(struct wf_dcp_plan *p)
{
	cleanup_with(wf_source_unrefp) struct wf_source *old = NULL;
	int r = wf_dcp_metadata_source(p->in.container, &old);
	return r < 0 ? wf_fail(p->err, r, "cannot read the metadata: %s", strerror(-r))
		     : wf_dcp_writer_open(old, &p->writer, p->err);
}

int wf_dcp_plan_make(const struct wf_commit_input *in, bool *live, struct wf_dcp_plan **ret, struct wf_error *err)
{
	struct wf_dcp_plan *p = calloc(1, sizeof *p);
	if (!p)
		return wf_fail(err, -ENOMEM, "out of memory");
	*p = (struct wf_dcp_plan){.in = *in, .live = live, .fd = -1, .err = err};
	int r = open_writer(p);
	if (r == 0)
		r = dcp_find_leaves(p);
	p->live = NULL;
	if (r < 0)
		wf_dcp_plan_free(p);
	else
		*ret = p;
	return r;
}

void wf_dcp_plan_keep_file(struct wf_dcp_plan *p)
{
	p->kept = true;
}

void wf_dcp_plan_free(struct wf_dcp_plan *p)
{
	if (!p)
		return;
	if (p->fd >= 0)
		close(p->fd);
	if (p->path && !p->kept)
		unlink(p->path);
	for (uint32_t i = 0; i < p->count; i++)
		wf_buffer_free(&p->leaves[i].pickle);
	free(p->leaves);
	free(p->ways);
	free(p->storages);
	wf_buffer_free(&p->names);
	wf_dcp_writer_free(p->writer);
	free(p->file);
	free(p->path);
	free(p);
}

/* ---- slices ---- */

/* The file that a slice goes into; `slice` is where that begins. */
struct slicer {
	struct wf_dcp_plan *p;
	struct wf_zip_writer zip;
	struct wf_out *out;
	unsigned char *piece;
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

/* Bytes of a tensor, or where t is NULL of a storage. */
static int put_data(struct slicer *s, const char *name, const struct wf_tensor *t, uint32_t storage, uint64_t size)
{
	struct wf_storages *ss = s->p->in.storages;
	struct wf_zip_entry e;
	uint32_t crc = 0;
	wf_zip_entry_init(&e, name, strlen(name), size);
	int r = wf_zip_begin(&s->zip, &e, 0, 0);
	for (uint64_t at = 0; at < size && r == 0;) {
		size_t n = (size_t)WF_MIN(size - at, (uint64_t)PIECE_BYTES);
		r = t ? wf_tensor_read(ss, t, at, s->piece, n) : wf_storage_read(ss, storage, at, s->piece, n);
		if (r == 0)
			r = wf_out_write(s->out, s->piece, n);
		crc = wf_crc32(crc, s->piece, n);
		at += n;
	}
	e.crc32 = crc;
	return r < 0 ? r : wf_zip_end(&s->zip, &e);
}

static int put_storages(struct slicer *s, const struct dcp_leaf *leaf)
{
	struct wf_dcp_plan *p = s->p;
	char name[40];
	int r = 0;
	for (uint32_t k = 0; k < leaf->storage_count && r == 0; k++) {
		uint32_t storage = p->storages[leaf->storages + k];
		snprintf(name, sizeof name, "archive/data/%" PRIu32, k);
		r = put_data(s, name, NULL, storage, wf_storage_get(p->in.storages, storage)->size_bytes);
	}
	return r;
}

static int put_tensor(struct slicer *s, const struct dcp_leaf *leaf)
{
	struct wf_tensor t;
	int r = wf_tensor_decode(s->p->in.graph, s->p->in.storages, leaf->object, &t, s->p->err);
	return r < 0 ? r : put_data(s, "archive/data/0", &t, 0, t.size_bytes);
}

static int put_slice(struct slicer *s, struct dcp_leaf *leaf)
{
	wf_zip_writer_init(&s->zip, s->out, WF_ZIP_ALIGNMENT);
	s->zip.origin = leaf->offset = s->out->at;
	int r = put_record(s, "archive/data.pkl", leaf->pickle.data, leaf->pickle.len);
	if (r == 0)
		r = put_record(s, "archive/byteorder", "little", strlen("little"));
	if (r == 0)
		r = leaf->tensor ? put_tensor(s, leaf) : put_storages(s, leaf);
	if (r == 0)
		r = put_record(s, "archive/version", "3\n", 2);
	if (r == 0)
		r = wf_zip_finish(&s->zip);
	if (r == 0)
		r = wf_out_flush(s->out);
	leaf->length = s->out->at - leaf->offset;
	wf_zip_writer_free(&s->zip);
	return r;
}

/* The first number that no file has. */
static int make_file(struct wf_dcp_plan *p)
{
	const char *directory = wf_dcp_directory(p->in.container);
	for (uint32_t n = 0; n < MAX_FILES; n++) {
		free(p->path);
		p->path = NULL;
		if (asprintf(&p->path, "%s/__w_%" PRIu32 ".distcp", directory, n) < 0) {
			p->path = NULL;
			return -ENOMEM;
		}
		p->fd = open(p->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (p->fd >= 0) {
			p->file = strdup(strrchr(p->path, '/') + 1);
			return p->file ? 0 : -ENOMEM;
		}
		if (errno != EEXIST)
			break;
		/* what a crash left over; nobody else commits here now */
		if (!wf_dcp_has_file(p->in.container, strrchr(p->path, '/') + 1) && unlink(p->path) == 0)
			n--;
	}
	int r = -errno;
	free(p->path);
	p->path = NULL;
	return r;
}

static bool has_new(const struct wf_dcp_plan *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		if (p->leaves[i].entry == UINT32_MAX)
			return true;
	return false;
}

static int sync_home(const struct wf_dcp_plan *p)
{
	cleanup_fd int home = open(wf_dcp_directory(p->in.container), O_PATH | O_DIRECTORY | O_CLOEXEC);
	return home < 0 ? -errno : wf_sync_directory(home);
}

static int write_slices(struct wf_dcp_plan *p, _Atomic uint64_t *done)
{
	struct wf_out out;
	cleanup_free unsigned char *piece = malloc(PIECE_BYTES);
	struct slicer s = {.p = p, .out = &out, .piece = piece};
	int r = piece ? make_file(p) : -ENOMEM;
	if (r == 0)
		r = wf_out_init(&out, p->fd, 0, done);
	if (r < 0)
		return wf_fail(p->err, r, "cannot make a file for what is new: %s", strerror(-r));
	p->err->code = 0;
	for (uint32_t i = 0; i < p->count && r == 0; i++)
		if (p->leaves[i].entry == UINT32_MAX) {
			r = put_slice(&s, &p->leaves[i]);
			if (r < 0 && p->err->code == 0)
				wf_fail(p->err, r, "%s cannot be written: %s", p->names.data + p->leaves[i].name,
					strerror(-r));
		}
	wf_out_free(&out);
	if (r == 0 && fsync(p->fd) < 0)
		r = wf_fail(p->err, -errno, "cannot make %s durable: %s", p->file, strerror(errno));
	if (r == 0 && (r = sync_home(p)) < 0)
		wf_fail(p->err, r, "cannot make %s durable: %s", p->file, strerror(-r));
	return r;
}

/* ---- the metadata ---- */

static int write_out(void *ctx, const void *data, size_t len)
{
	return wf_out_write(ctx, data, len);
}

static int tell_leaf(struct wf_dcp_plan *p, struct dcp_leaf *leaf, struct wf_dcp_way *ways)
{
	const char *name = p->names.data + leaf->name;
	uint32_t len = 0;
	struct wf_tensor t;
	for (uint32_t i = 0; i < leaf->way_count; i++) {
		const struct dcp_way *way = &p->ways[leaf->ways + i];
		ways[i] = way->position ? (struct wf_dcp_way){.number = way->text}
					: (struct wf_dcp_way){.text = p->names.data + way->text, .number = way->len};
	}
	const struct wf_dcp_place place = {
		.name = name, .name_len = leaf->name_len, .ways = ways, .count = leaf->way_count};
	if (leaf->entry != UINT32_MAX) {
		const char *old = wf_dcp_entry_name(p->in.container, leaf->entry, &len);
		return wf_dcp_writer_keep(p->writer, old, len, &place, p->err);
	}
	struct wf_dcp_content content = {
		.tensor = leaf->tensor, .file = p->file, .offset = leaf->offset, .length = leaf->length};
	if (leaf->tensor) {
		int r = wf_tensor_decode(p->in.graph, p->in.storages, leaf->object, &t, p->err);
		if (r < 0)
			return r;
		content.dtype = t.dtype;
		content.sizes = t.shape;
		content.ndim = t.ndim;
	}
	return wf_dcp_writer_add(p->writer, &place, &content, p->err);
}

static int tell_leaves(struct wf_dcp_plan *p)
{
	uint32_t most = 0;
	for (uint32_t i = 0; i < p->count; i++)
		most = WF_MAX(most, p->leaves[i].way_count);
	cleanup_free struct wf_dcp_way *ways = calloc((size_t)most + 1, sizeof *ways);
	int r = ways ? 0 : wf_fail(p->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < p->count && r == 0; i++)
		r = tell_leaf(p, &p->leaves[i], ways);
	return r;
}

int wf_dcp_plan_write(struct wf_dcp_plan *p, int fd, _Atomic uint64_t *done_bytes, struct wf_error *err)
{
	struct wf_out out;
	p->err = err;
	int r = has_new(p) ? write_slices(p, done_bytes) : 0;
	if (r == 0)
		r = tell_leaves(p);
	if (r < 0)
		return r;
	if (wf_out_init(&out, fd, 0, done_bytes) < 0)
		return wf_fail(err, -ENOMEM, "out of memory");
	r = wf_dcp_writer_write(p->writer, write_out, &out, err);
	if (r == 0 && (r = wf_out_finish(&out)) < 0)
		wf_fail(err, r, "cannot write the metadata: %s", strerror(-r));
	wf_out_free(&out);
	if (r == 0 && fsync(fd) < 0)
		r = wf_fail(err, -errno, "cannot make the written bytes durable: %s", strerror(errno));
	return r;
}

/* ---- what was written ---- */

static int check_slice(struct wf_dcp_plan *p, struct wf_source *file, const struct dcp_leaf *leaf)
{
	cleanup_with(wf_source_unrefp) struct wf_source *slice = NULL;
	cleanup_with(wf_container_freep) struct wf_container *c = NULL;
	int r = wf_source_slice(file, leaf->offset, leaf->length, &slice);
	if (r == 0)
		r = wf_container_open(slice, &c, p->err);
	uint32_t records = leaf->tensor ? 1 : leaf->storage_count;
	if (r == 0 && wf_container_count(c) != 3 + records)
		r = -EUCLEAN;
	return r < 0 ? wf_fail(p->err, -EUCLEAN, "the file just written is wrong: the slice of %s does not read",
			       p->names.data + leaf->name)
		     : 0;
}

static int check_slices(struct wf_dcp_plan *p)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	int r = p->path ? wf_source_open_file(p->path, &file, p->err) : 0;
	for (uint32_t i = 0; i < p->count && r == 0 && p->path; i++)
		if (p->leaves[i].entry == UINT32_MAX)
			r = check_slice(p, file, &p->leaves[i]);
	return r;
}

int wf_dcp_plan_check(struct wf_dcp_plan *p, int raw_fd, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	struct wf_dcp_metadata m = {0};
	cleanup_fd int fd = raw_fd;
	p->err = err;
	int r = fd < 0 ? wf_fail(err, fd, "cannot open the file that was written: %s", strerror(-fd))
		       : wf_source_from_fd(fd, &file, err);
	if (r < 0)
		return r;
	steal_fd(&fd);
	r = wf_dcp_metadata_read(&m, file, "", err);
	if (r == 0 && wf_dcp_metadata_finish(&m) < 0)
		r = wf_fail(err, -ENOMEM, "out of memory");
	bool good = m.entry_count == p->count;
	for (uint32_t i = 0; good && i < p->count; i++)
		good = m.entries[i].name_len == p->leaves[i].name_len && m.entries[i].tensor == p->leaves[i].tensor &&
		       memcmp(wf_dcp_text(&m, m.entries[i].name), p->names.data + p->leaves[i].name,
			      p->leaves[i].name_len) == 0 &&
		       (p->leaves[i].entry != UINT32_MAX || !m.entries[i].problem);
	if (r == 0 && !good)
		r = wf_fail(err, -EUCLEAN, "the file just written is wrong: it does not tell what was to be written");
	wf_dcp_metadata_free(&m);
	return r < 0 ? r : check_slices(p);
}

/* The records of a value's storages, which the reader names after its entry and their keys in the slice. */
static int adopt_storages(struct wf_dcp_plan *p, const struct wf_container *written, uint32_t i, uint32_t *records)
{
	const struct dcp_leaf *leaf = &p->leaves[i];
	char key[32];
	int r = 0;
	for (uint32_t k = 0; k < leaf->storage_count && r == 0; k++) {
		uint32_t storage = p->storages[leaf->storages + k];
		const struct wf_storage *s = wf_storage_get(p->in.storages, storage);
		int len = snprintf(key, sizeof key, "%" PRIu32 ".%" PRIu32, i, k);
		if (leaf->entry == UINT32_MAX)
			records[storage] = wf_container_storage_record(written, key, (size_t)len);
		else
			r = wf_dcp_record_after(p->in.container, s->record, written, i, &records[storage]);
	}
	return r;
}

int wf_dcp_plan_adopt(struct wf_dcp_plan *p, struct wf_container *written, uint32_t *records, struct wf_error *err)
{
	struct wf_tensor t;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct dcp_leaf *leaf = &p->leaves[i];
		if (wf_dcp_adopt(written, i, leaf->object, leaf->sum) < 0)
			return wf_fail(err, -ENOMEM, "out of memory");
		if (leaf->tensor && wf_tensor_decode(p->in.graph, p->in.storages, leaf->object, &t, NULL) == 0 &&
		    t.storage != WF_NO_STORAGE)
			records[t.storage] = i;
		if (!leaf->tensor && adopt_storages(p, written, i, records) < 0)
			return wf_fail(err, -ENOMEM, "out of memory");
	}
	return 0;
}

/* The number in __w_N.distcp is not looked at: the name is no one else's. */
static bool is_own_file(const char *name)
{
	size_t digits = strncmp(name, "__w_", 4) == 0 ? strspn(name + 4, "0123456789") : 0;
	return digits > 0 && strcmp(name + 4 + digits, ".distcp") == 0;
}

void wf_dcp_remove_unused(const struct wf_container *written)
{
	DIR *directory = opendir(wf_dcp_directory(written));
	for (const struct dirent *e = directory ? readdir(directory) : NULL; e; e = readdir(directory))
		if (is_own_file(e->d_name) && !wf_dcp_has_file(written, e->d_name))
			unlinkat(dirfd(directory), e->d_name, 0);
	if (directory)
		closedir(directory);
}
