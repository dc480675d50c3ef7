/* SPDX-License-Identifier: MIT */
/* Opens a directory of torch.distributed.checkpoint: reads what it says of itself, and lays its files out in one space.
 *
 *   .metadata            which tensors and values there are, and where; without rank coordination one file a rank, __RANK.metadata
 *   __RANK_N.distcp      slices, each a whole output of torch.save
 *   *.safetensors        in place of both: files of ranks that say in their headers which parts they hold
 *   meta.pt, common.pt   what Lightning and Megatron write beside: one object, whose keys stand in the root
 */
#include "codec/directory/dcp_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_find.h"
#include "codec/directory/dcp_safetensors.h"
#include "codec/directory/dcp_stream.h"

/* ---- the space ---- */

static int check_chunk(const struct wf_tensor *t, const struct wf_space_slice *slice, enum wf_dtype dtype,
		       struct wf_error *err)
{
	if (t->size_bytes != slice->want_bytes)
		return wf_fail(err, -EUCLEAN,
			       "a slice holds a tensor of %" PRIu64 " bytes where the metadata has a chunk of %" PRIu64,
			       t->size_bytes, slice->want_bytes);
	if (t->dtype != dtype)
		return wf_fail(err, -EUCLEAN, "a slice holds a tensor of %s where the metadata says %s",
			       wf_dtype_info(t->dtype)->name, wf_dtype_info(dtype)->name);
	return 0;
}

/* The dtype of the tensor that begins there: of the last entry that does not begin behind. */
static enum wf_dtype dtype_at(const struct dcp *d, uint64_t whole)
{
	uint32_t behind = wf_first_not(i, d->md.entry_count, d->starts[i] <= whole);
	return d->md.entries[behind ? behind - 1 : 0].dtype;
}

static int resolve(void *ctx, struct wf_members *m, const struct wf_space_slice *slice, uint64_t *ret_at,
		   struct wf_error *err)
{
	const struct dcp *d = ctx;
	struct wf_dcp_slice s;
	struct wf_tensor t;
	uint64_t at;
	int r = wf_dcp_slice_open(m, slice->member, slice->offset, slice->size_bytes, &s, err);
	if (r < 0)
		return r;
	r = wf_dcp_slice_tensor(&s, &t, err);
	if (r == 0)
		r = check_chunk(&t, slice, dtype_at(d, slice->whole), err);
	if (r == 0)
		*ret_at = wf_dcp_slice_locate(&s, &t, &at) ? slice->offset + at : WF_SPACE_SCATTERED;
	wf_dcp_slice_close(&s);
	return r;
}

static int read_scattered(void *ctx, struct wf_members *m, const struct wf_space_slice *slice, uint64_t at, void *buf,
			  size_t len, struct wf_error *err)
{
	const struct dcp *d = ctx;
	return wf_dcp_slices_read(d->slices, m, slice->member, slice->offset, slice->size_bytes, at, buf, len, err);
}

/* ---- tiles ---- */

/* Room for the tiles of a tensor. */
struct tiles {
	struct wf_tile *tiles;
	uint64_t *boxes;
	size_t room; /* numbers */
};

static void free_tiles(struct tiles *t)
{
	free(t->tiles);
	free(t->boxes);
}

static bool make_room(struct tiles *t, const struct wf_dcp_entry *e)
{
	size_t numbers = (size_t)e->chunk_count * WF_MAX(2 * e->ndim, 1u);
	if (numbers <= t->room)
		return true;
	free_tiles(t);
	t->tiles = reallocarray(NULL, numbers, sizeof *t->tiles);
	t->boxes = reallocarray(NULL, numbers, sizeof *t->boxes);
	t->room = t->tiles && t->boxes ? numbers : 0;
	return t->room > 0;
}

