/* SPDX-License-Identifier: MIT */
/* A zip as torch.save writes it of a flat state_dict: an OrderedDict of tensors, which torch.load reads with weights_only.
 *
 * Tensors that lie in one storage share its record as torch.save would have it, with their strides, as long as they use at least half
 * of it; a few rows of a large storage are no reason to write all of that, and have records of their own. So have arrays, and views of
 * which the logical values are not the bytes (conjugate, negative). Tied tensors are one object.
 *
 * The objects of a tensor are made when the pickle comes to it, and are gone with the next one, but for what is met again: those of
 * 100,000 tensors, and what the writer knows of each, were more memory than all the rest. It is done twice, since the size and the
 * sum of the pickle stand before it: the first time writes to nowhere.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/crc32.h"
#include "codec/bytes/util.h"
#include "codec/compose/target.h"
#include "codec/pickle/pickle.h"
#include "codec/tensor/layout.h"

#define KEY_MAX 24u

/* Record data/N of the new file: a storage, or with OWN a tensor of the dictionary, which has its elements for itself. */
typedef uint32_t pt_record;
#define OWN 0x80000000u

/* A storage, by the views of it that are written. */
struct shared {
	uint64_t used_bytes;
	uint32_t views;
	wf_ref persid;
};
#define NOT_KEPT UINT32_MAX

struct pt {
	struct wf_checkpoint *ck;
	const struct wf_flat *flat;
	pt_record *records;
	uint32_t record_count;
	struct shared *shared; /* of each storage */
	wf_ref *made;          /* of each tensor of the dictionary that has another name, too; else NOT_KEPT */
	struct wf_graph *graph;
	uint32_t kept; /* limit of the graph without what was made for the last tensor alone */
	uint32_t next; /* tensor of the dictionary */
	uint64_t pickle_bytes;
	uint32_t pickle_crc32;
	struct wf_out *out; /* NULL: nowhere */
	struct wf_error *err;
};

const char *wf_pt_refuses(const struct wf_named *n)
{
	return n->tensor->record != WF_NIL ? "torch has no such dtype" : NULL;
}

static int no_memory(struct pt *p)
{
	return wf_fail(p->err, -ENOMEM, "out of memory");
}

static int decode(struct pt *p, uint32_t i, struct wf_tensor *ret)
{
	const struct wf_node *n = wf_tree_node(p->ck->tree, p->flat->tensors[i].ino);
	return wf_tensor_decode(p->ck->graph, p->ck->storages, n->object, ret, p->err);
}

static bool is_written(const struct wf_flat *f, uint32_t i)
{
	return !f->tensors[i].is_double && f->tensors[i].tie == i;
}

static bool can_share(const struct wf_tensor *t)
{
	return (t->kind == WF_TENSOR_DENSE || t->kind == WF_TENSOR_STORAGE) && !t->conj && !t->neg && !t->swap;
}

/* Which storages are used how much, and what is met again. */
static int count_use(struct pt *p)
{
	struct wf_tensor t;
	for (uint32_t i = 0; i < p->flat->count; i++) {
		const struct wf_flat_tensor *f = &p->flat->tensors[i];
		if (!f->is_double && f->tie != i)
			p->made[f->tie] = WF_NIL;
		int r = is_written(p->flat, i) ? decode(p, i, &t) : 0;
		if (r < 0)
			return r;
		if (!is_written(p->flat, i) || !can_share(&t))
			continue;
		struct shared *s = &p->shared[t.storage];
		s->views++;
		if (s->used_bytes < UINT64_MAX / 2)
			s->used_bytes += t.size_bytes;
	}
	return 0;
}

/* ---- the pickle ---- */

static uint64_t record_bytes(const struct pt *p, pt_record record)
{
	return record & OWN ? wf_flat_bytes(p->flat, &p->flat->tensors[record & ~OWN])
			    : wf_storage_get(p->ck->storages, record)->size_bytes;
}

static int new_record(struct pt *p, pt_record record, enum wf_dtype dtype, const char *location, wf_ref *ret)
{
	char key[KEY_MAX];
	snprintf(key, sizeof key, "%u", p->record_count);
	p->records[p->record_count++] = record;
	return wf_tensor_make_persid(p->graph, dtype, key, location, record_bytes(p, record), ret);
}

