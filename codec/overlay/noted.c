/* SPDX-License-Identifier: MIT */
/* The files that a commit of a checkpoint in several files makes, and those that it is going to remove: written down before the first of
 * them is there, so that whoever comes after a crash knows what may be left over. overlay/format.h draws the file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/overlay/inner.h"

int wf_overlay_note_files(struct wf_overlay *ov, const char *names, size_t len)
{
	int raw_fd, r = wf_overlay_prepare_removal(ov);
	uint32_t crc = (uint32_t)crc32(crc32(0, (const Bytef *)WF_NOTED_MAGIC, WF_MAGIC_BYTES), (const Bytef *)names,
				       (uInt)len);
	if (len > WF_NOTED_MAX_BYTES)
		return -E2BIG;
	if (r == 0)
		r = wf_overlay_open_at(ov, ov->dir_fd, "files.new", O_WRONLY | O_CREAT | O_TRUNC, &raw_fd);
	if (r < 0)
		return r;
	cleanup_fd int fd = raw_fd;
	r = wf_pwrite_all(fd, WF_NOTED_MAGIC, WF_MAGIC_BYTES, 0);
	if (r == 0)
		r = wf_pwrite_all(fd, names, len, WF_MAGIC_BYTES);
	if (r == 0)
		r = wf_pwrite_all(fd, &crc, sizeof crc, WF_MAGIC_BYTES + len);
	if (r == 0 && (fsync(fd) < 0 || renameat(ov->dir_fd, "files.new", ov->dir_fd, "files") < 0))
		r = -errno;
	if (r == 0)
		r = wf_sync_directory(ov->dir_fd);
	if (r == 0)
		r = wf_overlay_sync_parent(ov);
	return r;
}

int wf_overlay_noted_files(const struct wf_overlay *ov, struct wf_buffer *ret)
{
	char head[WF_MAGIC_BYTES];
	struct stat st;
	uint32_t crc;
	int raw_fd, r = ov->dir_fd < 0 ? -ENOENT : wf_overlay_open_at(ov, ov->dir_fd, "files", O_RDONLY, &raw_fd);
	if (r < 0)
		return r;
	cleanup_fd int fd = raw_fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	uint64_t rest = WF_MAGIC_BYTES + sizeof crc, size = (uint64_t)st.st_size;
	if (size < rest || size - rest > WF_NOTED_MAX_BYTES)
		return -EUCLEAN;
	size_t len = (size_t)(size - rest);
	cleanup_free char *names = malloc(len + 1);
	if (!names)
		return -ENOMEM;
	r = wf_pread_all(fd, head, sizeof head, 0);
	if (r == 0)
		r = wf_pread_all(fd, names, len, WF_MAGIC_BYTES);
	if (r == 0)
		r = wf_pread_all(fd, &crc, sizeof crc, WF_MAGIC_BYTES + len);
	if (r < 0)
		return r;
	if (memcmp(head, WF_NOTED_MAGIC, sizeof head) != 0 || (len > 0 && names[len - 1] != '\0') ||
	    crc != (uint32_t)crc32(crc32(0, (const Bytef *)head, sizeof head), (const Bytef *)names, (uInt)len))
		return -EUCLEAN;
	wf_buffer_append(ret, names, len);
	return wf_buffer_status(ret);
}

int wf_overlay_forget_noted(struct wf_overlay *ov)
{
	if (ov->dir_fd < 0)
		return 0;
	unlinkat(ov->dir_fd, "files.new", 0);
	if (unlinkat(ov->dir_fd, "files", 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return wf_sync_directory(ov->dir_fd);
}

int wf_overlay_remove_passing(int home)
{
	int fd = openat(home, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d && fd >= 0)
		close(fd);
	for (const struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
		if (e->d_name[0] == '.' && strstr(e->d_name, ".weightfs-") && unlinkat(home, e->d_name, 0) < 0 &&
		    errno != ENOENT)
			r = -errno;
	if (d)
		closedir(d);
	return r;
}

/* name: of a file, or of a folder, with its slash. What is not empty stays, and so does what is no folder any more. */
static int clear_folder(int home, const char *name, bool all)
{
	size_t len = strlen(name);
	bool folder = name[len - 1] == '/';
	cleanup_free char *path = strndup(name, len - folder);
	char *last = path ? strrchr(path, '/') : NULL;
	cleanup_free char *above = path ? strndup(path, last ? (size_t)(last + 1 - path) : 0) : NULL;
	if (!above)
		return -ENOMEM;
	cleanup_fd int in = folder ? wf_open_folder(home, name) : -1;
	int r = in >= 0 ? wf_overlay_remove_passing(in) : 0;
	cleanup_fd int at = all ? wf_open_folder(home, above) : -1;
	if (at >= 0 && unlinkat(at, last ? last + 1 : path, folder ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT &&
	    errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
		r = -errno;
	return r;
}

int wf_overlay_clear_folders(const struct wf_overlay *ov, int home, bool all)
{
	struct wf_buffer noted = WF_BUFFER_INIT;
	int r = wf_overlay_noted_files(ov, &noted), left = 0;
	for (size_t end = r == 0 ? noted.len : 0; end > 0;) { /* what is in a folder stands behind it */
		size_t start = end - 1;
		while (start > 0 && noted.data[start - 1] != '\0')
			start--;
		const char *name = noted.data + start;
		int error = strchr(name, '/') ? clear_folder(home, name, all) : 0;
		left = error < 0 ? error : left;
		end = start;
	}
	wf_buffer_free(&noted);
	return r == -ENOENT ? 0 : r < 0 ? r : left;
}
