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
#include <sys/resource.h>
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
#define MAX_TRIES 5u

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

/* The checkpoint that is mounted, for free(); NULL: why not was said. The edits so far are made durable, and then read as everything else. */
static char *mounted_checkpoint(const char *mount)
{
	struct wfctl_mounted m = {0};
	char *checkpoint = NULL;
	int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	wfctl_push_dirty_pages(mount);
	int r = fd < 0 || fsync(fd) < 0 ? -errno : wfctl_mounted_read(mount, &m);
	if (fd >= 0)
		close(fd);
	if (r == 0 && m.output)
		wfctl_fail(
			mount,
			"is mounted with -o output, whose edits stand beside another file: wfctl commit it, and export that file");
	else if (r < 0 || !m.checkpoint || !(checkpoint = strdup(m.checkpoint)))
		wfctl_fail_error(mount, r < 0 ? r : m.checkpoint ? -ENOMEM : -EIO, NULL);
	wfctl_mounted_free(&m);
	return checkpoint;
}

/* Which file of a mount lists the same, and all of it: none does for another format than safetensors. */
static void put_list(const struct wf_export *x, struct wf_buffer *out)
{
	const char *prefix = x->prefix ? x->prefix + strspn(x->prefix, "/") : "";
	int len = (int)strlen(prefix);
	while (len > 0 && prefix[len - 1] == '/')
		len--;
	if (x->format == WF_EXPORT_SAFETENSORS && len > 0)
		wf_buffer_printf(out, "; .weightfs/safetensors/%.*s/model.skipped of a mount lists them", len, prefix);
	else if (x->format == WF_EXPORT_SAFETENSORS)
		wf_buffer_puts(out, "; .weightfs/model.skipped of a mount lists them");
	wf_buffer_puts(out, "");
}

/* What has no place in the new file is told in one line, or all of it where that is little. */
static void tell_skipped(const struct wf_export *x, const struct wf_buffer *skipped)
{
	struct wf_buffer list = WF_BUFFER_INIT;
	size_t lines = 0;
	for (size_t i = 0; i < skipped->len; i++)
		lines += skipped->data[i] == '\n';
	if (lines == 0)
		return;
	const char *tab = memchr(skipped->data, '\t', skipped->len), *end = memchr(skipped->data, '\n', skipped->len);
	int name = (int)(tab - skipped->data), reason = (int)(end - tab - 1);
	put_list(x, &list);
	if (lines == 1)
		wfctl_fail(NULL, "left out: %.*s (%.*s)", name, skipped->data, reason, tab + 1);
	else
		wfctl_fail(NULL, "left out: %zu entries, as %.*s (%.*s)%s", lines, name, skipped->data, reason, tab + 1,
			   list.data ? list.data : "");
	wf_buffer_free(&list);
}

static int export(struct wf_checkpoint *ck, struct wf_export *x, const char *out, struct wf_error *err)
{
	struct showing s = {0};
	struct wf_buffer skipped = WF_BUFFER_INIT;
	bool shows = isatty(STDERR_FILENO) && pthread_create(&s.thread, NULL, show, &s) == 0;
	x->done_bytes = &s.done;
	x->total_bytes = &s.total;
	int r = wf_export(ck, x, out, &skipped, err);
	atomic_store(&s.over, true);
	if (shows)
		pthread_join(s.thread, NULL);
	wfctl_progress(NULL);
	if (r == 0)
		tell_skipped(x, &skipped);
	wf_buffer_free(&skipped);
	return r;
}

/* Of the file that a commit replaces or changes last, and of the log of the edits that wait. */
struct state {
	struct stat main, log;
};

static void look_at(const char *path, struct stat *ret)
{
	if (stat(path, ret) < 0)
		*ret = (struct stat){0};
}

static struct state state_of(const char *checkpoint)
{
	struct state s = {0};
	char *path = NULL, *main_file = NULL, *log = NULL;
	if (wf_places(checkpoint, &path, &main_file, NULL) == 0) {
		look_at(main_file, &s.main);
		if (asprintf(&log, "%s.weightfs/log", path) >= 0) {
			look_at(log, &s.log);
			free(log);
		}
	}
	free(path);
	free(main_file);
	return s;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Returns a negative errno as wf_export, or an exit status. *ret_changed: whether checkpoint and edits are others than at the beginning. */
static int export_once(const char *checkpoint, struct wf_export *x, const char *out, struct wf_error *err,
		       bool *ret_changed)
{
	struct state before = state_of(checkpoint), after;
	struct wf_checkpoint *ck = wfctl_open(checkpoint, false);
	if (!ck)
		return WFCTL_FAILED;
	int r = export(ck, x, out, err);
	wf_close(ck);
	after = state_of(checkpoint);
	*ret_changed = !is_same(&before.main, &after.main) || !is_same(&before.log, &after.log);
	return r;
}

/* Who edits and commits meanwhile takes bytes of edits, and files of a directory, away from under a reader: then the new state is exported. */
static int export_some_state(const char *path, struct wf_export *x, const char *out)
{
	for (unsigned int tries = 1;; tries++) {
		struct wf_error err = {0};
		bool changed = false;
		char *checkpoint = wfctl_is_mount(path) ? mounted_checkpoint(path) : strdup(path);
		int r = checkpoint ? export_once(checkpoint, x, out, &err, &changed) : WFCTL_FAILED;
		free(checkpoint);
		if (r >= 0)
			return r;
		if (tries == MAX_TRIES || !changed)
			return wfctl_fail_error(path, r, &err);
	}
}

/* Each shard stays open until all of them are written. */
static void raise_file_limit(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

int wfctl_export(const struct wfctl_call *call)
{
	const char *path = call->arguments[0], *out = call->arguments[1], *shard = wfctl_given(call, "max-shard-size");
	struct wf_export x = {.prefix = wfctl_given(call, "prefix"),
			      .mode = new_mode(),
			      .last = true,
			      .skip = wfctl_given(call, "skip") != NULL};
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
	if (shard)
		raise_file_limit();
	return export_some_state(path, &x, out);
}
