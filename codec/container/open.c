/* SPDX-License-Identifier: MIT */
/* Chooses the reader of a file by its first bytes: the one place that knows all formats. */
#include <errno.h>
#include <string.h>

#include "codec/container/records.h"

int wf_container_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err)
{
	static const char local_header[4] = {'P', 'K', 3, 4};
	char head[sizeof local_header];
	/* first of all: a header's length may read as the mark of a zip archive or of a pickle */
	int r = wf_safetensors_open(file, ret, err);
	if (r != 1)
		return r;
	if (wf_source_size(file) >= sizeof head) {
		r = wf_source_read(file, 0, head, sizeof head);
		if (r < 0)
			return wf_fail(err, r, "cannot read the file: %s", strerror(-r));
		if (memcmp(head, local_header, sizeof head) == 0)
			return wf_zip_open(file, ret, err);
	}
	/* torch's order: a tar is tried before the legacy stream */
	r = wf_tar_open(file, ret, err);
	if (r == 1)
		r = wf_legacy_open(file, ret, err);
	if (r == 1)
		r = wf_plain_open(file, ret, err);
	return r == 1 ? wf_lookalike(file, err) : r;
}
