#include "value.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"
#include "tensor.h"
#include "util.h"
#include "value_inner.h"

#define MAX_DEPTH 64 /* of nested lists that are shown as one JSON text; deeper ones are directories */

/* ---- numbers ---- */

void wf_double_text(double v, char *buf)
{
	char digits[32];
	int precision = 0;
	if (isnan(v) || isinf(v)) {
		strcpy(buf, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
		return;
	}
	do /* the fewest digits that read back to the same double: never more than 17 */
		snprintf(digits, sizeof digits, "%.*e", precision, v);
	while (strtod(digits, NULL) != v && ++precision < 17);
	/* laid out as Python's repr: plain from 1e-4 up to 1e16, with at least one digit behind the point */
	int exponent = atoi(strchr(digits, 'e') + 1);
	if (exponent < -4 || exponent >= 16) {
		char *e = strchr(digits, 'e');
		snprintf(buf, 32, "%.*se%c%02d", (int)(e - digits), digits, exponent < 0 ? '-' : '+', abs(exponent));
		return;
	}
	int decimals = precision - exponent;
	snprintf(buf, 32, "%.*f", decimals > 0 ? decimals : 1, v);
}

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

/* ---- what a call stands for ---- */

/* GLOBALs whose call with one list argument is a set or a list-like value. */
static bool is_builtin(const struct wf_graph *g, wf_ref func, const char *name)
{
	return wf_is_global(g, func, "__builtin__", name) || wf_is_global(g, func, "builtins", name);
}

enum wf_meaning wf_value_meaning(const struct wf_graph *g, wf_ref r, wf_ref *ret_inner)
{
	wf_ref func = wf_call_func(g, r), args = wf_call_args(g, r);
	uint32_t n;
	wf_elements(g, args, &n);
	*ret_inner = wf_element(g, args, 0);
	if (!wf_is(g, r, WF_CALL) || wf_call_state(g, r) != WF_NIL || wf_call_dict(g, r) != WF_NIL)
		return wf_is(g, r, WF_GLOBAL) && wf_dtype_from_global(g, r) != WF_DTYPE_INVALID ? WF_MEANS_DTYPE
												: WF_MEANS_ITSELF;
	if ((is_builtin(g, func, "set") || is_builtin(g, func, "frozenset")) && n <= 1)
		return WF_MEANS_SET;
	if (wf_is_global(g, func, "torch", "Size") && n == 1)
		return WF_MEANS_SIZE;
	if (is_builtin(g, func, "complex") && n == 2)
		return WF_MEANS_COMPLEX;
	if (wf_is_global(g, func, "_codecs", "encode") && n == 2 && wf_is(g, *ret_inner, WF_STR) &&
	    wf_str_equal(g, wf_element(g, args, 1), "latin1"))
		return WF_MEANS_LATIN1;
	if (is_builtin(g, func, "bytes") && n == 0)
		return WF_MEANS_EMPTY_BYTES;
	if (is_builtin(g, func, "bytearray") && n <= 1)
		return WF_MEANS_BYTEARRAY;
	if (wf_is_global(g, func, "torch", "device") && n >= 1)
		return WF_MEANS_DEVICE;
	if ((wf_is_global(g, func, "numpy.core.multiarray", "scalar") ||
	     wf_is_global(g, func, "numpy._core.multiarray", "scalar")) &&
	    n == 2)
		return WF_MEANS_NUMPY_SCALAR;
	return WF_MEANS_ITSELF;
}

/* The bytes of a latin-1 string that _codecs.encode would make. */
static int append_latin1(const struct wf_graph *g, wf_ref str, struct wf_buffer *out)
{
	uint64_t size = wf_string_size(g, str);
	if (size > WF_VALUE_MAX_BYTES)
		return -E2BIG;
	cleanup_free unsigned char *s = malloc(size + 1);
	if (!s)
		return -ENOMEM;
	int r = wf_string_read(g, str, 0, s, size);
	for (uint64_t i = 0; i < size && r == 0; i++) {
		if (s[i] < 0x80)
			wf_buffer_putc(out, (char)s[i]);
		else if ((s[i] == 0xc2 || s[i] == 0xc3) && i + 1 < size && (s[i + 1] & 0xc0) == 0x80) {
			wf_buffer_putc(out, (char)((s[i] & 3) << 6 | (s[i + 1] & 0x3f)));
			i++;
		} else
			r = -EUCLEAN;
	}
	return r < 0 ? r : wf_buffer_status(out);
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

static bool half_to_double(const unsigned char *p, double *ret)
{
	unsigned int v = wf_le16(p), exponent = v >> 10 & 31, mantissa = v & 1023;
	double x = exponent == 31 ? (mantissa ? NAN : INFINITY)
		   : exponent     ? ldexp(1024 + mantissa, (int)exponent - 25)
				  : ldexp(mantissa, -24);
	*ret = v & 0x8000 ? -x : x;
	return true;
}

/* scalar(dtype, bytes): the number it stands for */
static int numpy_scalar_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	struct wf_buffer raw = WF_BUFFER_INIT;
	wf_ref dtype = wf_element(g, wf_call_args(g, r), 0), data = wf_element(g, wf_call_args(g, r), 1);
	wf_ref inner;
	bool big;
	enum wf_meaning meaning = wf_value_meaning(g, data, &inner);
	int failed = meaning == WF_MEANS_LATIN1 ? append_latin1(g, inner, &raw) : append_string(g, data, &raw);
	wf_ref name = wf_element(g, wf_call_args(g, dtype), 0);
	size_t len;
	const char *text = wf_is(g, name, WF_STR) || wf_is(g, name, WF_PYSTR) ? wf_bytes(g, name, &len) : NULL;
	const struct wf_dtype_info *info = wf_dtype_info(text ? wf_dtype_from_numpy(text, &big) : WF_DTYPE_INVALID);
	unsigned char b[16] = {0};
	char number[40];
	if (failed == 0 && (!info->size_bytes || raw.len != info->size_bytes))
		failed = -EINVAL;
	if (failed == 0) {
		big = wf_str_equal(g, wf_element(g, wf_call_state(g, dtype), 1), ">");
		for (size_t i = 0; i < raw.len; i++)
			b[i] = (unsigned char)raw.data[big ? raw.len - 1 - i : i];
	}
	wf_buffer_free(&raw);
	if (failed < 0)
		return failed;
	double d;
	float f;
	int64_t v = 0;
	uint64_t u = 0;
	char kind = info->numpy_descr ? info->numpy_descr[1] : '?';
	if (kind == 'b') {
		wf_buffer_puts(out, b[0] ? "true" : "false");
		return 0;
	}
	memcpy(&u, b, info->size_bytes < 8 ? info->size_bytes : 8);
	if (kind == 'i') {
		int shift = 64 - 8 * info->size_bytes;
		v = (int64_t)(u << shift) >> shift;
		wf_buffer_printf(out, "%lld", (long long)v);
		return 0;
	}
	if (kind == 'u') {
		wf_buffer_printf(out, "%llu", (unsigned long long)u);
		return 0;
	}
	if (kind != 'f')
		return -EINVAL;
	if (info->size_bytes == 8)
		memcpy(&d, b, 8);
	else if (info->size_bytes == 4) {
		memcpy(&f, b, 4);
		d = (double)f;
	} else
		half_to_double(b, &d);
	wf_double_text(d, number);
	wf_buffer_puts(out, number);
	return 0;
}

/* ---- which form ---- */

static bool plain_scalar(const struct wf_graph *g, wf_ref r)
{
	switch (wf_kind_of(g, r)) {
	case WF_NONE:
	case WF_BOOL:
	case WF_INT:
	case WF_LONG:
	case WF_FLOAT:
	case WF_STR:
	case WF_PYSTR:
		return r != WF_NIL;
	default:
		return false;
	}
}

/* The list, tuple or set whose elements a JSON text shows; WF_NIL for anything else. */
static wf_ref json_sequence(const struct wf_graph *g, wf_ref r)
{
	wf_ref inner;
	switch (wf_kind_of(g, r)) {
	case WF_LIST:
	case WF_TUPLE:
	case WF_SET:
	case WF_FROZENSET:
		return r;
	case WF_CALL: {
		enum wf_meaning m = wf_value_meaning(g, r, &inner);
		if (m == WF_MEANS_SIZE || m == WF_MEANS_SET)
			return inner == WF_NIL ? wf_call_args(g, r) : inner;
		return WF_NIL;
	}
	default:
		return WF_NIL;
	}
}

struct level {
	wf_ref sequence;
	uint32_t at;
};

/* How many elements a text may show. Shared lists expand in it: what is not shared takes memory in the graph, so that far
 * more than that is a small pickle blowing up; and when that was met, the next lists are given up sooner. */
static uint64_t max_elements(const struct wf_graph *g)
{
	uint64_t limit = WF_MIN(WF_VALUE_MAX_BYTES / 4, 65536 + 4 * wf_graph_bytes(g));
	return WF_MAX(limit >> WF_MIN(wf_graph_expansions(g), 12u), 4096u);
}

/* Walks the elements of nested sequences; with out NULL only tells whether all of them are plain. */
static int walk_json(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	struct level stack[MAX_DEPTH];
	int depth = 0;
	uint64_t visited = 0, limit = max_elements(g);
	stack[0] = (struct level){json_sequence(g, r), 0};
	if (out)
		wf_buffer_putc(out, '[');
	while (depth >= 0) {
		struct level *l = &stack[depth];
		uint32_t n;
		const wf_ref *e = wf_elements(g, l->sequence, &n);
		if (l->at == n) {
			if (out)
				wf_buffer_putc(out, ']');
			depth--;
			continue;
		}
		if (++visited > limit || (out && out->len > WF_VALUE_MAX_BYTES)) {
			wf_graph_note_expansion(g);
			return -E2BIG;
		}
		wf_ref element = e[l->at++];
		if (out && l->at > 1)
			wf_buffer_puts(out, ", ");
		wf_ref inner = json_sequence(g, element);
		if (inner != WF_NIL) {
			if (++depth == MAX_DEPTH)
				return -EINVAL;
			stack[depth] = (struct level){inner, 0};
			if (out)
				wf_buffer_putc(out, '[');
		} else if (!plain_scalar(g, element)) {
			return -EINVAL;
		} else if (out) {
			int failed = wf_value_scalar(g, element, out);
			if (failed < 0)
				return failed;
		}
	}
	return out ? wf_buffer_status(out) : 0;
}

enum wf_value_form wf_value_form_of(const struct wf_graph *g, wf_ref r)
{
	wf_ref inner;
	struct wf_buffer scratch = WF_BUFFER_INIT;
	int failed;
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
	if (json_sequence(g, r) != WF_NIL)
		return walk_json(g, r, NULL) == 0 ? WF_VALUE_JSON : WF_VALUE_NOT;
	switch (wf_value_meaning(g, r, &inner)) {
	case WF_MEANS_COMPLEX:
	case WF_MEANS_DEVICE:
	case WF_MEANS_DTYPE:
		return WF_VALUE_TEXT;
	case WF_MEANS_NUMPY_SCALAR:
		failed = numpy_scalar_text(g, r, &scratch);
		wf_buffer_free(&scratch);
		return failed == 0 ? WF_VALUE_TEXT : WF_VALUE_NOT;
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

static void complex_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	char re[32], im[32];
	double x = wf_float_value(g, wf_element(g, wf_call_args(g, r), 0)),
	       y = wf_float_value(g, wf_element(g, wf_call_args(g, r), 1));
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

int wf_value_text(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	wf_ref inner;
	enum wf_value_form form = wf_value_form_of(g, r);
	enum wf_meaning meaning = wf_value_meaning(g, r, &inner);
	int failed = 0;
	int64_t index;
	if (form == WF_VALUE_NOT)
		return -EINVAL;
	if (form == WF_VALUE_RAW) {
		if (meaning == WF_MEANS_EMPTY_BYTES || (meaning == WF_MEANS_BYTEARRAY && inner == WF_NIL))
			return 0;
		if (meaning == WF_MEANS_BYTEARRAY && wf_value_meaning(g, inner, &r) != WF_MEANS_LATIN1)
			return append_string(g, inner, out);
		if (meaning == WF_MEANS_BYTEARRAY || meaning == WF_MEANS_LATIN1)
			return append_latin1(g, meaning == WF_MEANS_LATIN1 ? inner : r, out);
		return append_string(g, r, out);
	}
	if (form == WF_VALUE_JSON)
		failed = walk_json(g, r, out);
	else if (meaning == WF_MEANS_COMPLEX)
		complex_text(g, r, out);
	else if (meaning == WF_MEANS_NUMPY_SCALAR)
		failed = numpy_scalar_text(g, r, out);
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
