/* SPDX-License-Identifier: MIT */
/* Judging: content becomes what it is to be, or is refused and the old state stands. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/edit/part_inner.h"
#include "codec/edit/wanted_inner.h"
#include "codec/tensor/layout.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

#define CHUNK (1u << 20)
/* Longer content is no number and no line that somebody typed into a tensor. */
#define LINE_MAX_BYTES 4096u

static int read_all(struct wf_checkpoint *ck, wf_ino ino, uint64_t size, char **ret)
{
	char *buf = malloc(size + 1);
	int r = buf ? wf_edit_read(ck, ino, 0, buf, size) : -ENOMEM;
	if (r < 0) {
		free(buf);
		return r;
	}
	buf[size] = '\0';
	*ret = buf;
	return 0;
}

static uint8_t place_of(const struct wf_wanted *w)
{
	return w->place ? SET_PLACE : 0;
}

/* ---- values ---- */

static int refuse_text(struct wf_checkpoint *ck, wf_ref like)
{
	char klass[256];
	wf_class_name(ck->graph, like, klass, sizeof klass);
	return wf_refuse(ck, -EINVAL, "this text is no %s", klass);
}

static int judge_value(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	uint64_t size = wf_edit_size(ck, ino);
	char *own = NULL;
	wf_ref object;
	if (w->like == WF_NIL)
		return wf_refuse(ck, -EINVAL, "no content becomes a %s", wf_declared(f, DECLARED_CLASS));
	if (size > WF_VALUE_MAX_BYTES)
		return -EFBIG;
	int r = f->pending == PENDING_TEXT ? 0 : read_all(ck, ino, size, &own);
	cleanup_free char *text = own;
	const char *shown = own ? own : f->text.data ? f->text.data : "";
	if (w->shown && own && wf_value_form_of(ck->graph, wf_tree_node(ck->tree, ino)->object) != WF_VALUE_RAW)
		size -= size > 0 && own[size - 1] == '\n';
	if (r == 0)
		r = wf_value_parse(ck->graph, w->like, shown, wf_edit_metadata_size(ck, ino, w->like, shown, size),
				   &object);
	if (r == 0 && w->declared) {
		char klass[256]; /* that was declared, and an int stays one */
		wf_class_name(ck->graph, w->like, klass, sizeof klass);
		r = wf_class_is(ck->graph, object, klass) ? 0 : -EINVAL;
	}
	if (r == -EINVAL)
		refuse_text(ck, w->like);
	return r < 0 ? r : wf_edit_become(ck, ino, object, place_of(w));
}

/* ---- tensors ---- */

/* The storage that holds the content and nothing else, ready to become a tensor's. */
static int storage_of_content(struct wf_checkpoint *ck, wf_ino ino, uint32_t *ret)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_known(ck, ino);
	/* an empty text into which nothing was written: what attributes make of it has no bytes either */
	bool text = f->pending == PENDING_NOT && wf_tree_node(ck->tree, ino)->type == WF_NODE_VALUE;
	int r = text ? wf_edit_hold(ck, ino, UINT64_MAX) : 0;
	if (r == 0)
		r = wf_edit_hold_bytes(ck, ino);
	if (r < 0)
		return r;
	if (f->pending == PENDING_BYTES) {
		*ret = f->storage;
		return 0;
	}
	r = wf_edit_tensor(ck, ino, &t);
	if (r < 0)
		return -EINVAL;
	const struct wf_storage *s = wf_storage_get(ck->storages, t.storage);
	if (!f->is_new || !wf_edit_sole_view(ck, &t) || t.offset_elems || !t.contiguous || s->base_bytes ||
	    s->size_bytes != t.size_bytes) {
		r = wf_edit_hold(ck, ino, t.size_bytes);
		*ret = f->storage;
		return r;
	}
	*ret = t.storage;
	return 0;
}

static int make_over(struct wf_checkpoint *ck, const struct wf_wanted *w, const struct wf_tensor_type *type,
		     uint32_t storage, wf_ref *ret)
{
	struct wf_tensor t = {.kind = WF_TENSOR_DENSE,
			      .parameter = w->parameter,
			      .requires_grad = w->requires_grad,
			      .quantizer = wf_dtype_info(type->dtype)->quantised ? w->quantizer : WF_NIL};
	if (wf_dtype_info(type->dtype)->quantised && w->quantizer == WF_NIL)
		return -EINVAL;
	wf_tensor_set_type(&t, type, storage);
	int r = wf_storage_set_form(ck->storages, storage, type->dtype, w->location ? w->location : "cpu");
	if (r == 0 && w->bare) {
		*ret = wf_storage_get(ck->storages, storage)->persid;
		return 0;
	}
	return r < 0 ? r : wf_edit_make_object(ck, &t, ret);
}

