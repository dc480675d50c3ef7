/* SPDX-License-Identifier: MIT */
/* Equality and hash of keys as Python's dict has them, so far as a checkpoint needs it.
 *
 * What Python decides by calling code (keys that are calls) is compared by identity here. So are the rest of a tuple
 * past KEY_LEAVES elements, KEY_BYTES bytes or KEY_DEPTH levels, and strings longer than KEY_BYTES: a few bytes of
 * pickle can name one huge tuple as the key of a million dicts, and the work for a key must not depend on that.
 */
#include "codec/object/object.h"

#include <math.h>

#include "codec/object/inner.h"
#include "codec/bytes/util.h"

#define KEY_DEPTH 4
#define KEY_LEAVES 64
#define KEY_BYTES 4096

/* What one comparison or one hash may still look at. Both spend it in the same order, so equal keys run out of it at
 * the same element, and their hashes agree. */
struct budget {
	unsigned leaves;
	size_t bytes;
};

struct number {
	enum { NUM_INT, NUM_FLOAT, NUM_LONG } type;
	int64_t i;
	double f;
	const char *bytes; /* of a long that is no exact double */
	size_t len;
};

/* The value of a long as a double, if it is exactly one: only then can a float equal it. */
static bool long_as_double(const char *bytes, size_t len, double *ret)
{
	unsigned char mag[136] = {0};
	bool negative = len && bytes[len - 1] & 0x80;

	if (len > 128)
		return false;
	memcpy(mag, bytes, len);
	if (negative) {
		unsigned carry = 1;
		for (size_t i = 0; i < len; i++) {
			carry += (unsigned char)~mag[i];
			mag[i] = (unsigned char)carry;
			carry >>= 8;
		}
		mag[len] = (unsigned char)carry;
	}
	int top = 8 * 129 - 1, low = 0;
	while (top >= 0 && !(mag[top / 8] >> (top % 8) & 1))
		top--;
	while (low < top && !(mag[low / 8] >> (low % 8) & 1))
		low++;
	if (top > 1023 || top - low >= 53)
		return false;
	double v = 0.0;
	for (int bit = top; bit >= low; bit--)
		v = 2 * v + (mag[bit / 8] >> (bit % 8) & 1);
	*ret = ldexp(negative ? -v : v, low);
	return true;
}

/* Ints, bools and floats in one form: equal numbers have equal forms. False for what is none, and for NaN. */
static bool number_of(const struct wf_graph *g, wf_ref r, struct number *ret)
{
	struct number n = {.type = NUM_INT};

	if (wf_int_value(g, r, &n.i)) {
		*ret = n;
		return true;
	}
	switch (wf_kind_of(g, r)) {
	case WF_FLOAT:
		n.f = wf_float_value(g, r);
		if (isnan(n.f))
			return false;
		n.type = NUM_FLOAT;
		if (n.f >= -0x1p63 && n.f < 0x1p63 && n.f == (double)(int64_t)n.f) {
			n.type = NUM_INT;
			n.i = (int64_t)n.f;
		}
		break;
	case WF_LONG:
		n.bytes = wf_bytes(g, r, &n.len);
		n.type = long_as_double(n.bytes, n.len, &n.f) ? NUM_FLOAT : NUM_LONG;
		break;
	default:
		return false;
	}
	*ret = n;
	return true;
}

static bool number_equal(const struct number *a, const struct number *b)
{
	if (a->type != b->type)
		return false;
	if (a->type == NUM_INT)
		return a->i == b->i;
	if (a->type == NUM_FLOAT)
		return a->f == b->f;
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static bool spend(struct budget *left, size_t bytes)
{
	if (left->leaves == 0 || left->bytes < bytes)
		return false;
	left->leaves--;
	left->bytes -= bytes;
	return true;
}

static bool is_text(enum wf_kind kind)
{
	return kind == WF_STR || kind == WF_PYSTR;
}

static bool is_ascii(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] & 0x80)
			return false;
	return true;
}

static bool string_equal(const struct wf_graph *g, wf_ref a, wf_ref b, struct budget *left)
{
	enum wf_kind ka = wf_kind_of(g, a), kb = wf_kind_of(g, b);
	size_t la, lb;
	const char *da = wf_bytes(g, a, &la), *db = wf_bytes(g, b, &lb);

	if (!da || !db || (ka != kb && !(is_text(ka) && is_text(kb))) || la != lb)
		return a == b;
	if (!spend(left, la))
		return a == b;
	return memcmp(da, db, la) == 0 && (ka == kb || is_ascii(da, la));
}