/* The chunks of a tensor as tiles. False: out of memory. */
static bool find_tiles(const struct dcp *d, uint32_t entry, struct tiles *t, struct wf_tiling *ret)
{
	const struct wf_dcp_metadata *m = &d->md;
	const struct wf_dcp_entry *e = &m->entries[entry];
	if (!make_room(t, e))
		return false;
	for (uint32_t i = 0; i < e->chunk_count; i++) {
		const struct wf_dcp_chunk *c = &m->chunks[e->chunks + i];
		t->tiles[i] =
			(struct wf_tile){.member = d->members[c->file], .slice = c->offset, .slice_bytes = c->length};
		uint64_t *box = t->boxes + (size_t)i * 2 * e->ndim;
		for (uint32_t k = 0; k < e->ndim; k++) {
			box[k] = m->numbers[c->offsets + k];
			box[e->ndim + k] = m->numbers[c->sizes + k];
		}
	}
	*ret = (struct wf_tiling){.ndim = e->ndim,
				  .element_bytes = wf_dtype_info(e->dtype)->size_bytes,
				  .tile_count = e->chunk_count,
				  .sizes = m->numbers + e->sizes,
				  .tiles = t->tiles,
				  .boxes = t->boxes};
	return true;
}

static int tell_tiles(void *ctx, uint32_t entry, int (*take)(void *arg, const struct wf_tiling *t), void *arg)
{
	struct tiles tiles = {0};
	struct wf_tiling tiling;
	int r = find_tiles(ctx, entry, &tiles, &tiling) ? take(arg, &tiling) : -ENOMEM;
	free_tiles(&tiles);
	return r;
}

static const struct wf_space_ops space_ops = {.resolve = resolve, .read = read_scattered, .tiles = tell_tiles};

/* ---- laying out ---- */

/* Bytes of the elements in a chunk; the sizes of the whole bound them where the chunk lies inside, which the space checks. */
static uint64_t chunk_bytes(const struct wf_dcp_metadata *m, const struct wf_dcp_entry *e, const struct wf_dcp_chunk *c,
			    uint64_t bytes)
{
	for (uint32_t i = 0; i < e->ndim; i++)
		if (wf_mul_u64(bytes, m->numbers[c->sizes + i], &bytes))
			return UINT64_MAX;
	return bytes;
}

static const char *file_of(const struct dcp *d, const struct wf_dcp_chunk *c)
{
	return wf_members_name(wf_space_members(d->space), d->members[c->file]);
}

