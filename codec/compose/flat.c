/* SPDX-License-Identifier: MIT */
/* Collects the tensors below a directory, and sorts them by name. */
#include "codec/compose/flat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/sort.h"
#include "codec/bytes/util.h"
#include "codec/container/safetensors_head.h"

/* Bytes of names: more than a safetensors header can hold. A nest of 100,000 mappings has full names of gigabytes. */
#define NAMES_MAX WF_SAFETENSORS_JSON_MAX

#define NAME_IS_KEY 0x80000000u /* the rest is the key's ref */
_Static_assert(NAMES_MAX < NAME_IS_KEY, "offsets of names have a bit to spare");

const char *wf_flat_name(const struct wf_flat *f, const struct wf_flat_tensor *t)
{
	return t->name & NAME_IS_KEY ? wf_bytes(f->graph, t->name & ~NAME_IS_KEY, NULL) : f->names.data + t->name;
}

struct reading {
	const struct wf_checkpoint *ck;
	struct wf_flat *flat;
	const char *(*refuses)(const struct wf_named *n);
	struct wf_skipped *skipped;
};

static int skip(struct wf_skipped *skipped, const char *name, size_t len, const char *reason, bool is_tensor)
{
	if (is_tensor && skipped->tensors == 0)
		skipped->first_tensor = skipped->text.len;
	wf_buffer_printable(&skipped->text, name, len);
	wf_buffer_putc(&skipped->text, '\t');
	wf_buffer_printable(&skipped->text, reason, strlen(reason));
	wf_buffer_putc(&skipped->text, '\n');
	skipped->tensors += is_tensor;
	return skipped->text.len > NAMES_MAX ? -EFBIG : wf_buffer_status(&skipped->text);
}

/* Where the whole name is a text of the graph, it is not copied. */
static void put_name(struct wf_flat *f, const struct wf_named *n, struct wf_flat_tensor *t)
{
	size_t len;
	const char *key = wf_is(f->graph, n->key, WF_STR) ? wf_bytes(f->graph, n->key, &len) : NULL;
	t->name_len = (uint32_t)n->name_len;
	if (key && len == n->name_len && !memcmp(key, n->name, len)) {
		t->name = NAME_IS_KEY | n->key;
		return;
	}
	t->name = (uint32_t)f->names.len;
	wf_buffer_append(&f->names, n->name, n->name_len);
}

static void put_shape(struct wf_flat *f, const struct wf_tensor *from, struct wf_flat_tensor *t)
{
	const struct wf_flat_tensor *last = f->count ? &f->tensors[f->count - 1] : NULL;
	size_t bytes = from->ndim * sizeof *f->sizes;
	t->ndim = (uint16_t)from->ndim;
	if (last && last->ndim == from->ndim && (bytes == 0 || !memcmp(f->sizes + last->shape, from->shape, bytes))) {
		t->shape = last->shape;
		return;
	}
	t->shape = f->size_count;
	if (bytes)
		memcpy(f->sizes + f->size_count, from->shape, bytes);
	f->size_count += from->ndim;
}

static int make_room(struct wf_flat *f, uint32_t ndim)
{
	int r = wf_array_reserve(&f->tensors, &f->capacity, (uint64_t)f->count + 1, sizeof *f->tensors, UINT32_MAX);
	return r < 0 ? r
		     : wf_array_reserve(&f->sizes, &f->size_capacity, (uint64_t)f->size_count + ndim, sizeof *f->sizes,
					UINT32_MAX);
}

static int add(void *ctx, const struct wf_named *n)
{
	struct reading *reading = ctx;
	struct wf_flat *f = reading->flat;
	if (wf_edits_is_aside(reading->ck, n->ino))
		return 0;
	const char *why = n->tensor ? reading->refuses(n) : n->problem;
	if (why) {
		reading->skipped->lost += !n->beside;
		return skip(reading->skipped, n->name, n->name_len, why, n->is_tensor);
	}
	int r = n->name_len > UINT32_MAX ? -E2BIG : make_room(f, n->tensor->ndim);
	if (r < 0)
		return r;
	struct wf_flat_tensor *t = &f->tensors[f->count];
	*t = (struct wf_flat_tensor){.dtype = (uint8_t)n->tensor->dtype, .ino = n->ino, .tie = f->count};
	put_name(f, n, t);
	put_shape(f, n->tensor, t);
	f->count++;
	f->name_bytes += n->name_len;
	return f->name_bytes > NAMES_MAX ? -EFBIG : wf_buffer_status(&f->names);
}

