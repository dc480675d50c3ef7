/* SPDX-License-Identifier: MIT */
/* Makes the nest of a checkpoint in two passes: first all places, by which each container is known to be a mapping or a list, then the
 * objects of the graph, parents before their children. */
#include "codec/directory/dcp_tree.h"

#include <errno.h>
#include <stdio.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_entries.h"

#define ROOT 0u
#define NONE UINT32_MAX
/* A list has a place for each position up to the last one; torch fills those that no entry has with None. */
#define MAX_HOLES 65536u

struct nest_place {
	struct wf_dcp_step step;
	uint32_t parent, entry; /* NONE: it is a container */
	uint32_t children;
	uint64_t last;         /* the largest position in it */
	bool texts, positions; /* what its children are */
	bool other_texts;      /* ... one of them not digits */
	wf_ref ref;
};

struct nest {
	const struct wf_dcp_metadata *m;
	struct wf_graph *g;
	struct nest_place *places;
	uint32_t count, room;
	struct wf_map index; /* of places, by parent and step */
	struct wf_error *err;
};

static const char *text_of(const struct nest *n, const struct wf_dcp_step *s)
{
	return s->position ? "" : wf_dcp_text(n->m, s->text);
}

static bool same_step(const struct nest *n, const struct wf_dcp_step *a, const struct wf_dcp_step *b)
{
	if (a->position || b->position)
		return a->position && b->position && a->text == b->text;
	return a->len == b->len && memcmp(text_of(n, a), text_of(n, b), a->len) == 0;
}

static uint32_t step_hash(const struct nest *n, uint32_t parent, const struct wf_dcp_step *s)
{
	uint64_t h = wf_map_mix(&n->index, n->index.seed, parent);
	h = wf_map_mix(&n->index, h, s->position ? s->text : wf_map_hash(&n->index, text_of(n, s), s->len));
	return wf_map_hash_u64(&n->index, h + s->position);
}

static uint32_t find(const struct nest *n, uint32_t parent, const struct wf_dcp_step *s)
{
	struct wf_map_probe p = wf_map_probe(&n->index, n->index.size ? step_hash(n, parent, s) : 0);
	uint32_t i;
	while (wf_map_next(&p, &i))
		if (n->places[i].parent == parent && same_step(n, &n->places[i].step, s))
			return i;
	return NONE;
}

static int add(struct nest *n, uint32_t parent, const struct wf_dcp_step *s, uint32_t *ret)
{
	int r = wf_array_reserve(&n->places, &n->room, (uint64_t)n->count + 1, sizeof *n->places, UINT32_MAX - 1);
	if (r < 0 || wf_map_reserve(&n->index, 1) < 0)
		return -ENOMEM;
	struct nest_place *up = &n->places[parent];
	up->children++;
	up->positions |= s->position;
	up->texts |= !s->position;
	if (s->position)
		up->last = WF_MAX(up->last, s->text);
	else
		up->other_texts |= !wf_dcp_is_number(text_of(n, s), s->len);
	n->places[n->count] = (struct nest_place){.step = *s, .parent = parent, .entry = NONE};
	wf_map_add(&n->index, step_hash(n, parent, s), n->count);
	*ret = n->count++;
	return 0;
}

/* Whether the way is free: no part of it is an entry, and nothing stands at its end. */
static bool is_free(const struct nest *n, const struct wf_dcp_step *steps, uint32_t count)
{
	uint32_t at = ROOT;
	for (uint32_t i = 0; i < count; i++) {
		at = find(n, at, &steps[i]);
		if (at == NONE)
			return true;
		if (n->places[at].entry != NONE)
			return false;
	}
	return false;
}

static int put(struct nest *n, uint32_t entry, const struct wf_dcp_step *steps, uint32_t count)
{
	uint32_t at = ROOT;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t next = find(n, at, &steps[i]);
		int r = next == NONE ? add(n, at, &steps[i], &next) : 0;
		if (r < 0)
			return r;
		at = next;
	}
	n->places[at].entry = entry;
	return 0;
}

/* Positions that a hostile way has far behind the entries there are would make a list of nothing. */
static bool has_far_position(const struct nest *n, const struct wf_dcp_step *steps, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (steps[i].position && steps[i].text >= (uint64_t)n->m->entry_count + MAX_HOLES)
			return true;
	return false;
}

