/* SPDX-License-Identifier: MIT */
/* Replay of the log: each record is read with its bounds checked and goes through the function that made the edit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

struct reader {
	const unsigned char *p;
	size_t left;
	bool failed;
};

static const void *take(struct reader *r, size_t n)
{
	const void *p = r->p;
	if (r->failed || n > r->left) {
		r->failed = true;
		return NULL;
	}
	r->p += n;
	r->left -= n;
	return p;
}

static uint8_t take_u8(struct reader *r)
{
	const uint8_t *p = take(r, 1);
	return p ? *p : 0;
}

static uint32_t take_u32(struct reader *r)
{
	const void *p = take(r, 4);
	return p ? wf_le32(p) : 0;
}

static uint64_t take_u64(struct reader *r)
{
	const void *p = take(r, 8);
	return p ? wf_le64(p) : 0;
}

static const char *take_text(struct reader *r, size_t *ret_len)
{
	*ret_len = take_u32(r);
	return take(r, *ret_len);
}

/* ---- paths ---- */

/* What was a directory when the record was made. */
static int directory_at(struct wf_checkpoint *ck, const struct wf_place *p, wf_ino *ret)
{
	const struct wf_node *n = wf_edit_node(ck, p);
	*ret = n->type == WF_NODE_LINK ? wf_tree_ino_of(ck->tree, n->object) : wf_edit_entry(ck, p)->ino;
	return n->type == WF_NODE_VALUE ? wf_tree_expand(ck->tree, *ret) : 0;
}

static int walk(struct wf_checkpoint *ck, const char *path, size_t len, wf_ino *ret)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	wf_ino dir = WF_INO_ROOT, metadata = wf_tree_metadata(ck->tree);
	size_t skip = strlen(WF_METADATA_PATH "/");
	if (metadata != WF_NO_INO && len >= skip && !memcmp(path, WF_METADATA_PATH "/", skip)) {
		dir = metadata;
		path += skip;
		len -= skip;
	}
	while (len > 0) {
		const char *slash = memchr(path, '/', len);
		size_t n = slash ? (size_t)(slash - path) : len;
		if (n > WF_NAME_MAX)
			return -EINVAL;
		memcpy(name, path, n);
		name[n] = '\0';
		int r = wf_edit_find(ck, dir, name, &p);
		if (r < 0)
			return r;
		r = directory_at(ck, &p, &dir);
		if (r < 0)
			return r;
		len -= slash ? n + 1 : n;
		path += slash ? n + 1 : n;
	}
	if (!wf_tree_dir(ck->tree, dir))
		return -ENOTDIR;
	*ret = dir;
	return 0;
}

/* Most records follow one in the same directory. */
static int directory(struct wf_checkpoint *ck, const char *path, size_t len, wf_ino *ret)
{
	struct wf_edits *e = ck->edits;
	if (e->last_path && e->last_generation == e->generation && strlen(e->last_path) == len &&
	    !memcmp(e->last_path, path, len)) {
		*ret = e->last_dir;
		return 0;
	}
	int r = walk(ck, path, len, ret);
	if (r < 0)
		return r;
	free(e->last_path);
	e->last_path = strndup(path, len);
	e->last_dir = *ret;
	e->last_generation = e->generation;
	return 0;
}

static int take_place(struct wf_checkpoint *ck, struct reader *r, wf_ino *ret_dir, char *ret_name)
{
	size_t len;
	const char *path = take_text(r, &len);
	if (!path)
		return -EINVAL;
	const char *slash = memrchr(path, '/', len);
	size_t dir_len = slash ? (size_t)(slash - path) + 1 : 0, name_len = len - dir_len;
	if (name_len > WF_NAME_MAX || memchr(path, 0, len))
		return -EINVAL;
	memcpy(ret_name, path + dir_len, name_len);
	ret_name[name_len] = '\0';
	return directory(ck, path, dir_len, ret_dir);
}

static int take_file(struct wf_checkpoint *ck, struct reader *r, wf_ino *ret)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	wf_ino dir;
	int e = take_place(ck, r, &dir, name);
	if (e == 0 && !name[0] && dir == WF_INO_ROOT) {
		*ret = dir; /* an attribute of the root */
		return 0;
	}
	if (e == 0)
		e = wf_edit_find(ck, dir, name, &p);
	if (e == 0)
		*ret = wf_tree_dir(ck->tree, p.dir)->entries[p.position].ino;
	return e;
}

