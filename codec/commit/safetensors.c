/* SPDX-License-Identifier: MIT */
/* A whole safetensors file, as container/safetensors_head.h draws it: the header is made when the commit is planned, and the data follows,
 * copied where it is old.
 *
 * The order of the entries is that of the dictionary. The data need not have the same: it lies by the size of its elements, the largest
 * first, so that every tensor is aligned, and otherwise in that order, which is where the format's own writer has it, too. A repack
 * writes both as that writer would.
 */
#include "codec/commit/inner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/container/sharding_info.h"
#include "codec/tensor/tensor.h"

/* From so many bytes on a header is made longer for the clone that it makes possible. */
#define PADDED_MIN_BYTES (1u << 20)

/* ---- what is written ---- */

struct tensor_list {
	struct wf_plan *plan;
	struct wf_error *err;
	int64_t *sizes; /* of all shapes */
	uint32_t size_count, size_capacity;
	size_t *shapes; /* by tensor: where its own begin */
};

static int cannot(const struct tensor_list *l, const char *name, const char *why)
{
	return wf_fail_at(l->err, -EOPNOTSUPP, name, WF_ERROR_NO_OFFSET, "a safetensors file cannot hold it: %s", why);
}

static int add_shape(struct tensor_list *l, const struct wf_tensor *t)
{
	if (wf_array_reserve(&l->sizes, &l->size_capacity, (uint64_t)l->size_count + t->ndim, sizeof *l->sizes,
			     UINT32_MAX) < 0)
		return wf_fail(l->err, -ENOMEM, "out of memory");
	if (t->ndim > 0)
		memcpy(l->sizes + l->size_count, t->shape, t->ndim * sizeof *l->sizes);
	l->size_count += t->ndim;
	return 0;
}

/* The tensor covers a storage of its own, from its first byte to its last: so all of them are read, and made by edits. */
static int check_tensor(const struct tensor_list *l, const char *name, const struct wf_tensor *t)
{
	const char *why = wf_safetensors_refuses(t->dtype, t->shape, t->ndim);
	if (why)
		return cannot(l, name, why);
	if (t->kind != WF_TENSOR_DENSE || t->conj || t->neg || t->quantizer != WF_NIL)
		return cannot(l, name, "it is no plain tensor");
	const struct wf_storage *s = wf_storage_get(l->plan->in.storages, t->storage);
	if (!t->contiguous || t->offset_elems || s->size_bytes != t->size_bytes || l->plan->live[t->storage])
		return cannot(l, name, "it shares its bytes with another tensor");
	return 0;
}

static bool is_changed(const struct wf_plan *p, uint32_t storage)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, storage);
	const struct wf_record *record = wf_container_record(p->in.container, s->record);
	return !record || s->resized || wf_extents_bytes(s->dirty) > 0 || record->size_bytes != s->size_bytes;
}

static int add_tensor(struct tensor_list *l, const struct wf_item *item)
{
	struct wf_plan *p = l->plan;
	struct wf_tensor t;
	size_t len = 0;
	const char *name = wf_is(p->in.graph, item->key, WF_STR) ? wf_bytes(p->in.graph, item->key, &len) : NULL;
	if (!name)
		return wf_fail(l->err, -EOPNOTSUPP, "a safetensors file cannot hold a key that is no text");
	const char *why = wf_safetensors_refuses_name(name, len);
	if (why || !wf_is_tensor(p->in.graph, item->value))
		return cannot(l, name, why ? why : "it is no tensor");
	int r = wf_tensor_decode(p->in.graph, p->in.storages, item->value, &t, l->err);
	if (r < 0) {
		wf_error_where(l->err, name);
		return r;
	}
	r = check_tensor(l, name, &t);
	if (r == 0) {
		l->shapes[p->count] = l->size_count;
		r = add_shape(l, &t);
	}
	if (r < 0)
		return r;
	p->live[t.storage] = true;
	p->order[p->order_count++] = t.storage;
	bool changed = is_changed(p, t.storage);
	p->parts[p->count] = (struct wf_part){
		.kind = changed ? WF_PART_STORAGE : WF_PART_KEEP,
		.record = changed ? WF_NO_RECORD : wf_storage_get(p->in.storages, t.storage)->record,
		.storage = t.storage,
	};
	p->items[p->count] = (struct wf_safetensors_item){.name = name,
							  .name_len = (uint32_t)len,
							  .dtype = t.dtype,
							  .ndim = t.ndim,
							  .size_bytes = t.size_bytes,
							  .id = p->count};
	p->count++;
	return 0;
}

