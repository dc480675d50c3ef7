/* SPDX-License-Identifier: MIT */
/* The temporary file of a commit: dressed as the old one, written, and renamed over it. */
#include "codec/commit/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

#define MARK ".weightfs-"
#define RANDOM_LEN 6

static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

/* ".NAME.weightfs-", cut so that the whole stays a legal name. */
static void make_stem(const char *target, char stem[NAME_MAX + 1])
{
	const char *slash = strrchr(target, '/'), *name = slash ? slash + 1 : target;
	size_t room = NAME_MAX - 1 - strlen(MARK) - RANDOM_LEN, len = strnlen(name, room);
	stem[0] = '.';
	memcpy(stem + 1, name, len);
	memcpy(stem + 1 + len, MARK, strlen(MARK) + 1);
}

/* A file that nobody holds locked is what a crash left over. */
static void remove_orphans(int directory, const char *stem)
{
	int list = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = list < 0 ? NULL : fdopendir(list);
	size_t len = strlen(stem);
	struct dirent *e;
	while (d && (e = readdir(d))) {
		if (strncmp(e->d_name, stem, len) != 0 || strlen(e->d_name) != len + RANDOM_LEN)
			continue;
		cleanup_fd int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
	else if (list >= 0)
		close(list);
}

static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* mkostemp in an open directory: the path ends in XXXXXX. */
static int make_temporary(int directory, char *path)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	unsigned char random[RANDOM_LEN];
	char *end = path + strlen(path) - RANDOM_LEN;
	for (int attempt = 0; attempt < 100; attempt++) {
		if (getrandom(random, sizeof random, 0) != sizeof random)
			return -EAGAIN;
		for (int i = 0; i < RANDOM_LEN; i++)
			end[i] = letters[random[i] % (sizeof letters - 1)];
		int fd = openat(directory, name_of(path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0 || errno != EEXIST)
			return fd < 0 ? -errno : fd;
	}
	return -EEXIST;
}

int wf_new_file_open(struct wf_new_file *f, const char *target, int home, struct wf_error *err)
{
	char stem[NAME_MAX + 1];
	*f = (struct wf_new_file)WF_NEW_FILE_INIT;
	make_stem(target, stem);
	f->target = strdup(target);
	f->directory = directory_of(target);
	if (!f->target || !f->directory || asprintf(&f->path, "%s/%sXXXXXX", f->directory, stem) < 0) {
		f->path = NULL;
		wf_new_file_free(f);
		close(home);
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	f->home = home;
	remove_orphans(f->home, stem);
	int r = make_temporary(f->home, f->path);
	if (r < 0) {
		free(f->path);
		f->path = NULL;
		wf_fail(err, r, "cannot make a new file in %s: %s", f->directory, strerror(-r));
		wf_new_file_free(f);
		return r;
	}
	f->fd = r;
	flock(f->fd, LOCK_EX | LOCK_NB); /* where locks do not work, orphans are never found free either */
	return 0;
}

int wf_new_file_make(struct wf_new_file *f, const char *target, int home, struct wf_error *err)
{
	*f = (struct wf_new_file)WF_NEW_FILE_INIT;
	f->home = home;
	f->target = strdup(target);
	f->directory = directory_of(target);
	if (!f->target || !f->directory) {
		f->home = -1;
		wf_new_file_free(f);
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	f->fd = openat(home, name_of(target), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = f->fd < 0 ? -errno : 0;
	if (r == 0 && !(f->path = strdup(target)))
		r = -ENOMEM;
	if (r < 0) {
		if (f->fd >= 0)
			unlinkat(home, name_of(target), 0);
		wf_fail(err, r, "cannot make %s: %s", target, strerror(-r));
		f->home = -1;
		wf_new_file_free(f);
	}
	return r;
}

void wf_new_file_stay(struct wf_new_file *f)
{
	free(f->path);
	f->path = NULL;
}

void wf_new_file_free(struct wf_new_file *f)
{
	if (f->path)
		unlinkat(f->home, name_of(f->path), 0);
	if (f->fd >= 0)
		close(f->fd);
	if (f->home >= 0)
		close(f->home);
	free(f->path);
	free(f->directory);
	free(f->target);
	*f = (struct wf_new_file)WF_NEW_FILE_INIT;
}

static bool may_be_left(int error)
{
	return error == EPERM || error == EACCES || error == ENOTSUP || error == ENODATA || error == EINVAL;
}

static int copy_attribute(int from, int to, const char *name)
{
	ssize_t n = fgetxattr(from, name, NULL, 0);
	if (n < 0)
		return may_be_left(errno) ? 0 : -errno;
	cleanup_free char *value = malloc((size_t)n + 1);
	if (!value)
		return -ENOMEM;
	n = fgetxattr(from, name, value, (size_t)n);
	if (n < 0 || fsetxattr(to, name, value, (size_t)n, 0) < 0)
		return may_be_left(errno) ? 0 : -errno;
	return 0;
}

/* Access lists are attributes, too: system.posix_acl_access. */
static int copy_attributes(int from, int to)
{
	ssize_t n = flistxattr(from, NULL, 0);
	if (n <= 0)
		return n == 0 || may_be_left(errno) ? 0 : -errno;
	cleanup_free char *names = malloc((size_t)n);
	if (!names)
		return -ENOMEM;
	n = flistxattr(from, names, (size_t)n);
	if (n < 0)
		return may_be_left(errno) ? 0 : -errno;
	int r = 0;
	for (const char *name = names; name < names + n && r == 0; name += strlen(name) + 1)
		r = copy_attribute(from, to, name);
	return r;
}

int wf_new_file_dress(const struct wf_new_file *f, int like, struct wf_error *err)
{
	struct stat st, now;
	int r = 0;
	if (fstat(like, &st) < 0 || fstat(f->fd, &now) < 0)
		return wf_fail(err, -errno, "cannot look at the checkpoint: %s", strerror(errno));
	/* owner before mode: a change of owner clears bits. Without the privilege the group alone may still be ours. */
	if ((st.st_uid != now.st_uid || st.st_gid != now.st_gid) && fchown(f->fd, st.st_uid, st.st_gid) < 0 &&
	    fchown(f->fd, (uid_t)-1, st.st_gid) < 0 && !may_be_left(errno))
		r = -errno;
	if (r == 0)
		r = copy_attributes(like, f->fd);
	if (r == 0 && fchmod(f->fd, st.st_mode & 07777) < 0 && !may_be_left(errno))
		r = -errno;
	return r < 0 ? wf_fail(err, r, "cannot give the new file the owner and attributes of the old one: %s",
			       strerror(-r))
		     : 0;
}

int wf_new_file_reopen(const struct wf_new_file *f)
{
	int fd = openat(f->home, name_of(f->path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int wf_new_file_rename(struct wf_new_file *f, bool *ret_renamed, struct wf_error *err)
{
	*ret_renamed = false;
	if (renameat(f->home, name_of(f->path), f->home, name_of(f->target)) < 0)
		return wf_fail(err, -errno, "cannot rename the new file to %s: %s", f->target, strerror(errno));
	*ret_renamed = true;
	free(f->path);
	f->path = NULL;
	int r = wf_sync_directory(f->home);
	return r < 0 ? wf_fail(err, r, "cannot make the new name durable: %s", strerror(-r)) : 0;
}

int wf_new_file_link(struct wf_new_file *f, struct wf_error *err)
{
	int r = 0;
	/* some file systems know only one of the two */
	if (renameat2(f->home, name_of(f->path), f->home, name_of(f->target), RENAME_NOREPLACE) == 0)
		free(steal_pointer(&f->path));
	else
		r = errno != EINVAL                                                         ? -errno
		    : linkat(f->home, name_of(f->path), f->home, name_of(f->target), 0) < 0 ? -errno
											    : 0;
	if (r < 0)
		return wf_fail(err, r, "%s: %s", f->target, strerror(-r));
	r = wf_sync_directory(f->home);
	if (r < 0)
		unlinkat(f->home, name_of(f->target), 0);
	return r < 0 ? wf_fail(err, r, "cannot make the new name durable: %s", strerror(-r)) : 0;
}
