/* SPDX-License-Identifier: MIT */
/* weightfs: wiring only. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/device.h"
#include "mount_helper.h"
#include "session.h"

#define LARGE_BYTES (4 << 20)

/* Files opened later must not become standard output or error. */
static void open_standard_files(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* The one place where names of devices meet what is behind them. */
static int open_device(void *ctx, const char *name, struct device **ret, const char **ret_why)
{
	if (!strncmp(name, "cuda:", 5))
		return dev_cuda_open(atoi(name + 5), ret, ret_why);
	*ret_why = "out of memory";
	return strcmp(name, "cpu") ? -ENODEV : dev_host_open(ret);
}

int main(int argc, char **argv)
{
	struct fs fs = {.open_device = open_device, .beside = -1};
	open_standard_files();
#ifdef M_MMAP_THRESHOLD
	/* what a thread frees of large texts goes back; glibc would keep up to 64 MiB of it for each thread */
	mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
#endif
	bool fake;
	int status = fs_mount_helper(&argc, argv, &fake);
	if (status != 0)
		return status;
	status = fs_options_parse(argc, argv, &fs.options);
	if (status == 0 && fs.options.show_help) {
		fs_options_help();
	} else if (status == 0 && fs.options.show_version) {
		printf("weightfs %s, libfuse %s\n", WEIGHTFS_VERSION, fuse_pkgversion());
	} else if (status == 0 && !fake) {
		status = fs_session_run(&fs);
	}
	fs_options_free(&fs.options);
	return status;
}
