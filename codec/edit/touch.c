/* SPDX-License-Identifier: MIT */
/* What edits rely on. Before the first record that names an entry of the checkpoint, the log says what stood there: type, shape
 * and, because the extents of a data file are at the storage's offsets, how it lay in its storage. A replay on the file that
 * the edits were made on need not look; one on another file (wf_commit_onto) refuses what is different. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

static void put_list(struct wf_buffer *out, const char *what, const int64_t *values, uint32_t n)
{
	wf_buffer_printf(out, "%s[", what);
	for (uint32_t i = 0; i < n; i++) {
		wf_buffer_puts(out, i ? ", " : "");
		wf_buffer_put_int(out, values[i]);
	}
	wf_buffer_putc(out, ']');
}

/* In words, so that a refusal can say them. On disk: never worded anew. */
static void describe(const struct wf_checkpoint *ck, wf_ino ino, struct wf_buffer *out)
{
	char class[128];
	struct wf_tensor t;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (n->type == WF_NODE_DIR) {
		wf_buffer_puts(out, "a directory");
	} else if (n->type == WF_NODE_LINK) {
		wf_buffer_puts(out, "a link");
	} else if (n->type != WF_NODE_TENSOR) {
		wf_class_name(ck->graph, n->object, class, sizeof class);
		wf_buffer_puts(out, class);
	} else if (wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL) < 0) {
		wf_buffer_puts(out, "unreadable");
	} else {
		wf_buffer_puts(out, wf_dtype_info(t.dtype)->name);
		put_list(out, " ", t.shape, t.ndim);
		put_list(out, ", stride ", t.stride, t.ndim);
		wf_buffer_printf(out, ", offset %lld%s", (long long)t.offset_elems, t.swap ? ", big endian" : "");
		const struct wf_storage *s = wf_storage_get(ck->storages, t.storage);
		if (s)
			wf_buffer_printf(out, " of %llu bytes", (unsigned long long)s->size_bytes);
	}
}

static int set_touched(struct wf_edits *e, wf_ino ino)
{
	int r = wf_edit_grow(&e->touched, &e->touched_words, ino / 64 + 1, sizeof *e->touched, 0);
	if (r == 0)
		e->touched[ino / 64] |= 1ull << ino % 64;
	return r;
}

static bool is_touched(const struct wf_edits *e, wf_ino ino)
{
	return ino / 64 < e->touched_words && (e->touched[ino / 64] >> ino % 64 & 1);
}

void wf_edit_forget_touched(struct wf_edits *e)
{
	if (e->touched_words)
		memset(e->touched, 0, e->touched_words * sizeof *e->touched);
}

int wf_edit_touch(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_edits *e = ck->edits;
	uint32_t position;
	if (e->replaying || wf_tree_lookup(ck->tree, dir, name, &position) < 0)
		return 0;
	wf_ino ino = wf_tree_dir(ck->tree, dir)->entries[position].ino;
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (is_touched(e, ino) || (f && f->is_new) || wf_edit_is_scratch(ck, dir))
		return 0;
	int r = set_touched(e, ino);
	if (r < 0)
		return r;
	struct wf_buffer record = WF_BUFFER_INIT, form = WF_BUFFER_INIT;
	r = wf_put_names(ck, &record, dir, name);
	describe(ck, ino, &form);
	wf_put_text(&record, form.data, form.len);
	if (r == 0)
		r = wf_buffer_status(&form);
	if (r == 0)
		r = wf_buffer_status(&record);
	if (r == 0)
		r = wf_overlay_record(ck->overlay, EDIT_TOUCH, record.data, record.len, false);
	wf_buffer_free(&form);
	wf_buffer_free(&record);
	return r;
}

int wf_edit_touch_file(struct wf_checkpoint *ck, wf_ino ino)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	if (is_touched(ck->edits, ino) || wf_edit_place_of(ck, ino, &p) < 0 ||
	    !wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p.dir), p.position, name))
		return 0;
	return wf_edit_touch(ck, p.dir, name);
}

int wf_replay_touch(struct wf_checkpoint *ck, wf_ino dir, const char *name, const char *form, size_t len)
{
	struct wf_place p;
	struct wf_buffer now = WF_BUFFER_INIT, path = WF_BUFFER_INIT;
	int r = wf_edit_find(ck, dir, name, &p);
	if (r < 0)
		return ck->onto ? r : 0;
	wf_ino ino = wf_edit_entry(ck, &p)->ino;
	r = set_touched(ck->edits, ino);
	if (r < 0 || !ck->onto)
		return r;
	describe(ck, ino, &now);
	r = wf_buffer_status(&now);
	if (r == 0 && (now.len != len || memcmp(now.data, form, len) != 0)) {
		wf_tree_path(ck->tree, ino, &path);
		r = wf_fail(ck->edits->replay_error, -ESTALE, "%.100s was %.*s, and is %s in this file",
			    path.data ? path.data : name, (int)WF_MIN(len, 120u), form, now.data);
	}
	wf_buffer_free(&now);
	wf_buffer_free(&path);
	return r;
}
