/* SPDX-License-Identifier: MIT */
/* Reads a tensor's content out of a file: raw bytes, or an .npy. */
#include "fs/wfctl/array_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/dtypes.h"
#include "fs/wfctl/fail.h"

#define CHUNK_BYTES (4u << 20)
#define HEADER_MAX (1u << 20)
#define DIMENSIONS_MAX 64

/*  .npy:  0  6  "\x93NUMPY"
 *         6  2  version 1.0, 2.0 or 3.0
 *         8  2  (4 from 2.0 on) length of the header
 *            n  {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, padded with blanks, then a newline
 *               the elements */
struct array {
	const struct wfctl_dtype *dtype;
	bool swapped, fortran;
	uint32_t ndim;
	uint64_t shape[DIMENSIONS_MAX], elements;
	size_t data; /* where the elements begin */
};

/* ---- what is read ---- */

/* Of a regular file the beginning is here, and the rest is read when it is written; of a pipe all of it is here. */
struct content {
	struct wf_buffer text;
	uint64_t bytes;
	int fd; /* -1: none; of a file that is read later */
};

static void free_content(struct content *c)
{
	if (c->fd > STDIN_FILENO)
		close(c->fd);
	wf_buffer_free(&c->text);
}

static int read_at(const struct content *c, uint64_t offset, char *to, size_t len)
{
	if (c->fd < 0) {
		memcpy(to, c->text.data + offset, len);
		return 0;
	}
	for (size_t at = 0; at < len;) {
		ssize_t n = pread(c->fd, to + at, len - at, (off_t)(offset + at));
		if (n <= 0)
			return n < 0 ? -errno : -EIO; /* it has become shorter meanwhile */
		at += (size_t)n;
	}
	return 0;
}

static int read_text(int fd, uint64_t most, struct wf_buffer *ret)
{
	char *chunk = malloc(CHUNK_BYTES);
	ssize_t n = 0;
	int r = chunk ? 0 : -ENOMEM;
	wf_buffer_puts(ret, "");
	while (r == 0 && ret->len < most &&
	       (n = read(fd, chunk, most - ret->len < CHUNK_BYTES ? most - ret->len : CHUNK_BYTES)) > 0) {
		wf_buffer_append(ret, chunk, (size_t)n);
		r = wf_buffer_status(ret);
	}
	free(chunk);
	return r == 0 && n < 0 ? -errno : r;
}

static int open_content(const char *file, struct content *c)
{
	struct stat st;
	bool input = !strcmp(file, "-");
	int fd = input ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
	*c = (struct content){.fd = -1};
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	bool later = !input && S_ISREG(st.st_mode);
	int r = read_text(fd, later ? HEADER_MAX + 12 : UINT64_MAX, &c->text);
	c->bytes = later && (uint64_t)st.st_size > c->text.len ? (uint64_t)st.st_size : c->text.len;
	if (later && r == 0)
		c->fd = fd;
	else if (!input)
		close(fd);
	return r;
}

/* ---- the header ---- */

static const char *value_of(const char *header, const char *name)
{
	char quoted[32];
	snprintf(quoted, sizeof quoted, "'%s':", name);
	const char *at = strstr(header, quoted);
	return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " ") : NULL;
}

static bool read_shape(const char *at, struct array *a)
{
	a->elements = 1;
	if (*at++ != '(')
		return false;
	for (at += strspn(at, " "); *at != ')'; at += strspn(at, " ,")) {
		char *end;
		errno = 0;
		unsigned long long size = strtoull(at, &end, 10);
		if (end == at || errno || *at == '-' || a->ndim == DIMENSIONS_MAX ||
		    __builtin_mul_overflow(a->elements, size, &a->elements))
			return false;
		a->shape[a->ndim++] = size;
		at = end;
	}
	return true;
}

