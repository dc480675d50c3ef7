/* SPDX-License-Identifier: MIT */
/* Tensors that are packed into one object, held against the same tensors made of eight. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "codec/bytes/util.h"
#include "pickle-kit.h"

/* ---- pickles of tensors, as torch writes them ---- */

struct pickle {
	struct wf_buffer bytes;
	uint32_t memo;
	bool newer; /* protocol 4 */
};

static void put(struct pickle *p)
{
	if (p->newer) {
		wf_buffer_putc(&p->bytes, (char)0x94);
	} else if (p->memo < 256) {
		wf_buffer_printf(&p->bytes, "q%c", (char)p->memo);
	} else {
		wf_buffer_putc(&p->bytes, 'r');
		wf_buffer_append(&p->bytes, &p->memo, 4);
	}
	p->memo++;
}

static void get(struct pickle *p, uint32_t index)
{
	wf_buffer_printf(&p->bytes, "h%c", (char)index);
}

static void text(struct pickle *p, const char *s)
{
	uint32_t len = (uint32_t)strlen(s);
	wf_buffer_putc(&p->bytes, p->newer ? (char)0x8c : 'X');
	wf_buffer_append(&p->bytes, &len, p->newer ? 1 : 4);
	wf_buffer_puts(&p->bytes, s);
	put(p);
}

static void number(struct pickle *p, uint32_t v)
{
	wf_buffer_putc(&p->bytes, v < 256 ? 'K' : v < 65536 ? 'M' : 'J');
	wf_buffer_append(&p->bytes, &v, v < 256 ? 1 : v < 65536 ? 2 : 4);
}

static void global(struct pickle *p, const char *module, const char *name)
{
	if (p->newer) {
		text(p, module);
		text(p, name);
		wf_buffer_putc(&p->bytes, (char)0x93);
	} else {
		wf_buffer_printf(&p->bytes, "c%s\n%s\n", module, name);
	}
	put(p);
}

static void ints(struct pickle *p, const uint32_t *v, uint32_t n)
{
	if (n == 0) {
		wf_buffer_putc(&p->bytes, ')');
		return;
	}
	if (n > 3)
		wf_buffer_putc(&p->bytes, '(');
	for (uint32_t i = 0; i < n; i++)
		number(p, v[i]);
	wf_buffer_putc(&p->bytes, n > 3 ? 't' : (char)(0x84 + n));
	put(p);
}

/* What the first tensor leaves in the memo. */
struct known {
	uint32_t func, storage, class, cpu, ordered;
};

static void tensor(struct pickle *p, struct known *k, bool first, const char *key, const uint32_t *shape, uint32_t ndim,
		   bool grad)
{
	uint32_t numel = 1;
	for (uint32_t i = 0; i < ndim; i++)
		numel *= shape[i];
	if (first) {
		global(p, "torch._utils", "_rebuild_tensor_v2");
		k->func = p->memo - 1;
	} else {
		get(p, k->func);
	}
	wf_buffer_puts(&p->bytes, "((");
	if (first) {
		text(p, "storage");
		k->storage = p->memo - 1;
		global(p, "torch", "FloatStorage");
		k->class = p->memo - 1;
	} else {
		get(p, k->storage);
		get(p, k->class);
	}
	text(p, key);
	if (first) {
		text(p, "cpu");
		k->cpu = p->memo - 1;
	} else {
		get(p, k->cpu);
	}
	number(p, numel);
	wf_buffer_putc(&p->bytes, 't');
	put(p);
	wf_buffer_putc(&p->bytes, 'Q');
	number(p, 0);
	ints(p, shape, ndim);
	ints(p, shape, ndim); /* as good as strides */
	wf_buffer_putc(&p->bytes, grad ? (char)0x88 : (char)0x89);
	if (first) {
		global(p, "collections", "OrderedDict");
		k->ordered = p->memo - 1;
	} else {
		get(p, k->ordered);
	}
	wf_buffer_puts(&p->bytes, ")R");
	put(p);
	wf_buffer_putc(&p->bytes, 't');
	put(p);
	wf_buffer_putc(&p->bytes, 'R');
	put(p);
}

