/* SPDX-License-Identifier: MIT */
/* Collects what the new metadata are to say, and has a graph make what is new of it. */
#include "codec/directory/dcp_write_ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_metadata.h"
#include "codec/directory/dcp_write_ranges_inner.h"

static int no_memory(struct wf_error *err)
{
	return wf_fail(err, -ENOMEM, "out of memory");
}

int dcp_range_writer_open(struct wf_source *file, struct dcp_range_writer **ret, struct wf_error *err)
{
	struct dcp_range_writer *w = calloc(1, sizeof *w);
	if (!w)
		return no_memory(err);
	int r = dcp_ranges_read(file, true, &w->old, err);
	if (r == 0) {
		size_t bytes = ((size_t)w->old.entry_count + 1) * sizeof *w->first_leaf;
		w->first_leaf = malloc(bytes);
		if (w->first_leaf)
			memset(w->first_leaf, 0xff, bytes); /* DCP_NONE */
		else
			r = no_memory(err);
	}
	if (r < 0)
		dcp_range_writer_free(w);
	else
		*ret = w;
	return r;
}

/* All but what was said of the file. */
static void free_tables(struct dcp_range_writer *w)
{
	dcp_ranges_free(&w->old);
	dcp_ranges_free(&w->fresh);
	dcp_graph_writer_free(w->graph);
	w->graph = NULL;
	free(w->first_slice);
	free(w->next_slice);
	w->first_slice = w->next_slice = NULL;
}

void dcp_range_writer_free(struct dcp_range_writer *w)
{
	if (!w)
		return;
	free_tables(w);
	free(w->leaves);
	free(w->ways);
	free(w->news);
	wf_buffer_free(&w->texts);
	free(w->first_leaf);
	free(w);
}

bool dcp_range_writer_is_nested(const struct dcp_range_writer *w)
{
	const struct dcp_attribute_range *places = dcp_ranges_attribute(&w->old, DCP_PLACES);
	return places && places->dict;
}

bool dcp_range_writer_knows(const struct dcp_range_writer *w, const char *name, size_t len)
{
	return wf_key_map_get(&w->old.names, name, len) != NULL;
}

static int no_entry(const char *name, size_t len, struct wf_error *err)
{
	return wf_fail(err, -ENOENT, "the metadata do not have %.*s any more", (int)len, name);
}

/* ---- small metadata ---- */

static int append(void *ctx, const void *data, size_t len)
{
	wf_buffer_append(ctx, data, len);
	return wf_buffer_status(ctx);
}

/* Takes the bytes. */
static int source_of(struct wf_buffer *b, struct wf_source **ret, struct wf_error *err)
{
	size_t len = b->len;
	void *data = wf_buffer_steal(b);
	int r = wf_source_from_memory(data, len, true, ret);
	if (r < 0)
		free(data);
	return r < 0 ? no_memory(err) : 0;
}

/* A graph of a part of the old file. */
static int open_part(struct dcp_range_writer *w, enum dcp_emit what, struct dcp_range_leaf *one,
		     struct dcp_graph_writer **ret, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *source = NULL;
	struct wf_buffer bytes = WF_BUFFER_INIT;
	struct dcp_replay p;
	int r = dcp_replay_begin(&p, w->old.protocol, append, &bytes, true, err);
	if (r == 0)
		r = dcp_emit(w, &p, what, one);
	r = dcp_replay_end(&p, &w->old, r);
	if (r == 0)
		r = source_of(&bytes, &source, err);
	wf_buffer_free(&bytes);
	return r < 0 ? r : dcp_graph_writer_open(source, ret, err);
}

/* ---- boxes ---- */

static int list_slices(struct dcp_range_writer *w, struct wf_error *err)
{
	if (w->next_slice)
		return 0;
	w->first_slice = calloc((size_t)w->old.entry_count + 1, sizeof *w->first_slice);
	w->next_slice = calloc((size_t)w->old.slice_count + 1, sizeof *w->next_slice);
	if (!w->first_slice || !w->next_slice) {
		free(w->next_slice);
		w->next_slice = NULL;
		return no_memory(err);
	}
	for (uint32_t i = w->old.slice_count; i-- > 0;) {
		uint32_t entry = w->old.slices[i].entry;
		if (entry == DCP_NONE)
			continue;
		w->next_slice[i] = w->first_slice[entry];
		w->first_slice[entry] = i + 1;
	}
	return 0;
}

int dcp_range_writer_boxes(struct dcp_range_writer *w, const char *name, size_t len, uint32_t ndim, uint64_t **ret,
			   uint32_t *ret_count, struct wf_error *err)
{
	struct dcp_graph_writer *part = NULL;
	const uint64_t *entry = wf_key_map_get(&w->old.names, name, len);
	if (!entry)
		return no_entry(name, len, err);
	struct dcp_range_leaf one = {.entry = (uint32_t)*entry};
	int r = list_slices(w, err);
	if (r == 0)
		r = open_part(w, DCP_EMIT_ONE, &one, &part, err);
	if (r == 0)
		r = dcp_graph_writer_boxes(part, name, len, ndim, ret, ret_count, err);
	dcp_graph_writer_free(part);
	return r;
}

/* ---- leaves ---- */

static size_t keep_text(struct dcp_range_writer *w, const char *text, size_t len)
{
	size_t at = w->texts.len;
	wf_buffer_append(&w->texts, text, len);
	wf_buffer_putc(&w->texts, '\0');
	return at;
}