static int place_entry(struct nest *n, uint32_t entry)
{
	const struct wf_dcp_entry *e = &n->m->entries[entry];
	const struct wf_dcp_step *steps = n->m->steps + e->steps, whole = {.text = e->name, .len = e->name_len};
	if (e->step_count > 0 && !has_far_position(n, steps, e->step_count) && is_free(n, steps, e->step_count))
		return put(n, entry, steps, e->step_count);
	if (is_free(n, &whole, 1))
		return put(n, entry, &whole, 1);
	return wf_fail_at(n->err, -EUCLEAN, wf_dcp_text(n->m, e->name), WF_ERROR_NO_OFFSET,
			  "its place in the tree is that of a mapping of the same name");
}

/* ---- objects ---- */

static bool is_list(const struct nest_place *p)
{
	return p->positions && !p->texts;
}

static bool has_numbers_for_keys(const struct nest *n, const struct nest_place *p)
{
	static const struct wf_dcp_step none;
	const struct wf_dcp_step *s = p->parent == NONE ? &none : &p->step;
	return p->texts && !p->positions && !p->other_texts && !s->position && s->len == strlen("state") &&
	       memcmp(text_of(n, s), "state", s->len) == 0;
}

static wf_ref make_container(struct nest *n, const struct nest_place *p, uint64_t *holes)
{
	if (!is_list(p))
		return wf_dict(n->g);
	wf_ref list = wf_list(n->g), none = wf_none(n->g);
	*holes += p->last + 1 - p->children;
	if (*holes > (uint64_t)n->m->entry_count + MAX_HOLES) {
		wf_fail(n->err, -E2BIG, "its lists have more than %u positions that nothing stands at", MAX_HOLES);
		return WF_NIL;
	}
	for (uint64_t i = 0; i <= p->last && list != WF_NIL; i++)
		if (wf_list_append(n->g, list, none) < 0)
			return WF_NIL;
	return list;
}

static wf_ref make_key(struct nest *n, const struct nest_place *up, const struct wf_dcp_step *s)
{
	int64_t number = 0;
	if (s->position)
		return wf_int(n->g, (int64_t)s->text);
	if (!has_numbers_for_keys(n, up))
		return wf_string(n->g, WF_STR, text_of(n, s), s->len);
	for (uint32_t i = 0; i < s->len; i++)
		number = number * 10 + (text_of(n, s)[i] - '0');
	return wf_int(n->g, number);
}

static int attach(struct nest *n, const struct nest_place *p)
{
	const struct nest_place *up = &n->places[p->parent];
	if (is_list(up))
		return wf_list_set(n->g, up->ref, (uint32_t)p->step.text, p->ref);
	wf_ref key = make_key(n, up, &p->step);
	return key == WF_NIL ? -ENOMEM : wf_dict_append(n->g, up->ref, key, p->ref);
}

static int full(struct nest *n)
{
	int r = wf_graph_failed(n->g);
	return wf_fail(n->err, r < 0 ? r : -ENOMEM, "the tree does not fit the limit of %llu bytes",
		       WF_GRAPH_MAX_BYTES);
}

static int make_objects(struct nest *n, wf_dcp_leaf *leaf, void *ctx)
{
	uint64_t holes = 0;
	for (uint32_t i = 0; i < n->count; i++) {
		struct nest_place *p = &n->places[i];
		n->err->code = 0;
		p->ref = p->entry == NONE ? make_container(n, p, &holes) : leaf(ctx, p->entry);
		if (p->ref == WF_NIL)
			return n->err->code < 0 ? n->err->code : full(n);
		if (i != ROOT && attach(n, p) < 0)
			return full(n);
	}
	return 0;
}

int wf_dcp_tree_make(const struct wf_dcp_metadata *m, struct wf_graph *g, wf_dcp_leaf *leaf, void *ctx,
		     wf_ref *ret_root, struct wf_error *err)
{
	struct wf_error own;
	struct nest n = {.m = m, .g = g, .err = err ? err : &own};
	int r = wf_array_reserve(&n.places, &n.room, (uint64_t)m->entry_count + 1, sizeof *n.places, UINT32_MAX - 1);
	if (r == 0)
		r = wf_map_reserve(&n.index, m->entry_count) < 0 ? -ENOMEM : 0;
	if (r == 0)
		n.places[n.count++] = (struct nest_place){.parent = NONE, .entry = NONE};
	for (uint32_t i = 0; i < m->entry_count && r == 0; i++)
		r = place_entry(&n, i);
	if (r == 0)
		r = make_objects(&n, leaf, ctx);
	else if (r == -ENOMEM)
		r = wf_fail(n.err, r, "out of memory");
	if (r == 0)
		*ret_root = n.places[ROOT].ref;
	free(n.places);
	wf_map_free(&n.index);
	return r;
}
