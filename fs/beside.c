/* SPDX-License-Identifier: MIT */
/* Where a mount's edits go, and whether they can: known before anything is mounted, not at the first edit. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beside.h"
#include "codec/checkpoint.h"

/* The directory of a file that need not exist, opened for looking only; *ret_name: its path, for free(), made of `file`. */
static int open_parent_of(char *file, char **ret_name, int *ret_fd)
{
	if (!file)
		return -ENOMEM;
	char *slash = strrchr(file, '/');
	if (!slash)
		strcpy(file, "."); /* a name has room for it */
	else
		slash[slash == file] = '\0';
	int fd = open(file, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;
	*ret_name = file;
	*ret_fd = fd;
	return r;
}

/* The same of where a link leads. */
static int open_directory_of(const char *path, char **ret_name, int *ret_fd)
{
	char *file = realpath(path, NULL);
	return open_parent_of(file ? file : strdup(path), ret_name, ret_fd);
}

static int cannot(char **ret_why, const char *what, int code)
{
	if (asprintf(ret_why, "%s cannot be written: %s", what, strerror(-code)) < 0)
		*ret_why = NULL;
	return code;
}

/* r: of opening it. The descriptor and the name are taken over. */
static int check_directory(int r, int fd, char *name, int *ret_fd, char **ret_why)
{
	if (r == 0 && faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		close(fd);
	if (r < 0)
		cannot(ret_why, name ? name : "its directory", r);
	free(name);
	*ret_fd = r < 0 ? -1 : fd;
	return r;
}

/* The overlay stands beside `path`, and commits beside `main`. */
static int check_main(const char *path, const char *main, char **ret_why)
{
	char *directory = NULL;
	int fd = -1;
	if (!strcmp(path, main)) /* one file: it may be that of a directory */
		return faccessat(AT_FDCWD, main, W_OK, AT_EACCESS) < 0 ? cannot(ret_why, "it", -errno) : 0;
	int r = open_parent_of(strdup(main), &directory, &fd);
	r = check_directory(r, fd, directory, &fd, ret_why);
	if (fd >= 0)
		close(fd);
	return r;
}

/* A checkpoint in several files, which may be written into a directory. */
static bool has_several(const char *checkpoint)
{
	char *path, *main;
	struct wf_error ignored;
	if (wf_places(checkpoint, &path, &main, &ignored) < 0)
		return false;
	bool several = strcmp(path, main) != 0;
	free(path);
	free(main);
	return several;
}

/* The new file, or directory, and the overlay are made beside it. */
static int check_output(const char *checkpoint, const char *output, int *ret_directory, char **ret_why)
{
	struct stat st;
	char *directory = NULL, *name = strdup(output);
	size_t len = strlen(output);
	int fd = -1;
	if (!name)
		return -ENOMEM;
	bool several = has_several(checkpoint), there = stat(output, &st) == 0;
	while (several && len > 1 && name[len - 1] == '/')
		name[--len] = '\0';
	if (there && !S_ISREG(st.st_mode) && !(several && S_ISDIR(st.st_mode))) {
		free(name);
		return cannot(ret_why, output, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL);
	}
	int r = open_directory_of(name, &directory, &fd);
	free(name);
	return check_directory(r, fd, directory, ret_directory, ret_why);
}

int fs_beside_open(const char *checkpoint, const char *output, int *ret_directory, char **ret_why)
{
	char *directory = NULL, *path = NULL, *main = NULL;
	*ret_why = NULL;
	if (!output && faccessat(AT_FDCWD, checkpoint, W_OK, AT_EACCESS) < 0)
		return cannot(ret_why, "it", -errno);
	struct wf_error ignored;
	int fd = -1, r;
	if (output)
		return check_output(checkpoint, output, ret_directory, ret_why);
	/* what is no checkpoint is told by who opens it */
	if (wf_places(checkpoint, &path, &main, &ignored) < 0) {
		r = open_directory_of(checkpoint, &directory, &fd);
		return check_directory(r, fd, directory, ret_directory, ret_why);
	}
	r = open_parent_of(strdup(path), &directory, &fd);
	r = check_directory(r, fd, directory, ret_directory, ret_why);
	if (r == 0)
		r = check_main(path, main, ret_why);
	if (r < 0 && *ret_directory >= 0) {
		close(*ret_directory);
		*ret_directory = -1;
	}
	free(path);
	free(main);
	return r;
}

/* Whether the directory, or one that it stands in, is that one. The descriptor is closed. */
static bool is_below(int fd, const struct stat *above)
{
	struct stat st, up;
	bool found = false;
	while (fd >= 0 && fstat(fd, &st) == 0 && !(found = st.st_dev == above->st_dev && st.st_ino == above->st_ino)) {
		int parent = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = parent;
		if (fd < 0 || fstat(fd, &up) < 0 || (up.st_dev == st.st_dev && up.st_ino == st.st_ino))
			break;
	}
	if (fd >= 0)
		close(fd);
	return found;
}

static bool hides(const struct stat *mountpoint, const char *file)
{
	char *directory = NULL;
	int fd = -1;
	bool hidden = open_directory_of(file, &directory, &fd) == 0 && is_below(fd, mountpoint);
	/* of a checkpoint that is a directory, its files */
	hidden = hidden || is_below(open(file, O_PATH | O_DIRECTORY | O_CLOEXEC), mountpoint);
	free(directory);
	return hidden;
}

/* The mount point is the overlay, or stands in it. */
static bool is_overlay(const char *mountpoint, const char *file)
{
	struct stat st;
	char *target = realpath(file, NULL), *overlay = NULL;
	bool inside = asprintf(&overlay, "%s.weightfs", target ? target : file) >= 0 && stat(overlay, &st) == 0 &&
		      is_below(open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC), &st);
	free(overlay);
	free(target);
	return inside;
}

const char *fs_beside_hidden_by(const char *mountpoint, const char *checkpoint, const char *output)
{
	struct stat st;
	if (stat(mountpoint, &st) < 0)
		return NULL; /* told when it is mounted */
	if (output && (hides(&st, output) || is_overlay(mountpoint, output)))
		return output;
	return hides(&st, checkpoint) || (!output && is_overlay(mountpoint, checkpoint)) ? checkpoint : NULL;
}
