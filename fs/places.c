/* SPDX-License-Identifier: MIT */
/* Says what stands at a path, and where a checkpoint is mounted. */
#include "places.h"

#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mounts.h"

/* The absolute path without links in its directories. Its last part is not looked at: a dead mount does not answer. */
static bool mount_path(const char *path, char *buf, size_t size)
{
	char *copy = strdup(path), *slash, *parent = NULL;
	int n = -1;
	if (!copy)
		return false;
	for (size_t len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	slash = strrchr(copy, '/');
	const char *last = slash ? slash + 1 : copy;
	if (!*last || !strcmp(last, ".") || !strcmp(last, "..")) {
		parent = realpath(copy, NULL);
		n = parent ? snprintf(buf, size, "%s", parent) : -1;
	} else {
		if (slash)
			*slash = '\0';
		parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
		n = parent ? snprintf(buf, size, "%s/%s", strcmp(parent, "/") ? parent : "", last) : -1;
	}
	free(parent);
	free(copy);
	return n >= 0 && (size_t)n < size;
}

/* What is mounted exactly on a path. */
struct on_path {
	const char *path;
	struct fs_place *place;
};

static bool note_place(void *ctx, const struct fs_mount *m)
{
	const struct on_path *on = ctx;
	struct fs_place *p = on->place;
	if (strcmp(m->point, on->path) != 0)
		return false;
	*p = (struct fs_place){
		.mounted = true, .weightfs = m->weightfs, .owner = m->owner}; /* the last one is on top */
	snprintf(p->type, sizeof p->type, "%s", m->type);
	snprintf(p->checkpoint, sizeof p->checkpoint, "%s", m->source);
	return false;
}

bool fs_look_at(const char *path, struct fs_place *ret)
{
	char buf[PATH_MAX], *followed = NULL;
	*ret = (struct fs_place){0};
	if (!mount_path(path, buf, sizeof buf) || !fs_each_mount(NULL, note_place, &(struct on_path){buf, ret}))
		return false;
	if (!ret->mounted && (followed = realpath(path, NULL))) /* a link to a mount point */
		fs_each_mount(NULL, note_place, &(struct on_path){followed, ret});
	free(followed);
	return true;
}

/* The mount of a checkpoint, or the innermost one around a path. */
struct sought {
	const char *path;
	char *buf;
	size_t size, longest;
	bool found;
};

static bool shows_checkpoint(void *ctx, const struct fs_mount *m)
{
	struct sought *s = ctx;
	s->found = m->weightfs && m->writable && !strcmp(m->source, s->path);
	if (s->found)
		snprintf(s->buf, s->size, "%s", m->point);
	return s->found;
}

bool fs_mount_of(const char *checkpoint, char *buf, size_t size)
{
	char *path = realpath(checkpoint, NULL);
	struct sought s = {.path = path, .buf = buf, .size = size};
	if (path)
		fs_each_mount(NULL, shows_checkpoint, &s);
	free(path);
	return s.found;
}

static bool is_around(void *ctx, const struct fs_mount *m)
{
	struct sought *s = ctx;
	size_t n = strlen(m->point);
	if (n < s->longest || strncmp(s->path, m->point, n) != 0 || (s->path[n] != '/' && strcmp(m->point, "/") != 0))
		return false;
	s->longest = n; /* the innermost mount says what the path is in */
	s->found = m->weightfs;
	snprintf(s->buf, s->size, "%s", m->point);
	return false;
}

bool fs_mount_around(const char *path, char *buf, size_t size)
{
	char inside[PATH_MAX];
	struct sought s = {.path = inside, .buf = buf, .size = size};
	if (mount_path(path, inside, sizeof inside))
		fs_each_mount(NULL, is_around, &s);
	return s.found;
}

const char *fs_user_name(uid_t uid, char *buf, size_t size)
{
	const struct passwd *user = getpwuid(uid);
	if (user)
		snprintf(buf, size, "%s (user %u)", user->pw_name, (unsigned int)uid);
	else
		snprintf(buf, size, "user %u", (unsigned int)uid);
	return buf;
}

const char *fs_refuse_dash(const char *path)
{
	return strcmp(path, "-")
		       ? NULL
		       : "a checkpoint cannot come through a pipe, which cannot be read at random: save it to a file "
			 "first (./- is a file of that name)";
}
