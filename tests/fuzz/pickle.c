/* SPDX-License-Identifier: MIT */
/* A pickle of any bytes: read, written, and what was written read and written again, which must change nothing. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/pickle/outline.h"
#include "codec/pickle/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct wf_graph *read_pickle(const void *data, size_t size, wf_ref *ret_root, struct wf_error *err)
{
	struct wf_source *s = NULL;
	struct wf_graph *g = NULL;
	uint64_t end;

	if (wf_graph_new(&g) < 0 || wf_source_from_memory((void *)(uintptr_t)data, size, false, &s) < 0)
		abort();
	int rc = wf_pickle_read(g, s, 0, size, NULL, ret_root, &end, err);
	wf_source_unref(s);
	if (rc == 0)
		return g;
	if (err->code != rc || !err->text[0] || err->offset > size)
		abort(); /* every refusal has a reason that a person can read, and a place */
	wf_graph_free(g);
	return NULL;
}

/* All that the readers of a graph may ask of an object. */
static void look(const struct wf_graph *g)
{
	struct wf_effects e;
	uint32_t n;

	for (wf_ref r = wf_graph_next(g, WF_NIL); r; r = wf_graph_next(g, r)) {
		wf_elements(g, r, &n);
		wf_items(g, r, &n);
		wf_call_effects(g, r, 0, &e);
		wf_class_of(g, r);
		wf_key_hash(g, r);
		if (!wf_key_equal(g, r, r))
			abort();
		if (strlen(wf_global_name(g, r)) > wf_graph_bytes(g))
			abort();
	}
}

static int append(void *ctx, const void *data, size_t len)
{
	wf_buffer_append(ctx, data, len);
	return wf_buffer_status(ctx);
}

/* In its own protocol: what is written reads again, and is written so again. A pickle that can be written anew with the same
 * meaning makes one that can, too. */
static void rewrite_as_read(const struct wf_graph *g, wf_ref root)
{
	struct wf_buffer first = WF_BUFFER_INIT, second = WF_BUFFER_INIT;
	struct wf_pickle_writer hooks = {.write = append, .ctx = &first, .as_read = true};
	struct wf_error err = {0};
	const char *why;
	wf_ref again = WF_NIL;
	bool faithful = wf_pickle_faithful(g, root, &why) == 1;
	int rc = wf_pickle_write(g, root, &hooks, &err);
	if (rc < 0 && faithful)
		abort();
	struct wf_graph *copy = rc == 0 ? read_pickle(first.data, first.len, &again, &err) : NULL;
	hooks.ctx = &second;
	if (rc == 0 && (!copy || wf_pickle_write(copy, again, &hooks, &err) < 0))
		abort();
	if (first.len != second.len || (first.len && memcmp(first.data, second.data, first.len) != 0))
		abort();
	if (faithful && wf_pickle_faithful(copy, again, &why) != 1)
		abort();
	wf_graph_free(copy);
	wf_buffer_free(&first);
	wf_buffer_free(&second);
}

/* Its containers, each once: none holds itself where it is shown as one. */
static void outline(const uint8_t *data, size_t size)
{
	struct wf_source *s = NULL;
	struct wf_outline *o = NULL;
	size_t len;
	wf_outlined key, v;

	if (wf_source_from_memory((void *)(uintptr_t)data, size, false, &s) < 0)
		abort();
	if (wf_outline_read(s, &o) == 0)
		for (v = wf_outline_root(o);
		     wf_outline_count(o, v) > 0 && wf_outline_shape(o, v) != WF_OUTLINE_UNKNOWN;) {
			for (uint32_t i = 0; i < wf_outline_count(o, v); i++) {
				wf_outline_shape(o, wf_outline_item(o, v, i, &key));
				wf_outline_text(o, key, &len);
			}
			v = wf_outline_item(o, v, 0, &key);
		}
	wf_outline_free(o);
	wf_source_unref(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wf_buffer first = WF_BUFFER_INIT, second = WF_BUFFER_INIT;
	struct wf_error err = {0};
	wf_ref root = WF_NIL;
	outline(data, size);
	struct wf_graph *g = read_pickle(data, size, &root, &err);

	if (!g)
		return 0;
	look(g);
	rewrite_as_read(g, root);
	int rc = wf_pickle_write_buffer(g, root, NULL, NULL, &first, &err);
	wf_graph_free(g);
	if (rc == 0) {
		g = read_pickle(first.data, first.len, &root, &err);
		if (!g || wf_pickle_write_buffer(g, root, NULL, NULL, &second, &err) < 0)
			abort();
		if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
			abort();
		wf_graph_free(g);
	} else if (rc != -E2BIG && rc != -EOPNOTSUPP) {
		abort();
	}
	wf_buffer_free(&first);
	wf_buffer_free(&second);
	return 0;
}
