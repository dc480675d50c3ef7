#include "codec/edit/life.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"

/* ---- tables ---- */

static int grow(void **array, uint32_t *count, uint32_t need, size_t size, int fill)
{
	if (need <= *count)
		return 0;
	uint32_t bigger = WF_MAX(need, *count + *count / 2 + 16);
	void *p = reallocarray(*array, bigger, size);
	if (!p)
		return -ENOMEM;
	memset((char *)p + *count * size, fill, (bigger - *count) * size);
	*array = p;
	*count = bigger;
	return 0;
}

struct wf_file *wf_edit_known(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_edits *e = ck->edits;
	return e && ino >= 1 && ino <= e->files_count ? e->files[ino - 1] : NULL;
}

int wf_edit_reserve_files(struct wf_edits *e, uint32_t nodes)
{
	return grow((void **)&e->files, &e->files_count, nodes, sizeof *e->files, 0);
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

static void free_file(struct wf_file *f)
{
	if (!f)
		return;
	free(f->hidden);
	free(f->was);
	free(f->old);
	wf_said_clear(f);
	free(f->looks);
	free(f->home);
	wf_buffer_free(&f->text);
	free(f);
}

int wf_edit_set_number(struct wf_checkpoint *ck, uint32_t storage, uint32_t number)
{
	struct wf_edits *e = ck->edits;
	uint32_t before = e->numbers_count;
	int r = wf_overlay_reserve(ck->overlay, number);
	if (r == 0)
		r = grow((void **)&e->by_number, &e->by_number_count, number + 1, sizeof *e->by_number, 0xff);
	if (r == 0)
		r = grow((void **)&e->numbers, &e->numbers_count, storage + 1, sizeof *e->numbers, 0xff);
	if (r < 0)
		return r;
	if (before != e->numbers_count) {
		bool *unnamed = reallocarray(e->unnamed, e->numbers_count, sizeof *unnamed);
		if (!unnamed) {
			e->numbers_count = before;
			return -ENOMEM;
		}
		memset(unnamed + before, 0, e->numbers_count - before);
		e->unnamed = unnamed;
	}
	e->numbers[storage] = number;
	e->unnamed[storage] = false;
	e->by_number[number] = storage;
	return 0;
}

uint32_t wf_edit_number(const struct wf_checkpoint *ck, uint32_t storage)
{
	return storage < ck->edits->numbers_count ? ck->edits->numbers[storage] : WF_NO_NUMBER;
}

uint32_t wf_edit_storage(const struct wf_checkpoint *ck, uint32_t number)
{
	return number < ck->edits->by_number_count ? ck->edits->by_number[number] : WF_NO_STORAGE;
}

/* ---- storages ---- */

/* Keys of storages are numbers in every file that torch writes: new ones go on from the largest. */
static void find_next_key(struct wf_checkpoint *ck)
{
	for (uint32_t i = 0; i < wf_storages_count(ck->storages); i++) {
		char *end;
		const char *key = wf_storage_key(ck->storages, i);
		unsigned long long v = strtoull(key, &end, 10);
		if (*key && !*end && v < INT64_MAX && v >= ck->edits->next_key)
			ck->edits->next_key = v + 1;
	}
}

static void next_key(struct wf_checkpoint *ck, char key[24])
{
	if (ck->edits->next_key == 0)
		find_next_key(ck);
	snprintf(key, 24, "%llu", (unsigned long long)ck->edits->next_key++);
}

wf_ref wf_edit_fresh_key(struct wf_checkpoint *ck)
{
	char key[24];
	next_key(ck, key);
	return wf_str(ck->graph, key);
}

int wf_edit_new_storage(struct wf_checkpoint *ck, uint64_t size, const char *location, uint32_t number, uint32_t *ret)
{
	char key[24];
	wf_ref persid;
	uint32_t storage;
	next_key(ck, key);
	int r = wf_tensor_make_persid(ck->graph, WF_UINT8, key, location, size, &persid);
	if (r == 0)
		r = wf_storage_new(ck->storages, persid, size, &storage);
	if (r == 0)
		r = wf_edit_set_number(ck, storage, number);
	if (r < 0)
		return r;
	*ret = storage;
	return 0;
}

void wf_edit_drop_storage(struct wf_checkpoint *ck, uint32_t storage)
{
	uint32_t number = wf_edit_number(ck, storage);
	if (number == WF_NO_NUMBER)
		return;
	wf_overlay_drop_file(ck->overlay, number);
	ck->edits->quiet = true;
	wf_storage_resize(ck->storages, storage, 0);
	ck->edits->quiet = false;
}

void wf_edit_forget(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_tensor t;
	if (!n || n->nlink > 0 || (f && f->openers > 0))
		return;
	ck->edits->changes++;
	wf_edit_forget_old(ck, ino);
	if (f && f->pending == PENDING_BYTES)
		wf_edit_drop_storage(ck, f->storage);
	/* what was written into a storage that only this file viewed is not needed any more */
	if (n->type == WF_NODE_TENSOR && wf_edit_tensor(ck, ino, &t) == 0 && wf_edit_sole_view(ck, &t) &&
	    wf_storage_get(ck->storages, t.storage)->base_bytes == 0 &&
	    !(f && f->pending == PENDING_BYTES && f->storage == t.storage) && !wf_past_holds(ck, n->object))
		wf_edit_drop_storage(ck, t.storage);
	if (f) {
		wf_edit_set_pending(ck, f, PENDING_NOT);
		wf_edit_forget_hidden(ck, f);
		free_file(f);
		ck->edits->files[ino - 1] = NULL;
	}
}

void wf_edit_renumber(struct wf_checkpoint *ck, wf_ino gone, wf_ino ino)
{
	struct wf_edits *e = ck->edits;
	struct wf_file *f = wf_edit_known(ck, gone);
	if (!f)
		return;
	struct wf_file *before = wf_edit_file(ck, ino); /* of the link */
	if (before) {
		wf_edit_forget_hidden(ck, before);
		free_file(before);
		e->files[ino - 1] = f;
	} else {
		wf_edit_forget_hidden(ck, f);
		free_file(f);
	}
	e->files[gone - 1] = NULL;
}

/* ---- telling others ---- */

void wf_edit_changed(struct wf_checkpoint *ck, wf_ino ino)
{
	if (ck->changed && !ck->edits->replaying)
		ck->changed(ck->changed_ctx, ino, 0, 0);
}

/* ---- hooks for reading ---- */

wf_ino wf_edits_shadow(const struct wf_checkpoint *ck, wf_ino dir)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->shadow_count; i++)
		if (e->shadows[i].dir == dir)
			return e->shadows[i].shadow;
	return WF_NO_INO;
}

