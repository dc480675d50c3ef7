/* SPDX-License-Identifier: MIT */
/* wfctl cat: a value as text, a tensor as NumPy prints it, its bytes, or a .npy. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/wfctl/array_text.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/keys.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/session.h"

#define CHUNK_BYTES (1u << 20)

enum cat_form { FORM_TEXT, FORM_RAW, FORM_NPY };

struct tensor_reading {
	struct wfctl_store *s;
	struct wfctl_file *file;
	size_t element;
};

static int read_exactly(struct wfctl_store *s, struct wfctl_file *file, uint64_t offset, void *buf, size_t len)
{
	ssize_t n = len ? s->calls->read(file, offset, buf, len) : 0;
	return n < 0 ? (int)n : (size_t)n < len ? -EIO : 0;
}

static int read_elements(void *ctx, int64_t first, int64_t count, void *ret)
{
	struct tensor_reading *r = ctx;
	return read_exactly(r->s, r->file, (uint64_t)first * r->element, ret, (size_t)count * r->element);
}

/* ---- bytes ---- */

static int put_bytes(struct wfctl_store *s, struct wfctl_file *file, uint64_t offset, uint64_t bytes)
{
	char *chunk = malloc(CHUNK_BYTES);
	int r = chunk ? 0 : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < bytes && !ferror(stdout); at += CHUNK_BYTES) {
		size_t n = bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES;
		r = read_exactly(s, file, offset + at, chunk, n);
		if (r == 0)
			fwrite(chunk, 1, n, stdout);
	}
	free(chunk);
	return r;
}

/* In row-major order, a run at a time. */
static int put_elements(struct tensor_reading *r, const struct wfctl_view *v)
{
	int64_t index[WFCTL_DIMENSIONS_MAX] = {0}, total = wfctl_view_elements(v);
	if (total == 0)
		return 0;
	if (wfctl_view_is_contiguous(v))
		return put_bytes(r->s, r->file, (uint64_t)v->start * r->element, (uint64_t)total * r->element);
	uint32_t last = v->ndim - 1;
	int64_t run = v->stride[last] == 1 ? v->size[last] : 1;
	int failed = 0;
	for (int64_t done = 0; failed == 0 && done < total && !ferror(stdout); done += run) {
		int64_t first = v->start;
		for (uint32_t d = 0; d < v->ndim; d++)
			first += index[d] * v->stride[d];
		failed = put_bytes(r->s, r->file, (uint64_t)first * r->element, (uint64_t)run * r->element);
		index[last] += run - 1;
		for (uint32_t d = v->ndim; d-- > 0 && ++index[d] == v->size[d];)
			index[d] = 0;
	}
	return failed;
}

/* What np.save writes before the elements. */
static void put_npy_header(const struct wfctl_dtype *dtype, const struct wfctl_view *v)
{
	struct wf_buffer header = WF_BUFFER_INIT;
	const char *quote = dtype->kind == WFCTL_RECORD ? "" : "'";
	wf_buffer_printf(&header, "{'descr': %s%s%s, 'fortran_order': False, 'shape': (", quote, dtype->descr, quote);
	for (uint32_t d = 0; d < v->ndim; d++)
		wf_buffer_printf(&header, "%lld%s", (long long)v->size[d],
				 d + 1 < v->ndim ? ", "
				 : v->ndim == 1  ? ","
						 : "");
	wf_buffer_puts(&header, "), }");
	/* room for a first dimension that grows, then the elements at a multiple of 64 */
	if (v->ndim > 0) {
		char first[24];
		int digits = snprintf(first, sizeof first, "%lld", (long long)v->size[0]);
		wf_buffer_printf(&header, "%*s", 21 - digits, "");
	}
	uint16_t size = (uint16_t)((header.len + 1 + 10 + 63) / 64 * 64 - 10);
	printf("\x93NUMPY%c%c%c%c%.*s%*s\n", 1, 0, size & 0xff, size >> 8, (int)header.len,
	       header.data ? header.data : "", (int)(size - header.len - 1), "");
	wf_buffer_free(&header);
}

