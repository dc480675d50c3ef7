/* Edits around a commit: everything settled before it; scratch files, and files that were unlinked while open, carried
 * over it, since the new base holds nothing of theirs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edit_impl.h"
#include "layout.h"
#include "pickle.h"
#include "util.h"
#include "value.h"

#define CHUNK (1u << 20)

void wf_edit_free_kept(struct wf_edits *e)
{
	for (uint32_t i = 0; i < e->kept_count; i++)
		free(e->kept[i].extents);
	free(e->kept);
	e->kept = NULL;
	e->kept_count = 0;
}

/* ---- what is kept ---- */

static int copy_out(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t, uint32_t storage)
{
	cleanup_free char *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < t->size_bytes; at += CHUNK) {
		size_t n = WF_MIN(t->size_bytes - at, (uint64_t)CHUNK);
		r = wf_tensor_read(ck->storages, t, at, buf, n);
		if (r == 0)
			r = wf_storage_write(ck->storages, storage, at, buf, n);
	}
	return r;
}

/* The content of the file in a data file of its own. */
static int own_content(struct wf_checkpoint *ck, wf_ino ino, uint32_t *ret)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f && f->loose == LOOSE_TENSOR) {
		*ret = f->storage;
		return 0;
	}
	int r = wf_edit_tensor(ck, ino, &t);
	if (r < 0)
		return r;
	if (t.kind == WF_TENSOR_META || t.storage == WF_NO_STORAGE)
		return -ENODATA;
	const struct wf_storage *s = wf_storage_get(ck->storages, t.storage);
	if (wf_edit_sole_view(ck, &t) && s->base_bytes == 0 && t.contiguous && t.offset_elems == 0 && !t.conj &&
	    !t.neg && wf_edit_number(ck, t.storage) != WF_NO_NUMBER) {
		*ret = t.storage;
		return 0;
	}
	ck->edits->quiet = true;
	r = wf_edit_new_storage(ck, t.size_bytes, "cpu", wf_overlay_new_number(ck->overlay), ret);
	if (r == 0)
		r = copy_out(ck, ino, &t, *ret);
	ck->edits->quiet = false;
	return r;
}

static int keep(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_edits *e = ck->edits;
	uint32_t storage;
	int r = own_content(ck, ino, &storage);
	if (r < 0)
		return r == -ENOMEM || r == -ENOSPC ? r : 0; /* what cannot be read is not worth a failed commit */
	struct wf_kept *kept = reallocarray(e->kept, e->kept_count + 1, sizeof *kept);
	if (!kept)
		return -ENOMEM;
	e->kept = kept;
	struct wf_kept *k = &kept[e->kept_count];
	const struct wf_storage *s = wf_storage_get(ck->storages, storage);
	*k = (struct wf_kept){.ino = ino, .number = wf_edit_number(ck, storage), .size = s->size_bytes};
	const struct wf_extent *all = wf_extents_all(s->dirty, &k->extents_count);
	k->extents = malloc((k->extents_count ? k->extents_count : 1) * sizeof *all);
	if (!k->extents)
		return -ENOMEM;
	if (k->extents_count)
		memcpy(k->extents, all, k->extents_count * sizeof *all);
	e->kept_count++;
	return 0;
}

