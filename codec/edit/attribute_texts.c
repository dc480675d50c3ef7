/* SPDX-License-Identifier: MIT */
/* Extended attributes: texts about a node, made when asked for. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/edit/state.h"
#include "codec/tensor/assembly.h"
#include "codec/tensor/layout.h"
#include "codec/tensor/numpy_dtype.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

/* ---- one function an attribute: appends the text; -ENODATA where the node has no such thing ---- */

struct subject {
	struct wf_checkpoint *ck;
	wf_ino ino;
	const struct wf_node *node;
	bool is_tensor;  /* decodes */
	bool is_objects; /* an array of objects, of which t has the shape alone */
	struct wf_tensor t;
};

static int get_dtype(const struct subject *s, struct wf_buffer *out)
{
	if (s->is_objects)
		wf_buffer_puts(out, "object");
	else
		wf_tensor_dtype_name(s->ck->graph, &s->t, out);
	return 0;
}

static int get_shape(const struct subject *s, struct wf_buffer *out)
{
	wf_json_ints(out, s->t.shape, wf_tensor_shown_ndim(&s->t));
	return 0;
}

static int get_stride(const struct subject *s, struct wf_buffer *out)
{
	int64_t stride[WF_MAX_NDIM];
	wf_tensor_shown_stride(&s->t, stride);
	wf_json_ints(out, stride, wf_tensor_shown_ndim(&s->t));
	return 0;
}

static int get_storage(const struct subject *s, struct wf_buffer *out)
{
	const char *key = wf_storage_key(s->ck->storages, s->t.storage);
	if (s->t.storage == WF_NO_STORAGE || !key[0])
		return -ENODATA;
	wf_buffer_puts(out, key);
	return 0;
}

static int get_storage_offset(const struct subject *s, struct wf_buffer *out)
{
	wf_buffer_printf(out, "%llu", (unsigned long long)s->t.offset_elems);
	return 0;
}

static int get_location(const struct subject *s, struct wf_buffer *out)
{
	if (s->t.kind == WF_TENSOR_META)
		wf_buffer_puts(out, "meta");
	else if (s->t.kind == WF_TENSOR_NUMPY)
		wf_buffer_puts(out, "cpu");
	else
		wf_buffer_puts(out, wf_storage_location(s->ck->storages, s->t.storage));
	return 0;
}

static int get_device(const struct subject *s, struct wf_buffer *out)
{
	if (s->t.kind == WF_TENSOR_META)
		return -ENODATA; /* there are no bytes to be anywhere */
	const char *device = wf_placement_device(s->ck->placement, s->t.storage);
	wf_buffer_puts(out, device ? device : "file");
	return 0;
}

static int get_requires_grad(const struct subject *s, struct wf_buffer *out)
{
	wf_buffer_puts(out, s->t.requires_grad ? "true" : "false");
	return 0;
}

static int get_descr(const struct subject *s, struct wf_buffer *out)
{
	const char *descr = s->is_objects ? "|O" : wf_dtype_info(s->t.dtype)->numpy_descr;
	if (!s->is_objects && s->t.record != WF_NIL) {
		wf_numpy_dtype_descr(s->ck->graph, s->t.record, out);
		return 0;
	}
	if (!descr)
		return -ENODATA;
	wf_buffer_puts(out, descr);
	return 0;
}

static int get_file_offset(const struct subject *s, struct wf_buffer *out)
{
	struct wf_file_run run;
	if (!wf_tensor_locate(s->ck->storages, &s->t, &run))
		return -ENODATA;
	wf_buffer_printf(out, "%llu", (unsigned long long)run.offset);
	wf_file_run_end(&run);
	return 0;
}

/* The files of a checkpoint in several that hold bytes of the tensor's storage, or the one that it is going to. */
static int get_shard(const struct subject *s, struct wf_buffer *out)
{
	const char *asked = wf_edits_shard(s->ck, s->ino);
	if (asked) {
		wf_buffer_puts(out, asked);
		return 0;
	}
	const struct wf_storage *storage = wf_storage_get(s->ck->storages, s->t.storage);
	uint32_t record = storage ? storage->record : WF_NO_RECORD, k = 0;
	for (const char *name; (name = wf_container_shard(s->ck->container, record, k)); k++) {
		wf_buffer_puts(out, k ? ", " : "");
		wf_buffer_puts(out, name);
	}
	return k > 0 ? 0 : -ENODATA;
}

static int get_qscheme(const struct subject *s, struct wf_buffer *out)
{
	if (s->t.quantizer == WF_NIL)
		return -ENODATA;
	wf_buffer_puts(out, wf_global_name(s->ck->graph, wf_element(s->ck->graph, s->t.quantizer, 0)));
	return 0;
}

