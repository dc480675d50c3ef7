/* SPDX-License-Identifier: MIT */
/* Takes the dtype objects of NumPy apart. */
#include "codec/tensor/numpy_dtype.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"

#define MAX_NESTING 8         /* of dtypes inside dtypes */
#define MAX_DESCR_BYTES 4096u /* of one description: shared dtypes expand in it */
#define MAX_ITEM_BYTES (1u << 30)

/* ---- bytes ---- */

/* dill has names of its own for them: _load_type('bytearray') is the class. */
static bool is_builtin(const struct wf_graph *g, wf_ref r, const char *name)
{
	wf_ref func = wf_call_func(g, r);
	if (wf_call_is(g, func, "dill._dill", "_load_type"))
		return wf_str_equal(g, wf_element(g, wf_call_args(g, func), 0), name);
	return wf_call_is(g, r, "__builtin__", name) || wf_call_is(g, r, "builtins", name);
}

static wf_ref bytes_of_call(const struct wf_graph *g, wf_ref r)
{
	uint32_t n;
	const wf_ref *e = wf_elements(g, wf_call_args(g, r), &n);

	if (wf_call_is(g, r, "_codecs", "encode") && n == 2 && wf_str_equal(g, e[1], "latin1"))
		return wf_is(g, e[0], WF_STR) ? e[0] : WF_NIL;
	return is_builtin(g, r, "bytes") && n == 0 ? r : WF_NIL;
}

wf_ref wf_bytes_object(const struct wf_graph *g, wf_ref r)
{
	uint32_t n;
	bool array = is_builtin(g, r, "bytearray");
	const wf_ref *e = wf_elements(g, wf_call_args(g, r), &n);

	if (wf_is(g, r, WF_BYTES) || wf_is(g, r, WF_BYTEARRAY) || wf_is(g, r, WF_PYSTR))
		return r;
	if (array && n == 1)
		return wf_is(g, e[0], WF_BYTES) ? e[0] : bytes_of_call(g, e[0]);
	if (array && n == 2 && wf_str_equal(g, e[1], "latin-1"))
		return wf_is(g, e[0], WF_STR) ? e[0] : WF_NIL;
	return bytes_of_call(g, r);
}

int wf_bytes_read(const struct wf_graph *g, wf_ref r, uint64_t max, struct wf_buffer *out)
{
	wf_ref object = wf_bytes_object(g, r);
	uint64_t size = wf_string_size(g, object);
	if (object == WF_NIL)
		return -EINVAL;
	if (size / 2 > max)
		return -E2BIG;
	cleanup_free unsigned char *s = malloc(size + 1);
	if (!s)
		return -ENOMEM;
	int failed = size ? wf_string_read(g, object, 0, s, size) : 0;
	if (failed < 0)
		return failed;
	if (!wf_is(g, object, WF_STR)) {
		wf_buffer_append(out, s, size);
		return size > max ? -E2BIG : wf_buffer_status(out);
	}
	for (uint64_t i = 0; i < size; i++) {
		if (s[i] < 0x80)
			wf_buffer_putc(out, (char)s[i]);
		else if ((s[i] == 0xc2 || s[i] == 0xc3) && i + 1 < size && (s[i + 1] & 0xc0) == 0x80) {
			wf_buffer_putc(out, (char)((s[i] & 3) << 6 | (s[i + 1] & 0x3f)));
			i++;
		} else {
			return -EUCLEAN;
		}
	}
	return wf_buffer_status(out);
}

/* ---- dtypes ---- */

static const char *text_of(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_STR) || wf_is(g, r, WF_PYSTR) ? wf_bytes(g, r, NULL) : NULL;
}

/* (None, (b'D', 1, 1, 1)), the ninth part of the state; in old files the unit alone in a dict of metadata. */
static void read_unit(const struct wf_graph *g, wf_ref state, struct wf_numpy_dtype *ret)
{
	struct wf_buffer unit = WF_BUFFER_INIT;
	wf_ref parts = wf_element(g, wf_element(g, state, 8), 1), name = wf_element(g, parts, 0);
	const char *text = text_of(g, name);
	strcpy(ret->unit, "generic");
	ret->step = 1;
	if (text)
		wf_buffer_puts(&unit, text);
	else if (name != WF_NIL)
		wf_bytes_read(g, name, 64, &unit);
	if (unit.len > 0 && unit.len < sizeof ret->unit) {
		memcpy(ret->unit, unit.data, unit.len);
		ret->unit[unit.len] = '\0';
	}
	if (!wf_int_value(g, wf_element(g, parts, 1), &ret->step) || ret->step < 1)
		ret->step = 1;
	wf_buffer_free(&unit);
}

