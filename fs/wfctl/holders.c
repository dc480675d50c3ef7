/* SPDX-License-Identifier: MIT */
/* Searches /proc for those who keep a mount alive. */
#include "fs/wfctl/holders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "codec/bytes/buffer.h"
#include "fs/mounts.h"

#define NAMED_MAX 8   /* holders that are named; the others are counted */
#define SPACES_MAX 64 /* mount name spaces that are looked at */
#define FUSE_MAJOR 10
#define FUSE_MINOR 229

struct search {
	const struct fs_mounted *mounted;
	dev_t dev; /* its */
	const char *but_at;
	struct wf_buffer *out;
	unsigned int found;
	ino_t spaces[SPACES_MAX]; /* looked at already */
	unsigned int space_count;
};

static void name(struct search *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void name(struct search *s, const char *fmt, ...)
{
	char text[600];
	va_list ap;
	if (++s->found > NAMED_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	wf_buffer_printf(s->out, "%s%s", s->found > 1 ? "; " : "", text);
}

static bool note_source(void *ctx, const struct fs_mount *m)
{
	struct fs_mounted *mounted = ctx;
	if (m->dev != mounted->dev)
		return false;
	mounted->source = strdup(m->source);
	return true;
}

int fs_mounted_at(const char *path, struct fs_mounted *ret)
{
	struct statx st;
	*ret = (struct fs_mounted){0};
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, 0, &st) < 0)
		return -errno;
	ret->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	fs_each_mount(NULL, note_source, ret);
	return 0;
}

void fs_mounted_free(struct fs_mounted *m)
{
	free(m->source);
	*m = (struct fs_mounted){0};
}

static bool is_it(const struct fs_mounted *mounted, const struct fs_mount *m)
{
	return m->dev == mounted->dev && (!mounted->source || !strcmp(m->source, mounted->source));
}

static bool is_on(int dir, const char *file, dev_t dev)
{
	struct statx st;
	return statx(dir, file, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &st) == 0 &&
	       makedev(st.stx_dev_major, st.stx_dev_minor) == dev;
}

/* ---- mount points ---- */

/* A table that is gone through: mounts of the device, and mounts on directories of it. */
struct table {
	struct search *search;
	const char *who;            /* NULL in the caller's own name space */
	int ours[NAMED_MAX], count; /* ids of the mounts that were found */
};

static bool name_mount(void *ctx, const struct fs_mount *m)
{
	struct table *t = ctx;
	struct search *s = t->search;
	bool on_ours = false;
	for (int i = 0; i < t->count; i++)
		on_ours |= t->ours[i] == m->parent;
	if (is_it(s->mounted, m)) {
		if (t->count < NAMED_MAX)
			t->ours[t->count++] = m->id;
		if (t->who)
			name(s, "%s has it at %s in another mount name space", t->who, m->point);
		else if (!s->but_at || strcmp(m->point, s->but_at) != 0)
			name(s, "it is mounted at %s", m->point);
	} else if (on_ours && !t->who) {
		name(s, "%s is mounted in it", m->point);
	}
	return false;
}

static void search_table(struct search *s, FILE *table, const char *who)
{
	struct table t = {.search = s, .who = who};
	fs_each_mount(table, name_mount, &t);
}

/* ---- processes ---- */

static void describe(int proc, pid_t pid, char *buf, size_t size)
{
	char comm[32] = "?";
	int fd = openat(proc, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, comm, sizeof comm - 1) : -1;
	if (fd >= 0)
		close(fd);
	if (n > 0)
		comm[n - (comm[n - 1] == '\n')] = '\0';
	snprintf(buf, size, "process %d (%s)", (int)pid, comm);
}

