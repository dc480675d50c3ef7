/* SPDX-License-Identifier: MIT */
/* wfctl export: a new file of another format. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/checkpoint.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/control.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/open.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/where.h"

#define SHOW_NSEC 200000000

/* ---- the words ---- */

static const char *const suffixes[] = {
	[WF_EXPORT_SAFETENSORS] = ".safetensors", [WF_EXPORT_PT] = ".pt", [WF_EXPORT_NPZ] = ".npz"};
#define FORMATS 3

static bool ends_in(const char *path, const char *suffix)
{
	size_t n = strlen(path), k = strlen(suffix);
	return n > k && !strcasecmp(path + n - k, suffix);
}

/* By its name, or by the suffix of the new file. 0, or an exit status. */
static int find_format(const char *name, const char *out, enum wf_export_format *ret)
{
	for (int i = 0; i < FORMATS; i++)
		if (name ? !strcmp(name, suffixes[i] + 1) : ends_in(out, suffixes[i])) {
			*ret = (enum wf_export_format)i;
			return WFCTL_OK;
		}
	if (name) {
		wfctl_fail("export", "there is no format %s: safetensors, pt or npz", name);
		return WFCTL_USAGE;
	}
	if (ends_in(out, ".pth") || ends_in(out, ".bin") || ends_in(out, ".ckpt")) {
		*ret = WF_EXPORT_PT;
		return WFCTL_OK;
	}
	wfctl_fail(out, "its suffix tells no format: give --format=safetensors, pt or npz");
	return WFCTL_USAGE;
}

/* 500MB, 2GiB, 1000000: as Hugging Face counts, KB is 1000 bytes. */
static bool parse_bytes(const char *text, uint64_t *ret)
{
	static const char letters[] = "kmgt";
	char *end;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	if (end == text || errno || text[0] == '-' || n == 0)
		return false;
	const char *letter = *end ? strchr(letters, *end | 0x20) : NULL;
	uint64_t unit = 1, base = 1000;
	if (letter) {
		end++;
		if (*end == 'i') {
			base = 1024;
			end++;
		}
		for (const char *l = letters; l <= letter; l++)
			unit *= base;
	}
	if (*end == 'B' || *end == 'b')
		end++;
	return *end == '\0' && !__builtin_mul_overflow((uint64_t)n, unit, ret);
}

static mode_t new_mode(void)
{
	mode_t mask = umask(0);
	umask(mask);
	return 0666 & ~mask;
}

/* ---- the line of progress ---- */

struct showing {
	_Atomic uint64_t done, total;
	atomic_bool over;
	pthread_t thread;
};

static void *show(void *ctx)
{
	struct showing *s = ctx;
	char line[128];
	while (!atomic_load(&s->over)) {
		nanosleep(&(struct timespec){.tv_nsec = SHOW_NSEC}, NULL);
		if (atomic_load(&s->over) || atomic_load(&s->done) == 0)
			continue;
		snprintf(line, sizeof line, "exporting: %llu of %llu MiB",
			 (unsigned long long)atomic_load(&s->done) >> 20,
			 (unsigned long long)atomic_load(&s->total) >> 20);
		wfctl_progress(line);
	}
	return NULL;
}

/* ---- the verb ---- */

/* On a mount the edits so far go along: they are made durable, and then read as everything else is. */
static struct wf_checkpoint *open_mounted(const char *mount)
{
	struct wfctl_mounted m = {0};
	struct wf_checkpoint *ck = NULL;
	int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	wfctl_push_dirty_pages(mount);
	int r = fd < 0 || fsync(fd) < 0 ? -errno : wfctl_mounted_read(mount, &m);
	if (fd >= 0)
		close(fd);
	if (r == 0 && m.output)
		wfctl_fail(
			mount,
			"is mounted with -o output, whose edits stand beside another file: wfctl commit it, and export that file");
	else if (r == 0 && m.checkpoint)
		ck = wfctl_open(m.checkpoint, false);
	else
		wfctl_fail_error(mount, r < 0 ? r : -EIO, NULL);
	wfctl_mounted_free(&m);
	return ck;
}

/* What has no place in the new file is told in one line, or all of it where that is little. */
static void tell_skipped(const struct wf_buffer *skipped)
{
	size_t lines = 0;
	for (size_t i = 0; i < skipped->len; i++)
		lines += skipped->data[i] == '\n';
	if (lines == 0)
		return;
	const char *tab = memchr(skipped->data, '\t', skipped->len), *end = memchr(skipped->data, '\n', skipped->len);
	int name = (int)(tab - skipped->data), reason = (int)(end - tab - 1);
	if (lines == 1)
		wfctl_fail(NULL, "left out: %.*s (%.*s)", name, skipped->data, reason, tab + 1);
	else
		wfctl_fail(NULL, "left out: %zu entries, as %.*s (%.*s); .weightfs/model.skipped of a mount lists them",
			   lines, name, skipped->data, reason, tab + 1);
}

static int export(struct wf_checkpoint *ck, struct wf_export *x, const char *path, const char *out)
{
	struct showing s = {0};
	struct wf_buffer skipped = WF_BUFFER_INIT;
	struct wf_error err = {0};
	bool shows = isatty(STDERR_FILENO) && pthread_create(&s.thread, NULL, show, &s) == 0;
	x->done_bytes = &s.done;
	x->total_bytes = &s.total;
	int r = wf_export(ck, x, out, &skipped, &err);
	atomic_store(&s.over, true);
	if (shows)
		pthread_join(s.thread, NULL);
	wfctl_progress(NULL);
	if (r == 0)
		tell_skipped(&skipped);
	wf_buffer_free(&skipped);
	return r < 0 ? wfctl_fail_error(path, r, &err) : WFCTL_OK;
}

int wfctl_export(const struct wfctl_call *call)
{
	const char *path = call->arguments[0], *out = call->arguments[1], *shard = wfctl_given(call, "max-shard-size");
	struct wf_export x = {
		.prefix = wfctl_given(call, "prefix"), .mode = new_mode(), .skip = wfctl_given(call, "skip") != NULL};
	int r = find_format(wfctl_given(call, "format"), out, &x.format);
	if (r != WFCTL_OK)
		return r;
	if (shard && !parse_bytes(shard, &x.max_shard_bytes)) {
		wfctl_fail("export", "%s is no size, as 5GB or 500MiB", shard);
		return WFCTL_USAGE;
	}
	if (shard && x.format != WF_EXPORT_SAFETENSORS)
		return wfctl_fail("export", "only safetensors files are split"), WFCTL_USAGE;
	if ((r = wfctl_check_place(WFCTL_EITHER, path)) != WFCTL_OK)
		return r;
	struct wf_checkpoint *ck = wfctl_is_mount(path) ? open_mounted(path) : wfctl_open(path, false);
	if (!ck)
		return WFCTL_FAILED;
	r = export(ck, &x, path, out);
	wf_close(ck);
	return r;
}
