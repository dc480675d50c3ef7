/* SPDX-License-Identifier: MIT */
/* One line of .weightfs/tensors.json: a tensor, and where its bytes can be had. */
#include "codec/lines.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/checkpoint.h"
#include "codec/tensor/layout.h"
#include "codec/value/text.h"
#include "devices/device.h"

#define MAX_RUNS 256u /* told of a tensor; one in more pieces is read through the mount */

static void put_string(struct wf_buffer *out, const char *name, const char *value)
{
	wf_buffer_puts(out, name);
	wf_json_string(out, value, strlen(value));
}

static void put_number(struct wf_buffer *out, const char *name, uint64_t value)
{
	wf_buffer_puts(out, name);
	wf_buffer_put_int(out, (int64_t)value);
}

static void put_handle(struct wf_buffer *out, const struct dev_share *share)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < sizeof share->handle; i++) {
		wf_buffer_putc(out, digits[share->handle[i] >> 4]);
		wf_buffer_putc(out, digits[share->handle[i] & 15]);
	}
}

void wf_share_json(const struct wf_shared *shared, struct wf_buffer *out)
{
	wf_buffer_puts(out, "\"uuid\": \"");
	wf_buffer_puts(out, shared->uuid);
	wf_buffer_puts(out, "\", \"handle\": \"");
	put_handle(out, shared->share);
	wf_buffer_putc(out, '"');
	if (shared->share->socket[0]) {
		wf_buffer_puts(out, ", \"socket\": ");
		wf_json_string(out, shared->share->socket, strlen(shared->share->socket));
	}
}

static void put_flag(struct wf_buffer *out, const char *name, bool value)
{
	if (!value)
		return;
	wf_buffer_puts(out, name);
	wf_buffer_puts(out, "true");
}

void wf_line_begin(const struct wf_line *l, const char *path, struct wf_buffer *out)
{
	put_string(out, "\"path\": ", path);
	if (!l->dir)
		return;
	wf_buffer_puts(out, ", \"key\": ");
	wf_ref key = l->dir->entries[l->position].key;
	if (l->dir->kind == WF_DIR_SEQUENCE) {
		wf_buffer_put_int(out, l->position);
		return;
	}
	wf_json_key(l->ck->graph, key, out);
	if (!wf_json_key_is_whole(l->ck->graph, key)) {
		char class[256];
		wf_class_name(l->ck->graph, key, class, sizeof class);
		put_string(out, ", \"key_class\": ", class);
	}
}

int wf_line_attribute(const struct wf_line *l, const char *attribute, const char *member, bool quoted,
		      struct wf_buffer *out)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	int r = wf_attribute_text(l->ck, l->ino, attribute, &text);
	if (r == 0) {
		wf_buffer_puts(out, member);
		if (quoted)
			wf_json_string(out, text.data ? text.data : "", text.len);
		else
			wf_buffer_append(out, text.data, text.len);
	}
	wf_buffer_free(&text);
	return r == -ENODATA ? 0 : r;
}

/* What dtype and class alone do not tell: the descr of an array, and how a quantised tensor stands for its values. */
static void put_form(struct wf_buffer *out, const struct wf_line *l)
{
	const struct wf_tensor *t = l->tensor;
	if (t->kind == WF_TENSOR_NUMPY && wf_tree_node(l->ck->tree, l->ino)->nlink > 1)
		put_number(out, ", \"ino\": ", l->ino);
	if (t->kind == WF_TENSOR_NUMPY)
		wf_line_attribute(l, "user.numpy.descr", ", \"descr\": ", true, out);
	if (t->quantizer != WF_NIL) {
		wf_line_attribute(l, "user.torch.scale", ", \"scale\": ", false, out);
		wf_line_attribute(l, "user.torch.zero_point", ", \"zero_point\": ", false, out);
	}
}

static void put_file_id(struct wf_buffer *out, const struct wf_fingerprint *print)
{
	wf_buffer_printf(out, "[%llu, %llu, %llu, %lld]", (unsigned long long)print->dev,
			 (unsigned long long)print->ino, (unsigned long long)print->size_bytes,
			 (long long)print->mtime_sec * 1000000000 + print->mtime_nsec);
}

