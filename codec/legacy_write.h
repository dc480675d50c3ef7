/* What a legacy stream has besides pickles and bytes: the list of keys. legacy_read.c draws the format. */
#pragma once

#include <stdint.h>

#include "buffer.h"
#include "err.h"

/* Appends the pickle of the list of keys, as torch writes it. Returns 0, -ENOMEM, -E2BIG. */
int wf_legacy_write_keys(const char *const *keys, uint32_t n, struct wf_buffer *out, struct wf_error *err);
