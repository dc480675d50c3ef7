/* SPDX-License-Identifier: MIT */
/* Which characters of a checkpoint's texts may reach a terminal as they are. A control character could move the cursor,
 * add a line or end one, and there are some beyond ASCII: C1 (which 8-bit terminals obey), separators of lines and
 * paragraphs, and the marks that turn the direction of what follows. Bytes that are no UTF-8 may be any of them.
 *
 * All of these are written byte by byte as %XX, which in the name of a key means the same character. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the character that s begins with; 1 for a byte that begins none, whose code is 0xdc00 + the byte, as
 * Python's surrogateescape has it. len is at least 1. ret_plain: it can stand as it is. */
size_t wf_character(const char *s, size_t len, uint32_t *ret_code, bool *ret_plain);
/* How many bytes from the beginning can stand as they are. */
size_t wf_plain_span(const char *s, size_t len);