wf_ino wf_edits_shadowed(const struct wf_checkpoint *ck, wf_ino shadow)
{
	const struct wf_edits *e = ck->edits;
	for (uint32_t i = 0; i < e->shadow_count; i++)
		if (e->shadows[i].shadow == shadow)
			return e->shadows[i].dir;
	return WF_NO_INO;
}

/* ---- life ---- */

struct wf_edits *wf_edits_new(void)
{
	struct wf_edits *e = calloc(1, sizeof *e);
	if (e) {
		e->generation = 1;
		e->viewed = WF_NO_STORAGE;
	}
	return e;
}

void wf_edits_start(struct wf_checkpoint *ck, struct wf_storages *ss)
{
	struct wf_extent_files files = {.open = wf_edit_open_extents, .written = wf_edit_written, .ctx = ck};
	wf_storages_set_extent_files(ss, &files);
}

int wf_edits_open(struct wf_checkpoint *ck, struct wf_error *err)
{
	if (!ck->overlay)
		return 0;
	ck->edits = wf_edits_new();
	if (!ck->edits)
		return wf_fail(err, -ENOMEM, "out of memory");
	wf_edits_start(ck, ck->storages);
	int r = wf_edit_reserve_files(ck->edits, wf_tree_node_count(ck->tree));
	return r < 0 ? wf_fail(err, r, "out of memory") : wf_edit_replay(ck, err);
}