static int add_tensors(struct tensor_list *l)
{
	struct wf_plan *p = l->plan;
	uint32_t n;
	const struct wf_item *items = wf_items(p->in.graph, p->in.root, &n);
	if (!wf_is(p->in.graph, p->in.root, WF_DICT))
		return wf_fail(l->err, -EOPNOTSUPP, "a safetensors file holds a dictionary of tensors alone");
	p->items = calloc((size_t)n + 1, sizeof *p->items);
	p->parts = calloc((size_t)n + 1, sizeof *p->parts);
	p->data_order = calloc((size_t)n + 1, sizeof *p->data_order);
	l->shapes = calloc((size_t)n + 1, sizeof *l->shapes);
	p->capacity = n + 1;
	int r = p->items && p->parts && p->data_order && l->shapes ? 0 : wf_fail(l->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n && r == 0; i++)
		if (items[i].key != WF_NIL)
			r = add_tensor(l, &items[i]);
	for (uint32_t i = 0; i < p->count && r == 0; i++)
		p->items[i].shape = l->sizes + l->shapes[i];
	return r;
}

/* ---- where it stands ---- */

/* The parts in the order of the entries, each as the record that the reader makes of it. */
static int name_parts(struct wf_plan *p)
{
	cleanup_free struct wf_part *parts = calloc((size_t)p->count + 1, sizeof *parts);
	if (!parts)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->count; i++) {
		char *name = NULL;
		parts[i] = p->parts[p->items[i].id];
		if (asprintf(&name, "storage/%" PRIu32, i) < 0)
			name = NULL;
		parts[i].name = wf_plan_own_name(p, name);
		if (!parts[i].name)
			return -ENOMEM;
		p->items[i].id = i;
	}
	free(p->parts);
	p->parts = steal_pointer(&parts);
	return 0;
}

static int by_begin(const void *a, const void *b, void *items)
{
	const struct wf_safetensors_item *x = (struct wf_safetensors_item *)items + *(const uint32_t *)a,
					 *y = (struct wf_safetensors_item *)items + *(const uint32_t *)b;
	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x->size_bytes < y->size_bytes ? -1 : x->size_bytes > y->size_bytes;
}

/* Names of parts, and the order of their data. */
static int settle_parts(struct wf_plan *p)
{
	int r = name_parts(p);
	for (uint32_t i = 0; i < p->count; i++)
		p->data_order[i] = i;
	if (r == 0)
		qsort_r(p->data_order, p->count, sizeof *p->data_order, by_begin, p->items);
	return r;
}

static bool fills(const struct wf_plan *p, uint32_t i)
{
	return p->items[i].size_bytes % p->in.alignment == 0;
}

/* Those that end where another may begin come first, otherwise in the writer's order. Behind them there is room for one that does not:
 * what would follow that one cannot begin where it should, for the data have no holes. */
static int align_tensors(struct wf_plan *p, struct wf_error *err)
{
	cleanup_free struct wf_safetensors_item *items = calloc(p->count + 1u, sizeof *items);
	uint32_t n = 0, out = 0;
	uint64_t at = 0;
	if (!items)
		return -ENOMEM;
	for (int last = 0; last < 2; last++)
		for (uint32_t i = 0; i < p->count; i++)
			if (fills(p, i) == !last)
				items[n++] = p->items[i];
	for (uint32_t i = 0; i < p->count; i++) {
		p->items[i] = items[i];
		p->items[i].begin = at;
		out += at % p->in.alignment != 0 && items[i].size_bytes > 0;
		at += items[i].size_bytes; /* wf_safetensors_place has held their sum against the limits */
	}
	return out == 0
		       ? 0
		       : wf_fail(err, -EOPNOTSUPP,
				 "%u of its tensors could not begin at a multiple of %u bytes: a safetensors file has no "
				 "holes, and those in front of them are no multiples of that",
				 out, p->in.alignment);
}

static int place(struct wf_plan *p, struct wf_error *err)
{
	uint64_t bytes;
	int r = p->in.canonical ? wf_safetensors_sort(p->items, p->count) : 0;
	if (r == 0)
		r = p->in.canonical ? wf_safetensors_place(p->items, p->count, &bytes)
				    : wf_safetensors_align(p->items, p->count, &bytes);
	if (r == 0 && p->in.alignment)
		r = align_tensors(p, err);
	return r < 0 ? r : settle_parts(p);
}

