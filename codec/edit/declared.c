/* SPDX-License-Identifier: MIT */
/* Attributes that declare what content is to be before it can be judged by them: in any order, and before the content is there.
 * They are kept as they were given until the entry is emptied or committed. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"
#include "codec/tensor/numpy_dtype.h"
#include "codec/value/text.h"

struct wf_declared {
	char *value[DECLARED_COUNT];
};

static const char *const names[DECLARED_COUNT] = {
	[DECLARED_CLASS] = "user.torch.class",        [DECLARED_DTYPE] = "user.torch.dtype",
	[DECLARED_SHAPE] = "user.torch.shape",        [DECLARED_LOCATION] = "user.torch.location",
	[DECLARED_GRAD] = "user.torch.requires_grad", [DECLARED_QSCHEME] = "user.torch.qscheme",
	[DECLARED_SCALE] = "user.torch.scale",        [DECLARED_ZERO] = "user.torch.zero_point",
	[DECLARED_DESCR] = "user.numpy.descr",        [DECLARED_ASSEMBLY] = WF_ASSEMBLY,
};

/* ---- texts ---- */

/* "[2, -1, 3]": sizes of 0 or more and at most one -1. */
int wf_shape_parse(const char *s, int64_t shape[WF_MAX_NDIM], uint32_t *ret_ndim, int *ret_free)
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
int wf_shape_fit(int64_t *shape, uint32_t ndim, int free_dim, uint64_t numel)
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

bool wf_is_location(const char *s)
{
	size_t letters = strspn(s, "abcdefghijklmnopqrstuvwxyz_");
	if (letters == 0 || !strcmp(s, "meta"))
		return false;
	s += letters;
	if (*s == ':')
		s += strspn(s + 1, "0123456789") ? 1 + strspn(s + 1, "0123456789") : 0;
	return *s == '\0';
}

/* ---- classes ---- */

/* The call of a class as protocol 2 writes it, with one argument (WF_NIL: without memory) or two of the same. */
static wf_ref example_call(struct wf_graph *g, const char *module, const char *name, wf_ref argument, uint32_t n)
{
	wf_ref args[2] = {argument, argument}, class = wf_global_named(g, module, name);
	wf_ref tuple = class == WF_NIL || argument == WF_NIL ? WF_NIL : wf_tuple(g, args, n);
	return tuple == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, class, tuple, WF_NIL);
}

/* A value of the class that user.torch.class names, for wf_value_parse; WF_NIL for one that no text stands for. */
wf_ref wf_class_example(struct wf_graph *g, const char *klass)
{
	static const wf_ref none[1];
	if (!strcmp(klass, "int"))
		return wf_int(g, 0);
	if (!strcmp(klass, "float"))
		return wf_float(g, 0);
	if (!strcmp(klass, "bool"))
		return wf_bool(g, false);
	if (!strcmp(klass, "str"))
		return wf_string(g, WF_STR, "", 0);
	if (!strcmp(klass, "bytes"))
		return wf_string(g, WF_BYTES, "", 0);
	if (!strcmp(klass, "bytearray"))
		return example_call(g, "__builtin__", "bytearray", wf_string(g, WF_BYTES, "", 0), 1);
	if (!strcmp(klass, "NoneType"))
		return wf_none(g);
	if (!strcmp(klass, "list"))
		return wf_list(g);
	if (!strcmp(klass, "tuple"))
		return wf_tuple(g, none, 0);
	if (!strcmp(klass, "set") || !strcmp(klass, "frozenset"))
		return example_call(g, "__builtin__", klass, wf_list(g), 1);
	if (!strcmp(klass, "complex"))
		return example_call(g, "__builtin__", "complex", wf_float(g, 0), 2);
	if (!strcmp(klass, "torch.Size"))
		return example_call(g, "torch", "Size", wf_tuple(g, none, 0), 1);
	if (!strcmp(klass, "torch.device"))
		return example_call(g, "torch", "device", wf_str(g, "cpu"), 1);
	if (!strcmp(klass, "torch.dtype"))
		return wf_global_named(g, "torch", "float32");
	return strncmp(klass, "numpy.", 6) ? WF_NIL : wf_value_numpy_example(g, klass + 6);
}

