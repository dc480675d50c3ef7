/* SPDX-License-Identifier: MIT */
/* Strings, names and the calls that stand for what a protocol has no opcode for. The forms are CPython's:
 *
 *   b'\xe4'         before 3   GLOBAL _codecs encode, BINUNICODE of the bytes as Latin-1, 'latin1', TUPLE2, REDUCE
 *   b''             before 3   GLOBAL __builtin__ bytes, EMPTY_TUPLE, REDUCE
 *   bytearray(b)    before 5   GLOBAL __builtin__ bytearray, b, TUPLE1, REDUCE       (builtins from 3 on)
 *   Outer.Inner     before 4   GLOBAL __builtin__ getattr, Outer, 'Inner', TUPLE2, REDUCE
 *   text            0          UNICODE raw-unicode-escape line, STRING quoted line
 */
#include "codec/pickle/emit.h"

#include <errno.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/bytes/utf8.h"

#define PIECE_BYTES 16384u

/* ---- text ---- */

/* A text under way in raw-unicode-escape: one character may come in two pieces. */
struct escape {
	uint32_t code;
	unsigned left;
};

static void escape_char(struct pickle_out *o, uint32_t c)
{
	char text[12];
	unsigned char byte = (unsigned char)c;

	if (c < 0x100 && c != '\\' && c != '\0' && c != '\n' && c != '\r' && c != 0x1a) {
		wf_emit(o, &byte, 1);
		return;
	}
	snprintf(text, sizeof text, c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned int)c);
	wf_emit(o, text, strlen(text));
}

static void take_escaped(struct pickle_out *o, void *ctx, const char *data, size_t len)
{
	struct escape *e = ctx;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];
		if (e->left > 0) {
			e->code = e->code << 6 | (c & 0x3f);
			e->left--;
		} else {
			e->left = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
			e->code = e->left ? c & (0x3fu >> e->left) : c;
		}
		if (e->left == 0)
			escape_char(o, e->code);
	}
}

static void take_quoted(struct pickle_out *o, void *ctx, const char *data, size_t len)
{
	char text[8];

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];
		bool plain = c >= 0x20 && c < 0x7f && c != '\\' && c != '\'';
		snprintf(text, sizeof text, plain ? "%c" : "\\x%02x", c);
		wf_emit(o, text, strlen(text));
	}
}

static void emit_text_op(struct pickle_out *o, uint64_t len)
{
	if (o->protocol >= 4 && len < 256)
		wf_emit_u8(o, OP_SHORT_BINUNICODE, (uint8_t)len);
	else if (len <= UINT32_MAX)
		wf_emit_u32(o, OP_BINUNICODE, (uint32_t)len);
	else
		wf_emit_u64(o, OP_BINUNICODE8, len);
}

static void emit_text(struct pickle_out *o, const char *s, size_t len)
{
	struct escape e = {0};

	if (o->protocol > 0) {
		emit_text_op(o, len);
		wf_emit(o, s, len);
		return;
	}
	wf_emit_op(o, OP_UNICODE);
	take_escaped(o, &e, s, len);
	wf_emit(o, "\n", 1);
}

/* ---- helpers ---- */

static void emit_plain_global(struct pickle_out *o, const char *module, const char *name, size_t len)
{
	if (o->protocol >= 4) {
		emit_text(o, module, strlen(module));
		wf_emit_put_index(o);
		emit_text(o, name, len);
		wf_emit_put_index(o);
		wf_emit_op(o, OP_STACK_GLOBAL);
		return;
	}
	wf_emit_op(o, OP_GLOBAL);
	wf_emit(o, module, strlen(module));
	wf_emit(o, "\n", 1);
	wf_emit(o, name, len);
	wf_emit(o, "\n", 1);
}

