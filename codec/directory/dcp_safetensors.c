/* SPDX-License-Identifier: MIT */
/* The safetensors flavour of torch.distributed.checkpoint (HuggingFaceStorageWriter with save_distributed): a file for each rank, and
 * nothing that lists them. What each file holds stands in its header, and where in the whole in its __metadata__:
 *
 *   DCP_SHARDING_INFO    a text of JSON: {"fqn": {"saved_offsets": [4, 0]}, ...}
 *
 * The whole is as large as its farthest part. */
#include "codec/directory/dcp_safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/container/safetensors_read.h"
#include "codec/container/sharding_info.h"

#define MAX_FILES (1u << 17)

/* ---- tables ---- */

struct file {
	struct wf_dcp_metadata *m;
	const struct wf_safetensors_header *h;
	uint32_t number;
	struct wf_error *err;
};

static int add_part(struct file *f, const struct wf_safetensors_tensor *t, const struct wf_sharding_offsets *o)
{
	struct wf_dcp_metadata *m = f->m;
	const char *name = f->h->text.data + t->name;
	uint64_t box[2 * WF_MAX_NDIM];
	uint32_t entry = wf_dcp_find(m, name, t->name_len), chunk;
	int r = 0;
	for (uint32_t i = 0; i < t->ndim; i++) {
		box[i] = i < o->n ? o->at[i] : 0;
		box[t->ndim + i] = (uint64_t)f->h->sizes[t->shape + i];
	}
	if (entry == UINT32_MAX) {
		uint64_t zeroes[WF_MAX_NDIM] = {0};
		r = wf_dcp_add_entry(m, name, t->name_len, &entry, f->err);
		if (r == 0 && wf_dcp_add_numbers(m, zeroes, t->ndim, &m->entries[entry].sizes) < 0)
			r = wf_fail(f->err, -ENOMEM, "out of memory");
		if (r < 0)
			return r;
		m->entries[entry].ndim = t->ndim;
		m->entries[entry].dtype = (uint8_t)t->dtype;
		m->entries[entry].tensor = true;
	}
	struct wf_dcp_entry *e = &m->entries[entry];
	if (e->ndim != t->ndim || e->dtype != t->dtype || (o->n != 0 && o->n != t->ndim))
		return wf_dcp_problem(m, e, "its parts in two files are not of one dtype and number of dimensions");
	for (uint32_t i = 0; i < t->ndim; i++) {
		uint64_t end;
		if (wf_add_u64(box[i], box[t->ndim + i], &end))
			return wf_dcp_problem(m, e, "its size is none that a tensor has");
		m->numbers[e->sizes + i] = WF_MAX(m->numbers[e->sizes + i], end);
	}
	r = wf_dcp_add_chunk(m, entry, box, t->ndim, &chunk, f->err);
	if (r == 0)
		m->chunks[chunk] = (struct wf_dcp_chunk){.offset = 8 + f->h->json_bytes + t->begin,
							 .length = t->end - t->begin,
							 .offsets = m->chunks[chunk].offsets,
							 .sizes = m->chunks[chunk].sizes,
							 .file = f->number,
							 .entry = entry};
	return r;
}

static const struct wf_safetensors_pair *find_info(const struct wf_safetensors_header *h)
{
	for (uint32_t i = 0; i < h->pair_count; i++)
		if (h->pairs[i].key_len == strlen(WF_SHARDING_INFO) &&
		    memcmp(h->text.data + h->pairs[i].key, WF_SHARDING_INFO, strlen(WF_SHARDING_INFO)) == 0)
			return &h->pairs[i];
	return NULL;
}

static int add_header(struct file *f)
{
	const struct wf_safetensors_header *h = f->h;
	const struct wf_safetensors_pair *info = find_info(h);
	struct wf_sharding_offsets *offsets = calloc((size_t)h->tensor_count + 1, sizeof *offsets);
	struct wf_key_map names = {0};
	int r = offsets ? 0 : wf_fail(f->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < h->tensor_count && r == 0; i++)
		if (wf_key_map_put(&names, h->text.data + h->tensors[i].name, h->tensors[i].name_len, i) < 0)
			r = wf_fail(f->err, -ENOMEM, "out of memory");
	if (r == 0 && info && !wf_sharding_info_read(h->text.data + info->value, info->value_len, &names, offsets))
		r = wf_fail(f->err, -EUCLEAN, "its " WF_SHARDING_INFO " is no JSON of offsets");
	for (uint32_t i = 0; i < h->tensor_count && r == 0; i++)
		r = add_part(f, &h->tensors[i], &offsets[i]);
	wf_key_map_free(&names);
	free(offsets);
	return r;
}