/* A dict of n tensors: *ret_second is where the second begins, if there is one, and the end of it. */
static void dict_of(struct pickle *p, uint32_t n, bool newer, size_t *ret_second, size_t *ret_end)
{
	static const uint32_t shapes[][6] = {{8, 8}, {1024}, {2, 3, 4}, {70000, 2}, {1, 2, 3, 4, 5, 6}, {0}};
	static const uint32_t ndims[] = {2, 1, 3, 2, 6, 0};
	struct known k = {0};
	char name[40];
	*p = (struct pickle){.bytes = WF_BUFFER_INIT, .newer = newer};
	wf_buffer_printf(&p->bytes, "\x80%c}", newer ? 4 : 2);
	put(p);
	wf_buffer_putc(&p->bytes, '(');
	for (uint32_t i = 0; i < n; i++) {
		snprintf(name, sizeof name, "layers.%u.weight", i);
		text(p, name);
		*ret_second = i == 1 ? p->bytes.len : *ret_second;
		snprintf(name, sizeof name, "%u", i);
		tensor(p, &k, i == 0, name, shapes[i % 6], ndims[i % 6], i % 5 == 0);
		*ret_end = i <= 1 ? p->bytes.len : *ret_end;
		if (i % 1000 == 999 && i + 1 < n)
			wf_buffer_puts(&p->bytes, "u(");
	}
	wf_buffer_puts(&p->bytes, "u.");
	assert_int_equal(wf_buffer_status(&p->bytes), 0);
}

/* ---- read in both ways ---- */

struct read {
	struct wf_graph *g;
	wf_ref root;
	int code;
	struct wf_error err;
};

/* Who asks for the places of texts gets none packed. */
static struct read read_as(const void *data, size_t len, bool packed)
{
	struct wf_pickle_places places = {0};
	const struct wf_pickle_reader reader = {.places = packed ? NULL : &places};
	struct read r = {0};
	struct wf_source *s;
	uint64_t end;
	assert_int_equal(wf_graph_new(&r.g), 0);
	assert_int_equal(wf_source_from_memory((void *)data, len, false, &s), 0);
	r.code = wf_pickle_read(r.g, s, 0, len, &reader, &r.root, &end, &r.err);
	wf_source_unref(s);
	free(places.all);
	return r;
}

static void show(const struct read *r, struct wf_buffer *b)
{
	b->len = 0;
	kit_show(r->g, r->root, 30, b);
	assert_int_equal(wf_buffer_status(b), 0);
}

static int keep(void *ctx, const void *data, size_t len)
{
	wf_buffer_append(ctx, data, len);
	return wf_buffer_status(ctx);
}

static int written(const struct read *r, struct wf_buffer *b)
{
	const struct wf_pickle_writer writer = {.write = keep, .ctx = b, .as_read = true};
	struct wf_error err = {0};
	b->len = 0;
	return wf_pickle_write(r->g, r->root, &writer, &err);
}

/* Objects of each kind, in the order of their making. */
static void kinds(const struct wf_graph *g, struct wf_buffer *b)
{
	b->len = 0;
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o)) {
		uint32_t n;
		wf_elements(g, o, &n);
		if (!wf_is(g, o, WF_TUPLE) || n > 0) /* sizes of no dimension: a packed tensor has room for them */
			wf_buffer_printf(b, "%d ", (int)wf_kind_of(g, o));
	}
}

static void assert_same(const void *data, size_t len)
{
	struct read a = read_as(data, len, false), b = read_as(data, len, true);
	struct wf_buffer x = WF_BUFFER_INIT, y = WF_BUFFER_INIT;
	const char *why;
	assert_int_equal(a.code, b.code);
	assert_string_equal(a.err.text, b.err.text);
	assert_int_equal(a.err.offset, b.err.offset);
	if (a.code == 0) {
		show(&a, &x);
		show(&b, &y);
		assert_string_equal(x.data, y.data);
		kinds(a.g, &x);
		kinds(b.g, &y);
		assert_string_equal(x.data, y.data);
		int code = written(&a, &x);
		assert_int_equal(written(&b, &y), code);
		assert_int_equal(x.len, y.len);
		assert_true(code < 0 || !memcmp(x.data, y.data, x.len));
		assert_int_equal(wf_pickle_faithful(a.g, a.root, &why), wf_pickle_faithful(b.g, b.root, &why));
	}
	wf_buffer_free(&x);
	wf_buffer_free(&y);
	wf_graph_free(a.g);
	wf_graph_free(b.g);
}