/* ---- text ---- */

/* A text ends in a newline, and where it goes to a terminal nothing in it moves the cursor. */
static void put_text(const char *text, size_t len)
{
	struct wf_buffer shown = WF_BUFFER_INIT;
	bool terminal = isatty(STDOUT_FILENO);
	for (size_t at = 0; terminal && at < len;) {
		size_t n = at;
		while (n < len && text[n] != '\n' && text[n] != '\t')
			n++;
		wf_buffer_printable(&shown, text + at, n - at);
		if (n < len)
			wf_buffer_putc(&shown, text[n++]);
		at = n;
	}
	if (terminal)
		fwrite(shown.data, 1, shown.len, stdout);
	else
		fwrite(text, 1, len, stdout);
	if (len == 0 || text[len - 1] != '\n')
		putchar('\n');
	wf_buffer_free(&shown);
}

static int put_value(struct wfctl_store *s, struct wfctl_file *file, uint64_t bytes)
{
	char *text = bytes < SIZE_MAX ? malloc(bytes + 1) : NULL;
	int r = text ? read_exactly(s, file, 0, text, bytes) : -ENOMEM;
	if (r == 0)
		put_text(text, bytes);
	free(text);
	return r;
}

static int put_array(struct tensor_reading *r, const struct wfctl_dtype *dtype, const struct wfctl_view *v)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	int failed = wfctl_array_text(v, dtype, read_elements, r, &text);
	if (failed == 0) {
		fwrite(text.data, 1, text.len, stdout);
		putchar('\n');
	}
	wf_buffer_free(&text);
	return failed;
}

/* ---- an entry ---- */

/* Torch's, else NumPy's by its descr. */
static const struct wfctl_dtype *find_dtype(struct tensor_reading *r, const char *key, const char *name,
					    const struct wfctl_view *v, uint64_t bytes, struct wf_buffer *descr,
					    struct wfctl_dtype *made)
{
	const struct wfctl_dtype *dtype = wfctl_dtype_of_name(name);
	int64_t elements = wfctl_view_elements(v);
	uint64_t each = elements > 0 ? bytes / (uint64_t)elements : 1;
	if (dtype || each > INT32_MAX || r->s->calls->get(r->s, key, "user.numpy.descr", descr) < 0)
		return dtype;
	bool known = wfctl_dtype_make(descr->data, (uint32_t)each, made);
	return known && (elements == 0 || made->bytes == each) ? made : NULL;
}

static int show_tensor(struct tensor_reading *r, const char *key, const char *dtype_name, const char *shape,
		       uint64_t bytes, const char *slice, enum cat_form form)
{
	struct wfctl_view v;
	struct wfctl_dtype made;
	struct wf_buffer descr __attribute__((cleanup(wf_buffer_free))) = WF_BUFFER_INIT;
	const char *wrong = wfctl_view_whole(shape, &v) ? NULL : "its shape cannot be read";
	const struct wfctl_dtype *dtype = wrong ? NULL : find_dtype(r, key, dtype_name, &v, bytes, &descr, &made);
	if (!wrong && !dtype)
		return wfctl_fail(r->s->path, "%s: a tensor of dtype %s is no array of NumPy: --raw gives its bytes",
				  key, dtype_name);
	if (!wrong && slice)
		wrong = wfctl_view_slice(&v, slice);
	if (wrong)
		return wfctl_fail(r->s->path, "%s%s: %s", key, slice ? slice : "", wrong);
	if (form == FORM_NPY && !dtype->own)
		return wfctl_fail(r->s->path, "%s: NumPy has no dtype %s: --raw gives its bytes", key, dtype_name);
	r->element = dtype->bytes;
	if (form == FORM_NPY)
		put_npy_header(dtype, &v);
	int failed = form == FORM_TEXT ? put_array(r, dtype, &v) : put_elements(r, &v);
	return failed < 0 ? wfctl_store_fail(r->s, key, failed, NULL) : WFCTL_OK;
}

