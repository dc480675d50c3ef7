/* SPDX-License-Identifier: MIT */
/* Lays out an array in lines, as NumPy prints it. */
#include "fs/wfctl/array_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/array_elements.h"
#include "fs/wfctl/array_record.h"

#define THRESHOLD 1000
#define EDGE 3
#define LINE_WIDTH 75
#define SHOWN_MAX (4 << 20)
#define DATA_MAX (256u << 20)

struct printing {
	const struct wfctl_view *view;
	const struct wfctl_dtype *dtype;
	wfctl_read_elements read;
	void *ctx;
	bool summary;
	int64_t shown[WFCTL_DIMENSIONS_MAX]; /* indices that are shown, of each dimension */
	unsigned char *data;                 /* of the elements that are shown, in their order */
	size_t count, at;                    /* at: the next to be written */
	struct wfctl_elements elements;
	struct wfctl_record *record; /* instead of those */
	struct wf_buffer *out;
	size_t line; /* where the line begins that is written */
};

/* ---- elements ---- */

/* The index in its dimension of the i-th that is shown. */
static int64_t index_of(const struct printing *p, uint32_t d, int64_t i)
{
	return i < EDGE || p->shown[d] == p->view->size[d] ? i : p->view->size[d] - p->shown[d] + i;
}

static int read_row(struct printing *p, int64_t first, unsigned char *to)
{
	uint32_t last = p->view->ndim - 1;
	size_t bytes = p->dtype->bytes;
	int64_t n = p->shown[last], stride = p->view->stride[last];
	if (stride == 1 && n == p->view->size[last])
		return p->read(p->ctx, first, n, to);
	int r = 0;
	for (int64_t i = 0; r == 0 && i < n; i++)
		r = p->read(p->ctx, first + index_of(p, last, i) * stride, 1, to + (size_t)i * bytes);
	return r;
}

static int read_all(struct printing *p)
{
	const struct wfctl_view *v = p->view;
	int64_t index[WFCTL_DIMENSIONS_MAX] = {0}, count = 1;
	for (uint32_t d = 0; d < v->ndim; d++) {
		p->shown[d] = p->summary && v->size[d] > 2 * EDGE ? 2 * EDGE : v->size[d];
		count *= p->shown[d];
		if (count > SHOWN_MAX)
			return -E2BIG;
	}
	p->count = (size_t)count;
	if (p->count > DATA_MAX / (p->dtype->bytes + 1))
		return -E2BIG;
	p->data = malloc(p->count * p->dtype->bytes + 1);
	if (!p->data)
		return -ENOMEM;
	if (v->ndim == 0)
		return p->read(p->ctx, v->start, 1, p->data);
	int r = 0;
	for (size_t at = 0; r == 0 && at < p->count;) {
		int64_t first = v->start;
		for (uint32_t d = 0; d + 1 < v->ndim; d++)
			first += index_of(p, d, index[d]) * v->stride[d];
		r = read_row(p, first, p->data + at * p->dtype->bytes);
		at += (size_t)p->shown[v->ndim - 1];
		for (uint32_t d = v->ndim - 1; d-- > 0 && ++index[d] == p->shown[d];)
			index[d] = 0;
	}
	return r;
}

/* ---- rows ---- */

static size_t characters(const char *text, size_t len)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++)
		n += (text[i] & 0xc0) != 0x80;
	return n;
}

/* Writes a word where it fits, else on a new line. indent: blanks before what stands in the brackets. */
static void put_word(struct printing *p, const char *word, size_t len, int indent, int width)
{
	struct wf_buffer *out = p->out;
	size_t line = characters(out->data ? out->data + p->line : "", out->len - p->line);
	if (line + characters(word, len) > (size_t)width && line > (size_t)indent) {
		while (out->len > 0 && out->data[out->len - 1] == ' ')
			out->len--;
		wf_buffer_putc(out, '\n');
		p->line = out->len;
		wf_buffer_printf(out, "%*s", indent, "");
	}
	wf_buffer_append(out, word, len);
}

static void put_element(const struct printing *p, size_t i, struct wf_buffer *out)
{
	if (p->record)
		wfctl_record_put(p->record, i, WFCTL_RECORD_IN_ARRAY, out);
	else
		wfctl_element_put(&p->elements, i, out);
}

static void put_row(struct printing *p, int indent, int width)
{
	struct wf_buffer word = WF_BUFFER_INIT;
	uint32_t d = p->view->ndim - 1;
	bool gap = p->shown[d] < p->view->size[d];
	for (int64_t i = 0; i < p->shown[d]; i++) {
		if (gap && i == EDGE) {
			put_word(p, "...", 3, indent, width);
			wf_buffer_putc(p->out, ' ');
		}
		word.len = 0;
		put_element(p, p->at++, &word);
		put_word(p, word.data ? word.data : "", word.len, indent, width);
		if (i + 1 < p->shown[d])
			wf_buffer_putc(p->out, ' ');
	}
	p->out->failed |= word.failed;
	wf_buffer_free(&word);
}

static void new_line(struct printing *p, uint32_t lines, int indent)
{
	for (uint32_t i = 0; i < lines; i++)
		wf_buffer_putc(p->out, '\n');
	p->line = p->out->len;
	wf_buffer_printf(p->out, "%*s", indent, "");
}

/* The brackets of dimension d, in which `indent` blanks begin each line. At most WFCTL_DIMENSIONS_MAX of them are in each other. */
static void put_brackets(struct printing *p, uint32_t d, int indent, int width)
{
	bool gap = p->shown[d] < p->view->size[d];
	wf_buffer_putc(p->out, '[');
	if (d + 1 == p->view->ndim)
		put_row(p, indent, width - 1);
	for (int64_t i = 0; d + 1 < p->view->ndim && i < p->shown[d]; i++) {
		if (i > 0)
			new_line(p, p->view->ndim - d - 1, indent);
		if (gap && i == EDGE) {
			wf_buffer_puts(p->out, "...");
			new_line(p, p->view->ndim - d - 1, indent);
		}
		put_brackets(p, d + 1, indent + 1, width - 1);
	}
	wf_buffer_putc(p->out, ']');
}

int wfctl_array_text(const struct wfctl_view *view, const struct wfctl_dtype *dtype, wfctl_read_elements read,
		     void *ctx, struct wf_buffer *ret)
{
	struct printing p = {.view = view, .dtype = dtype, .read = read, .ctx = ctx, .out = ret, .line = ret->len};
	int64_t elements = wfctl_view_elements(view);
	if (elements == 0) {
		wf_buffer_puts(ret, "[]");
		return wf_buffer_status(ret);
	}
	p.summary = elements > THRESHOLD;
	int r = read_all(&p);
	if (r == 0 && dtype->kind == WFCTL_RECORD)
		r = wfctl_record_new(dtype->descr, p.data, p.count, dtype->bytes, &p.record);
	else if (r == 0)
		wfctl_elements_init(dtype, p.data, p.count, &p.elements);
	if (r == 0 && view->ndim > 0)
		put_brackets(&p, 0, 1, LINE_WIDTH);
	else if (r == 0 && p.record)
		wfctl_record_put(p.record, 0, WFCTL_RECORD_ALONE, ret);
	else if (r == 0)
		wfctl_element_put_scalar(&p.elements, 0, ret);
	wfctl_record_free(p.record);
	free(p.data);
	return r < 0 ? r : wf_buffer_status(ret);
}