void wf_emit_helper(struct pickle_out *o, enum pickle_helper h)
{
	static const char *const names[HELPER_COUNT] = {
		[HELPER_ENCODE] = "encode",       [HELPER_LATIN1] = "latin1", [HELPER_BYTES] = "bytes",
		[HELPER_BYTEARRAY] = "bytearray", [HELPER_SET] = "set",       [HELPER_FROZENSET] = "frozenset",
		[HELPER_GETATTR] = "getattr",
	};

	if (o->helpers[h]) {
		wf_emit_get_index(o, o->helpers[h] - 1);
		return;
	}
	const char *builtins = o->protocol >= 3 ? "builtins" : "__builtin__";
	if (h == HELPER_LATIN1)
		emit_text(o, names[h], strlen(names[h]));
	else
		emit_plain_global(o, h == HELPER_ENCODE ? "_codecs" : builtins, names[h], strlen(names[h]));
	wf_emit_put_index(o);
	o->helpers[h] = o->next_memo;
}

void wf_emit_tuple(struct pickle_out *o, uint32_t n)
{
	wf_emit_op(o, o->protocol >= 2 && n <= 3 ? (uint8_t)(OP_TUPLE1 + n - 1) : OP_TUPLE);
}

bool wf_emit_tuple_mark(struct pickle_out *o, uint32_t n)
{
	if (o->protocol >= 2 && n <= 3)
		return false;
	wf_emit_op(o, OP_MARK);
	return true;
}

void wf_emit_empty(struct pickle_out *o, uint8_t op)
{
	if (o->protocol > 0) {
		wf_emit_op(o, op);
		return;
	}
	wf_emit_op(o, OP_MARK);
	wf_emit_op(o, op == OP_EMPTY_TUPLE ? OP_TUPLE : op == OP_EMPTY_LIST ? OP_LIST : OP_DICT);
}

/* ---- strings ---- */

/* Passes the bytes of a string on in pieces. */
static void each_piece(struct pickle_out *o, wf_ref r, void (*take)(struct pickle_out *, void *, const char *, size_t),
		       void *ctx)
{
	uint64_t size = wf_string_size(o->g, r);
	char piece[PIECE_BYTES];

	for (uint64_t at = 0; at < size && !o->failed; at += PIECE_BYTES) {
		size_t n = (size_t)WF_MIN(size - at, PIECE_BYTES);
		int rc = wf_string_read(o->g, r, at, piece, n);
		if (rc < 0)
			wf_emit_fail(o, wf_fail(o->err, rc, "reading a long string of the pickle failed: %s",
						strerrordesc_np(-rc)));
		else
			take(o, ctx, piece, n);
	}
}

static void take_plain(struct pickle_out *o, void *ctx, const char *data, size_t len)
{
	wf_emit(o, data, len);
}

static void take_count(struct pickle_out *o, void *ctx, const char *data, size_t len)
{
	uint64_t *size = ctx;

	for (size_t i = 0; i < len; i++)
		*size += (unsigned char)data[i] >> 7;
}

static void take_latin1_escaped(struct pickle_out *o, void *ctx, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		escape_char(o, (unsigned char)data[i]);
}

static void take_latin1(struct pickle_out *o, void *ctx, const char *data, size_t len)
{
	char out[2 * PIECE_BYTES];
	size_t n = 0;

	for (size_t i = 0; i < len; i++) /* no character past U+00FF has more than two bytes */
		n += wf_utf8_put(out + n, (unsigned char)data[i]);
	wf_emit(o, out, n);
}

static void emit_unicode_line(struct pickle_out *o, wf_ref r)
{
	wf_emit_op(o, OP_UNICODE);
	each_piece(o, r, take_latin1_escaped, NULL);
	wf_emit(o, "\n", 1);
}

static void emit_quoted_line(struct pickle_out *o, wf_ref r)
{
	wf_emit_op(o, OP_STRING);
	wf_emit(o, "'", 1);
	each_piece(o, r, take_quoted, NULL);
	wf_emit(o, "'\n", 2);
}