static void get_item(const void *ctx, size_t i, struct wf_safetensors_item *ret)
{
	*ret = ((const struct wf_plan *)ctx)->items[i];
}

/* What torch.distributed.checkpoint wants to know of every tensor follows their names; text owns the new value. */
static int renew_note(const struct wf_plan *p, struct wf_safetensors_note *note, struct wf_buffer *text,
		      struct wf_error *err)
{
	struct wf_safetensors_items items = {p->count, get_item, p};
	size_t which = 0;
	if (note->key_len != strlen(WF_SHARDING_INFO) || memcmp(note->key, WF_SHARDING_INFO, note->key_len) != 0)
		return 0;
	int r = wf_sharding_info_renew(note->value, note->value_len, &items, text, &which);
	if (r == -EOPNOTSUPP)
		return wf_fail(err, r,
			       "%s in the file's metadata tells which part of a whole each tensor is, and not that of "
			       "'%.100s': write it in .weightfs/metadata, or remove that text",
			       WF_SHARDING_INFO, p->items[which].name);
	if (r == 0) {
		note->value = text->data;
		note->value_len = (uint32_t)text->len;
	}
	return WF_MIN(r, 0);
}

static int make_head(struct wf_plan *p, struct wf_error *err)
{
	struct wf_buffer info = WF_BUFFER_INIT;
	const struct wf_graph *g = p->in.graph;
	uint32_t n;
	const struct wf_item *pairs = wf_items(g, p->in.metadata, &n);
	cleanup_free struct wf_safetensors_note *notes = calloc((size_t)n + 1, sizeof *notes);
	size_t count = 0;
	if (!notes)
		return -ENOMEM;
	int r = 0;
	for (uint32_t i = 0; i < n && r == 0; i++) {
		size_t key_len, value_len;
		if (pairs[i].key == WF_NIL)
			continue;
		const char *key = wf_is(g, pairs[i].key, WF_STR) ? wf_bytes(g, pairs[i].key, &key_len) : NULL;
		const char *value = wf_is(g, pairs[i].value, WF_STR) ? wf_bytes(g, pairs[i].value, &value_len) : NULL;
		if (!key || !value) {
			r = wf_fail(err, -EOPNOTSUPP, "the metadata of a safetensors file are texts alone");
			break;
		}
		notes[count] = (struct wf_safetensors_note){key, value, (uint32_t)key_len, (uint32_t)value_len};
		r = renew_note(p, &notes[count++], &info, err);
	}
	bool is_there = count > 0 || wf_container_metadata_is_empty(p->in.container);
	if (r == 0)
		r = wf_safetensors_head(p->items, p->count, is_there ? notes : NULL, count, &p->head);
	wf_buffer_free(&info);
	return r;
}

static int stay(struct wf_plan *p, struct wf_error *err)
{
	int r = wf_plan_stay(p);
	if (r == 0 && p->in_place)
		r = make_head(p, err);
	if (r == 0 && p->in_place)
		r = wf_plan_stay_head(p);
	if (r == 0 && p->in_place)
		return settle_parts(p);
	wf_buffer_free(&p->head);
	p->head = (struct wf_buffer)WF_BUFFER_INIT;
	return r;
}

int wf_plan_safetensors(struct wf_plan *p, struct wf_error *err)
{
	struct tensor_list l = {.plan = p, .err = err};
	if (err)
		err->code = 0;
	int r = add_tensors(&l);
	if (r == 0 && p->in.in_place)
		r = stay(p, err);
	if (r == 0 && !p->in_place)
		r = place(p, err);
	if (r == 0 && !p->in_place)
		r = make_head(p, err);
	free(l.sizes);
	free(l.shapes);
	for (uint32_t i = 0; r == 0 && i < p->count; i++)
		p->items[i].shape = NULL; /* only the header needed it */
	if (r < 0 && err && err->code == 0)
		wf_fail(err, r, r == -EFBIG ? "the header would be longer than any reader takes" : "%s", strerror(-r));
	return r;
}

/* ---- writing ---- */

/* Blanks behind the JSON, after which the data begin at a multiple of what a repack asks for. */
static size_t blanks_for_alignment(const struct wf_plan *p)
{
	uint32_t n = p->in.alignment;
	return n ? (n - p->head.len % n) % n : 0;
}