/* ---- records ---- */

static int replay_symlink_to(struct wf_checkpoint *ck, struct reader *in, wf_ino dir, const char *name)
{
	size_t len;
	wf_ino ino;
	const char *text = take_text(in, &len);
	if (in->failed || in->left || len == 0 || memchr(text, 0, len))
		return -EINVAL;
	cleanup_free char *target = strndup(text, len);
	int r = target ? wf_apply_symlink_to(ck, target, dir, name, &ino) : -ENOMEM;
	if (r == 0)
		wf_edit_stamp_made(ck, dir, ino);
	return r;
}

static int replay_names(struct wf_checkpoint *ck, enum wf_edit_record type, struct reader *in)
{
	char name[WF_NAME_MAX + 1], new_name[WF_NAME_MAX + 1];
	wf_ino dir, new_dir, ino;
	size_t len;
	const bool heir = type == EDIT_HEIR;
	uint32_t flags = type == EDIT_RENAME || heir ? take_u32(in) : 0;
	int r;
	if (type == EDIT_LINK) {
		r = take_file(ck, in, &ino);
	} else if (type == EDIT_SYMLINK) {
		const char *path = take_text(in, &len);
		r = path ? directory(ck, path, len, &ino) : -EINVAL;
	} else {
		r = take_place(ck, in, &dir, name);
	}
	if (r == 0 && type == EDIT_SYMLINK_TO)
		return replay_symlink_to(ck, in, dir, name);
	if (r == 0 && (type == EDIT_RENAME || heir || type == EDIT_LINK || type == EDIT_SYMLINK))
		r = take_place(ck, in, &new_dir, new_name);
	uint32_t number = type == EDIT_CREATE ? take_u32(in) : 0;
	if (r < 0 || in->failed || in->left)
		return r < 0 ? r : -EINVAL;
	struct wf_names_edit e = {0};
	switch (type) {
	case EDIT_RENAME:
	case EDIT_HEIR:
		e = wf_edit_before(ck, dir, name, new_dir, new_name);
		r = wf_apply_rename(ck, dir, name, new_dir, new_name, flags, &heir);
		if (r == 0)
			wf_edit_stamp_names(ck, &e);
		return r;
	case EDIT_UNLINK:
	case EDIT_RMDIR:
		e = wf_edit_before(ck, dir, name, dir, NULL);
		r = type == EDIT_UNLINK ? wf_apply_unlink(ck, dir, name) : wf_apply_rmdir(ck, dir, name, true);
		if (r == 0)
			wf_edit_stamp_names(ck, &e);
		return r;
	case EDIT_MKDIR:
	case EDIT_CREATE:
		r = type == EDIT_MKDIR ? wf_apply_mkdir(ck, dir, name, &ino)
				       : wf_apply_create(ck, dir, name, number, &ino);
		if (r == 0)
			wf_edit_stamp_made(ck, dir, ino);
		return r;
	default:
		r = type == EDIT_LINK ? wf_apply_link(ck, ino, new_dir, new_name, &ino)
				      : wf_apply_symlink(ck, ino, new_dir, new_name, &ino);
		if (r == 0)
			wf_edit_stamp_made(ck, new_dir, ino);
		return r;
	}
}

static int replay_bytes(struct wf_checkpoint *ck, enum wf_edit_record type, struct reader *in)
{
	wf_ino ino;
	struct wf_tensor t;
	int r = type == EDIT_BIND ? take_file(ck, in, &ino) : 0;
	uint32_t number = take_u32(in);
	uint64_t offset = type == EDIT_WRITE ? take_u64(in) : 0, size = type == EDIT_BIND ? 0 : take_u64(in), end;
	if (r < 0 || in->failed || in->left)
		return r < 0 ? r : -EINVAL;
	if (type == EDIT_BIND) {
		r = wf_edit_tensor(ck, ino, &t);
		if (r == 0 && t.storage == WF_NO_STORAGE)
			r = -EINVAL;
		if (r == 0)
			wf_edit_stamp_views(ck, ino, t.storage);
		return r < 0 ? r : wf_edit_set_number(ck, t.storage, number);
	}
	uint32_t storage = wf_edit_storage(ck, number);
	const struct wf_storage *s = wf_storage_get(ck->storages, storage);
	if (!s || wf_add_u64(offset, size, &end) || end > INT64_MAX)
		return -EINVAL;
	if (type == EDIT_RESIZE)
		return wf_storage_resize(ck->storages, storage, size);
	wf_overlay_need_file(ck->overlay, number);
	/* a write past the end makes a new file longer; one of the base never grows that way */
	r = end > s->size_bytes ? (s->base_bytes ? -EINVAL : wf_storage_resize(ck->storages, storage, end)) : 0;
	return r < 0 ? r : wf_storage_mark(ck->storages, storage, offset, size);
}