static int keep_all(struct wf_checkpoint *ck)
{
	struct wf_place p;
	wf_edit_free_kept(ck->edits);
	for (wf_ino ino = 1; ino <= wf_tree_node_count(ck->tree); ino++) {
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		const struct wf_file *f = wf_edit_known(ck, ino);
		if (!n || n->type != WF_NODE_TENSOR)
			continue;
		bool orphan = n->nlink == 0 && f && f->openers > 0;
		bool scratch = n->nlink > 0 && ck->edits->shadow_count > 0 && wf_edit_is_scratch(ck, n->parent) &&
			       wf_edit_place_of(ck, ino, &p) == 0 && wf_edit_is_scratch(ck, p.dir);
		int r = orphan || scratch ? keep(ck, ino) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int wf_edits_settle(struct wf_checkpoint *ck, struct wf_error *err)
{
	if (!ck->edits)
		return 0;
	int r = ck->edits->loose_count > 0 ? wf_overlay_prepare(ck->overlay) : 0;
	if (r == 0)
		r = wf_edit_settle_all(ck, true);
	if (r == 0)
		r = wf_tree_compact(ck->tree);
	if (r == 0 && wf_overlay_is_dirty(ck->overlay))
		r = keep_all(ck);
	return r < 0 ? wf_fail(err, r, "%s", strerror(-r)) : 0;
}

/* ---- afterwards ---- */

/* The kept content gets a storage again: the old one is no part of the new base. */
static int restore(struct wf_checkpoint *ck, const struct wf_kept *k)
{
	struct wf_file *f = wf_edit_known(ck, k->ino);
	uint32_t storage;
	struct wf_tensor t;
	int r = wf_edit_new_storage(ck, k->size, "cpu", k->number, &storage);
	for (uint32_t i = 0; r == 0 && i < k->extents_count; i++)
		r = wf_storage_mark(ck->storages, storage, k->extents[i].start,
				    k->extents[i].end - k->extents[i].start);
	if (r < 0)
		return r;
	if (f && f->loose == LOOSE_TENSOR) {
		f->storage = storage;
		return 0;
	}
	/* its old storage reads as an error by now, and all but that is decoded */
	wf_edit_tensor(ck, k->ino, &t);
	int64_t step = 1;
	t.storage = storage;
	t.offset_elems = 0;
	for (uint32_t d = t.ndim; d-- > 0;) {
		t.stride[d] = step;
		step *= t.shape[d] ? t.shape[d] : 1;
	}
	r = wf_storage_set_form(ck->storages, storage, t.dtype, NULL);
	return r < 0 ? r : wf_edit_reform(ck, k->ino, &t);
}

bool wf_edits_reformed(const struct wf_checkpoint *ck)
{
	return ck->edits->reformed;
}

void wf_edits_committed(struct wf_checkpoint *ck)
{
	ck->edits->reformed = false;
	struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->files_count; i++)
		if (e->files[i])
			e->files[i]->is_new = e->files[i]->untyped = false;
	for (uint32_t i = 0; i < e->numbers_count; i++) {
		e->numbers[i] = WF_NO_NUMBER;
		e->unnamed[i] = false;
	}
	for (uint32_t i = 0; i < e->by_number_count; i++)
		e->by_number[i] = WF_NO_STORAGE;
	e->quiet = true;
	for (uint32_t i = 0; i < e->kept_count; i++)
		if (restore(ck, &e->kept[i]) < 0)
			wf_checkpoint_log(ck, "a scratch file was lost: out of memory");
	e->quiet = false;
	e->changes++;
	e->generation++; /* a list's names are numbered anew */
	e->scratch_unlogged = e->shadow_count > 0;
}

bool wf_edits_keep_file(void *ctx, uint32_t number)
{
	const struct wf_checkpoint *ck = ctx;
	for (uint32_t i = 0; i < ck->edits->kept_count; i++)
		if (ck->edits->kept[i].number == number)
			return true;
	return false;
}

/* ---- the new log ---- */

static int log_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_file(ck, b, ino);
	wf_put_text(b, name, strlen(name));
	wf_put_text(b, value, strlen(value));
	return r < 0 ? r : wf_edit_record(ck, EDIT_ATTRIBUTE, false);
}

static int log_form(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t)
{
	struct wf_buffer shape = WF_BUFFER_INIT;
	wf_json_ints(&shape, t->shape, t->ndim);
	int r = wf_buffer_status(&shape);
	if (r == 0)
		r = log_attribute(ck, ino, "user.torch.dtype", wf_dtype_info(t->dtype)->name);
	if (r == 0)
		r = log_attribute(ck, ino, "user.torch.shape", shape.data);
	wf_buffer_free(&shape);
	return r;
}