static bool read_size(const char *digits, int64_t unit, int64_t *ret)
{
	char *end;
	int64_t n = strtol(digits, &end, 10);
	*ret = n * unit;
	return *end == '\0' && end != digits && n >= 0 && n <= MAX_ITEM_BYTES / 4;
}

bool wf_numpy_dtype_of(const struct wf_graph *g, wf_ref r, struct wf_numpy_dtype *ret)
{
	if (!wf_call_is(g, r, "numpy", "dtype"))
		return false;
	wf_ref first = wf_element(g, wf_call_args(g, r), 0), state = wf_call_state(g, r),
	       order = wf_element(g, state, 1);
	int64_t size = -1, told;
	const char *text = wf_is_global(g, first, "numpy", "record") ? "V0" : text_of(g, first);
	*ret = (struct wf_numpy_dtype){.step = 1};
	if (!text)
		return false;
	ret->dtype = wf_dtype_from_numpy(text, &ret->big_endian);
	if (strchr("<>|=", text[0]) && text[0])
		text++;
	ret->kind = text[0] == 'a' ? 'S' : text[0] == '?' ? 'b' : text[0];
	if (order != WF_NIL)
		ret->big_endian = wf_str_equal(g, order, ">");
	if (ret->dtype != WF_DTYPE_INVALID) {
		ret->big_endian = ret->big_endian && wf_dtype_info(ret->dtype)->swap_bytes > 1;
		ret->item_bytes = wf_dtype_info(ret->dtype)->size_bytes;
		return true;
	}
	if (!text[0] || !strchr("fcUSVMmO", text[0] == 'a' ? 'S' : text[0]))
		return false;
	if (ret->kind == 'O')
		size = 8;
	else if (!read_size(text + 1, ret->kind == 'U' ? 4 : 1, &size))
		return false;
	/* what NumPy itself goes by where the length belongs to the dtype */
	if (strchr("USV", ret->kind) && wf_int_value(g, wf_element(g, state, 5), &told) && told >= 0)
		size = told;
	if (ret->kind == 'M' || ret->kind == 'm')
		read_unit(g, state, ret);
	ret->item_bytes = (uint32_t)size;
	return size >= 0 && size <= MAX_ITEM_BYTES;
}

static void put_unit(const struct wf_numpy_dtype *d, struct wf_buffer *out)
{
	if (!strcmp(d->unit, "generic"))
		return;
	wf_buffer_putc(out, '[');
	if (d->step != 1)
		wf_buffer_printf(out, "%lld", (long long)d->step);
	wf_buffer_printf(out, "%s]", d->unit);
}

void wf_numpy_dtype_name(const struct wf_graph *g, wf_ref r, const struct wf_numpy_dtype *d, struct wf_buffer *out)
{
	bool record = wf_is_global(g, wf_element(g, wf_call_args(g, r), 0), "numpy", "record");
	switch (d->kind) {
	case 'U':
	case 'S':
	case 'V':
	case 'f':
	case 'c':
		wf_buffer_printf(out, "%s%llu",
				 d->kind == 'U'   ? "str"
				 : d->kind == 'S' ? "bytes"
				 : d->kind == 'f' ? "float"
				 : d->kind == 'c' ? "complex"
				 : record         ? "record"
						  : "void",
				 8ull * d->item_bytes);
		return;
	case 'M':
	case 'm':
		wf_buffer_puts(out, d->kind == 'M' ? "datetime64" : "timedelta64");
		put_unit(d, out);
		return;
	default:
		wf_buffer_puts(out, d->kind == 'O' ? "object" : wf_dtype_info(d->dtype)->name);
	}
}

/* ---- descriptions ---- */

static bool put_dtype(const struct wf_graph *g, wf_ref r, bool quoted, unsigned depth, struct wf_buffer *out);

static void put_quoted(const struct wf_graph *g, wf_ref text, struct wf_buffer *out)
{
	size_t len = 0;
	const char *s = text_of(g, text) ? wf_bytes(g, text, &len) : NULL;
	wf_buffer_putc(out, '\'');
	for (size_t i = 0; s && i < len && out->len < MAX_DESCR_BYTES; i++) {
		if (s[i] == '\'' || s[i] == '\\')
			wf_buffer_putc(out, '\\');
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			wf_buffer_printf(out, "\\x%02x", (unsigned char)s[i]);
		else
			wf_buffer_putc(out, s[i]);
	}
	wf_buffer_putc(out, '\'');
}

