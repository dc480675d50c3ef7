/* SPDX-License-Identifier: MIT */
/* The elements of an array as NumPy writes them: numbers, whose form depends on all that are shown, and words (array_words.h).
 *
 * Calling sequence: wfctl_elements_init; wfctl_element_put for each. Nothing is allocated. */
#pragma once

#include <stddef.h>

#include "codec/bytes/buffer.h"
#include "fs/wfctl/dtypes.h"
#include "fs/wfctl/float_text.h"

/* How the numbers of one array (or the parts of its complex numbers) are written: all alike. */
struct wfctl_number_form {
	enum wfctl_width width;
	bool scientific, plus;
	int precision, pad_left, pad_right, exponent_digits;
};

struct wfctl_elements {
	const struct wfctl_dtype *dtype;
	unsigned char *data;
	size_t count;
	struct wfctl_number_form real, imaginary;
	int width; /* of whole numbers, dates and spans */
};

/* data is borrowed as long as *ret is used, and brought into this machine's order. No record: array_record.h. */
void wfctl_elements_init(const struct wfctl_dtype *dtype, void *data, size_t count, struct wfctl_elements *ret);
void wfctl_element_put(const struct wfctl_elements *e, size_t i, struct wf_buffer *out);
/* As str() of a scalar. */
void wfctl_element_put_scalar(const struct wfctl_elements *e, size_t i, struct wf_buffer *out);
