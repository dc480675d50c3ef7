/* SPDX-License-Identifier: MIT */
/* data/N: descriptors are opened at first use, and closed again when there are many of them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "codec/bytes/array.h"
#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"
#include "codec/bytes/util.h"

#define LOW_BYTES (64u << 20) /* a disk with less is nearly full */
#define COPY_BYTES (1u << 20)
#define OPEN_FILES_MAX 256 /* of the 1024 descriptors that a process usually has */

int wf_overlay_reserve(struct wf_overlay *ov, uint32_t number)
{
	if (number >= WF_DATA_FILES_MAX)
		return -EUCLEAN;
	if (number < ov->files_count)
		return 0;
	int r = wf_array_reserve(&ov->files, &ov->files_capacity, (uint64_t)number + 1, sizeof *ov->files,
				 WF_DATA_FILES_MAX);
	if (r < 0)
		return r;
	for (; ov->files_count <= number; ov->files_count++)
		ov->files[ov->files_count] = (struct wf_data_file){.fd = -1};
	return 0;
}

uint32_t wf_overlay_new_number(struct wf_overlay *ov)
{
	return ov->files_count;
}

int wf_overlay_find_files(struct wf_overlay *ov)
{
	if (ov->data_fd < 0)
		return 0;
	int fd = openat(ov->data_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return -errno;
	}
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		char *end, again[16];
		unsigned long number = strtoul(e->d_name, &end, 10);
		if (ov->writable && end != e->d_name && !strcmp(end, ".new"))
			unlinkat(ov->data_fd, e->d_name, 0);
		if (*end || number >= WF_DATA_FILES_MAX)
			continue;
		snprintf(again, sizeof again, "%lu", number);
		if (strcmp(again, e->d_name) != 0)
			continue;
		r = wf_overlay_reserve(ov, (uint32_t)number);
		if (r == 0) {
			ov->files[number].present = true;
			ov->files[number].earlier = ov->unlogged;
		}
	}
	closedir(d);
	return r;
}