void wf_edits_close(struct wf_checkpoint *ck)
{
	struct wf_edits *e = ck->edits;
	if (!e)
		return;
	for (uint32_t i = 0; i < e->files_count; i++)
		free_file(e->files[i]);
	for (uint32_t i = 0; i < e->paths_count; i++)
		free(e->paths[i].path);
	free(e->files);
	free(e->paths);
	free(e->numbers);
	free(e->unnamed);
	free(e->by_number);
	free(e->shadows);
	for (uint32_t i = 0; i < e->refused_count; i++)
		free(e->refused[i]);
	free(e->refused);
	wf_pasts_clear(e);
	free(e->viewers);
	free(e->kept);
	free(e->touched);
	free(e->storage_of_record);
	wf_buffer_free(&e->pieces);
	free(e->last_path);
	wf_buffer_free(&e->payload);
	free(e);
	ck->edits = NULL;
}

static int begin(struct wf_checkpoint *ck, bool removes)
{
	if (!ck->writable || !ck->overlay)
		return -EROFS;
	pthread_mutex_lock(&ck->commit_lock);
	pthread_rwlock_wrlock(&ck->lock);
	int r = removes ? wf_overlay_prepare_removal(ck->overlay) : wf_overlay_prepare(ck->overlay);
	if (r == 0)
		r = wf_edits_log_scratch(ck);
	if (r < 0) {
		wf_refuse(ck, r, "%s takes no edit: %s", wf_overlay_directory(ck->overlay), strerror(-r));
		wf_edit_end(ck);
	}
	return r;
}

int wf_edit_begin(struct wf_checkpoint *ck)
{
	return begin(ck, false);
}

int wf_edit_begin_removal(struct wf_checkpoint *ck)
{
	return begin(ck, true);
}

void wf_edit_end(struct wf_checkpoint *ck)
{
	if (wf_overlay_wants_room(ck->overlay))
		wf_overlay_sync(ck->overlay); /* the next one says what is wrong */
	pthread_rwlock_unlock(&ck->lock);
	pthread_mutex_unlock(&ck->commit_lock);
}

/* ---- durability ---- */

int wf_sync(struct wf_checkpoint *ck)
{
	if (!ck->writable || !ck->overlay)
		return 0;
	pthread_mutex_lock(&ck->commit_lock);
	/* reads go on while the disk is waited for; what is left then is little */
	int r = wf_checkpoint_flush(ck);
	pthread_rwlock_wrlock(&ck->lock);
	if (r == 0)
		r = wf_edits_log_scratch(ck);
	if (r == 0)
		r = wf_overlay_sync(ck->overlay);
	wf_edit_end(ck);
	return r;
}

int wf_sync_behind(struct wf_checkpoint *ck)
{
	int r = 0;
	if (!ck->writable || !ck->overlay)
		return 0;
	if (atomic_load(&ck->progress.running))
		return -EAGAIN; /* it makes all of them durable, and edits wait for it */
	/* without keeping edits away: what is written meanwhile is less each time */
	for (int i = 0; r == 0 && i < 2; i++)
		r = wf_checkpoint_flush(ck);
	pthread_mutex_lock(&ck->commit_lock);
	pthread_rwlock_wrlock(&ck->lock);
	if (r == 0)
		r = wf_edits_log_scratch(ck);
	if (r == 0)
		r = wf_overlay_sync(ck->overlay);
	pthread_rwlock_unlock(&ck->lock);
	pthread_mutex_unlock(&ck->commit_lock);
	return r;
}

bool wf_is_dirty(struct wf_checkpoint *ck)
{
	struct wf_overlay_usage usage;
	if (!ck->overlay)
		return false;
	pthread_rwlock_rdlock(&ck->lock);
	wf_checkpoint_usage(ck, &usage);
	bool dirty = usage.edits > 0 || wf_edits_is_hiding(ck);
	for (uint32_t i = 0; !dirty && ck->edits->pending_count > 0 && i < ck->edits->files_count; i++)
		dirty = ck->edits->files[i] && ck->edits->files[i]->touched;
	pthread_rwlock_unlock(&ck->lock);
	return dirty;
}

int wf_discard(const char *path, struct wf_error *err)
{
	return wf_overlay_discard(path, err);
}

int wf_waiting(const char *path, uint64_t *ret_edits, char *ret_failure, size_t size, struct wf_error *err)
{
	return wf_overlay_look(path, ret_edits, ret_failure, size, err);
}
