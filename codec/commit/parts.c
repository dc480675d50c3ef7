/* SPDX-License-Identifier: MIT */
/* The records of the new file, in their order: what stays, what is written anew, and what is new. */
#include "codec/commit/inner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"

static int add_part(struct wf_plan *p, struct wf_part part)
{
	int r = wf_array_reserve(&p->parts, &p->capacity, (uint64_t)p->count + 1, sizeof *p->parts, UINT32_MAX);
	if (r < 0)
		return r;
	p->parts[p->count++] = part;
	return 0;
}

static int add_keep(struct wf_plan *p, uint32_t record)
{
	return add_part(p, (struct wf_part){.kind = WF_PART_KEEP,
					    .record = record,
					    .storage = WF_NO_STORAGE,
					    .name = wf_container_record(p->in.container, record)->name});
}

static int add_text(struct wf_plan *p, const char *name, const char *text)
{
	return add_part(p, (struct wf_part){.kind = WF_PART_TEXT,
					    .record = WF_NO_RECORD,
					    .storage = WF_NO_STORAGE,
					    .name = name,
					    .text = text});
}

static int add_pickle(struct wf_plan *p)
{
	return add_part(p, (struct wf_part){.kind = WF_PART_PICKLE,
					    .record = WF_NO_RECORD,
					    .storage = WF_NO_STORAGE,
					    .name = "data.pkl"});
}

static int add_storage(struct wf_plan *p, const struct wf_naming *n, uint32_t i)
{
	if (!n->name[i])
		return 0;
	bool changed = wf_plan_storage_changed(p, n, i);
	return add_part(p, (struct wf_part){.kind = changed ? WF_PART_STORAGE : WF_PART_KEEP,
					    .record = changed ? WF_NO_RECORD : wf_plan_own_record(p, n, i),
					    .storage = i,
					    .name = n->name[i]});
}

/* Storages that have no record of their own, in pickle order. */
static int add_new_storages(struct wf_plan *p, const struct wf_naming *n)
{
	int r = 0;
	for (uint32_t k = 0; k < p->order_count && r == 0; k++)
		if (wf_plan_own_record(p, n, p->order[k]) == WF_NO_RECORD)
			r = add_storage(p, n, p->order[k]);
	return r;
}

static int add_all_storages(struct wf_plan *p, const struct wf_naming *n)
{
	int r = 0;
	for (uint32_t k = 0; k < p->order_count && r == 0; k++)
		r = add_storage(p, n, p->order[k]);
	return r;
}

static bool is_alignment_record(const char *name)
{
	return strcmp(name, ".storage_alignment") == 0;
}

static bool is_layout_record(const char *name)
{
	return strcmp(name, ".format_version") == 0 || is_alignment_record(name);
}

static int add_alignment(struct wf_plan *p, const char *name)
{
	char *text = NULL;
	if (asprintf(&text, "%u", p->alignment) < 0)
		text = NULL;
	text = wf_plan_own_name(p, text);
	return text ? add_text(p, name, text) : -ENOMEM;
}

static bool is_version_record(const char *name)
{
	return strcmp(name, "version") == 0 || strcmp(name, ".data/version") == 0;
}

/* In the order found; the storages where the first of them was (exact) or each in its place with new ones after the
 * last. */
static int zip_parts(struct wf_plan *p, const struct wf_naming *n)
{
	const struct wf_container *c = p->in.container;
	uint32_t count = wf_container_count(c), last = WF_NO_RECORD;
	bool storages_done = false;
	int r = 0;
	for (uint32_t i = 0; i < count; i++)
		if (n->owner[i])
			last = i;
	for (uint32_t i = 0; i < count && r == 0; i++) {
		const char *name = wf_container_record(c, i)->name;
		bool here = last == WF_NO_RECORD ? is_version_record(name) && i > 0 : p->exact && n->owner[i];
		if (here && !storages_done) {
			r = add_all_storages(p, n);
			storages_done = true;
		}
		if (r < 0)
			return r;
		if (n->owner[i]) {
			if (!p->exact && p->live[n->owner[i] - 1])
				r = add_storage(p, n, n->owner[i] - 1);
		} else if (strcmp(name, "data.pkl") == 0 && !wf_plan_copies_pickle(p)) {
			r = add_pickle(p);
		} else if (p->keep_layout && p->in.alignment && is_alignment_record(name)) {
			r = add_alignment(p, name);
		} else if (!is_layout_record(name) || p->keep_layout) {
			r = add_keep(p, i);
		}
		if (r == 0 && i == last && !p->exact) {
			r = add_new_storages(p, n);
			storages_done = true;
		}
	}
	return r == 0 && !storages_done ? add_all_storages(p, n) : r;
}

