/* SPDX-License-Identifier: MIT */
/* The clients of the reading benchmarks, in C so that the client's own cost does not hide the file system's.
 *
 *   io scan FILE PASSES       maps FILE once and sums it PASSES times; prints seconds, one line a pass
 *   io dd FILE                reads FILE with 1 MiB read(2) calls; prints seconds
 *   io small DIR PASSES       opens, reads (4 KiB) and closes every regular file of DIR; prints seconds, one line a pass
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int scan(const char *path, int passes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(path);
	const uint64_t *p = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return fail("mmap");
	volatile uint64_t sink = 0;
	for (int pass = 0; pass < passes; pass++) {
		double start = now();
		uint64_t sum = 0;
		for (size_t i = 0; i < st.st_size / sizeof *p; i++)
			sum += p[i];
		sink += sum;
		printf("%.6f\n", now() - start);
	}
	return 0;
}

static int dd(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *buf = aligned_alloc(4096, 1 << 20);
	if (fd < 0 || !buf)
		return fail(path);
	double start = now();
	ssize_t n;
	while ((n = read(fd, buf, 1 << 20)) > 0)
		;
	if (n < 0)
		return fail("read");
	printf("%.6f\n", now() - start);
	return 0;
}

static int small(const char *dir, int passes)
{
	if (chdir(dir) < 0)
		return fail(dir);
	DIR *d = opendir(".");
	if (!d)
		return fail(dir);
	size_t n = 0, cap = 1024;
	char **names = malloc(cap * sizeof *names);
	for (struct dirent *e; names && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		if (n == cap)
			names = realloc(names, (cap *= 2) * sizeof *names);
		if (names)
			names[n++] = strdup(e->d_name);
	}
	closedir(d);
	if (!names)
		return fail("memory");
	char buf[4096];
	for (int pass = 0; pass < passes; pass++) {
		double start = now();
		for (size_t i = 0; i < n; i++) {
			int fd = open(names[i], O_RDONLY | O_CLOEXEC);
			if (fd < 0 || read(fd, buf, sizeof buf) < 0)
				return fail(names[i]);
			close(fd);
		}
		printf("%.6f\n", now() - start);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "scan"))
		return scan(argv[2], atoi(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "dd"))
		return dd(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "small"))
		return small(argv[2], atoi(argv[3]));
	fprintf(stderr, "usage: io scan FILE PASSES | dd FILE | small DIR PASSES\n");
	return 2;
}
