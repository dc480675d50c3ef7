/* SPDX-License-Identifier: MIT */
/* Places that torch computes instead of reading them (2.7 and later, where .format_version says 1 or more): from the
 * first storage on, which must have the key "0", each record right behind the one before it, in the order in which the
 * pickle names them. Source: torch/serialization.py _get_offset. */
#include "codec/commit/inner.h"

#include <errno.h>
#include <stdio.h>

#include "codec/bytes/util.h"

#define MAX_ALIGNMENT 32768u /* the padding field has 16 bits for its length */

/* Reads a short record as text; false when there is none. */
static bool record_text(const struct wf_container *c, const char *name, char *buf, size_t size)
{
	uint32_t i = wf_container_find(c, name);
	struct wf_source *s = NULL;
	if (i == WF_NO_RECORD || wf_container_open_record(c, i, &s, NULL) < 0)
		return false;
	size_t n = (size_t)WF_MIN(wf_source_size(s), (uint64_t)size - 1);
	bool ok = wf_source_read(s, 0, buf, n) == 0;
	buf[n] = '\0';
	wf_source_unref(s);
	return ok;
}

/* The alignment of a file that does not say it: wider than torch's where all records are so placed, as wfctl repack --align does. */
static uint32_t seen_alignment(const struct wf_container *c)
{
	uint32_t alignment = MAX_ALIGNMENT;
	for (uint32_t i = 0; i < wf_container_count(c) && alignment > WF_ZIP_ALIGNMENT; i++) {
		uint64_t at;
		if (wf_container_locate(c, i, &at, NULL) < 0)
			return WF_ZIP_ALIGNMENT;
		while (alignment > WF_ZIP_ALIGNMENT && at % alignment)
			alignment /= 2;
	}
	return alignment;
}

/* Whether torch computes the places of this file's storages; and their alignment. */
void wf_plan_read_layout(struct wf_plan *p)
{
	char text[24];
	p->alignment = WF_ZIP_ALIGNMENT;
	p->exact = !p->keep_pickle && record_text(p->in.container, ".format_version", text, sizeof text);
	if (!record_text(p->in.container, ".storage_alignment", text, sizeof text)) {
		p->alignment = seen_alignment(p->in.container);
		return;
	}
	unsigned long v = strtoul(text, NULL, 10);
	if (v > 0 && v <= MAX_ALIGNMENT && (v & (v - 1)) == 0)
		p->alignment = (uint32_t)v;
	else
		p->exact = false;
}

/* A record among the storages that is none, or one that is deflated, would not lie where torch computes. */
bool wf_plan_can_be_exact(const struct wf_plan *p, const struct wf_naming *n)
{
	const struct wf_container *c = p->in.container;
	for (uint32_t i = 0; i < wf_container_count(c); i++) {
		const struct wf_record *record = wf_container_record(c, i);
		bool live = n->owner[i] && p->live[n->owner[i] - 1];
		if (!n->owner[i] != (strncmp(record->name, "data/", 5) != 0))
			return false;
		if (live && (record->method != 0 || wf_storage_get(p->in.storages, n->owner[i] - 1)->bad))
			return false;
	}
	for (uint32_t k = 0; k < p->order_count; k++)
		if (wf_storage_get(p->in.storages, p->order[k])->bad)
			return false;
	return true;
}

/* Whether torch would find every storage that it computes the place of, in a file that only grows. */
bool wf_plan_layout_holds(const struct wf_plan *p, const struct wf_naming *n)
{
	const struct wf_container *c = p->in.container;
	struct wf_zip_layout l = {0};
	for (uint32_t k = 0; k < p->order_count; k++) {
		uint32_t record = wf_plan_own_record(p, n, p->order[k]);
		uint64_t data = 0;
		char name[1024];
		struct wf_zip_entry e;
		if (wf_plan_storage_changed(p, n, p->order[k]) || record == WF_NO_RECORD)
			return false;
		const struct wf_record *r = wf_container_record(c, record);
		int len = snprintf(name, sizeof name, "%s/%s", p->prefix, r->name);
		if (r->method != 0 || len >= (int)sizeof name || wf_container_locate(c, record, &data, NULL) < 0)
			return false;
		wf_zip_entry_init(&e, name, (size_t)len, r->stored_bytes);
		if (k == 0 && strcmp(r->name, "data/0") != 0)
			return false;
		if (k > 0 && l.end != r->header_offset)
			return false;
		wf_zip_layout(&e, r->header_offset, p->alignment, 0, 0, &l);
		if (k > 0 && l.data != data)
			return false;
		/* the first one's place is read, not computed */
		l.end += data - l.data;
	}
	return true;
}
