/* SPDX-License-Identifier: MIT */
/* Plans what is new of a distributed checkpoint, and writes the metadata once the slices are there. */
#include "codec/commit/dcp_inner.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_entries.h"
#include "codec/directory/dcp_stream.h"
#include "codec/tensor/tensor.h"

/* ---- the plan ---- */

static int open_writer(struct wf_dcp_plan *p)
{
	cleanup_with(wf_source_unrefp) struct wf_source *old = NULL;
	int r = wf_dcp_metadata_source(p->in.container, &old);
	return r < 0 ? wf_fail(p->err, r, "cannot read the metadata: %s", strerror(-r))
		     : wf_dcp_writer_open(old, &p->writer, p->err);
}

int wf_dcp_plan_make(const struct wf_commit_input *in, const char *home, bool *live, struct wf_dcp_plan **ret,
		     struct wf_error *err)
{
	struct wf_dcp_plan *p = calloc(1, sizeof *p);
	if (!p)
		return wf_fail(err, -ENOMEM, "out of memory");
	*p = (struct wf_dcp_plan){.in = *in, .live = live, .home = strdup(home), .fd = -1, .err = err};
	int r = p->home ? open_writer(p) : wf_fail(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = dcp_find_leaves(p);
	if (r == 0)
		r = dcp_name_file(p);
	p->live = NULL;
	if (r < 0)
		wf_dcp_plan_free(p);
	else
		*ret = p;
	return r;
}

uint32_t wf_dcp_plan_ties(const struct wf_dcp_plan *p, const char **ret_name, const char **ret_with)
{
	if (p->ties > 0) {
		*ret_name = p->names.data + p->leaves[p->tied].name;
		*ret_with = p->names.data + p->leaves[p->tied_first].name;
	}
	return p->ties;
}

const char *wf_dcp_plan_new_file(const struct wf_dcp_plan *p)
{
	return p->file;
}

const char *wf_dcp_plan_old_file(const struct wf_dcp_plan *p, uint32_t k, bool *ret_needed)
{
	const char *name = wf_dcp_file(p->in.container, k);
	*ret_needed = name && wf_key_map_get(&p->files, name, strlen(name));
	return name;
}

void wf_dcp_plan_keep_file(struct wf_dcp_plan *p)
{
	p->kept = true;
}

void wf_dcp_plan_free(struct wf_dcp_plan *p)
{
	if (!p)
		return;
	if (p->fd >= 0) {
		close(p->fd);
		if (!p->kept)
			unlink(p->path);
	}
	for (uint32_t i = 0; i < p->count; i++)
		wf_buffer_free(&p->leaves[i].pickle);
	free(p->leaves);
	free(p->ways);
	free(p->storages);
	free(p->slices);
	free(p->numbers);
	wf_buffer_free(&p->names);
	wf_dcp_writer_free(p->writer);
	wf_key_map_free(&p->files);
	free(p->home);
	free(p->file);
	free(p->path);
	free(p);
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
	const struct dcp_slice *slices = p->slices + leaf->slices;
	if (leaf->entry != UINT32_MAX) {
		const char *old = wf_dcp_entry_name(p->in.container, leaf->entry, &len);
		cleanup_free struct wf_dcp_news *news = calloc((size_t)leaf->slice_count + 1, sizeof *news);
		if (!news)
			return wf_fail(p->err, -ENOMEM, "out of memory");
		for (uint32_t i = 0; i < leaf->slice_count; i++)
			news[i] = (struct wf_dcp_news){.old = slices[i].old,
						       .file = p->file,
						       .offset = slices[i].offset,
						       .length = slices[i].length};
		return wf_dcp_writer_keep(p->writer, old, len, &place, news, leaf->slice_count, p->err);
	}
	struct wf_dcp_content content = {
		.tensor = leaf->tensor, .file = p->file, .offset = slices->offset, .length = slices->length};
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
	int r = p->slice_count > 0 ? dcp_write_slices(p, done_bytes) : 0;
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

int wf_dcp_plan_check(struct wf_dcp_plan *p, struct wf_source *written, struct wf_error *err)
{
	struct wf_dcp_metadata m = {0};
	p->err = err;
	int r = wf_dcp_metadata_load(&m, written, err);
	if (r == 0 && wf_dcp_metadata_finish(&m) < 0)
		r = wf_fail(err, -ENOMEM, "out of memory");
	bool good = m.entry_count == p->count;
	for (uint32_t i = 0; good && i < p->count; i++)
		good = m.entries[i].name_len == p->leaves[i].name_len && m.entries[i].tensor == p->leaves[i].tensor &&
		       memcmp(wf_dcp_text(&m, m.entries[i].name), p->names.data + p->leaves[i].name,
			      p->leaves[i].name_len) == 0 &&
		       (p->leaves[i].slice_count == 0 || !m.entries[i].problem);
	if (r == 0 && !good)
		r = wf_fail(err, -EUCLEAN, "the file just written is wrong: it does not tell what was to be written");
	p->files = m.files;
	m.files = (struct wf_key_map){0};
	wf_dcp_metadata_free(&m);
	return r < 0 ? r : dcp_check_slices(p);
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

static int find_records(struct wf_dcp_plan *p, const struct wf_container *written, uint32_t *records)
{
	uint32_t storage;
	int r = 0;
	for (uint32_t i = 0; i < p->count && r == 0; i++) {
		struct dcp_leaf *leaf = &p->leaves[i];
		if (!leaf->tensor)
			r = adopt_storages(p, written, i, records);
		else if ((storage = wf_tensor_storage(p->in.graph, p->in.storages, leaf->object)) != WF_NO_STORAGE)
			records[storage] = i;
	}
	return r;
}

/* Names that were one storage's are entries by themselves now: the record of one of them stands for all. */
static void note_record(struct wf_dcp_plan *p, uint32_t i, const uint32_t *records)
{
	struct dcp_leaf *leaf = &p->leaves[i];
	uint32_t storage = leaf->tensor ? wf_tensor_storage(p->in.graph, p->in.storages, leaf->object) : WF_NO_STORAGE;
	if (storage != WF_NO_STORAGE && records[storage] != i)
		leaf->sum = (uint64_t)records[storage] + 1;
}

int wf_dcp_plan_adopt(struct wf_dcp_plan *p, struct wf_container *written, uint32_t *records, struct wf_error *err)
{
	int r = find_records(p, written, records);
	for (uint32_t i = 0; i < p->count && r == 0; i++) {
		note_record(p, i, records);
		r = wf_dcp_adopt(written, i, p->leaves[i].object, p->leaves[i].sum);
	}
	return r < 0 ? wf_fail(err, -ENOMEM, "out of memory") : 0;
}

int wf_dcp_remove_unused(const struct wf_container *written)
{
	DIR *directory = opendir(wf_dcp_directory(written));
	int r = directory ? 0 : -errno;
	uint64_t number;
	for (const struct dirent *e = directory ? readdir(directory) : NULL; e; e = readdir(directory))
		if (dcp_is_own_file(e->d_name, &number) && !wf_dcp_has_file(written, e->d_name) &&
		    unlinkat(dirfd(directory), e->d_name, 0) < 0)
			r = -errno;
	if (directory)
		closedir(directory);
	return r;
}
