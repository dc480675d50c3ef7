/* SPDX-License-Identifier: MIT */
/* numpy.dtype objects of the graph: what NumPy would call them, and how many bytes an element has.
 *
 *   numpy.dtype('U3', False, True)          BUILD (3, '<', None, None, None, 12, 4, 8)
 *   numpy.dtype('M8', False, True)          BUILD (4, '<', None, None, None, -1, -1, 0, (None, (b'D', 1, 1, 1)))
 *   numpy.dtype('V12', False, True)         BUILD (3, '|', None, ('id', 'score'), {'id': (dtype, 0), ...}, 12, 1, 16)
 *   numpy.dtype(numpy.record, False, True)  the same, of a record array
 *
 * Source: numpy/_core/src/multiarray/descriptor.c (arraydescr_reduce). Pure functions; bounded, whatever is nested.
 */
#pragma once

#include "codec/bytes/buffer.h"
#include "codec/object/dtype.h"

struct wf_numpy_dtype {
	enum wf_dtype dtype; /* where torch has it, too; else WF_DTYPE_INVALID */
	char kind;           /* NumPy's: b i u f c U S V M m O */
	bool big_endian;
	uint32_t item_bytes; /* of an element; of an object: 8, of a pointer that no file holds */
	char unit[8];        /* of M and m: "D", "ns", "generic" */
	int64_t step;        /* of M and m: how many units one step is */
};

/* false: r is no dtype, or one that nothing is known of. */
bool wf_numpy_dtype_of(const struct wf_graph *g, wf_ref r, struct wf_numpy_dtype *ret);
/* NumPy's name: "str96", "datetime64[D]", "object", "record96", "longdouble" as "float128". */
void wf_numpy_dtype_name(const struct wf_graph *g, wf_ref r, const struct wf_numpy_dtype *d, struct wf_buffer *out);
/* What numpy.lib.format.dtype_to_descr gives, as Python prints it: <U3, <M8[D], [('id', '<i4'), ('score', '<f8')]. */
void wf_numpy_dtype_descr(const struct wf_graph *g, wf_ref r, struct wf_buffer *out);
/* The dtype object of such a description, where its elements are no numbers of torch's, in records those too; and the bytes of an element.
 * 0, -EINVAL, -ENOMEM, -E2BIG. */
int wf_numpy_dtype_parse(struct wf_graph *g, const char *descr, wf_ref *ret, uint32_t *ret_item_bytes);
/* The bytes behind an expression for bytes, which protocol 2 writes as a text in latin-1 or a call: the string object
 * that holds them, in latin-1 where it is a WF_STR; a call where there are none. WF_NIL: r is no such thing. */
wf_ref wf_bytes_object(const struct wf_graph *g, wf_ref r);
/* Appends those bytes, at most max. -E2BIG, -EUCLEAN a character above 255, -EINVAL no bytes, or a source's error. */
int wf_bytes_read(const struct wf_graph *g, wf_ref r, uint64_t max, struct wf_buffer *out);
