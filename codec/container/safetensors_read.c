/* SPDX-License-Identifier: MIT */
/* A safetensors file, as container/safetensors_head.h draws it: its tensors are a flat dictionary, in the order of the header's JSON.
 *
 * Each tensor is a record of its own, storage/N with N counted in that order, and the header is the record "header". In the graph a
 * tensor is what torch.load would have made of it: a rebuild call over a storage on the cpu.
 */
#include "codec/container/records.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/container/safetensors_read.h"

#define KEY_BYTES 12 /* of a number of 32 bits */

struct safetensors {
	struct wf_container base;
	bool loaded;
};

static int full(const struct wf_safetensors_maker *l)
{
	int r = wf_graph_failed(l->g);
	return wf_fail(l->err, r < 0 ? r : -ENOMEM, "the tensors do not fit the limit of %llu bytes",
		       WF_GRAPH_MAX_BYTES);
}

int wf_safetensors_maker_init(struct wf_safetensors_maker *l, struct wf_container *c, struct wf_graph *g,
			      struct wf_error *err)
{
	*l = (struct wf_safetensors_maker){.c = c, .g = g, .err = err};
	wf_ref ordered = wf_global_named(g, "collections", "OrderedDict"), none = wf_tuple(g, NULL, 0);
	l->storage = wf_str(g, "storage");
	l->cpu = wf_str(g, "cpu");
	l->no = wf_bool(g, false);
	l->hooks = ordered == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, ordered, none, WF_NIL);
	l->untyped = wf_global_named(g, "torch.storage", "UntypedStorage");
	l->rebuild[0] = wf_global_named(g, "torch._utils", "_rebuild_tensor_v2");
	l->rebuild[1] = wf_global_named(g, "torch._utils", "_rebuild_tensor_v3");
	return l->storage && l->cpu && l->hooks && l->untyped && l->rebuild[0] && l->rebuild[1] ? 0 : full(l);
}

/* The class of a dtype's storage, and for one without any the dtype itself. */
static int make_dtype(struct wf_safetensors_maker *l, enum wf_dtype dtype)
{
	const struct wf_dtype_info *info = wf_dtype_info(dtype);
	if (l->classes[dtype] != WF_NIL)
		return 0;
	l->classes[dtype] = info->storage_class ? wf_global_named(l->g, "torch", info->storage_class) : l->untyped;
	if (!info->storage_class)
		l->dtypes[dtype] = wf_global_named(l->g, "torch", info->name);
	return l->classes[dtype] && (info->storage_class || l->dtypes[dtype]) ? 0 : full(l);
}

static int add_record(struct wf_safetensors_maker *l, const struct wf_safetensors_tensor *t, uint64_t data,
		      const char *key)
{
	struct wf_record *record = NULL;
	int r = wf_container_add_storage(l->c, key, strlen(key), &record, l->err);
	if (r < 0)
		return r;
	record->header_offset = data + t->begin;
	record->stored_bytes = record->size_bytes = t->end - t->begin;
	return 0;
}

static int make_storage(struct wf_safetensors_maker *l, const struct wf_safetensors_tensor *t, const char *key,
			wf_ref *ret)
{
	uint64_t unit = l->dtypes[t->dtype] ? 1 : wf_dtype_info(t->dtype)->size_bytes;
	const wf_ref id[] = {l->storage, l->classes[t->dtype], wf_str(l->g, key), l->cpu,
			     wf_int(l->g, (int64_t)((t->end - t->begin) / unit))};
	wf_ref tuple = id[2] && id[4] ? wf_tuple(l->g, id, WF_ARRAY_SIZE(id)) : WF_NIL;
	*ret = tuple ? wf_persid(l->g, tuple) : WF_NIL;
	return *ret ? 0 : full(l);
}

/* Sizes and strides; of an empty tensor as torch counts them. */
static int make_shape(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h,
		      const struct wf_safetensors_tensor *t, wf_ref *ret_size, wf_ref *ret_stride)
{
	wf_ref size[64], stride[64];
	int64_t step = 1;
	for (uint32_t i = t->ndim; i-- > 0;) {
		int64_t n = h->sizes[t->shape + i];
		size[i] = wf_int(l->g, n);
		stride[i] = wf_int(l->g, step);
		if (size[i] == WF_NIL || stride[i] == WF_NIL)
			return full(l);
		if (__builtin_mul_overflow(step, WF_MAX(n, 1), &step))
			return wf_fail_at(l->err, -EOPNOTSUPP, h->text.data + t->name, WF_ERROR_NO_OFFSET,
					  "its strides pass 2^63, which torch does not have");
	}
	*ret_size = wf_tuple(l->g, size, t->ndim);
	*ret_stride = wf_tuple(l->g, stride, t->ndim);
	return *ret_size && *ret_stride ? 0 : full(l);
}

