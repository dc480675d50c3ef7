/* Edits of extended attributes: dtype, shape, location, requires_grad. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "edit_impl.h"
#include "layout.h"
#include "util.h"
#include "value.h"

/* ---- texts ---- */

/* "[2, -1, 3]": sizes of 0 or more and at most one -1. */
static int parse_shape(const char *s, int64_t shape[WF_MAX_NDIM], uint32_t *ret_ndim, int *ret_free)
{
	uint32_t n = 0;
	*ret_free = -1;
	s += strspn(s, " \t\n");
	if (*s++ != '[')
		return -EINVAL;
	s += strspn(s, " \t\n");
	while (*s != ']') {
		char *end;
		if (n == WF_MAX_NDIM || (!isdigit((unsigned char)*s) && *s != '-'))
			return -EINVAL;
		errno = 0;
		long long v = strtoll(s, &end, 10);
		if (end == s || errno || v < -1 || (v == -1 && *ret_free >= 0))
			return -EINVAL;
		if (v == -1)
			*ret_free = (int)n;
		shape[n++] = v;
		s = end + strspn(end, " \t\n");
		if (*s == ',') {
			s += 1 + strspn(s + 1, " \t\n");
			if (*s == ']')
				return -EINVAL;
		} else if (*s != ']') {
			return -EINVAL;
		}
	}
	s++;
	s += strspn(s, " \t\n");
	*ret_ndim = n;
	return *s ? -EINVAL : 0;
}

/* Fills in the -1. -EINVAL when the sizes do not multiply to numel. */
static int fit_shape(int64_t *shape, uint32_t ndim, int free_dim, uint64_t numel)
{
	uint64_t product = 1;
	for (uint32_t i = 0; i < ndim; i++)
		if ((int)i != free_dim && wf_mul_u64(product, (uint64_t)shape[i], &product))
			return -EINVAL;
	if (free_dim >= 0) {
		if (product == 0 || numel % product)
			return -EINVAL;
		shape[free_dim] = (int64_t)(numel / product);
		return 0;
	}
	return product == numel ? 0 : -EINVAL;
}

static bool is_location(const char *s)
{
	size_t letters = strspn(s, "abcdefghijklmnopqrstuvwxyz_");
	if (letters == 0 || !strcmp(s, "meta"))
		return false;
	s += letters;
	if (*s == ':')
		s += strspn(s + 1, "0123456789") ? 1 + strspn(s + 1, "0123456789") : 0;
	return *s == '\0';
}

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

/* For content that is still to come: kept until its size fits. */
static int want(struct wf_file *f, const struct wf_tensor *t)
{
	int r = wf_edit_remember_form(f, t);
	if (r == 0)
		f->wanted = true;
	return r;
}

static int set_dtype(struct wf_checkpoint *ck, wf_ino ino, struct wf_file *f, struct wf_tensor *t, const char *value)
{
	enum wf_dtype dtype = wf_dtype_from_name(value);
	if (dtype == WF_DTYPE_INVALID)
		return -EINVAL;
	if (dtype == t->dtype) {
		f->untyped = false;
		return 0;
	}
	if (t->kind != WF_TENSOR_DENSE || t->conj || t->neg)
		return -EINVAL;
	bool empty = f->is_new && t->size_bytes == 0;
	int r = view_dtype(t, dtype);
	if (r < 0)
		return r;
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
	if (r == 0)
		r = wf_edit_reform(ck, ino, t);
	if (r == 0 && (empty || f->form))
		r = empty ? want(f, t) : wf_edit_remember_form(f, t);
	if (r == 0)
		f->untyped = false;
	return r;
}

/* The elements in a storage of their own, row by row: what reshape does where no view can say the new shape. */
static int make_contiguous(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	int r = wf_edit_loosen(ck, ino, t->size_bytes);
	if (r < 0)
		return r;
	struct wf_form form = {.dtype = t->dtype, .ndim = t->ndim};
	memcpy(form.shape, t->shape, t->ndim * sizeof *t->shape);
	r = wf_edit_settle_as(ck, ino, SETTLE_SWITCH, &form);
	if (r == 0 && f->writers == 0 && !f->wanted) {
		free(f->form);
		f->form = NULL;
	}
	return r < 0 ? r : wf_edit_tensor(ck, ino, t);
}

static int set_shape(struct wf_checkpoint *ck, wf_ino ino, struct wf_file *f, struct wf_tensor *t, const char *value)
{
	int64_t shape[WF_MAX_NDIM];
	uint32_t ndim;
	int free_dim;
	int r = parse_shape(value, shape, &ndim, &free_dim);
	if (r < 0)
		return r;
	if (f->is_new && t->size_bytes == 0 && free_dim < 0 && fit_shape(shape, ndim, -1, 0) < 0) {
		struct wf_tensor wanted = *t;
		wanted.ndim = ndim;
		memcpy(wanted.shape, shape, ndim * sizeof *shape);
		f->untyped = false;
		return want(f, &wanted);
	}
	r = fit_shape(shape, ndim, free_dim, t->numel);
	if (r < 0)
		return r;
	if (t->kind != WF_TENSOR_DENSE)
		return -EINVAL;
	if (!t->contiguous) {
		if (ck->edits->replaying)
			return -EINVAL; /* a live edit made it contiguous first, with records of its own */
		r = make_contiguous(ck, ino, t);
		if (r < 0)
			return r;
	}
	int64_t step = 1;
	t->ndim = ndim;
	for (uint32_t d = ndim; d-- > 0;) {
		t->shape[d] = shape[d];
		t->stride[d] = step;
		step *= shape[d] ? shape[d] : 1;
	}
	r = wf_edit_reform(ck, ino, t);
	if (r == 0 && f->form)
		r = wf_edit_remember_form(f, t);
	if (r == 0)
		f->untyped = false;
	return r;
}

