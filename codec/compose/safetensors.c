/* SPDX-License-Identifier: MIT */
/* The tensors of a directory as one safetensors file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/container/sharding_info.h"
#include "codec/compose/inner.h"
#include "codec/container/safetensors_head.h"

/* The tensors of one file in the order of their names; a tied one is told in the metadata, which keeps that order. */
static void fill(const struct wf_flat *f, const uint32_t *file_of, uint32_t file, struct wf_safetensors_plan *h)
{
	for (uint32_t i = 0; i < f->count; i++) {
		uint32_t id = f->by_name[i];
		const struct wf_flat_tensor *t = &f->tensors[id], *first = &f->tensors[t->tie];
		if (t->is_double || (file_of && file_of[id] != file))
			continue;
		if (t != first)
			h->notes[h->note_count++] = (struct wf_safetensors_note){
				wf_flat_name(f, t), wf_flat_name(f, first), t->name_len, first->name_len};
		else
			h->ids[h->count++] = id;
	}
}

/* {"format": "pt"} stands among the ties in the order of keys. */
static void add_format(struct wf_safetensors_plan *h)
{
	static const struct wf_safetensors_note format = {"format", "pt", 6, 2};
	size_t at = 0;
	while (at < h->note_count) {
		const struct wf_safetensors_note *n = &h->notes[at];
		int c = memcmp(n->key, format.key, WF_MIN(n->key_len, format.key_len));
		if (c > 0 || (c == 0 && n->key_len > format.key_len))
			break;
		at++;
	}
	memmove(h->notes + at + 1, h->notes + at, (h->note_count - at) * sizeof *h->notes);
	h->notes[at] = format;
	h->note_count++;
}

/* Those that the file itself has, in its order. */
static int add_own(const struct wf_flat *f, struct wf_safetensors_plan *h)
{
	uint32_t n;
	const struct wf_item *items = wf_items(f->graph, f->metadata, &n);
	struct wf_safetensors_note *notes = reallocarray(h->notes, (size_t)n + 1, sizeof *notes);
	if (!notes)
		return -ENOMEM;
	h->notes = notes;
	h->note_count = 0;
	for (uint32_t i = 0; i < n; i++) {
		size_t key_len, value_len;
		const char *key = items[i].key == WF_NIL ? NULL : wf_bytes(f->graph, items[i].key, &key_len);
		const char *value = key ? wf_bytes(f->graph, items[i].value, &value_len) : NULL;
		if (value && wf_is(f->graph, items[i].value, WF_STR))
			h->notes[h->note_count++] =
				(struct wf_safetensors_note){key, value, (uint32_t)key_len, (uint32_t)value_len};
	}
	return 0;
}

void wf_safetensors_plan_free(struct wf_safetensors_plan *p)
{
	free(p->ids);
	free(p->notes);
	wf_buffer_free(&p->info);
}

static void get_item(const void *ctx, size_t i, struct wf_safetensors_item *ret)
{
	const struct wf_safetensors_plan *p = ctx;
	const struct wf_flat_tensor *t = &p->flat->tensors[p->ids[i]];
	*ret = (struct wf_safetensors_item){.name = wf_flat_name(p->flat, t),
					    .name_len = t->name_len,
					    .dtype = t->dtype,
					    .ndim = t->ndim,
					    .shape = p->flat->sizes + t->shape,
					    .size_bytes = wf_flat_bytes(p->flat, t),
					    .id = p->ids[i]};
}

struct wf_safetensors_items wf_safetensors_plan_items(const struct wf_safetensors_plan *p)
{
	return (struct wf_safetensors_items){p->count, get_item, p};
}

/* From the order of names to that of the file. */
static int place(struct wf_safetensors_plan *p)
{
	struct wf_safetensors_items items = wf_safetensors_plan_items(p);
	uint32_t *order = reallocarray(NULL, p->count + 1, sizeof *order);
	int r = order ? wf_safetensors_order(&items, order, &p->data_bytes) : -ENOMEM;
	for (size_t i = 0; i < p->count && r == 0; i++)
		order[i] = p->ids[order[i]];
	if (r < 0) {
		free(order);
		return r;
	}
	free(p->ids);
	p->ids = order;
	return 0;
}

