/* SPDX-License-Identifier: MIT */
/* A FUSE file system that stands for a bucket or a server (rclone, mountpoint-s3, hf-mount, NFS): the files of a directory, each read after
 * a delay, without xattrs, shared mappings, clones, locks of its own, or a cache: what a program reads is what is served.
 *
 * Usage: far-files DIRECTORY CONTROL MOUNTPOINT [FUSE option...]; returns when it is mounted. With -o ro nothing can be written.
 * CONTROL is a file of the five numbers below, which a test maps: what was served, and what goes wrong. */
#define FUSE_USE_VERSION 314
#include <fuse.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct control {
	_Atomic uint64_t served_bytes, reads, delay_ns;
	_Atomic uint64_t broken_start, broken_end; /* reads and writes of this range of any file: EIO */
};

static struct control *control;
static int top;

static const char *below(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static int answer(int r)
{
	return r < 0 ? -errno : 0;
}

static int broken(size_t size, off_t at)
{
	return (uint64_t)at < control->broken_end && (uint64_t)at + size > control->broken_start;
}

static int far_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	return answer(fi ? fstat((int)fi->fh, st) : fstatat(top, below(path), st, AT_SYMLINK_NOFOLLOW));
}

static int far_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi,
		       enum fuse_readdir_flags flags)
{
	int fd = openat(top, below(path), O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -errno;
	for (struct dirent *entry; (entry = readdir(dir));)
		fill(buf, entry->d_name, NULL, 0, 0);
	closedir(dir);
	return 0;
}

static int opened(int fd, struct fuse_file_info *fi)
{
	if (fd < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	fi->direct_io = 1;
	return 0;
}

static int far_open(const char *path, struct fuse_file_info *fi)
{
	return opened(openat(top, below(path), fi->flags & ~(O_DIRECT | O_APPEND)), fi);
}

static int far_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	return opened(openat(top, below(path), (fi->flags & ~(O_DIRECT | O_APPEND)) | O_CREAT, mode), fi);
}

static int far_read(const char *path, char *buf, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct timespec delay = {.tv_nsec = (long)control->delay_ns};
	nanosleep(&delay, NULL);
	if (broken(size, at))
		return -EIO;
	ssize_t n = pread((int)fi->fh, buf, size, at);
	if (n < 0)
		return -errno;
	control->served_bytes += (uint64_t)n;
	control->reads++;
	return (int)n;
}

static int far_write(const char *path, const char *buf, size_t size, off_t at, struct fuse_file_info *fi)
{
	if (broken(size, at))
		return -EIO;
	ssize_t n = pwrite((int)fi->fh, buf, size, at);
	return n < 0 ? -errno : (int)n;
}

static int far_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	if (fi)
		return answer(ftruncate((int)fi->fh, size));
	int fd = openat(top, below(path), O_WRONLY);
	int r = answer(fd < 0 ? -1 : ftruncate(fd, size));
	if (fd >= 0)
		close(fd);
	return r;
}

static int far_release(const char *path, struct fuse_file_info *fi)
{
	return answer(close((int)fi->fh));
}

static int far_fsync(const char *path, int only_data, struct fuse_file_info *fi)
{
	return answer(fsync((int)fi->fh));
}

static int far_mkdir(const char *path, mode_t mode)
{
	return answer(mkdirat(top, below(path), mode));
}

static int far_unlink(const char *path)
{
	return answer(unlinkat(top, below(path), 0));
}

static int far_rmdir(const char *path)
{
	return answer(unlinkat(top, below(path), AT_REMOVEDIR));
}

static int far_rename(const char *from, const char *to, unsigned int flags)
{
	return flags ? -EINVAL : answer(renameat(top, below(from), top, below(to)));
}

static int far_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	return answer(fchmodat(top, below(path), mode, 0));
}

static int far_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
	return answer(utimensat(top, below(path), times, AT_SYMLINK_NOFOLLOW));
}

static const struct fuse_operations calls = {
	.getattr = far_getattr,
	.readdir = far_readdir,
	.open = far_open,
	.create = far_create,
	.read = far_read,
	.write = far_write,
	.truncate = far_truncate,
	.release = far_release,
	.fsync = far_fsync,
	.mkdir = far_mkdir,
	.unlink = far_unlink,
	.rmdir = far_rmdir,
	.rename = far_rename,
	.chmod = far_chmod,
	.utimens = far_utimens,
};

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: %s DIRECTORY CONTROL MOUNTPOINT [FUSE option...]\n", argv[0]);
		return 2;
	}
	int fd = open(argv[2], O_RDWR);
	top = open(argv[1], O_RDONLY | O_DIRECTORY);
	control = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (top < 0 || control == MAP_FAILED) {
		perror(argv[0]);
		return 1;
	}
	argv[2] = argv[0];
	return fuse_main(argc - 2, argv + 2, &calls, NULL);
}
