/* SPDX-License-Identifier: MIT */
/* Room on the disk before a commit writes. */
#include <sys/stat.h>

#include "codec/bytes/util.h"
#include "codec/commit/commit.h"

/* A legacy key, its opcodes and its count; and what stands before the object. */
#define LEGACY_SLACK_BYTES 256u

static uint64_t needed(const struct wf_plan *p, bool replaces, uint64_t at)
{
	uint64_t bytes = p->new_bytes + p->kept_bytes;
	if (p->safetensors)
		return bytes;
	if (p->legacy || p->plain)
		return bytes + LEGACY_SLACK_BYTES + (p->legacy ? (uint64_t)p->count * LEGACY_SLACK_BYTES : 0);
	return wf_zip_end_of(p, !replaces, at) - at;
}

int wf_commit_reserve(const struct wf_plan *p, bool replaces, int old_fd, struct wf_out *o, uint64_t *ret_bytes)
{
	uint64_t bytes = needed(p, replaces, o->at);
	bool allocate = true;
	struct stat st;
	if (replaces && fstat(old_fd, &st) == 0) {
		uint64_t stored = (uint64_t)st.st_blocks * 512;
		bool sparse = stored < (uint64_t)st.st_size - (uint64_t)st.st_size / 8;
		allocate = !sparse && o->clone_block == 0;
		if (o->clone_block != 0)
			bytes -= p->kept_bytes;
		else if (sparse)
			bytes -= p->kept_bytes - WF_MIN(p->kept_bytes, stored);
	}
	*ret_bytes = bytes;
	return wf_out_reserve(o, bytes, allocate);
}