static int keep_ways(struct dcp_range_writer *w, struct dcp_range_leaf *l, const struct wf_dcp_place *place)
{
	l->ways = w->way_count;
	l->way_count = dcp_range_writer_is_nested(w) ? place->count : 0;
	if (wf_array_reserve(&w->ways, &w->way_room, (uint64_t)w->way_count + l->way_count, sizeof *w->ways,
			     UINT32_MAX - 1) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < l->way_count; i++) {
		const struct wf_dcp_way *way = &place->ways[i];
		w->ways[w->way_count++] = way->text
						  ? (struct dcp_range_way){.text = keep_text(w, way->text, way->number),
									   .len = (uint32_t)way->number}
						  : (struct dcp_range_way){.text = way->number, .position = true};
	}
	return wf_buffer_status(&w->texts);
}

/* The next leaf with the name and the way that it has. */
static int new_leaf(struct dcp_range_writer *w, const struct wf_dcp_place *place, uint32_t entry, bool renamed,
		    struct dcp_range_leaf **ret, struct wf_error *err)
{
	struct dcp_range_leaf l = {.entry = entry, .renamed = renamed, .next = DCP_NONE, .news = w->news_count};
	if (wf_array_reserve(&w->leaves, &w->leaf_room, (uint64_t)w->leaf_count + 1, sizeof *w->leaves,
			     WF_DCP_MAX_ENTRIES) < 0)
		return no_memory(err);
	if (renamed) {
		l.name = keep_text(w, place->name, place->name_len);
		l.name_len = (uint32_t)place->name_len;
	}
	if (keep_ways(w, &l, place) < 0)
		return no_memory(err);
	if (entry != DCP_NONE) {
		l.next = w->first_leaf[entry];
		w->first_leaf[entry] = w->leaf_count;
	}
	w->leaves[w->leaf_count] = l;
	*ret = &w->leaves[w->leaf_count++];
	return 0;
}

/* Has the graph make an entry, with one slice. */
static int make_fresh(struct dcp_range_writer *w, const struct wf_dcp_place *place,
		      const struct wf_dcp_content *content, uint32_t *ret, struct wf_error *err)
{
	const struct wf_dcp_place here = {.name = place->name, .name_len = place->name_len};
	int r = w->graph ? 0 : open_part(w, DCP_EMIT_SAMPLE, NULL, &w->graph, err);
	if (r == 0)
		r = dcp_graph_writer_add(w->graph, &here, content, err);
	if (r == 0)
		*ret = w->fresh_count++;
	return r;
}

int dcp_range_writer_keep(struct dcp_range_writer *w, const char *old_name, size_t len,
			  const struct wf_dcp_place *place, const struct wf_dcp_news *news, uint32_t count,
			  struct wf_error *err)
{
	const uint64_t *entry = wf_key_map_get(&w->old.names, old_name, len);
	struct dcp_range_leaf *l;
	if (!entry)
		return no_entry(old_name, len, err);
	bool renamed = len != place->name_len || memcmp(old_name, place->name, len) != 0;
	int r = new_leaf(w, place, (uint32_t)*entry, renamed, &l, err);
	if (r == 0 && wf_array_reserve(&w->news, &w->news_room, (uint64_t)w->news_count + count, sizeof *w->news,
				       UINT32_MAX - 1) < 0)
		r = no_memory(err);
	for (uint32_t i = 0; i < count && r == 0; i++) {
		/* of a value nothing is made but the info that is wanted */
		const struct wf_dcp_content content = {
			.file = news[i].file, .offset = news[i].offset, .length = news[i].length};
		struct dcp_range_news *one = &w->news[w->news_count];
		one->old = news[i].old;
		r = make_fresh(w, place, &content, &one->fresh, err);
		if (r == 0) {
			w->news_count++;
			l->news_count++;
		}
	}
	return r;
}

int dcp_range_writer_add(struct dcp_range_writer *w, const struct wf_dcp_place *place,
			 const struct wf_dcp_content *content, struct wf_error *err)
{
	struct dcp_range_leaf *l;
	int r = new_leaf(w, place, DCP_NONE, true, &l, err);
	return r < 0 ? r : make_fresh(w, place, content, &l->fresh, err);
}

/* ---- the new file ---- */

/* The graph's metadata have an entry and a slice for each that was asked for, in that order. */
static int read_fresh(struct dcp_range_writer *w, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *source = NULL;
	struct wf_buffer bytes = WF_BUFFER_INIT;
	if (!w->graph)
		return 0;
	int r = dcp_graph_writer_write(w->graph, append, &bytes, err);
	dcp_graph_writer_free(w->graph);
	w->graph = NULL;
	if (r == 0)
		r = source_of(&bytes, &source, err);
	wf_buffer_free(&bytes);
	if (r == 0)
		r = dcp_ranges_read(source, false, &w->fresh, err);
	if (r == 0 && (w->fresh.entry_count != w->fresh_count || w->fresh.slice_count != w->fresh_count))
		r = wf_fail(err, -EUCLEAN, "the metadata of what is new are not what was to be written");
	return r;
}

int dcp_range_writer_write(struct dcp_range_writer *w, int (*write)(void *ctx, const void *data, size_t len), void *ctx,
			   struct wf_error *err)
{
	struct dcp_replay p;
	int r = read_fresh(w, err);
	if (r < 0)
		return r;
	r = dcp_replay_begin(&p, w->old.protocol, write, ctx, false, err);
	if (r == 0)
		r = dcp_emit(w, &p, DCP_EMIT_ALL, NULL);
	r = dcp_replay_end(&p, &w->old, r);
	free_tables(w); /* whoever reads the new file needs as much memory */
	return r;
}
