/* SPDX-License-Identifier: MIT */
/* wfctl mv, rm, ln and mkdir: edits of names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/keys.h"
#include "fs/wfctl/remove.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/session.h"
#include "fs/wfctl/target.h"

/* ---- mv ---- */

static bool is_inside(const char *path, const char *directory)
{
	size_t len = strlen(directory);
	return !strncmp(path, directory, len) && path[len] == '/';
}

/* Why mv(1) would not do it; NULL: it would. */
static const char *refusal(const char *from, const char *to, const struct wfctl_entry *a, const struct wfctl_entry *b)
{
	if (!strcmp(from, to))
		return "the same key twice";
	if (is_inside(to, from))
		return "a mapping cannot go into itself";
	if (b && b->type == WF_DIRECTORY && a->type != WF_DIRECTORY)
		return "a mapping is there, which is not replaced by something else";
	if (b && b->type != WF_DIRECTORY && a->type == WF_DIRECTORY)
		return "what is there is not replaced by a mapping";
	return NULL;
}

static int move(struct wfctl_store *s, const char *from, const char *to, bool keep)
{
	struct wfctl_entry a, b;
	int r = s->calls->stat(s, from, false, &a);
	if (r < 0)
		return wfctl_store_fail(s, from, r, NULL);
	r = s->calls->stat(s, to, false, &b);
	if (r < 0 && r != -ENOENT)
		return wfctl_store_fail(s, to, r, NULL);
	bool there = r == 0;
	if (there && keep)
		return WFCTL_OK;
	const char *why = refusal(from, to, &a, there ? &b : NULL);
	if (why)
		return wfctl_fail(s->path, "%s: not moved to %s: %s", from, to, why);
	/* rename(2) does nothing for two names of one file */
	r = there && a.type == WF_FILE && a.ino == b.ino ? s->calls->unlink(s, from) : s->calls->rename(s, from, to, 0);
	return r < 0 ? wfctl_store_fail(s, r == -ENOTEMPTY ? to : from, r, "not moved") : WFCTL_OK;
}

int wfctl_mv(const struct wfctl_call *call)
{
	struct wfctl_store *s = wfctl_session_edit(call->session, call->arguments[0]);
	struct wfctl_keys keys = {0};
	struct wfctl_target target = {0};
	if (!s)
		return WFCTL_FAILED;
	int r = wfctl_keys_expand(s, call->arguments + 1, call->count - 2, &keys);
	if (r == WFCTL_OK)
		r = wfctl_target_find(s, call->arguments[call->count - 1], keys.count,
				      wfctl_given(call, "no-target-directory"), &target);
	for (size_t i = 0; r == WFCTL_OK && i < keys.count; i++) {
		char *to = wfctl_target_for(&target, keys.key[i]);
		r = !*keys.key[i] ? wfctl_fail(s->path, "the root cannot be moved")
		    : to          ? move(s, keys.key[i], to, wfctl_given(call, "no-clobber"))
				  : WFCTL_FAILED;
		free(to);
	}
	wfctl_target_free(&target);
	wfctl_keys_free(&keys);
	return r;
}

/* ---- rm ---- */

static int find_removed(struct wfctl_store *s, const struct wfctl_call *call, bool force, struct wfctl_keys *keys)
{
	for (int i = 1; i < call->count; i++) {
		int found = wfctl_keys_find(s, call->arguments[i], keys);
		if (found == -EINVAL)
			return WFCTL_FAILED;
		if (found < 0 || (found == 0 && !force))
			return wfctl_store_fail(s, call->arguments[i], found < 0 ? found : -ENOENT, NULL);
	}
	return WFCTL_OK;
}

static int remove_one(struct wfctl_store *s, const char *key, bool recursive, bool directories, bool force)
{
	struct wfctl_entry e;
	int r = s->calls->stat(s, key, false, &e);
	if (r == -ENOENT && force)
		return WFCTL_OK; /* it was given twice, or went with another */
	if (r < 0)
		return wfctl_store_fail(s, key, r, NULL);
	if (!*key)
		return wfctl_fail(s->path, "the root cannot be removed");
	if (e.type != WF_DIRECTORY)
		r = s->calls->unlink(s, key);
	else if (recursive)
		r = wfctl_remove_all(s, key);
	else if (directories)
		r = s->calls->rmdir(s, key);
	else
		r = -EISDIR;
	return r < 0 ? wfctl_store_fail(s, key, r, "not removed") : WFCTL_OK;
}

int wfctl_rm(const struct wfctl_call *call)
{
	struct wfctl_store *s = wfctl_session_edit(call->session, call->arguments[0]);
	struct wfctl_keys keys = {0};
	bool force = wfctl_given(call, "force");
	if (!s)
		return WFCTL_FAILED;
	int r = find_removed(s, call, force, &keys);
	for (size_t i = 0; r == WFCTL_OK && i < keys.count; i++)
		r = remove_one(s, keys.key[i], wfctl_given(call, "recursive"), wfctl_given(call, "dir"), force);
	wfctl_keys_free(&keys);
	return r;
}

/* ---- ln ---- */

/* The way from the directory of `from` to a path: "../" for each level, then the path. Neither leads over a link: where one stands,
 * ".." is not the way back. */
