/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "opened-kit.h"

#include "codec/bytes/buffer.h"
#include "codec/bytes/util.h"

#define BYTES(b) b, sizeof(b) - 1

/* ---- a tar of the 2016 form, member by member ---- */

static void put_member(struct wf_buffer *b, const char *name, char type, const void *data, size_t len)
{
	char block[512] = "";
	unsigned int sum = 0;
	snprintf(block, 100, "%s", name);
	snprintf(block + 124, 12, "%011zo", len);
	block[156] = type;
	memcpy(block + 257,
	       "ustar\0"
	       "00",
	       8);
	memset(block + 148, ' ', 8);
	for (size_t i = 0; i < sizeof block; i++)
		sum += (unsigned char)block[i];
	snprintf(block + 148, 8, "%06o", sum);
	wf_buffer_append(b, block, sizeof block);
	wf_buffer_append(b, data, len);
	static const char zeroes[512];
	wf_buffer_append(b, zeroes, (512 - len % 512) % 512);
}

static void i64(struct wf_buffer *b, int64_t v)
{
	wf_buffer_append(b, &v, sizeof v);
}

static void tensor(struct wf_buffer *b, const char *args, size_t args_len, int32_t ndim, const int64_t *rest, size_t n)
{
	wf_buffer_append(b, args, args_len);
	wf_buffer_append(b, &ndim, sizeof ndim);
	wf_buffer_append(b, "\xaa\xaa\xaa\xaa", 4); /* unused: not always zero */
	for (size_t i = 0; i < n; i++)
		i64(b, rest[i]);
}

/* Two storages (4 floats, key 10; 3 bytes, key 11), a view (key 12) of the second and third float. */
static void storages(struct wf_buffer *b)
{
	wf_buffer_append(b, BYTES("\x80\x02K\2.\x80\x02K\nU\3cpuctorch\nFloatStorage\n\x87."));
	i64(b, 4);
	wf_buffer_append(b, "0123456789abcdef", 16);
	wf_buffer_append(b, BYTES("\x80\x02K\x0bX\3\0\0\0cpuctorch\nByteStorage\n\x87."));
	i64(b, 3);
	wf_buffer_append(b, "xyz", 3);
	wf_buffer_append(b, BYTES("\x80\x02]((K\x0cK\nK\1K\2te."));
}

static void tensors(struct wf_buffer *b)
{
	static const int64_t square[] = {2, 2, 2, 1, 0}, view[] = {2, 1, 0};
	wf_buffer_append(b, BYTES("\x80\x02K\2."));
	tensor(b, BYTES("\x80\x02K\x14K\nctorch\nFloatTensor\n\x87."), 2, square, 5);
	tensor(b,
	       BYTES("\x80\x02K\x15K\x0c"
		     "ctorch\nFloatTensor\n\x87."),
	       1, view, 3);
}

/* {'a': tensor 20 (as str), 'b': 20 again (as int), 'v': 21, 's': storage 11, 'c': a class} */
static const char object[] = "\x80\x02}(U\1aU\2"
			     "20QU\1bK\x14QU\1vU\2"
			     "21QU\1sU\2"
			     "11QU\1ccm\nNet\nU\1fU\1x\x87Qu.";

static void whole_tar(struct wf_buffer *b)
{
	struct wf_buffer st = WF_BUFFER_INIT, te = WF_BUFFER_INIT;
	storages(&st);
	tensors(&te);
	put_member(b, "sys_info", '0', BYTES("\x80\x02}."));
	put_member(b, "pickle", '0', object, sizeof object - 1);
	put_member(b, "tensors", '\0', te.data, te.len);
	put_member(b, "storages", '0', st.data, st.len);
	static const char zeroes[1024];
	wf_buffer_append(b, zeroes, sizeof zeroes);
	wf_buffer_free(&st);
	wf_buffer_free(&te);
}

static int64_t int_of(const struct wf_graph *g, wf_ref r)
{
	int64_t v = -1;
	assert_true(wf_int_value(g, r, &v));
	return v;
}