static int share_storage(struct pt *p, const struct wf_tensor *t, wf_ref *ret)
{
	const struct wf_storage *s = wf_storage_get(p->ck->storages, t->storage);
	wf_ref *persid = &p->shared[t->storage].persid;
	if (*persid == WF_NIL) {
		/* an untyped one is written by the dtype of its first view, where its size is a multiple */
		enum wf_dtype dtype = s->untyped ? t->dtype : (enum wf_dtype)s->dtype;
		if (s->size_bytes % wf_dtype_info(dtype)->size_bytes != 0)
			dtype = WF_UINT8;
		int r = new_record(p, t->storage, dtype, wf_storage_location(p->ck->storages, t->storage), persid);
		if (r < 0)
			return r;
	}
	*ret = *persid;
	return 0;
}

/* The quantizer of a tensor: (scheme, scale, zero point). */
static int copy_quantizer(struct pt *p, wf_ref from, wf_ref *ret)
{
	const struct wf_graph *g = p->ck->graph;
	wf_ref scheme = wf_element(g, from, 0), scale = wf_element(g, from, 1);
	int64_t zero = 0;
	if (!wf_is(g, scheme, WF_GLOBAL) || !wf_is(g, scale, WF_FLOAT) ||
	    !wf_int_value(g, wf_element(g, from, 2), &zero))
		return -EOPNOTSUPP;
	wf_ref items[] = {wf_global_named(p->graph, wf_global_module(g, scheme), wf_global_name(g, scheme)),
			  wf_float(p->graph, wf_float_value(g, scale)), wf_int(p->graph, zero)};
	for (int i = 0; i < 3; i++)
		if (items[i] == WF_NIL)
			return -ENOMEM;
	*ret = wf_tuple(p->graph, items, 3);
	return *ret == WF_NIL ? -ENOMEM : 0;
}

static void make_contiguous(struct wf_tensor *t)
{
	int64_t step = 1;
	for (uint32_t d = t->ndim; d-- > 0;) {
		t->stride[d] = step;
		step *= t->shape[d] > 0 ? t->shape[d] : 1;
	}
	t->offset_elems = 0;
	t->contiguous = true;
}

static int make_view(struct pt *p, struct wf_tensor *t, wf_ref persid, wf_ref *ret)
{
	t->requires_grad = false; /* as in a state_dict */
	if (wf_dtype_info(t->dtype)->quantised) {
		int r = copy_quantizer(p, t->quantizer, &t->quantizer);
		return r < 0 ? r : wf_tensor_make_quantised(p->graph, persid, t, ret);
	}
	int r = wf_tensor_make(p->graph, persid, t->dtype, t->offset_elems, t->shape, t->ndim, false, ret);
	t->rebuild = t->object = *ret;
	return r < 0 || t->contiguous ? r : wf_tensor_update(p->graph, t, persid);
}

/* *ret_kept: another tensor needs what was made, too. */
static int make_tensor(struct pt *p, uint32_t i, wf_ref *ret, bool *ret_kept)
{
	struct wf_tensor t;
	wf_ref persid;
	int r = decode(p, i, &t);
	if (r < 0)
		return r;
	const struct wf_storage *s = wf_storage_get(p->ck->storages, t.storage);
	if (can_share(&t) && s && p->shared[t.storage].used_bytes >= s->size_bytes / 2) {
		*ret_kept |= p->shared[t.storage].views > 1;
		r = share_storage(p, &t, &persid);
	} else {
		const char *location = can_share(&t) ? wf_storage_location(p->ck->storages, t.storage) : "cpu";
		r = new_record(p, OWN | i, t.dtype, location, &persid);
		make_contiguous(&t);
	}
	return r < 0 ? r : make_view(p, &t, persid, ret);
}

/* The next entry of the dictionary. */
static int make_item(void *ctx, uint32_t i, struct wf_item *ret, uint32_t *ret_kept, struct wf_error *err)
{
	struct pt *p = ctx;
	const struct wf_flat *f = p->flat;
	p->kept = *ret_kept = wf_graph_rewind(p->graph, p->kept);
	while (f->tensors[p->next].is_double)
		p->next++;
	const struct wf_flat_tensor *t = &f->tensors[p->next++];
	bool again = p->made[t->tie] != NOT_KEPT, kept = again;
	ret->key = wf_string(p->graph, WF_STR, wf_flat_name(f, t), t->name_len);
	int r = ret->key == WF_NIL ? -ENOMEM : 0;
	if (r == 0 && again && p->made[t->tie] != WF_NIL)
		ret->value = p->made[t->tie];
	else if (r == 0)
		r = make_tensor(p, t->tie, &ret->value, &kept);
	if (r < 0)
		return err && err->code ? r : wf_fail(err, r, "cannot make the pickle: %s", strerror(-r));
	if (again)
		p->made[t->tie] = ret->value;
	if (kept)
		p->kept = wf_graph_limit(p->graph);
	return 0;
}

