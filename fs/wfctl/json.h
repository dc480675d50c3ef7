/* As much of JSON as reading our own texts takes: .weightfs/status and the lines of .weightfs/tensors.json, which codec/ writes. */
#pragma once

#include <stddef.h>

#include "codec/bytes/buffer.h"

/* The value of a member, up to `end`; NULL: it is not there. The name stands in quotes, which no string's inside has. */
const char *fs_json_member(const char *text, const char *end, const char *name);
/* Appends what the string at `at` says; nothing where there is none. Escapes of surrogates give the bytes that Python writes
 * for them, 0xdc80 to 0xdcff the one byte that they stand for. */
void fs_json_string(const char *at, const char *end, struct wf_buffer *out);