/* Whether the files have the slices of an entry; 0, or -ENOMEM. */
static int check_slices(struct dcp *d, struct wf_dcp_entry *e, uint64_t *sizes)
{
	uint64_t element = e->tensor ? wf_dtype_info(e->dtype)->size_bytes : 1, bytes = 0;
	uint32_t bytes_of = UINT32_MAX; /* the sizes that they are of */
	struct wf_error err = {0};
	for (uint32_t i = 0; i < e->chunk_count && !e->problem; i++) {
		const struct wf_dcp_chunk *c = &d->md.chunks[e->chunks + i];
		int r = 0;
		if (c->sizes != bytes_of)
			bytes = chunk_bytes(&d->md, e, c, element);
		bytes_of = c->sizes;
		if (sizes[c->file] == DCP_NOWHERE)
			r = wf_members_size(wf_space_members(d->space), d->members[c->file], &sizes[c->file], &err);
		uint64_t size = sizes[c->file];
		if (r < 0)
			r = wf_dcp_problem(&d->md, e, "%s", err.text);
		else if (c->offset > size || c->length > size - c->offset)
			r = wf_dcp_problem(&d->md, e,
					   "%.100s ends before its slice at %" PRIu64 " of %" PRIu64 " bytes does",
					   file_of(d, c), c->offset, c->length);
		else if (e->tensor && !d->raw && bytes >= c->length)
			r = wf_dcp_problem(&d->md, e, "its slice in %.100s at %" PRIu64 " has no room for its bytes",
					   file_of(d, c), c->offset);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_tensor(struct dcp *d, uint32_t entry, struct tiles *t, uint64_t *ret_start, struct wf_error *err)
{
	struct wf_tiling tiling;
	struct wf_error why = {0};
	if (!find_tiles(d, entry, t, &tiling))
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_space_add_tiles_later(d->space, &tiling, entry, ret_start, &why);
	if (r == -EUCLEAN)
		return wf_dcp_problem(&d->md, &d->md.entries[entry], "%s", why.text);
	if (r < 0 && err)
		*err = why;
	return r;
}

/* A value is read where it stands in its file, which is laid out whole for that. */
static int add_value(struct dcp *d, const struct wf_dcp_entry *e, struct wf_error *err)
{
	const struct wf_dcp_chunk *c = &d->md.chunks[e->chunks];
	if (e->chunk_count == 0 || d->file_starts[c->file] != DCP_NOWHERE)
		return 0;
	return wf_space_add_file(d->space, d->members[c->file], &d->file_starts[c->file], err);
}

static int lay_out(struct dcp *d, uint64_t at, struct wf_error *err)
{
	struct tiles tiles = {0};
	uint64_t *sizes = malloc(d->md.files.count * sizeof *sizes + 1); /* of the files; DCP_NOWHERE: not asked yet */
	int r = sizes ? 0 : -ENOMEM;
	for (uint32_t i = 0; sizes && i < d->md.files.count; i++)
		sizes[i] = DCP_NOWHERE;
	for (uint32_t i = 0; i < d->md.entry_count && r == 0; i++) {
		struct wf_dcp_entry *e = &d->md.entries[i];
		uint64_t start = at;
		r = check_slices(d, e, sizes);
		if (r == 0 && !e->problem)
			r = e->tensor ? add_tensor(d, i, &tiles, &start, err) : add_value(d, e, err);
		d->starts[i] = start;
		at = wf_space_size(d->space);
	}
	free_tiles(&tiles);
	free(sizes);
	return r == -ENOMEM ? wf_fail(err, r, "out of memory") : r;
}

/* ---- files ---- */

static int add_members(struct dcp *d, struct wf_members *members, struct wf_error *err)
{
	const struct wf_key_map *files = &d->md.files;
	d->members = calloc((size_t)files->count + 1, sizeof *d->members);
	d->file_starts = malloc(((size_t)files->count + 1) * sizeof *d->file_starts);
	d->starts = calloc((size_t)d->md.entry_count + 1, sizeof *d->starts);
	d->sums = calloc((size_t)d->md.entry_count + 1, sizeof *d->sums);
	if (!d->members || !d->file_starts || !d->starts || !d->sums)
		return wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < files->count; i++) {
		int r = wf_members_add(members, files->keys[i].bytes, files->keys[i].len, &d->members[i], err);
		if (r < 0)
			return r;
		d->file_starts[i] = DCP_NOWHERE;
	}
	return 0;
}

static int add_named(struct wf_members *m, const char *name, uint32_t *ret, struct wf_error *err)
{
	return wf_members_add(m, name, strlen(name), ret, err);
}

/* main: the part, where that is open. */
static int read_part(struct dcp *d, struct wf_members *members, const struct dcp_part *part, struct wf_source *main,
		     bool stream, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	uint32_t member = 0;
	int r = add_named(members, part->file, &member, err);
	if (r == 0 && main)
		wf_members_give(members, member, main);
	if (r == 0)
		r = wf_members_open(members, member, &file, err);
	if (r == 0)
		r = (stream ? wf_dcp_metadata_stream : wf_dcp_metadata_read)(&d->md, file, part->folder, err);
	if (r == -E2BIG && !stream)
		r = wf_fail(
			err, r,
			"the metadata are cut short or not as torch writes them, and too large to be read otherwise");
	if (r < 0)
		wf_error_where(err, part->file);
	return r;
}

/* What the stream does not know of one file, the graph is asked, of all. The first member is the main file. */
static int read_parts(struct dcp *d, struct wf_members *members, const struct dcp_files *files, struct wf_error *err)
{
	int r = 0;
	for (uint32_t i = 0; i < files->count && r == 0; i++)
		r = read_part(d, members, &files->parts[i], i == 0 ? files->main : NULL, true, err);
	if (r != 1)
		return r;
	wf_dcp_metadata_free(&d->md);
	r = 0;
	for (uint32_t i = 0; i < files->count && r == 0; i++)
		r = read_part(d, members, &files->parts[i], i == 0 ? files->main : NULL, false, err);
	return r;
}

static int read_tables(struct dcp *d, struct wf_members *members, const struct dcp_files *files, struct wf_error *err)
{
	int r = files->raw ? wf_dcp_safetensors_read(&d->md, members, files->directory, err)
			   : read_parts(d, members, files, err);
	if (r == 0 && wf_dcp_metadata_finish(&d->md) < 0)
		r = wf_fail(err, -ENOMEM, "out of memory");
	return r;
}

/* ---- the container ---- */

static int explain(const struct wf_container *c, const struct wf_record *record, struct wf_error *err)
{
	const struct dcp *d = (const struct dcp *)c;
	uint32_t i = (uint32_t)(record - c->records);
	if (i < d->md.entry_count)
		return wf_fail_at(err, record->bad, wf_dcp_text(&d->md, d->md.entries[i].name), WF_ERROR_NO_OFFSET,
				  "%s", wf_dcp_text(&d->md, d->md.entries[i].problem));
	const char *text = wf_problems_get(&d->problems, i);
	return text ? wf_fail_at(err, record->bad, record->name, WF_ERROR_NO_OFFSET, "%s", text) : record->bad;
}

static int why(const struct wf_container *c, uint32_t i, struct wf_error *err)
{
	const struct dcp *d = (const struct dcp *)c;
	return wf_space_why(d->space, c->records[i].header_offset, c->records[i].size_bytes, err);
}

static const char *shard(const struct wf_container *c, uint32_t i, uint32_t k)
{
	const struct dcp *d = (const struct dcp *)c;
	const struct wf_record *record = &c->records[i];
	if (record->bad)
		return NULL;
	return wf_members_name(wf_space_members(d->space),
			       wf_space_member_of(d->space, record->header_offset, record->size_bytes, k));
}

static void free_dcp(struct wf_container *c)
{
	struct dcp *d = (struct dcp *)c;
	wf_dcp_metadata_free(&d->md);
	wf_dcp_slices_free(d->slices);
	free(d->members);
	free(d->file_starts);
	free(d->starts);
	free(d->sums);
	wf_map_free(&d->by_object);
	wf_problems_free(&d->problems);
}

static const struct wf_container_ops ops = {
	.explain = explain, .why = why, .load_graph = dcp_load_graph, .shard = shard, .free = free_dcp};

/* members is taken over in every case. */
static int build(struct dcp *d, const struct dcp_files *files, struct wf_members *members, struct wf_source **ret_file,
		 struct wf_error *err)
{
	uint64_t start = 0;
	int r = read_tables(d, members, files, err);
	if (r == 0)
		r = add_members(d, members, err);
	if (r == 0 && files->beside)
		r = add_named(members, files->beside, &d->beside, err);
	if (r == 0)
		r = wf_space_new(members, &space_ops, d, &d->space, err);
	if (r < 0) {
		wf_members_unref(members);
		return r;
	}
	r = wf_space_add_file(d->space, 0, &start, err);
	d->metadata_bytes = wf_space_size(d->space);
	if (r == 0 && d->beside != UINT32_MAX)
		r = wf_space_add_file(d->space, d->beside, &d->beside_start, err);
	if (r == 0)
		r = lay_out(d, wf_space_size(d->space), err);
	if (r == 0)
		r = wf_space_source(d->space, ret_file) < 0 ? wf_fail(err, -ENOMEM, "out of memory") : 0;
	if (r < 0)
		wf_space_free(d->space);
	return r;
}

int dcp_open_files(const struct dcp_files *files, struct wf_container **ret, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	struct wf_members *members = NULL;
	struct dcp *d = calloc(1, sizeof *d);
	if (!d || wf_dcp_slices_new(&d->slices) < 0) {
		free(d);
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	d->beside = UINT32_MAX;
	d->raw = files->raw;
	d->base.ops = &ops;
	int r = wf_members_new(files->directory, &members, err);
	if (r == 0)
		r = build(d, files, members, &file, err);
	if (r == 0 && wf_container_init(&d->base, &ops, WF_CONTAINER_DCP, file) < 0)
		r = wf_fail(err, -ENOMEM, "out of memory");
	if (r < 0) {
		wf_container_free(&d->base);
		return r;
	}
	*ret = &d->base;
	return 0;
}
