/* SPDX-License-Identifier: MIT */
/* What everything in edit/ stands on: the reason of a refusal, and what is known of each file. */
#include "codec/edit/state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/edit/inner.h"

int wf_refuse(const struct wf_checkpoint *ck, int code, const char *fmt, ...)
{
	char reason[512];
	va_list ap;
	if (!ck->refused)
		return code;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof reason, fmt, ap);
	va_end(ap);
	ck->refused(ck->refused_ctx, code, reason);
	return code;
}

int wf_edit_grow(void *array, uint32_t *count, uint32_t need, size_t size, int fill)
{
	uint32_t before = *count;
	int r = wf_array_reserve(array, count, need, size, UINT32_MAX);
	char *all;
	memcpy(&all, array, sizeof all);
	if (r == 0 && *count > before)
		memset(all + before * size, fill, (*count - before) * size);
	return r;
}

struct wf_file *wf_edit_known(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_edits *e = ck->edits;
	return e && ino >= 1 && ino <= e->files_count ? e->files[ino - 1] : NULL;
}

int wf_edit_reserve_files(struct wf_edits *e, uint32_t nodes)
{
	return wf_edit_grow(&e->files, &e->files_count, nodes, sizeof *e->files, 0);
}

struct wf_file *wf_edit_file(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_edits *e = ck->edits;
	if (ino < 1 || wf_edit_reserve_files(e, ino) < 0)
		return NULL;
	if (!e->files[ino - 1])
		e->files[ino - 1] = calloc(1, sizeof(struct wf_file));
	return e->files[ino - 1];
}

void wf_edit_set_pending(struct wf_checkpoint *ck, struct wf_file *f, enum wf_pending pending)
{
	ck->edits->pending_count += (pending != PENDING_NOT) - (f->pending != PENDING_NOT);
	f->pending = (uint8_t)pending;
}

void wf_edit_notify_changed(struct wf_checkpoint *ck, wf_ino ino)
{
	if (ck->changed && !ck->edits->replaying)
		ck->changed(ck->changed_ctx, ino, 0, 0);
}
