/* SPDX-License-Identifier: MIT */
/* Reads and writes the file that keeps the names of a large mapping for the completions. */
#include "fs/wfctl/key_cache.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGE_BYTES 20000 /* of names: below that an opening is fast enough */

/* What a kept list has to agree with, as its first line. false: there is none for such a file. */
static bool make_head(const char *path, const char *directory, struct wf_buffer *head)
{
	struct stat st, overlay;
	char resolved[PATH_MAX], beside[PATH_MAX + 16];
	if (!realpath(path, resolved) || stat(resolved, &st) < 0 || !S_ISREG(st.st_mode) || strchr(resolved, '\n') ||
	    strchr(directory, '\n'))
		return false;
	snprintf(beside, sizeof beside, "%s.weightfs", resolved);
	if (stat(beside, &overlay) == 0)
		return false;
	wf_buffer_printf(head, "1 %llu %llu %llu %lld.%09ld %lld.%09ld %s//%s\n", (unsigned long long)st.st_dev,
			 (unsigned long long)st.st_ino, (unsigned long long)st.st_size, (long long)st.st_mtim.tv_sec,
			 st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, resolved, directory);
	return wf_buffer_status(head) == 0;
}

/* Of file and mapping, not of the file's state: the next state takes its place. */
static bool make_name(const char *path, const char *directory, char name[PATH_MAX], bool make)
{
	char resolved[PATH_MAX];
	const char *home = getenv("HOME"), *cache = getenv("XDG_CACHE_HOME");
	uint64_t hash = 0xcbf29ce484222325u;
	if (!realpath(path, resolved) || !((cache && *cache == '/') || (home && *home == '/')))
		return false;
	for (int i = 0; i < 2; i++)
		for (const char *c = i ? directory : resolved; *c; c++)
			hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
	bool own = cache && *cache == '/';
	int n = snprintf(name, PATH_MAX, "%s%s", own ? cache : home, own ? "" : "/.cache");
	if (n < 0 || n > PATH_MAX - 64)
		return false;
	if (make)
		mkdir(name, 0700);
	n += sprintf(name + n, "/weightfs");
	if (make && mkdir(name, 0700) < 0 && errno != EEXIST)
		return false;
	sprintf(name + n, "/keys-%016llx", (unsigned long long)hash);
	return true;
}

bool wfctl_key_cache_read(const char *path, const char *directory, int (*each)(void *, const char *, bool), void *ctx)
{
	char name[PATH_MAX], *line = NULL;
	struct wf_buffer head = WF_BUFFER_INIT;
	struct stat st;
	size_t size = 0;
	ssize_t len;
	bool known = make_head(path, directory, &head) && make_name(path, directory, name, false);
	FILE *f = known ? fopen(name, "re") : NULL;
	known = f && fstat(fileno(f), &st) == 0 && st.st_uid == geteuid() && getline(&line, &size, f) > 0 &&
		!strcmp(line, head.data);
	while (known && (len = getline(&line, &size, f)) > 1) {
		line[len - 1] = '\0';
		if (each(ctx, line + 1, line[0] == 'd') != 0)
			break;
	}
	free(line);
	if (f)
		fclose(f);
	wf_buffer_free(&head);
	return known;
}

void wfctl_key_cache_add(struct wf_buffer *names, const char *name, bool mapping)
{
	if (strchr(name, '\n'))
		return;
	wf_buffer_putc(names, mapping ? 'd' : 'f');
	wf_buffer_puts(names, name);
	wf_buffer_putc(names, '\n');
}

void wfctl_key_cache_write(const char *path, const char *directory, const struct wf_buffer *names)
{
	char name[PATH_MAX], temporary[PATH_MAX + 16];
	struct wf_buffer head = WF_BUFFER_INIT;
	if (names->len < LARGE_BYTES || wf_buffer_status(names) < 0 || !make_head(path, directory, &head) ||
	    !make_name(path, directory, name, true)) {
		wf_buffer_free(&head);
		return;
	}
	snprintf(temporary, sizeof temporary, "%s.XXXXXX", name);
	int fd = mkstemp(temporary);
	bool written = fd >= 0 && write(fd, head.data, head.len) == (ssize_t)head.len &&
		       write(fd, names->data, names->len) == (ssize_t)names->len && rename(temporary, name) == 0;
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && !written)
		unlink(temporary);
	wf_buffer_free(&head);
}