static int become_array_of(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w,
			   const struct wf_tensor_type *type, const void *content, uint64_t size)
{
	wf_ref array;
	int r = wf_edit_make_array(ck, type, w->record, content, size, &array);
	return r < 0 ? r : wf_edit_become(ck, ino, array, place_of(w));
}

static int become_array(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w,
			const struct wf_tensor_type *type)
{
	uint64_t size = wf_edit_size(ck, ino);
	char *own = NULL;
	if (size > WF_GRAPH_MAX_BYTES / 4)
		return -EFBIG;
	int r = read_all(ck, ino, size, &own);
	cleanup_free char *content = own;
	return r < 0 ? r : become_array_of(ck, ino, w, type, content, size);
}

static int write_back(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t, uint32_t content)
{
	cleanup_free char *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;
	ck->edits->writing = ck->edits->overwriting = ino;
	for (uint64_t at = 0; r == 0 && at < t->size_bytes; at += CHUNK) {
		size_t n = WF_MIN(t->size_bytes - at, (uint64_t)CHUNK);
		r = wf_storage_read(ck->storages, content, at, buf, n);
		if (r == 0)
			r = wf_tensor_write(ck->storages, t, at, buf, n);
	}
	ck->edits->overwriting = WF_NO_INO;
	return r;
}

/* Content for a tensor that stays the one that it is, but for its rows. */
static int fill(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w, const struct wf_tensor_type *type)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (f->pending == PENDING_NOT)
		return 0; /* what was written inside is there */
	int r = wf_edit_tensor(ck, ino, &t);
	if (r < 0 && t.rebuild == WF_NIL)
		return r;
	bool in_place = t.storage == f->storage;
	bool same = r == 0 && !in_place && wf_tensor_has_type(type, &t);
	bool array = t.kind == WF_TENSOR_NUMPY;
	bool alone = in_place || (wf_edit_sole_view(ck, &t) && t.contiguous);
	bool kept = wf_edit_is_kept(ck, ino);
	if (same && (!alone || kept) && (array || !wf_layout_overlaps(&t))) {
		/* other views see it, or the pickle has no place for another storage; the old bytes are gone then */
		r = wf_edit_part(ck, ino);
		if (r <= 0)
			return r < 0 ? r : write_back(ck, ino, &t, f->storage);
	}
	return array ? become_array(ck, ino, w, type) : wf_edit_settle_as(ck, ino, SETTLE_SWITCH, type);
}

/* The number that a text stands for, as the only element of a tensor. */
static int become_element(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w, const void *bytes)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_tensor *old = wf_edit_old_tensor(f);
	size_t size = wf_dtype_info(w->type.dtype)->size_bytes;
	unsigned char before[16];
	uint32_t storage;
	wf_ref object = WF_NIL;
	bool in_place = !f->is_new && !f->stand_in && !w->declared && old &&
			wf_tree_node(ck->tree, ino)->object == wf_edit_old_object(ck, ino);
	int apart = in_place ? wf_edit_part(ck, ino) : 0;
	if (apart < 0)
		return apart;
	if (in_place && apart == 0) {
		struct wf_tensor t = *old;
		int r = wf_tensor_read(ck->storages, &t, 0, before, size);
		ck->edits->writing = ino;
		if (r == 0)
			wf_edit_keep_element(f, before, size);
		return r < 0 ? r : wf_tensor_write(ck->storages, &t, 0, bytes, size);
	}
	if (w->array)
		return become_array_of(ck, ino, w, &w->type, bytes, size);
	int r = wf_edit_new_storage(ck, size, w->location ? w->location : "cpu", wf_overlay_new_number(ck->overlay),
				    &storage);
	if (r == 0)
		r = make_over(ck, w, &w->type, storage, &object);
	/* the record makes the storage that what is written then goes to */
	if (r == 0)
		r = wf_edit_become(ck, ino, object, place_of(w));
	ck->edits->writing = ino;
	return r < 0 ? r : wf_storage_write(ck->storages, storage, 0, bytes, size);
}

enum text_kind { NO_TEXT, A_NUMBER, ONE_LINE };

/* What a short content that began empty says as text, to a tensor of elements that are no letters. */
static enum text_kind text_for(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w, uint64_t size,
			       unsigned char ret[16])
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	char text[LINE_MAX_BYTES];
	size_t element = wf_dtype_info(w->type.dtype)->size_bytes;
	if (size == 0 || size > sizeof text || (!f->anew && !f->is_new) || wf_edit_read(ck, ino, 0, text, size) < 0)
		return NO_TEXT;
	bool line = wf_text_is_line(text, size);
	/* one letter is the byte of an element that is a byte, but a bool has no such bytes */
	bool text_alone = element > 1 || size > element || w->type.dtype == WF_BOOL8;
	if (w->type.ndim == 0 && (line || text_alone) && (line || wf_text_is_utf8(text, size, false)) &&
	    wf_number_encode(w->type.dtype, text, size, ret))
		return A_NUMBER;
	return line && element > 1 ? ONE_LINE : NO_TEXT;
}

