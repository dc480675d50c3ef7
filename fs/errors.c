/* SPDX-License-Identifier: MIT */
/* The one place where an error of the codec becomes what a caller sees, and is logged. */
#include "errors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/bytes/buffer.h"
#include "inode.h"
#include "log.h"
#include "write_behind.h"

/* Whether this error of this node is new: a reader that tries again and again would fill the log. A small table, in
 * which a later pair can push out an earlier one. */
static bool is_news(struct fs *fs, fuse_ino_t ino, int error)
{
	uint64_t pair = ((uint64_t)ino << 16 | (uint16_t)-error) | 1ull << 63;
	return atomic_exchange(&fs->told[pair * 0x9e3779b97f4a7c15ull >> 58], pair) != pair;
}

static void path_of(struct fs *fs, fuse_ino_t ino, struct wf_buffer *path)
{
	if (fs_is_control(ino))
		fs->control_path(fs, ino, path);
	else
		wf_path_of(fs->checkpoint, (uint32_t)ino, path);
}

static void tell(struct fs *fs, fuse_ino_t ino, int error)
{
	struct wf_buffer path = WF_BUFFER_INIT, why = WF_BUFFER_INIT;
	if (!is_news(fs, ino, error))
		return;
	path_of(fs, ino, &path);
	bool known = !fs_is_control(ino) && wf_why_unread(fs->checkpoint, (uint32_t)ino, &why) == 0;
	fs_log(fs, LOG_WARNING, "%s: %s%s%s", path.len ? path.data : "/", strerror(-error), known ? ": " : "",
	       known ? why.data : "");
	wf_buffer_free(&path);
	wf_buffer_free(&why);
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
		tell(fs, ino, error);
		return error == -ESTALE ? ESTALE : EIO;
	default:
		return -error;
	}
}

/* ---- refused edits ---- */

/* Between the codec's refusal and the answer to the call, which are on one thread. */
static _Thread_local struct {
	int code;
	char text[512];
} reason;

void fs_note_reason(void *ctx, int code, const char *text)
{
	reason.code = code;
	snprintf(reason.text, sizeof reason.text, "%s", text);
}

bool fs_knows_reason(int code)
{
	return reason.code == code && reason.text[0];
}

/* What needs a reason; the others say all there is (ENOENT), or are how programs ask (ENODATA, EOPNOTSUPP). */
static bool worth_a_line(int error)
{
	switch (-error) {
	case EPERM:
	case EACCES:
	case EINVAL:
	case EIO:
	case EBUSY:
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	case EROFS:
	case ENOMEM:
	case ESTALE:
	case EUCLEAN:
		return true;
	default:
		return false;
	}
}

static void tell_refused(struct fs *fs, fuse_ino_t ino, const char *call, const char *name, int r)
{
	struct wf_buffer path = WF_BUFFER_INIT;
	bool known = fs_knows_reason(r);
	if (!known && !worth_a_line(r))
		return;
	path_of(fs, ino, &path);
	if (name && path.len)
		wf_buffer_putc(&path, '/');
	if (name)
		wf_buffer_puts(&path, name);
	fs_log_only_here(fs, "%s %s: %s (%s)%s%s", call, path.len ? path.data : "/", strerrorname_np(-r), strerror(-r),
			 known ? ": " : "", known ? reason.text : "");
	wf_buffer_free(&path);
}

int fs_outcome(struct fs *fs, fuse_ino_t ino, const char *call, const char *name, int r)
{
	if (r < 0)
		tell_refused(fs, ino, call, name, r);
	reason.code = 0;
	fs_edited(fs); /* or one that was refused half way */
	return r < 0 ? fs_errno(fs, ino, r) : 0;
}
