/* SPDX-License-Identifier: MIT */
/* The metadata of a distributed checkpoint: whatever they are, the tables made of them are consistent, a nest can be made of the entries, and
 * both readers say the same, where both know them. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/directory/dcp_metadata.h"
#include "codec/directory/dcp_stream.h"
#include "codec/directory/dcp_tree.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wf_dcp_metadata m = {0}, streamed = {0};
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
	wf_source_unref(s);
	wf_dcp_metadata_free(&m);
	wf_dcp_metadata_free(&streamed);
	return 0;
}
