#include "codec/value/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/object/dtype.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"
#include "codec/value/inner.h"


/* ---- numbers ---- */

/* A little-endian two's complement number in decimal. Quadratic in its length, which the pickle reader bounds. */
static int long_text(const unsigned char *le, size_t len, struct wf_buffer *out)
{
	size_t words = len / 4 + 1;
	bool negative = len > 0 && (le[len - 1] & 0x80);
	cleanup_free uint32_t *w = calloc(words, sizeof *w);
	cleanup_free char *digits = malloc(len * 3 + 16);
	if (!w || !digits)
		return -ENOMEM;
	unsigned int carry = negative;
	for (size_t i = 0; i < words * 4; i++) {
		unsigned int byte = i < len ? le[i] : negative ? 0xff : 0;
		if (negative) {
			byte = (~byte & 0xff) + carry;
			carry = byte >> 8;
		}
		w[i / 4] |= (uint32_t)(byte & 0xff) << (8 * (i % 4));
	}
	size_t n = 0, top = words;
	while (top > 0) {
		uint64_t rest = 0;
		for (size_t i = top; i-- > 0;) {
			rest = rest << 32 | w[i];
			w[i] = (uint32_t)(rest / 1000000000u);
			rest %= 1000000000u;
		}
		while (top > 0 && w[top - 1] == 0)
			top--;
		for (int k = 0; k < 9 && (top > 0 || rest > 0); k++, rest /= 10)
			digits[n++] = (char)('0' + rest % 10);
	}
	if (negative)
		wf_buffer_putc(out, '-');
	while (n > 0)
		wf_buffer_putc(out, digits[--n]);
	return 0;
}

static int append_string(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	char chunk[8192];
	uint64_t size = wf_string_size(g, r);
	if (size > WF_VALUE_MAX_BYTES)
		return -E2BIG;
	for (uint64_t at = 0; at < size; at += sizeof chunk) {
		size_t n = WF_MIN(sizeof chunk, size - at);
		int failed = wf_string_read(g, r, at, chunk, n);
		if (failed < 0)
			return failed;
		wf_buffer_append(out, chunk, n);
	}
	return wf_buffer_status(out);
}

/* ---- which form ---- */

/* Texts, bytes and records of NumPy are shown as they are, numbers and dates as a line. */
static enum wf_value_form numpy_form(const struct wf_graph *g, wf_ref r)
{
	struct wf_numpy_dtype d;
	struct wf_buffer text = WF_BUFFER_INIT;
	int failed = wf_value_numpy_text(g, r, &text);
	wf_buffer_free(&text);
	if (failed < 0 || !wf_value_numpy_dtype(g, r, &d))
		return WF_VALUE_NOT;
	return strchr("USV", d.kind) ? WF_VALUE_RAW : WF_VALUE_TEXT;
}

enum wf_value_form wf_value_form_of(const struct wf_graph *g, wf_ref r)
{
	wf_ref inner;
	if (r == WF_NIL)
		return WF_VALUE_NOT;
	switch (wf_kind_of(g, r)) {
	case WF_STR:
	case WF_PYSTR:
	case WF_BYTES:
	case WF_BYTEARRAY:
		return WF_VALUE_RAW;
	case WF_NONE:
	case WF_BOOL:
	case WF_INT:
	case WF_LONG:
	case WF_FLOAT:
		return WF_VALUE_TEXT;
	case WF_DICT:
	case WF_PERSID:
		return WF_VALUE_NOT;
	default:
		break;
	}
	if (wf_value_sequence(g, r) != WF_NIL)
		return wf_value_list(g, r, NULL) == 0 ? WF_VALUE_JSON : WF_VALUE_NOT;
	switch (wf_value_meaning(g, r, &inner)) {
	case WF_MEANS_COMPLEX:
	case WF_MEANS_DEVICE:
	case WF_MEANS_DTYPE:
	case WF_MEANS_PATH:
	case WF_MEANS_TIME:
	case WF_MEANS_NUMPY_DTYPE:
	case WF_MEANS_LAYOUT:
		return WF_VALUE_TEXT;
	case WF_MEANS_NUMPY_SCALAR:
		return numpy_form(g, r);
	case WF_MEANS_BYTES_FILE:
	case WF_MEANS_TEXT_FILE:
	case WF_MEANS_LATIN1:
	case WF_MEANS_EMPTY_BYTES:
	case WF_MEANS_BYTEARRAY:
		return WF_VALUE_RAW;
	default:
		return WF_VALUE_NOT;
	}
}

/* ---- text ---- */

int wf_value_scalar(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	char number[32];
	int64_t v;
	size_t len;
	const char *bytes;
	switch (wf_kind_of(g, r)) {
	case WF_NONE:
		wf_buffer_puts(out, "null");
		return 0;
	case WF_BOOL:
		wf_buffer_puts(out, wf_bool_value(g, r) ? "true" : "false");
		return 0;
	case WF_INT:
		wf_int_value(g, r, &v);
		wf_buffer_printf(out, "%lld", (long long)v);
		return 0;
	case WF_LONG:
		bytes = wf_bytes(g, r, &len);
		return long_text((const unsigned char *)bytes, len, out);
	case WF_FLOAT:
		wf_double_text(wf_float_value(g, r), number);
		wf_buffer_puts(out, number);
		return 0;
	case WF_STR:
	case WF_PYSTR: {
		struct wf_buffer raw = WF_BUFFER_INIT;
		int failed = append_string(g, r, &raw);
		if (failed == 0)
			wf_json_string(out, raw.data ? raw.data : "", raw.len);
		wf_buffer_free(&raw);
		return failed;
	}
	default:
		return -EINVAL;
	}
}

