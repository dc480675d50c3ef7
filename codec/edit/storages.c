/* SPDX-License-Identifier: MIT */
/* Storages that edits make, the data files of the overlay in which they stand, and the tensors that view them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"

/* ---- data files ---- */

int wf_edit_set_number(struct wf_checkpoint *ck, uint32_t storage, uint32_t number)
{
	struct wf_edits *e = ck->edits;
	uint32_t before = e->numbers_count;
	int r = wf_overlay_reserve(ck->overlay, number);
	if (r == 0)
		r = wf_edit_grow(&e->by_number, &e->by_number_count, number + 1, sizeof *e->by_number, 0xff);
	if (r == 0)
		r = wf_edit_grow(&e->numbers, &e->numbers_count, storage + 1, sizeof *e->numbers, 0xff);
	if (r < 0)
		return r;
	if (before != e->numbers_count) {
		bool *unnamed = reallocarray(e->unnamed, e->numbers_count, sizeof *unnamed);
		if (!unnamed) {
			e->numbers_count = before;
			return -ENOMEM;
		}
		memset(unnamed + before, 0, e->numbers_count - before);
		e->unnamed = unnamed;
	}
	e->numbers[storage] = number;
	e->unnamed[storage] = false;
	e->by_number[number] = storage;
	return 0;
}

uint32_t wf_edit_number(const struct wf_checkpoint *ck, uint32_t storage)
{
	return storage < ck->edits->numbers_count ? ck->edits->numbers[storage] : WF_NO_NUMBER;
}

uint32_t wf_edit_storage(const struct wf_checkpoint *ck, uint32_t number)
{
	return number < ck->edits->by_number_count ? ck->edits->by_number[number] : WF_NO_STORAGE;
}

/* ---- new ones ---- */

/* Keys of storages are numbers in every file that torch writes: new ones go on from the largest. */
static void find_next_key(struct wf_checkpoint *ck)
{
	for (uint32_t i = 0; i < wf_storages_count(ck->storages); i++) {
		char *end;
		const char *key = wf_storage_key(ck->storages, i);
		unsigned long long v = strtoull(key, &end, 10);
		if (*key && !*end && v < INT64_MAX && v >= ck->edits->next_key)
			ck->edits->next_key = v + 1;
	}
}

static void next_key(struct wf_checkpoint *ck, char key[24])
{
	if (ck->edits->next_key == 0)
		find_next_key(ck);
	snprintf(key, 24, "%llu", (unsigned long long)ck->edits->next_key++);
}

wf_ref wf_edit_fresh_key(struct wf_checkpoint *ck)
{
	char key[24];
	next_key(ck, key);
	return wf_str(ck->graph, key);
}

int wf_edit_new_storage(struct wf_checkpoint *ck, uint64_t size, const char *location, uint32_t number, uint32_t *ret)
{
	char key[24];
	wf_ref persid;
	uint32_t storage;
	next_key(ck, key);
	int r = wf_tensor_make_persid(ck->graph, WF_UINT8, key, location, size, &persid);
	if (r == 0)
		r = wf_storage_new(ck->storages, persid, size, &storage);
	if (r == 0)
		r = wf_edit_set_number(ck, storage, number);
	if (r < 0)
		return r;
	*ret = storage;
	return 0;
}

void wf_edit_drop_storage(struct wf_checkpoint *ck, uint32_t storage)
{
	uint32_t number = wf_edit_number(ck, storage);
	if (number == WF_NO_NUMBER)
		return;
	wf_overlay_drop_file(ck->overlay, number);
	ck->edits->quiet = true;
	wf_storage_resize(ck->storages, storage, 0);
	ck->edits->quiet = false;
}

/* ---- tensors ---- */

int wf_edit_tensor(const struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	return n ? wf_tensor_decode(ck->graph, ck->storages, n->object, ret, NULL) : -ENOENT;
}

bool wf_edit_sole_view(const struct wf_checkpoint *ck, const struct wf_tensor *t)
{
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	return t->kind == WF_TENSOR_DENSE && s && s->persids == 1;
}

/* ---- twins ---- */

struct wf_twins {
	uint32_t count, capacity;
	wf_ino *files; /* those that are none any more go when they are met */
};

int wf_edit_join_twins(struct wf_checkpoint *ck, wf_ino ino, wf_ino first)
{
	struct wf_edits *e = ck->edits;
	struct wf_file *f = wf_edit_file(ck, ino);
	int r = f ? wf_edit_grow(&e->twins, &e->twins_count, first, sizeof *e->twins, 0) : -ENOMEM;
	if (r == 0 && !e->twins[first - 1] && !(e->twins[first - 1] = calloc(1, sizeof **e->twins)))
		r = -ENOMEM;
	struct wf_twins *t = r == 0 ? e->twins[first - 1] : NULL;
	if (!t || f->twins == first)
		return r;
	r = wf_array_reserve(&t->files, &t->capacity, (uint64_t)t->count + 1, sizeof *t->files, UINT32_MAX);
	if (r < 0)
		return r;
	t->files[t->count++] = ino;
	f->twins = first;
	return 0;
}

wf_ino wf_edit_next_twin(const struct wf_checkpoint *ck, wf_ino ino, uint32_t *at)
{
	const struct wf_file *f = wf_edit_known(ck, ino), *other;
	struct wf_twins *t = f && f->twins != WF_NO_INO && f->twins <= ck->edits->twins_count
				     ? ck->edits->twins[f->twins - 1]
				     : NULL;
	while (t && *at < t->count) {
		wf_ino next = t->files[*at];
		other = wf_edit_known(ck, next);
		if (!other || other->twins != f->twins) {
			t->files[*at] = t->files[--t->count];
			continue;
		}
		(*at)++;
		if (next != ino)
			return next;
	}
	return WF_NO_INO;
}

void wf_edits_free_twins(struct wf_edits *e)
{
	for (uint32_t i = 0; i < e->twins_count; i++) {
		if (e->twins[i])
			free(e->twins[i]->files);
		free(e->twins[i]);
	}
	free(e->twins);
}

bool wf_edit_twin_shows(const struct wf_checkpoint *ck, wf_ino ino, uint32_t storage)
{
	struct wf_tensor t;
	uint32_t at = 0;
	for (wf_ino other; (other = wf_edit_next_twin(ck, ino, &at)) != WF_NO_INO;)
		if (wf_edit_tensor(ck, other, &t) == 0 && t.storage == storage)
			return true;
	return false;
}

/* ---- over a commit ---- */

bool wf_edits_is_kept(const struct wf_checkpoint *ck, uint32_t storage)
{
	return ck->edits && storage < ck->edits->kept_count && ck->edits->kept[storage];
}