int wf_line_file_init(struct wf_line_file *f, struct wf_checkpoint *ck)
{
	struct wf_fingerprint print;
	*f = (struct wf_line_file){0};
	put_string(&f->name, ", \"file\": ", ck->path);
	wf_source_fingerprint(wf_container_file(ck->container), &print);
	wf_buffer_puts(&f->id, ", \"file_id\": ");
	put_file_id(&f->id, &print);
	f->devices = wf_placement_has_devices(ck->placement);
	return wf_edits_in_writing(ck, &f->in_writing);
}

void wf_line_file_free(struct wf_line_file *f)
{
	wf_buffer_free(&f->name);
	free(f->in_writing);
	wf_buffer_free(&f->id);
	wf_buffer_free(&f->cuda);
}

const char *wf_line_file_path(const struct wf_line *l, const struct wf_file_run *run)
{
	bool several = wf_container_is_directory(l->ck->container);
	return several && run->file ? wf_source_path(run->file) : l->ck->path;
}

/* at: where in the file; NULL: not told. */
static void put_place(struct wf_buffer *out, const struct wf_line *l, const struct wf_file_run *run, const uint64_t *at)
{
	bool several = wf_container_is_directory(l->ck->container);
	struct wf_fingerprint print;
	if (several)
		put_string(out, ", \"file\": ", wf_source_path(run->file));
	else
		wf_buffer_append(out, l->file->name.data, l->file->name.len);
	if (at)
		put_number(out, ", \"file_offset\": ", *at);
	if (several) {
		wf_source_fingerprint(run->file, &print);
		wf_buffer_puts(out, ", \"file_id\": ");
		put_file_id(out, &print);
	} else {
		wf_buffer_append(out, l->file->id.data, l->file->id.len);
	}
}

/* [file, offset, bytes]. What was written has no name but that of its descriptor. */
static bool put_run(struct wf_buffer *out, const struct wf_line *l, const struct wf_file_run *run, bool written)
{
	char link[40], path[PATH_MAX];
	snprintf(link, sizeof link, "/proc/self/fd/%d", run->fd);
	ssize_t n = written ? readlink(link, path, sizeof path) : 0;
	struct stat st;
	if (written && (n <= 0 || n == (ssize_t)sizeof path || fstat(run->fd, &st) < 0 || st.st_nlink == 0))
		return false;
	const char *file = wf_line_file_path(l, run);
	wf_buffer_puts(out, "[");
	wf_json_string(out, written ? path : file, written ? (size_t)n : strlen(file));
	wf_buffer_printf(out, ", %llu, %llu]", (unsigned long long)run->offset, (unsigned long long)run->len);
	return true;
}

/* More than are told, as far as the first one tells. */
static bool is_in_shreds(const struct wf_line *l, const struct wf_file_run *first)
{
	return first->len > 0 && l->tensor->size_bytes / first->len / 4 > MAX_RUNS;
}

/* A tensor in pieces: parts were written since, and stand in the edits beside the checkpoint, or it is put together of several files. */
static void put_runs(struct wf_buffer *out, const struct wf_line *l)
{
	struct wf_file_run run;
	bool written, told = true;
	size_t before = out->len, n = 0;
	wf_buffer_puts(out, ", \"runs\": [");
	uint64_t at = 0;
	for (; told && n < MAX_RUNS && wf_tensor_find_run(l->ck->storages, l->tensor, at, &run, &written); n++) {
		if (n > 0)
			wf_buffer_puts(out, ", ");
		told = !(n == 0 && is_in_shreds(l, &run)) && put_run(out, l, &run, written);
		at += told ? run.len : 0;
		wf_file_run_end(&run);
	}
	if (n == 0 || at < l->tensor->size_bytes) { /* not all of it can be told */
		out->len = before;
		return;
	}
	wf_buffer_putc(out, ']');
	wf_buffer_append(out, l->file->id.data, l->file->id.len);
}

/* What may be written at this moment. */
static bool is_in_writing(const struct wf_line *l)
{
	return (l->ck->edits && wf_edits_is_pending(l->ck, l->ino)) ||
	       (l->file->in_writing && l->tensor->storage != WF_NO_STORAGE && l->file->in_writing[l->tensor->storage]);
}

/* Where the elements stand one after the other in the checkpoint's file; not told of what may be written. */
static void put_file(struct wf_buffer *out, const struct wf_line *l)
{
	struct wf_file_run run;
	if (is_in_writing(l))
		return;
	if (!wf_tensor_locate(l->ck->storages, l->tensor, &run)) {
		put_runs(out, l);
		return;
	}
	put_place(out, l, &run, &run.offset);
	wf_file_run_end(&run);
}