/* The same objects, half the memory; and written again, the same bytes. More than a window of the reader. */
static void test_many(void **state)
{
	for (int newer = 0; newer < 2; newer++) {
		struct pickle p;
		struct wf_buffer out = WF_BUFFER_INIT;
		const char *why;
		size_t second = 0, end = 0;
		dict_of(&p, 9999, newer, &second, &end);
		assert_same(p.bytes.data, p.bytes.len);
		struct read a = read_as(p.bytes.data, p.bytes.len, false), b = read_as(p.bytes.data, p.bytes.len, true);
		uint32_t skipped = (1u << 17) - 2048; /* behind the first chunk */
		assert_true((wf_graph_limit(b.g) - skipped) * 10 < (wf_graph_limit(a.g) - skipped) * 6);
		assert_int_equal(written(&b, &out), 0);
		assert_int_equal(out.len, p.bytes.len);
		assert_memory_equal(out.data, p.bytes.data, out.len);
		assert_int_equal(wf_pickle_faithful(b.g, b.root, &why), 1);
		wf_graph_free(a.g);
		wf_graph_free(b.g);
		wf_buffer_free(&out);
		wf_buffer_free(&p.bytes);
	}
}

/* Whatever stands in the place of a byte of a tensor, or of two, and wherever it ends: what comes of it is the same. */
static void test_flipped(void **state)
{
	static const unsigned char instead[] = "(th\x00j0NRQq\x94K\x7f\x80\xff\x89)bse.2";
	for (int newer = 0; newer < 2; newer++) {
		struct pickle p;
		size_t second = 0, end = 0;
		dict_of(&p, 4, newer, &second, &end);
		unsigned char *bytes = (unsigned char *)p.bytes.data;
		for (size_t at = second; at < end; at++) {
			unsigned char was = bytes[at];
			for (size_t i = 0; i < sizeof instead; i++) {
				bytes[at] = instead[i];
				assert_same(bytes, p.bytes.len);
			}
			for (unsigned int bit = 0; bit < 8; bit++) {
				bytes[at] = (unsigned char)(was ^ 1u << bit);
				assert_same(bytes, p.bytes.len);
			}
			bytes[at] = was;
			assert_same(bytes, at);
		}
		wf_buffer_free(&p.bytes);
	}
}

/* Bytes that come in between, or are missing. */
static void test_shifted(void **state)
{
	static const char *const between[] = {"0",
					      "2",
					      "(",
					      "1",
					      "N0",
					      ")",
					      "}",
					      "K\x01",
					      "K\x01"
					      "0",
					      "(0",
					      "h\x02",
					      "h\x02"
					      "0",
					      "q\x63",
					      "}b",
					      "h\x04u"};
	struct pickle p;
	size_t second = 0, end = 0;
	dict_of(&p, 4, false, &second, &end);
	char *copy = malloc(p.bytes.len + 16);
	for (size_t at = second; at <= end; at++) {
		for (size_t i = 0; i < WF_ARRAY_SIZE(between); i++) {
			size_t len = strlen(between[i]);
			memcpy(copy, p.bytes.data, at);
			memcpy(copy + at, between[i], len);
			memcpy(copy + at + len, p.bytes.data + at, p.bytes.len - at);
			assert_same(copy, p.bytes.len + len);
		}
		for (size_t less = 1; less < 4 && at + less <= p.bytes.len; less++) {
			memcpy(copy, p.bytes.data, at);
			memcpy(copy + at, p.bytes.data + at + less, p.bytes.len - at - less);
			assert_same(copy, p.bytes.len - less);
		}
	}
	free(copy);
	wf_buffer_free(&p.bytes);
}

/* ---- changes ---- */

static wf_ref value_of(const struct read *r, uint32_t i)
{
	uint32_t n;
	const struct wf_item *items = wf_items(r->g, r->root, &n);
	return i < n ? items[i].value : WF_NIL;
}

