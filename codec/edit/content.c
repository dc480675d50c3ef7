/* SPDX-License-Identifier: MIT */
/* Edits of content: write, truncate, fallocate. */
#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/tensor/layout.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

#define PIECEWISE_MAX (1ull << 30) /* bytes of a strided view that are made zero while others wait */
/* How long a size that was set without an opening waits for a write: that is how files are emptied over NFS. */
#define SIZED_WAIT_MS 5000

/* ---- sizes ---- */

static int resize_text(struct wf_file *f, uint64_t size)
{
	static const char zeroes[4096];
	while (f->text.len < size && !f->text.failed)
		wf_buffer_append(&f->text, zeroes, WF_MIN(sizeof zeroes, size - f->text.len));
	if (wf_buffer_status(&f->text) < 0)
		return -ENOMEM;
	if (f->text.data)
		f->text.data[size] = '\0';
	f->text.len = size;
	return 0;
}

/* Without a record: a replayed write past the end makes the content longer by itself. */
static int resize_quietly(struct wf_checkpoint *ck, uint32_t storage, uint64_t size)
{
	ck->edits->quiet = true;
	int r = wf_storage_resize(ck->storages, storage, size);
	ck->edits->quiet = false;
	return r;
}

/* ---- what can be said of text while it is written ---- */

/* The character that the bytes before a write may have begun, and what is written. */
static bool goes_on_as_utf8(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, const char *buf, size_t len)
{
	size_t back = (size_t)WF_MIN(offset, 3u);
	cleanup_free char *text = malloc(back + len);
	if (!text || wf_edit_read(ck, ino, offset - back, text, back) < 0)
		return true;
	memcpy(text + back, buf, len);
	size_t skip = 0;
	while (skip < back && ((unsigned char)text[skip] & 0xc0) == 0x80)
		skip++;
	return wf_text_is_utf8(text + skip, back + len - skip, true);
}

/* Refused at once: a whole line that cannot be the value; and what is no UTF-8, where a shell would not hear of it later. */
static bool can_be_written(struct wf_checkpoint *ck, wf_ino ino, const struct wf_opening *o, uint64_t offset,
			   const char *buf, size_t len)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_wanted w;
	if (o && o->flushed && f->is_new && !f->declared && offset == 0 && wf_text_is_line(buf, len) &&
	    !wf_edit_takes_line(ck, ino) && wf_edit_wanted(ck, ino, NULL, NULL, &w) == 0 && w.kind == WANT_NEW) {
		wf_refuse(ck, -EINVAL, "a safetensors file holds tensors alone, and this text is none");
		return false;
	}
	if (len == 0 || !o || !(f->anew || n->type == WF_NODE_VALUE) ||
	    (f->is_new && !ck->edits->pasts && !f->declared))
		return true;
	if (offset == 0 && buf[len - 1] == '\n' && memchr(buf, '\n', len) == buf + len - 1 &&
	    wf_text_is_line(buf, len) && !wf_edit_line_fits(ck, ino, buf, len, o->flushed))
		return false;
	if (!o->flushed || offset > wf_edit_size(ck, ino) || wf_edit_wanted(ck, ino, NULL, NULL, &w) < 0 ||
	    w.kind != WANT_VALUE || !wf_is(ck->graph, w.like, WF_STR))
		return true;
	return goes_on_as_utf8(ck, ino, offset, buf, len);
}

/* ---- writing ---- */

static int write_pending(struct wf_checkpoint *ck, wf_ino ino, struct wf_file *f, uint64_t offset, const void *buf,
			 size_t len)
{
	int r = f->pending == PENDING_TEXT && offset + len > WF_VALUE_MAX_BYTES ? wf_edit_hold_bytes(ck, ino) : 0;
	if (r < 0)
		return r;
	f->touched = true;
	f->text_judged = false;
	if (f->pending == PENDING_TEXT) {
		r = offset + len > f->text.len ? resize_text(f, offset + len) : 0;
		if (r == 0 && len > 0)
			memcpy(f->text.data + offset, buf, len);
		return r;
	}
	ck->edits->writing = ino;
	uint64_t before = wf_storage_get(ck->storages, f->storage)->size_bytes;
	r = offset + len > before ? resize_quietly(ck, f->storage, offset + len) : 0;
	if (r == 0)
		r = wf_storage_write(ck->storages, f->storage, offset, buf, len);
	if (r < 0 && offset + len > before)
		resize_quietly(ck, f->storage, before);
	return r;
}

