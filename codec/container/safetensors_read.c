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
	return wf_tensor_maker_full(l->tensors.g, l->err);
}

int wf_safetensors_maker_init(struct wf_safetensors_maker *l, struct wf_container *c, struct wf_graph *g,
			      struct wf_error *err)
{
	*l = (struct wf_safetensors_maker){.c = c, .err = err};
	return wf_tensor_maker_init(&l->tensors, g, err);
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

int wf_safetensors_make_tensor(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, uint32_t i,
			       uint64_t file, uint32_t number, wf_ref *ret)
{
	const struct wf_safetensors_tensor *t = &h->tensors[i];
	char key[KEY_BYTES];
	snprintf(key, sizeof key, "%" PRIu32, number);
	int r = add_record(l, t, file + 8 + h->json_bytes, key);
	return r < 0 ? r
		     : wf_tensor_maker_make(&l->tensors, t->dtype, key, h->sizes + t->shape, t->ndim, t->end - t->begin,
					    h->text.data + t->name, ret, l->err);
}

static int make_text(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, size_t at, uint32_t len,
		     wf_ref *ret)
{
	*ret = wf_string(l->tensors.g, WF_STR, h->text.data + at, len);
	return *ret ? 0 : full(l);
}

static int make_root(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, wf_ref *ret)
{
	wf_ref root = wf_dict(l->tensors.g), key, tensor;
	int r = root ? 0 : full(l);
	for (uint32_t i = 0; i < h->tensor_count && r == 0; i++) {
		const struct wf_safetensors_tensor *t = &h->tensors[i];
		r = make_text(l, h, t->name, t->name_len, &key);
		if (r == 0)
			r = wf_safetensors_make_tensor(l, h, i, 0, i, &tensor);
		if (r == 0 && wf_dict_append(l->tensors.g, root, key, tensor) < 0)
			r = full(l);
	}
	*ret = root;
	return r;
}

int wf_safetensors_make_metadata(struct wf_safetensors_maker *l, const struct wf_safetensors_header *h, wf_ref *ret)
{
	wf_ref dict = wf_dict(l->tensors.g), key, value;
	int r = dict ? 0 : full(l);
	for (uint32_t i = 0; i < h->pair_count && r == 0; i++) {
		const struct wf_safetensors_pair *p = &h->pairs[i];
		r = make_text(l, h, p->key, p->key_len, &key);
		if (r == 0)
			r = make_text(l, h, p->value, p->value_len, &value);
		if (r == 0 && wf_dict_append(l->tensors.g, dict, key, value) < 0)
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