void wf_emit_bytes_as(struct pickle_out *o, uint8_t op, wf_ref r)
{
	uint64_t size = wf_string_size(o->g, r);
	bool text = op == OP_SHORT_BINUNICODE || op == OP_BINUNICODE || op == OP_BINUNICODE8;

	if (op == OP_UNICODE || op == OP_STRING) {
		op == OP_UNICODE ? emit_unicode_line(o, r) : emit_quoted_line(o, r);
		return;
	}
	if (text)
		each_piece(o, r, take_count, &size);
	if (op == OP_SHORT_BINUNICODE && size > UINT8_MAX)
		op = OP_BINUNICODE;
	if (op == OP_SHORT_BINUNICODE || op == OP_SHORT_BINBYTES || op == OP_SHORT_BINSTRING)
		wf_emit_u8(o, op, (uint8_t)size);
	else if (op == OP_BINUNICODE8 || op == OP_BINBYTES8 || op == OP_BYTEARRAY8)
		wf_emit_u64(o, op, size);
	else
		wf_emit_u32(o, op, (uint32_t)size);
	each_piece(o, r, text ? take_latin1 : take_plain, NULL);
}

/* memoised_as is WF_NIL for the bytes inside a bytearray. */
static void emit_binary(struct pickle_out *o, wf_ref r, wf_ref memoised_as)
{
	uint64_t size = wf_string_size(o->g, r);

	if (size < 256 && o->protocol >= 3)
		wf_emit_u8(o, OP_SHORT_BINBYTES, (uint8_t)size);
	else if (size <= UINT32_MAX && o->protocol >= 3)
		wf_emit_u32(o, OP_BINBYTES, (uint32_t)size);
	else
		wf_emit_u64(o, OP_BINBYTES8, size);
	each_piece(o, r, take_plain, NULL);
	wf_emit_put(o, memoised_as);
}

/* _codecs.encode(text, 'latin1') */
static void emit_encoded(struct pickle_out *o, wf_ref r, uint64_t utf8_size)
{
	bool mark;

	wf_emit_helper(o, HELPER_ENCODE);
	mark = wf_emit_tuple_mark(o, 2);
	if (o->protocol == 0) {
		emit_unicode_line(o, r);
	} else {
		wf_emit_u32(o, OP_BINUNICODE, (uint32_t)utf8_size);
		each_piece(o, r, take_latin1, NULL);
	}
	wf_emit_put_index(o);
	wf_emit_helper(o, HELPER_LATIN1);
	wf_emit_op(o, mark ? OP_TUPLE : OP_TUPLE2);
	wf_emit_put_index(o);
	wf_emit_op(o, OP_REDUCE);
}

static void emit_bytes(struct pickle_out *o, wf_ref r, wf_ref memoised_as)
{
	uint64_t size = wf_string_size(o->g, r);
	uint64_t utf8_size = size;

	if (o->protocol >= 3) {
		emit_binary(o, r, memoised_as);
		return;
	}
	if (size == 0) {
		wf_emit_helper(o, HELPER_BYTES);
		wf_emit_empty(o, OP_EMPTY_TUPLE);
		wf_emit_op(o, OP_REDUCE);
		wf_emit_put(o, memoised_as);
		return;
	}
	each_piece(o, r, take_count, &utf8_size);
	if (utf8_size > UINT32_MAX) { /* past what protocol 2 can say */
		emit_binary(o, r, memoised_as);
		return;
	}
	emit_encoded(o, r, utf8_size);
	wf_emit_put(o, memoised_as);
}

static void emit_bytearray(struct pickle_out *o, wf_ref r)
{
	bool mark = false;

	if (o->protocol >= 5) {
		wf_emit_u64(o, OP_BYTEARRAY8, wf_string_size(o->g, r));
		each_piece(o, r, take_plain, NULL);
		wf_emit_put(o, r);
		return;
	}
	wf_emit_helper(o, HELPER_BYTEARRAY);
	if (wf_string_size(o->g, r) == 0) {
		wf_emit_empty(o, OP_EMPTY_TUPLE);
	} else {
		mark = wf_emit_tuple_mark(o, 1);
		emit_bytes(o, r, WF_NIL);
		wf_emit_op(o, mark ? OP_TUPLE : OP_TUPLE1);
		wf_emit_put_index(o);
	}
	wf_emit_op(o, OP_REDUCE);
	wf_emit_put(o, r);
}

