/* SPDX-License-Identifier: MIT */
/* An array as print(array) of NumPy 2 shows it with its defaults: 8 digits, 75 columns, more than 1000 elements by three at each edge. */
#pragma once

#include "codec/bytes/buffer.h"
#include "fs/wfctl/dtypes.h"
#include "fs/wfctl/view.h"

/* Reads `count` elements from `first` (an index of the whole tensor) on. 0 or a negative errno. */
typedef int (*wfctl_read_elements)(void *ctx, int64_t first, int64_t count, void *ret);

/* Appends the text, without a newline at its end. Returns 0, -E2BIG (more elements at the edges than anybody reads), -ENOMEM, or what
 * reading said. */
int wfctl_array_text(const struct wfctl_view *view, const struct wfctl_dtype *dtype, wfctl_read_elements read,
		     void *ctx, struct wf_buffer *ret);