static int get_quantizer_value(const struct subject *s, uint32_t part, struct wf_buffer *out)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	wf_ref value = s->t.quantizer == WF_NIL ? WF_NIL : wf_element(s->ck->graph, s->t.quantizer, part);
	int r = value == WF_NIL || wf_value_form_of(s->ck->graph, value) == WF_VALUE_NOT
			? -ENODATA
			: wf_value_text(s->ck->graph, value, &text);
	if (r == 0 && text.len > 0)
		wf_buffer_append(out, text.data, text.len - 1); /* without its newline */
	wf_buffer_free(&text);
	return r;
}

static int get_scale(const struct subject *s, struct wf_buffer *out)
{
	return get_quantizer_value(s, 1, out);
}

static int get_zero_point(const struct subject *s, struct wf_buffer *out)
{
	return get_quantizer_value(s, 2, out);
}

static int get_assembly(const struct subject *s, struct wf_buffer *out)
{
	if (s->node->type != WF_NODE_DIR || s->node->object == WF_NIL)
		return -ENODATA;
	return wf_assembly_text(s->ck->graph, s->ck->storages, s->node->object, out);
}

static int get_class(const struct subject *s, struct wf_buffer *out)
{
	char name[256];
	const char *names[5], *shown = name;
	wf_ref object = s->node->object, parts[5];
	if (!s->is_tensor && object != WF_NIL && wf_tensor_components(s->ck->graph, object, names, parts))
		/* sparse, nested, quantised per channel: one tensor, though shown as a directory */
		snprintf(name, sizeof name, "torch.%s",
			 strstr(wf_global_name(s->ck->graph, wf_call_func(s->ck->graph, object)), "arameter")
				 ? "nn.parameter.Parameter"
				 : "Tensor");
	else if (s->is_tensor)
		shown = wf_tensor_class(s->ck->graph, &s->t, name, sizeof name);
	else if (object == WF_NIL)
		return -ENODATA; /* the root directory of a checkpoint that is one value; a scratch file */
	else
		wf_class_name(s->ck->graph, object, name, sizeof name);
	wf_buffer_puts(out, shown);
	return 0;
}

static void put_key(const struct wf_checkpoint *ck, const struct wf_dir *d, uint32_t position, struct wf_buffer *out)
{
	if (d->kind == WF_DIR_SEQUENCE)
		wf_buffer_printf(out, "%u", position);
	else
		wf_json_key(ck->graph, d->entries[position].key, out);
}

struct key_of {
	const struct wf_checkpoint *ck;
	struct wf_buffer *out;
};

static int put_first(void *ctx, wf_ino dir, uint32_t position)
{
	const struct key_of *k = ctx;
	put_key(k->ck, wf_tree_dir(k->ck->tree, dir), position, k->out);
	return 1;
}

/* The name that stood in the directory which the node knows of is gone, and others are left. */
static int get_key_elsewhere(const struct subject *s, struct wf_buffer *out)
{
	struct key_of k = {s->ck, out};
	return s->ck->edits && wf_edit_each_entry(s->ck, s->ino, put_first, &k) == 1 ? 0 : -ENODATA;
}

static int get_key(const struct subject *s, struct wf_buffer *out)
{
	if (s->ino == WF_INO_ROOT)
		return -ENODATA;
	const struct wf_dir *d = wf_tree_dir(s->ck->tree, s->node->parent);
	if (!d || d->count == 0)
		return get_key_elsewhere(s, out);
	/* numbers were given in the order of the entries: in a directory of files only this is the place */
	uint32_t i = s->ino - d->entries[0].ino;
	if (s->node->nlink > 1 || i >= d->count || d->entries[i].ino != s->ino)
		for (i = 0; i < d->count && d->entries[i].ino != s->ino;)
			i++;
	if (i == d->count)
		return get_key_elsewhere(s, out);
	put_key(s->ck, d, i, out);
	return 0;
}