/* ---- the others ---- */

static int set_location(struct wf_checkpoint *ck, const struct wf_tensor *t, const char *value)
{
	if (!is_location(value))
		return -EINVAL;
	if (t->kind != WF_TENSOR_DENSE && t->kind != WF_TENSOR_STORAGE)
		return -EINVAL;
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	if (!strcmp(value, wf_storage_location(ck->storages, t->storage)))
		return 0;
	ck->edits->reformed = true;
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
	const char *name = wf_dtype_info(t->dtype)->name;
	if (!g.value && strcmp(value, "false") != 0)
		return -EINVAL;
	if (g.value && strncmp(name, "float", 5) && strncmp(name, "bfloat", 6) && strncmp(name, "complex", 7))
		return -EINVAL; /* torch: only floating point and complex tensors can require gradients */
	if (g.value == t->requires_grad)
		return 0;
	ck->edits->reformed = true;
	return wf_edit_each_entry(ck, ino, set_grad_entry, &g);
}

static bool is_known(const char *name)
{
	static const char *const names[] = {"class",  "key",         "stride",   "storage",      "storage_offset",
					    "device", "file_offset", "qscheme",  "scale",        "zero_point",
					    "dtype",  "shape",       "location", "requires_grad"};
	if (!strcmp(name, "user.numpy.descr"))
		return true;
	for (size_t i = 0; i < WF_ARRAY_SIZE(names); i++)
		if (!strncmp(name, "user.torch.", 11) && !strcmp(name + 11, names[i]))
			return true;
	return false;
}

int wf_apply_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = n ? wf_edit_file(ck, ino) : NULL;
	struct wf_tensor t;
	if (!f)
		return n ? -ENOMEM : -ENOENT;
	bool is_tensor = n->type == WF_NODE_TENSOR && wf_edit_tensor(ck, ino, &t) == 0;
	if (!is_known(name))
		return -EOPNOTSUPP;
	if (is_tensor && !strcmp(name, "user.torch.dtype"))
		return set_dtype(ck, ino, f, &t, value);
	if (is_tensor && !strcmp(name, "user.torch.shape"))
		return set_shape(ck, ino, f, &t, value);
	if (is_tensor && !strcmp(name, "user.torch.location"))
		return set_location(ck, &t, value);
	if (is_tensor && !strcmp(name, "user.torch.requires_grad"))
		return set_requires_grad(ck, ino, &t, value);
	if (!f->is_new)
		return -EPERM;
	if (!strcmp(name, "user.torch.key"))
		return wf_edit_set_key(ck, ino, value);
	return !strcmp(name, "user.torch.class") ? wf_edit_set_class(ck, ino, value) : 0;
}

/* ---- the front door ---- */

/* Where the bytes are now is no part of the checkpoint: nothing is logged. */
static int set_device(struct wf_checkpoint *ck, wf_ino ino, const char *value)
{
	struct wf_tensor t;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	int r = wf_edit_settle(ck, ino, true);
	if (r == 0 && (!ck->placement || n->type != WF_NODE_TENSOR))
		r = -EOPNOTSUPP;
	if (r == 0)
		r = wf_edit_tensor(ck, ino, &t);
	if (r < 0)
		return r;
	return t.storage == WF_NO_STORAGE ? -EOPNOTSUPP : wf_placement_move(ck->placement, t.storage, value);
}

static int set_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	int r = wf_edit_settle(ck, ino, true);
	if (r == 0)
		r = wf_apply_attribute(ck, ino, name, value);
	if (r < 0)
		return r;
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_file(ck, b, ino);
	wf_put_text(b, name, strlen(name));
	wf_put_text(b, value, strlen(value));
	if (r == -ENOENT)
		return 0; /* an orphan, or the root: nothing that a log could name */
	return r < 0 ? r : wf_edit_record(ck, EDIT_ATTRIBUTE, wf_edit_pending(ck, ino));
}

static bool has_value(struct wf_checkpoint *ck, wf_ino ino, const char *name, const void *value, size_t len)
{
	struct wf_buffer now = WF_BUFFER_INIT;
	bool has = wf_getxattr(ck, ino, name, &now) == 0 && now.len == len &&
		   (len == 0 || !memcmp(now.data, value, len));
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
	if (r == 0) {
		memcpy(text, value, len);
		text[len] = '\0';
		while (len > 0 && text[len - 1] == '\n')
			text[--len] = '\0';
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
	bool is_new = f && f->is_new;
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
	if (r == -ENODATA && is_known(name) && is_new_file(ck, ino))
		return 0; /* rsync lists what a new file has, sets what it knows, removes the rest: gone with the type */
	return r == 0 ? -EPERM : r;
}