void wf_value_complex_text(double x, double y, struct wf_buffer *out)
{
	char re[32], im[32];
	/* Python's repr without its parentheses: a zero real part is left out, whole numbers lose their ".0" */
	wf_double_text(x, re);
	wf_double_text(y, im);
	for (int i = 0; i < 2; i++) {
		char *s = i ? im : re, *dot = strstr(s, ".0");
		if (dot && !dot[2])
			*dot = '\0';
		if (!strcmp(s, "NaN"))
			strcpy(s, "nan");
		else if (strstr(s, "Infinity"))
			strcpy(s, s[0] == '-' ? "-inf" : "inf");
	}
	if (x == 0 && !signbit(x))
		wf_buffer_printf(out, "%sj", im);
	else
		wf_buffer_printf(out, "%s%s%sj", re, im[0] == '-' ? "" : "+", im);
}

/* The parts joined as the class that is named does it. */
static void path_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	const char *separator = strstr(wf_global_name(g, wf_call_func(g, r)), "Windows") ? "\\" : "/";
	uint32_t n;
	const wf_ref *e = wf_elements(g, wf_call_args(g, r), &n);
	for (uint32_t i = 0; i < n && out->len < WF_VALUE_MAX_BYTES; i++) {
		append_string(g, e[i], out);
		if (i + 1 < n && out->len > 0 && out->data[out->len - 1] != *separator)
			wf_buffer_puts(out, separator);
	}
	if (n == 0)
		wf_buffer_putc(out, '.');
}

static int raw_text(const struct wf_graph *g, wf_ref r, enum wf_meaning meaning, wf_ref inner, struct wf_buffer *out)
{
	switch (meaning) {
	case WF_MEANS_EMPTY_BYTES:
		return 0;
	case WF_MEANS_BYTEARRAY:
		return inner == WF_NIL ? 0 : wf_bytes_read(g, inner, WF_VALUE_MAX_BYTES, out);
	case WF_MEANS_LATIN1:
		return wf_bytes_read(g, r, WF_VALUE_MAX_BYTES, out);
	case WF_MEANS_BYTES_FILE:
		return wf_bytes_read(g, inner, WF_VALUE_MAX_BYTES, out);
	case WF_MEANS_TEXT_FILE:
		return append_string(g, inner, out);
	case WF_MEANS_NUMPY_SCALAR:
		return wf_value_numpy_text(g, r, out);
	default:
		return append_string(g, r, out);
	}
}

int wf_value_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	wf_ref inner;
	enum wf_value_form form = wf_value_form_of(g, r);
	enum wf_meaning meaning = wf_value_meaning(g, r, &inner);
	int failed = 0;
	int64_t index;
	if (form == WF_VALUE_NOT)
		return -EINVAL;
	if (form == WF_VALUE_RAW)
		return raw_text(g, r, meaning, inner, out);
	if (form == WF_VALUE_JSON)
		failed = wf_value_list(g, r, out);
	else if (meaning == WF_MEANS_COMPLEX)
		wf_value_complex_text(wf_float_value(g, inner), wf_float_value(g, wf_element(g, wf_call_args(g, r), 1)),
				      out);
	else if (meaning == WF_MEANS_NUMPY_SCALAR)
		failed = wf_value_numpy_text(g, r, out);
	else if (meaning == WF_MEANS_TIME)
		failed = wf_value_time_text(g, r, out);
	else if (meaning == WF_MEANS_PATH)
		path_text(g, r, out);
	else if (meaning == WF_MEANS_LAYOUT)
		failed = append_string(g, inner, out);
	else if (meaning == WF_MEANS_NUMPY_DTYPE)
		wf_numpy_dtype_descr(g, r, out);
	else if (meaning == WF_MEANS_DTYPE)
		wf_buffer_printf(out, "torch.%s", wf_global_name(g, r));
	else if (meaning == WF_MEANS_DEVICE) {
		append_string(g, inner, out);
		if (wf_int_value(g, wf_element(g, wf_call_args(g, r), 1), &index))
			wf_buffer_printf(out, ":%lld", (long long)index);
	} else
		failed = wf_value_scalar(g, r, out);
	wf_buffer_putc(out, '\n');
	return failed < 0 ? failed : wf_buffer_status(out);
}

int wf_value_size(const struct wf_graph *g, wf_ref r, uint64_t *ret)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	enum wf_kind kind = wf_kind_of(g, r);
	if (kind == WF_STR || kind == WF_PYSTR || kind == WF_BYTES || kind == WF_BYTEARRAY) {
		*ret = wf_string_size(g, r);
		return 0;
	}
	int failed = wf_value_text(g, r, &text);
	if (failed == 0)
		*ret = text.len;
	wf_buffer_free(&text);
	return failed;
}

bool wf_value_is_settable(const struct wf_graph *g, wf_ref r)
{
	wf_ref inner;
	switch (wf_value_meaning(g, r, &inner)) {
	case WF_MEANS_PATH:
	case WF_MEANS_TIME:
	case WF_MEANS_NUMPY_DTYPE:
	case WF_MEANS_LAYOUT:
	case WF_MEANS_BYTES_FILE:
	case WF_MEANS_TEXT_FILE:
	case WF_MEANS_LIST:
	case WF_MEANS_ARRAY:
		return false;
	case WF_MEANS_NUMPY_SCALAR:
		return numpy_form(g, r) != WF_VALUE_RAW;
	default:
		return wf_value_sequence(g, r) == WF_NIL || !wf_value_has_numpy(g, r);
	}
}
