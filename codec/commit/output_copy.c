/* SPDX-License-Identifier: MIT */
/* A file that goes to the output of a commit as it is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/util.h"
#include "codec/commit/output_inner.h"

bool wf_output_has(int directory, const char *name)
{
	struct stat st;
	return fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int copy_bytes(struct wf_commit_run *c, const struct wf_new_file *f, int from, uint64_t size)
{
	struct wf_out o;
	int r = wf_out_init(&o, f->fd, 0, &c->ck->progress.done_bytes);
	if (r < 0)
		return r;
	wf_out_probe_clone(&o, from);
	if (o.clone_block == 0)
		r = wf_out_reserve(&o, size, false);
	if (r == 0)
		r = wf_out_copy(&o, from, 0, size);
	if (r == 0)
		r = wf_out_finish(&o);
	wf_out_free(&o);
	return r == 0 && fsync(f->fd) < 0 ? -errno : r;
}

int wf_output_copy_to(struct wf_commit_run *c, int directory, const char *path, const char *name, int from)
{
	cleanup_free char *target = NULL;
	struct wf_new_file f;
	struct stat st;
	bool renamed;
	int home = openat(directory, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (home < 0 || asprintf(&target, "%s/%s", path, name) < 0) {
		target = NULL;
		return wf_commit_no_memory(c);
	}
	int r = wf_new_file_open(&f, target, home, c->err);
	if (r < 0)
		return r;
	if (fstat(from, &st) < 0)
		r = wf_fail(c->err, -errno, "%s: %s", name, strerror(errno));
	if (r == 0 && (r = copy_bytes(c, &f, from, (uint64_t)st.st_size)) < 0)
		wf_fail(c->err, r, "%s cannot be copied to %s: %s", name, path, strerror(-r));
	if (r == 0)
		r = wf_new_file_dress(&f, from, c->err);
	if (r == 0)
		r = wf_new_file_rename(&f, &renamed, c->err);
	wf_new_file_free(&f);
	return r;
}

int wf_output_copy(struct wf_commit_run *c, int directory, const char *name, int from)
{
	return wf_output_copy_to(c, directory, c->ck->output_set.path, name, from);
}
