/* SPDX-License-Identifier: MIT */
/* Writes the elements of an array in the form that all that are shown have in common. */
#include "fs/wfctl/array_elements.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/array_words.h"

#define PRECISION 8

/* ---- values ---- */

static enum wfctl_width width_of(const struct wfctl_dtype *t)
{
	size_t bytes = t->kind == WFCTL_COMPLEX ? t->bytes / 2u : t->bytes;
	/* NumPy has no half complex: such a number is shown as what it becomes */
	if (t->kind == WFCTL_BFLOAT || t->kind == WFCTL_FLOAT8 || t->kind == WFCTL_COMPLEX)
		return bytes == 16 ? WFCTL_EXTENDED : bytes == 8 ? WFCTL_DOUBLE : WFCTL_SINGLE;
	return bytes == 16 ? WFCTL_EXTENDED : bytes == 8 ? WFCTL_DOUBLE : bytes == 4 ? WFCTL_SINGLE : WFCTL_HALF;
}

/* part: 1 the imaginary one. */
static long double number(const struct wfctl_elements *e, size_t i, int part)
{
	const struct wfctl_dtype *t = e->dtype;
	const unsigned char *at = e->data + i * t->bytes;
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
	if (bytes == 16)
		return wfctl_extended(at);
	memcpy(&v, at, 8);
	return v;
}

static int64_t integer(const struct wfctl_elements *e, size_t i)
{
	int64_t v = 0;
	memcpy(&v, e->data + i * e->dtype->bytes, e->dtype->bytes);
	int unused = 64 - 8 * (int)e->dtype->bytes;
	return e->dtype->kind == WFCTL_INT && unused > 0 ? (int64_t)((uint64_t)v << unused) >> unused : v;
}

static int int_text(const struct wfctl_elements *e, size_t i, char text[24])
{
	int64_t v = integer(e, i);
	return e->dtype->kind == WFCTL_INT ? sprintf(text, "%lld", (long long)v)
					   : sprintf(text, "%llu", (unsigned long long)v);
}

/* ---- choosing a form for all of them ---- */

/* Comparisons are of the array's own type: a half or a single cannot tell what a double could. */
static bool wants_scientific(enum wfctl_width width, long double least, long double most)
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

static void measure(const struct wfctl_elements *e, int part, struct wfctl_number_form *f)
{
	char text[WFCTL_FLOAT_TEXT];
	int exponent = 0;
	for (size_t i = 0; i < e->count; i++) {
		long double v = number(e, i, part);
		if (!isfinite(v))
			continue;
		if (f->scientific)
			wfctl_float_scientific(v, f->width, 0, PRECISION, text);
		else
			wfctl_float_positional(v, f->width, PRECISION, text);
		char *point = strchr(text, '.'), *power = strchr(text, 'e');
		widen(&f->pad_left, (size_t)(point - text) + (f->plus && text[0] != '-'));
		widen(&f->pad_right, power ? (size_t)(power - point) - 1 : strlen(point + 1));
		widen(&exponent, power ? strlen(power + 1) : 0);
	}
	if (f->scientific) {
		f->precision = f->pad_right;
		f->exponent_digits = exponent - 1;
		f->pad_right = f->exponent_digits + 2 + f->precision;
	}
}

static void choose(const struct wfctl_elements *e, int part, struct wfctl_number_form *f)
{
	long double least = INFINITY, most = 0;
	bool finite = true, negative_infinity = false;
	*f = (struct wfctl_number_form){.width = width_of(e->dtype), .plus = part};
	for (size_t i = 0; i < e->count; i++) {
		long double v = number(e, i, part), size = fabsl(v);
		finite &= isfinite(v);
		negative_infinity |= isinf(v) && v < 0;
		if (!isfinite(v) || v == 0)
			continue;
		least = size < least ? size : least;
		most = size > most ? size : most;
	}
	f->scientific = most > 0 && wants_scientific(f->width, least, most);
	measure(e, part, f);
	if (finite)
		return;
	int behind = f->pad_right + 1;
	widen(&f->pad_left, behind < 3 ? (size_t)(3 - behind) : 0);
	int infinity = 3 + (f->plus || negative_infinity) - behind;
	widen(&f->pad_left, infinity > 0 ? (size_t)infinity : 0);
}

/* ---- one element ---- */

static void put_float(struct wf_buffer *out, const struct wfctl_number_form *f, long double v)
{
	char text[WFCTL_FLOAT_TEXT], *power;
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
	if (f->scientific && (power = strchr(text, 'e'))) {
		wf_buffer_append(out, text, (size_t)(power - text));
		wf_buffer_printf(out, "e%c%0*d", power[1], f->exponent_digits, atoi(power + 2));
	} else {
		int behind = (int)strlen(strchr(text, '.') + 1);
		wf_buffer_printf(out, "%s%*s", text, f->pad_right > behind ? f->pad_right - behind : 0, "");
	}
}

