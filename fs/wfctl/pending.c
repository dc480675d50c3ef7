/* SPDX-License-Identifier: MIT */
/* wfctl status, commit and discard: what waits for a commit. A mount point is asked through its control directory, an unmounted
 * checkpoint is opened here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/checkpoint.h"
#include "fs/busy.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/control.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/json.h"
#include "fs/wfctl/open.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/where.h"

/* Edits beside an output that is no checkpoint that can be opened, or not there yet. false: there are none. */
static bool tell_waiting(const char *path, struct wf_buffer *out)
{
	const struct wf_open_options options = {.ignore_overlay = true};
	struct wf_checkpoint *ck = NULL;
	uint64_t edits = 0;
	char why[512];
	if (wf_waiting(path, &edits, why, sizeof why, NULL) < 0 || edits == 0)
		return false;
	int r = wf_open(path, &options, &ck, NULL);
	wf_close(ck);
	if (r == 0)
		return false;
	wf_buffer_puts(out, "{\n  \"output\": ");
	wfctl_json_put(out, path, strlen(path));
	wf_buffer_printf(out, ",\n  \"pending\": {\"edits\": %llu},\n  \"last_error\": ", (unsigned long long)edits);
	if (why[0])
		wfctl_json_put(out, why, strlen(why));
	else
		wf_buffer_puts(out, "null");
	wf_buffer_puts(out, "\n}\n");
	return true;
}

int wfctl_status(const struct wfctl_call *call)
{
	const char *path = call->arguments[0];
	struct wf_buffer status = WF_BUFFER_INIT;
	int r = wfctl_check_place(WFCTL_EITHER, path);
	if (r != WFCTL_OK)
		return r;
	if (wfctl_is_mount(path)) {
		r = wfctl_control_read(path, "status", &status);
	} else if (!tell_waiting(path, &status)) {
		struct wf_checkpoint *ck = wfctl_open(path, false);
		if (!ck)
			return WFCTL_FAILED;
		r = wf_status(ck, &status);
		wf_log_unread(ck);
		wf_close(ck);
	}
	if (r == 0)
		fwrite(status.data, 1, status.len, stdout);
	wf_buffer_free(&status);
	return r < 0 ? wfctl_fail_error(path, r, NULL) : WFCTL_OK;
}

/* What waits until the checkpoint's daemon has ended (fs/busy.h). */
struct attempt {
	const char *path, *onto;
	struct wf_checkpoint *ck;
	struct wf_error err;
};

static int try_onto(void *ctx)
{
	struct attempt *a = ctx;
	return wf_commit_onto(a->path, a->onto, &a->err);
}

static int try_open(void *ctx)
{
	struct attempt *a = ctx;
	struct wf_open_options options = {.writable = true};
	return wf_open(a->path, &options, &a->ck, &a->err);
}

static int try_discard(void *ctx)
{
	struct attempt *a = ctx;
	return wf_discard(a->path, &a->err);
}

static int commit_onto(const char *path, const char *onto)
{
	struct attempt a = {.path = path, .onto = onto};
	if (wfctl_is_mount(path))
		return wfctl_fail(path,
				  "is mounted: unmount it first, which keeps the edits when its own commit fails");
	int r = fs_when_free(path, try_onto, &a);
	return r < 0 ? wfctl_fail_error(onto, r, &a.err) : WFCTL_OK;
}

static int commit_path(const char *path)
{
	struct attempt a = {.path = path};
	if (wfctl_is_mount(path)) {
		wfctl_push_dirty_pages(path);
		int r = wfctl_control_commit(path);
		return r < 0 ? wfctl_fail_commit(path, r) : WFCTL_OK;
	}
	int r = fs_when_free(path, try_open, &a);
	if (r == 0) {
		r = wf_commit(a.ck, &a.err);
		wf_close(a.ck);
	}
	return r < 0 ? wfctl_fail_error(path, r, &a.err) : WFCTL_OK;
}

int wfctl_commit(const struct wfctl_call *call)
{
	const char *path = call->arguments[0], *onto = wfctl_given(call, "onto");
	int r = onto ? wfctl_check_place(WFCTL_FILE, onto) : wfctl_check_place(WFCTL_EITHER, path);
	if (r != WFCTL_OK)
		return r;
	return onto ? commit_onto(path, onto) : commit_path(path);
}

static int discard_mount(const char *mount)
{
	wfctl_push_dirty_pages(mount); /* afterwards none comes that was written before */
	int r = wfctl_control_ask(mount, "discard");
	if (r == -EBUSY)
		return wfctl_fail(mount, "not discarded: a file of the mount is open");
	return r < 0 ? wfctl_fail(mount, "not discarded: %s", strerror(-r)) : WFCTL_OK;
}

int wfctl_discard(const struct wfctl_call *call)
{
	const char *path = call->arguments[0];
	struct attempt a = {.path = path};
	int r = wfctl_check_place(WFCTL_EITHER, path);
	if (r != WFCTL_OK)
		return r;
	if (wfctl_is_mount(path))
		return discard_mount(path);
	r = fs_when_free(path, try_discard, &a);
	return r < 0 ? wfctl_fail_error(path, r, &a.err) : WFCTL_OK;
}