static bool has_open(int proc, dev_t dev)
{
	int fd = openat(proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool found = false;
	for (struct dirent *e; d && !found && (e = readdir(d));)
		found = e->d_name[0] != '.' && is_on(dirfd(d), e->d_name, dev);
	if (d)
		closedir(d);
	return found;
}

static FILE *open_text(int proc, const char *file)
{
	int fd = openat(proc, file, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f && fd >= 0)
		close(fd);
	return f;
}

static bool has_mapped(int proc, dev_t dev)
{
	FILE *maps = open_text(proc, "maps");
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	unsigned int major_no, minor_no;
	while (maps && !found && getline(&line, &size, maps) > 0)
		found = sscanf(line, "%*s %*s %*s %x:%x", &major_no, &minor_no) == 2 &&
			makedev(major_no, minor_no) == dev;
	free(line);
	if (maps)
		fclose(maps);
	return found;
}

/* The first process of each other name space speaks for it. */
static void search_space(struct search *s, int proc, const char *who)
{
	struct stat st;
	if (fstatat(proc, "ns/mnt", &st, 0) < 0)
		return;
	for (unsigned int i = 0; i < s->space_count; i++)
		if (s->spaces[i] == st.st_ino)
			return;
	if (s->space_count == SPACES_MAX)
		return;
	FILE *table = open_text(proc, "mountinfo");
	if (!table)
		return;
	s->spaces[s->space_count++] = st.st_ino;
	search_table(s, table, who);
}

static void search_process(struct search *s, int proc, pid_t pid)
{
	char who[80];
	describe(proc, pid, who, sizeof who);
	search_space(s, proc, who);
	if (is_on(proc, "cwd", s->dev) || is_on(proc, "root", s->dev))
		name(s, "%s works in it", who);
	else if (has_open(proc, s->dev) || has_mapped(proc, s->dev))
		name(s, "%s has a file of it open", who);
}

unsigned int fs_holders(const struct fs_mounted *m, pid_t daemon, const char *but_at, struct wf_buffer *out)
{
	struct search s = {.mounted = m, .dev = m->dev, .but_at = but_at, .out = out};
	struct stat st;
	if (stat("/proc/self/ns/mnt", &st) == 0)
		s.spaces[s.space_count++] = st.st_ino;
	search_table(&s, NULL, NULL);
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));) {
		pid_t pid = (pid_t)atoi(e->d_name);
		int proc = pid > 0 && pid != daemon && pid != getpid()
				   ? openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
				   : -1;
		if (proc < 0)
			continue;
		search_process(&s, proc, pid);
		close(proc);
	}
	if (d)
		closedir(d);
	if (s.found > NAMED_MAX)
		wf_buffer_printf(out, "; and %u more", s.found - NAMED_MAX);
	return s.found;
}

struct sight {
	const struct fs_mounted *mounted;
	bool here, other;
};

static bool look(void *ctx, const struct fs_mount *m)
{
	struct sight *s = ctx;
	bool it = is_it(s->mounted, m);
	s->here |= it;
	s->other |= !it && m->dev == s->mounted->dev;
	return s->here;
}

enum fs_mount_state fs_mount_state(const struct fs_mounted *m)
{
	struct sight s = {.mounted = m};
	fs_each_mount(NULL, look, &s);
	return s.here ? FS_MOUNT_HERE : s.other ? FS_MOUNT_GONE : FS_MOUNT_NOT_HERE;
}

int fs_is_serving(pid_t daemon)
{
	char path[64];
	struct statx st;
	int serving = 0;
	snprintf(path, sizeof path, "/proc/%d/fd", (int)daemon);
	DIR *d = opendir(path);
	if (!d)
		return -errno;
	for (struct dirent *e; !serving && (e = readdir(d));)
		serving = e->d_name[0] != '.' && statx(dirfd(d), e->d_name, AT_STATX_DONT_SYNC, STATX_TYPE, &st) == 0 &&
			  S_ISCHR(st.stx_mode) && st.stx_rdev_major == FUSE_MAJOR && st.stx_rdev_minor == FUSE_MINOR;
	closedir(d);
	return serving;
}