/* What is known of a node whose content can be written: a tensor or a value. */
static int file_of_content(struct wf_checkpoint *ck, wf_ino ino, struct wf_file **ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	*ret = n ? wf_edit_file(ck, ino) : NULL;
	if (!*ret)
		return n ? -ENOMEM : -ENOENT;
	if (n->type == WF_NODE_TENSOR || n->type == WF_NODE_VALUE)
		return 0;
	return n->type == WF_NODE_DIR ? -EISDIR : -EPERM;
}

/* Until WF_NO_INO is set again what is written into the tensor can be undone, as long as somebody can still make a bad end of it. */
static void begin_overwriting(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool judged = !f->is_new || f->judged;
	ck->edits->overwriting = f->writers > 0 && judged ? ino : WF_NO_INO;
}

static int write_file(struct wf_checkpoint *ck, wf_ino ino, const struct wf_opening *o, uint64_t offset,
		      const void *buf, size_t len)
{
	struct wf_tensor t;
	struct wf_file *f;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	int r = file_of_content(ck, ino, &f);
	if (r < 0)
		return r;
	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return -EFBIG;
	if (!can_be_written(ck, ino, o, offset, buf, len))
		return -EINVAL;
	if (f->pending == PENDING_NOT && n->type == WF_NODE_TENSOR) {
		r = wf_edit_part(ck, ino);
		if (r == 0)
			r = wf_edit_tensor(ck, ino, &t);
		if (r == 0)
			r = wf_edit_check_bytes(ck, ino, &t);
		if (r < 0)
			return r;
		ck->edits->writing = ino;
		if (offset + len <= t.size_bytes) {
			f->touched |= f->is_new;
			begin_overwriting(ck, ino);
			r = wf_tensor_write(ck->storages, &t, offset, buf, len);
			ck->edits->overwriting = WF_NO_INO;
			return r;
		}
	}
	r = wf_edit_hold(ck, ino, UINT64_MAX);
	if (r == 0)
		r = wf_edit_keep_old(ck, ino);
	return r < 0 ? r : write_pending(ck, ino, f, offset, buf, len);
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Nobody has it open: a size was set, which a write may follow; or a page of a mapping came after the last release. */
static int after_edit(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f || f->writers > 0 || !f->touched)
		return 0;
	if (!f->sized)
		return wf_edit_end_writing(ck, ino);
	f->due = now_ms() + SIZED_WAIT_MS;
	return 0;
}

/* Takes in what a change of content came to, which is r, and lets go of the lock. Returns r, or what judging the content said. */
static int end_edit(struct wf_checkpoint *ck, wf_ino ino, struct wf_opening *o, int r)
{
	if (r < 0 && o)
		o->failed = r;
	if (r == 0)
		wf_edit_stamp(ck, ino, true);
	if (r == 0)
		r = after_edit(ck, ino);
	wf_edit_end(ck);
	return r;
}

ssize_t wf_write(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, uint64_t offset, const void *buf,
		 size_t len)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	/* the kernel knows the end of what readers see */
	bool aside = o && o->appends && wf_edit_stands_aside(ck, ino);
	r = wf_edit_resume(ck, ino, o);
	bool moved = aside && wf_edit_size(ck, ino) != offset;
	if (r == 0)
		r = write_file(ck, ino, o, moved ? wf_edit_size(ck, ino) : offset, buf, len);
	if (moved)
		wf_edit_notify_changed(ck, ino);
	r = end_edit(ck, ino, o, r);
	return r < 0 ? r : (ssize_t)len;
}

/* ---- sizes ---- */

static int set_size(struct wf_checkpoint *ck, wf_ino ino, uint64_t size)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f->pending == PENDING_NOT && wf_edit_size(ck, ino) == size)
		return 0;
	int r = wf_edit_hold(ck, ino, size);
	if (r == 0)
		r = wf_edit_keep_old(ck, ino);
	if (r == 0 && f->pending == PENDING_TEXT && size > WF_VALUE_MAX_BYTES)
		r = wf_edit_hold_bytes(ck, ino);
	if (r < 0)
		return r;
	ck->edits->writing = ino;
	f->text_judged = false;
	if (f->pending == PENDING_TEXT)
		return resize_text(f, size);
	return wf_storage_get(ck->storages, f->storage)->size_bytes == size
		       ? 0
		       : wf_storage_resize(ck->storages, f->storage, size);
}