static int renew_notes(struct wf_safetensors_plan *p)
{
	struct wf_safetensors_items items = wf_safetensors_plan_items(p);
	for (size_t i = 0; i < p->note_count; i++) {
		struct wf_safetensors_note *note = &p->notes[i];
		size_t ignored;
		if (note->key_len != strlen(WF_SHARDING_INFO) ||
		    memcmp(note->key, WF_SHARDING_INFO, note->key_len) != 0)
			continue;
		int r = wf_sharding_info_renew(note->value, note->value_len, &items, &p->info, &ignored);
		if (r != 0)
			return WF_MIN(r, 0);
		note->value = p->info.data;
		note->value_len = (uint32_t)p->info.len;
	}
	return 0;
}

int wf_safetensors_plan(const struct wf_flat *f, const uint32_t *file_of, uint32_t file,
			struct wf_safetensors_plan *ret)
{
	*ret = (struct wf_safetensors_plan){.flat = f,
					    .ids = calloc((size_t)f->count + 1, sizeof *ret->ids),
					    .notes = calloc((size_t)f->count + 1, sizeof *ret->notes)};
	if (!ret->ids || !ret->notes)
		return -ENOMEM;
	fill(f, file_of, file, ret);
	int r = 0;
	if (f->metadata == WF_NIL)
		add_format(ret);
	else
		r = add_own(f, ret); /* and it has no ties */
	if (r == 0 && ret->note_count == 0 && !f->metadata_is_empty) {
		free(ret->notes);
		ret->notes = NULL; /* no __metadata__ at all, rather than an empty one */
	}
	if (r == 0)
		r = place(ret);
	return r < 0 ? r : renew_notes(ret);
}

static int compose(const struct wf_flat *f, const struct wf_safetensors_plan *p, struct wf_composed *c)
{
	struct wf_safetensors_items items = wf_safetensors_plan_items(p);
	int r = wf_safetensors_head_of(&items, p->notes, p->note_count, wf_composed_text(c));
	if (r == 0)
		r = wf_composed_reserve(c, p->count + 1);
	for (size_t i = 0; i < p->count && r == 0; i++)
		r = wf_composed_tensor(c, f->tensors[p->ids[i]].ino, WF_PIECE_AS_SHOWN,
				       wf_flat_bytes(f, &f->tensors[p->ids[i]]));
	return r < 0 ? r : wf_composed_finish(c);
}

int wf_safetensors_of(const struct wf_flat *f, const uint32_t *file_of, uint32_t file, struct wf_composed **ret)
{
	struct wf_safetensors_plan p;
	struct wf_composed *c = NULL;
	int r = wf_safetensors_plan(f, file_of, file, &p);
	if (r == 0)
		r = wf_composed_new(&c);
	if (r == 0)
		r = compose(f, &p, c);
	wf_safetensors_plan_free(&p);
	if (r < 0)
		wf_composed_free(c);
	else
		*ret = c;
	return r;
}

const char *wf_safetensors_refuses_tensor(const struct wf_named *n)
{
	const struct wf_tensor *t = n->tensor;
	const char *why = wf_safetensors_refuses_name(n->name, n->name_len);
	if (why)
		return why;
	return t->record != WF_NIL ? "safetensors has no such dtype"
				   : wf_safetensors_refuses(t->dtype, t->shape, t->ndim);
}

int wf_compose_safetensors(struct wf_checkpoint *ck, uint32_t dir, struct wf_composed **ret, uint64_t *ret_edition)
{
	struct wf_flat flat;
	struct wf_skipped skipped = {0};
	struct wf_composed *c = NULL;
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_flat_read(ck, dir, wf_safetensors_refuses_tensor, WF_SAFETENSORS_TAKEN, &flat, &skipped);
	if (r == 0)
		r = wf_safetensors_of(&flat, NULL, 0, &c);
	if (ret_edition)
		*ret_edition = wf_edits_edition(ck);
	pthread_rwlock_unlock(&ck->lock);
	wf_flat_free(&flat);
	if (r < 0) {
		wf_buffer_free(&skipped.text);
		return r;
	}
	c->skipped = skipped.text;
	*ret = c;
	return 0;
}

uint64_t wf_edition(struct wf_checkpoint *ck)
{
	pthread_rwlock_rdlock(&ck->lock);
	uint64_t edition = wf_edits_edition(ck);
	pthread_rwlock_unlock(&ck->lock);
	return edition;
}