static int take_pickle(void *ctx, const void *data, size_t len)
{
	struct pt *p = ctx;
	if (p->out)
		return wf_out_write(p->out, data, len);
	p->pickle_bytes += len;
	p->pickle_crc32 = wf_crc32(p->pickle_crc32, data, len);
	return 0;
}

/* As at the beginning: nothing is made. *ret_dict: where the items go. */
static int make_root(struct pt *p, wf_ref *ret_root, wf_ref *ret_dict)
{
	wf_graph_free(p->graph);
	p->graph = NULL;
	p->record_count = p->next = 0;
	for (uint32_t i = 0; i < wf_storages_count(p->ck->storages); i++)
		p->shared[i].persid = WF_NIL;
	for (uint32_t i = 0; i < p->flat->count; i++)
		if (p->made[i] != NOT_KEPT)
			p->made[i] = WF_NIL;
	if (wf_graph_new(&p->graph) < 0)
		return no_memory(p);
	wf_graph_share_constants(p->graph);
	wf_ref class = wf_global_named(p->graph, "collections", "OrderedDict"), none = wf_tuple(p->graph, NULL, 0);
	*ret_root = class == WF_NIL ? WF_NIL : wf_call(p->graph, WF_CALL_REDUCE, class, none, WF_NIL);
	*ret_dict = *ret_root == WF_NIL ? WF_NIL : wf_dict_target(p->graph, *ret_root);
	p->kept = wf_graph_limit(p->graph);
	return *ret_dict == WF_NIL ? no_memory(p) : 0;
}

static int write_pickle(struct pt *p, struct wf_out *out)
{
	struct wf_pickle_writer hooks = {.write = take_pickle, .ctx = p, .made.item = make_item};
	wf_ref root = WF_NIL;
	int r = make_root(p, &root, &hooks.made.dict);
	for (uint32_t i = 0; i < p->flat->count; i++)
		hooks.made.count += !p->flat->tensors[i].is_double;
	p->out = out;
	return r < 0 ? r : wf_pickle_write(p->graph, root, &hooks, p->err);
}

/* ---- the file ---- */

static int put_record(struct pt *p, struct wf_zip_writer *zip, const char *prefix, uint32_t i)
{
	pt_record record = p->records[i];
	uint64_t bytes = record_bytes(p, record);
	struct wf_composed *c;
	char name[KEY_MAX + 300];
	int len = snprintf(name, sizeof name, "%s/data/%u", prefix, i), r = wf_composed_new(&c);
	if (r < 0)
		return no_memory(p);
	r = record & OWN ? wf_composed_tensor(c, p->flat->tensors[record & ~OWN].ino, WF_PIECE_AS_SHOWN, bytes)
			 : wf_composed_storage(c, record, 0, bytes);
	if (r == 0)
		r = wf_composed_finish(c);
	r = r < 0 ? no_memory(p) : wf_put_composed(p->ck, zip, name, (size_t)len, c, p->err);
	wf_composed_free(c);
	return r;
}

static int put_text(struct wf_zip_writer *zip, const char *prefix, const char *name, const void *data, size_t len)
{
	char full[300];
	snprintf(full, sizeof full, "%s/%s", prefix, name);
	return wf_put_bytes(zip, full, data, len);
}

static int put_pickle(struct pt *p, struct wf_zip_writer *zip, const char *prefix)
{
	struct wf_zip_entry e;
	char name[300];
	snprintf(name, sizeof name, "%s/data.pkl", prefix);
	wf_zip_entry_init(&e, name, strlen(name), p->pickle_bytes);
	e.crc32 = p->pickle_crc32;
	int r = wf_zip_begin(zip, &e, 0, 0);
	if (r == 0)
		r = write_pickle(p, zip->out);
	wf_graph_free(steal_pointer(&p->graph));
	free(steal_pointer(&p->shared)); /* the directory of the archive grows from here on */
	free(steal_pointer(&p->made));
	return r < 0 ? r : wf_zip_end(zip, &e);
}

