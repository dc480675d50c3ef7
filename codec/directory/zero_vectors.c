/* SPDX-License-Identifier: MIT */
/* Flat vectors in the files of a DeepSpeed checkpoint, cut into what the parameters need, and tensors made of the cuts: nothing is read
 * here, and every number is checked. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"

#define MAX_PIECES (1u << 22)

/* The file that an address of the space is in: their starts go up. */
static uint32_t file_at(const struct zero *z, uint64_t address)
{
	uint32_t behind = wf_first_not(i, z->list.count, z->list.files[i].start <= address);
	if (behind == 0 || address - z->list.files[behind - 1].start >= z->list.files[behind - 1].size_bytes)
		return UINT32_MAX;
	return behind - 1;
}

bool zero_piece_of(const struct zero_load *l, wf_ref tensor, struct zero_piece *ret, enum wf_dtype *ret_dtype,
		   char *why, size_t why_size)
{
	struct wf_tensor t;
	struct wf_error err = {0};
	const char *problem = NULL;
	const struct wf_record *record = NULL;
	*ret = (struct zero_piece){.file = UINT32_MAX};
	int r = wf_tensor_decode(l->g, l->storages, tensor, &t, &err);
	if (r < 0) {
		snprintf(why, why_size, "%.100s", r == -EINVAL ? "is no tensor" : err.text);
		return false;
	}
	const struct wf_storage *s = t.kind == WF_TENSOR_DENSE ? wf_storage_get(l->storages, t.storage) : NULL;
	record = s ? wf_container_record(&l->z->base, s->record) : NULL;
	if (!record || t.quantizer != WF_NIL || t.conj || t.neg)
		problem = "is no plain tensor in a file";
	else if (!t.contiguous)
		problem = "is not contiguous";
	else if (record->method != 0)
		problem = "stands compressed in its file";
	if (problem) {
		snprintf(why, why_size, "%s", problem);
		return false;
	}
	*ret_dtype = t.dtype;
	ret->numel = t.numel;
	if (t.numel == 0)
		return true;
	uint64_t at = record->header_offset + t.offset_elems * wf_dtype_info(t.dtype)->size_bytes;
	ret->file = file_at(l->z, at);
	if (ret->file == UINT32_MAX) {
		snprintf(why, why_size, "stands outside its file");
		return false;
	}
	ret->at = at - l->z->list.files[ret->file].start;
	return true;
}

uint64_t zero_vector_numel(const struct zero_vector *v)
{
	return v->count > 0 ? v->ends[v->count - 1] : 0;
}

int zero_vector_add(struct zero_vector *v, const struct zero_piece *piece, enum wf_dtype dtype)
{
	uint64_t end;
	uint32_t capacity = v->capacity;
	int r = wf_array_reserve(&v->pieces, &capacity, v->count + 1, sizeof *v->pieces, MAX_PIECES);
	if (r == 0)
		r = wf_array_reserve(&v->ends, &v->capacity, v->count + 1, sizeof *v->ends, MAX_PIECES);
	if (r < 0)
		return r;
	if (wf_add_u64(zero_vector_numel(v), piece->numel, &end) || end > INT64_MAX / 16) {
		snprintf(v->problem, sizeof v->problem, "its vectors are longer than any file");
		return 0;
	}
	if (piece->numel > 0 && v->dtype != WF_DTYPE_INVALID && dtype != v->dtype && !v->problem[0])
		snprintf(v->problem, sizeof v->problem, "its pieces are of two dtypes, %s and %s",
			 wf_dtype_info(v->dtype)->name, wf_dtype_info(dtype)->name);
	if (v->dtype == WF_DTYPE_INVALID || piece->numel > 0)
		v->dtype = dtype;
	v->pieces[v->count] = *piece;
	v->ends[v->count++] = end;
	return 0;
}

void zero_vector_free(struct zero_vector *v)
{
	free(v->pieces);
	free(v->ends);
	*v = (struct zero_vector){0};
}

/* The first piece that ends behind an element. */
static uint32_t piece_at(const struct zero_vector *v, uint64_t element)
{
	return wf_first_not(i, v->count, v->ends[i] <= element);
}

int zero_vector_cut(struct zero_vector *to, const struct zero_vector *v, uint64_t from, uint64_t numel)
{
	uint64_t have = zero_vector_numel(v), unit = wf_dtype_info(v->dtype)->size_bytes;
	int r = 0;
	if (v->problem[0] && !to->problem[0])
		memcpy(to->problem, v->problem, sizeof to->problem);
	if ((from > have || numel > have - from) && !to->problem[0])
		snprintf(to->problem, sizeof to->problem,
			 "elements %" PRIu64 " to %" PRIu64 " of a vector that holds %" PRIu64, from, from + numel,
			 have);
	if (to->dtype == WF_DTYPE_INVALID)
		to->dtype = v->dtype;
	for (uint32_t i = piece_at(v, from); numel > 0 && !to->problem[0] && r == 0 && i < v->count; i++) {
		uint64_t before = from - (v->ends[i] - v->pieces[i].numel);
		struct zero_piece p = v->pieces[i];
		p.at += p.file == UINT32_MAX ? 0 : before * unit;
		p.numel = WF_MIN(p.numel - before, numel);
		if (p.numel == 0)
			continue;
		r = zero_vector_add(to, &p, v->dtype);
		from += p.numel;
		numel -= p.numel;
	}
	return r;
}