int wf_safetensors_make_tensor(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, uint32_t i,
			       uint64_t file, uint32_t number, wf_ref *ret)
{
	const struct wf_safetensors_tensor *t = &h->tensors[i];
	char key[KEY_BYTES];
	wf_ref args[7];
	snprintf(key, sizeof key, "%" PRIu32, number);
	int r = make_dtype(l, t->dtype);
	if (r == 0)
		r = add_record(l, t, file + 8 + h->json_bytes, key);
	if (r == 0)
		r = make_storage(l, t, key, &args[0]);
	if (r == 0)
		r = make_shape(l, h, t, &args[2], &args[3]);
	if (r < 0)
		return r;
	bool v3 = l->dtypes[t->dtype] != WF_NIL;
	args[1] = wf_int(l->g, 0);
	args[4] = l->no;
	args[5] = l->hooks;
	args[6] = l->dtypes[t->dtype];
	wf_ref tuple = wf_tuple(l->g, args, v3 ? 7 : 6);
	*ret = tuple ? wf_call(l->g, WF_CALL_REDUCE, l->rebuild[v3], tuple, WF_NIL) : WF_NIL;
	return *ret ? 0 : full(l);
}

static int make_text(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, size_t at, uint32_t len,
		     wf_ref *ret)
{
	*ret = wf_string(l->g, WF_STR, h->text.data + at, len);
	return *ret ? 0 : full(l);
}

static int make_root(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, wf_ref *ret)
{
	wf_ref root = wf_dict(l->g), key, tensor;
	int r = root ? 0 : full(l);
	for (uint32_t i = 0; i < h->tensor_count && r == 0; i++) {
		const struct wf_safetensors_tensor *t = &h->tensors[i];
		r = make_text(l, h, t->name, t->name_len, &key);
		if (r == 0)
			r = wf_safetensors_make_tensor(l, h, i, 0, i, &tensor);
		if (r == 0 && wf_dict_append(l->g, root, key, tensor) < 0)
			r = full(l);
	}
	*ret = root;
	return r;
}

int wf_safetensors_make_metadata(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, wf_ref *ret)
{
	wf_ref dict = wf_dict(l->g), key, value;
	int r = dict ? 0 : full(l);
	for (uint32_t i = 0; i < h->pair_count && r == 0; i++) {
		const struct wf_safetensors_pair *p = &h->pairs[i];
		r = make_text(l, h, p->key, p->key_len, &key);
		if (r == 0)
			r = make_text(l, h, p->value, p->value_len, &value);
		if (r == 0 && wf_dict_append(l->g, dict, key, value) < 0)
			r = full(l);
	}
	*ret = dict;
	l->c->metadata_is_empty = h->has_metadata && h->pair_count == 0;
	return r;
}

static int load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	struct safetensors *s = (struct safetensors *)c;
	struct wf_safetensors_header h;
	struct wf_record *record = NULL;
	if (s->loaded)
		return wf_fail(err, -EINVAL, "the header was read before");
	s->loaded = true;
	struct wf_safetensors_maker l;
	int r = wf_safetensors_header_read(c->file, &h, err);
	if (r == 0 && wf_container_reserve(c, h.tensor_count + 1) < 0)
		r = wf_fail(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = wf_safetensors_maker_init(&l, c, g, err);
	if (r == 0)
		r = make_root(&l, &h, ret_root);
	if (r == 0)
		r = wf_safetensors_make_metadata(&l, &h, &c->metadata);
	if (r == 0 && wf_container_add(c, "header", strlen("header"), &record) < 0)
		r = wf_fail(err, -ENOMEM, "out of memory");
	if (r == 0) {
		record->header_offset = 8;
		record->stored_bytes = record->size_bytes = h.json_bytes;
		r = wf_container_index(c, err);
	}
	wf_safetensors_header_free(&h);
	return r;
}

static const struct wf_container_ops ops = {.load_graph = load_graph};

int wf_safetensors_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err)
{
	int r = wf_safetensors_begins(file);
	if (r <= 0)
		return r < 0 ? wf_fail(err, r, "cannot read the file: %s", strerror(-r)) : 1;
	struct safetensors *s = calloc(1, sizeof *s);
	if (!s)
		return wf_fail(err, -ENOMEM, "out of memory");
	r = wf_container_init(&s->base, &ops, WF_CONTAINER_SAFETENSORS, file);
	if (r < 0) {
		wf_container_free(&s->base);
		return wf_fail(err, r, "out of memory");
	}
	*ret = &s->base;
	return 0;
}
