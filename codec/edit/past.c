/* SPDX-License-Identifier: MIT */
/* Until the next commit a name remembers what stood there: tools replace a file by removing it, or by moving it away, and
 * making another one. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/container/records.h"
#include "codec/edit/inner.h"
#include "codec/bytes/util.h"

struct wf_pasts {
	struct wf_key_map by_name; /* directory and name -> index + 1; 0: forgotten */
	struct wf_past *all;
	uint32_t count, capacity;
};

struct past_key {
	char bytes[sizeof(wf_ino) + WF_NAME_MAX];
	size_t len;
};

static struct past_key key_of(wf_ino dir, const char *name)
{
	struct past_key k = {.len = sizeof dir + strnlen(name, WF_NAME_MAX)};
	memcpy(k.bytes, &dir, sizeof dir);
	memcpy(k.bytes + sizeof dir, name, k.len - sizeof dir);
	return k;
}

struct wf_past *wf_past_of(const struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_pasts *pasts = ck->edits->pasts;
	if (!pasts)
		return NULL;
	struct past_key k = key_of(dir, name);
	const uint64_t *i = wf_key_map_get(&pasts->by_name, k.bytes, k.len);
	return i && *i ? &pasts->all[*i - 1] : NULL;
}

static struct wf_past *make(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_edits *e = ck->edits;
	struct past_key k = key_of(dir, name);
	if (!e->pasts) {
		e->pasts = calloc(1, sizeof *e->pasts);
		if (!e->pasts)
			return NULL;
	}
	struct wf_pasts *pasts = e->pasts;
	if (wf_array_reserve(&pasts->all, &pasts->capacity, (uint64_t)pasts->count + 1, sizeof *pasts->all,
			     UINT32_MAX) < 0 ||
	    wf_key_map_put(&pasts->by_name, k.bytes, k.len, pasts->count + 1) < 0)
		return NULL;
	pasts->all[pasts->count] = (struct wf_past){0};
	return &pasts->all[pasts->count++];
}

int wf_past_keep(struct wf_checkpoint *ck, const struct wf_place *p, const char *name, bool scratch)
{
	const struct wf_node *n = wf_edit_node(ck, p);
	const struct wf_file *f = wf_edit_known(ck, wf_edit_entry(ck, p)->ino);
	struct wf_tensor t;
	if (wf_edit_is_scratch(ck, p->dir) || (n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE))
		return 0;
	struct wf_past *past = wf_past_of(ck, p->dir, name);
	bool typed = f && f->judged && f->declared;
	if (f && f->is_new && !typed)
		return 0; /* it has no type of its own: what the name remembers already goes on */
	if (!past)
		past = make(ck, p->dir, name);
	if (!past)
		return -ENOMEM;
	free(past->type);
	*past = (struct wf_past){.key = wf_edit_entry(ck, p)->key,
				 .object = n->object,
				 .position = p->position,
				 .storage = WF_NO_STORAGE,
				 .scratch = scratch,
				 .ino = wf_edit_entry(ck, p)->ino};
	if (n->type != WF_NODE_TENSOR || (wf_edit_tensor(ck, wf_edit_entry(ck, p)->ino, &t) < 0 && t.rebuild == WF_NIL))
		return 0;
	past->storage = t.storage;
	/* no longer than it need be: a script may remove a million of them */
	size_t size = offsetof(struct wf_tensor_type, shape) + t.ndim * sizeof *t.shape;
	past->type = malloc(size);
	if (!past->type)
		return -ENOMEM;
	past->type->dtype = t.dtype;
	past->type->ndim = t.ndim;
	memcpy(past->type->shape, t.shape, t.ndim * sizeof *t.shape);
	return 0;
}

void wf_past_forget(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct past_key k = key_of(dir, name);
	uint64_t *i = ck->edits->pasts ? wf_key_map_get(&ck->edits->pasts->by_name, k.bytes, k.len) : NULL;
	if (i)
		*i = 0;
}

void wf_pasts_clear(struct wf_edits *e)
{
	if (!e->pasts)
		return;
	for (uint32_t i = 0; i < e->pasts->count; i++)
		free(e->pasts->all[i].type);
	wf_key_map_free(&e->pasts->by_name);
	free(e->pasts->all);
	free(e->pasts);
	e->pasts = NULL;
}

void wf_pasts_moved(struct wf_checkpoint *ck, wf_ino dir)
{
	struct wf_pasts *pasts = ck->edits->pasts;
	for (uint32_t i = 0; pasts && i < pasts->by_name.count; i++) {
		const struct wf_key *k = &pasts->by_name.keys[i];
		if (k->value && !memcmp(k->bytes, &dir, sizeof dir))
			pasts->all[k->value - 1].position = UINT32_MAX;
	}
}

bool wf_past_holds(const struct wf_checkpoint *ck, wf_ref object, uint32_t storage)
{
	const struct wf_pasts *pasts = ck->edits->pasts;
	for (uint32_t i = 0; pasts && i < pasts->count; i++)
		if (pasts->all[i].scratch && (pasts->all[i].object == object || pasts->all[i].storage == storage))
			return true;
	return false;
}
