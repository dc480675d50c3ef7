/* Edits of content: write, truncate, fallocate; and the life of open files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "edit_impl.h"
#include "layout.h"
#include "util.h"
#include "value.h"

#define CHUNK (1u << 20)
#define PIECEWISE_MAX (1ull << 30) /* bytes of a strided view that are made zero while others wait */

int wf_edit_tensor(const struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	return n ? wf_tensor_decode(ck->graph, ck->storages, n->object, ret, NULL) : -ENOENT;
}

bool wf_edit_sole_view(const struct wf_checkpoint *ck, const struct wf_tensor *t)
{
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	return t->kind == WF_TENSOR_DENSE && s && s->persids == 1;
}

/* ---- extents ---- */

int wf_edit_open_extents(void *ctx, uint32_t storage, int *ret_fd)
{
	struct wf_checkpoint *ck = ctx;
	if (wf_edit_number(ck, storage) == WF_NO_NUMBER) {
		if (!ck->writable)
			return -EROFS;
		/* the first write into a storage of the base: its record follows once the bytes are there */
		int r = wf_edit_set_number(ck, storage, wf_overlay_new_number(ck->overlay));
		if (r < 0)
			return r;
		ck->edits->unnamed[storage] = true;
	}
	return wf_overlay_file(ck->overlay, wf_edit_number(ck, storage), ret_fd);
}

static int name_number(struct wf_checkpoint *ck, uint32_t storage, wf_ino ino)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (f && f->loose == LOOSE_TENSOR && f->storage == storage)
		return -ENOENT; /* not the storage of the tensor that the name stands for */
	struct wf_buffer *b = wf_edit_payload(ck);
	int r = wf_put_file(ck, b, ino);
	wf_put_u32(b, wf_edit_number(ck, storage));
	if (r == 0)
		r = wf_edit_record(ck, EDIT_BIND, true);
	if (r == 0)
		ck->edits->unnamed[storage] = false;
	return r;
}

/* The files that view a storage which has several views. Kept from call to call while nothing else is edited. */
static int find_viewers(struct wf_checkpoint *ck, uint32_t storage)
{
	struct wf_edits *e = ck->edits;
	struct wf_tensor t;
	if (e->viewed == storage && e->viewed_at == e->changes)
		return 0;
	e->viewed = WF_NO_STORAGE;
	e->viewers_count = 0;
	for (wf_ino ino = 1; ino <= wf_tree_node_count(ck->tree); ino++) {
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		if (!n || n->type != WF_NODE_TENSOR || wf_edit_tensor(ck, ino, &t) < 0 || t.storage != storage)
			continue;
		wf_ino *p = reallocarray(e->viewers, e->viewers_count + 1, sizeof *p);
		if (!p)
			return -ENOMEM;
		e->viewers = p;
		p[e->viewers_count++] = ino;
	}
	e->viewed = storage;
	e->viewed_at = e->changes;
	return 0;
}

static void tell_viewers(struct wf_checkpoint *ck, uint32_t storage, uint64_t offset, uint64_t len)
{
	struct wf_edits *e = ck->edits;
	struct wf_tensor t;
	if (wf_storage_get(ck->storages, storage)->persids < 2 || find_viewers(ck, storage) < 0)
		return;
	for (uint32_t i = 0; i < e->viewers_count; i++) {
		wf_ino ino = e->viewers[i];
		uint64_t start, end;
		if (ino == e->writing || wf_edit_tensor(ck, ino, &t) < 0)
			continue;
		wf_layout_span(&t, &start, &end);
		if (offset >= end || offset + len <= start)
			continue;
		uint64_t from = WF_MAX(offset, start), to = WF_MIN(offset + len, end);
		wf_edit_stamp(ck, ino, true);
		if (!ck->changed)
			continue;
		if (t.contiguous)
			ck->changed(ck->changed_ctx, ino, from - start, to - from);
		else
			ck->changed(ck->changed_ctx, ino, 0, 0);
	}
}

