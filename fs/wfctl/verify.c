/* SPDX-License-Identifier: MIT */
/* wfctl verify and repack: a checkpoint as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "codec/checkpoint.h"
#include "fs/busy.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/json.h"
#include "fs/wfctl/open.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/where.h"

/* ---- verify ---- */

struct verifying {
	const char *path;
	unsigned long faults, warnings;
	time_t shown;
	struct wf_buffer *json; /* of the problems; NULL: a line each */
};

static void problem(void *ctx, bool fault, const char *line)
{
	struct verifying *v = ctx;
	if (v->json) {
		wf_buffer_printf(v->json, "%s{\"fault\": %s, \"text\": ", v->faults + v->warnings ? ", " : "",
				 fault ? "true" : "false");
		wfctl_json_put(v->json, line, strlen(line));
		wf_buffer_putc(v->json, '}');
	} else {
		wfctl_fail(v->path, "%s%s", fault ? "" : "warning: ", line);
	}
	v->faults += fault;
	v->warnings += !fault;
}

static void progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct verifying *v = ctx;
	char line[128];
	if (time(NULL) == v->shown)
		return;
	v->shown = time(NULL);
	snprintf(line, sizeof line, "verifying: %llu of %llu MiB", (unsigned long long)(done_bytes >> 20),
		 (unsigned long long)(total_bytes >> 20));
	wfctl_progress(line);
}

static int put_json(const struct verifying *v)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	wf_buffer_puts(&out, "{\"path\": ");
	wfctl_json_put(&out, v->path, strlen(v->path));
	wf_buffer_printf(&out, ", \"sound\": %s, \"faults\": %lu, \"warnings\": %lu, \"problems\": [",
			 v->faults ? "false" : "true", v->faults, v->warnings);
	wf_buffer_append(&out, v->json->data ? v->json->data : "", v->json->len);
	wf_buffer_puts(&out, "]}\n");
	int r = wf_buffer_status(&out) < 0 || wf_buffer_status(v->json) < 0 ? -ENOMEM : 0;
	if (r == 0)
		fwrite(out.data, 1, out.len, stdout);
	wf_buffer_free(&out);
	return r < 0 ? wfctl_fail_error(v->path, r, NULL) : WFCTL_OK;
}

int wfctl_verify(const struct wfctl_call *call)
{
	struct wf_buffer json __attribute__((cleanup(wf_buffer_free))) = WF_BUFFER_INIT;
	struct verifying v = {
		.path = call->arguments[0], .shown = time(NULL), .json = wfctl_given(call, "json") ? &json : NULL};
	if (wfctl_check_place(WFCTL_FILE, v.path) != WFCTL_OK)
		return WFCTL_FAILED;
	struct wf_checkpoint *ck = wfctl_open(v.path, true);
	if (!ck)
		return WFCTL_FAILED;
	int r = wf_verify(ck, problem, progress, &v);
	wf_close(ck);
	wfctl_progress(NULL);
	if (r < 0 && v.faults == 0)
		return wfctl_fail_error(v.path, r, NULL);
	if (v.json && put_json(&v) != WFCTL_OK)
		return WFCTL_FAILED;
	if (v.faults)
		return wfctl_fail(v.path, "%lu fault%s, %lu warning%s", v.faults, v.faults == 1 ? "" : "s", v.warnings,
				  v.warnings == 1 ? "" : "s");
	if (!v.json)
		printf("%s: sound, %lu warning%s\n", v.path, v.warnings, v.warnings == 1 ? "" : "s");
	return WFCTL_OK;
}

/* ---- repack ---- */

struct repack {
	const char *path;
	bool trim, with_pending;
	uint32_t alignment;
	struct wf_error err;
};

#define ALIGN_MOST 32768u

/* 0, or an exit status after a line. */
static int parse_alignment(const char *text, uint32_t *ret)
{
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || n == 0 || (n & (n - 1)) || n > ALIGN_MOST) {
		wfctl_fail("repack",
			   "--align takes a power of two up to %u, the most that a record's padding can say: not %s",
			   ALIGN_MOST, text);
		return WFCTL_USAGE;
	}
	*ret = (uint32_t)n;
	return WFCTL_OK;
}

static int try_repack(void *ctx)
{
	struct repack *p = ctx;
	return wf_repack(p->path, p->trim, p->alignment, p->with_pending, &p->err);
}

int wfctl_repack(const struct wfctl_call *call)
{
	const char *path = call->arguments[0], *align = wfctl_given(call, "align");
	struct repack p = {
		.path = path, .trim = wfctl_given(call, "trim"), .with_pending = wfctl_given(call, "with-pending")};
	int r = align ? parse_alignment(align, &p.alignment) : WFCTL_OK;
	if (r == WFCTL_OK)
		r = wfctl_check_place(WFCTL_FILE, path);
	if (r != WFCTL_OK)
		return r;
	/* it only needs the directory; but whoever takes the right to write from a file means it to stay, as the verbs that edit have it */
	if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0 && errno != ENOENT)
		return wfctl_fail_error(path, -errno, NULL);
	r = fs_when_free(path, try_repack, &p);
	return r < 0 ? wfctl_fail_error(path, r, &p.err) : WFCTL_OK;
}