static int log_file(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino ino)
{
	struct wf_tensor t;
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool loose = f && f->loose == LOOSE_TENSOR;
	int r = wf_edit_tensor(ck, ino, &t);
	if (r < 0 && !loose)
		return 0;
	uint32_t storage = loose ? f->storage : t.storage, n, number = wf_edit_number(ck, storage);
	if (number == WF_NO_NUMBER)
		return 0;
	const struct wf_storage *s = wf_storage_get(ck->storages, storage);
	const struct wf_extent *all = wf_extents_all(s->dirty, &n);
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, dir, name);
	wf_put_u32(b, number);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_CREATE, false);
	/* its content stands in the new file's own storage, which grows once it is loose */
	b = wf_edit_payload(ck);
	if (r == 0)
		r = wf_put_path(ck, b, dir, name);
	wf_put_u32(b, number);
	wf_put_u8(b, true);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_LOOSEN, false);
	for (uint32_t i = 0; r == 0 && i < n; i++) {
		b = wf_edit_payload(ck);
		wf_put_u32(b, number);
		wf_put_u64(b, all[i].start);
		wf_put_u64(b, all[i].end - all[i].start);
		r = wf_edit_record(ck, EDIT_WRITE, false);
	}
	b = wf_edit_payload(ck);
	wf_put_u32(b, number);
	wf_put_u64(b, s->size_bytes);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_RESIZE, false);
	if (r < 0 || loose)
		return r;
	b = wf_edit_payload(ck);
	r = wf_put_path(ck, b, dir, name);
	wf_put_u8(b, SETTLE_SWITCH);
	wf_put_u8(b, WF_UINT8);
	wf_put_u8(b, 1);
	wf_put_u64(b, s->size_bytes);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_SETTLE, false);
	return r < 0 || t.dtype == WF_UINT8 ? r : log_form(ck, ino, &t);
}

static wf_ref note_persid(void *ctx, wf_ref persid, wf_ref id)
{
	*(bool *)ctx = true;
	return id;
}

/* A value, or what is only described. What names storages stays in memory alone: they are no part of the new base. */
static int log_object(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref object)
{
	struct wf_buffer pickle = WF_BUFFER_INIT;
	bool has_storages = false;
	int r = wf_pickle_write_buffer(ck->graph, object, note_persid, &has_storages, &pickle, NULL);
	if (r == 0 && !has_storages) {
		struct wf_buffer *b = wf_edit_payload(ck);
		r = wf_put_path(ck, b, dir, name);
		wf_put_text(b, pickle.data, pickle.len);
		if (r == 0)
			r = wf_edit_record(ck, EDIT_OBJECT, false);
	}
	wf_buffer_free(&pickle);
	return r == -ENOMEM ? r : 0;
}

static int log_link(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref object)
{
	wf_ino target = wf_tree_ino_of(ck->tree, object);
	if (target == WF_NO_INO || wf_edit_is_scratch(ck, target))
		return 0;
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_dir(ck, b, target);
	if (r == 0)
		r = wf_put_path(ck, b, dir, name);
	return r < 0 ? r : wf_edit_record(ck, EDIT_SYMLINK, false);
}

static int log_dir(struct wf_checkpoint *ck, wf_ino dir, wf_ino *todo, uint32_t *count)
{
	char name[WF_NAME_MAX + 1];
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < wf_tree_dir(ck->tree, dir)->count; i++) {
		const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
		wf_ino ino = d->entries[i].ino;
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		if (!wf_tree_name(ck->tree, d, i, name) || !n)
			continue;
		if (n->type == WF_NODE_TENSOR) {
			r = log_file(ck, dir, name, ino);
		} else if (n->type == WF_NODE_DIR) {
			struct wf_buffer *b = wf_edit_payload(ck);
			r = wf_put_path(ck, b, dir, name);
			if (r == 0)
				r = wf_edit_record(ck, EDIT_MKDIR, false);
			todo[(*count)++] = ino;
		} else if (n->type == WF_NODE_LINK) {
			r = log_link(ck, dir, name, n->object);
		} else {
			r = log_object(ck, dir, name, n->object);
		}
	}
	return r;
}

int wf_edit_relog_scratch(struct wf_checkpoint *ck)
{
	struct wf_edits *e = ck->edits;
	uint32_t count = 0;
	int r = 0;
	e->scratch_unlogged = false;
	cleanup_free wf_ino *todo = calloc(wf_tree_dir_count(ck->tree) + 1, sizeof *todo);
	if (!todo)
		return -ENOMEM;
	for (uint32_t i = 0; i < e->shadow_count; i++)
		todo[count++] = e->shadows[i].shadow;
	while (r == 0 && count > 0)
		r = log_dir(ck, todo[--count], todo, &count);
	return r;
}