void wf_edit_stamp_views(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage)
{
	wf_edit_stamp(ck, ino, true);
	if (wf_storage_get(ck->storages, storage)->persids < 2 || find_viewers(ck, storage) < 0)
		return;
	for (uint32_t i = 0; i < ck->edits->viewers_count; i++)
		wf_edit_stamp(ck, ck->edits->viewers[i], true);
}

static int in_checkpoint(void *ctx, wf_ino dir, uint32_t position)
{
	return !wf_edit_is_scratch(ctx, dir);
}

bool wf_edit_pending(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	return ck->edits->shadow_count == 0 || !n || n->nlink == 0 ||
	       wf_edit_each_entry(ck, ino, in_checkpoint, ck) == 1;
}

void wf_edit_written(void *ctx, uint32_t storage, uint64_t offset, uint64_t len)
{
	struct wf_checkpoint *ck = ctx;
	struct wf_edits *e = ck->edits;
	uint32_t number = wf_edit_number(ck, storage);
	uint64_t changes = e->changes;
	if (e->replaying || e->quiet || number == WF_NO_NUMBER)
		return;
	if (len > 0) {
		wf_overlay_touched(ck->overlay, number);
		tell_viewers(ck, storage, offset, len);
	}
	/* nobody in the tree can see what an orphan writes into a storage that is its own: there is nothing to log */
	if (e->unnamed[storage]) {
		int r = name_number(ck, storage, e->writing);
		for (uint32_t i = 0; r == -ENOENT && find_viewers(ck, storage) == 0 && i < e->viewers_count; i++)
			r = name_number(ck, storage, e->viewers[i]);
		if (r < 0)
			return;
	}
	if (len == 0) { /* the size was set */
		struct wf_buffer *b = wf_edit_payload(ck);
		wf_put_u32(b, number);
		wf_put_u64(b, offset);
		wf_edit_record(ck, EDIT_RESIZE, wf_edit_pending(ck, e->writing));
		return;
	}
	wf_edit_record_write(ck, number, offset, len, wf_edit_pending(ck, e->writing));
	e->viewed_at += e->viewed_at == changes ? e->changes - changes : 0; /* a write moves no view */
}

/* ---- loosening ---- */

/* Content whose storage is all its own, written since the last commit: it can grow where it is. */
static bool can_stay(const struct wf_checkpoint *ck, const struct wf_tensor *t)
{
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	return wf_edit_sole_view(ck, t) && t->contiguous && t->offset_elems == 0 && !t->conj && !t->neg &&
	       s->base_bytes == 0 && s->size_bytes == t->size_bytes && wf_edit_number(ck, t->storage) != WF_NO_NUMBER &&
	       !ck->edits->unnamed[t->storage];
}

static int copy_in(struct wf_checkpoint *ck, const struct wf_tensor *t, uint32_t storage, uint64_t len)
{
	cleanup_free char *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < len; at += CHUNK) {
		size_t n = WF_MIN(len - at, (uint64_t)CHUNK);
		r = wf_tensor_read(ck->storages, t, at, buf, n);
		if (r == 0)
			r = wf_storage_write(ck->storages, storage, at, buf, n);
	}
	return r;
}

int wf_apply_loosen(struct wf_checkpoint *ck, wf_ino ino, uint32_t number, bool in_place)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_file(ck, ino);
	if (!f)
		return -ENOMEM;
	int r = wf_edit_tensor(ck, ino, &t);
	if (r < 0)
		return r;
	if (f->loose != LOOSE_NOT || t.kind == WF_TENSOR_META)
		return -EINVAL;
	if (!f->form && (r = wf_edit_remember_form(f, &t)) < 0)
		return r;
	uint32_t storage = t.storage;
	const char *location = t.kind == WF_TENSOR_NUMPY ? "cpu" : wf_storage_location(ck->storages, t.storage);
	if (!in_place)
		r = wf_edit_new_storage(ck, 0, location, number, &storage);
	else if (wf_edit_storage(ck, number) != t.storage)
		r = -EINVAL;
	if (r < 0)
		return r;
	struct wf_buffer *b = wf_edit_payload(ck);
	r = wf_put_file(ck, b, ino);
	wf_put_u32(b, number);
	wf_put_u8(b, in_place);
	if (r == 0)
		r = wf_edit_record(ck, EDIT_LOOSEN, wf_edit_pending(ck, ino));
	if (r == -ENOENT) { /* an orphan: nothing to log */
		ck->edits->unnamed[storage] |= !in_place;
		r = 0;
	}
	if (r < 0)
		return r;
	f->storage = storage;
	wf_edit_set_loose(ck, f, LOOSE_TENSOR);
	return 0;
}

