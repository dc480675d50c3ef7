#include "places.h"

#include <limits.h>
#include <mntent.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static bool is_weightfs(const struct mntent *m)
{
	return !strcmp(m->mnt_type, "fuse.weightfs");
}

static void look_for(const char *path, struct fs_place *ret)
{
	FILE *table = setmntent("/proc/self/mounts", "re");
	for (struct mntent *m; table && (m = getmntent(table));) {
		const char *owner = strstr(m->mnt_opts, "user_id=");
		if (strcmp(m->mnt_dir, path) != 0)
			continue;
		*ret = (struct fs_place){.mounted = true, .weightfs = is_weightfs(m)}; /* the last one is on top */
		snprintf(ret->type, sizeof ret->type, "%s", m->mnt_type);
		snprintf(ret->checkpoint, sizeof ret->checkpoint, "%s", m->mnt_fsname);
		ret->owner = owner ? (uid_t)strtoul(owner + strlen("user_id="), NULL, 10) : 0;
	}
	if (table)
		endmntent(table);
}

bool fs_look_at(const char *path, struct fs_place *ret)
{
	char buf[PATH_MAX], *followed = NULL;
	*ret = (struct fs_place){0};
	if (!mount_path(path, buf, sizeof buf))
		return false;
	look_for(buf, ret);
	if (!ret->mounted && (followed = realpath(path, NULL))) /* a link to a mount point */
		look_for(followed, ret);
	free(followed);
	return true;
}

bool fs_mount_of(const char *checkpoint, char *buf, size_t size)
{
	char *path = realpath(checkpoint, NULL);
	FILE *table = path ? setmntent("/proc/self/mounts", "re") : NULL;
	bool found = false;
	for (struct mntent *m; table && !found && (m = getmntent(table));) {
		found = is_weightfs(m) && !strcmp(m->mnt_fsname, path) && hasmntopt(m, "rw");
		if (found)
			snprintf(buf, size, "%s", m->mnt_dir);
	}
	if (table)
		endmntent(table);
	free(path);
	return found;
}

bool fs_mount_around(const char *path, char *buf, size_t size)
{
	char inside[PATH_MAX];
	FILE *table = mount_path(path, inside, sizeof inside) ? setmntent("/proc/self/mounts", "re") : NULL;
	size_t longest = 0;
	bool found = false;
	for (struct mntent *m; table && (m = getmntent(table));) {
		size_t n = strlen(m->mnt_dir);
		if (n < longest || strncmp(inside, m->mnt_dir, n) != 0 || (inside[n] != '/' && strcmp(m->mnt_dir, "/") != 0))
			continue;
		longest = n; /* the innermost mount says what the path is in */
		found = is_weightfs(m);
		snprintf(buf, size, "%s", m->mnt_dir);
	}
	if (table)
		endmntent(table);
	return found;
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
	return strcmp(path, "-") ? NULL
				 : "a checkpoint cannot come through a pipe, which cannot be read at random: save it to a file "
				   "first (./- is a file of that name)";
}
