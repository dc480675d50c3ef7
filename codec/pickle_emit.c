/* Output of the pickle writer. The forms of bytes, bytearrays and nested names are those of CPython's protocol 2:
 *
 *   b'\xe4'         GLOBAL _codecs encode, BINUNICODE of the bytes as Latin-1, 'latin1', TUPLE2, REDUCE
 *   b''             GLOBAL __builtin__ bytes, EMPTY_TUPLE, REDUCE
 *   bytearray(b)    GLOBAL __builtin__ bytearray, b, TUPLE1, REDUCE
 *   Outer.Inner     GLOBAL __builtin__ getattr, Outer, 'Inner', TUPLE2, REDUCE
 */
#include "pickle_emit.h"

#include <errno.h>

#include "util.h"

/* ---- bytes ---- */

static void fail(struct pickle_out *o, int code)
{
	if (!o->failed)
		o->failed = code;
}

int wf_emit_flush(struct pickle_out *o)
{
	if (o->failed || o->len == 0)
		return o->failed;
	int rc = o->hooks->write(o->hooks->ctx, o->buf, o->len);
	o->len = 0;
	if (rc < 0)
		fail(o, wf_fail(o->err, rc, "writing a pickle failed: %s", strerrordesc_np(-rc)));
	return o->failed;
}

void wf_emit(struct pickle_out *o, const void *data, size_t len)
{
	const unsigned char *p = data;

	while (len && !o->failed) {
		size_t n = WF_MIN(len, PICKLE_OUT_BYTES - o->len);
		memcpy(o->buf + o->len, p, n);
		o->len += n;
		p += n;
		len -= n;
		if (o->len == PICKLE_OUT_BYTES)
			wf_emit_flush(o);
	}
}

void wf_emit_op(struct pickle_out *o, uint8_t op)
{
	wf_emit(o, &op, 1);
}

static void op_u8(struct pickle_out *o, uint8_t op, uint8_t v)
{
	unsigned char bytes[2] = {op, v};
	wf_emit(o, bytes, sizeof bytes);
}

static void op_u32(struct pickle_out *o, uint8_t op, uint32_t v)
{
	wf_emit_op(o, op);
	wf_emit(o, &v, sizeof v);
}

static void op_u64(struct pickle_out *o, uint8_t op, uint64_t v)
{
	wf_emit_op(o, op);
	wf_emit(o, &v, sizeof v);
}

/* ---- memo ---- */

static void put_index(struct pickle_out *o)
{
	uint32_t index = o->next_memo++;

	if (index < 256)
		op_u8(o, OP_BINPUT, (uint8_t)index);
	else
		op_u32(o, OP_LONG_BINPUT, index);
}

static void get_index(struct pickle_out *o, uint32_t index)
{
	if (index < 256)
		op_u8(o, OP_BINGET, (uint8_t)index);
	else
		op_u32(o, OP_LONG_BINGET, index);
}

bool wf_emit_is_memoised(const struct pickle_out *o, wf_ref r)
{
	return !wf_is_constant(o->g, r) && o->memo[r];
}

void wf_emit_put(struct pickle_out *o, wf_ref r)
{
	put_index(o);
	if (r)
		o->memo[r] = o->next_memo;
}

void wf_emit_get(struct pickle_out *o, wf_ref r)
{
	get_index(o, o->memo[r] - 1);
}

/* ---- numbers ---- */

static void emit_long_bytes(struct pickle_out *o, const void *bytes, size_t len)
{
	if (len < 256)
		op_u8(o, OP_LONG1, (uint8_t)len);
	else
		op_u32(o, OP_LONG4, (uint32_t)len);
	wf_emit(o, bytes, len);
}

void wf_emit_int(struct pickle_out *o, int64_t v)
{
	if (v >= 0 && v <= 0xff) {
		op_u8(o, OP_BININT1, (uint8_t)v);
	} else if (v >= 0 && v <= 0xffff) {
		unsigned char bytes[3] = {OP_BININT2, (unsigned char)v, (unsigned char)(v >> 8)};
		wf_emit(o, bytes, sizeof bytes);
	} else if (v >= INT32_MIN && v <= INT32_MAX) {
		op_u32(o, OP_BININT, (uint32_t)v);
	} else {
		size_t len = 8;
		while (v >> (8 * len - 9) == 0 || v >> (8 * len - 9) == -1)
			len--;
		emit_long_bytes(o, &v, len);
	}
}

void wf_emit_long(struct pickle_out *o, wf_ref r)
{
	size_t len;
	const char *bytes = wf_bytes(o->g, r, &len);

	emit_long_bytes(o, bytes, len);
}

void wf_emit_float(struct pickle_out *o, double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof bits);
	op_u64(o, OP_BINFLOAT, __builtin_bswap64(bits));
}

/* ---- helpers ---- */

static void emit_text(struct pickle_out *o, const char *s, size_t len)
{
	op_u32(o, OP_BINUNICODE, (uint32_t)len);
	wf_emit(o, s, len);
}