/* Blanks behind the JSON, after which the first byte of data lies in its block as it does in the old file, so that what stayed in its
 * place among the data can be cloned. */
static size_t blanks_for_clone(const struct wf_plan *p, const struct wf_out *o)
{
	uint64_t block = o->clone_block, head[1] = {p->in.shard_header_bytes};
	if (block == 0 || p->kept_bytes < PADDED_MIN_BYTES || p->in.canonical ||
	    (!p->in.shard && wf_source_read(wf_container_file(p->in.container), 0, head, sizeof head) < 0))
		return 0;
	uint64_t blanks = (head[0] + 8 + block - p->head.len % block) % block;
	return p->head.len - 8 + blanks <= WF_SAFETENSORS_JSON_MAX && blanks % 8 == 0 ? (size_t)blanks : 0;
}

static int write_head(const struct wf_plan *p, struct wf_out *o)
{
	size_t blanks = p->in.alignment ? blanks_for_alignment(p) : blanks_for_clone(p, o);
	uint64_t json = p->head.len - 8 + blanks;
	cleanup_free char *more = malloc(blanks + 1);
	if (!more)
		return -ENOMEM;
	memset(more, ' ', blanks);
	int r = wf_out_write(o, &json, sizeof json); /* little endian hosts only, as meson.build says */
	if (r == 0)
		r = wf_out_write(o, p->head.data + 8, p->head.len - 8);
	return r < 0 ? r : wf_out_write(o, more, blanks);
}

/* Neighbours of the old file that are neighbours again move as one. */
static int move_run(struct wf_file_run *run, struct wf_out *o)
{
	int r = run->len ? wf_out_copy(o, run->fd, run->offset, run->len) : 0;
	wf_file_run_end(run);
	return r;
}

/* A record that begins in one file and ends in another comes in several. */
static int add_to_run(struct wf_file_run *run, struct wf_file_run next, struct wf_out *o)
{
	if (run->file == next.file && run->offset + run->len == next.offset) {
		run->len += next.len;
		wf_file_run_end(&next);
		return 0;
	}
	int r = move_run(run, o);
	*run = next;
	return r;
}

static int write_part(const struct wf_plan *p, const struct wf_part *part, struct wf_file_run *run, struct wf_out *o,
		      struct wf_error *err)
{
	uint32_t ignored;
	if (part->kind == WF_PART_STORAGE) {
		int r = move_run(run, o);
		return r < 0 ? r : wf_commit_storage(p, part->storage, o, &ignored, err);
	}
	uint64_t size = wf_container_record(p->in.container, part->record)->stored_bytes;
	int r = 0;
	for (uint64_t at = 0; at < size && r == 0;) {
		struct wf_file_run next;
		if (wf_commit_locate(p, part->record, at, &next, NULL) < 0) {
			r = move_run(run, o);
			return r < 0 ? r : wf_commit_copy(p, part->record, at, size, o, err);
		}
		next.len = WF_MIN(next.len, size - at);
		at += next.len;
		r = add_to_run(run, next, o);
	}
	return r;
}

int wf_replace_safetensors(const struct wf_plan *p, struct wf_out *o, struct wf_error *err)
{
	if (err)
		err->code = 0;
	struct wf_file_run run = WF_FILE_RUN_INIT;
	int r = write_head(p, o);
	for (uint32_t i = 0; i < p->count && r == 0; i++)
		r = write_part(p, &p->parts[p->data_order[i]], &run, o, err);
	if (r == 0)
		r = move_run(&run, o);
	wf_file_run_end(&run);
	if (r == 0)
		r = wf_out_finish(o);
	if (r < 0 && err && err->code == 0)
		wf_fail(err, r, "cannot write the new file: %s", strerror(-r));
	return r;
}

/* The header that was written says what was planned, blanks aside. */
int wf_check_safetensors(const struct wf_plan *p, const struct wf_container *written, struct wf_error *err)
{
	cleanup_free char *buf = malloc(p->head.len);
	int r = buf ? wf_source_read(wf_container_file(written), 8, buf, p->head.len - 8) : -ENOMEM;
	if (r < 0)
		return wf_fail(err, r, "cannot read the file just written: %s", strerror(-r));
	return memcmp(buf, p->head.data + 8, p->head.len - 8) == 0
		       ? 0
		       : wf_fail(err, -EUCLEAN,
				 "the file just written is wrong: its header is not what was to be written");
}
