/* SPDX-License-Identifier: MIT */
/* Edits of extended attributes: dtype, shape, location, requires_grad. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/edit/shard_inner.h"
#include "codec/tensor/layout.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

/* ---- dtype and shape ---- */

/* Every PERSID of the storage belongs to a name of this file. */
static bool only_ties(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t)
{
	struct wf_tensor other;
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	if (s->persids <= 1)
		return true;
	for (wf_ino i = 1; i <= wf_tree_node_count(ck->tree); i++) {
		const struct wf_node *n = wf_tree_node(ck->tree, i);
		if (i != ino && n && n->type == WF_NODE_TENSOR && n->nlink > 0 && wf_edit_tensor(ck, i, &other) == 0 &&
		    other.storage == t->storage)
			return false;
	}
	return true;
}

/* As Tensor.view(dtype): the last dimension takes the change of the element size. */
static int view_dtype(struct wf_tensor *t, enum wf_dtype dtype)
{
	uint64_t old = wf_dtype_info(t->dtype)->size_bytes, new = wf_dtype_info(dtype)->size_bytes;
	if (wf_dtype_info(t->dtype)->quantised || wf_dtype_info(dtype)->quantised ||
	    wf_dtype_info(dtype)->values_per_byte > 1)
		return -EINVAL;
	t->dtype = dtype;
	if (old == new)
		return 0;
	if (t->ndim == 0 || t->stride[t->ndim - 1] != 1 || t->offset_elems * old % new)
		return -EINVAL;
	uint64_t bytes = (uint64_t)t->shape[t->ndim - 1] * old;
	if (bytes % new)
		return -EINVAL;
	for (uint32_t i = 0; i + 1 < t->ndim; i++) {
		if ((uint64_t)t->stride[i] * old % new)
			return -EINVAL;
		t->stride[i] = (int64_t)((uint64_t)t->stride[i] * old / new);
	}
	t->shape[t->ndim - 1] = (int64_t)(bytes / new);
	t->offset_elems = t->offset_elems * old / new;
	return 0;
}

static int set_dtype(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t, const char *value)
{
	enum wf_dtype dtype = wf_dtype_from_name(value);
	if (dtype == WF_DTYPE_INVALID)
		return -EINVAL;
	if (dtype == t->dtype)
		return 0;
	bool array = t->kind == WF_TENSOR_NUMPY && t->contiguous && !t->swap;
	if ((t->kind != WF_TENSOR_DENSE && !array) || t->conj || t->neg)
		return -EINVAL;
	int r = view_dtype(t, dtype);
	if (r < 0 || array)
		return r < 0 ? r : wf_edit_change_type(ck, ino, t);
	/* one storage has one class, and torch.save refuses views of it that disagree; untyped ones say their own dtype
	 */
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	bool own_class = wf_dtype_info(dtype)->storage_class == NULL;
	if (only_ties(ck, ino, t)) {
		if (!own_class || !s->untyped)
			r = wf_storage_set_form(ck->storages, t->storage, dtype, NULL);
	} else if (!own_class) {
		r = -EINVAL;
	}
	return r < 0 ? r : wf_edit_change_type(ck, ino, t);
}

/* The elements in a storage of their own, row by row: what reshape does where no view can say the new shape. */
static int make_contiguous(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t)
{
	int r = wf_edit_hold(ck, ino, t->size_bytes);
	if (r < 0)
		return r;
	struct wf_tensor_type type = wf_tensor_type_of(t);
	r = wf_edit_settle_as(ck, ino, SETTLE_SWITCH, &type);
	if (r == 0 && wf_edit_known(ck, ino)->writers == 0)
		wf_edit_forget_old(ck, ino);
	return r < 0 ? r : wf_edit_tensor(ck, ino, t);
}

static int set_shape(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t, const char *value)
{
	struct wf_tensor_type type = {.dtype = t->dtype};
	int free_dim;
	int r = wf_shape_parse(value, type.shape, &type.ndim, &free_dim);
	if (r == 0)
		r = wf_shape_fit(type.shape, type.ndim, free_dim, t->numel);
	if (r < 0 || wf_tensor_has_type(&type, t))
		return r;
	if (t->kind != WF_TENSOR_DENSE && t->kind != WF_TENSOR_NUMPY)
		return -EINVAL;
	if (!t->contiguous) {
		/* a live edit made it contiguous first, with records of its own */
		r = ck->edits->replaying || t->kind == WF_TENSOR_NUMPY ? -EINVAL : make_contiguous(ck, ino, t);
		if (r < 0)
			return r;
	}
	uint64_t offset = t->offset_elems;
	wf_tensor_set_type(t, &type, t->storage);
	t->offset_elems = offset;
	return wf_edit_change_type(ck, ino, t);
}

/* ---- the others ---- */