static void test_whole(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	struct opened o;
	whole_tar(&b);
	assert_int_equal(open_bytes(b.data, b.len, &o), 0);
	wf_buffer_free(&b);
	assert_int_equal(wf_container_kind_of(o.c), WF_CONTAINER_TAR);
	assert_string_equal(wf_container_kind_name(o.c), "tar");
	assert_int_equal(wf_container_count(o.c), 6);
	uint32_t first = wf_container_storage_record(o.c, "10", 2), n = 0;
	assert_string_equal(wf_container_record(o.c, first)->name, "storage/10");
	assert_int_equal(wf_container_record(o.c, first)->size_bytes, 16);
	struct wf_source *s = NULL;
	char got[16];
	assert_int_equal(wf_container_open_record(o.c, first, &s, &err), 0);
	assert_int_equal(wf_source_read(s, 0, got, 16), 0);
	assert_memory_equal(got, "0123456789abcdef", 16);
	wf_source_unref(s);
	const uint32_t *order = wf_container_storage_order(o.c, &n);
	assert_int_equal(n, 2);
	assert_int_equal(order[0], first);
	assert_string_equal(wf_container_record(o.c, order[1])->name, "storage/11");
	assert_int_equal(wf_container_storage_record(o.c, "12", 2), WF_NO_RECORD); /* a view has no bytes of its own */

	const struct wf_item *items = wf_items(o.g, o.root, &n);
	assert_int_equal(n, 5);
	wf_ref a = items[0].value, v = items[2].value;
	assert_true(wf_call_is(o.g, a, "torch._utils", "_rebuild_tensor_v2"));
	assert_int_equal(a, items[1].value);
	wf_ref args = wf_call_args(o.g, a);
	wf_ref id = wf_persid_id(o.g, wf_element(o.g, args, 0));
	assert_true(wf_str_equal(o.g, wf_element(o.g, id, 0), "storage"));
	assert_true(wf_is_global(o.g, wf_element(o.g, id, 1), "torch", "FloatStorage"));
	assert_true(wf_str_equal(o.g, wf_element(o.g, id, 2), "10"));
	assert_true(wf_str_equal(o.g, wf_element(o.g, id, 3), "cpu"));
	assert_int_equal(int_of(o.g, wf_element(o.g, id, 4)), 4);
	assert_int_equal(wf_element(o.g, id, 5), WF_NIL);
	assert_int_equal(int_of(o.g, wf_element(o.g, args, 1)), 0);
	assert_int_equal(int_of(o.g, wf_element(o.g, wf_element(o.g, args, 2), 1)), 2);
	assert_int_equal(int_of(o.g, wf_element(o.g, wf_element(o.g, args, 3), 0)), 2);
	assert_false(wf_bool_value(o.g, wf_element(o.g, args, 4)));
	assert_true(wf_call_is(o.g, wf_element(o.g, args, 5), "collections", "OrderedDict"));
	assert_int_not_equal(wf_element(o.g, args, 5), wf_element(o.g, wf_call_args(o.g, v), 5));
	id = wf_persid_id(o.g, wf_element(o.g, wf_call_args(o.g, v), 0));
	assert_true(wf_str_equal(o.g, wf_element(o.g, id, 2), "10")); /* the root's key */
	wf_ref view = wf_element(o.g, id, 5);
	assert_true(wf_str_equal(o.g, wf_element(o.g, view, 0), "12"));
	assert_int_equal(int_of(o.g, wf_element(o.g, view, 1)), 1);
	assert_int_equal(int_of(o.g, wf_element(o.g, view, 2)), 2);
	assert_true(wf_is(o.g, items[3].value, WF_PERSID));
	assert_true(wf_is_global(o.g, items[4].value, "m", "Net"));
	wf_ref again;
	assert_int_equal(wf_container_load_graph(o.c, o.g, &again, &err), -EINVAL);
	close_opened(&o);
}