/* What logs before the record SET say. */
static int replay_value(struct wf_checkpoint *ck, wf_ino ino, const char *text, size_t len)
{
	wf_ref object;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (n->type != WF_NODE_VALUE)
		return -EINVAL;
	int r = wf_value_parse(ck->graph, n->object, text, len, &object);
	return r < 0 ? r : wf_edit_set_object(ck, ino, object);
}

static int replay_set(struct wf_checkpoint *ck, wf_ino ino, struct reader *in)
{
	wf_ref object;
	uint8_t flags = take_u8(in);
	if (in->failed)
		return -EINVAL;
	int r = flags & SET_FIRST ? wf_edit_replay_old(ck, ino) : 0;
	if (r == 0)
		r = wf_replay_pickle(ck, wf_edit_set_id, in->p, in->left, &object);
	return r < 0 ? r : wf_apply_set(ck, ino, object, flags);
}

static int replay_known(struct wf_checkpoint *ck, wf_ino ino, struct reader *in)
{
	uint8_t known = take_u8(in);
	struct wf_file *f = wf_edit_file(ck, ino);
	if (in->failed || in->left || !f)
		return f ? -EINVAL : -ENOMEM;
	int r = known & KNOWN_FIRST ? wf_edit_replay_old(ck, ino) : 0;
	f->is_new = known & KNOWN_NEW;
	f->judged = known & KNOWN_JUDGED;
	f->stand_in = known & KNOWN_STANDS_IN;
	if (!(known & KNOWN_DECLARED))
		wf_declared_clear(f);
	f->declared_fits = known & KNOWN_CAME_TRUE;
	wf_edit_knows(f);
	return r;
}

static int replay_content(struct wf_checkpoint *ck, enum wf_edit_record type, struct reader *in)
{
	wf_ino ino;
	struct wf_tensor_type to = {0};
	int r = take_file(ck, in, &ino);
	if (r < 0)
		return r;
	if (type != EDIT_KNOWN)
		wf_edit_stamp(ck, ino, true);
	if (type == EDIT_SET || type == EDIT_ATTRIBUTE || type == EDIT_VALUE)
		wf_edit_record(ck, type, wf_edit_pending(ck, ino)); /* a commit writes a new pickle */
	if (type == EDIT_HOLD) {
		uint32_t number = take_u32(in);
		uint8_t flags = take_u8(in);
		return in->failed ? -EINVAL : wf_apply_hold(ck, ino, number, flags);
	}
	if (type == EDIT_KNOWN)
		return replay_known(ck, ino, in);
	if (type == EDIT_SET)
		return replay_set(ck, ino, in);
	if (type == EDIT_SETTLE) {
		uint8_t how = take_u8(in);
		to.dtype = take_u8(in);
		to.ndim = take_u8(in);
		if (how > SETTLE_RESTORE || to.dtype == WF_DTYPE_INVALID || to.dtype >= WF_DTYPE_COUNT ||
		    to.ndim > WF_MAX_NDIM)
			return -EINVAL;
		for (uint32_t i = 0; i < to.ndim; i++)
			to.shape[i] = (int64_t)take_u64(in);
		for (uint32_t i = 0; i < to.ndim; i++)
			if (to.shape[i] < 0)
				return -EINVAL;
		return in->failed ? -EINVAL : wf_apply_settle(ck, ino, how, &to);
	}
	size_t len, name_len = 0;
	const char *name = type != EDIT_VALUE ? take_text(in, &name_len) : "";
	const char *text = take_text(in, &len);
	if (in->failed || in->left)
		return -EINVAL;
	if (type == EDIT_VALUE)
		return replay_value(ck, ino, text, len);
	cleanup_free char *key = strndup(name, name_len), *value = strndup(text, len);
	if (!key || !value)
		return -ENOMEM;
	return type == EDIT_DECLARE ? wf_apply_declared(ck, ino, key, value) : wf_apply_attribute(ck, ino, key, value);
}

