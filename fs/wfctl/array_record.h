/* SPDX-License-Identifier: MIT */
/* Records of NumPy: arrays of several named fields, each of which is written as an array of its own would be.
 *
 * Calling sequence: wfctl_record_new; wfctl_record_put for each element; wfctl_record_free. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"

struct wfctl_record;

/* Its numbers are padded to those of the other records; or, of one that stands alone, floats are as in Python, and so are other numbers
 * that are no array in it; or it is in an array of such a one. */
enum wfctl_record_form { WFCTL_RECORD_IN_ARRAY, WFCTL_RECORD_ALONE, WFCTL_RECORD_LISTED };

/* descr: as numpy.dtype.descr prints it. data: count records of `bytes` each, borrowed during the call. Returns 0; -EOPNOTSUPP for
 * fields that are no numbers, texts, dates or records; -ENOMEM. */
int wfctl_record_new(const char *descr, const void *data, size_t count, size_t bytes, struct wfctl_record **ret);
void wfctl_record_put(const struct wfctl_record *r, size_t i, enum wfctl_record_form form, struct wf_buffer *out);
void wfctl_record_free(struct wfctl_record *r);