static bool key_equal(const struct wf_graph *g, wf_ref a, wf_ref b, unsigned depth, struct budget *left)
{
	struct number na, nb;

	if (number_of(g, a, &na))
		return number_of(g, b, &nb) &&
		       (na.type != NUM_LONG || spend(left, na.len) ? number_equal(&na, &nb) : a == b);
	switch (wf_kind_of(g, a)) {
	case WF_STR:
	case WF_PYSTR:
	case WF_BYTES:
		return string_equal(g, a, b, left);
	case WF_GLOBAL: {
		wf_ref ma = wf_object_at(g, a)->n, xa = wf_object_refs(wf_object_at(g, a))[0];
		if (!wf_is(g, b, WF_GLOBAL))
			return false;
		wf_ref mb = wf_object_at(g, b)->n, xb = wf_object_refs(wf_object_at(g, b))[0];
		return string_equal(g, ma, mb, left) && string_equal(g, xa, xb, left);
	}
	case WF_TUPLE: {
		uint32_t n, m;
		const wf_ref *ra = wf_elements(g, a, &n), *rb = wf_elements(g, b, &m);
		if (!wf_is(g, b, WF_TUPLE) || n != m)
			return false;
		if (depth == 0)
			return a == b;
		for (uint32_t i = 0; i < n; i++) {
			if (!spend(left, 0))
				return a == b;
			if (!key_equal(g, ra[i], rb[i], depth - 1, left))
				return false;
		}
		return true;
	}
	default:
		return a == b;
	}
}

bool wf_key_equal(const struct wf_graph *g, wf_ref a, wf_ref b)
{
	struct budget left = {KEY_LEAVES, KEY_BYTES};

	return a == b || key_equal(g, a, b, KEY_DEPTH, &left);
}

/* The high and low half of a 128-bit product: with a secret factor no input can be aimed at a collision. */
uint64_t wf_hash_mix(const struct wf_graph *g, uint64_t h, uint64_t v)
{
	__uint128_t p = (__uint128_t)(h ^ v ^ g->seed[0]) * (g->seed[1] ^ (h << 1));
	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t mix_bytes(const struct wf_graph *g, uint64_t h, const char *data, size_t len)
{
	uint64_t word = 0;

	h = wf_hash_mix(g, h, len);
	for (; len >= 8; data += 8, len -= 8)
		h = wf_hash_mix(g, h, wf_le64(data));
	memcpy(&word, data, len);
	return wf_hash_mix(g, h, word);
}

static uint64_t key_hash(const struct wf_graph *g, wf_ref r, uint64_t h, unsigned depth, struct budget *left)
{
	struct number num;

	if (number_of(g, r, &num)) {
		uint64_t bits = (uint64_t)num.i;
		if (num.type == NUM_FLOAT)
			memcpy(&bits, &num.f, sizeof bits);
		if (num.type == NUM_LONG)
			return spend(left, num.len) ? mix_bytes(g, h, num.bytes, num.len) : wf_hash_mix(g, h, r);
		return wf_hash_mix(g, h, bits);
	}
	switch (wf_kind_of(g, r)) {
	case WF_STR:
	case WF_PYSTR:
	case WF_BYTES: {
		size_t len;
		const char *data = wf_bytes(g, r, &len);
		return data && spend(left, len) ? mix_bytes(g, h, data, len) : wf_hash_mix(g, h, r);
	}
	case WF_GLOBAL: {
		const struct wf_object *o = wf_object_at(g, r);
		return key_hash(g, wf_object_refs(o)[0], key_hash(g, o->n, h, depth, left), depth, left);
	}
	case WF_TUPLE: {
		uint32_t n;
		const wf_ref *refs = wf_elements(g, r, &n);
		h = wf_hash_mix(g, h, ~(uint64_t)n);
		if (depth == 0)
			return wf_hash_mix(g, h, r);
		for (uint32_t i = 0; i < n; i++) {
			if (!spend(left, 0))
				return wf_hash_mix(g, h, r);
			h = key_hash(g, refs[i], h, depth - 1, left);
		}
		return h;
	}
	default:
		return wf_hash_mix(g, h, r);
	}
}

uint64_t wf_key_hash(const struct wf_graph *g, wf_ref r)
{
	struct budget left = {KEY_LEAVES, KEY_BYTES};

	return key_hash(g, r, 0, KEY_DEPTH, &left);
}
