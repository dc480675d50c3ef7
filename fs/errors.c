/* The one place where an error of the codec becomes what a caller sees, and is logged. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fs.h"

void fs_log(struct fs *fs, int priority, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (fs->to_syslog) {
		vsyslog(priority, fmt, ap);
	} else {
		fputs("weightfs: ", stderr);
		vfprintf(stderr, fmt, ap);
		fputc('\n', stderr);
	}
	va_end(ap);
}

int fs_errno(struct fs *fs, fuse_ino_t ino, int error)
{
	switch (-error) {
	case EUCLEAN:
	case EBADMSG:
	case EMEDIUMTYPE:
	case E2BIG:
		fs_log(fs, LOG_WARNING, "node %llu: %s", (unsigned long long)ino, strerror(-error));
		return EIO;
	case EIO:
	case ESTALE:
		fs_log(fs, LOG_ERR, "node %llu: %s", (unsigned long long)ino, strerror(-error));
		return -error;
	default:
		return -error;
	}
}
