/* SPDX-License-Identifier: MIT */
/* map-bytes FILE [OFFSET LENGTH]: maps a file, or a part of it, and writes the mapped bytes to its output.
 * map-bytes -w FILE: maps a file shared and writable, and turns each byte over in place. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "map-bytes: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	int turn = argc > 1 && !strcmp(argv[1], "-w");
	const char *path = argv[1 + turn];
	if (argc != 2 + turn && argc != 4)
		return 2;
	int fd = open(path, turn ? O_RDWR : O_RDONLY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(path);
	off_t offset = argc == 4 ? atoll(argv[2]) : 0;
	size_t len = argc == 4 ? (size_t)atoll(argv[3]) : (size_t)st.st_size;
	size_t lead = (size_t)(offset % sysconf(_SC_PAGESIZE)); /* a mapping starts at a page */
	unsigned char *p =
		mmap(NULL, lead + len, turn ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, offset - (off_t)lead);
	if (p == MAP_FAILED)
		return fail(path);
	close(fd); /* the mapping stays */
	if (!turn)
		return fwrite(p + lead, 1, len, stdout) == len && fflush(stdout) == 0 ? 0 : fail("standard output");
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)~p[i];
	return msync(p, len, MS_SYNC) == 0 && munmap(p, len) == 0 ? 0 : fail("msync");
}
