/* SPDX-License-Identifier: MIT */
/* What stat and read show of a node: the base, or the pending content that stands in front of it until it is settled. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/edit/inner.h"
#include "codec/tensor/layout.h"
#include "codec/value/text.h"

/* ---- pending content ---- */

static bool is_held(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f && f->pending != PENDING_NOT;
}

bool wf_edit_keeps_text(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f->is_new && f->judged && f->text_judged && wf_tree_node(ck->tree, ino)->type == WF_NODE_VALUE;
}

bool wf_edit_stands_aside(const struct wf_checkpoint *ck, wf_ino ino)
{
	/* what has no name is seen by nobody but those who have it open */
	return is_held(ck, ino) && wf_edit_known(ck, ino)->settled && !wf_edit_keeps_text(ck, ino) &&
	       wf_tree_node(ck->tree, ino)->nlink > 0;
}

bool wf_edits_is_pending(const struct wf_checkpoint *ck, wf_ino ino)
{
	return is_held(ck, ino) && !wf_edit_stands_aside(ck, ino);
}

/* Whether pending content is what a reader is shown; else it is noted that the reader saw something else. */
static bool shows_pending(const struct wf_checkpoint *ck, wf_ino ino)
{
	if (!is_held(ck, ino))
		return false;
	if (!wf_edit_stands_aside(ck, ino))
		return true;
	wf_edit_known(ck, ino)->seen = true;
	return false;
}

uint64_t wf_edits_pending_size(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return f->pending == PENDING_TEXT ? f->text.len : wf_storage_get(ck->storages, f->storage)->size_bytes;
}

static ssize_t read_pending(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, void *buf, size_t len)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	uint64_t size = wf_edits_pending_size(ck, ino);
	if (offset >= size)
		return 0;
	len = WF_MIN(len, size - offset);
	if (f->pending == PENDING_TEXT) {
		memcpy(buf, f->text.data + offset, len);
		return (ssize_t)len;
	}
	int r = wf_storage_read(ck->storages, f->storage, offset, buf, len);
	return r < 0 ? r : (ssize_t)len;
}

void wf_edits_pending_type(const struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || f->pending != PENDING_BYTES || wf_edit_stands_aside(ck, ino))
		return;
	struct wf_tensor_type type = wf_tensor_type_of(t);
	uint64_t size = wf_storage_get(ck->storages, f->storage)->size_bytes;
	if (wf_tensor_type_fits(&type, size) || !wf_tensor_type_rows(&type, size))
		return;
	wf_tensor_set_type(t, &type, f->storage);
}

/* ---- what is mapped ---- */

int wf_edits_in_writing(struct wf_checkpoint *ck, bool **ret)
{
	const struct wf_edits *e = ck->edits;
	struct wf_tensor t;
	int r = 0;
	*ret = NULL;
	if (!e || !ck->writable)
		return 0;
	pthread_mutex_lock(&ck->open_lock);
	for (wf_ino ino = 1; r == 0 && ino <= e->files_count; ino++) {
		const struct wf_file *f = e->files[ino - 1];
		const struct wf_node *n = f && f->writers + f->newcomers > 0 ? wf_tree_node(ck->tree, ino) : NULL;
		if (!n || n->type != WF_NODE_TENSOR || wf_edit_tensor(ck, ino, &t) < 0 || t.storage == WF_NO_STORAGE)
			continue;
		if (!*ret)
			*ret = calloc(wf_storages_count(ck->storages), sizeof **ret);
		if (*ret)
			(*ret)[t.storage] = true;
		else
			r = -ENOMEM;
	}
	pthread_mutex_unlock(&ck->open_lock);
	return r;
}

/* ---- stat ---- */

/* The size shown of what cannot be read and tells no size: of an empty file the kernel asks nothing, so that nobody
 * would see the error. */
#define UNREADABLE_BYTES 1

static uint64_t value_size(struct wf_checkpoint *ck, const struct wf_node *n)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	uint64_t size = 0;
	if (n->type == WF_NODE_VALUE)
		return wf_tree_text_size(ck->tree, n->object, &size) < 0 ? UNREADABLE_BYTES : size;
	size = wf_tree_describe(ck->graph, n->object, &text) == 0 ? text.len : UNREADABLE_BYTES;
	wf_buffer_free(&text);
	return size;
}

int wf_checkpoint_stat(struct wf_checkpoint *ck, wf_ino ino, struct wf_stat *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_tensor t;
	if (!n)
		return -ENOENT;
	*ret = (struct wf_stat){.ino = ino,
				.nlink = n->nlink,
				.type = WF_FILE,
				.tensor = n->type == WF_NODE_TENSOR,
				.writable = ck->writable};
	wf_edits_looks(ck, ino, &ret->looks);
	if (ck->edits && shows_pending(ck, ino)) {
		ret->size_bytes = ret->storage_bytes = wf_edits_pending_size(ck, ino);
		return 0;
	}
	switch (n->type) {
	case WF_NODE_DIR:
		ret->type = WF_DIRECTORY;
		ret->size_bytes = wf_edits_shown(ck, ino);
		return 0;
	case WF_NODE_LINK: {
		struct wf_buffer target = WF_BUFFER_INIT;
		ret->type = WF_SYMLINK;
		wf_tree_link_target(ck->tree, ino, &target);
		ret->size_bytes = target.len;
		wf_buffer_free(&target);
		return 0;
	}
	case WF_NODE_TENSOR:
		if (wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL) < 0 && t.kind != WF_TENSOR_META) {
			ret->writable = false;
			ret->size_bytes = t.size_bytes ? t.size_bytes : UNREADABLE_BYTES;
			return 0;
		}
		ret->size_bytes = t.size_bytes;
		ret->storage_bytes = t.kind == WF_TENSOR_META ? 0 : ret->size_bytes;
		return 0;
	default:
		ret->size_bytes = ret->storage_bytes = value_size(ck, n);
		ret->writable &= n->type == WF_NODE_VALUE;
		return 0;
	}
}