static char *way_to(const char *from, const char *to)
{
	struct wf_buffer way = WF_BUFFER_INIT;
	size_t same = 0;
	for (size_t i = 0; from[i] && from[i] == to[i]; i++)
		if (from[i] == '/')
			same = i + 1;
	for (const char *at = from + same; (at = strchr(at, '/')); at++)
		wf_buffer_puts(&way, "../");
	wf_buffer_puts(&way, to + same);
	if (wf_buffer_status(&way) < 0)
		wf_buffer_free(&way);
	return wf_buffer_steal(&way);
}

static int put_link(struct wfctl_store *s, const char *from, const char *to, bool symbolic)
{
	if (!symbolic)
		return s->calls->link(s, from, to);
	struct wf_buffer real = WF_BUFFER_INIT;
	bool mapping = s->calls->resolve(s, from, &real) == 0;
	char *target = mapping ? wf_buffer_steal(&real) : wfctl_key_resolve(s, from),
	     *place = target ? wfctl_key_resolve(s, to) : NULL;
	char *way = place ? way_to(place, target) : NULL;
	int r = way ? s->calls->symlink(s, way, to) : -errno;
	wf_buffer_free(&real);
	free(target);
	free(place);
	free(way);
	return r;
}

static int tie(struct wfctl_store *s, const char *from, const char *to, bool symbolic, bool force)
{
	struct wfctl_entry e, old;
	int r = s->calls->stat(s, from, false, &e);
	if (r < 0)
		return wfctl_store_fail(s, from, r, NULL);
	if (e.type == WF_DIRECTORY && !symbolic)
		return wfctl_fail(s->path, "%s: a mapping has no hard links; -s makes it stand at a second place",
				  from);
	if (!strcmp(from, to))
		return wfctl_fail(s->path, "%s: the same key twice", from);
	if (force && s->calls->stat(s, to, false, &old) == 0 && old.type != WF_DIRECTORY) {
		if (old.ino == e.ino)
			return WFCTL_OK;
		r = s->calls->unlink(s, to);
	}
	if (r == 0)
		r = put_link(s, from, to, symbolic);
	return r < 0 ? wfctl_store_fail(s, to, r, "no link") : WFCTL_OK;
}

int wfctl_ln(const struct wfctl_call *call)
{
	struct wfctl_store *s = wfctl_session_edit(call->session, call->arguments[0]);
	struct wfctl_keys keys = {0};
	struct wfctl_target target = {0};
	int sources = call->count > 2 ? call->count - 2 : 1;
	if (!s)
		return WFCTL_FAILED;
	int r = wfctl_keys_expand(s, call->arguments + 1, sources, &keys);
	if (r == WFCTL_OK)
		r = wfctl_target_find(s, call->count > 2 ? call->arguments[call->count - 1] : "", keys.count,
				      wfctl_given(call, "no-target-directory"), &target);
	for (size_t i = 0; r == WFCTL_OK && i < keys.count; i++) {
		char *to = wfctl_target_for(&target, keys.key[i]);
		r = to ? tie(s, keys.key[i], to, wfctl_given(call, "symbolic"), wfctl_given(call, "force"))
		       : WFCTL_FAILED;
		free(to);
	}
	wfctl_target_free(&target);
	wfctl_keys_free(&keys);
	return r;
}

/* ---- mkdir ---- */

static int make_parents(struct wfctl_store *s, char *path)
{
	struct wfctl_entry e;
	int r = 0;
	for (char *slash = strchr(path, '/'); r == 0 && slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (s->calls->stat(s, path, true, &e) == -ENOENT)
			r = s->calls->mkdir(s, path);
		*slash = '/';
	}
	return r;
}

static int make(struct wfctl_store *s, const char *text, bool parents)
{
	struct wfctl_keys there = {0};
	struct wfctl_entry e;
	int found = wfctl_keys_find(s, text, &there), r;
	bool mappings = found > 0 && parents;
	for (size_t i = 0; i < there.count; i++)
		mappings &= s->calls->stat(s, there.key[i], true, &e) == 0 && e.type == WF_DIRECTORY;
	wfctl_keys_free(&there);
	if (found == -EINVAL || mappings)
		return mappings ? WFCTL_OK : WFCTL_FAILED;
	if (found != 0)
		return wfctl_store_fail(s, text, found < 0 ? found : -EEXIST, NULL);
	char *path = wfctl_key_new(s, text);
	if (!path)
		return WFCTL_FAILED;
	r = parents ? make_parents(s, path) : 0;
	if (r == 0)
		r = s->calls->mkdir(s, path);
	free(path);
	return r < 0 ? wfctl_store_fail(s, text, r, "no mapping made") : WFCTL_OK;
}

int wfctl_mkdir(const struct wfctl_call *call)
{
	struct wfctl_store *s = wfctl_session_edit(call->session, call->arguments[0]);
	int r = s ? WFCTL_OK : WFCTL_FAILED;
	for (int i = 1; r == WFCTL_OK && i < call->count; i++)
		r = make(s, call->arguments[i], wfctl_given(call, "parents"));
	return r;
}
