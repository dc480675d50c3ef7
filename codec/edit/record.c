/* SPDX-License-Identifier: MIT */
/* Records: which entry one names, whether the checkpoint can take it, and its way into the log. */
#include <errno.h>
#include <string.h>

#include "codec/edit/inner.h"

int wf_put_path(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir, const char *name)
{
	if (ck->edits->replaying)
		return 0;
	int r = wf_edit_touch(ck, dir, name);
	return r < 0 ? r : wf_put_names(ck, b, dir, name);
}

int wf_put_file(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino ino)
{
	struct wf_place place;
	char name[WF_NAME_MAX + 1];
	if (ck->edits->replaying)
		return 0;
	if (ino == WF_INO_ROOT) {
		wf_put_u32(b, 0);
		return 0;
	}
	int r = wf_edit_place_of(ck, ino, &place);
	if (r < 0)
		return r;
	if (!wf_tree_name(ck->tree, wf_tree_dir(ck->tree, place.dir), place.position, name))
		return -ENOENT;
	return wf_put_path(ck, b, place.dir, name);
}

static bool changes_pickle(enum wf_edit_record type)
{
	switch (type) {
#define CASE(name, reader, new_pickle) \
	case EDIT_##name:              \
		return new_pickle;
		WF_EDIT_RECORDS(CASE)
#undef CASE
	}
	return false;
}

int wf_edit_check_names(struct wf_checkpoint *ck)
{
	return !ck->edits->replaying && !wf_checkpoint_rewritable(ck) ? wf_refuse_rewrite(ck) : 0;
}

static int in_companion(void *ctx, wf_ino dir, uint32_t position)
{
	const struct wf_checkpoint *ck = ctx;
	return wf_tree_dir(ck->tree, dir)->companion;
}

bool wf_edit_is_companion(struct wf_checkpoint *ck, wf_ino ino)
{
	return wf_tree_has_companions(ck->tree) && wf_edit_each_entry(ck, ino, in_companion, ck) == 1;
}

bool wf_edit_is_kept(struct wf_checkpoint *ck, wf_ino ino)
{
	return (wf_edit_pending(ck, ino) && !wf_checkpoint_rewritable(ck)) || wf_edit_is_companion(ck, ino);
}

int wf_edit_check_pickle(struct wf_checkpoint *ck, wf_ino ino)
{
	if (!ck->edits->replaying && wf_edit_is_companion(ck, ino))
		return wf_refuse(
			ck, -EPERM,
			"the constants of a TorchScript archive are those of its code, and constants.pkl is kept as "
			"it is: only the bytes of tensors can be edited");
	return wf_edit_pending(ck, ino) ? wf_edit_check_names(ck) : 0;
}

int wf_edit_check_bytes(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t)
{
	return wf_edit_check_storage(ck, ino, t->storage);
}

int wf_edit_check_storage(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage)
{
	const struct wf_storage *s = wf_storage_get(ck->storages, storage);
	if (!s || !s->inside || ck->edits->replaying)
		return 0;
	if (wf_edit_is_companion(ck, ino))
		return wf_edit_check_pickle(ck, ino);
	return wf_edit_pending(ck, ino) && !wf_checkpoint_rewritable(ck) ? wf_check_inside(ck, storage) : 0;
}

int wf_edit_record(struct wf_checkpoint *ck, enum wf_edit_record type, bool pending)
{
	struct wf_edits *e = ck->edits;
	e->changes++;
	if (pending && changes_pickle(type)) {
		/* what an earlier program accepted stays, and the commit says that it cannot be written */
		if (!wf_checkpoint_rewritable(ck) && !e->replaying)
			return wf_refuse_rewrite(ck);
		e->structural = true;
	}
	if (e->replaying)
		return 0;
	int r = wf_buffer_status(&e->payload);
	return r < 0 ? r : wf_overlay_record(ck->overlay, type, e->payload.data, e->payload.len, pending);
}

int wf_edit_record_setting(struct wf_checkpoint *ck, enum wf_edit_record type, wf_ino ino, const char *name,
			   const char *value)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_file(ck, b, ino);
	wf_put_text(b, name, strlen(name));
	wf_put_text(b, value, strlen(value));
	if (r == 0)
		r = wf_edit_record(ck, type, wf_edit_pending(ck, ino));
	return r == -ENOENT ? 0 : r;
}

int wf_edit_record_size(struct wf_checkpoint *ck, uint32_t number, uint64_t size, bool pending)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	wf_put_u32(b, number);
	wf_put_u64(b, size);
	return wf_edit_record(ck, EDIT_RESIZE, pending);
}

int wf_edit_record_write(struct wf_checkpoint *ck, uint32_t number, uint64_t offset, uint64_t len, bool pending)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	wf_put_u32(b, number);
	wf_put_u64(b, offset);
	wf_put_u64(b, len);
	return wf_edit_record(ck, EDIT_WRITE, pending);
}