static const struct {
	const char *name;
	enum {
		ANYTHING,
		TENSORS,
		ARRAYS,
		STORED
	} of; /* ARRAYS: of objects, too; STORED: of tensors that cannot be read, too */
	int (*get)(const struct subject *s, struct wf_buffer *out);
} attributes[] = {
	{"user.torch.dtype", ARRAYS, get_dtype},
	{"user.torch.shape", ARRAYS, get_shape},
	{"user.torch.stride", TENSORS, get_stride},
	{"user.torch.storage", TENSORS, get_storage},
	{"user.torch.storage_offset", TENSORS, get_storage_offset},
	{"user.torch.location", TENSORS, get_location},
	{"user.torch.device", TENSORS, get_device},
	{"user.torch.requires_grad", TENSORS, get_requires_grad},
	{WF_ASSEMBLY, ANYTHING, get_assembly}, /* before the class, as those that copy attributes sort them, too */
	{"user.torch.class", ANYTHING, get_class},
	{"user.torch.key", ANYTHING, get_key},
	{"user.torch.file_offset", TENSORS, get_file_offset},
	{"user.torch.shard", STORED, get_shard},
	{"user.torch.qscheme", TENSORS, get_qscheme},
	{"user.torch.scale", TENSORS, get_scale},
	{"user.torch.zero_point", TENSORS, get_zero_point},
	{"user.numpy.descr", ARRAYS, get_descr},
};

static bool has(const struct subject *s, size_t i)
{
	return attributes[i].of == ANYTHING || s->is_tensor || (attributes[i].of == ARRAYS && s->is_objects) ||
	       (attributes[i].of == STORED && s->node->type == WF_NODE_TENSOR);
}

static int subject_of(struct wf_checkpoint *ck, wf_ino ino, struct subject *s)
{
	s->ck = ck;
	s->ino = ino;
	s->node = wf_tree_node(ck->tree, ino);
	if (!s->node)
		return -ENOENT;
	s->t.storage = WF_NO_STORAGE;
	s->is_tensor = s->node->type == WF_NODE_TENSOR &&
		       (wf_tensor_decode(ck->graph, ck->storages, s->node->object, &s->t, NULL) == 0 ||
			(ck->edits && wf_edits_is_pending(ck, ino)));
	if (s->is_tensor)
		wf_edits_pending_type(ck, ino, &s->t);
	s->is_objects = false;
	if (!s->is_tensor && s->node->object != WF_NIL && s->node->type != WF_NODE_LINK) {
		s->is_objects = wf_numpy_objects(ck->graph, s->node->object, s->t.shape, &s->t.ndim) != WF_NIL;
		s->t.record = WF_NIL;
	}
	return 0;
}

int wf_attribute_text(struct wf_checkpoint *ck, wf_ino ino, const char *name, struct wf_buffer *ret)
{
	struct subject s;
	int r = subject_of(ck, ino, &s);
	for (size_t i = 0; r == 0; i++) {
		if (i == WF_ARRAY_SIZE(attributes))
			r = -ENODATA;
		else if (!strcmp(attributes[i].name, name)) {
			r = !has(&s, i) ? -ENODATA : attributes[i].get(&s, ret);
			break;
		}
	}
	return r < 0 ? r : wf_buffer_status(ret);
}

int wf_getxattr(struct wf_checkpoint *ck, uint32_t ino, const char *name, struct wf_buffer *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_attribute_text(ck, ino, name, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_key(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_buffer *ret)
{
	uint32_t position;
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	int r = !d ? -ENOENT : d->count == 0 ? -ENODATA : wf_tree_lookup(ck->tree, dir, name, &position);
	if (r == 0)
		put_key(ck, d, position, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r < 0 ? r : wf_buffer_status(ret);
}

int wf_key_class(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_buffer *ret)
{
	char class[256];
	uint32_t position;
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	int r = !d ? -ENOENT : d->count == 0 ? -ENODATA : wf_tree_lookup(ck->tree, dir, name, &position);
	if (r == 0 && (d->kind == WF_DIR_SEQUENCE || wf_json_key_is_whole(ck->graph, d->entries[position].key)))
		r = -ENODATA;
	if (r == 0) {
		wf_class_name(ck->graph, d->entries[position].key, class, sizeof class);
		wf_buffer_puts(ret, class);
	}
	pthread_rwlock_unlock(&ck->lock);
	return r < 0 ? r : wf_buffer_status(ret);
}

int wf_listxattr(struct wf_checkpoint *ck, uint32_t ino, int (*each)(void *ctx, const char *name), void *ctx)
{
	struct subject s;
	pthread_rwlock_rdlock(&ck->lock);
	int r = subject_of(ck, ino, &s);
	/* Linux lets nobody read user attributes of a symbolic link: tools complain about names without a value */
	size_t count = r == 0 && s.node->type == WF_NODE_LINK ? 0 : WF_ARRAY_SIZE(attributes);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct wf_buffer text = WF_BUFFER_INIT;
		if (has(&s, i) && attributes[i].get(&s, &text) == 0)
			r = each(ctx, attributes[i].name);
		wf_buffer_free(&text);
	}
	pthread_rwlock_unlock(&ck->lock);
	return r;
}
