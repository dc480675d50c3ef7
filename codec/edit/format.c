/* SPDX-License-Identifier: MIT */
/* What a format without a pickle cannot say. A safetensors file is a flat dictionary of plain tensors, and a few texts beside it: edits
 * that ask for more are refused when they are made, with the reason, and not at the commit. */
#include <errno.h>
#include <string.h>

#include "codec/container/safetensors_head.h"
#include "codec/directory/huggingface.h"
#include "codec/edit/inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/tensor/storage_nested.h"
#include "codec/value/names.h"
#include "codec/value/text.h"

bool wf_edit_is_flat(const struct wf_checkpoint *ck)
{
	return wf_container_is_flat(ck->container);
}

bool wf_edit_in_metadata(const struct wf_checkpoint *ck, wf_ino dir)
{
	return dir != WF_NO_INO && dir == wf_tree_metadata(ck->tree);
}

/* A replay makes what was allowed when it was recorded. */
static bool is_free(const struct wf_checkpoint *ck, wf_ino dir)
{
	return !wf_edit_is_flat(ck) || ck->edits->replaying || wf_edit_is_scratch(ck, dir);
}

int wf_edit_check_key(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref *key)
{
	size_t len;
	if (is_free(ck, dir))
		return wf_edit_check_entry_key(ck, dir, name, key);
	if (!wf_is(ck->graph, *key, WF_STR)) {
		int r = wf_key_from_name(ck->graph, name, false, key);
		if (r < 0)
			return r;
	}
	const char *text = wf_bytes(ck->graph, *key, &len);
	const char *why = wf_edit_in_metadata(ck, dir) ? NULL : wf_safetensors_refuses_name(text, len);
	return why ? wf_refuse(ck, -EPERM, "%s: %s", name, why) : 0;
}

int wf_edit_check_directory(struct wf_checkpoint *ck, wf_ino dir)
{
	return is_free(ck, dir) ? 0
				: wf_refuse(ck, -EPERM,
					    "a safetensors file is one flat dictionary: it holds no directories and no "
					    "links (a name may have dots: encoder.weight)");
}

/* The shard that the object's bytes are in, where that cannot be read; else NULL. */
static const struct wf_shard *lost_shard(const struct wf_checkpoint *ck, wf_ref object)
{
	if (wf_container_kind_of(ck->container) != WF_CONTAINER_HUGGINGFACE)
		return NULL;
	const struct wf_storage *s = wf_storage_get(ck->storages, wf_tensor_storage(ck->graph, ck->storages, object));
	if (!s || s->record == WF_NO_RECORD)
		return NULL;
	const struct wf_shard *shard =
		wf_huggingface_shard(ck->container, wf_huggingface_shard_of(ck->container, s->record));
	return shard->bad ? shard : NULL;
}

int wf_edit_check_object(struct wf_checkpoint *ck, wf_ino dir, wf_ref object)
{
	struct wf_tensor t;
	if (is_free(ck, dir) || lost_shard(ck, object)) /* such a tensor was one of this format's before */
		return 0;
	bool text = wf_is(ck->graph, object, WF_STR);
	if (wf_edit_in_metadata(ck, dir))
		return text ? 0 : wf_refuse(ck, -EINVAL, "the metadata of a safetensors file are texts alone");
	if (!wf_is_tensor(ck->graph, object) || wf_tensor_decode(ck->graph, ck->storages, object, &t, NULL) < 0 ||
	    t.kind != WF_TENSOR_DENSE)
		return wf_refuse(ck, -EINVAL,
				 "a safetensors file holds tensors alone: no numbers, no texts, no lists (texts can be "
				 "metadata, in %s)",
				 WF_METADATA_PATH);
	return wf_edit_check_type(ck, &t);
}

int wf_edit_check_type(struct wf_checkpoint *ck, const struct wf_tensor *t)
{
	const char *why = wf_edit_is_flat(ck) && !ck->edits->replaying
				  ? wf_safetensors_refuses(t->dtype, t->shape, t->ndim)
				  : NULL;
	return why ? wf_refuse(ck, -EINVAL, "%s (%s)", why, wf_dtype_info(t->dtype)->name) : 0;
}