static int set_location(struct wf_checkpoint *ck, const struct wf_tensor *t, const char *value)
{
	if (!wf_is_location(value))
		return -EINVAL;
	if (t->kind != WF_TENSOR_DENSE && t->kind != WF_TENSOR_STORAGE)
		return -EINVAL;
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	if (!strcmp(value, wf_storage_location(ck->storages, t->storage)))
		return 0;
	ck->edits->types_changed = true;
	/* an untyped class has the table's name of a dtype without one */
	return wf_storage_set_form(ck->storages, t->storage, s->untyped ? WF_UINT16 : (enum wf_dtype)s->dtype, value);
}

struct grad {
	struct wf_checkpoint *ck;
	bool value;
};

static int set_grad_entry(void *ctx, wf_ino dir, uint32_t position)
{
	struct grad *g = ctx;
	struct wf_tensor t;
	wf_ref object = wf_tree_dir(g->ck->tree, dir)->entries[position].value;
	int r = wf_tensor_decode(g->ck->graph, g->ck->storages, object, &t, NULL);
	return r < 0 ? r : wf_tensor_set_requires_grad(g->ck->graph, &t, g->value);
}

static int set_requires_grad(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t, const char *value)
{
	struct grad g = {ck, !strcmp(value, "true")};
	if (!g.value && strcmp(value, "false") != 0)
		return -EINVAL;
	if (g.value && !wf_dtype_takes_grad(t->dtype))
		return -EINVAL; /* torch: only floating point and complex tensors can require gradients */
	if (g.value == t->requires_grad)
		return 0;
	int r = wf_edit_each_entry(ck, ino, set_grad_entry, &g);
	ck->edits->types_changed |= r == 0;
	return r;
}

/* Those that only report: tools that copy attributes set them as well. */
static bool only_reports(const char *name)
{
	static const char *const names[] = {"user.torch.stride",      "user.torch.storage", "user.torch.storage_offset",
					    "user.torch.file_offset", "user.torch.key",     "user.torch.shard",
					    "user.numpy.descr"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static bool is_known(const char *name)
{
	return only_reports(name) || !strcmp(name, "user.torch.device") || wf_declared_check(name, "0") != -ENODATA;
}

/* A tensor becomes a Parameter, or no more than a tensor. */
static int set_tensor_class(struct wf_checkpoint *ck, wf_ino ino, bool parameter)
{
	struct wf_tensor t;
	wf_ref object;
	int r = wf_edit_tensor(ck, ino, &t);
	if (r < 0)
		return r;
	if (t.kind != WF_TENSOR_DENSE || !t.contiguous || t.conj || t.neg || t.type != WF_NIL || t.quantizer != WF_NIL)
		return -EINVAL;
	t.parameter = parameter;
	r = wf_edit_make_object(ck, &t, &object);
	return r < 0 ? r : wf_edit_set_object(ck, ino, object);
}

/* An attribute of a tensor that is all there, as Tensor.view and reshape would do it. */
static int apply_to_tensor(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	struct wf_tensor t;
	int r = wf_edit_tensor(ck, ino, &t);
	if (r < 0)
		return r;
	if (!strcmp(name, "user.torch.dtype"))
		return set_dtype(ck, ino, &t, value);
	if (!strcmp(name, "user.torch.shape"))
		return set_shape(ck, ino, &t, value);
	if (!strcmp(name, "user.torch.location"))
		return set_location(ck, &t, value);
	if (!strcmp(name, "user.torch.class") && !strncmp(value, "torch.", 6))
		return !strcmp(value, "torch.Tensor") || !strcmp(value, "torch.nn.parameter.Parameter")
			       ? set_tensor_class(ck, ino, strcmp(value, "torch.Tensor") != 0)
			       : -EINVAL;
	return strcmp(name, "user.torch.requires_grad") ? -EINVAL : set_requires_grad(ck, ino, &t, value);
}

int wf_apply_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!n)
		return -ENOENT;
	if (!strcmp(name, "user.torch.key"))
		return wf_edit_set_key(ck, ino, value);
	if (!strcmp(name, "user.torch.shard"))
		return wf_apply_shard(ck, ino, value);
	if (n->type == WF_NODE_DIR)
		return wf_apply_to_directory(ck, ino, name, value);
	return n->type == WF_NODE_TENSOR ? apply_to_tensor(ck, ino, name, value) : -EINVAL;
}

/* ---- the front door ---- */

static bool has_text(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	struct wf_buffer now = WF_BUFFER_INIT;
	bool has = wf_attribute_text(ck, ino, name, &now) == 0 && now.data && !strcmp(now.data, value);
	wf_buffer_free(&now);
	return has;
}

