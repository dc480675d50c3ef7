/* SPDX-License-Identifier: MIT */
/* A mount as a store: ordinary system calls on its files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/wfctl/fail.h"
#include "fs/wfctl/keys.h"
#include "fs/wfctl/mount_keys.h"
#include "fs/wfctl/mount_reason.h"
#include "fs/wfctl/store.h"

#define ATTRIBUTE_MAX 65536

struct mount {
	int fd; /* of the mount point */
	struct wfctl_mount_keys keys;
};

/* r: of a system call on the path. */
static int told(struct wfctl_store *s, int r, const char *path)
{
	if (r >= 0)
		return 0;
	r = -errno;
	wfctl_mount_reason(s, r, path);
	return r;
}

/* After an edit names can have other keys. */
static int edited(struct wfctl_store *s, int r, const char *path)
{
	wfctl_mount_keys_free(&((struct mount *)s->own)->keys);
	return told(s, r, path);
}

static int root_of(const struct wfctl_store *s)
{
	return ((const struct mount *)s->own)->fd;
}

/* Extended attributes have no calls for a path below a directory. */
static int full_path(const struct wfctl_store *s, const char *path, char buf[PATH_MAX])
{
	return snprintf(buf, PATH_MAX, "%s/%s", s->path, path) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static const char *at_root(const char *path)
{
	return *path ? path : ".";
}

static int done(int r)
{
	return r < 0 ? -errno : 0;
}

/* A verb makes keys, and a mount would take such a name for scratch space of an editor. One that is there may be a key. */
static int check_new(struct wfctl_store *s, const char *path)
{
	struct stat st;
	s->reason[0] = '\0';
	if (!wf_is_scratch_name(wfctl_key_name(path)) || fstatat(root_of(s), path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	s->reason_code = -EINVAL;
	snprintf(s->reason, sizeof s->reason, "%s is a name that editors leave behind, which never becomes a key",
		 wfctl_key_name(path));
	return -EINVAL;
}

/* ---- looking ---- */

static struct wfctl_entry entry_of(const struct stat *st)
{
	return (struct wfctl_entry){.type = S_ISDIR(st->st_mode)   ? WF_DIRECTORY
					    : S_ISLNK(st->st_mode) ? WF_SYMLINK
								   : WF_FILE,
				    .ino = st->st_ino,
				    .links = (uint32_t)st->st_nlink,
				    .bytes = (uint64_t)st->st_size,
				    .writable = st->st_mode & 0222};
}

static int m_stat(struct wfctl_store *s, const char *path, bool follow, struct wfctl_entry *ret)
{
	struct stat st;
	int r = done(fstatat(root_of(s), at_root(path), &st, follow ? 0 : AT_SYMLINK_NOFOLLOW));
	if (r == 0)
		*ret = entry_of(&st);
	return r;
}

static int m_list(struct wfctl_store *s, const char *path,
		  int (*each)(void *, const char *, const struct wfctl_entry *), void *ctx)
{
	int fd = openat(root_of(s), at_root(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	for (struct dirent *e; r == 0 && (errno = 0, e = readdir(d));) {
		struct stat st;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			r = errno == ENOENT ? 0 : -errno; /* somebody removed it meanwhile */
			continue;
		}
		struct wfctl_entry entry = entry_of(&st);
		r = each(ctx, e->d_name, &entry);
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(d);
	return r;
}

static int m_resolve(struct wfctl_store *s, const char *path, struct wf_buffer *ret)
{
	char full[PATH_MAX], top[PATH_MAX], in[PATH_MAX];
	int r = full_path(s, path, full);
	if (r < 0)
		return r;
	if (!realpath(s->path, top) || !realpath(full, in))
		return -errno;
	size_t above = strcmp(top, "/") ? strlen(top) : 0;
	if (strncmp(in, top, above) != 0)
		return -EXDEV;
	wf_buffer_puts(ret, in[above] == '/' ? in + above + 1 : in + above);
	return wf_buffer_status(ret);
}

static int m_readlink(struct wfctl_store *s, const char *path, struct wf_buffer *ret)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(root_of(s), path, target, sizeof target);
	if (n < 0)
		return -errno;
	wf_buffer_append(ret, target, (size_t)n);
	return wf_buffer_status(ret);
}

/* ---- files ---- */

static int m_open(struct wfctl_store *s, const char *path, int flags, struct wfctl_file **ret)
{
	struct wfctl_file *f = calloc(1, sizeof *f);
	int how = O_CLOEXEC | (flags & WFCTL_WRITE ? O_WRONLY : O_RDONLY) | (flags & WFCTL_NEW ? O_CREAT | O_EXCL : 0) |
		  (flags & WFCTL_EMPTY ? O_TRUNC : 0);
	int r = flags & WFCTL_NEW ? check_new(s, path) : 0;
	if (!f || r < 0 || !(f->path = strdup(path))) {
		free(f);
		return r < 0 ? r : -ENOMEM;
	}
	f->store = s;
	f->fd = openat(root_of(s), at_root(path), how, 0666);
	r = told(s, f->fd, path);
	if (r < 0) {
		free(f->path);
		free(f);
		return r;
	}
	if (flags & WFCTL_NEW)
		edited(s, 0, path);
	*ret = f;
	return 0;
}

static ssize_t m_read(struct wfctl_file *f, uint64_t offset, void *buf, size_t len)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = pread(f->fd, (char *)buf + got, len - got, (off_t)(offset + got));
		if (n < 0)
			return told(f->store, -1, f->path);
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

static int m_locate(struct wfctl_file *f, uint64_t offset, int *ret_fd, uint64_t *ret_offset, uint64_t *ret_len)
{
	*ret_fd = f->fd;
	*ret_offset = offset;
	*ret_len = UINT64_MAX;
	return 0;
}

static int m_write(struct wfctl_file *f, uint64_t offset, const void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = pwrite(f->fd, (const char *)buf + at, len - at, (off_t)(offset + at));
		if (n <= 0)
			return n < 0 ? told(f->store, -1, f->path) : -EIO;
		at += (size_t)n;
	}
	return 0;
}

static int m_close(struct wfctl_file *f)
{
	int r = told(f->store, close(f->fd), f->path);
	free(f->path);
	free(f);
	return r;
}

/* ---- attributes ---- */

static int m_get(struct wfctl_store *s, const char *path, const char *name, struct wf_buffer *ret)
{
	char full[PATH_MAX], value[ATTRIBUTE_MAX];
	int r = full_path(s, path, full);
	ssize_t n = r == 0 ? getxattr(full, name, value, sizeof value) : r;
	if (r == 0 && n < 0)
		return -errno;
	if (r == 0)
		wf_buffer_append(ret, value, (size_t)n);
	return r < 0 ? r : wf_buffer_status(ret);
}

/* The kernel asks for attributes of a file, whichever name it was found by, and for none of a link. */
static int m_key(struct wfctl_store *s, const char *path, struct wf_buffer *ret)
{
	struct mount *m = s->own;
	struct stat st;
	int r = done(fstatat(m->fd, at_root(path), &st, AT_SYMLINK_NOFOLLOW));
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && st.st_nlink == 1))
		return m_get(s, path, "user.torch.key", ret);
	char *place = wfctl_key_resolve(s, path);
	r = place ? wfctl_mount_key(&m->keys, s->path, place, ret) : -errno;
	free(place);
	return r;
}

static int m_names(struct wfctl_store *s, const char *path, int (*each)(void *, const char *), void *ctx)
{
	char full[PATH_MAX], names[ATTRIBUTE_MAX];
	int r = full_path(s, path, full);
	ssize_t n = r == 0 ? listxattr(full, names, sizeof names) : r;
	if (n < 0)
		return r < 0 ? r : -errno;
	for (const char *name = names; r == 0 && name < names + n; name += strlen(name) + 1)
		r = each(ctx, name);
	return r;
}

static int m_set(struct wfctl_store *s, const char *path, const char *name, const char *value)
{
	char full[PATH_MAX];
	int r = full_path(s, path, full);
	return r < 0 ? r : edited(s, setxattr(full, name, value, strlen(value), 0), path);
}

/* ---- names ---- */

static int m_mkdir(struct wfctl_store *s, const char *path)
{
	int r = check_new(s, path);
	return r < 0 ? r : edited(s, mkdirat(root_of(s), path, 0777), path);
}

static int m_unlink(struct wfctl_store *s, const char *path)
{
	return edited(s, unlinkat(root_of(s), path, 0), path);
}

static int m_rmdir(struct wfctl_store *s, const char *path)
{
	return edited(s, unlinkat(root_of(s), path, AT_REMOVEDIR), path);
}

static int m_rename(struct wfctl_store *s, const char *from, const char *to, unsigned int flags)
{
	int r = check_new(s, to);
	return r < 0 ? r : edited(s, renameat2(root_of(s), from, root_of(s), to, flags), from);
}

static int m_link(struct wfctl_store *s, const char *from, const char *to)
{
	int r = check_new(s, to);
	return r < 0 ? r : edited(s, linkat(root_of(s), from, root_of(s), to, 0), to);
}

static int m_symlink(struct wfctl_store *s, const char *target, const char *path)
{
	int r = check_new(s, path);
	return r < 0 ? r : edited(s, symlinkat(target, root_of(s), path), path);
}

/* ---- opening ---- */

static void m_free(struct wfctl_store *s)
{
	struct mount *m = s->own;
	if (m)
		wfctl_mount_keys_free(&m->keys);
	if (m && m->fd >= 0)
		close(m->fd);
	free(m);
}

static const struct wfctl_store_calls calls = {.stat = m_stat,
					       .list = m_list,
					       .resolve = m_resolve,
					       .readlink = m_readlink,
					       .open = m_open,
					       .read = m_read,
					       .locate = m_locate,
					       .write = m_write,
					       .close = m_close,
					       .get = m_get,
					       .key = m_key,
					       .names = m_names,
					       .set = m_set,
					       .mkdir = m_mkdir,
					       .unlink = m_unlink,
					       .rmdir = m_rmdir,
					       .rename = m_rename,
					       .link = m_link,
					       .symlink = m_symlink,
					       .free = m_free};

struct wfctl_store *wfctl_open_mount(const char *path, bool edit)
{
	struct wfctl_store *s = calloc(1, sizeof *s);
	struct mount *m = calloc(1, sizeof *m);
	int r = s && m && (s->path = strdup(path)) ? 0 : -ENOMEM;
	if (r == 0 && (m->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		r = -errno;
	if (r < 0) {
		wfctl_fail_error(path, r, NULL);
		free(m);
		free(s ? s->path : NULL);
		free(s);
		return NULL;
	}
	s->calls = &calls;
	s->own = m;
	s->editable = edit;
	return s;
}
