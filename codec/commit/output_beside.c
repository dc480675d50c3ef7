/* SPDX-License-Identifier: MIT */
/* What stands beside a Hugging Face index and belongs to its model goes along to the output of a commit, where the directory has none of that
 * name: without it the new directory is no model. What cannot be read keeps nobody's edits from being written. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/commit/beside.h"
#include "codec/commit/output_inner.h"
#include "codec/commit/shards_inner.h"
#include "codec/directory/dcp_entries.h"

/* The checkpoint's directory. */
static int open_home(const struct wf_checkpoint *ck)
{
	cleanup_free char *path = strndup(ck->place.main, (size_t)(strrchr(ck->place.main, '/') - ck->place.main) + 1);
	return path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static int list(struct wf_commit_run *c, int home, struct wf_beside *ret)
{
	int r = home < 0 ? -errno : wf_beside_list(home, ret);
	return r < 0 ? wf_fail(c->err, r, "what stands beside %s: %s", c->ck->place.main, strerror(-r)) : 0;
}

int wf_output_beside_list(struct wf_commit_run *c, struct wf_key_map *names)
{
	struct wf_beside b = {0};
	cleanup_fd int home = open_home(c->ck);
	int r = list(c, home, &b);
	for (uint32_t i = 0; r == 0 && i < b.names.count; i++)
		if (wf_key_map_put(names, b.names.keys[i].bytes, b.names.keys[i].len, 0) < 0)
			r = wf_commit_no_memory(c);
	wf_beside_free(&b);
	return r;
}

/* ---- what stays behind ---- */

#define LINE_NAMES_BYTES 200 /* a line of the log is cut at 512 */
#define MAX_LINES 16

static void say_line(struct wf_commit_run *c, struct wf_buffer *names)
{
	if (names->len > 0 && wf_buffer_status(names) == 0)
		wf_log_line(&c->ck->log, "not copied to %.150s: %.*s", c->ck->output_set.path, (int)names->len,
			    (const char *)names->data);
	names->len = 0;
}

struct left {
	struct wf_commit_run *c;
	struct wf_buffer names;
	uint32_t lines, more;
};

/* why: NULL: nothing but the checkpoint's own files is copied. */
static void add_left(struct left *l, const char *name, const char *why)
{
	if (l->lines >= MAX_LINES) {
		l->more++;
		return;
	}
	wf_buffer_printf(&l->names, "%s%.100s", l->names.len > 0 ? ", " : "", name);
	if (why)
		wf_buffer_printf(&l->names, " (%s)", why);
	if (l->names.len > LINE_NAMES_BYTES) {
		say_line(l->c, &l->names);
		l->lines++;
	}
}

static bool is_own(const struct wf_commit_run *c, const char *name)
{
	const struct wf_container *old = c->ck->container;
	return !strcmp(name, strrchr(c->ck->place.main, '/') + 1) ||
	       (c->set ? wf_huggingface_shard_named(old, name) != WF_NO_RECORD : wf_dcp_has_file(old, name));
}

/* A file, or a folder with what is in it, that stands in the directory itself. */
static bool is_top(const char *name)
{
	const char *slash = strchr(name, '/');
	return !slash || !slash[1];
}

static void say_left(struct wf_commit_run *c, const struct wf_beside *b)
{
	struct left l = {.c = c, .names = WF_BUFFER_INIT};
	for (uint32_t i = 0; i < b->left.count; i++)
		if (!is_own(c, b->left.keys[i].bytes) && (c->set || is_top(b->left.keys[i].bytes)))
			add_left(&l, b->left.keys[i].bytes, c->set ? wf_beside_why(b->left.keys[i].value) : NULL);
	for (uint32_t i = 0; !c->set && i < b->names.count; i++)
		if (!is_own(c, b->names.keys[i].bytes) && is_top(b->names.keys[i].bytes))
			add_left(&l, b->names.keys[i].bytes, NULL);
	if (l.more > 0)
		wf_buffer_printf(&l.names, "%u more", l.more);
	say_line(c, &l.names);
	if (b->cut)
		wf_log_line(&c->ck->log,
			    "not all that stands beside %.150s is copied: it is more than is looked through",
			    c->ck->place.main);
	wf_buffer_free(&l.names);
}

/* ---- copying ---- */

/* As it is in the checkpoint, by the user's umask; one that is there is taken as it is. */
static int make_folder(struct wf_commit_run *c, int home, int directory, const char *name)
{
	cleanup_free char *path = strndup(name, strlen(name) - 1);
	struct stat st;
	if (!path)
		return wf_commit_no_memory(c);
	char *last = strrchr(path, '/');
	cleanup_fd int from = wf_open_folder(home, name);
	if (last)
		*last = '\0';
	cleanup_free char *above = NULL;
	if (asprintf(&above, "%s%s", last ? path : "", last ? "/" : "") < 0) {
		above = NULL;
		return wf_commit_no_memory(c);
	}
	cleanup_fd int to = wf_open_folder(directory, above);
	mode_t mode = from >= 0 && fstat(from, &st) == 0 ? st.st_mode & 0777 : 0777;
	if (to >= 0 && mkdirat(to, last ? last + 1 : path, mode | 0700) == 0)
		return fsync(to) < 0 ? wf_fail(c->err, -errno, "%s: %s", c->ck->output_set.path, strerror(errno)) : 0;
	int r = to < 0 ? to : -errno;
	return r == -EEXIST || r == -ENOTDIR || r == -ELOOP /* what is in it tells */
		       ? 0
		       : wf_fail(c->err, r, "cannot make %s in %s: %s", name, c->ck->output_set.path, strerror(-r));
}

static int copy_one(struct wf_commit_run *c, int home, int directory, const char *name)
{
	const char *out = c->ck->output_set.path, *slash = strrchr(name, '/');
	cleanup_free char *folder = strndup(name, slash ? (size_t)(slash + 1 - name) : 0);
	cleanup_free char *path = NULL;
	if (!folder || asprintf(&path, "%s%s%.*s", out, slash ? "/" : "", slash ? (int)(slash - name) : 0, name) < 0) {
		path = NULL;
		return wf_commit_no_memory(c);
	}
	const char *last = slash ? slash + 1 : name;
	cleanup_fd int to = wf_open_folder(directory, folder);
	if (to >= 0 && wf_output_has(to, last))
		return 0;
	cleanup_fd int from = to < 0 ? to : wf_beside_open(home, name);
	if (from < 0) {
		wf_log_line(&c->ck->log, "%s is not copied to %s: %s", name, out, strerror(-from));
		return 0;
	}
	return wf_output_copy_to(c, to, path, last, from);
}

int wf_output_beside_copy(struct wf_commit_run *c, int directory)
{
	struct wf_beside b = {0};
	cleanup_fd int home = open_home(c->ck);
	int r = list(c, home, &b);
	for (uint32_t i = 0; r == 0 && c->set && i < b.names.count; i++) {
		const char *name = b.names.keys[i].bytes;
		r = name[b.names.keys[i].len - 1] == '/' ? make_folder(c, home, directory, name)
							 : copy_one(c, home, directory, name);
	}
	if (r == 0 && !wf_output_has(directory, strrchr(c->ck->place.main, '/') + 1))
		say_left(c, &b);
	wf_beside_free(&b);
	return r;
}

bool wf_output_is_folder(const struct wf_key_map *noted, const char *name)
{
	char folder[NAME_MAX + 2];
	int n = snprintf(folder, sizeof folder, "%s/", name);
	return n < (int)sizeof folder && wf_key_map_get(noted, folder, (size_t)n);
}
