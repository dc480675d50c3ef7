/* SPDX-License-Identifier: MIT */
/* Texts, bytes, dates and spans of NumPy, as repr() has them in an array and str() alone. No state. */
#pragma once

#include "codec/bytes/buffer.h"
#include "fs/wfctl/dtypes.h"

/* One element of a TEXT, BYTES, VOID, DATE or SPAN in this machine's order. alone: as str() of the scalar. */
void wfctl_word_put(const struct wfctl_dtype *dtype, const void *element, bool alone, struct wf_buffer *out);