static int show_open(struct tensor_reading *r, const char *key, const char *slice, uint64_t bytes, enum cat_form form)
{
	struct wf_buffer dtype = WF_BUFFER_INIT, shape = WF_BUFFER_INIT;
	/* an array of objects is a list, as its file is */
	bool tensor = r->s->calls->get(r->s, key, "user.torch.dtype", &dtype) == 0 &&
		      strcmp(dtype.data, "object") != 0 && r->s->calls->get(r->s, key, "user.torch.shape", &shape) == 0;
	int result = WFCTL_OK, failed = 0;
	char first;
	if (tensor && !(form == FORM_RAW && !slice))
		result = show_tensor(r, key, dtype.data, shape.data, bytes, slice, form);
	else if ((slice || form == FORM_NPY) && (failed = (int)r->s->calls->read(r->file, 0, &first, 1)) < 0)
		; /* a tensor that cannot be read has no dtype */
	else if (slice || form == FORM_NPY)
		result = wfctl_fail(r->s->path, "%s: not a tensor", key);
	else
		failed = form == FORM_RAW ? put_bytes(r->s, r->file, 0, bytes) : put_value(r->s, r->file, bytes);
	wf_buffer_free(&dtype);
	wf_buffer_free(&shape);
	return failed < 0 ? wfctl_store_fail(r->s, key, failed, NULL) : result;
}

static int show(struct wfctl_store *s, const char *key, const char *slice, enum cat_form form)
{
	struct tensor_reading r = {.s = s};
	struct wfctl_entry e;
	int failed = s->calls->stat(s, key, true, &e);
	if (failed == 0 && e.type == WF_DIRECTORY)
		return wfctl_fail(s->path, "%s: a mapping; wfctl ls shows what is in it", *key ? key : "/");
	if (failed == 0)
		failed = s->calls->open(s, key, WFCTL_READ, &r.file);
	if (failed < 0)
		return wfctl_store_fail(s, key, failed, NULL);
	int result = show_open(&r, key, slice, e.bytes, form);
	s->calls->close(r.file);
	return result;
}

/* An exact key goes before a pattern, a pattern before a slice. *ret_slice: for free(). */
static int find(struct wfctl_store *s, const char *text, struct wfctl_keys *keys, char **ret_slice)
{
	const char *slice = wfctl_slice_of(text);
	*ret_slice = NULL;
	int found = wfctl_keys_find(s, text, keys);
	if (found == 0 && slice) {
		char *key = strndup(text, (size_t)(slice - text));
		found = key && (*ret_slice = strdup(slice)) ? wfctl_keys_find(s, key, keys) : -ENOMEM;
		free(key);
	}
	return found == -EINVAL ? WFCTL_FAILED
	       : found <= 0     ? wfctl_store_fail(s, text, found < 0 ? found : -ENOENT, NULL)
				: WFCTL_OK;
}

int wfctl_cat(const struct wfctl_call *call)
{
	bool raw = wfctl_given(call, "raw"), npy = wfctl_given(call, "npy");
	enum cat_form form = raw ? FORM_RAW : npy ? FORM_NPY : FORM_TEXT;
	if (raw && npy)
		return WFCTL_USAGE;
	struct wfctl_store *s = wfctl_session_read(call->session, call->arguments[0]);
	int r = s ? WFCTL_OK : WFCTL_FAILED;
	for (int i = 1; r == WFCTL_OK && i < call->count; i++) {
		struct wfctl_keys keys = {0};
		char *slice;
		r = find(s, call->arguments[i], &keys, &slice);
		for (size_t k = 0; r == WFCTL_OK && k < keys.count; k++)
			r = show(s, keys.key[k], slice, form);
		free(slice);
		wfctl_keys_free(&keys);
	}
	return r;
}
