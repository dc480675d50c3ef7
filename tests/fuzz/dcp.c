/* SPDX-License-Identifier: MIT */
/* The metadata of a distributed checkpoint: whatever they are, the tables made of them are consistent, a nest can be made of the entries, and
 * both readers say the same, where both know them; and a file that is written out of their ranges says the same, where they are known. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/directory/dcp_metadata.h"
#include "codec/directory/dcp_stream.h"
#include "codec/directory/dcp_tree.h"
#include "codec/directory/dcp_write_ranges.h"
#include "tests/unit/dcp-kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static wf_ref leaf(void *ctx, uint32_t entry)
{
	return wf_int(ctx, entry);
}

static void check_entry(const struct wf_dcp_metadata *m, const struct wf_dcp_entry *e)
{
	uint64_t elements = 1;
	if (e->chunks > m->chunk_count || e->chunk_count > m->chunk_count - e->chunks || e->steps > m->step_count ||
	    e->step_count > m->step_count - e->steps || e->sizes + e->ndim > m->number_count ||
	    strlen(wf_dcp_text(m, e->problem)) > 255)
		abort();
	for (uint32_t i = 0; i < e->ndim; i++)
		if (__builtin_mul_overflow(elements, m->numbers[e->sizes + i], &elements))
			abort(); /* of a size whose elements are no number nothing is kept */
	for (uint32_t i = 0; i < e->chunk_count; i++) {
		const struct wf_dcp_chunk *c = &m->chunks[e->chunks + i];
		if (c->offsets + e->ndim > m->number_count || c->sizes + e->ndim > m->number_count ||
		    (c->length > 0 && c->file >= m->files.count) || &m->entries[c->entry] != e)
			abort();
		if (c->length == 0 && !e->problem)
			abort(); /* a chunk without a slice has a reason */
	}
}

static void check_tree(const struct wf_dcp_metadata *m)
{
	struct wf_graph *g;
	struct wf_error err = {0};
	wf_ref root;
	if (wf_graph_new(&g) < 0)
		return;
	int r = wf_dcp_tree_make(m, g, leaf, g, &root, &err);
	if (r < 0 && err.text[0] == '\0')
		abort();
	wf_graph_free(g);
}

typedef int (*reader)(struct wf_dcp_metadata *m, struct wf_source *s, const char *folder, struct wf_error *err);

/* Twice, as the metadata of two ranks; and below a folder. */
static int read_thrice(reader read, struct wf_source *s, struct wf_dcp_metadata *m)
{
	static const char *const folders[] = {"", "folder"};
	struct wf_error err = {0};
	int r = 0;
	for (unsigned int i = 0; i < 3 && r == 0; i++) {
		r = read(m, s, folders[i / 2], &err);
		if (r < 0 && (err.code != r || err.text[0] == '\0'))
			abort(); /* every refusal has a reason that a person can read */
	}
	return r == 0 && wf_dcp_metadata_finish(m) < 0 ? -ENOMEM : r;
}

/* ---- a new file out of ranges of this one ---- */

static int append(void *ctx, const void *bytes, size_t len)
{
	wf_buffer_append(ctx, bytes, len);
	return wf_buffer_status(ctx);
}

/* Every entry, the first one last, and each second one under another name. */
static int keep_all(struct dcp_range_writer *w, const struct wf_dcp_metadata *m, struct wf_error *err)
{
	char name[32];
	int r = 0;
	for (uint32_t k = 0; k < m->entry_count && r == 0; k++) {
		const struct wf_dcp_entry *e = &m->entries[(k + 1) % m->entry_count];
		const char *old = wf_dcp_text(m, e->name);
		struct wf_dcp_place place = {.name = old, .name_len = e->name_len};
		if (k % 2) {
			place.name = name;
			place.name_len = (size_t)snprintf(name, sizeof name, "\x7f%u", k);
		}
		r = dcp_range_writer_keep(w, old, e->name_len, &place, NULL, 0, err);
	}
	return r;
}

/* What is said of an entry, wherever its chunks stand in the tables. */
static bool same_entry(const struct wf_dcp_metadata *a, const struct wf_dcp_entry *x, const struct wf_dcp_metadata *b,
		       const struct wf_dcp_entry *y)
{
	if (x->tensor != y->tensor || x->dtype != y->dtype || x->ndim != y->ndim || x->chunk_count != y->chunk_count)
		return false;
	for (uint32_t i = 0; i < x->chunk_count; i++) {
		const struct wf_dcp_chunk *c = &a->chunks[x->chunks + i], *d = &b->chunks[y->chunks + i];
		if (c->length != d->length || (c->length > 0 && c->offset != d->offset) ||
		    !kit_same_numbers(a, c->offsets, b, d->offsets, x->ndim))
			return false;
	}
	return true;
}

/* m: the one file, read as a graph. */
static void check_ranges(struct wf_source *s, const struct wf_dcp_metadata *m)
{
	struct dcp_range_writer *w = NULL;
	struct wf_dcp_metadata again = {0};
	struct wf_buffer bytes = WF_BUFFER_INIT;
	struct wf_source *written = NULL;
	struct wf_error err = {0};
	int r = dcp_range_writer_open(s, &w, &err);
	if (r == 0)
		r = keep_all(w, m, &err);
	if (r == 0)
		r = dcp_range_writer_write(w, append, &bytes, &err);
	dcp_range_writer_free(w);
	if (r < 0 && (err.code != r || err.text[0] == '\0'))
		abort();
	if (r == 0 && (wf_source_from_memory(bytes.data, bytes.len, false, &written) < 0 ||
		       wf_dcp_metadata_read(&again, written, "", &err) < 0 || wf_dcp_metadata_finish(&again) < 0))
		abort(); /* what was written reads */
	for (uint32_t k = 0; r == 0 && k < m->entry_count; k++)
		if (again.entry_count != m->entry_count ||
		    !same_entry(m, &m->entries[(k + 1) % m->entry_count], &again, &again.entries[k]))
			abort();
	wf_source_unref(written);
	wf_buffer_free(&bytes);
	wf_dcp_metadata_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wf_dcp_metadata m = {0}, streamed = {0}, once = {0};
	struct wf_error err = {0};
	struct wf_source *s = NULL;
	int r = wf_source_from_memory((void *)(uintptr_t)data, size, false, &s);
	if (r < 0)
		return 0;
	r = read_thrice(wf_dcp_metadata_read, s, &m);
	if (r == 0) {
		for (uint32_t i = 0; i < m.entry_count; i++)
			check_entry(&m, &m.entries[i]);
		check_tree(&m);
	}
	if (read_thrice(wf_dcp_metadata_stream, s, &streamed) == 0 && (r != 0 || kit_difference(&m, &streamed)))
		abort();
	if (wf_dcp_metadata_read(&once, s, "", &err) == 0 && wf_dcp_metadata_finish(&once) == 0)
		check_ranges(s, &once);
	wf_source_unref(s);
	wf_dcp_metadata_free(&m);
	wf_dcp_metadata_free(&streamed);
	wf_dcp_metadata_free(&once);
	return 0;
}