static void test_headers_of_the_tar(void **state)
{
	/* PAX fields for the next member: a name, and a size that the header then need not hold */
	struct wf_buffer b = WF_BUFFER_INIT, st = WF_BUFFER_INIT, te = WF_BUFFER_INIT;
	struct opened o;
	storages(&st);
	tensors(&te);
	put_member(&b, "pax", 'g', BYTES("19 comment=whatever\n"));
	put_member(&b, "a directory", '5', NULL, 0);
	put_member(&b, "pax", 'x', BYTES("15 path=pickle\n14 mtime=12.5\n"));
	put_member(&b, "something else", '0', object, sizeof object - 1);
	put_member(&b, "tensors", '0', te.data, te.len);
	char pax[64];
	size_t n = (size_t)snprintf(pax, sizeof pax, "%zu size=%zu\n", st.len > 99 ? 12ul : 11ul, st.len);
	put_member(&b, "pax", 'x', pax, n);
	size_t header = b.len;
	put_member(&b, "storages", '0', st.data, st.len);
	b.data[header + 124] = '7'; /* wrong now, and its sum as well: put both right below */
	b.data[header + 149 + 4]++;
	unsigned int sum = 0;
	memset(b.data + header + 148, ' ', 8);
	for (size_t i = 0; i < 512; i++)
		sum += (unsigned char)b.data[header + i];
	snprintf(b.data + header + 148, 8, "%06o", sum);
	assert_int_equal(open_bytes(b.data, b.len, &o), 0);
	assert_int_equal(wf_container_count(o.c), 5);
	close_opened(&o);
	wf_buffer_free(&b);
	wf_buffer_free(&st);
	wf_buffer_free(&te);
}

static void test_members(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	struct opened o;
	put_member(&b, "pickle", '0', BYTES("\x80\x02}."));
	put_member(&b, "tensors", '0', BYTES("\x80\x02K\0."));
	assert_int_equal(open_bytes(b.data, b.len, &o), -EUCLEAN);
	assert_says("\"storages\"");
	size_t len = b.len;
	put_member(&b, "storages", '0', BYTES("\x80\x02K\0.\x80\x02]."));
	assert_int_equal(open_bytes(b.data, b.len, &o), 0);
	close_opened(&o);
	b.len = len;
	put_member(&b, "storages", '0',
		   BYTES("\x80\x02K\0.")); /* as some programs write: torch wants the list of views */
	assert_int_equal(open_bytes(b.data, b.len, &o), -EUCLEAN);
	assert_says("storages");
	close_opened(&o);
	b.len = len;
	put_member(&b, "pickle", '0', BYTES("\x80\x02}."));
	assert_int_equal(open_bytes(b.data, b.len, &o), -EUCLEAN);
	assert_says("two members");
	wf_buffer_free(&b);
}

/* One member replaced by something broken. */
static void check_broken(const char *name, const char *data, size_t len, int code, const char *says)
{
	static const char *const names[] = {"pickle", "tensors", "storages"};
	struct wf_buffer b = WF_BUFFER_INIT, parts[3] = {WF_BUFFER_INIT, WF_BUFFER_INIT, WF_BUFFER_INIT};
	struct opened o;
	wf_buffer_append(&parts[0], object, sizeof object - 1);
	tensors(&parts[1]);
	storages(&parts[2]);
	for (size_t i = 0; i < 3; i++) {
		bool broken = strcmp(names[i], name) == 0;
		put_member(&b, names[i], '0', broken ? data : parts[i].data, broken ? len : parts[i].len);
		wf_buffer_free(&parts[i]);
	}
	int r = open_bytes(b.data, b.len, &o);
	if (r != code)
		fail_msg("%d, not %d: %s", r, code, err.text);
	assert_says(says);
	close_opened(&o);
	wf_buffer_free(&b);
}