/* Where the bytes are now is no part of the checkpoint: nothing is logged. */
static int set_device(struct wf_checkpoint *ck, wf_ino ino, const char *value)
{
	struct wf_tensor t;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	const struct wf_file *f = wf_edit_known(ck, ino);
	/* tools that copy attributes set it, too, on what has no place yet */
	if ((f && (f->is_new || f->pending != PENDING_NOT)) || has_text(ck, ino, "user.torch.device", value))
		return 0;
	int r = !ck->placement || n->type != WF_NODE_TENSOR ? -EOPNOTSUPP : wf_edit_tensor(ck, ino, &t);
	if (r < 0)
		return r;
	return t.storage == WF_NO_STORAGE ? -EOPNOTSUPP : wf_placement_move(ck->placement, t.storage, value);
}

static int apply_and_record(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	bool content = wf_tree_node(ck->tree, ino)->type == WF_NODE_TENSOR && strcmp(name, "user.torch.key") != 0;
	int r = content ? wf_edit_part(ck, ino) : 0;
	if (r >= 0)
		r = wf_edit_tell_old(ck, ino);
	if (r == 0)
		r = wf_apply_attribute(ck, ino, name, value);
	return r < 0 ? r : wf_edit_record_setting(ck, EDIT_ATTRIBUTE, ino, name, value);
}

/* What was declared, and what it made of the shape of what is there already. */
static int declare_as_it_is(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	bool type = !strcmp(name, "user.torch.dtype") || !strcmp(name, "user.torch.shape");
	int r = wf_edit_declare(ck, ino, name, value);
	return r < 0 || !type ? r : wf_edit_declare_type(ck, ino);
}

/* Content that is new, empty or in a writer's hands: attributes say what it is to be, and one that does not fit yet waits. */
static int set_for_content(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!strcmp(name, "user.torch.class") && !wf_edit_makes_class(ck->graph, value) && f->writers == 0)
		return wf_refuse(ck, -EINVAL, "no content becomes a %s", value);
	bool there = wf_tree_node(ck->tree, ino)->type == WF_NODE_TENSOR && f->pending == PENDING_NOT &&
		     strcmp(name, "user.torch.class") != 0;
	bool type = !strcmp(name, "user.torch.dtype") || !strcmp(name, "user.torch.shape");
	/* a shape that waits for its dtype, or a dtype for its scale, is not to be lost to a view of what there is so far;
	 * what an entry that took its name's type is beside them waits for nothing, and its content would not bring it */
	if (there && (f->declared_fits || !f->declared || (!f->is_new && !type)) &&
	    apply_and_record(ck, ino, name, value) == 0)
		/* an old one that nobody writes has it, and waits for nothing */
		return f->is_new || f->writers > 0 ? declare_as_it_is(ck, ino, name, value) : 0;
	int r = wf_edit_declare(ck, ino, name, value);
	f->declared_fits = false;
	f->touched |= r == 0;
	if (r == 0)
		r = wf_edit_tell_known(ck, ino);
	if (r < 0 || f->writers > 0 || f->sized)
		return r;
	r = wf_edit_end_writing(ck, ino);
	return r == -EINVAL ? 0 : r;
}

/* A value of another class: its text is read anew. */
static int set_class(struct wf_checkpoint *ck, wf_ino ino, const char *value)
{
	if (wf_class_example(ck->graph, value) == WF_NIL)
		return wf_refuse(ck, -EINVAL, "no text becomes a %s", value);
	struct wf_wanted w = {.kind = WANT_VALUE,
			      .insists = true,
			      .declared = true,
			      .shown = true,
			      .like = wf_class_example(ck->graph, value)};
	int r = wf_edit_judge_as(ck, ino, &w);
	wf_edit_notify_changed(ck, ino);
	wf_edit_rest(ck, ino);
	return r;
}

/* The shape that the tensor has, whatever its content is on the way to: a copy that empties it first says so before the bytes come. */
static bool is_own_shape(const struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	struct wf_tensor t;
	int64_t shape[WF_MAX_NDIM];
	uint32_t ndim;
	int free_dim;
	return !strcmp(name, "user.torch.shape") && wf_shape_parse(value, shape, &ndim, &free_dim) == 0 &&
	       wf_edit_tensor(ck, ino, &t) == 0 && ndim == t.ndim && !memcmp(shape, t.shape, ndim * sizeof *shape);
}