/* Records in torch's order; .format_version is left out, for with it torch would compute places that are not these. */
static int write_records(struct pt *p, struct wf_zip_writer *zip, const char *prefix)
{
	int r = put_pickle(p, zip, prefix);
	if (r == 0)
		r = put_text(zip, prefix, "byteorder", "little", 6);
	if (r < 0)
		return wf_fail(p->err, r, "cannot write the new file: %s", strerror(-r));
	for (uint32_t i = 0; i < p->record_count && r == 0; i++)
		r = put_record(p, zip, prefix, i);
	if (r < 0)
		return r;
	r = put_text(zip, prefix, "version", "3\n", 2);
	if (r == 0)
		r = wf_zip_finish(zip);
	return r < 0 ? wf_fail(p->err, r, "cannot write the new file: %s", strerror(-r)) : 0;
}

/* What torch.save calls the folder in the archive: the file's name without its suffix. */
static void make_prefix(const char *path, char *buf, size_t size)
{
	const char *name = strrchr(path, '/') + 1, *dot = strrchr(name, '.');
	snprintf(buf, size, "%.*s", (int)(dot && dot > name ? (size_t)(dot - name) : strlen(name)), name);
}

static int write_zip(struct pt *p, const char *path, struct wf_out *out)
{
	struct wf_zip_writer zip;
	char prefix[256];
	make_prefix(path, prefix, sizeof prefix);
	wf_zip_writer_init(&zip, out, WF_ZIP_ALIGNMENT);
	int r = write_records(p, &zip, prefix);
	wf_zip_writer_free(&zip);
	return r;
}

static uint64_t zip_bytes(const struct pt *p)
{
	uint64_t bytes = p->pickle_bytes;
	for (uint32_t i = 0; i < p->record_count; i++)
		bytes += record_bytes(p, p->records[i]);
	return bytes;
}

static int write_file(struct pt *p, const struct wf_export *x, const char *path)
{
	struct wf_target t;
	struct wf_file_run old;
	wf_source_locate(wf_container_file(p->ck->container), 0, &old);
	int r = wf_target_open(&t, path, zip_bytes(p), x, old.fd, p->err);
	if (r == 0)
		r = write_zip(p, path, &t.out);
	if (r == 0)
		r = wf_target_finish(&t, x, p->err);
	wf_target_free(&t);
	wf_file_run_end(&old);
	return r;
}

static int make_all(struct pt *p)
{
	uint32_t storages = wf_storages_count(p->ck->storages), count = p->flat->count;
	p->records = calloc((size_t)count + 1, sizeof *p->records);
	p->shared = calloc((size_t)storages + 1, sizeof *p->shared);
	p->made = calloc((size_t)count + 1, sizeof *p->made);
	int r = p->records && p->shared && p->made ? 0 : no_memory(p);
	for (uint32_t i = 0; r == 0 && i < count; i++)
		p->made[i] = NOT_KEPT;
	if (r == 0)
		r = count_use(p);
	return r < 0 ? r : write_pickle(p, NULL);
}

static void free_all(struct pt *p)
{
	wf_graph_free(p->graph);
	free(p->records);
	free(p->shared);
	free(p->made);
}

int wf_export_pt(struct wf_checkpoint *ck, const struct wf_flat *f, const struct wf_export *x, const char *path,
		 struct wf_error *err)
{
	struct pt p = {.ck = ck, .flat = f, .err = err};
	int r = make_all(&p);
	if (r == 0)
		r = write_file(&p, x, path);
	free_all(&p);
	return r;
}

int wf_put_pt(struct wf_checkpoint *ck, const struct wf_flat *f, const char *path, struct wf_out *out,
	      struct wf_error *err)
{
	struct pt p = {.ck = ck, .flat = f, .err = err};
	int r = make_all(&p);
	uint64_t bytes = r == 0 ? zip_bytes(&p) : 0;
	if (r == 0 && (r = wf_out_reserve(out, bytes, out->clone_block == 0)) < 0)
		wf_fail(err, r, "there is no room for its %llu bytes: %s", (unsigned long long)bytes, strerror(-r));
	if (r == 0)
		r = write_zip(&p, path, out);
	free_all(&p);
	return r;
}