int wf_edit_loosen(struct wf_checkpoint *ck, wf_ino ino, uint64_t keep)
{
	struct wf_tensor t;
	int r = wf_edit_tensor(ck, ino, &t);
	if (r < 0)
		return r;
	if (t.kind == WF_TENSOR_META || t.kind == WF_TENSOR_STORAGE)
		return -EOPNOTSUPP; /* no bytes; or a size that others rely on */
	bool stay = can_stay(ck, &t);
	uint32_t number = stay ? wf_edit_number(ck, t.storage) : wf_overlay_new_number(ck->overlay);
	r = wf_apply_loosen(ck, ino, number, stay);
	if (r < 0)
		return r;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (keep > 0 && !stay) {
		r = wf_storage_resize(ck->storages, f->storage, keep);
		if (r == 0)
			r = copy_in(ck, &t, f->storage, keep);
	}
	if (r < 0) /* a full disk */
		wf_edit_abandon(ck, ino);
	return r;
}

/* The text of a value becomes a buffer that writes change; it is read again when it is settled. */
static int loosen_text(struct wf_checkpoint *ck, struct wf_file *f, wf_ino ino)
{
	if (f->loose == LOOSE_TEXT)
		return 0;
	if (!f->text.data) {
		int r = wf_value_text(ck->graph, wf_tree_node(ck->tree, ino)->object, &f->text);
		if (r < 0)
			return r;
	}
	wf_edit_set_loose(ck, f, LOOSE_TEXT);
	return 0;
}

static int resize_text(struct wf_file *f, uint64_t size)
{
	static const char zeroes[4096];
	if (size > WF_VALUE_MAX_BYTES)
		return -EFBIG;
	while (f->text.len < size && !f->text.failed)
		wf_buffer_append(&f->text, zeroes, WF_MIN(sizeof zeroes, size - f->text.len));
	if (wf_buffer_status(&f->text) < 0)
		return -ENOMEM;
	if (f->text.data)
		f->text.data[size] = '\0';
	f->text.len = size;
	return 0;
}

/* ---- writing ---- */

/* Without a record: a replayed write past the end makes the content longer by itself. */
static int resize_quietly(struct wf_checkpoint *ck, uint32_t storage, uint64_t size)
{
	ck->edits->quiet = true;
	int r = wf_storage_resize(ck->storages, storage, size);
	ck->edits->quiet = false;
	return r;
}

static int write_loose(struct wf_checkpoint *ck, const struct wf_file *f, uint64_t offset, const void *buf, size_t len)
{
	uint64_t before = wf_storage_get(ck->storages, f->storage)->size_bytes;
	int r = offset + len > before ? resize_quietly(ck, f->storage, offset + len) : 0;
	if (r == 0)
		r = wf_storage_write(ck->storages, f->storage, offset, buf, len);
	if (r < 0 && offset + len > before)
		resize_quietly(ck, f->storage, before);
	return r;
}

static int write_file(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, const void *buf, size_t len)
{
	struct wf_tensor t;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = n ? wf_edit_file(ck, ino) : NULL;
	if (!f)
		return n ? -ENOMEM : -ENOENT;
	if (n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		return n->type == WF_NODE_DIR ? -EISDIR : -EPERM;
	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return -EFBIG;
	if (n->type == WF_NODE_VALUE) {
		int r = offset + len > WF_VALUE_MAX_BYTES ? -EFBIG : loosen_text(ck, f, ino);
		if (r == 0 && offset + len > f->text.len)
			r = resize_text(f, offset + len);
		if (r == 0 && len > 0)
			memcpy(f->text.data + offset, buf, len);
		return r;
	}
	ck->edits->writing = ino;
	if (f->loose == LOOSE_NOT) {
		int r = wf_edit_tensor(ck, ino, &t);
		if (r < 0)
			return r;
		if (offset + len <= t.size_bytes)
			return wf_tensor_write(ck->storages, &t, offset, buf, len);
		r = wf_edit_loosen(ck, ino, t.size_bytes);
		if (r < 0)
			return r;
	}
	return write_loose(ck, f, offset, buf, len);
}

ssize_t wf_write(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, const void *buf, size_t len)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = write_file(ck, ino, offset, buf, len);
	if (r == 0)
		wf_edit_stamp(ck, ino, true);
	/* a page of a mapping may be written back after the last handle was released */
	struct wf_file *f = wf_edit_known(ck, ino);
	if (r == 0 && f && f->loose != LOOSE_NOT && f->writers == 0)
		r = wf_edit_settle(ck, ino, true);
	wf_edit_end(ck);
	return r < 0 ? r : (ssize_t)len;
}