static const char *read_header(const char *header, struct array *a)
{
	const char *descr = value_of(header, "descr"), *order = value_of(header, "fortran_order"),
		   *shape = value_of(header, "shape");
	char name[16];
	if (!descr || !order || !shape || *descr != '\'' || !read_shape(shape, a))
		return "its .npy header cannot be read";
	size_t len = strcspn(descr + 1, "'");
	snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : 0), descr + 1);
	a->swapped = name[0] == '>';
	if (a->swapped || name[0] == '=')
		name[0] = name[2] == '1' ? '|' : '<';
	a->dtype = wfctl_dtype_of_descr(name);
	a->fortran = !strncmp(order, "True", 4);
	return a->dtype ? NULL : "the dtype of its .npy header is none of torch's";
}

/* total: of all of the file, of which content may be the beginning. NULL: it is an array; else what is wrong with it, empty: it is no
 * .npy. */
static const char *parse(const char *content, size_t len, uint64_t total, struct array *a)
{
	uint32_t size = 0;
	size_t prefix = 10;
	if (len < 10 || memcmp(content, "\x93NUMPY", 6) != 0)
		return "";
	if (content[6] < 1 || content[6] > 3)
		return "a .npy of another version";
	prefix = content[6] == 1 ? 10 : 12;
	if (len < prefix)
		return "its .npy header is cut short";
	memcpy(&size, content + 8, prefix - 8);
	if (size > HEADER_MAX || len - prefix < size)
		return "its .npy header is cut short";
	char *header = strndup(content + prefix, size);
	if (!header)
		return "out of memory";
	const char *why = read_header(header, a);
	free(header);
	a->data = prefix + size;
	uint64_t bytes;
	if (!why &&
	    (__builtin_mul_overflow(a->elements, (uint64_t)a->dtype->bytes, &bytes) || bytes != total - a->data))
		why = "it has more or fewer elements than its .npy header says";
	return why;
}

/* ---- the elements ---- */

static void swap_elements(const struct array *a, char *data, size_t bytes)
{
	size_t part = a->dtype->kind == WFCTL_COMPLEX ? a->dtype->bytes / 2u : a->dtype->bytes;
	for (size_t i = 0; part > 1 && i < bytes; i += part)
		for (size_t k = 0; k < part / 2; k++) {
			char c = data[i + k];
			data[i + k] = data[i + part - 1 - k];
			data[i + part - 1 - k] = c;
		}
}

static char *to_rows(const struct array *a, const char *data)
{
	size_t bytes = a->dtype->bytes;
	char *out = malloc(a->elements * bytes + 1);
	uint64_t index[DIMENSIONS_MAX] = {0};
	for (uint64_t i = 0; out && i < a->elements; i++) {
		uint64_t from = 0;
		for (uint32_t d = a->ndim; d-- > 0;)
			from = from * a->shape[d] + index[d];
		memcpy(out + i * bytes, data + from * bytes, bytes);
		for (uint32_t d = a->ndim; d-- > 0 && ++index[d] == a->shape[d];)
			index[d] = 0;
	}
	return out;
}

static void shape_text(const struct array *a, struct wf_buffer *out)
{
	wf_buffer_putc(out, '[');
	for (uint32_t i = 0; i < a->ndim; i++)
		wf_buffer_printf(out, i ? ", %llu" : "%llu", (unsigned long long)a->shape[i]);
	wf_buffer_putc(out, ']');
}

/* ---- writing ---- */

/* The bytes of content from an offset on; swapped: as elements of that array. A chunk holds whole elements. */
static int write_all(struct wfctl_store *s, struct wfctl_file *f, const struct content *content, uint64_t offset,
		     const struct array *swapped)
{
	char *chunk = malloc(CHUNK_BYTES);
	uint64_t bytes = content->bytes - offset;
	int r = chunk ? 0 : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < bytes; at += CHUNK_BYTES) {
		size_t n = bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES;
		r = read_at(content, offset + at, chunk, n);
		if (r == 0 && swapped)
			swap_elements(swapped, chunk, n);
		if (r == 0)
			r = s->calls->write(f, at, chunk, n);
	}
	free(chunk);
	return r;
}

