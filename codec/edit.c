#include "edit.h"

/* Edits are not linked in yet: a checkpoint opens without an overlay, so that none of these is reached. */
int wf_edits_open(struct wf_checkpoint *ck, struct wf_error *err)
{
	return 0;
}

void wf_edits_close(struct wf_checkpoint *ck)
{
}

bool wf_edits_holds(const struct wf_checkpoint *ck, wf_ino ino)
{
	return false;
}

uint64_t wf_edits_size(const struct wf_checkpoint *ck, wf_ino ino)
{
	return 0;
}

ssize_t wf_edits_read(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, void *buf, size_t len)
{
	return 0;
}

wf_ino wf_edits_shadow(const struct wf_checkpoint *ck, wf_ino dir)
{
	return WF_NO_INO;
}

wf_ino wf_edits_shadowed(const struct wf_checkpoint *ck, wf_ino shadow)
{
	return WF_NO_INO;
}
