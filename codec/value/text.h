/* SPDX-License-Identifier: MIT */
/* The text form of plain values, both ways: what `cat epoch` shows and `echo 11 > epoch` means; and JSON in general.
 *
 * int, float, bool, None, complex: Python's repr with true/false/null, and a newline. A float is the shortest form that
 * reads back to the same double. str and bytes: exactly their bytes. list, tuple, set of plain values: JSON and a newline
 * (", " and ": " as separators, as json.dumps; NaN, Infinity and -Infinity as Python writes them).
 * NumPy scalars, torch.Size, torch.device, torch.dtype and the like read as the value they stand for.
 * Pure functions; iterative; a value whose text would pass WF_VALUE_MAX_BYTES (shared lists expand) is not plain.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/json.h"
#include "codec/bytes/number.h"
#include "codec/object/dtype.h"
#include "codec/object/object.h"

#define WF_VALUE_MAX_BYTES (64u << 20)

enum wf_value_form {
	WF_VALUE_NOT,  /* no plain value */
	WF_VALUE_TEXT, /* scalar: text and newline */
	WF_VALUE_JSON, /* list, tuple, set: JSON and newline */
	WF_VALUE_RAW,  /* str, bytes: as they are */
};

enum wf_value_form wf_value_form_of(const struct wf_graph *g, wf_ref r);
/* The same by a glance, in constant time: WF_VALUE_JSON is a sequence that still is to be looked into (*ret_sequence), and
 * WF_VALUE_TEXT any kind of scalar. */
enum wf_value_form wf_value_glance(const struct wf_graph *g, wf_ref r, wf_ref *ret_sequence);
/* Whether a sequence's text has at most a thousand elements. */
bool wf_value_is_short(const struct wf_graph *g, wf_ref r);
/* Appends the file's content. Returns 0, -EINVAL (not plain), -E2BIG, -ENOMEM, or a source's error. */
int wf_value_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out);
/* Size of that content without making it where that is possible (long strings). */
int wf_value_size(const struct wf_graph *g, wf_ref r, uint64_t *ret);
/* The object for a new content of the value `like`, type kept; but an int that is given a number with a point or an exponent
 * becomes a float. Returns 0; -EINVAL the text does not parse as that type; -EROFS a value that cannot be set this way;
 * -ENOMEM. */
int wf_value_parse(struct wf_graph *g, wf_ref like, const char *text, size_t len, wf_ref *ret);
/* false: a value that is shown and cannot be given as text (a date, a path, a record of NumPy ...). */
bool wf_value_is_settable(const struct wf_graph *g, wf_ref r);
/* The object for the content of a key that has no type: of one line of text that ends in a newline a number, a bool, None or
 * a list, as JSON reads it, else a str without the newline. -EINVAL for what is no such line: that is bytes. */
int wf_value_new(struct wf_graph *g, const char *text, size_t len, wf_ref *ret);
/* A number, true, false, null or a list, as JSON says it, and nothing beside it but spaces. -EINVAL for anything else. */
int wf_value_parse_json(struct wf_graph *g, const char *text, size_t len, wf_ref *ret);
/* One line of UTF-8 without control characters but tabs, and its newline. */
bool wf_text_is_line(const char *text, size_t len);
/* more_to_come: the last character may lack its end. */
bool wf_text_is_utf8(const char *text, size_t len, bool more_to_come);
/* A number (true and false, too, for a bool) as the bytes of an element, little endian; false when the dtype has no such
 * number. Floating point is rounded, but not to infinity. */
bool wf_number_encode(enum wf_dtype dtype, const char *s, size_t len, unsigned char ret[16]);
bool wf_number_parse(const char *text, double *ret); /* a whole text as one number */
/* The scalar 0 of the class numpy.NAME, WF_NIL when there is no such class, or no memory. */
wf_ref wf_value_numpy_example(struct wf_graph *g, const char *name);
/* Class name for user.torch.class: "int", "float", "collections.OrderedDict", "numpy.float64", ... of any object. */
void wf_class_name(const struct wf_graph *g, wf_ref r, char *buf, size_t size);

/* The name of a GLOBAL as Python 3 has it: "int" for __builtin__.long. */
void wf_global_class_name(const struct wf_graph *g, wf_ref r, char *buf, size_t size);
bool wf_class_is(const struct wf_graph *g, wf_ref r, const char *name);

/* The text that a key is known by (value/names.c tells the rule), and of what sort it is. */
enum wf_key_kind {
	WF_KEY_TEXT,   /* a str, numpy.str_ */
	WF_KEY_SCALAR, /* int, float, bool, None, NumPy's */
	WF_KEY_JSON,   /* a tuple */
	WF_KEY_OBJECT, /* bytes, member of an Enum, device, dtype, path, date, a class */
	WF_KEY_CLASS,  /* anything else: the last part of its class's name */
};
enum wf_key_kind wf_key_text(const struct wf_graph *g, wf_ref key, struct wf_buffer *out);
/* A key as JSON: "conv1.weight", 0, [1, "a"]; of another kind (value/names.c) a JSON string of its text, or of its class. */
void wf_json_key(const struct wf_graph *g, wf_ref key, struct wf_buffer *out);
/* Whether that JSON says the key itself: a str, an int, a float, a bool, None, or a tuple of such. */
bool wf_json_key_is_whole(const struct wf_graph *g, wf_ref key);