static int truncate_file(struct wf_checkpoint *ck, wf_ino ino, uint64_t size)
{
	struct wf_tensor t;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = n ? wf_edit_file(ck, ino) : NULL;
	if (!f)
		return n ? -ENOMEM : -ENOENT;
	if (n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		return n->type == WF_NODE_DIR ? -EISDIR : -EPERM;
	if (size > INT64_MAX)
		return -EFBIG;
	if (n->type == WF_NODE_VALUE) {
		int r = size > WF_VALUE_MAX_BYTES ? -EFBIG : loosen_text(ck, f, ino);
		return r < 0 ? r : resize_text(f, size);
	}
	ck->edits->writing = ino;
	if (f->loose == LOOSE_NOT) {
		int r = wf_edit_tensor(ck, ino, &t);
		if (r < 0 || size == t.size_bytes)
			return r;
		r = wf_edit_loosen(ck, ino, WF_MIN(size, t.size_bytes));
		if (r < 0)
			return r;
	}
	if (wf_storage_get(ck->storages, f->storage)->size_bytes == size)
		return 0;
	return wf_storage_resize(ck->storages, f->storage, size);
}

int wf_truncate(struct wf_checkpoint *ck, uint32_t ino, uint64_t size_bytes)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = truncate_file(ck, ino, size_bytes);
	if (r == 0)
		wf_edit_stamp(ck, ino, true);
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (r == 0 && f && f->loose != LOOSE_NOT && f->writers == 0)
		r = wf_edit_settle(ck, ino, true);
	wf_edit_end(ck);
	return r;
}

static uint64_t size_of(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_stat st;
	return wf_checkpoint_stat(ck, ino, &st) == 0 ? st.size_bytes : 0;
}

/* [offset, end) is within the file. */
static int zero(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, uint64_t end)
{
	static const char zeroes[65536];
	const struct wf_file *f = wf_edit_known(ck, ino);
	struct wf_tensor t;
	int r = 0;
	ck->edits->writing = ino;
	if (f && f->loose == LOOSE_TENSOR)
		return wf_storage_zero(ck->storages, f->storage, offset, end - offset);
	if (wf_tree_node(ck->tree, ino)->type == WF_NODE_TENSOR) {
		r = wf_edit_tensor(ck, ino, &t);
		if (r == 0 && t.contiguous && !t.conj && !t.neg && t.kind != WF_TENSOR_META)
			return wf_storage_zero(ck->storages, t.storage, wf_layout_start(&t) + offset, end - offset);
		if (r == 0 && end - offset > PIECEWISE_MAX)
			r = -EOPNOTSUPP;
	}
	while (r == 0 && offset < end) {
		size_t n = WF_MIN(end - offset, sizeof zeroes);
		r = write_file(ck, ino, offset, zeroes, n);
		offset += n;
	}
	return r;
}

static int allocate(struct wf_checkpoint *ck, wf_ino ino, int mode, uint64_t offset, uint64_t len)
{
	uint64_t end;
	if (wf_add_u64(offset, len, &end) || end > INT64_MAX)
		return -EFBIG;
	uint64_t size = size_of(ck, ino);
	bool keep = mode & FALLOC_FL_KEEP_SIZE;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (!keep && end > size) {
		int r = truncate_file(ck, ino, end);
		if (r < 0)
			return r;
		size = end;
	}
	end = WF_MIN(end, size);
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) || offset >= end)
		return 0;
	return zero(ck, ino, offset, end);
}