static int set_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = wf_edit_file(ck, ino);
	if (!f)
		return -ENOMEM;
	if (!is_known(name))
		return -EOPNOTSUPP;
	if (!strcmp(name, "user.torch.key"))
		return f->is_new ? apply_and_record(ck, ino, name, value) : 0;
	if (!strcmp(name, "user.torch.shard") && wf_container_kind_of(ck->container) == WF_CONTAINER_HUGGINGFACE)
		return has_text(ck, ino, name, value) ? 0 : wf_edit_set_shard(ck, ino, value);
	if (only_reports(name) && !wf_declares_record(f, name, value))
		return 0;
	if (wf_edit_is_flat(ck) && !strcmp(name, "user.numpy.descr"))
		return wf_refuse(ck, -EINVAL, "a safetensors file cannot hold elements of %s", value);
	if (!strcmp(name, "user.torch.dtype") &&
	    !wf_container_holds(ck->container, ck->graph, wf_dtype_from_name(value)))
		return wf_refuse(ck, -EINVAL, "%s cannot hold elements of %s",
				 wf_edit_is_flat(ck) ? "a safetensors file"
				 : wf_container_kind_of(ck->container) == WF_CONTAINER_LEGACY
					 ? "a checkpoint of the legacy format"
					 : "this pickle",
				 value);
	if (!has_text(ck, ino, name, value)) {
		int said = wf_edit_check_attribute(ck, ino, name, value);
		if (said < 0)
			return said;
	}
	if (wf_edit_is_kept(ck, ino) && (has_text(ck, ino, name, value) || is_own_shape(ck, ino, name, value)))
		return 0;
	int kept = wf_edit_check_pickle(ck, ino);
	if (kept < 0)
		return kept;
	if (n->type == WF_NODE_DIR)
		return has_text(ck, ino, name, value) ? 0 : wf_edit_set_of_directory(ck, ino, name, value);
	if (!strcmp(name, WF_ASSEMBLY))
		return wf_refuse(ck, -EINVAL, "a tensor that has parts is a directory");
	if (n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		return -EPERM;
	int r = wf_declared_check(name, value);
	if (r < 0)
		return r;
	bool waits = f->is_new || f->pending != PENDING_NOT || wf_edit_size(ck, ino) == 0;
	if (!waits && has_text(ck, ino, name, value))
		return 0;
	if (waits)
		return set_for_content(ck, ino, name, value);
	if (!strcmp(name, "user.torch.class") && n->type == WF_NODE_VALUE)
		r = set_class(ck, ino, value);
	else
		r = apply_and_record(ck, ino, name, value);
	/* while somebody writes, what does not fit yet waits; whoever wrote nothing and closed it does not write */
	return r == -EINVAL && f->writers > 0 && (f->in_hand > 0 || f->touched) ? set_for_content(ck, ino, name, value)
										: r;
}

static bool has_value(struct wf_checkpoint *ck, wf_ino ino, const char *name, const void *value, size_t len)
{
	struct wf_buffer now = WF_BUFFER_INIT;
	bool has =
		wf_getxattr(ck, ino, name, &now) == 0 && now.len == len && (len == 0 || !memcmp(now.data, value, len));
	wf_buffer_free(&now);
	return has;
}

int wf_setxattr(struct wf_checkpoint *ck, uint32_t ino, const char *name, const void *value, size_t len, int flags)
{
	char text[4096];
	if (strncmp(name, "user.torch.", 11) && strncmp(name, "user.numpy.", 11))
		return ck->writable ? -EOPNOTSUPP : -EROFS;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!n)
		r = -ENOENT;
	else if (flags & XATTR_CREATE && is_known(name) && n->type == WF_NODE_TENSOR)
		r = -EEXIST;
	else if (len >= sizeof text || memchr(value, 0, len))
		r = -EINVAL;
	if (r == 0)
		r = wf_edit_end_round(ck, ino);
	if (r == 0) {
		memcpy(text, value, len);
		text[len] = '\0';
		while (len > 0 && text[len - 1] == '\n')
			text[--len] = '\0';
		r = wf_edit_touch_file(ck, ino); /* what stands there is going to change before it is named */
	}
	if (r == 0) {
		r = strcmp(name, "user.torch.device") ? set_attribute(ck, ino, name, text) : set_device(ck, ino, text);
		if (r == 0)
			wf_edit_stamp(ck, ino, false);
	}
	wf_edit_end(ck);
	/* tools that copy attributes over an entry that is there set what it has already */
	return r == -EPERM && has_value(ck, ino, name, value, len) ? 0 : r;
}

static bool is_new_file(struct wf_checkpoint *ck, wf_ino ino)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool is_new = f && (f->is_new || f->pending != PENDING_NOT);
	pthread_rwlock_unlock(&ck->lock);
	return is_new;
}

int wf_removexattr(struct wf_checkpoint *ck, uint32_t ino, const char *name)
{
	struct wf_buffer now = WF_BUFFER_INIT;
	if (!ck->writable)
		return -EROFS;
	/* none of them can be without a value */
	int r = wf_getxattr(ck, ino, name, &now);
	wf_buffer_free(&now);
	if ((r == 0 || r == -ENODATA) && is_known(name) && is_new_file(ck, ino))
		return 0; /* rsync lists what a new file has, sets what it knows, removes the rest: gone with the type */
	return r == 0 ? -EPERM : r;
}
