/* SPDX-License-Identifier: MIT */
/* What a value is in text: its form, its content, its size. */
#include "codec/value/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/object/dtype.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"
#include "codec/value/inner.h"

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

/* The parts joined as the class that is named does it. */
static void path_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	const char *separator = strstr(wf_global_name(g, wf_call_func(g, r)), "Windows") ? "\\" : "/";
	uint32_t n;
	const wf_ref *e = wf_elements(g, wf_call_args(g, r), &n);
	for (uint32_t i = 0; i < n && out->len < WF_VALUE_MAX_BYTES; i++) {
		wf_value_string(g, e[i], out);
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
		return wf_value_string(g, inner, out);
	case WF_MEANS_NUMPY_SCALAR:
		return wf_value_numpy_text(g, r, out);
	default:
		return wf_value_string(g, r, out);
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
		failed = wf_value_string(g, inner, out);
	else if (meaning == WF_MEANS_NUMPY_DTYPE)
		wf_numpy_dtype_descr(g, r, out);
	else if (meaning == WF_MEANS_DTYPE)
		wf_buffer_printf(out, "torch.%s", wf_global_name(g, r));
	else if (meaning == WF_MEANS_DEVICE) {
		wf_value_string(g, inner, out);
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