void wf_emit_helper(struct pickle_out *o, enum pickle_helper h)
{
	static const char *const lines[HELPER_COUNT] = {
		[HELPER_ENCODE] = "c_codecs\nencode\n",       [HELPER_LATIN1] = "latin1",
		[HELPER_BYTES] = "c__builtin__\nbytes\n",     [HELPER_BYTEARRAY] = "c__builtin__\nbytearray\n",
		[HELPER_SET] = "c__builtin__\nset\n",         [HELPER_FROZENSET] = "c__builtin__\nfrozenset\n",
		[HELPER_GETATTR] = "c__builtin__\ngetattr\n",
	};

	if (o->helpers[h]) {
		get_index(o, o->helpers[h] - 1);
		return;
	}
	if (h == HELPER_LATIN1)
		emit_text(o, lines[h], strlen(lines[h]));
	else
		wf_emit(o, lines[h], strlen(lines[h]));
	put_index(o);
	o->helpers[h] = o->next_memo;
}

/* ---- strings ---- */

#define PIECE_BYTES 16384u

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
			fail(o, wf_fail(o->err, rc, "reading a long string of the pickle failed: %s",
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

static void take_latin1(struct pickle_out *o, void *ctx, const char *data, size_t len)
{
	unsigned char out[2 * PIECE_BYTES];
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];
		if (c < 0x80) {
			out[n++] = c;
			continue;
		}
		out[n++] = 0xc0 | c >> 6;
		out[n++] = 0x80 | (c & 0x3f);
	}
	wf_emit(o, out, n);
}

/* memoised_as is WF_NIL for the bytes inside a bytearray. */
static void emit_bytes(struct pickle_out *o, wf_ref r, wf_ref memoised_as)
{
	uint64_t size = wf_string_size(o->g, r);
	uint64_t utf8_size = size;

	if (size == 0) {
		wf_emit_helper(o, HELPER_BYTES);
		wf_emit_op(o, OP_EMPTY_TUPLE);
		wf_emit_op(o, OP_REDUCE);
		wf_emit_put(o, memoised_as);
		return;
	}
	each_piece(o, r, take_count, &utf8_size);
	if (utf8_size > UINT32_MAX) { /* past what protocol 2 can say */
		op_u64(o, OP_BINBYTES8, size);
		each_piece(o, r, take_plain, NULL);
		wf_emit_put(o, memoised_as);
		return;
	}
	wf_emit_helper(o, HELPER_ENCODE);
	op_u32(o, OP_BINUNICODE, (uint32_t)utf8_size);
	each_piece(o, r, take_latin1, NULL);
	put_index(o);
	wf_emit_helper(o, HELPER_LATIN1);
	wf_emit_op(o, OP_TUPLE2);
	put_index(o);
	wf_emit_op(o, OP_REDUCE);
	wf_emit_put(o, memoised_as);
}

static void emit_bytearray(struct pickle_out *o, wf_ref r)
{
	wf_emit_helper(o, HELPER_BYTEARRAY);
	if (wf_string_size(o->g, r) == 0) {
		wf_emit_op(o, OP_EMPTY_TUPLE);
	} else {
		emit_bytes(o, r, WF_NIL);
		wf_emit_op(o, OP_TUPLE1);
		put_index(o);
	}
	wf_emit_op(o, OP_REDUCE);
	wf_emit_put(o, r);
}

void wf_emit_string(struct pickle_out *o, wf_ref r)
{
	uint64_t size = wf_string_size(o->g, r);

	switch (wf_kind_of(o->g, r)) {
	case WF_BYTES:
		emit_bytes(o, r, r);
		return;
	case WF_BYTEARRAY:
		emit_bytearray(o, r);
		return;
	case WF_PYSTR:
		if (size < 256)
			op_u8(o, OP_SHORT_BINSTRING, (uint8_t)size);
		else if (size <= INT32_MAX)
			op_u32(o, OP_BINSTRING, (uint32_t)size);
		else
			fail(o, wf_fail(o->err, -EOPNOTSUPP, "a Python 2 string of %llu bytes is too long for a pickle",
					(unsigned long long)size));
		break;
	default:
		if (size <= UINT32_MAX)
			op_u32(o, OP_BINUNICODE, (uint32_t)size);
		else
			op_u64(o, OP_BINUNICODE8, size);
	}
	each_piece(o, r, take_plain, NULL);
	wf_emit_put(o, r);
}

/* ---- globals ---- */

static void emit_plain_global(struct pickle_out *o, const char *module, const char *name, size_t len)
{
	wf_emit_op(o, OP_GLOBAL);
	wf_emit(o, module, strlen(module));
	wf_emit(o, "\n", 1);
	wf_emit(o, name, len);
	wf_emit(o, "\n", 1);
}

void wf_emit_global(struct pickle_out *o, wf_ref r)
{
	const char *module = wf_global_module(o->g, r), *name = wf_global_name(o->g, r);
	size_t dots = 0;

	if (strchr(module, '\n') || strchr(name, '\n')) {
		fail(o,
		     wf_fail(o->err, -EOPNOTSUPP, "a class or function whose name holds a newline cannot be written"));
		return;
	}
	for (const char *s = name; wf_global_nested(o->g, r) && *s; s++)
		dots += *s == '.';
	for (size_t i = 0; i < dots; i++)
		wf_emit_helper(o, HELPER_GETATTR);
	size_t len = dots ? strcspn(name, ".") : strlen(name);
	emit_plain_global(o, module, name, len);
	for (; dots; dots--) {
		put_index(o);
		name += len + 1;
		len = strcspn(name, ".");
		emit_text(o, name, len);
		put_index(o);
		wf_emit_op(o, OP_TUPLE2);
		put_index(o);
		wf_emit_op(o, OP_REDUCE);
	}
	wf_emit_put(o, r);
}
