/* SPDX-License-Identifier: MIT */
/* Output of the pickle writer: bytes, memo, numbers. */
#include "codec/pickle/emit.h"

#include <errno.h>
#include <math.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/number.h"
#include "codec/bytes/util.h"

/* ---- bytes ---- */

void wf_emit_fail(struct pickle_out *o, int code)
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
		wf_emit_fail(o, wf_fail(o->err, rc, "writing a pickle failed: %s", strerrordesc_np(-rc)));
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

void wf_emit_u8(struct pickle_out *o, uint8_t op, uint8_t v)
{
	unsigned char bytes[2] = {op, v};
	wf_emit(o, bytes, sizeof bytes);
}

void wf_emit_u32(struct pickle_out *o, uint8_t op, uint32_t v)
{
	wf_emit_op(o, op);
	wf_emit(o, &v, sizeof v);
}

void wf_emit_u64(struct pickle_out *o, uint8_t op, uint64_t v)
{
	wf_emit_op(o, op);
	wf_emit(o, &v, sizeof v);
}

/* ---- memo ---- */

/* A line of protocol 0. */
static void emit_line(struct pickle_out *o, uint8_t op, const char *text)
{
	wf_emit_op(o, op);
	wf_emit(o, text, strlen(text));
	wf_emit(o, "\n", 1);
}

static void emit_index(struct pickle_out *o, uint32_t index, uint8_t text, uint8_t narrow, uint8_t wide)
{
	char digits[16];

	snprintf(digits, sizeof digits, "%" PRIu32, index);
	if (o->protocol == 0)
		emit_line(o, text, digits);
	else if (index < 256)
		wf_emit_u8(o, narrow, (uint8_t)index);
	else
		wf_emit_u32(o, wide, index);
}

void wf_emit_put_index(struct pickle_out *o)
{
	uint32_t index = o->next_memo++;

	if (o->protocol >= 4)
		wf_emit_op(o, OP_MEMOIZE);
	else
		emit_index(o, index, OP_PUT, OP_BINPUT, OP_LONG_BINPUT);
}

void wf_emit_get_index(struct pickle_out *o, uint32_t index)
{
	emit_index(o, index, OP_GET, OP_BINGET, OP_LONG_BINGET);
}

bool wf_emit_is_memoised(const struct pickle_out *o, wf_ref r)
{
	return !wf_is_constant(o->g, r) && o->memo[r];
}

void wf_emit_put(struct pickle_out *o, wf_ref r)
{
	wf_emit_put_index(o);
	if (r)
		o->memo[r] = o->next_memo;
}

void wf_emit_get(struct pickle_out *o, wf_ref r)
{
	wf_emit_get_index(o, o->memo[r] - 1);
}

/* ---- numbers ---- */

/* Python reads at most 4300 digits from text. A longer int has the opcode of protocol 2 in the earlier ones, too: no
 * reader holds opcodes to the protocol that a pickle says it has. */
#define MAX_DECIMAL_BYTES 1700u

static void emit_long_bytes(struct pickle_out *o, const void *bytes, size_t len)
{
	if (len < 256)
		wf_emit_u8(o, OP_LONG1, (uint8_t)len);
	else
		wf_emit_u32(o, OP_LONG4, (uint32_t)len);
	wf_emit(o, bytes, len);
}

void wf_emit_bool(struct pickle_out *o, bool v)
{
	if (o->protocol >= 2)
		wf_emit_op(o, v ? OP_NEWTRUE : OP_NEWFALSE);
	else
		emit_line(o, OP_INT, v ? "01" : "00");
}

void wf_emit_int(struct pickle_out *o, int64_t v)
{
	bool narrow = v >= INT32_MIN && v <= INT32_MAX;
	char digits[32];

	if (o->protocol == 0 || (o->protocol == 1 && !narrow)) {
		snprintf(digits, sizeof digits, narrow ? "%" PRId64 : "%" PRId64 "L", v);
		emit_line(o, narrow ? OP_INT : OP_LONG, digits);
	} else if (v >= 0 && v <= 0xff) {
		wf_emit_u8(o, OP_BININT1, (uint8_t)v);
	} else if (v >= 0 && v <= 0xffff) {
		unsigned char bytes[3] = {OP_BININT2, (unsigned char)v, (unsigned char)(v >> 8)};
		wf_emit(o, bytes, sizeof bytes);
	} else if (narrow) {
		wf_emit_u32(o, OP_BININT, (uint32_t)v);
	} else {
		size_t len = 8;
		while (v >> (8 * len - 9) == 0 || v >> (8 * len - 9) == -1)
			len--;
		emit_long_bytes(o, &v, len);
	}
}

/* Little-endian two's complement to decimal, back to front; text has room for 3 digits a byte and a sign. */
static char *decimal(const char *bytes, size_t len, unsigned char *magnitude, char *end)
{
	bool negative = len > 0 && bytes[len - 1] < 0;
	unsigned int carry = negative;

	for (size_t i = 0; i < len; i++) {
		carry += (unsigned char)(negative ? ~bytes[i] : bytes[i]);
		magnitude[i] = (unsigned char)carry;
		carry >>= 8;
	}
	*--end = '\0';
	*--end = 'L';
	while (len > 0 && magnitude[len - 1] == 0)
		len--;
	while (len > 0) {
		unsigned int rest = 0;
		for (size_t i = len; i-- > 0;) {
			rest = rest << 8 | magnitude[i];
			magnitude[i] = (unsigned char)(rest / 10);
			rest %= 10;
		}
		*--end = (char)('0' + rest);
		while (len > 0 && magnitude[len - 1] == 0)
			len--;
	}
	if (negative)
		*--end = '-';
	return end;
}

void wf_emit_long(struct pickle_out *o, wf_ref r)
{
	unsigned char magnitude[MAX_DECIMAL_BYTES];
	char text[3 * MAX_DECIMAL_BYTES + 3];
	size_t len;
	const char *bytes = wf_bytes(o->g, r, &len);

	if (o->protocol < 2 && len <= MAX_DECIMAL_BYTES)
		emit_line(o, OP_LONG, decimal(bytes, len, magnitude, text + sizeof text));
	else
		emit_long_bytes(o, bytes, len);
}

void wf_emit_float(struct pickle_out *o, double v)
{
	uint64_t bits;
	char digits[40];

	memcpy(&bits, &v, sizeof bits);
	if (o->protocol > 0) {
		wf_emit_u64(o, OP_BINFLOAT, __builtin_bswap64(bits));
		return;
	}
	wf_double_text(v, digits);
	/* as Python's repr has it, where JSON has other words */
	emit_line(o, OP_FLOAT, isfinite(v) ? digits : isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}