static int replay_piece(struct wf_checkpoint *ck, enum wf_edit_record type, struct reader *in)
{
	uint64_t at = take_u64(in);
	return in->failed ? -EINVAL : wf_replay_piece(ck, at, in->p, in->left);
}

static int replay_object(struct wf_checkpoint *ck, enum wf_edit_record type, struct reader *in)
{
	char name[WF_NAME_MAX + 1];
	wf_ino dir;
	if (ck->onto) /* its storages are records of its own checkpoint; an edit that needs it is refused */
		return 0;
	int r = take_place(ck, in, &dir, name);
	uint64_t before = r == 0 ? take_u64(in) : 0;
	if (r == 0 && in->failed)
		r = -EINVAL;
	return r < 0 ? r : wf_replay_object(ck, dir, name, before, in->p, in->left);
}

static int replay_touch(struct wf_checkpoint *ck, enum wf_edit_record type, struct reader *in)
{
	char name[WF_NAME_MAX + 1];
	wf_ino dir;
	size_t len;
	int r = take_place(ck, in, &dir, name);
	const char *form = r == 0 ? take_text(in, &len) : NULL;
	if (r == 0 && (in->failed || in->left))
		r = -EINVAL;
	if (r < 0) /* of no account but where it is to be compared */
		return ck->onto || r == -EINVAL ? r : 0;
	return wf_replay_touch(ck, dir, name, form, len);
}

static int replay_compact(struct wf_checkpoint *ck, enum wf_edit_record type, struct reader *in)
{
	return wf_edit_compact(ck);
}

static int replay_scratch(struct wf_checkpoint *ck, enum wf_edit_record type, struct reader *in)
{
	return wf_replay_scratch(ck);
}

static int replay_record(void *ctx, uint8_t type, const void *payload, size_t len)
{
	struct wf_checkpoint *ck = ctx;
	struct reader in = {payload, len, false};
	wf_checkpoint_rewritable(ck); /* before the graph is changed */
	switch (type) {
#define CASE(name, reader, new_pickle) \
	case EDIT_##name:              \
		return replay_##reader(ck, EDIT_##name, &in);
		WF_EDIT_RECORDS(CASE)
#undef CASE
	default:
		return -EOPNOTSUPP;
	}
}

/* Of a log of an older program: a new file whose content became an object of its own was judged, which the log says of other kinds of content only. One
 * that stands in for a backup shows the backup's object. */
static void note_judged(struct wf_checkpoint *ck)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->files_count; i++) {
		struct wf_file *f = e->files[i];
		const struct wf_node *n = f ? wf_tree_node(ck->tree, i + 1) : NULL;
		if (n && f->is_new && f->pending == PENDING_NOT && n->type == WF_NODE_TENSOR)
			f->judged |= wf_tree_ino_of(ck->tree, n->object) == i + 1;
	}
}

int wf_edit_replay(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_edits *e = ck->edits;
	const bool infers = !wf_edit_log_tells_known(ck);
	e->replaying = true;
	e->replay_error = err;
	wf_edit_replay_time(ck);
	int r = wf_overlay_replay(ck->overlay, replay_record, ck, err);
	if (r < 0) {
		e->replaying = false;
		return r;
	}
	/* nobody has a file open any more: what was being written and never judged ended with the program that wrote it */
	e->replaying = !ck->writable;
	if (e->pending_count > 0 && ck->writable)
		r = wf_overlay_prepare(ck->overlay);
	for (wf_ino ino = 1; r == 0 && ino <= e->files_count; ino++) {
		struct wf_file *f = wf_edit_known(ck, ino);
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		if (!f || !n || n->nlink == 0)
			continue;
		if (infers)
			f->declared_fits = wf_edit_fits_declared(ck, ino);
		f->touched = f->pending != PENDING_NOT && (f->sized || (f->is_new && !f->judged));
		r = wf_edit_end_writing(ck, ino);
		if (r == -EINVAL || r == -EFBIG) {
			wf_edit_take_away(ck, ino);
			r = 0;
		}
	}
	if (infers)
		note_judged(ck);
	e->replaying = false;
	return r < 0 ? wf_fail(err, r, "the edits that wait for a commit: %s", strerror(-r)) : 0;
}
