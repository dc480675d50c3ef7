/* SPDX-License-Identifier: MIT */
/* Whether two readings of the metadata of a distributed checkpoint say the same. */
#pragma once

#include <string.h>

#include "codec/directory/dcp_metadata.h"

static inline bool kit_same_text(const struct wf_dcp_metadata *a, uint64_t s, const struct wf_dcp_metadata *b,
				 uint64_t t)
{
	return strcmp(wf_dcp_text(a, s), wf_dcp_text(b, t)) == 0;
}

static inline bool kit_same_numbers(const struct wf_dcp_metadata *a, uint32_t i, const struct wf_dcp_metadata *b,
				    uint32_t k, uint32_t n)
{
	return n == 0 || memcmp(a->numbers + i, b->numbers + k, n * sizeof *a->numbers) == 0;
}

static inline bool kit_same_chunk(const struct wf_dcp_metadata *a, const struct wf_dcp_chunk *x,
				  const struct wf_dcp_metadata *b, const struct wf_dcp_chunk *y, uint32_t ndim)
{
	return x->length == y->length && x->entry == y->entry &&
	       (x->length == 0 || (x->offset == y->offset && x->file == y->file)) &&
	       kit_same_numbers(a, x->offsets, b, y->offsets, ndim) && kit_same_numbers(a, x->sizes, b, y->sizes, ndim);
}

static inline bool kit_same_step(const struct wf_dcp_metadata *a, const struct wf_dcp_step *x,
				 const struct wf_dcp_metadata *b, const struct wf_dcp_step *y)
{
	return x->position == y->position && x->len == y->len &&
	       (x->position ? x->text == y->text
			    : memcmp(wf_dcp_text(a, x->text), wf_dcp_text(b, y->text), x->len) == 0);
}

static inline const char *kit_entry_difference(const struct wf_dcp_metadata *a, const struct wf_dcp_entry *x,
					       const struct wf_dcp_metadata *b, const struct wf_dcp_entry *y)
{
	if (x->name_len != y->name_len || memcmp(wf_dcp_text(a, x->name), wf_dcp_text(b, y->name), x->name_len) != 0)
		return "the name of an entry";
	if (x->tensor != y->tensor || x->dtype != y->dtype || x->ndim != y->ndim ||
	    !kit_same_numbers(a, x->sizes, b, y->sizes, x->ndim))
		return "the type of an entry";
	if (!kit_same_text(a, x->problem, b, y->problem))
		return "the problem of an entry";
	if (x->step_count != y->step_count || x->chunk_count != y->chunk_count)
		return "how many steps or chunks an entry has";
	for (uint32_t i = 0; i < x->step_count; i++)
		if (!kit_same_step(a, &a->steps[x->steps + i], b, &b->steps[y->steps + i]))
			return "the way to an entry";
	for (uint32_t i = 0; i < x->chunk_count; i++)
		if (!kit_same_chunk(a, &a->chunks[x->chunks + i], b, &b->chunks[y->chunks + i], x->ndim))
			return "a chunk";
	return NULL;
}

/* What is not the same, or NULL. Both are finished. */
static inline const char *kit_difference(const struct wf_dcp_metadata *a, const struct wf_dcp_metadata *b)
{
	if (a->entry_count != b->entry_count)
		return "the number of entries";
	if (a->files.count != b->files.count)
		return "the number of files";
	for (uint32_t i = 0; i < a->files.count; i++)
		if (a->files.keys[i].len != b->files.keys[i].len ||
		    memcmp(a->files.keys[i].bytes, b->files.keys[i].bytes, a->files.keys[i].len) != 0)
			return "the name of a file";
	for (uint32_t i = 0; i < a->entry_count; i++) {
		const char *what = kit_entry_difference(a, &a->entries[i], b, &b->entries[i]);
		if (what)
			return what;
	}
	return NULL;
}