static bool fit(const struct wf_wanted *w, uint64_t size, struct wf_tensor_type *ret)
{
	const struct wf_dtype_info *info = wf_dtype_info(w->type.dtype);
	*ret = w->type;
	if (w->free_dim >= 0) {
		uint64_t numel = size / info->size_bytes * info->values_per_byte;
		return size % info->size_bytes == 0 && wf_shape_fit(ret->shape, ret->ndim, w->free_dim, numel) == 0;
	}
	return wf_tensor_type_fits(ret, size) || (!w->exact && wf_tensor_type_rows(ret, size));
}

static int judge_tensor(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w)
{
	struct wf_tensor_type type;
	unsigned char element[16] = {0};
	uint64_t size = wf_edit_size(ck, ino);
	uint32_t storage;
	wf_ref object = WF_NIL;
	bool fits = fit(w, size, &type);
	/* bytes that attributes describe are those bytes */
	enum text_kind text = w->declared && fits ? NO_TEXT : text_for(ck, ino, w, size, element);
	if (text == A_NUMBER && !w->bare)
		return become_element(ck, ino, w, element);
	if (text == ONE_LINE || !fits)
		return wf_refuse(ck, -EINVAL,
				 text == ONE_LINE ? "a line of text is no content of this tensor"
						  : "%llu bytes are no whole rows of this tensor",
				 (unsigned long long)size);
	if ((type.ndim != w->type.ndim || memcmp(type.shape, w->type.shape, type.ndim * sizeof *type.shape)) &&
	    wf_edit_is_component(ck, ino))
		return wf_refuse(ck, -EINVAL, "it is a part of a tensor, and keeps its size");
	const struct wf_file *f = wf_edit_known(ck, ino);
	if (!f->is_new && !f->stand_in && !w->declared && w->like == wf_tree_node(ck->tree, ino)->object)
		return fill(ck, ino, w, &type);
	if (w->array)
		return become_array(ck, ino, w, &type);
	int r = storage_of_content(ck, ino, &storage);
	if (r == 0)
		r = make_over(ck, w, &type, storage, &object);
	return r < 0 ? r : wf_edit_become(ck, ino, object, place_of(w));
}

/* ---- new content ---- */

static int become_bytes(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w)
{
	struct wf_wanted plain = {.kind = WANT_TENSOR, .location = w->location, .place = w->place};
	uint64_t size = wf_edit_size(ck, ino);
	uint32_t storage;
	wf_ref object;
	plain.type = (struct wf_tensor_type){.dtype = WF_UINT8, .ndim = 1, .shape = {(int64_t)size}};
	struct wf_file *f = wf_edit_known(ck, ino);
	struct wf_tensor t;
	int r = storage_of_content(ck, ino, &storage);
	if (r < 0)
		return r;
	/* most are that already */
	if (!w->place && f->pending == PENDING_BYTES && wf_edit_tensor(ck, ino, &t) == 0 && t.storage == f->storage &&
	    !t.parameter && t.dtype == WF_UINT8) {
		f->judged = true;
		return wf_edit_settle_as(ck, ino, SETTLE_SWITCH, &plain.type);
	}
	r = make_over(ck, &plain, &plain.type, storage, &object);
	return r < 0 ? r : wf_edit_become(ck, ino, object, place_of(&plain));
}

/* New metadata are texts, whatever they look like. */
static int judge_metadata(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w)
{
	uint64_t size = wf_edit_size(ck, ino);
	char *own = NULL;
	if (size > WF_VALUE_MAX_BYTES)
		return -EFBIG;
	int r = read_all(ck, ino, size, &own);
	cleanup_free char *text = own;
	if (r == 0 && !wf_text_is_utf8(text, size, false))
		r = wf_refuse(ck, -EINVAL, "the metadata of a safetensors file are texts alone, in UTF-8");
	if (r < 0)
		return r;
	wf_ref object = wf_string(ck->graph, WF_STR, text, wf_edit_metadata_size(ck, ino, WF_NIL, text, size));
	return object == WF_NIL ? -ENOMEM : wf_edit_become(ck, ino, object, place_of(w));
}

