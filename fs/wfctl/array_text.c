/* SPDX-License-Identifier: MIT */
#include "fs/wfctl/array_text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/float_text.h"

#define PRECISION 8
#define THRESHOLD 1000
#define EDGE 3
#define LINE_WIDTH 75
#define SHOWN_MAX (4 << 20)

/* How the numbers of one array (or the parts of its complex numbers) are written: all alike. */
struct number_form {
	enum wfctl_width width;
	bool scientific, plus;
	int precision, pad_left, pad_right, exponent_digits;
};

struct printing {
	const struct wfctl_view *view;
	const struct wfctl_dtype *dtype;
	wfctl_read_elements read;
	void *ctx;
	bool summary;
	int64_t shown[WFCTL_DIMENSIONS_MAX]; /* indices that are shown, of each dimension */
	unsigned char *data;                 /* of the elements that are shown, in their order */
	size_t count, at;                    /* at: the next to be written */
	struct number_form real, imaginary;
	int int_width;
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

static enum wfctl_width width_of(const struct wfctl_dtype *t)
{
	size_t bytes = t->kind == WFCTL_COMPLEX ? t->bytes / 2u : t->bytes;
	/* NumPy has no half complex: such a number is shown as what it becomes */
	if (t->kind == WFCTL_BFLOAT || t->kind == WFCTL_FLOAT8 || t->kind == WFCTL_COMPLEX)
		return bytes == 8 ? WFCTL_DOUBLE : WFCTL_SINGLE;
	return bytes == 8 ? WFCTL_DOUBLE : bytes == 4 ? WFCTL_SINGLE : WFCTL_HALF;
}

/* part: 1 the imaginary one. */
static double number(const struct printing *p, size_t i, int part)
{
	const struct wfctl_dtype *t = p->dtype;
	const unsigned char *at = p->data + i * t->bytes;
	size_t bytes = t->kind == WFCTL_COMPLEX ? t->bytes / 2u : t->bytes;
	float single;
	double v;
	uint16_t half;
	if (t->kind == WFCTL_BFLOAT || t->kind == WFCTL_FLOAT8)
		return wfctl_small_float(t, at);
	at += (size_t)part * bytes;
	if (bytes == 2)
		return memcpy(&half, at, 2), wfctl_half(half);
	if (bytes == 4)
		return memcpy(&single, at, 4), single;
	memcpy(&v, at, 8);
	return v;
}

static int64_t integer(const struct printing *p, size_t i)
{
	int64_t v = 0;
	memcpy(&v, p->data + i * p->dtype->bytes, p->dtype->bytes);
	int unused = 64 - 8 * p->dtype->bytes;
	return p->dtype->kind == WFCTL_INT && unused > 0 ? (int64_t)((uint64_t)v << unused) >> unused : v;
}

static int int_text(const struct printing *p, size_t i, char text[24])
{
	int64_t v = integer(p, i);
	return p->dtype->kind == WFCTL_INT ? sprintf(text, "%lld", (long long)v)
					   : sprintf(text, "%llu", (unsigned long long)v);
}

/* ---- choosing a form for all of them ---- */

/* Comparisons are of the array's own type: a half or a single cannot tell what a double could. */
static bool wants_scientific(enum wfctl_width width, double least, double most)
{
	if (width == WFCTL_HALF)
		return most >= 1e3 || least < 0.0001000165939331054688 || most / least > 1000.25;
	if (width == WFCTL_SINGLE)
		return most >= 1e6 || (float)least < 0.0001f || (float)most / (float)least > 1000.0f;
	return most >= 1e8 || least < 0.0001 || most / least > 1000.0;
}

static void widen(int *width, size_t len)
{
	*width = *width > (int)len ? *width : (int)len;
}

static void measure(const struct printing *p, int part, struct number_form *f)
{
	char text[WFCTL_FLOAT_TEXT];
	int exponent = 0;
	for (size_t i = 0; i < p->count; i++) {
		double v = number(p, i, part);
		if (!isfinite(v))
			continue;
		if (f->scientific)
			wfctl_float_scientific(v, f->width, 0, PRECISION, text);
		else
			wfctl_float_positional(v, f->width, PRECISION, text);
		char *point = strchr(text, '.'), *e = strchr(text, 'e');
		widen(&f->pad_left, (size_t)(point - text) + (f->plus && text[0] != '-'));
		widen(&f->pad_right, e ? (size_t)(e - point) - 1 : strlen(point + 1));
		widen(&exponent, e ? strlen(e + 1) : 0);
	}
	if (f->scientific) {
		f->precision = f->pad_right;
		f->exponent_digits = exponent - 1;
		f->pad_right = f->exponent_digits + 2 + f->precision;
	}
}

static void choose(const struct printing *p, int part, struct number_form *f)
{
	double least = INFINITY, most = 0;
	bool finite = true, negative_infinity = false;
	*f = (struct number_form){.width = width_of(p->dtype), .plus = part};
	for (size_t i = 0; i < p->count; i++) {
		double v = number(p, i, part), size = fabs(v);
		finite &= isfinite(v);
		negative_infinity |= isinf(v) && v < 0;
		if (!isfinite(v) || v == 0)
			continue;
		least = size < least ? size : least;
		most = size > most ? size : most;
	}
	f->scientific = most > 0 && wants_scientific(f->width, least, most);
	measure(p, part, f);
	if (finite)
		return;
	int behind = f->pad_right + 1;
	widen(&f->pad_left, behind < 3 ? (size_t)(3 - behind) : 0);
	int infinity = 3 + (f->plus || negative_infinity) - behind;
	widen(&f->pad_left, infinity > 0 ? (size_t)infinity : 0);
}

/* ---- one element ---- */

static void put_float(struct wf_buffer *out, const struct number_form *f, double v)
{
	char text[WFCTL_FLOAT_TEXT], *e;
	const char *sign = f->plus && !signbit(v) ? "+" : "";
	if (!isfinite(v)) {
		snprintf(text, sizeof text, "%s%s",
			 isnan(v) ? (f->plus ? "+" : "")
			 : v < 0  ? "-"
				  : sign,
			 isnan(v) ? "nan" : "inf");
		wf_buffer_printf(out, "%*s", f->pad_left + f->pad_right + 1, text);
		return;
	}
	if (f->scientific)
		wfctl_float_scientific(v, f->width, f->precision, f->precision, text);
	else
		wfctl_float_positional(v, f->width, PRECISION, text);
	int before = (int)(strchr(text, '.') - text) + (int)strlen(sign);
	wf_buffer_printf(out, "%*s%s", f->pad_left > before ? f->pad_left - before : 0, "", sign);
	if (f->scientific && (e = strchr(text, 'e'))) {
		wf_buffer_append(out, text, (size_t)(e - text));
		wf_buffer_printf(out, "e%c%0*d", e[1], f->exponent_digits, atoi(e + 2));
	} else {
		int behind = (int)strlen(strchr(text, '.') + 1);
		wf_buffer_printf(out, "%s%*s", text, f->pad_right > behind ? f->pad_right - behind : 0, "");
	}
}

static void put_complex(struct wf_buffer *out, const struct printing *p, size_t i)
{
	put_float(out, &p->real, number(p, i, 0));
	put_float(out, &p->imaginary, number(p, i, 1));
	size_t end = out->len;
	while (out->data && end > 0 && out->data[end - 1] == ' ')
		end--;
	wf_buffer_putc(out, ' ');
	if (wf_buffer_status(out) < 0)
		return;
	memmove(out->data + end + 1, out->data + end, out->len - end - 1);
	out->data[end] = 'j'; /* before the blanks */
}

static void put_element(struct wf_buffer *out, const struct printing *p, size_t i)
{
	char text[24];
	switch (p->dtype->kind) {
	case WFCTL_BOOL:
		wf_buffer_puts(out, p->data[i] ? " True" : "False");
		break;
	case WFCTL_INT:
	case WFCTL_UINT:
		int_text(p, i, text);
		wf_buffer_printf(out, "%*s", p->int_width, text);
		break;
	case WFCTL_COMPLEX:
		put_complex(out, p, i);
		break;
	default:
		put_float(out, &p->real, number(p, i, 0));
	}
}

/* ---- rows ---- */

/* Writes a word where it fits, else on a new line. indent: blanks before what stands in the brackets. */
static void put_word(struct printing *p, const char *word, size_t len, int indent, int width)
{
	struct wf_buffer *out = p->out;
	size_t line = out->len - p->line;
	if (line + len > (size_t)width && line > (size_t)indent) {
		while (out->len > 0 && out->data[out->len - 1] == ' ')
			out->len--;
		wf_buffer_putc(out, '\n');
		p->line = out->len;
		wf_buffer_printf(out, "%*s", indent, "");
	}
	wf_buffer_append(out, word, len);
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
		put_element(&word, p, p->at++);
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

static void put_scalar(struct printing *p)
{
	char text[WFCTL_FLOAT_TEXT];
	enum wfctl_width width = width_of(p->dtype);
	if (p->dtype->kind == WFCTL_BOOL) {
		wf_buffer_puts(p->out, p->data[0] ? "True" : "False");
	} else if (p->dtype->kind == WFCTL_INT || p->dtype->kind == WFCTL_UINT) {
		int_text(p, 0, text);
		wf_buffer_puts(p->out, text);
	} else if (p->dtype->kind == WFCTL_COMPLEX) {
		double real = number(p, 0, 0), imaginary = number(p, 0, 1);
		bool only = real == 0 && !signbit(real);
		if (!only) {
			wfctl_float_scalar(real, width, true, text);
			wf_buffer_printf(p->out, "(%s%s", text, signbit(imaginary) && !isnan(imaginary) ? "" : "+");
		}
		wfctl_float_scalar(imaginary, width, true, text);
		wf_buffer_printf(p->out, isfinite(imaginary) ? "%sj%s" : "%s*j%s", text, only ? "" : ")");
	} else {
		wfctl_float_scalar(number(p, 0, 0), width, false, text);
		wf_buffer_puts(p->out, text);
	}
}

int wfctl_array_text(const struct wfctl_view *view, const struct wfctl_dtype *dtype, wfctl_read_elements read,
		     void *ctx, struct wf_buffer *ret)
{
	char text[24];
	struct printing p = {.view = view, .dtype = dtype, .read = read, .ctx = ctx, .out = ret, .line = ret->len};
	int64_t elements = wfctl_view_elements(view);
	if (elements == 0) {
		wf_buffer_puts(ret, "[]");
		return wf_buffer_status(ret);
	}
	p.summary = elements > THRESHOLD;
	int r = read_all(&p);
	if (r == 0 && view->ndim == 0) {
		put_scalar(&p);
	} else if (r == 0) {
		for (size_t i = 0; dtype->kind <= WFCTL_UINT && i < p.count; i++)
			widen(&p.int_width, dtype->kind == WFCTL_BOOL ? 0 : (size_t)int_text(&p, i, text));
		if (dtype->kind > WFCTL_UINT)
			choose(&p, 0, &p.real);
		if (dtype->kind == WFCTL_COMPLEX)
			choose(&p, 1, &p.imaginary);
		put_brackets(&p, 0, 1, LINE_WIDTH);
	}
	free(p.data);
	return r < 0 ? r : wf_buffer_status(ret);
}
