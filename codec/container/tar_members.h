/* SPDX-License-Identifier: MIT */
/* The members of a tar archive (ustar, PAX, GNU), front to back; regular files alone. No threads of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/err.h"
#include "codec/bytes/source.h"

#define WF_TAR_NAME_MAX 100u

/* What a PAX header says about the member after it. */
struct wf_tar_pax {
	bool has_size, has_path;
	uint64_t size_bytes;
	char path[WF_TAR_NAME_MAX + 1];
};

struct wf_tar_reader {
	struct wf_source *file; /* borrowed; the rest is zero at first */
	uint64_t at;
	uint32_t headers;
	struct wf_tar_pax pax;
};

struct wf_tar_member {
	char name[WF_TAR_NAME_MAX + 1]; /* names of interest are shorter; a longer one is cut and fits none */
	uint64_t offset, size_bytes;    /* of its bytes, which lie inside the file */
};

/* Whether the file begins with a header. Returns 1, 0, or the error of reading. */
int wf_tar_begins(struct wf_source *file, struct wf_error *err);
/* The next member. Returns 1; 0 after the last, which is the first block that is no header, as for Python's tarfile;
 * -EUCLEAN a member that is longer than the file; -E2BIG, -ENOMEM, or the error of reading. */
int wf_tar_next(struct wf_tar_reader *t, struct wf_tar_member *ret, struct wf_error *err);