static int judge_new(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w)
{
	uint64_t size = wf_edit_size(ck, ino);
	char last, *own = NULL;
	wf_ref object;
	struct wf_place at;
	if (wf_edit_place_of(ck, ino, &at) == 0 && wf_edit_in_metadata(ck, at.dir))
		return judge_metadata(ck, ino, w);
	bool line = size > 0 && size <= WF_VALUE_MAX_BYTES && wf_edit_read(ck, ino, size - 1, &last, 1) == 0 &&
		    last == '\n';
	int r = line ? read_all(ck, ino, size, &own) : -EINVAL;
	cleanup_free char *text = own;
	if (r == 0)
		r = wf_value_new(ck->graph, text, size, &object);
	if (r != -EINVAL && (r < 0 || !wf_edit_is_flat(ck) || !wf_edit_takes_line(ck, ino)))
		return r < 0 ? r : wf_edit_become(ck, ino, object, place_of(w));
	struct wf_file *f = wf_edit_known(ck, ino);
	if (!f->is_new && !f->anew)
		return -EINVAL; /* None with something behind it */
	return become_bytes(ck, ino, w);
}

/* ---- the whole ---- */

static int judge_as(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w)
{
	struct wf_file *f = wf_edit_known(ck, ino);
	bool empty = wf_edit_size(ck, ino) == 0;
	f->touched = false;
	int r = wf_edit_keep_old(ck, ino);
	if (r < 0)
		return r;
	r = w->kind == WANT_VALUE    ? judge_value(ck, ino, w)
	    : w->kind == WANT_TENSOR ? judge_tensor(ck, ino, w)
				     : judge_new(ck, ino, w);
	if (r == 0) {
		f->judged = true;
		f->stand_in = f->refused = false;
		f->declared_fits |= w->declared && f->declared;
		return 0;
	}
	bool refused = wf_edit_is_refusal(r);
	struct wf_wanted plain = {.kind = WANT_NEW, .free_dim = -1, .location = w->location};
	if (refused && f->is_new && w->kind != WANT_NEW && !(w->insists && !w->declared)) {
		/* attributes that do not fit yet wait, and whoever closes the file hears of it */
		int made = judge_new(ck, ino, &plain);
		f->judged |= made == 0;
		return made < 0 ? made : w->declared && !empty ? -EINVAL : 0;
	}
	int back = wf_edit_restore(ck, ino);
	f->refused = true;
	return back < 0 ? back : refused && empty ? 0 : r == -EROFS ? -EINVAL : r;
}

int wf_edit_judge_as(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w)
{
	int r = judge_as(ck, ino, w), told = wf_edit_tell_known(ck, ino);
	return r < 0 ? r : told;
}

int wf_edit_judge(struct wf_checkpoint *ck, wf_ino ino)
{
	struct wf_wanted w;
	int r = wf_edit_wanted(ck, ino, NULL, NULL, &w);
	return r < 0 ? r : wf_edit_judge_as(ck, ino, &w);
}

bool wf_edit_is_judged(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_tensor t;
	if (w->kind == WANT_VALUE)
		return n->type == WF_NODE_VALUE;
	return n->type == WF_NODE_TENSOR && wf_edit_tensor(ck, ino, &t) == 0 && t.dtype == w->type.dtype &&
	       t.ndim == w->type.ndim;
}

bool wf_edit_fits_declared(struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	const struct wf_file *f = wf_edit_known(ck, ino);
	struct wf_wanted w;
	struct wf_tensor_type type;
	struct wf_tensor t;
	if (!f->declared || wf_edit_wanted(ck, ino, NULL, NULL, &w) < 0 || w.kind == WANT_NEW)
		return false;
	w.exact = false; /* rows may have come or gone since they came true */
	if (w.kind == WANT_VALUE)
		return wf_declared(f, DECLARED_CLASS) &&
		       wf_class_is(ck->graph, n->object, wf_declared(f, DECLARED_CLASS));
	return wf_edit_tensor(ck, ino, &t) == 0 && fit(&w, t.size_bytes, &type) && wf_tensor_has_type(&type, &t);
}

/* ---- while it is written ---- */

bool wf_edit_line_fits(struct wf_checkpoint *ck, wf_ino ino, const char *text, size_t len, bool shell)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	unsigned char element[16];
	struct wf_wanted w;
	wf_ref object;
	if (wf_edit_wanted(ck, ino, NULL, NULL, &w) < 0 || !w.insists)
		return true;
	if (w.kind == WANT_TENSOR)
		return !shell || wf_dtype_info(w.type.dtype)->size_bytes == 1 ||
		       (w.type.ndim == 0 && wf_number_encode(w.type.dtype, text, len, element));
	if (w.kind != WANT_VALUE || wf_value_parse(ck->graph, w.like, text, len, &object) != -EINVAL)
		return true;
	/* a tool that copies another kind of value here says so only after the content, and what was declared and came true
	 * was of the content before */
	bool fits = !shell && !(f && f->declared && !f->declared_fits) &&
		    (wf_value_parse_json(ck->graph, text, len, &object) == 0 ||
		     wf_number_encode(WF_COMPLEX128, text, len, element));
	if (!fits)
		refuse_text(ck, w.like);
	return fits;
}
