/* SPDX-License-Identifier: MIT */
/* A second name where the format has no ties: the entry's content once more, in a storage of its own. */
#include <errno.h>
#include <stdlib.h>

#include "codec/bytes/util.h"
#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/tensor/layout.h"

#define CHUNK (1u << 20)

static int copy_bytes(struct wf_checkpoint *ck, const struct wf_tensor *from, wf_ino to, uint32_t storage)
{
	cleanup_free char *buf = malloc(CHUNK);
	ck->edits->writing = to;
	int r = buf ? wf_storage_resize(ck->storages, storage, from->size_bytes) : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < from->size_bytes; at += CHUNK) {
		size_t n = WF_MIN(from->size_bytes - at, (uint64_t)CHUNK);
		r = wf_tensor_read(ck->storages, from, at, buf, n);
		if (r == 0)
			r = wf_storage_write(ck->storages, storage, at, buf, n);
	}
	return r;
}

static int fill(struct wf_checkpoint *ck, wf_ino ino, wf_ino to)
{
	wf_ref object = wf_tree_node(ck->tree, ino)->object;
	struct wf_tensor from, t = {.kind = WF_TENSOR_DENSE};
	if (!wf_is_tensor(ck->graph, object))
		return wf_edit_become(ck, to, object, false);
	int r = wf_tensor_decode(ck->graph, ck->storages, object, &from, NULL);
	if (r == 0)
		r = wf_edit_tensor(ck, to, &t);
	if (r < 0)
		return r;
	uint32_t storage = t.storage;
	const struct wf_tensor_type type = wf_tensor_type_of(&from);
	r = copy_bytes(ck, &from, to, storage);
	wf_tensor_set_type(&t, &type, storage);
	if (r == 0)
		r = wf_storage_set_form(ck->storages, storage, type.dtype, "cpu");
	if (r == 0)
		r = wf_edit_make_object(ck, &t, &object);
	if (r == 0)
		r = wf_edit_become(ck, to, object, false);
	/* it has the type that it was copied with, whatever is written into it next */
	return r < 0 ? r : wf_edit_declare_type(ck, to);
}

int wf_edit_copy(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name, wf_ino *ret)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_buffer path = WF_BUFFER_INIT;
	wf_ino to;
	if (!n || n->nlink == 0)
		return -ENOENT;
	int r = f && f->pending != PENDING_NOT && f->writers == 0 ? wf_edit_end_writing(ck, ino) : 0;
	if (r == 0 && f && f->pending != PENDING_NOT && !wf_edit_stands_aside(ck, ino) && !wf_edit_keeps_text(ck, ino))
		r = wf_refuse(ck, -EBUSY, "somebody writes it, and a safetensors file has no ties that could follow");
	if (r < 0)
		return r;
	n = wf_tree_node(ck->tree, ino);
	if (n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		return -EPERM;
	r = wf_apply_create(ck, dir, name, wf_overlay_new_number(ck->overlay), &to);
	if (r < 0)
		return r;
	r = fill(ck, ino, to);
	if (r < 0) {
		wf_apply_unlink(ck, dir, name);
		return r;
	}
	wf_tree_path(ck->tree, ino, &path);
	wf_log_line(&ck->log, "%s is a copy of %s: a safetensors file has no ties", name, path.data ? path.data : "?");
	wf_buffer_free(&path);
	*ret = to;
	return 0;
}
