/* weightfs: wiring only. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "session.h"

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

int main(int argc, char **argv)
{
	struct fs fs = {0};
	open_standard_files();
	int status = fs_options_parse(argc, argv, &fs.options);
	if (status == 0 && fs.options.show_help) {
		fs_options_help();
	} else if (status == 0 && fs.options.show_version) {
		printf("weightfs %s, libfuse %s\n", WEIGHTFS_VERSION, fuse_pkgversion());
	} else if (status == 0 && fs.options.map_location) {
		fprintf(stderr, "weightfs: map_location: this build cannot place storages\n");
		status = 1;
	} else if (status == 0) {
		status = fs_session_run(&fs);
	}
	fs_options_free(&fs.options);
	return status;
}