/* One change to tensor 1, told by a number. Returns what it did, or says that there is no such change. */
static int change(const struct read *r, int which)
{
	struct wf_graph *g = r->g;
	wf_ref t = value_of(r, 1), persid = wf_element(g, wf_call_args(g, t), 0),
	       hooks = wf_element(g, wf_call_args(g, t), 5);
	wf_ref id[5], pair[] = {wf_str(g, "a"), wf_none(g)};
	for (uint32_t i = 0; i < 5; i++)
		id[i] = wf_element(g, wf_persid_id(g, persid), i);
	id[3] = wf_str(g, "cuda:0");
	switch (which) {
	case 0:
		return wf_persid_set_id(g, persid, wf_tuple(g, id, 5));
	case 1:
		return wf_call_set_state(g, hooks, pair[0]);
	case 2:
		return wf_call_set_func(g, t, wf_global_named(g, "torch._utils", "_rebuild_tensor_v3"));
	case 3:
		return wf_call_build(g, t, wf_tuple(g, pair, 2));
	case 4:
		return wf_call_set_state(g, t, wf_none(g));
	case 5:
		return wf_dict_append(g, wf_dict_target(g, hooks), pair[0], pair[1]);
	case 6:
		return wf_list_append(g, wf_list_target(g, t), pair[0]);
	case 7:
		wf_persid_set_memoised(g, persid);
		return !wf_persid_memoised(g, persid);
	case 8:
		wf_call_set_by_mark(g, t);
		return !wf_call_by_mark(g, t);
	case 9: /* no kind for it */
		return wf_call_build(g, persid, id[3]) == -EINVAL && wf_persid_set_id(g, t, id[3]) == -EINVAL &&
				       wf_dict_target(g, id[2]) == WF_NIL &&
				       wf_list_append(g, wf_call_args(g, t), id[3]) == -EINVAL &&
				       !wf_persid_set_number(g, t, 1) && wf_call_set_args(g, id[2], id[3]) == -EINVAL
			       ? 0
			       : 1;
	case 10:
		return wf_call_set_args(g, t, wf_tuple(g, pair, 2));
	default:
		return -ENOENT;
	}
}

/* Each change says the same of a packed tensor as of another one, alone and after all others; and a number stays what it was. */
static void test_changes(void **state)
{
	struct pickle p;
	struct wf_buffer x = WF_BUFFER_INIT, y = WF_BUFFER_INIT;
	size_t second = 0, end = 0;
	dict_of(&p, 4, false, &second, &end);
	for (int together = 0; together < 2; together++) {
		struct read a = read_as(p.bytes.data, p.bytes.len, false), b = read_as(p.bytes.data, p.bytes.len, true);
		for (int which = 0;; which++) {
			wf_ref persid = wf_element(b.g, wf_call_args(b.g, value_of(&b, 1)), 0);
			wf_persid_set_number(b.g, persid, 77);
			int code = change(&a, which);
			assert_int_equal(change(&b, which), code);
			if (code == -ENOENT)
				break;
			assert_int_equal(code, 0);
			assert_true(which == 10 || wf_persid_number(b.g, persid) == 77 ||
				    !wf_is(b.g, persid, WF_PERSID));
			show(&a, &x);
			show(&b, &y);
			assert_string_equal(x.data, y.data);
			kinds(a.g, &x);
			kinds(b.g, &y);
			assert_string_equal(x.data, y.data);
			assert_int_equal(written(&a, &x), 0);
			assert_int_equal(written(&b, &y), 0);
			assert_int_equal(x.len, y.len);
			assert_memory_equal(x.data, y.data, x.len);
			if (!together) {
				wf_graph_free(a.g);
				wf_graph_free(b.g);
				a = read_as(p.bytes.data, p.bytes.len, false);
				b = read_as(p.bytes.data, p.bytes.len, true);
			}
		}
		wf_graph_free(a.g);
		wf_graph_free(b.g);
	}
	wf_buffer_free(&x);
	wf_buffer_free(&y);
	wf_buffer_free(&p.bytes);
}

/* ---- made by hand ---- */