static void put_complex(struct wf_buffer *out, const struct wfctl_elements *e, size_t i)
{
	put_float(out, &e->real, number(e, i, 0));
	put_float(out, &e->imaginary, number(e, i, 1));
	size_t end = out->len;
	while (out->data && end > 0 && out->data[end - 1] == ' ')
		end--;
	wf_buffer_putc(out, ' ');
	if (wf_buffer_status(out) < 0)
		return;
	memmove(out->data + end + 1, out->data + end, out->len - end - 1);
	out->data[end] = 'j'; /* before the blanks */
}

static void put_time(const struct wfctl_elements *e, size_t i, struct wf_buffer *out)
{
	struct wf_buffer word = WF_BUFFER_INIT;
	wfctl_word_put(e->dtype, e->data + i * 8, false, &word);
	wf_buffer_printf(out, "%*s", e->width, word.data ? word.data : "");
	wf_buffer_free(&word);
}

void wfctl_element_put(const struct wfctl_elements *e, size_t i, struct wf_buffer *out)
{
	char text[24];
	switch (e->dtype->kind) {
	case WFCTL_BOOL:
		wf_buffer_puts(out, e->data[i] ? " True" : "False");
		break;
	case WFCTL_INT:
	case WFCTL_UINT:
		int_text(e, i, text);
		wf_buffer_printf(out, "%*s", e->width, text);
		break;
	case WFCTL_COMPLEX:
		put_complex(out, e, i);
		break;
	case WFCTL_DATE:
	case WFCTL_SPAN:
		put_time(e, i, out);
		break;
	case WFCTL_TEXT:
	case WFCTL_BYTES:
	case WFCTL_VOID:
		wfctl_word_put(e->dtype, e->data + i * e->dtype->bytes, false, out);
		break;
	default:
		put_float(out, &e->real, number(e, i, 0));
	}
}

void wfctl_element_put_scalar(const struct wfctl_elements *e, size_t i, struct wf_buffer *out)
{
	char text[WFCTL_FLOAT_TEXT];
	enum wfctl_width width = width_of(e->dtype);
	if (e->dtype->kind >= WFCTL_TEXT) {
		wfctl_word_put(e->dtype, e->data + i * e->dtype->bytes, true, out);
	} else if (e->dtype->kind == WFCTL_BOOL) {
		wf_buffer_puts(out, e->data[i] ? "True" : "False");
	} else if (e->dtype->kind == WFCTL_INT || e->dtype->kind == WFCTL_UINT) {
		int_text(e, i, text);
		wf_buffer_puts(out, text);
	} else if (e->dtype->kind == WFCTL_COMPLEX) {
		long double real = number(e, i, 0), imaginary = number(e, i, 1);
		bool only = real == 0 && !signbit(real);
		if (!only) {
			wfctl_float_scalar(real, width, true, text);
			wf_buffer_printf(out, "(%s%s", text, signbit(imaginary) && !isnan(imaginary) ? "" : "+");
		}
		wfctl_float_scalar(imaginary, width, true, text);
		wf_buffer_printf(out, isfinite(imaginary) ? "%sj%s" : "%s*j%s", text, only ? "" : ")");
	} else {
		wfctl_float_scalar(number(e, i, 0), width, false, text);
		wf_buffer_puts(out, text);
	}
}

/* Of big-endian ones. */
static void swap(const struct wfctl_dtype *t, unsigned char *data, size_t count)
{
	size_t unit = t->kind == WFCTL_TEXT      ? 4
		      : t->kind == WFCTL_COMPLEX ? t->bytes / 2
						 : t->bytes,
	       total = count * t->bytes;
	for (size_t at = 0; at < total; at += unit)
		for (size_t i = 0; i < unit / 2; i++) {
			unsigned char c = data[at + i];
			data[at + i] = data[at + unit - 1 - i];
			data[at + unit - 1 - i] = c;
		}
}

void wfctl_elements_init(const struct wfctl_dtype *dtype, void *data, size_t count, struct wfctl_elements *ret)
{
	char text[24];
	*ret = (struct wfctl_elements){.dtype = dtype, .data = data, .count = count};
	if (dtype->swapped && dtype->bytes > 0)
		swap(dtype, data, count);
	for (size_t i = 0; (dtype->kind == WFCTL_INT || dtype->kind == WFCTL_UINT) && i < count; i++)
		widen(&ret->width, (size_t)int_text(ret, i, text));
	for (size_t i = 0; (dtype->kind == WFCTL_DATE || dtype->kind == WFCTL_SPAN) && i < count; i++) {
		struct wf_buffer word = WF_BUFFER_INIT;
		wfctl_word_put(dtype, ret->data + i * dtype->bytes, false, &word);
		widen(&ret->width, word.len);
		wf_buffer_free(&word);
	}
	if (dtype->kind > WFCTL_UINT && dtype->kind < WFCTL_TEXT)
		choose(ret, 0, &ret->real);
	if (dtype->kind == WFCTL_COMPLEX)
		choose(ret, 1, &ret->imaginary);
}