/* ---- what was declared ---- */

static int index_of(const char *name)
{
	for (int i = 0; i < DECLARED_COUNT; i++)
		if (!strcmp(names[i], name))
			return i;
	return -1;
}

int wf_declared_check(const char *name, const char *value)
{
	int64_t shape[WF_MAX_NDIM];
	uint32_t ndim;
	int free_dim;
	double number;
	switch (index_of(name)) {
	case DECLARED_CLASS:
	case DECLARED_QSCHEME:
	case DECLARED_ASSEMBLY:
	case DECLARED_DESCR: /* a parser says more, which needs a graph */
		return 0;
	case DECLARED_DTYPE:
		return wf_dtype_from_name(value) == WF_DTYPE_INVALID ? -EINVAL : 0;
	case DECLARED_SHAPE:
		return wf_shape_parse(value, shape, &ndim, &free_dim);
	case DECLARED_LOCATION:
		return wf_is_location(value) ? 0 : -EINVAL;
	case DECLARED_GRAD:
		return strcmp(value, "true") && strcmp(value, "false") ? -EINVAL : 0;
	case DECLARED_SCALE:
	case DECLARED_ZERO:
		return wf_number_parse(value, &number) ? 0 : -EINVAL;
	default:
		return -ENODATA;
	}
}

/* The one thing that says what an array of texts, dates or records is; of numbers the dtype does. */
bool wf_declares_record(const struct wf_file *f, const char *name, const char *value)
{
	bool big_endian;
	return !strcmp(name, "user.numpy.descr") && (f->is_new || f->anew) &&
	       wf_dtype_from_numpy(value, &big_endian) == WF_DTYPE_INVALID;
}

int wf_apply_declared(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	struct wf_file *f = wf_edit_file(ck, ino);
	int i = index_of(name), r = wf_declared_check(name, value);
	wf_ref dtype;
	uint32_t item_bytes;
	if (!f)
		return -ENOMEM;
	if (i == DECLARED_DESCR)
		r = wf_numpy_dtype_parse(ck->graph, value, &dtype, &item_bytes);
	if (r < 0)
		return r;
	if (!f->declared)
		f->declared = calloc(1, sizeof *f->declared);
	char *copy = f->declared ? strdup(value) : NULL;
	if (!copy)
		return -ENOMEM;
	free(f->declared->value[i]);
	f->declared->value[i] = copy;
	wf_edit_knows(f);
	return 0;
}

int wf_edit_declare(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	int r = wf_edit_record_setting(ck, EDIT_DECLARE, ino, name, value);
	return r < 0 ? r : wf_apply_declared(ck, ino, name, value);
}

int wf_edit_declare_type(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_buffer shape = WF_BUFFER_INIT;
	struct wf_tensor t;
	if (wf_edit_tensor(ck, ino, &t) < 0)
		return 0;
	wf_json_ints(&shape, t.shape, t.ndim);
	int r = wf_buffer_status(&shape);
	if (r == 0)
		r = wf_edit_declare(ck, ino, "user.torch.dtype", wf_dtype_info(t.dtype)->name);
	if (r == 0)
		r = wf_edit_declare(ck, ino, "user.torch.shape", shape.data);
	wf_buffer_free(&shape);
	wf_edit_known(ck, ino)->declared_fits = r == 0;
	return r < 0 ? r : wf_edit_tell_known(ck, ino);
}

int wf_edit_log_declared(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	int r = 0;
	for (int i = 0; r == 0 && i < DECLARED_COUNT; i++)
		if (wf_declared(f, i))
			r = wf_edit_record_setting(ck, EDIT_DECLARE, ino, names[i], wf_declared(f, i));
	return r;
}

const char *wf_declared(const struct wf_file *f, enum wf_declared_name name)
{
	return f && f->declared ? f->declared->value[name] : NULL;
}

void wf_declared_clear(struct wf_file *f)
{
	f->declared_fits = false;
	if (!f->declared)
		return;
	for (int i = 0; i < DECLARED_COUNT; i++)
		free(f->declared->value[i]);
	free(f->declared);
	f->declared = NULL;
}