/* From the first index fastest to the last index fastest: all of it is needed at once. */
static int turn(const struct array *a, struct content *content)
{
	size_t bytes = content->bytes - a->data;
	char *data = malloc(bytes + 1);
	int r = data ? read_at(content, a->data, data, bytes) : -ENOMEM;
	char *rows = r == 0 ? to_rows(a, data) : NULL;
	free(data);
	if (!rows)
		return r < 0 ? r : -ENOMEM;
	wf_buffer_free(&content->text);
	wf_buffer_append(&content->text, rows, bytes);
	free(rows);
	content->bytes = bytes;
	if (content->fd > STDIN_FILENO)
		close(content->fd);
	content->fd = -1;
	return wf_buffer_status(&content->text);
}

static int put_array(struct wfctl_store *s, const char *key, bool there, const struct array *a, struct content *content)
{
	struct wf_buffer shape = WF_BUFFER_INIT;
	struct wfctl_file *f;
	bool turned = a->fortran && a->ndim > 1;
	int failed = turned ? turn(a, content) : 0;
	if (failed < 0)
		return failed;
	shape_text(a, &shape);
	int r = wf_buffer_status(&shape);
	if (r == 0)
		r = s->calls->open(s, key, WFCTL_WRITE | (there ? WFCTL_EMPTY : WFCTL_NEW), &f);
	if (r == 0) {
		r = s->calls->set(s, key, "user.torch.dtype", a->dtype->name);
		if (r == 0)
			r = s->calls->set(s, key, "user.torch.shape", shape.data);
		if (r == 0)
			r = write_all(s, f, content, turned ? 0 : a->data, a->swapped ? a : NULL);
		int closed = s->calls->close(f);
		r = r < 0 ? r : closed;
	}
	wf_buffer_free(&shape);
	return r;
}

static bool is_text(struct wfctl_store *s, const char *key, struct wf_buffer *class)
{
	return s->calls->get(s, key, "user.torch.class", class) == 0 &&
	       (!strcmp(class->data, "str") || !strcmp(class->data, "bytes") || !strcmp(class->data, "bytearray"));
}

/* Who only empties a file of a mount changes nothing: what has bytes is not left without any unless it is a text. */
static int may_be_empty(struct wfctl_store *s, const char *key)
{
	struct wf_buffer class = WF_BUFFER_INIT;
	struct wfctl_entry e;
	int r = s->calls->stat(s, key, true, &e);
	if (r == 0 && e.bytes > 0 && !is_text(s, key, &class))
		r = -ENODATA;
	wf_buffer_free(&class);
	return r;
}

static int put_bytes(struct wfctl_store *s, const char *key, bool there, const struct content *content)
{
	struct wf_buffer class = WF_BUFFER_INIT;
	struct wfctl_file *f;
	int r = there && content->bytes == 0 ? may_be_empty(s, key) : 0;
	if (r == 0)
		r = s->calls->open(s, key, WFCTL_WRITE | (there ? WFCTL_EMPTY : WFCTL_NEW), &f);
	if (r < 0)
		return r;
	if (!there) /* bytes of a file are bytes, also where they read as a number */
		r = s->calls->set(s, key, "user.torch.dtype", "uint8");
	else if (content->bytes == 0 && is_text(s, key, &class))
		r = s->calls->set(s, key, "user.torch.class", class.data);
	wf_buffer_free(&class);
	if (r == 0)
		r = write_all(s, f, content, 0, NULL);
	int closed = s->calls->close(f);
	return r < 0 ? r : closed;
}

int wfctl_put_file(struct wfctl_store *s, const char *key, bool there, const char *file)
{
	struct content content;
	struct array a = {0};
	int r = open_content(file, &content);
	if (r < 0) {
		free_content(&content);
		return wfctl_fail(file, "%s", strerror(-r));
	}
	const char *why = parse(content.text.data, content.text.len, content.bytes, &a);
	if (why && *why)
		r = wfctl_fail(file, "%s", why);
	else {
		int failed = why ? put_bytes(s, key, there, &content) : put_array(s, key, there, &a, &content);
		r = failed == 0          ? WFCTL_OK
		    : failed == -ENODATA ? wfctl_fail(s->path, "%s: not set: %s is empty", key, file)
					 : wfctl_store_fail(s, key, failed, "not set");
	}
	free_content(&content);
	return r;
}