static int truncate_file(struct wf_checkpoint *ck, wf_ino ino, const struct wf_opening *o, uint64_t size)
{
	struct wf_file *f;
	int r = file_of_content(ck, ino, &f);
	if (r == 0 && size > INT64_MAX)
		r = -EFBIG;
	if (r < 0)
		return r;
	/* of an open with O_TRUNC the kernel tells no handle: that alone changes nothing */
	bool emptied = !o && f->writers > 0 && size == 0, was_sized = f->sized, was_empty = wf_edit_size(ck, ino) == 0;
	f->sized |= !o && f->writers == 0;
	r = set_size(ck, ino, size);
	if (r < 0) {
		f->sized = was_sized;
		return r;
	}
	f->touched = !emptied;
	f->anew |= size == 0;
	/* attributes that waited were of other content; those that came true are the entry's type */
	if (size == 0 && !was_empty && !f->declared_fits)
		wf_declared_clear(f);
	return wf_edit_tell_known(ck, ino);
}

int wf_truncate(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, uint64_t size_bytes)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_edit_resume(ck, ino, o);
	if (r == 0)
		r = truncate_file(ck, ino, o, size_bytes);
	return end_edit(ck, ino, o, r);
}

/* [offset, end) is within the file. */
static int zero(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, uint64_t end)
{
	static const char zeroes[65536];
	struct wf_file *f = wf_edit_file(ck, ino);
	struct wf_tensor t;
	int r = 0;
	if (!f)
		return -ENOMEM;
	if (f->pending == PENDING_BYTES)
		r = wf_edit_hold(ck, ino, UINT64_MAX);
	if (r < 0)
		return r;
	ck->edits->writing = ino;
	f->touched |= f->pending != PENDING_NOT || f->is_new;
	f->text_judged = false;
	if (f->pending == PENDING_BYTES)
		return wf_storage_zero(ck->storages, f->storage, offset, end - offset);
	if (wf_tree_node(ck->tree, ino)->type == WF_NODE_TENSOR) {
		r = wf_edit_part(ck, ino);
		if (r == 0)
			r = wf_edit_tensor(ck, ino, &t);
		if (r == 0 && t.contiguous && !t.conj && !t.neg && t.kind != WF_TENSOR_META) {
			begin_overwriting(ck, ino);
			r = wf_storage_zero(ck->storages, t.storage, wf_layout_start(&t) + offset, end - offset);
			ck->edits->overwriting = WF_NO_INO;
			return r;
		}
		if (r == 0 && end - offset > PIECEWISE_MAX)
			r = -EOPNOTSUPP;
	}
	while (r == 0 && offset < end) {
		size_t n = WF_MIN(end - offset, sizeof zeroes);
		r = write_file(ck, ino, NULL, offset, zeroes, n);
		offset += n;
	}
	return r;
}

static int allocate(struct wf_checkpoint *ck, wf_ino ino, struct wf_opening *o, int mode, uint64_t offset, uint64_t len)
{
	uint64_t end;
	if (wf_add_u64(offset, len, &end) || end > INT64_MAX)
		return -EFBIG;
	uint64_t size = wf_edit_size(ck, ino);
	bool keep = mode & FALLOC_FL_KEEP_SIZE;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (!keep && end > size) {
		int r = truncate_file(ck, ino, o, end);
		if (r < 0)
			return r;
		size = end;
	}
	end = WF_MIN(end, size);
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) || offset >= end)
		return 0;
	return zero(ck, ino, offset, end);
}

int wf_allocate(struct wf_checkpoint *ck, uint32_t ino, struct wf_opening *o, int mode, uint64_t offset, uint64_t len)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_edit_resume(ck, ino, o);
	if (r == 0)
		r = wf_tree_node(ck->tree, ino) ? allocate(ck, ino, o, mode, offset, len) : -ENOENT;
	return end_edit(ck, ino, o, r);
}

/* ---- sizes that nobody wrote behind ---- */

int64_t wf_judge_waiting(struct wf_checkpoint *ck)
{
	int64_t next = -1, now = now_ms();
	pthread_rwlock_rdlock(&ck->lock);
	uint32_t count = ck->edits ? ck->edits->files_count : 0;
	bool any = false;
	for (uint32_t i = 0; i < count; i++) {
		const struct wf_file *f = ck->edits->files[i];
		if (!f || !f->sized)
			continue;
		any |= f->due <= now;
		if (f->due > now && (next < 0 || f->due - now < next))
			next = f->due - now;
	}
	pthread_rwlock_unlock(&ck->lock);
	if (!any || wf_edit_begin(ck) < 0)
		return next;
	for (wf_ino ino = 1; ino <= ck->edits->files_count; ino++) {
		const struct wf_file *f = wf_edit_known(ck, ino);
		if (f && f->sized && f->due <= now && f->writers == 0)
			wf_edit_end_writing(ck, ino);
	}
	wf_edit_end(ck);
	return next;
}