/* As the tensor was decoded: it fits. */
uint64_t wf_flat_bytes(const struct wf_flat *f, const struct wf_flat_tensor *t)
{
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);
	uint64_t numel = 1;
	for (uint32_t i = 0; i < t->ndim; i++)
		numel *= (uint64_t)f->sizes[t->shape + i];
	return (numel / info->values_per_byte + (numel % info->values_per_byte != 0)) * info->size_bytes;
}

/* ---- what has the same name, or the same data ---- */

static int compare_names(const void *flat, uint32_t a, uint32_t b)
{
	const struct wf_flat *f = flat;
	const struct wf_flat_tensor *x = &f->tensors[a], *y = &f->tensors[b];
	int c = memcmp(wf_flat_name(f, x), wf_flat_name(f, y), WF_MIN(x->name_len, y->name_len));
	return c ? c : x->name_len < y->name_len ? -1 : x->name_len > y->name_len;
}

static int sort(struct wf_flat *f)
{
	f->by_name = reallocarray(NULL, (size_t)f->count + 1, sizeof *f->by_name);
	if (!f->by_name)
		return -ENOMEM;
	for (uint32_t i = 0; i < f->count; i++)
		f->by_name[i] = i;
	return wf_sort_stable(f->by_name, f->count, compare_names, f);
}

static bool same_name(const struct wf_flat *f, const struct wf_flat_tensor *a, const struct wf_flat_tensor *b)
{
	return a->name_len == b->name_len && !memcmp(wf_flat_name(f, a), wf_flat_name(f, b), a->name_len);
}

static int leave_out(struct wf_flat *f, struct wf_flat_tensor *t, const char *reason, struct wf_skipped *skipped)
{
	t->is_double = true;
	skipped->lost++;
	return skip(skipped, wf_flat_name(f, t), t->name_len, reason, true);
}

static bool is_named(const struct wf_flat *f, const struct wf_flat_tensor *t, const char *name)
{
	return name && t->name_len == strlen(name) && !memcmp(wf_flat_name(f, t), name, t->name_len);
}

static int find_ties(const struct wf_checkpoint *ck, const char *taken, struct wf_flat *f, struct wf_skipped *skipped)
{
	cleanup_free uint32_t *first =
		calloc((size_t)wf_tree_node_count(ck->tree) + 1, sizeof *first); /* index + 1, by node */
	struct wf_flat_tensor *last = NULL;
	int r = first ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < f->count && r == 0; i++) {
		struct wf_flat_tensor *t = &f->tensors[f->by_name[i]];
		if (last && same_name(f, last, t)) {
			r = leave_out(f, t, "another tensor has the same name", skipped);
			continue;
		}
		last = t;
		bool is_tie = first[t->ino] && wf_flat_bytes(f, t) > 0;
		if (is_tie && is_named(f, t, taken))
			r = leave_out(f, t, "it is tied to another, and the metadata that would tell so have that name",
				      skipped);
		else if (is_tie)
			t->tie = first[t->ino] - 1;
		else
			first[t->ino] = f->by_name[i] + 1;
	}
	return r;
}

int wf_flat_read(struct wf_checkpoint *ck, wf_ino dir, const char *(*refuses)(const struct wf_named *n),
		 const char *taken, struct wf_flat *ret, struct wf_skipped *skipped)
{
	struct reading reading = {.ck = ck, .flat = ret, .refuses = refuses, .skipped = skipped};
	const struct wf_dir *metadata = wf_tree_dir(ck->tree, wf_tree_metadata(ck->tree));
	*ret = (struct wf_flat){.graph = ck->graph,
				.metadata = metadata ? metadata->object : WF_NIL,
				.metadata_is_empty = wf_container_metadata_is_empty(ck->container)};
	wf_buffer_puts(&ret->names, ""); /* so that there are some */
	int r = wf_each_named(ck, dir, add, &reading);
	if (r == 0)
		r = sort(ret);
	return r < 0 ? r : find_ties(ck, taken, ret, skipped);
}

void wf_flat_free(struct wf_flat *f)
{
	free(f->tensors);
	free(f->sizes);
	free(f->by_name);
	wf_buffer_free(&f->names);
}
