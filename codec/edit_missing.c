/* Edits are not linked in yet: a checkpoint can be read only. This file goes when they are. */
#include <errno.h>

#include "checkpoint.h"
#include "edit.h"

#define READ_ONLY(name, parameters) \
	int name parameters         \
	{                           \
		return -EROFS;      \
	}

READ_ONLY(wf_allocate, (struct wf_checkpoint * ck, uint32_t ino, int mode, uint64_t offset, uint64_t len))
READ_ONLY(wf_create, (struct wf_checkpoint * ck, uint32_t dir, const char *name, struct wf_stat *ret))
READ_ONLY(wf_link,
	  (struct wf_checkpoint * ck, uint32_t ino, uint32_t new_dir, const char *new_name, struct wf_stat *ret))
READ_ONLY(wf_mkdir, (struct wf_checkpoint * ck, uint32_t dir, const char *name, struct wf_stat *ret))
READ_ONLY(wf_removexattr, (struct wf_checkpoint * ck, uint32_t ino, const char *name))
READ_ONLY(wf_rename, (struct wf_checkpoint * ck, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
		      unsigned int flags))
READ_ONLY(wf_rmdir, (struct wf_checkpoint * ck, uint32_t dir, const char *name))
READ_ONLY(wf_setxattr,
	  (struct wf_checkpoint * ck, uint32_t ino, const char *name, const void *value, size_t len, int flags))
READ_ONLY(wf_symlink,
	  (struct wf_checkpoint * ck, const char *target, uint32_t dir, const char *name, struct wf_stat *ret))
READ_ONLY(wf_truncate, (struct wf_checkpoint * ck, uint32_t ino, uint64_t size))
READ_ONLY(wf_unlink, (struct wf_checkpoint * ck, uint32_t dir, const char *name))

int wf_open_file(struct wf_checkpoint *ck, uint32_t ino, bool for_writing)
{
	return for_writing ? -EROFS : 0;
}

void wf_release(struct wf_checkpoint *ck, uint32_t ino, bool for_writing)
{
}

int wf_flush(struct wf_checkpoint *ck, uint32_t ino)
{
	return 0;
}

int wf_sync(struct wf_checkpoint *ck)
{
	return 0;
}

ssize_t wf_write(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, const void *buf, size_t len)
{
	return -EROFS;
}

bool wf_is_dirty(struct wf_checkpoint *ck)
{
	return false;
}

int wf_edits_settle(struct wf_checkpoint *ck, struct wf_error *err)
{
	return 0;
}

void wf_edits_committed(struct wf_checkpoint *ck)
{
}

bool wf_edits_keep_file(void *ck, uint32_t number)
{
	return false;
}

int wf_discard(const char *path, struct wf_error *err)
{
	return wf_fail(err, -EROFS, "edits are not linked in");
}
