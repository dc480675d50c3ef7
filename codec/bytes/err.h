/* SPDX-License-Identifier: MIT */
/* Errors of the checkpoint library.
 *
 * Functions that can fail return 0 (or a count) or a negative errno. What a person should read goes into
 * struct wf_error: which record, which byte, which rule. The library never prints and never touches errno.
 *
 * Our failure classes are errno values, so that they travel through every layer unchanged:
 *   -EMEDIUMTYPE  not a checkpoint (the text says what the file is instead)
 *   -EOPNOTSUPP   well formed, but not supported
 *   -EUCLEAN      corrupt: a rule of the format is broken
 *   -E2BIG        a limit of this program is exceeded
 *   -ESTALE       the checkpoint was changed underneath
 *   -ENODATA      there are no bytes (a meta tensor)
 * plus what the operating system reports.
 *
 * Threads: a struct wf_error belongs to one caller; nothing is shared.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#define WF_ERROR_NO_OFFSET UINT64_MAX

struct wf_error {
	int code;         /* negative errno, 0 while nothing failed */
	uint64_t offset;  /* byte offset inside the record, or WF_ERROR_NO_OFFSET */
	bool cut;         /* the bytes ended where more should be: the file may be truncated */
	char record[128]; /* record or entry name, shortened; empty when the whole file is meant */
	char text[384];   /* one sentence without a final newline */
};

/* Fills *err (which may be NULL) and returns code, so that a failure is one line: return wf_fail(err, -EUCLEAN, ...).
 * A second call overwrites the first: the innermost layer that knows the rule speaks, callers only add wf_error_where. */
int wf_fail(struct wf_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same, naming the record (may be NULL) and the byte offset inside it. */
int wf_fail_at(struct wf_error *err, int code, const char *record, uint64_t offset, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Names the record of an error that an inner layer reported without one; does nothing when one is set. */
void wf_error_where(struct wf_error *err, const char *record);

/* "data.pkl, offset 123: BINGET of an unset memo index 7" into buf, always terminated, control characters
 * as %XX (bytes/printable.h). Returns buf. */
const char *wf_error_format(const struct wf_error *err, char *buf, unsigned long size);