/* ---- files ---- */

static int read_file(struct wf_dcp_metadata *m, struct wf_members *members, const char *name, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *source = NULL;
	struct wf_safetensors_header h;
	struct file f = {.m = m, .h = &h, .number = m->files.count, .err = err};
	uint32_t member;
	int r = wf_members_add(members, name, strlen(name), &member, err);
	if (r == 0)
		r = wf_members_open(members, member, &source, err);
	if (r == 0)
		r = wf_safetensors_header_read(source, &h, err);
	if (r < 0)
		return r;
	r = wf_key_map_put(&m->files, name, strlen(name), f.number) < 0 ? wf_fail(err, -ENOMEM, "out of memory")
									: add_header(&f);
	wf_safetensors_header_free(&h);
	return r;
}

static bool is_sharded(const char *path, const char *name)
{
	cleanup_free char *full = NULL;
	cleanup_with(wf_source_unrefp) struct wf_source *source = NULL;
	struct wf_safetensors_header h;
	if (asprintf(&full, "%s/%s", path, name) < 0 || wf_source_open_file(full, &source, NULL) < 0 ||
	    wf_safetensors_header_read(source, &h, NULL) < 0)
		return false;
	bool found = find_info(&h);
	wf_safetensors_header_free(&h);
	return found;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct file_list {
	char **list;
	uint32_t count, room;
};

static int list_files(const char *path, struct file_list *ret)
{
	DIR *directory = opendir(path);
	int r = 0;
	for (const struct dirent *e = directory ? readdir(directory) : NULL; e && r == 0; e = readdir(directory)) {
		size_t len = strlen(e->d_name), end = strlen(".safetensors");
		if (len < end || strcmp(e->d_name + len - end, ".safetensors") != 0)
			continue;
		r = wf_array_reserve(&ret->list, &ret->room, (uint64_t)ret->count + 1, sizeof *ret->list, MAX_FILES);
		if (r == 0 && !(ret->list[ret->count] = strdup(e->d_name)))
			r = -ENOMEM;
		ret->count += r == 0;
	}
	if (directory)
		closedir(directory);
	if (ret->count > 0)
		qsort(ret->list, ret->count, sizeof *ret->list, by_text);
	return r;
}

static void free_names(struct file_list *n)
{
	for (uint32_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
}

int wf_dcp_safetensors_find(const char *path, char **ret_first)
{
	struct file_list n = {0};
	int r = list_files(path, &n);
	if (r == 0 && n.count > 0 && is_sharded(path, n.list[0])) {
		*ret_first = n.list[0];
		n.list[0] = NULL;
	}
	free_names(&n);
	return r == -ENOMEM ? r : 0;
}

int wf_dcp_safetensors_read(struct wf_dcp_metadata *m, struct wf_members *members, const char *path,
			    struct wf_error *err)
{
	struct file_list n = {0};
	int r = list_files(path, &n);
	if (r < 0)
		wf_fail(err, r, r == -E2BIG ? "more than %u files" : "out of memory", MAX_FILES);
	for (uint32_t i = 0; i < n.count && r == 0; i++) {
		r = read_file(m, members, n.list[i], err);
		if (r < 0)
			wf_error_where(err, n.list[i]);
	}
	free_names(&n);
	for (uint32_t i = 0; i < m->entry_count && r == 0; i++) {
		struct wf_dcp_entry *e = &m->entries[i];
		if (e->problem || wf_dcp_size_fits(m->numbers + e->sizes, e->ndim, wf_dtype_info(e->dtype)->size_bytes))
			continue;
		e->ndim = 0; /* nothing is multiplied that is no number */
		if (wf_dcp_problem(m, e, "its size is none that a tensor has") < 0)
			r = wf_fail(err, -ENOMEM, "out of memory");
	}
	return r;
}
