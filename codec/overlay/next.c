/* SPDX-License-Identifier: MIT */
/* The log that a commit begins, made beside the old one before the new file takes its name: `log.next`. What no checkpoint holds, such
 * as entries under scratch names, stands at every moment in one log or the other. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "codec/overlay/inner.h"

static struct wf_log_state take_state(struct wf_overlay *ov)
{
	struct wf_log_state s = {.fd = ov->log_fd,
				 .failed = ov->log_failed,
				 .version = ov->log_version,
				 .named_below = ov->named_below,
				 .bytes = ov->log_bytes,
				 .reserved = ov->log_reserved,
				 .sequence = ov->sequence,
				 .edits = ov->edits,
				 .unsynced = ov->unsynced,
				 .pending = ov->pending,
				 .buffer = ov->buffer};
	ov->log_fd = -1;
	ov->buffer = (struct wf_buffer)WF_BUFFER_INIT;
	return s;
}

static void set_state(struct wf_overlay *ov, const struct wf_log_state *s)
{
	ov->log_fd = s->fd;
	ov->log_failed = s->failed;
	ov->log_version = s->version;
	ov->named_below = s->named_below;
	ov->log_bytes = s->bytes;
	ov->log_reserved = s->reserved;
	ov->sequence = s->sequence;
	ov->edits = s->edits;
	ov->unsynced = s->unsynced;
	ov->pending = s->pending;
	ov->buffer = s->buffer;
}

static void free_state(struct wf_log_state *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	wf_buffer_free(&s->buffer);
}

void wf_overlay_drop_next(struct wf_overlay *ov)
{
	if (ov->next_state == WF_NEXT_READY)
		free_state(&ov->next);
	ov->next_state = WF_NEXT_NONE;
	if (ov->dir_fd >= 0)
		unlinkat(ov->dir_fd, "log.next", 0);
}

int wf_overlay_begin_next(struct wf_overlay *ov, const struct wf_overlay_base *to_be)
{
	int fd;
	wf_overlay_drop_next(ov);
	int r = wf_overlay_open_at(ov, ov->dir_fd, "log.next", O_RDWR | O_CREAT | O_TRUNC, &fd);
	if (r < 0)
		return r;
	r = wf_overlay_write_header(fd, to_be);
	if (r < 0) {
		close(fd);
		wf_overlay_drop_next(ov);
		return r;
	}
	ov->next = take_state(ov);
	set_state(ov, &(struct wf_log_state){.fd = fd,
					     .version = WF_LOG_VERSION,
					     .named_below = ov->files_count,
					     .bytes = WF_LOG_HEADER_BYTES,
					     .sequence = 1,
					     .buffer = WF_BUFFER_INIT});
	return 0;
}

int wf_overlay_end_next(struct wf_overlay *ov, int r)
{
	if (r == 0)
		r = wf_overlay_write_log(ov);
	if (r == 0 && fdatasync(ov->log_fd) < 0)
		r = -errno;
	ov->unsynced = 0;
	struct wf_log_state made = take_state(ov);
	set_state(ov, &ov->next);
	ov->next = made;
	ov->next_state = WF_NEXT_READY;
	if (r < 0)
		wf_overlay_drop_next(ov);
	return r;
}

int wf_overlay_use_next(struct wf_overlay *ov)
{
	wf_overlay_forget_log(ov); /* in any case: the file holds its edits */
	if (renameat(ov->dir_fd, "log.next", ov->dir_fd, "log") < 0)
		return -errno;
	set_state(ov, &ov->next);
	ov->next_state = WF_NEXT_IN_USE;
	return 0;
}

int wf_overlay_adopt_next(struct wf_overlay *ov, const struct wf_overlay_base *now, bool *ret)
{
	static const char *const names[] = {"log.next", "log"};
	struct wf_overlay_base header;
	bool found = false;
	*ret = false;
	for (size_t i = 0; i < 2 && !*ret; i++) {
		int r = wf_overlay_read_header(ov, names[i], &header, &found, NULL);
		if (r == -ENOMEM || r == -EIO)
			return r;
		*ret = r == 0 && found && wf_overlay_base_equal(&header, now);
		if (*ret && i == 0 && ov->writable && renameat(ov->dir_fd, names[0], ov->dir_fd, names[1]) < 0)
			return -errno;
		if (!*ret)
			wf_overlay_forget_log(ov);
	}
	ov->new_log_name = *ret;
	ov->begun = *ret;
	return 0;
}

void wf_overlay_forget_unnamed(struct wf_overlay *ov, bool (*named)(void *ctx, uint32_t number), void *ctx)
{
	if (ov->begun && ov->writable && ov->replayed && !ov->left_out)
		wf_overlay_remove_files(ov, named, ctx);
	ov->begun = false;
}