/* ---- tensors ---- */

bool zero_shape_of(const struct wf_graph *g, wf_ref r, struct zero_shape *ret)
{
	int n = wf_int_tuple(g, r, ret->sizes);
	uint64_t room = 1;
	ret->numel = 1;
	ret->ndim = (uint32_t)WF_MAX(n, 0);
	for (uint32_t i = 0; i < ret->ndim; i++) {
		uint64_t size = (uint64_t)ret->sizes[i];
		/* strides are counted past a 0, too */
		if (wf_mul_u64(room, WF_MAX(size, 1u), &room) || room > INT64_MAX / 16)
			return false;
		ret->numel *= size;
	}
	return n >= 0;
}

static int make_tensor(struct zero_load *l, enum wf_dtype dtype, const struct zero_shape *shape, uint64_t address,
		       const char *why, wf_ref *ret)
{
	char key[16];
	struct wf_record *record = NULL;
	uint64_t bytes = shape->numel * wf_dtype_info(dtype)->size_bytes;
	wf_ref persid;
	size_t len = (size_t)snprintf(key, sizeof key, "%" PRIu32, l->z->made);
	int r = wf_container_add_storage(&l->z->base, key, len, &record, l->err);
	if (r < 0)
		return r;
	l->z->made++;
	record->header_offset = address;
	record->stored_bytes = record->size_bytes = bytes;
	if (why && zero_record_is_bad(l->z, -EIO, why) < 0)
		return wf_fail(l->err, -ENOMEM, "out of memory");
	r = wf_tensor_make_persid(l->g, dtype, key, "cpu", bytes, &persid);
	if (r == 0)
		r = wf_tensor_make(l->g, persid, dtype, 0, shape->sizes, shape->ndim, false, ret);
	return r < 0 ? zero_full(l) : 0;
}

int zero_make_lost(struct zero_load *l, const struct zero_shape *shape, const char *why, wf_ref *ret)
{
	return make_tensor(l, WF_FLOAT32, shape, 0, why, ret);
}

/* Why it cannot be had: a file of it; false where all are there. */
static bool has_lost_piece(const struct zero_load *l, const struct zero_vector *v, char *why, size_t size)
{
	for (uint32_t i = 0; i < v->count; i++)
		if (v->pieces[i].numel > 0 && v->pieces[i].file == UINT32_MAX) {
			zero_tell_lost(&l->z->list, v->pieces[i].lost, v->pieces[i].at, why, size);
			return true;
		}
	return false;
}

static int add_tiles(struct zero_load *l, const struct zero_vector *v, uint64_t numel, uint64_t *ret_address,
		     struct wf_error *why)
{
	cleanup_free struct wf_tile *tiles = reallocarray(NULL, WF_MAX(v->count, 1u), sizeof *tiles);
	cleanup_free uint64_t *boxes = reallocarray(NULL, WF_MAX(v->count, 1u), 2 * sizeof *boxes);
	uint32_t unit = wf_dtype_info(v->dtype)->size_bytes;
	if (!tiles || !boxes)
		return wf_fail(why, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < v->count; i++) {
		const struct zero_piece *p = &v->pieces[i];
		tiles[i] = (struct wf_tile){l->z->list.files[p->file].member, p->at, p->numel * unit};
		boxes[2 * i] = v->ends[i] - p->numel;
		boxes[2 * i + 1] = p->numel;
	}
	const struct wf_tiling tiling = {.ndim = 1,
					 .element_bytes = unit,
					 .tile_count = v->count,
					 .sizes = &numel,
					 .tiles = tiles,
					 .boxes = boxes};
	return wf_space_add_tiles(l->z->space, &tiling, ret_address, why);
}

int zero_make_tensor(struct zero_load *l, const struct zero_vector *v, const struct zero_shape *shape, wf_ref *ret)
{
	struct wf_error why = {0};
	uint64_t address = 0;
	char text[320];
	const char *problem = v->problem[0] ? v->problem : NULL;
	enum wf_dtype dtype = v->dtype != WF_DTYPE_INVALID ? v->dtype : WF_FLOAT32;
	if (!problem && has_lost_piece(l, v, text, sizeof text))
		problem = text;
	if (!problem && zero_vector_numel(v) != shape->numel) {
		snprintf(text, sizeof text, "it has %" PRIu64 " elements by its shape, and %" PRIu64 " in the files",
			 shape->numel, zero_vector_numel(v));
		problem = text;
	}
	if (!problem && shape->numel > 0) {
		int r = add_tiles(l, v, shape->numel, &address, &why);
		if (r < 0 && r != -EUCLEAN) {
			*l->err = why;
			return r;
		}
		if (r < 0)
			problem = why.text;
	}
	return make_tensor(l, dtype, shape, address, problem, ret);
}