static void emit_python2(struct pickle_out *o, wf_ref r)
{
	uint64_t size = wf_string_size(o->g, r);

	if (o->protocol == 0) {
		emit_quoted_line(o, r);
		return;
	}
	if (size < 256)
		wf_emit_u8(o, OP_SHORT_BINSTRING, (uint8_t)size);
	else if (size <= INT32_MAX)
		wf_emit_u32(o, OP_BINSTRING, (uint32_t)size);
	else
		wf_emit_fail(o, wf_fail(o->err, -EOPNOTSUPP, "a Python 2 string of %llu bytes is too long for a pickle",
					(unsigned long long)size));
	each_piece(o, r, take_plain, NULL);
}

void wf_emit_string(struct pickle_out *o, wf_ref r)
{
	struct escape e = {0};

	switch (wf_kind_of(o->g, r)) {
	case WF_BYTES:
		emit_bytes(o, r, r);
		return;
	case WF_BYTEARRAY:
		emit_bytearray(o, r);
		return;
	case WF_PYSTR:
		emit_python2(o, r);
		break;
	default:
		if (o->protocol > 0) {
			emit_text_op(o, wf_string_size(o->g, r));
			each_piece(o, r, take_plain, NULL);
		} else {
			wf_emit_op(o, OP_UNICODE);
			each_piece(o, r, take_escaped, &e);
			wf_emit(o, "\n", 1);
		}
	}
	wf_emit_put(o, r);
}

/* ---- globals ---- */

/* What was made by an edit has the names of Python 2, as protocol 2 has; protocol 3 no longer maps them. */
static const char *module_of(const struct pickle_out *o, const char *module)
{
	if (o->protocol < 3)
		return module;
	return !strcmp(module, "__builtin__") ? "builtins" : !strcmp(module, "copy_reg") ? "copyreg" : module;
}

/* The names of protocol 4 are objects, which the pickle may use elsewhere, too. */
static void emit_stack_global(struct pickle_out *o, wf_ref r)
{
	const char *module = wf_global_module(o->g, r), *name = module_of(o, module);

	if (name != module) {
		emit_text(o, name, strlen(name));
		wf_emit_put_index(o);
	}
	for (int part = name != module; part < 2; part++) {
		wf_ref text = wf_global_part(o->g, r, part);
		if (wf_emit_is_memoised(o, text))
			wf_emit_get(o, text);
		else
			wf_emit_string(o, text);
	}
	wf_emit_op(o, OP_STACK_GLOBAL);
	wf_emit_put(o, r);
}

/* Each step of Outer.Inner before protocol 4: getattr(Outer, 'Inner'). */
static void emit_attributes(struct pickle_out *o, const char *module, const char *name, size_t dots)
{
	bool mark = false;

	for (size_t i = 0; i < dots; i++) {
		wf_emit_helper(o, HELPER_GETATTR);
		mark = wf_emit_tuple_mark(o, 2);
	}
	size_t len = strcspn(name, ".");
	emit_plain_global(o, module, name, len);
	for (; dots; dots--) {
		wf_emit_put_index(o);
		name += len + 1;
		len = strcspn(name, ".");
		emit_text(o, name, len);
		wf_emit_put_index(o);
		wf_emit_op(o, mark ? OP_TUPLE : OP_TUPLE2);
		wf_emit_put_index(o);
		wf_emit_op(o, OP_REDUCE);
	}
}

void wf_emit_global(struct pickle_out *o, wf_ref r)
{
	const char *module = module_of(o, wf_global_module(o->g, r)), *name = wf_global_name(o->g, r);
	size_t dots = 0;

	if (strchr(module, '\n') || strchr(name, '\n')) {
		wf_emit_fail(o, wf_fail(o->err, -EOPNOTSUPP,
					"a class or function whose name holds a newline cannot be written"));
		return;
	}
	if (o->protocol >= 4) {
		emit_stack_global(o, r);
		return;
	}
	for (const char *s = name; wf_global_nested(o->g, r) && *s; s++)
		dots += *s == '.';
	if (dots)
		emit_attributes(o, module, name, dots);
	else
		emit_plain_global(o, module, name, strlen(name));
	wf_emit_put(o, r);
}