static struct wf_packed_parts parts_of(struct wf_graph *g, const char *key, uint32_t ndim, const wf_ref *shape)
{
	return (struct wf_packed_parts){.func = wf_global_named(g, "torch._utils", "_rebuild_tensor_v2"),
					.hooks_func = wf_global_named(g, "collections", "OrderedDict"),
					.storage = wf_str(g, "storage"),
					.class = wf_global_named(g, "torch", "FloatStorage"),
					.location = wf_str(g, "cpu"),
					.numel = wf_int(g, 64),
					.offset = wf_int(g, 0),
					.requires_grad = wf_bool(g, false),
					.key = key,
					.key_len = strlen(key),
					.ndim = ndim,
					.shape = shape};
}

static void test_what_fits(void **state)
{
	struct wf_graph *g;
	assert_int_equal(wf_graph_new(&g), 0);
	wf_ref shape[] = {wf_int(g, 8), wf_int(g, 8), wf_int(g, 8), wf_int(g, 1)};
	struct wf_packed_parts p = parts_of(g, "12345678901", 2, shape);
	wf_ref t = wf_packed_tensor(g, &p);
	assert_true(wf_call_is(g, t, "torch._utils", "_rebuild_tensor_v2"));
	assert_int_equal(wf_packed_args(g, t), wf_call_args(g, t));
	assert_true(wf_str_equal(g, wf_element(g, wf_persid_id(g, wf_element(g, wf_call_args(g, t), 0)), 2), p.key));
	uint32_t limit = wf_graph_limit(g);
	p = parts_of(g, "123456789012", 2, shape);
	assert_int_equal(wf_packed_tensor(g, &p), WF_NIL);
	p = parts_of(g, "0", 2, shape);
	p.key_len = 2; /* with its NUL */
	assert_int_equal(wf_packed_tensor(g, &p), WF_NIL);
	p = parts_of(g, "0", 2, shape);
	p.numel = wf_int(g, (int64_t)1 << 31);
	assert_int_equal(wf_packed_tensor(g, &p), WF_NIL);
	shape[1] = p.numel;
	p = parts_of(g, "0", 2, shape);
	assert_int_equal(wf_packed_tensor(g, &p), WF_NIL);
	assert_int_equal(wf_graph_failed(g), 0);
	assert_true(wf_graph_since(g, limit) != WF_NIL);
	wf_graph_free(g);
}

/* Shapes that differ from tensor to tensor, over the borders of chunks, and forgotten again. */
static void test_shapes_and_rewind(void **state)
{
	enum { COUNT = 40000 };
	struct wf_graph *g;
	assert_int_equal(wf_graph_new(&g), 0);
	wf_graph_share_constants(g);
	wf_ref shape[4];
	struct wf_packed_parts p = parts_of(g, "7", 2, shape);
	for (int round = 0; round < 2; round++) {
		uint32_t limit = wf_graph_limit(g);
		uint64_t bytes = wf_graph_bytes(g);
		wf_ref first = WF_NIL, last = WF_NIL;
		for (int i = 0; i < COUNT; i++) {
			for (int k = 0; k < 4; k++)
				shape[k] = wf_int(g, i % (round ? 3 : COUNT) + k);
			last = wf_packed_tensor(g, &p);
			first = first ? first : last;
			assert_true(wf_is(g, last, WF_CALL));
		}
		uint32_t met = 0;
		for (wf_ref o = wf_graph_since(g, limit); o != WF_NIL; o = wf_graph_next(g, o)) {
			wf_ref stride = wf_element(g, wf_packed_args(g, o), 3);
			if (stride == WF_NIL)
				continue;
			int64_t v;
			assert_true(wf_int_value(g, wf_element(g, stride, 1), &v));
			assert_int_equal(v, met % (round ? 3 : COUNT) + 3);
			met++;
		}
		assert_int_equal(met, COUNT);
		assert_int_equal(wf_graph_rewind(g, limit), limit);
		assert_int_equal(wf_graph_since(g, limit), WF_NIL);
		assert_in_range(wf_graph_bytes(g), bytes, bytes + 1000); /* what says where packed ones begin stays */
		assert_true(wf_str_equal(g, wf_str(g, "what comes there then is what it is, and no part of one"),
					 "what comes there then is what it is, and no part of one"));
	}
	wf_graph_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),      cmocka_unit_test(test_flipped),
		cmocka_unit_test(test_shifted),   cmocka_unit_test(test_changes),
		cmocka_unit_test(test_what_fits), cmocka_unit_test(test_shapes_and_rewind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
