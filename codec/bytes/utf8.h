/* SPDX-License-Identifier: MIT */
/* UTF-8, and the one way in which Python's strings go beyond it: lone surrogates, which pickles hold as three bytes
 * ("surrogatepass"). `surrogates` says whether they count. No state; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WF_UTF8_MAX 4u

/* The first character of s. Returns its length in bytes, 1 to 4; 0 when there is none: an odd byte, a form that is too
 * long, a number past U+10FFFF, a character that s cuts off. */
size_t wf_utf8_get(const void *s, size_t len, bool surrogates, uint32_t *ret);
/* Writes the character, a surrogate too, and returns its length in bytes. c <= 0x10ffff. */
size_t wf_utf8_put(char out[WF_UTF8_MAX], uint32_t c);
/* Whether all of s is UTF-8. */
bool wf_utf8_valid(const void *s, size_t len, bool surrogates);
/* The bytes at the end of s that begin a character which s cuts off, 0 to 3: whoever writes may still bring the rest.
 */
size_t wf_utf8_cut(const void *s, size_t len, bool surrogates);