int wf_allocate(struct wf_checkpoint *ck, uint32_t ino, int mode, uint64_t offset, uint64_t len)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_tree_node(ck->tree, ino) ? allocate(ck, ino, mode, offset, len) : -ENOENT;
	if (r == 0)
		wf_edit_stamp(ck, ino, true);
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (r == 0 && f && f->loose != LOOSE_NOT && f->writers == 0)
		r = wf_edit_settle(ck, ino, true);
	wf_edit_end(ck);
	return r;
}

/* ---- open files ---- */

static int note_open(struct wf_checkpoint *ck, wf_ino ino, bool for_writing)
{
	int r = 0;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = n ? wf_edit_file(ck, ino) : NULL;
	if (!f)
		r = n ? -ENOMEM : -ENOENT;
	else if (for_writing && n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		r = n->type == WF_NODE_DIR ? -EISDIR : -EPERM;
	if (r == 0) {
		f->openers++;
		f->writers += for_writing;
	}
	return r;
}

int wf_open_file(struct wf_checkpoint *ck, uint32_t ino, bool for_writing)
{
	int r = 0;
	if (for_writing && !ck->writable)
		return -EROFS;
	if (!ck->overlay)
		return 0;
	pthread_rwlock_rdlock(&ck->lock);
	bool room = ino <= ck->edits->files_count; /* else the table grows, under the eyes of its readers */
	if (room) {
		pthread_mutex_lock(&ck->open_lock);
		r = note_open(ck, ino, for_writing);
		pthread_mutex_unlock(&ck->open_lock);
	}
	pthread_rwlock_unlock(&ck->lock);
	if (room)
		return r;
	pthread_rwlock_wrlock(&ck->lock);
	r = note_open(ck, ino, for_writing);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

static bool waits_for_meaning(struct wf_checkpoint *ck, wf_ino ino)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_file *f = wf_edit_known(ck, ino);
	bool waits = f && f->loose != LOOSE_NOT;
	pthread_rwlock_unlock(&ck->lock);
	return waits;
}

int wf_flush(struct wf_checkpoint *ck, uint32_t ino)
{
	if (!ck->overlay || !waits_for_meaning(ck, ino))
		return 0;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_edit_settle(ck, ino, false);
	wf_edit_end(ck);
	return r;
}

/* What was kept for a writer that went on after a flush. */
static void end_of_writing(struct wf_file *f)
{
	if (f->writers > 0)
		return;
	if (f->loose != LOOSE_TEXT)
		wf_buffer_free(&f->text);
	if (!f->wanted) {
		free(f->form);
		f->form = NULL;
	}
}

/* The end of reading changes nothing but a count, unless the file has no name any more. */
static bool release_reader(struct wf_checkpoint *ck, wf_ino ino)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_file *f = n && n->nlink > 0 ? wf_edit_known(ck, ino) : NULL;
	if (f) {
		pthread_mutex_lock(&ck->open_lock);
		f->openers -= f->openers > 0;
		pthread_mutex_unlock(&ck->open_lock);
	}
	pthread_rwlock_unlock(&ck->lock);
	return f != NULL;
}

void wf_release(struct wf_checkpoint *ck, uint32_t ino, bool for_writing)
{
	if (!ck->overlay || (!for_writing && release_reader(ck, ino)))
		return;
	bool edits = for_writing && waits_for_meaning(ck, ino) && wf_edit_begin(ck) == 0;
	if (!edits)
		pthread_rwlock_wrlock(&ck->lock);
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f) {
		f->openers -= f->openers > 0;
		f->writers -= for_writing && f->writers > 0;
		if (edits && f->writers == 0 && f->loose != LOOSE_NOT && wf_edit_settle(ck, ino, true) < 0)
			wf_checkpoint_log(ck, "a value was written that does not parse: the old one stays");
		end_of_writing(f);
		wf_edit_forget(ck, ino);
	}
	if (edits)
		wf_edit_end(ck);
	else
		pthread_rwlock_unlock(&ck->lock);
}