/* What torch 2.1 writes, for the tar of 2016 and a plain pickle. */
static int new_parts(struct wf_plan *p, const struct wf_naming *n)
{
	int r = add_pickle(p);
	if (r == 0)
		r = add_text(p, "byteorder", "little");
	if (r == 0)
		r = add_all_storages(p, n);
	return r == 0 ? add_text(p, "version", "3\n") : r;
}

/* The storages of a legacy stream, in the order of its list of keys. */
static int legacy_parts(struct wf_plan *p, const struct wf_naming *n)
{
	uint32_t count = 0;
	const uint32_t *stream = wf_container_storage_order(p->in.container, &count);
	int r = 0;
	for (uint32_t k = 0; k < count && r == 0; k++) {
		uint32_t owner = n->owner[stream[k]];
		if (owner && p->live[owner - 1])
			r = add_storage(p, n, owner - 1);
	}
	return r == 0 ? add_new_storages(p, n) : r;
}

/* Whether the names of the new file are those of the old one: the left half of .data/serialization_id is made of them.
 */
static bool same_names(const struct wf_plan *p, const struct wf_naming *n)
{
	if (p->count != wf_container_count(p->in.container))
		return false;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct wf_part *part = &p->parts[i];
		if (part->storage != WF_NO_STORAGE && wf_plan_own_record(p, n, part->storage) == WF_NO_RECORD)
			return false;
		if (part->storage != WF_NO_STORAGE &&
		    part->name != wf_container_record(p->in.container, wf_plan_own_record(p, n, part->storage))->name)
			return false;
	}
	return true;
}

/* The id of the content is never checked by anybody, but an old one on new content would be a lie: the half that stands
 * for names stays where they stay, the other one is computed while the records are written. */
static int plan_serialization_id(struct wf_plan *p, const struct wf_naming *n, struct wf_error *err)
{
	for (uint32_t i = 0; i < p->count; i++) {
		struct wf_part *part = &p->parts[i];
		if (part->kind != WF_PART_KEEP || strcmp(part->name, ".data/serialization_id") != 0)
			continue;
		char text[41] = "";
		struct wf_source *s = NULL;
		const struct wf_record *record = wf_container_record(p->in.container, part->record);
		int r = record->size_bytes == 40 ? wf_container_open_record(p->in.container, part->record, &s, NULL)
						 : -EUCLEAN;
		if (r == 0)
			r = wf_source_read(s, 0, text, 40);
		wf_source_unref(s);
		if (r == 0 && strspn(text, "0123456789") == 40 && !record->twice && same_names(p, n)) {
			char *left = wf_plan_own_name(p, strndup(text, 20));
			if (!left)
				return wf_fail(err, -ENOMEM, "out of memory");
			*part = (struct wf_part){.kind = WF_PART_TEXT,
						 .record = WF_NO_RECORD,
						 .storage = WF_NO_STORAGE,
						 .name = part->name,
						 .text = left};
			return 0;
		}
		/* there may be another one */
		memmove(part, part + 1, (p->count - i - 1) * sizeof *part);
		p->count--;
		i--;
	}
	return 0;
}

int wf_plan_parts(struct wf_plan *p, const struct wf_naming *n, struct wf_error *err)
{
	int r = p->plain ? 0 : p->legacy ? legacy_parts(p, n) : p->anew ? new_parts(p, n) : zip_parts(p, n);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	return p->legacy || p->plain ? 0 : plan_serialization_id(p, n, err);
}