static void test_broken(void **state)
{
	check_broken("storages", BYTES("\x80\x02}."), -EUCLEAN, "number of storages");
	check_broken("storages", BYTES("\x80\x02J\xff\xff\xff\xff."), -EUCLEAN, "number of storages");
	check_broken("storages", BYTES("\x80\x02J\xff\xff\xff\x7f."), -EUCLEAN, "storages");
	check_broken("storages", BYTES("\x80\x02K\1.\x80\x02}."), -EUCLEAN, "(key, location, class)");
	check_broken("storages", BYTES("\x80\x02K\1.\x80\x02K\1NN\x87."), -EUCLEAN, "(key, location, class)");
	check_broken("storages", BYTES("\x80\x02K\1.\x80\x02K\1Ncx\nXStorage\n\x87."), -EOPNOTSUPP,
		     "unknown class XStorage");
	check_broken("storages", BYTES("\x80\x02K\1.\x80\x02K\1Nctorch\nFloatStorage\n\x87.1234"), -EUCLEAN,
		     "ends early");
	check_broken("storages", BYTES("\x80\x02K\1.\x80\x02K\1Nctorch\nFloatStorage\n\x87.\1\0\0\0\0\0\0\0abc"),
		     -EUCLEAN, "do not fit");
	check_broken("storages", BYTES("\x80\x02K\1.\x80\x02K\1Nctorch\nFloatStorage\n\x87.\0\0\0\0\0\0\0\x80"),
		     -EUCLEAN, "do not fit");
	check_broken("storages", BYTES("\x80\x02K\0.}."), -EUCLEAN, "list of views");
	check_broken("storages", BYTES("\x80\x02K\0.]((NNNNte."), -EUCLEAN, "(key, root key, offset, count)");
	check_broken("storages", BYTES("\x80\x02K\0.]((K\1K\2K\0K\0te."), -EUCLEAN, "a view of the storage 2");
	check_broken("storages",
		     BYTES("\x80\x02K\1.\x80\x02K\1Nctorch\nByteStorage\n\x87.\1\0\0\0\0\0\0\0a]((K\2K\1K\1K\1te."),
		     -EUCLEAN, "leaves its storage");
	check_broken("storages",
		     BYTES("\x80\x02K\2.\x80\x02K\1Nctorch\nByteStorage\n\x87.\0\0\0\0\0\0\0\0"
			   "\x80\x02K\1Nctorch\nByteStorage\n\x87.\0\0\0\0\0\0\0\0]."),
		     -EUCLEAN, "");
	check_broken("tensors", BYTES("\x80\x02K\1."), -EUCLEAN, "tensors");
	check_broken("tensors", BYTES("\x80\x02K\1.}."), -EUCLEAN, "(key, storage key, class)");
	check_broken("tensors", BYTES("\x80\x02K\1.K\1K\x63N\x87."), -EUCLEAN, "storage 99");
	check_broken("tensors", BYTES("\x80\x02K\1.K\1K\nN\x87.\1\0\0\0\0\0\0\0abc"), -EUCLEAN, "ends early");
	check_broken("tensors", BYTES("\x80\x02K\1.K\1K\nN\x87.\x41\0\0\0\0\0\0\0"), -EUCLEAN, "65 dimensions");
	check_broken("tensors", BYTES("\x80\x02K\1.K\1K\nN\x87.\xff\xff\xff\xff\0\0\0\0"), -EUCLEAN, "-1 dimensions");
	check_broken("pickle",
		     BYTES("\x80\x02U\2"
			   "99Q."),
		     -EUCLEAN, "pickle");
	check_broken("pickle",
		     BYTES("\x80\x02U\3"
			   "20xQ."),
		     -EUCLEAN, "names no tensor");
	check_broken("pickle", BYTES("\x80\x02U\0Q."), -EUCLEAN, "names no tensor");
	check_broken("pickle", BYTES("\x80\x02NQ."), -EUCLEAN, "names no tensor");
	check_broken("pickle", BYTES("\x80\x02)Q."), -EUCLEAN, "names no tensor");
	check_broken("pickle", BYTES("\x80\x02"), -EUCLEAN, "pickle");
}

static void test_truncated_and_turned(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	struct opened o;
	whole_tar(&b);
	for (size_t len = 0; len < b.len - 1024; len += len % 512 < 250 ? 1 : 7) {
		int r = open_bytes(b.data, len, &o);
		assert_true(r == -EUCLEAN || r == -EMEDIUMTYPE || len + 512 > b.len - 1024);
		close_opened(&o);
	}
	for (size_t i = 0; i < b.len; i++) {
		char old = b.data[i];
		if (old == '\0' && i % 512 > 250)
			continue;
		b.data[i] ^= 0x41;
		open_bytes(b.data, b.len, &o);
		close_opened(&o);
		b.data[i] = old;
	}
	wf_buffer_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_headers_of_the_tar),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_truncated_and_turned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
