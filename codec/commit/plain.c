/* SPDX-License-Identifier: MIT */
/* A whole plain pickle, as container/plain_read.c draws it: the pickle, in its own protocol, and whatever followed it. */
#include "codec/commit/commit.h"

#include <errno.h>

#include "codec/bytes/util.h"

static int write_all(const struct wf_plan *p, struct wf_out *o, struct wf_error *err)
{
	const struct wf_container *c = p->in.container;
	const struct wf_record *object = wf_container_record(c, wf_container_find(c, "object"));
	uint64_t size = wf_source_size(wf_container_file(c));
	cleanup_with(wf_file_run_end) struct wf_file_run old = WF_FILE_RUN_INIT;
	if (!object || !wf_source_locate(wf_container_file(c), 0, &old))
		return wf_fail(err, -EOPNOTSUPP, "the checkpoint is not a file");
	int r = wf_plan_copies_pickle(p) ? wf_out_copy(o, old.fd, 0, object->size_bytes)
					 : wf_plan_write_pickle(p, o, err);
	if (r == 0 && object->size_bytes < size)
		r = wf_out_copy(o, old.fd, object->size_bytes, size - object->size_bytes);
	return r < 0 ? r : wf_out_finish(o);
}

int wf_replace_plain(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err)
{
	if (err)
		err->code = 0;
	int r = write_all(plan, o, err);
	if (r < 0 && err && err->code == 0)
		wf_fail(err, r, "cannot write the new file: %s", strerror(-r));
	return r;
}