/* Extents to another file; holes stay holes. */
static int copy_file(int from, int to)
{
	struct stat st;
	cleanup_free char *buf = malloc(COPY_BYTES);
	if (!buf)
		return -ENOMEM;
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return -errno;
	for (off_t at = lseek(from, 0, SEEK_DATA); at >= 0; at = lseek(from, at, SEEK_DATA)) {
		off_t end = lseek(from, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		while (at < end) {
			size_t got;
			int r = wf_pread_most(from, buf, (size_t)WF_MIN((off_t)COPY_BYTES, end - at), (uint64_t)at,
					      &got);
			if (r == 0 && got == 0)
				r = -EIO;
			if (r == 0)
				r = wf_pwrite_all(to, buf, got, (uint64_t)at);
			if (r < 0)
				return r;
			at += (off_t)got;
		}
	}
	return errno == ENXIO ? 0 : -errno;
}

/* What a log on disk speaks of stays as it is: a copy is read and written instead. */
static int copy_earlier(struct wf_overlay *ov, uint32_t number)
{
	char name[WF_DATA_NAME];
	int from, to;
	snprintf(name, sizeof name, "%u", number);
	int r = wf_overlay_open_at(ov, ov->data_fd, name, O_RDONLY, &from);
	if (r < 0)
		return r;
	cleanup_fd int old = from;
	snprintf(name, sizeof name, "%u.new", number);
	r = wf_overlay_open_at(ov, ov->data_fd, name, O_RDWR | O_CREAT | O_TRUNC, &to);
	if (r < 0)
		return r;
	r = copy_file(old, to);
	close(to);
	ov->files[number].copied = r == 0;
	return r;
}

static int open_file(struct wf_overlay *ov, uint32_t number)
{
	char name[WF_DATA_NAME];
	struct wf_data_file *f = &ov->files[number];
	if (ov->data_fd < 0)
		return -ENOENT;
	int r = f->earlier && !f->copied ? copy_earlier(ov, number) : 0;
	if (r < 0)
		return r;
	snprintf(name, sizeof name, f->earlier ? "%u.new" : "%u", number);
	r = wf_overlay_open_at(ov, ov->data_fd, name, ov->writable ? O_RDWR | O_CREAT : O_RDONLY, &f->fd);
	if (r < 0)
		return r;
	ov->open_count++;
	if (ov->writable && !f->present) {
		f->present = true;
		ov->new_data_name = true;
	}
	return 0;
}

int wf_overlay_file(struct wf_overlay *ov, uint32_t number, int *ret_fd)
{
	pthread_mutex_lock(&ov->files_lock);
	int r = wf_overlay_reserve(ov, number);
	if (r == 0 && ov->files[number].fd < 0)
		r = open_file(ov, number);
	if (r == 0)
		*ret_fd = ov->files[number].fd;
	pthread_mutex_unlock(&ov->files_lock);
	return r;
}

int wf_overlay_unnamed_file(struct wf_overlay *ov, int *ret_fd)
{
	if (ov->data_fd < 0)
		return -ENOENT;
	int fd = openat(ov->data_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		fd = openat(ov->data_fd, "undo.new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0)
			unlinkat(ov->data_fd, "undo.new", 0);
	}
	*ret_fd = fd;
	return fd < 0 ? -errno : 0;
}

void wf_overlay_need_file(struct wf_overlay *ov, uint32_t number)
{
	if (number >= ov->files_count || !ov->files[number].dropped)
		return;
	ov->files[number].dropped = false;
	ov->dropped_count--;
}

void wf_overlay_touched(struct wf_overlay *ov, uint32_t number)
{
	wf_overlay_need_file(ov, number);
	if (number >= ov->files_count || ov->files[number].touched)
		return;
	ov->files[number].touched = true;
	ov->touched_count++;
}

static void close_file(struct wf_overlay *ov, struct wf_data_file *f)
{
	if (f->fd < 0)
		return;
	close(f->fd);
	f->fd = -1;
	ov->open_count--;
}

static void remove_copy(struct wf_overlay *ov, uint32_t number)
{
	char name[WF_DATA_NAME];
	snprintf(name, sizeof name, "%u.new", number);
	close_file(ov, &ov->files[number]);
	unlinkat(ov->data_fd, name, 0);
}

static void remove_file(struct wf_overlay *ov, uint32_t number)
{
	char name[WF_DATA_NAME];
	struct wf_data_file *f = &ov->files[number];
	snprintf(name, sizeof name, "%u", number);
	close_file(ov, f);
	if (f->copied)
		remove_copy(ov, number);
	if (unlinkat(ov->data_fd, name, 0) < 0 && errno != ENOENT)
		return; /* no log names it: it is tried again at the next removal, and at the next opening */
	ov->touched_count -= f->touched;
	ov->dropped_count -= f->dropped;
	*f = (struct wf_data_file){.fd = -1};
}

void wf_overlay_drop_file(struct wf_overlay *ov, uint32_t number)
{
	struct statvfs fs;
	if (number >= ov->files_count || ov->files[number].dropped || !ov->files[number].present)
		return;
	ov->files[number].dropped = true;
	ov->dropped_count++;
	if (number >= ov->named_below)
		remove_file(ov, number); /* after a crash no record asks for it */
	else if (fstatvfs(ov->data_fd, &fs) == 0)
		ov->wants_room |= (uint64_t)fs.f_bavail * fs.f_frsize < LOW_BYTES || fs.f_bavail < fs.f_blocks / 64;
}

void wf_overlay_close_files(struct wf_overlay *ov)
{
	for (uint32_t i = 0; i < ov->files_count; i++)
		close_file(ov, &ov->files[i]);
}

void wf_overlay_trim_files(struct wf_overlay *ov)
{
	if (ov->open_count > OPEN_FILES_MAX)
		wf_overlay_close_files(ov);
}

bool wf_overlay_next_unsynced(struct wf_overlay *ov, uint32_t *number, int *ret_fd)
{
	for (*ret_fd = -1; *ret_fd < 0 && !ov->unlogged && *number < ov->files_count; ++*number) {
		const struct wf_data_file *f = &ov->files[*number];
		if (!f->touched || f->dropped)
			continue;
		pthread_mutex_lock(&ov->files_lock);
		*ret_fd = f->fd >= 0 && !f->failed ? fcntl(f->fd, F_DUPFD_CLOEXEC, 0) : -1;
		pthread_mutex_unlock(&ov->files_lock);
	}
	return *ret_fd >= 0;
}

void wf_overlay_sync_failed(struct wf_overlay *ov, uint32_t number)
{
	pthread_mutex_lock(&ov->files_lock);
	if (number < ov->files_count && ov->files[number].touched)
		ov->files[number].failed = true;
	pthread_mutex_unlock(&ov->files_lock);
}

/* After a failed fdatasync another one says nothing of what was lost. The bytes are still in the page cache, and go to
 * another place of the disk. */
static int renew_file(struct wf_overlay *ov, uint32_t number)
{
	char name[WF_DATA_NAME], new_name[WF_DATA_NAME];
	struct wf_data_file *f = &ov->files[number];
	int fd;
	snprintf(name, sizeof name, "%u", number);
	snprintf(new_name, sizeof new_name, "%u.new", number);
	int r = wf_overlay_open_at(ov, ov->data_fd, new_name, O_RDWR | O_CREAT | O_TRUNC, &fd);
	if (r < 0)
		return r;
	cleanup_fd int copy = fd;
	r = copy_file(f->fd, copy);
	if (r == 0 && (fdatasync(copy) < 0 || renameat(ov->data_fd, new_name, ov->data_fd, name) < 0))
		r = -errno;
	if (r < 0) {
		unlinkat(ov->data_fd, new_name, 0);
		return r;
	}
	close(f->fd);
	f->fd = steal_fd(&copy);
	f->failed = false;
	ov->new_data_name = true;
	return 0;
}

int wf_overlay_sync_files(struct wf_overlay *ov)
{
	for (uint32_t i = 0; ov->touched_count > 0 && i < ov->files_count; i++) {
		struct wf_data_file *f = &ov->files[i];
		if (!f->touched)
			continue;
		int r = f->fd < 0 ? open_file(ov, i) : 0;
		if (r == 0 && f->failed && !f->dropped) {
			r = renew_file(ov, i);
		} else if (r == 0 && !f->dropped && fdatasync(f->fd) < 0) {
			r = -errno;
			f->failed = true;
		}
		if (r < 0)
			return r;
		f->touched = false;
		ov->touched_count--;
		wf_overlay_trim_files(ov);
	}
	ov->touched_count = 0;
	return 0;
}

void wf_overlay_forget_new_files(struct wf_overlay *ov)
{
	for (uint32_t i = 0; i < ov->files_count; i++)
		if (ov->files[i].copied)
			remove_copy(ov, i);
		else if (ov->files[i].present && !ov->files[i].earlier)
			remove_file(ov, i);
}

void wf_overlay_unlink_dropped(struct wf_overlay *ov)
{
	for (uint32_t i = 0; ov->dropped_count > 0 && i < ov->files_count; i++)
		if (ov->files[i].dropped)
			remove_file(ov, i);
}

void wf_overlay_remove_files(struct wf_overlay *ov, bool (*keep)(void *ctx, uint32_t number), void *ctx)
{
	for (uint32_t i = 0; i < ov->files_count; i++)
		if (ov->files[i].present && !(keep && keep(ctx, i)))
			remove_file(ov, i);
	/* numbers begin anew as far as they can: a mount that stays for months must not run out of them */
	pthread_mutex_lock(&ov->files_lock);
	while (ov->files_count > 0 && !ov->files[ov->files_count - 1].present &&
	       !(keep && keep(ctx, ov->files_count - 1)))
		ov->files_count--;
	pthread_mutex_unlock(&ov->files_lock);
}
