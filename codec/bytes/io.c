/* SPDX-License-Identifier: MIT */
/* All of a range, however many calls it takes, and names that are durable. */
#include "codec/bytes/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "codec/bytes/util.h"

int wf_pread_most(int fd, void *buf, size_t len, uint64_t offset, size_t *ret_got)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = pread(fd, (char *)buf + got, len - got, (off_t)(offset + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	*ret_got = got;
	return 0;
}

int wf_pread_all(int fd, void *buf, size_t len, uint64_t offset)
{
	size_t got;
	int r = wf_pread_most(fd, buf, len, offset, &got);
	return r == 0 && got < len ? -EIO : r;
}

int wf_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int wf_sync_directory(int directory)
{
	cleanup_fd int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 && errno != EINVAL && errno != EROFS ? -errno : 0;
}

/* ---- names that content has ---- */

#define HEX "0123456789abcdef"

/* 44136fa3...; 44/136fa3...; sha256-44136fa3...; SHA256E-s364--44136fa3....safetensors */
bool wf_is_named_by_digest(const char *path)
{
	const char *name = strrchr(path, '/'), *dash = strrchr(path, '-');
	name = name ? name + 1 : path;
	size_t digits = strspn(name, HEX);
	if (dash > name && (!strncasecmp(name, "sha", 3) || !strncasecmp(name, "md5", 3))) {
		size_t behind = strspn(dash + 1, HEX);
		return behind >= 32 && (!dash[1 + behind] || dash[1 + behind] == '.');
	}
	if (name[digits])
		return false;
	/* the first byte names the folder */
	if (name - path >= 4 && name[-4] == '/' && strspn(name - 3, HEX) == 2)
		digits += digits == 30 || digits == 38 || digits == 62 ? 2 : 0;
	else if (digits == 32)
		return false; /* as many names are random that long */
	return digits == 32 || digits == 40 || digits == 64 || digits == 128;
}

int wf_open_folder(int directory, const char *name)
{
	int at = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (const char *end; at >= 0 && (end = strchr(name, '/')); name = end + 1) {
		char part[NAME_MAX + 1];
		int next = -1;
		size_t len = WF_MIN((size_t)(end - name), sizeof part - 1);
		memcpy(part, name, len);
		part[len] = '\0';
		if (name + len == end && strcmp(part, ".") != 0 && strcmp(part, "..") != 0)
			next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		else
			errno = EINVAL;
		int why = errno;
		close(at);
		errno = why;
		at = next;
	}
	return at < 0 ? -errno : at;
}