/* How to map the storage from the device that it is leased on. Most of it is the same for all of a slab. */
static void put_cuda(struct wf_buffer *out, const struct wf_line *l)
{
	struct wf_line_file *f = l->file;
	struct wf_shared shared;
	if (!l->ck->placement || l->tensor->storage == WF_NO_STORAGE ||
	    !wf_placement_leased(l->ck->placement, l->tensor->storage, &shared) ||
	    (l->ck->edits && wf_edits_is_pending(l->ck, l->ino)))
		return;
	if (f->share != shared.share) {
		f->cuda.len = 0;
		wf_share_json(&shared, &f->cuda);
		f->share = shared.share;
	}
	wf_buffer_puts(out, ", \"cuda\": {");
	wf_buffer_append(out, f->cuda.data, f->cuda.len);
	put_number(out, ", \"offset\": ", shared.start + wf_layout_start(l->tensor));
	wf_buffer_putc(out, '}');
}

static void put_stride(struct wf_buffer *out, const struct wf_tensor *t)
{
	int64_t stride[WF_MAX_NDIM];
	wf_buffer_puts(out, ", \"stride\": ");
	wf_tensor_shown_stride(t, stride);
	wf_json_ints(out, stride, wf_tensor_shown_ndim(t));
}

static void put_view(struct wf_buffer *out, const struct wf_line *l, const struct wf_tensor_row *row)
{
	const struct wf_tensor *t = l->tensor;
	put_number(out, ", \"storage_offset\": ", t->offset_elems);
	if (t->storage != WF_NO_STORAGE)
		put_number(out, ", \"storage_bytes\": ", wf_storage_get(l->ck->storages, t->storage)->size_bytes);
	put_number(out, ", \"bytes\": ", row->size_bytes);
	put_string(out, ", \"location\": ", row->location);
	put_flag(out, ", \"requires_grad\": ", t->requires_grad);
	put_flag(out, ", \"conj\": ", t->conj);
	put_flag(out, ", \"neg\": ", t->neg);
}

static void put_tensor(struct wf_buffer *out, const struct wf_line *l, const struct wf_tensor_row *row)
{
	const struct wf_tensor *t = l->tensor;
	const char *device = wf_placement_device(l->ck->placement, t->storage);
	put_stride(out, t);
	if (row->storage[0])
		put_string(out, ", \"storage\": ", row->storage);
	put_view(out, l, row);
	put_form(out, l);
	if (t->kind == WF_TENSOR_META)
		return;
	put_string(out, ", \"device\": ", device ? device : "file");
	put_cuda(out, l);
	put_file(out, l);
}

static void put_kind(struct wf_buffer *out, const struct wf_tensor_row *row)
{
	put_string(out, "\"class\": ", row->klass);
	put_string(out, ", \"dtype\": ", row->dtype);
	wf_buffer_puts(out, ", \"shape\": ");
	wf_buffer_puts(out, row->shape);
}

bool wf_row_in_file(const struct wf_tensor_row *row, struct wf_file_run *ret)
{
	const struct wf_line *l = row->line;
	const struct wf_tensor *t = l->tensor;
	return !row->error && t->kind == WF_TENSOR_DENSE && t->quantizer == WF_NIL && row->storage[0] && !t->conj &&
	       !t->neg && row->size_bytes > 0 && !l->file->devices && !is_in_writing(l) &&
	       wf_tensor_locate(l->ck->storages, t, ret);
}

void wf_row_form_json(const struct wf_tensor_row *row, const struct wf_file_run *run, struct wf_buffer *out)
{
	const struct wf_line *l = row->line;
	wf_buffer_putc(out, '{');
	put_kind(out, row);
	put_stride(out, l->tensor);
	put_view(out, l, row);
	wf_buffer_puts(out, ", \"device\": \"file\"");
	put_place(out, l, run, NULL);
	wf_buffer_putc(out, '}');
}

int wf_row_json(const struct wf_tensor_row *row, struct wf_buffer *ret)
{
	const struct wf_line *l = row->line;
	wf_buffer_putc(ret, '{');
	wf_line_begin(l, row->path, ret);
	wf_buffer_puts(ret, ", ");
	put_kind(ret, row);
	if (row->error)
		put_string(ret, ", \"error\": ", row->error_text);
	else
		put_tensor(ret, l, row);
	wf_buffer_puts(ret, "}\n");
	return wf_buffer_status(ret);
}