static void put_padding(int64_t bytes, bool first, struct wf_buffer *out)
{
	wf_buffer_printf(out, "%s('', '|V%lld')", first ? "" : ", ", (long long)bytes);
}

/* [('id', '<i4'), ('', '|V4'), ('score', '<f8')]: where fields leave gaps, NumPy fills them with padding. */
static bool put_fields(const struct wf_graph *g, wf_ref names, wf_ref fields, int64_t size, unsigned depth,
		       struct wf_buffer *out)
{
	uint32_t n;
	int64_t at = 0, offset;
	const wf_ref *e = wf_elements(g, names, &n);
	struct wf_numpy_dtype d;
	wf_buffer_putc(out, '[');
	for (uint32_t i = 0; i < n; i++) {
		const char *name = text_of(g, e[i]);
		wf_ref field = name ? wf_dict_get(g, fields, name) : WF_NIL, dtype = wf_element(g, field, 0);
		if (out->len > MAX_DESCR_BYTES || !wf_numpy_dtype_of(g, dtype, &d) ||
		    !wf_int_value(g, wf_element(g, field, 1), &offset) || offset < at)
			return false;
		if (offset > at)
			put_padding(offset - at, i == 0, out);
		wf_buffer_puts(out, i > 0 || offset > at ? ", (" : "(");
		put_quoted(g, e[i], out);
		wf_buffer_puts(out, ", ");
		if (!put_dtype(g, dtype, true, depth + 1, out))
			return false;
		wf_buffer_putc(out, ')');
		at = offset + d.item_bytes;
	}
	if (size > at)
		put_padding(size - at, n == 0, out);
	wf_buffer_putc(out, ']');
	return true;
}

/* ('<f4', (3,)) after a name, as a list of fields has it */
static bool put_subarray(const struct wf_graph *g, wf_ref part, unsigned depth, struct wf_buffer *out)
{
	uint32_t n;
	int64_t v;
	wf_ref shape = wf_element(g, part, 1);
	const wf_ref *e = wf_elements(g, shape, &n);
	if (!put_dtype(g, wf_element(g, part, 0), true, depth + 1, out))
		return false;
	wf_buffer_puts(out, ", (");
	for (uint32_t i = 0; i < n && i < 64; i++)
		if (wf_int_value(g, e[i], &v))
			wf_buffer_printf(out, "%s%lld", i ? ", " : "", (long long)v);
	wf_buffer_puts(out, n == 1 ? ",)" : ")");
	return true;
}

static bool put_dtype(const struct wf_graph *g, wf_ref r, bool quoted, unsigned depth, struct wf_buffer *out)
{
	struct wf_numpy_dtype d;
	wf_ref state = wf_call_state(g, r), names = wf_element(g, state, 3), fields = wf_element(g, state, 4);
	if (depth > MAX_NESTING || out->len > MAX_DESCR_BYTES || !wf_numpy_dtype_of(g, r, &d))
		return false;
	if (d.kind == 'V' && wf_is(g, names, WF_TUPLE) && wf_is(g, fields, WF_DICT))
		return put_fields(g, names, fields, d.item_bytes, depth, out);
	if (d.kind == 'V' && wf_is(g, wf_element(g, state, 2), WF_TUPLE) && quoted)
		return put_subarray(g, wf_element(g, state, 2), depth, out);
	if (quoted)
		wf_buffer_putc(out, '\'');
	if (d.dtype != WF_DTYPE_INVALID) {
		const char *descr = wf_dtype_info(d.dtype)->numpy_descr;
		wf_buffer_printf(out, "%c%s", d.big_endian ? '>' : descr[0], descr + 1);
	} else {
		bool order = strchr("UMmfc", d.kind) != NULL;
		wf_buffer_printf(out, "%c%c", !order ? '|' : d.big_endian ? '>' : '<', d.kind);
		if (d.kind != 'O')
			wf_buffer_printf(out, "%u", d.kind == 'U' ? d.item_bytes / 4 : d.item_bytes);
		if (d.kind == 'M' || d.kind == 'm')
			put_unit(&d, out);
	}
	if (quoted)
		wf_buffer_putc(out, '\'');
	return true;
}

void wf_numpy_dtype_descr(const struct wf_graph *g, wf_ref r, struct wf_buffer *out)
{
	struct wf_numpy_dtype d;
	size_t before = out->len;
	if (put_dtype(g, r, false, 0, out) || !wf_numpy_dtype_of(g, r, &d))
		return;
	out->len = before; /* too much of it: the bytes of an element are still right */
	wf_buffer_printf(out, "|V%u", d.item_bytes);
}
