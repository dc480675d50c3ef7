/* SPDX-License-Identifier: MIT */
/* What the files of this folder share. */
#pragma once

#include <errno.h>

#include "codec/tensor/numpy_dtype.h"
#include "codec/value/text.h"

/* Calls that stand for a value Python would print. */
enum wf_meaning {
	WF_MEANS_ITSELF,
	WF_MEANS_SET,          /* set([...]), frozenset([...]): inner is the list, WF_NIL for an empty one */
	WF_MEANS_SIZE,         /* torch.Size((...)) */
	WF_MEANS_COMPLEX,      /* complex(re, im) */
	WF_MEANS_LATIN1,       /* _codecs.encode(str, 'latin1'): inner is the str */
	WF_MEANS_EMPTY_BYTES,  /* bytes() */
	WF_MEANS_BYTEARRAY,    /* bytearray(bytes-form) */
	WF_MEANS_DEVICE,       /* torch.device('cuda', 1) */
	WF_MEANS_LAYOUT,       /* torch.serialization._get_layout('torch.strided'): inner is the str */
	WF_MEANS_DTYPE,        /* torch.float32 */
	WF_MEANS_NUMPY_SCALAR, /* scalar(dtype, bytes) */
	WF_MEANS_NUMPY_DTYPE,  /* numpy.dtype('f4', False, True) */
	WF_MEANS_PATH,         /* pathlib.PosixPath('a', 'b') */
	WF_MEANS_TIME,         /* of the module datetime */
	WF_MEANS_BYTES_FILE,   /* io.BytesIO(): inner is an expression for its bytes */
	WF_MEANS_TEXT_FILE,    /* io.StringIO(): inner is the str */
	WF_MEANS_ARRAY,        /* a NumPy array of objects: inner is the list of them */
	WF_MEANS_LIST,         /* torch.jit._pickle.build_intlist([...]) of the C++ pickler: inner is the list */
};

/* r, an object that was just made; *error is -ENOMEM where it could not be. */
static inline wf_ref wf_value_made(wf_ref r, int *error)
{
	if (r == WF_NIL)
		*error = -ENOMEM;
	return r;
}

enum wf_meaning wf_value_meaning(const struct wf_graph *g, wf_ref r, wf_ref *ret_inner);
/* value/scalar.c */
/* null, true, 3, 0.1, "text": one scalar as JSON. */
int wf_value_scalar(const struct wf_graph *g, wf_ref r, struct wf_buffer *out);
/* The bytes of a str or bytes. -E2BIG past WF_VALUE_MAX_BYTES. */
int wf_value_string(const struct wf_graph *g, wf_ref r, struct wf_buffer *out);
/* "1+2j", as Python prints it without its parentheses. */
void wf_value_complex_text(double re, double im, struct wf_buffer *out);

/* value/numpy.c: the text of a NumPy scalar, without a newline. -EINVAL: it is of a kind that has none. */
int wf_value_numpy_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out);
/* Its dtype; false where it has no text either. */
bool wf_value_numpy_dtype(const struct wf_graph *g, wf_ref r, struct wf_numpy_dtype *ret);
/* value/time.c: a date, time, datetime or timedelta; -EINVAL for anything else. And a datetime64 or timedelta64. */
int wf_value_time_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out);
bool wf_value_is_time(const struct wf_graph *g, wf_ref r);
int wf_value_time64_text(const struct wf_numpy_dtype *d, int64_t value, struct wf_buffer *out);
/* value/list.c: the list, tuple or set whose elements a JSON text shows, WF_NIL for anything else; that text, or with out NULL
 * whether there is one; and whether there are NumPy scalars in it, whose types no text can give. */
wf_ref wf_value_sequence(const struct wf_graph *g, wf_ref r);
int wf_value_list(const struct wf_graph *g, wf_ref r, struct wf_buffer *out);
bool wf_value_has_numpy(const struct wf_graph *g, wf_ref r);
/* value/parse_scalar.c: a whole text as one number. Neither spaces nor hexadecimal. */
bool wf_double_parse(const char *s, size_t len, double *ret);
bool wf_complex_parse(const char *s, size_t len, double *ret_re, double *ret_im);
/* Bytes (a str where `like` is one) in the form that like has; WF_NIL: that of protocol 2. */
wf_ref wf_value_bytes_like(struct wf_graph *g, wf_ref like, const char *text, size_t len, int *error);
wf_ref wf_value_parse_numpy(struct wf_graph *g, wf_ref like, const char *s, size_t len, int *error);
wf_ref wf_int_parse(struct wf_graph *g, const char *s, size_t len, int *error);
wf_ref wf_float_parse(struct wf_graph *g, const char *s, size_t len, int *error);
/* A whole JSON text. like: a sequence in whose form, and that of its elements, lists are made; WF_NIL: a scalar is right, too. strict: as the
 * definition of JSON has it, else with Python's words and numbers. */
wf_ref wf_json_parse(struct wf_graph *g, wf_ref like, const char *text, size_t len, bool strict, int *error);