/* What is there already; the attributes of content that is to come are narrowed to what the format says. */
static bool is_there(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	return !f || (!f->is_new && f->pending == PENDING_NOT);
}

/* A format whose tensors are no more than elements. NULL: it is another. Of a plain pickle the whole graph tells. */
static const char *plain_format(const struct wf_checkpoint *ck)
{
	enum wf_container_kind kind = wf_container_kind_of(ck->container);
	return wf_edit_is_flat(ck)                                                  ? "safetensors file"
	       : kind == WF_CONTAINER_DCP                                           ? "distributed checkpoint"
	       : kind == WF_CONTAINER_PICKLE && !wf_holds_nested_storage(ck->graph) ? "pickle of NumPy arrays"
										    : NULL;
}

/* What it is that such a format does not say. NULL: it may say that. */
static const char *unsaid(const struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	if (!strcmp(name, "user.torch.requires_grad") && !strcmp(value, "true"))
		return "which tensors require gradients";
	if (!strcmp(name, "user.torch.location") && strcmp(value, "cpu") != 0)
		return "where a tensor was";
	if (!strcmp(name, "user.torch.class") && !strncmp(value, "torch.nn.parameter.", 19) && is_there(ck, ino))
		return "which tensors are Parameters";
	return NULL;
}

int wf_edit_check_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	struct wf_place p;
	if (wf_edit_place_of(ck, ino, &p) < 0 || ck->edits->replaying || wf_edit_is_scratch(ck, p.dir))
		return 0;
	wf_ref example =
		!wf_edit_is_flat(ck) || strcmp(name, "user.torch.class") ? WF_NIL : wf_class_example(ck->graph, value);
	if (example != WF_NIL)
		return wf_edit_check_object(ck, p.dir, example);
	if ((!strcmp(name, "user.torch.dtype") || !strcmp(name, "user.torch.shape")) && wf_edit_is_component(ck, ino))
		return wf_refuse(ck, -EINVAL, "it is a part of a tensor, and keeps its dtype and shape");
	const char *what = unsaid(ck, ino, name, value), *format = what ? plain_format(ck) : NULL;
	return format ? wf_refuse(ck, -EINVAL, "a %s does not say %s", format, what) : 0;
}

int wf_edit_check_shard(struct wf_checkpoint *ck, wf_ref object, wf_ino dir)
{
	const struct wf_shard *s = ck->edits->replaying || wf_edit_is_scratch(ck, dir) ? NULL : lost_shard(ck, object);
	return s ? wf_refuse(ck, -EIO, "%s, and the names of what it holds stand in it, too", s->why) : 0;
}

void wf_edit_narrow(const struct wf_checkpoint *ck, struct wf_wanted *w)
{
	bool more = w->parameter || w->requires_grad || (w->location && strcmp(w->location, "cpu") != 0);
	if (more && plain_format(ck)) {
		w->parameter = w->requires_grad = false;
		w->location = NULL;
	}
	if (wf_edit_is_flat(ck)) {
		w->array = w->bare = false;
		w->record = w->quantizer = WF_NIL;
	}
}

size_t wf_edit_metadata_size(struct wf_checkpoint *ck, wf_ino ino, wf_ref old, const char *text, size_t size)
{
	struct wf_place p;
	size_t len = 0;
	if (!wf_edit_is_flat(ck) || wf_edit_place_of(ck, ino, &p) < 0 || !wf_edit_in_metadata(ck, p.dir) ||
	    !wf_text_is_line(text, size) || memchr(text, '\n', size) != text + size - 1)
		return size;
	const char *was = wf_is(ck->graph, old, WF_STR) ? wf_bytes(ck->graph, old, &len) : NULL;
	return was && len > 0 && was[len - 1] == '\n' ? size : size - 1;
}

bool wf_edit_takes_line(struct wf_checkpoint *ck, wf_ino ino)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	if (!wf_edit_is_flat(ck) || wf_edit_place_of(ck, ino, &p) < 0 || wf_edit_is_scratch(ck, p.dir) ||
	    wf_edit_in_metadata(ck, p.dir))
		return true;
	/* on its way to a name whose type will tell what it is */
	return wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p.dir), p.position, name) && wf_name_is_passing(name);
}
