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

/* Whether this error of this node is new: a reader that tries again and again would fill the log. A small table, in
 * which a later pair can push out an earlier one. */
static bool is_news(struct fs *fs, fuse_ino_t ino, int error)
{
	uint64_t pair = ((uint64_t)ino << 16 | (uint16_t)-error) | 1ull << 63;
	return atomic_exchange(&fs->told[pair * 0x9e3779b97f4a7c15ull >> 58], pair) != pair;
}

int fs_errno(struct fs *fs, fuse_ino_t ino, int error)
{
	switch (-error) {
	case EUCLEAN:
	case EBADMSG:
	case EMEDIUMTYPE:
	case E2BIG:
	case EIO:
	case ESTALE:
		if (is_news(fs, ino, error))
			fs_log(fs, LOG_WARNING, "node %llu: %s", (unsigned long long)ino, strerror(-error));
		return error == -ESTALE ? ESTALE : EIO;
	default:
		return -error;
	}
}