/* ---- read ---- */

static ssize_t read_text(const struct wf_checkpoint *ck, const struct wf_node *n, uint64_t offset, void *buf,
			 size_t len)
{
	enum wf_kind kind = wf_kind_of(ck->graph, n->object);
	if (n->type == WF_NODE_VALUE &&
	    (kind == WF_STR || kind == WF_PYSTR || kind == WF_BYTES || kind == WF_BYTEARRAY)) {
		uint64_t size = wf_string_size(ck->graph, n->object);
		size_t part = offset < size ? WF_MIN(len, size - offset) : 0;
		int r = part ? wf_string_read(ck->graph, n->object, offset, buf, part) : 0;
		return r < 0 ? r : (ssize_t)part;
	}
	struct wf_buffer text = WF_BUFFER_INIT;
	int r = n->type == WF_NODE_VALUE ? wf_value_text(ck->graph, n->object, &text)
					 : wf_tree_describe(ck->graph, n->object, &text);
	size_t part = r == 0 && offset < text.len ? WF_MIN(len, text.len - offset) : 0;
	if (part)
		memcpy(buf, text.data + offset, part);
	wf_buffer_free(&text);
	return r < 0 ? r : (ssize_t)part;
}

static ssize_t read_tensor(struct wf_checkpoint *ck, const struct wf_node *n, uint64_t offset, void *buf, size_t len)
{
	struct wf_tensor t;
	int r = wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL);
	if (r < 0)
		return r;
	size_t part = offset < t.size_bytes ? WF_MIN(len, t.size_bytes - offset) : 0;
	r = part ? wf_placement_read(ck->placement, &t, offset, buf, part) : 0;
	if (part && r == 0)
		r = wf_tensor_read(ck->storages, &t, offset, buf, part);
	return r < 0 ? r : (ssize_t)part;
}

ssize_t wf_checkpoint_read(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, void *buf, size_t len)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (ck->edits && shows_pending(ck, ino))
		return read_pending(ck, ino, offset, buf, len);
	if (!n)
		return -ENOENT;
	if (n->type == WF_NODE_TENSOR)
		return read_tensor(ck, n, offset, buf, len);
	if (n->type == WF_NODE_VALUE || n->type == WF_NODE_OPAQUE)
		return read_text(ck, n, offset, buf, len);
	return n->type == WF_NODE_DIR ? -EISDIR : -EINVAL;
}

bool wf_checkpoint_lend(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, size_t len,
			void (*take)(void *ctx, const void *data, size_t len), void *ctx)
{
	cleanup_with(wf_file_run_end) struct wf_file_run run = WF_FILE_RUN_INIT;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_tensor t;
	bool written = false;
	const void *data;
	if (!n || n->type != WF_NODE_TENSOR || (ck->edits && is_held(ck, ino)) ||
	    wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL) < 0 || offset >= t.size_bytes ||
	    wf_placement_has(ck->placement, t.storage) ||
	    !wf_tensor_find_run(ck->storages, &t, offset, &run, &written) || written || !run.file)
		return false;
	len = WF_MIN(len, t.size_bytes - offset);
	if (run.len < len || wf_source_lend(run.file, run.offset, len, &data) < 0)
		return false; /* a read puts the pieces together, or tells what is wrong */
	take(ctx, data, len);
	return true;
}

/* ---- for the edits themselves ---- */

uint64_t wf_edit_size(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_stat st;
	if (is_held(ck, ino))
		return wf_edits_pending_size(ck, ino);
	return wf_checkpoint_stat(ck, ino, &st) == 0 ? st.size_bytes : 0;
}

int wf_edit_read(struct wf_checkpoint *ck, wf_ino ino, uint64_t at, void *buf, size_t len)
{
	struct wf_tensor t;
	if (is_held(ck, ino)) {
		ssize_t n = read_pending(ck, ino, at, buf, len);
		return n < 0 ? (int)n : 0;
	}
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (n->type == WF_NODE_TENSOR) {
		int r = wf_edit_tensor(ck, ino, &t);
		return r < 0 ? r : wf_tensor_read(ck->storages, &t, at, buf, len);
	}
	struct wf_buffer text = WF_BUFFER_INIT;
	int r = wf_value_text(ck->graph, n->object, &text);
	if (r == 0 && (at > text.len || len > text.len - at))
		r = -EINVAL;
	if (r == 0 && len > 0)
		memcpy(buf, text.data + at, len);
	wf_buffer_free(&text);
	return r;
}
