/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "pickle-kit.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* What was read from data, as it is written. */
static int rewrite(const void *data, size_t len, struct wf_buffer *out, struct wf_error *err)
{
	struct wf_graph *g;
	wf_ref root;
	int rc = kit_read(data, len, &g, &root, err);

	if (rc < 0)
		return rc;
	rc = wf_pickle_write_buffer(g, root, NULL, NULL, out, err);
	wf_graph_free(g);
	return rc;
}

static void check(const void *data, size_t len, const void *want, size_t want_len, size_t number)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	struct wf_error err = {0};

	if (rewrite(data, len, &out, &err) < 0)
		fail_msg("case %zu: %s", number, err.text);
	if (out.len != want_len || memcmp(out.data, want, want_len) != 0) {
		for (size_t i = 0; i < out.len; i++)
			fprintf(stderr, out.data[i] > 32 && out.data[i] < 127 ? "%c" : "\\%o",
				(unsigned char)out.data[i]);
		fprintf(stderr, "\n");
		fail_msg("case %zu: %zu bytes instead of %zu", number, out.len, want_len);
	}
	wf_buffer_free(&out);
}

struct conversion {
	const char *data;
	size_t len;
	const char *want;
	size_t want_len;
};

static void check_all(const struct conversion *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		check(cases[i].data, cases[i].len, cases[i].want, cases[i].want_len, i);
		/* What CPython would have written is written back as it is. */
		check(cases[i].want, cases[i].want_len, cases[i].want, cases[i].want_len, i);
	}
}

static void test_numbers(void **state)
{
	static const struct conversion cases[] = {
		{LIT("N."), LIT("\x80\2N.")},
		{LIT("I01\n."), LIT("\x80\2\x88.")},
		{LIT("I00\n."), LIT("\x80\2\x89.")},
		{LIT("I0\n."), LIT("\x80\2K\0.")},
		{LIT("I255\n."), LIT("\x80\2K\xff.")},
		{LIT("I256\n."), LIT("\x80\2M\0\1.")},
		{LIT("I65535\n."), LIT("\x80\2M\xff\xff.")},
		{LIT("I65536\n."), LIT("\x80\2J\0\0\1\0.")},
		{LIT("I-1\n."), LIT("\x80\2J\xff\xff\xff\xff.")},
		{LIT("I2147483647\n."), LIT("\x80\2J\xff\xff\xff\x7f.")},
		{LIT("I2147483648\n."), LIT("\x80\2\x8a\5\0\0\0\x80\0.")},
		{LIT("I-2147483648\n."), LIT("\x80\2J\0\0\0\x80.")},
		{LIT("I-2147483649\n."), LIT("\x80\2\x8a\5\xff\xff\xff\x7f\xff.")},
		{LIT("L9223372036854775807L\n."), LIT("\x80\2\x8a\x8\xff\xff\xff\xff\xff\xff\xff\x7f.")},
		{LIT("L9223372036854775808L\n."), LIT("\x80\2\x8a\x9\0\0\0\0\0\0\0\x80\0.")},
		{LIT("L-9223372036854775808L\n."), LIT("\x80\2\x8a\x8\0\0\0\0\0\0\0\x80.")},
		{LIT("L-9223372036854775809L\n."), LIT("\x80\2\x8a\x9\xff\xff\xff\xff\xff\xff\xff\x7f\xff.")},
		{LIT("F1.5\n."), LIT("\x80\2G?\xf8\0\0\0\0\0\0.")},
	};
	check_all(cases, COUNT(cases));
}

static void test_containers(void **state)
{
	static const struct conversion cases[] = {
		{LIT(")."), LIT("\x80\2).")},
		{LIT("(t."), LIT("\x80\2).")},
		{LIT("(Nt."), LIT("\x80\2N\x85q\0.")},
		{LIT("(NNNt."), LIT("\x80\2NNN\x87q\0.")},
		{LIT("(NNNNt."), LIT("\x80\2(NNNNtq\0.")},
		{LIT("(l."), LIT("\x80\2]q\0.")},
		{LIT("(Nl."), LIT("\x80\2]q\0Na.")},
		{LIT("(NNl."), LIT("\x80\2]q\0(NNe.")},
		{LIT("(d."), LIT("\x80\2}q\0.")},
		{LIT("(NNd."), LIT("\x80\2}q\0NNs.")},
		{LIT("(NNK\1Nd."), LIT("\x80\2}q\0(NNK\1Nu.")},
		{LIT("(S'a'\ntp0\ng0\n\x86."), LIT("\x80\2U\1aq\0\x85q\1h\1\x86q\2.")},
		{LIT("]\x94h\0a."), LIT("\x80\2]q\0h\0a.")},
		{LIT("}\x94K\1h\0s."), LIT("\x80\2}q\0K\1h\0s.")},
		/* a persistent id is memoised where it was */
		{LIT("(K\1\x85Q\x94h\0h\0h\0t."), LIT("\x80\2(K\1\x85q\0Qq\1h\1h\1h\1tq\2.")},
		{LIT("(K\1\x85\x94Qh\0Qt."), LIT("\x80\2K\1\x85q\0Qh\0Q\x86q\1.")},
	};
	check_all(cases, COUNT(cases));
}

static void test_later_protocols(void **state)
{
	static const struct conversion cases[] = {
		{LIT("\x80\4\x8c\2hi\x94."), LIT("\x80\2X\2\0\0\0hiq\0.")},
		{LIT("\x80\3C\0."), LIT("\x80\2"
					"c__builtin__\nbytes\nq\0)Rq\1.")},
		{LIT("\x80\3C\2"
		     "a\xff."),
		 LIT("\x80\2"
		     "c_codecs\nencode\nq\0X\3\0\0\0a\xc3\xbfq\1X\6\0\0\0latin1q\2\x86q\3Rq\4.")},
		{LIT("\x80\3C\1"
		     "aC\1b\x86."),
		 LIT("\x80\2"
		     "c_"
		     "codecs\nencode\nq\0X\1\0\0\0aq\1X\6\0\0\0latin1q\2\x86q\3Rq\4h\0X\1\0\0\0bq\5h\2\x86q\6Rq\7\x86q"
		     "\x08.")},
		{LIT("\x80\5\x96\0\0\0\0\0\0\0\0."), LIT("\x80\2"
							 "c__builtin__\nbytearray\nq\0)Rq\1.")},
		{LIT("\x80\5\x96\1\0\0\0\0\0\0\0a."),
		 LIT("\x80\2"
		     "c__builtin__\nbytearray\nq\0c_"
		     "codecs\nencode\nq\1X\1\0\0\0aq\2X\6\0\0\0latin1q\3\x86q\4Rq\5\x85q\6Rq\7.")},
		{LIT("\x80\4\x8f(K\1K\2\x90."), LIT("\x80\2"
						    "c__builtin__\nset\nq\0]q\1(K\1K\2e\x85q\2Rq\3.")},
		{LIT("\x80\4\x8f."), LIT("\x80\2"
					 "c__builtin__\nset\nq\0]q\1\x85q\2Rq\3.")},
		{LIT("\x80\4(K\1\x91."), LIT("\x80\2"
					     "c__builtin__\nfrozenset\nq\0]q\1K\1a\x85q\2Rq\3.")},
		{LIT("\x80\4\x8c\1m\x8c\1n\x93."), LIT("\x80\2"
						       "cm\nn\nq\0.")},
		{LIT("\x80\4\x8c\1m\x8c\5n.o.p\x93."),
		 LIT("\x80\2"
		     "c__builtin__\ngetattr\nq\0h\0cm\nn\nq\1X\1\0\0\0oq\2\x86q\3Rq\4X\1\0\0\0pq\5\x86q\6Rq\7.")},
	};
	for (size_t i = 0; i < COUNT(cases); i++)
		check(cases[i].data, cases[i].len, cases[i].want, cases[i].want_len, i);
	for (size_t i = 0; i < COUNT(cases); i++)
		check(cases[i].want, cases[i].want_len, cases[i].want, cases[i].want_len, i);
}

static void test_calls(void **state)
{
	static const struct conversion cases[] = {
		{LIT("cm\nn\n)R."), LIT("\x80\2"
					"cm\nn\nq\0)Rq\1.")},
		{LIT("(im\nn\n."), LIT("\x80\2("
				       "cm\nn\nq\0oq\1.")},
		{LIT("(K\1im\nn\n."), LIT("\x80\2("
					  "cm\nn\nq\0K\1oq\1.")},
		{LIT("(cm\nn\n](NK\1eop\x30\nNb."), LIT("\x80\2("
							"cm\nn\nq\0]q\1(NK\1eoq\2Nb.")},
		{LIT("cm\nn\n)}\x92."), LIT("\x80\2"
					    "cm\nn\nq\0)}q\1\x92q\2.")},
		{LIT("cm\nn\n)RNNsNaNb."), LIT("\x80\2"
					       "cm\nn\nq\0)Rq\1NaNNsNb.")},
		{LIT("cm\nn\n)R(N\x90(NNK\1Nu."), LIT("\x80\2"
						      "cm\nn\nq\0)Rq\1(N\x90(NNK\1Nu.")},
		{LIT("cm\nn\n)RNbK\1bK\2a."), LIT("\x80\2"
						  "cm\nn\nq\0)Rq\1NbK\1bK\2a.")},
		{LIT("cm\nn\n)R\x94}K\1h\0sb."), LIT("\x80\2"
						     "cm\nn\nq\0)Rq\1}q\2K\1h\1sb.")},
	};
	check_all(cases, COUNT(cases));
}

/* Exactly 1000, and what is left over, in CPython's ways: a dict of its own, a list of its own, a call's. */
static void put_batches(struct wf_buffer *b, const char *open, int n, bool pairs, bool own)
{
	const char *one = pairs ? "s" : "a", *many = pairs ? "u" : "e", *part = pairs ? "NN" : "N";
	int left = n;

	wf_buffer_append(b, open, strlen(open) + (open[strlen(open) - 1] == 'q'));
	if (strstr(open, "R"))
		wf_buffer_append(b, "\1", 1);
	while (left > 0) {
		int count = left > 1000 ? 1000 : left;
		bool single = own ? n == 1 : left == 1;
		if (!single)
			wf_buffer_puts(b, "(");
		for (int i = 0; i < count; i++) {
			if (pairs) {
				unsigned char key[] = {'M', (unsigned char)(n - left + i),
						       (unsigned char)((n - left + i) >> 8)};
				if (key[2])
					wf_buffer_append(b, key, 3);
				else
					wf_buffer_append(b, (unsigned char[]){'K', key[1]}, 2);
				part = "N";
			}
			wf_buffer_puts(b, part);
		}
		wf_buffer_puts(b, single ? one : many);
		left -= count;
	}
	if (own && pairs && n % 1000 == 0)
		wf_buffer_puts(b, "(u");
	wf_buffer_puts(b, ".");
}

static void test_batches(void **state)
{
	static const int sizes[] = {1, 2, 999, 1000, 1001, 1002, 2000, 2001, 3000};

	for (size_t i = 0; i < COUNT(sizes); i++) {
		for (int form = 0; form < 4; form++) {
			struct wf_buffer b = WF_BUFFER_INIT;
			bool pairs = form & 1, own = form < 2;
			wf_buffer_puts(&b, "\x80\2");
			if (own) {
				wf_buffer_puts(&b, pairs ? "}q" : "]q");
				wf_buffer_append(&b, "\0", 1);
			} else {
				wf_buffer_append(&b, LIT("cm\nn\nq\0)Rq\1"));
			}
			struct wf_buffer body = WF_BUFFER_INIT;
			put_batches(&body, "x", sizes[i], pairs, own);
			wf_buffer_append(&b, body.data + 1, body.len - 1);
			check(b.data, b.len, b.data, b.len, i * 10 + (size_t)form);
			wf_buffer_free(&body);
			wf_buffer_free(&b);
		}
	}
}

/* A tuple or a call that contains itself: thrown away and got again, as CPython does. */
static void test_recursive(void **state)
{
	static const struct conversion cases[] = {
		{LIT("\x80\2]q\0h\0\x85q\1"
		     "a0h\1."),
		 LIT("\x80\2]q\0h\0\x85q\1"
		     "a0h\1.")},
		{LIT("\x80\2(]q\0(h\0h\0h\0h\0tq\1ah\0h\0h\0"
		     "1h\1."),
		 LIT("\x80\2(]q\0(h\0h\0h\0h\0tq\1ah\0h\0h\0"
		     "1h\1.")},
		{LIT("\x80\2"
		     "cm\nn\nq\0]q\1h\0h\1\x85q\2Rq\3a\x85R0h\3."),
		 NULL, 0},
	};
	check_all(cases, 2);

	struct wf_buffer out = WF_BUFFER_INIT;
	struct wf_graph *g;
	wf_ref root;
	assert_int_equal(rewrite(cases[2].data, cases[2].len, &out, NULL), 0);
	assert_int_equal(kit_read(out.data, out.len, &g, &root, NULL), 0);
	assert_int_equal(wf_element(g, wf_element(g, wf_call_args(g, root), 0), 0), root);
	wf_graph_free(g);
	wf_buffer_free(&out);
}

/* Each of n lists holds a tuple of all of them: n * n, and refused before it is n * n of something large. */
static void test_repeats(void **state)
{
	enum { N = 3000 };
	struct wf_buffer b = WF_BUFFER_INIT, out = WF_BUFFER_INIT;
	struct wf_error err = {0};

	wf_buffer_puts(&b, "(");
	for (uint32_t i = 0; i < N; i++) {
		wf_buffer_puts(&b, "]r");
		wf_buffer_append(&b, &i, 4);
	}
	wf_buffer_puts(&b, "tr");
	wf_buffer_append(&b, (uint32_t[]){N}, 4);
	wf_buffer_puts(&b, "0");
	for (uint32_t i = 0; i < N; i++) {
		wf_buffer_puts(&b, "j");
		wf_buffer_append(&b, &i, 4);
		wf_buffer_puts(&b, "j");
		wf_buffer_append(&b, (uint32_t[]){N}, 4);
		wf_buffer_puts(&b, "a0");
	}
	wf_buffer_puts(&b, "j");
	wf_buffer_append(&b, (uint32_t[]){N}, 4);
	wf_buffer_puts(&b, ".");
	assert_int_equal(rewrite(b.data, b.len, &out, &err), -E2BIG);
	assert_non_null(strstr(err.text, "contain themselves"));
	wf_buffer_free(&b);
	wf_buffer_free(&out);
}

static void test_deep(void **state)
{
	enum { N = 100000 };
	struct wf_buffer b = WF_BUFFER_INIT, out = WF_BUFFER_INIT, again = WF_BUFFER_INIT;

	wf_buffer_puts(&b, "N");
	for (int i = 0; i < N; i++)
		wf_buffer_puts(&b, i % 2 ? "(Nl" : "\x85");
	for (int i = 0; i < N; i++)
		wf_buffer_puts(&b, "\x86");
	b.len -= N;
	wf_buffer_puts(&b, ".");
	assert_int_equal(rewrite(b.data, b.len, &out, NULL), 0);
	b.len = 0;
	for (int i = 0; i < N; i++)
		wf_buffer_puts(&b, "]");
	for (int i = 1; i < N; i++)
		wf_buffer_puts(&b, "a");
	wf_buffer_puts(&b, ".");
	out.len = 0;
	assert_int_equal(rewrite(b.data, b.len, &out, NULL), 0);
	assert_int_equal(rewrite(out.data, out.len, &again, NULL), 0);
	assert_int_equal(out.len, again.len);
	assert_memory_equal(out.data, again.data, out.len);
	wf_buffer_free(&b);
	wf_buffer_free(&out);
	wf_buffer_free(&again);
}

/* 2^100000 leaves: every object is written once. */
static void test_doubling(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT, out = WF_BUFFER_INIT;

	wf_buffer_puts(&b, "N\x85");
	for (int i = 0; i < 100000; i++)
		wf_buffer_puts(&b, "2\x86");
	wf_buffer_puts(&b, ".");
	assert_int_equal(rewrite(b.data, b.len, &out, NULL), 0);
	assert_true(out.len < 20 * b.len);
	wf_buffer_free(&b);
	wf_buffer_free(&out);
}

static void test_long_strings(void **state)
{
	static const uint32_t lengths[] = {65536, 65537, 200000};
	static const char ops[] = "XTB";

	for (size_t k = 0; k < COUNT(lengths) * 3; k++) {
		uint32_t n = lengths[k / 3];
		struct wf_buffer b = WF_BUFFER_INIT, out = WF_BUFFER_INIT, again = WF_BUFFER_INIT;
		wf_buffer_puts(&b, "\x80\2");
		wf_buffer_putc(&b, ops[k % 3]);
		wf_buffer_append(&b, &n, 4);
		for (uint32_t i = 0; i < n; i++)
			wf_buffer_putc(&b, (char)(ops[k % 3] == 'B' ? i : 'a' + i % 26));
		wf_buffer_append(&b, LIT("q\0."));
		assert_int_equal(rewrite(b.data, b.len, &out, NULL), 0);
		if (ops[k % 3] != 'B') {
			assert_int_equal(out.len, b.len);
			assert_memory_equal(out.data, b.data, b.len);
		}
		assert_int_equal(rewrite(out.data, out.len, &again, NULL), 0);
		assert_int_equal(out.len, again.len);
		assert_memory_equal(out.data, again.data, out.len);
		wf_buffer_free(&b);
		wf_buffer_free(&out);
		wf_buffer_free(&again);
	}
}

static wf_ref swap_id(void *ctx, wf_ref persid, wf_ref id)
{
	return *(wf_ref *)ctx;
}

static wf_ref make_id(void *ctx, wf_ref persid, wf_ref id)
{
	wf_ref parts[] = {wf_str(ctx, "storage"), id};
	return wf_tuple(ctx, parts, 2);
}

/* Each id is an object that the graph did not have when the writing began. */
static void test_ids_that_are_made(void **state)
{
	enum { COUNT = 5000 };
	struct wf_buffer out = WF_BUFFER_INIT;
	struct wf_graph *g, *again;
	wf_ref root;
	uint32_t n;

	assert_int_equal(wf_graph_new(&g), 0);
	wf_ref list = wf_list(g);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(wf_list_append(g, list, wf_persid(g, wf_int(g, i))), 0);
	assert_int_equal(wf_pickle_write_buffer(g, list, make_id, g, &out, NULL), 0);
	wf_graph_free(g);
	assert_int_equal(kit_read(out.data, out.len, &again, &root, NULL), 0);
	wf_elements(again, root, &n);
	assert_int_equal(n, COUNT);
	for (uint32_t i = 0; i < n; i++) {
		wf_ref id = wf_persid_id(again, wf_element(again, root, i));
		assert_true(wf_str_equal(again, wf_element(again, id, 0), "storage"));
	}
	wf_graph_free(again);
	wf_buffer_free(&out);
}

static int refuse(void *ctx, const void *data, size_t len)
{
	return -ENOSPC;
}

static void test_edited(void **state)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	struct wf_error err = {0};
	struct wf_graph *g;
	wf_ref root;

	assert_int_equal(kit_read(LIT("}(K\1NK\2NK\3NK\4Nu."), &g, &root, NULL), 0);
	wf_dict_set_at(g, root, 0, WF_NIL, WF_NIL);
	wf_dict_set_at(g, root, 3, WF_NIL, WF_NIL);
	assert_int_equal(wf_pickle_write_buffer(g, root, NULL, NULL, &out, &err), 0);
	assert_int_equal(out.len, 14);
	assert_memory_equal(out.data, "\x80\2}q\0(K\2NK\3Nu.", 14);
	wf_buffer_free(&out);
	wf_dict_set_at(g, root, 1, WF_NIL, WF_NIL);
	assert_int_equal(wf_pickle_write_buffer(g, root, NULL, NULL, &out, &err), 0);
	assert_memory_equal(out.data, "\x80\2}q\0K\3Ns.", out.len);
	wf_buffer_free(&out);

	wf_ref id = wf_int(g, 7);
	assert_int_equal(wf_pickle_write_buffer(g, wf_persid(g, wf_none(g)), swap_id, &id, &out, &err), 0);
	assert_memory_equal(out.data, "\x80\2K\7Q.", out.len);
	wf_buffer_free(&out);

	const struct wf_pickle_writer full = {NULL, refuse, NULL};
	assert_int_equal(wf_pickle_write(g, root, &full, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "No space left"));
	assert_int_equal(wf_pickle_write_buffer(g, WF_NIL, NULL, NULL, &out, &err), -EOPNOTSUPP);
	wf_buffer_free(&out);
	/* Only an editor can make an object that contains itself with nothing to fill in between. */
	wf_ref args[] = {wf_none(g)};
	wf_ref call = wf_call(g, WF_CALL_REDUCE, wf_global_named(g, "m", "n"), wf_tuple(g, args, 1), WF_NIL);
	args[0] = call;
	wf_call_set_args(g, call, wf_tuple(g, args, 1));
	assert_int_equal(wf_pickle_write_buffer(g, call, NULL, NULL, &out, &err), -E2BIG);
	wf_buffer_free(&out);
	wf_graph_free(g);
}

/* Whether what is written does what was read. */
static void test_faithful(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		int faithful;
	} cases[] = {
		{LIT("}."), 1},
		{LIT("cm\nn\n)R."), 1},
		{LIT("cm\nn\n)RNb."), 1},
		/* the same call twice, one object twice, a call nobody has */
		{LIT("cm\nn\n)Rcm\nn\n)R\x86."), 1},
		{LIT("cm\nn\n)Rq\0h\0\x86."), 1},
		{LIT("cm\nn\n)Rcm\nn\n)R."), 0},
		{LIT("cm\nn\n)R0N."), 0},
		{LIT("cm\nn\n)\x81"
		     "0N."),
		 0},
		{LIT("(im\nn\n0N."), 0},
		{LIT("cm\nn\n)Rq\0"
		     "0cm\no\n)Rh\0\x86."),
		 0},                                                 /* made first, used second */
		{LIT("cm\nn\n)Rq\0cm\nset\nh\0N\x86R0h\0\x86."), 0}, /* dropped, and the object again */
		/* filled before another object sees it, and afterwards */
		{LIT("]q\0Nacm\nn\nh\0\x85R\x86."), 1},
		{LIT("]q\0cm\nn\nh\0\x85Rh\0Na0\x86."), 0},
		{LIT("cm\nn\n)Rq\0Nbcm\nn\nh\0\x85R\x86."), 1},
		{LIT("cm\nn\n)Rq\0cm\nn\nh\0\x85Rh\0Nb0\x86."), 0},
		{LIT("cm\nn\n)Rq\0cm\nn\nh\0\x85Rh\0NNs0\x86."), 0},
		{LIT("cm\nn\n)R2Nb\x86."), 0},
		/* contains itself */
		{LIT("]q\0h\0a."), 1},
		{LIT("]q\0cm\nn\nh\0\x85Ra."), 1},
		{LIT("}q\0Ncm\nn\nh\0\x85Rs."), 1},
		{LIT("cm\nn\n)Rq\0}Nh\0sb."), 1},
		{LIT("]q\0cm\nn\nh\0\x85RaNa."), 1}, /* seen empty */
		{LIT("]q\0Nacm\nn\nh\0\x85Ra."), 0}, /* seen with one element; a batch would come later */
		{LIT("\x82\1."), 0},
		{LIT("\x80\2N\x80\4\x85."), 0},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct wf_error err = {0};
		const char *why = NULL;
		struct wf_graph *g;
		wf_ref root;
		if (kit_read(cases[i].data, cases[i].len, &g, &root, &err) < 0) {
			if (cases[i].faithful)
				fail_msg("case %zu: %s", i, err.text);
			continue;
		}
		int r = wf_pickle_faithful(g, root, &why);
		if (r != cases[i].faithful)
			fail_msg("case %zu: %d, %s", i, r, why ? why : "");
		assert_true(r == 1 || why[0]);
		wf_graph_free(g);
	}
}

/* Items that are made as they are written, against the same in a dict: keys, and tuples of which every seventh is one that was there. */
struct making {
	struct wf_graph *g;
	struct wf_buffer *out;
	uint32_t kept;
	wf_ref again;
};

static wf_ref made_key(struct wf_graph *g, uint32_t i)
{
	char key[16];
	snprintf(key, sizeof key, "key %u", i);
	return wf_str(g, key);
}

static wf_ref made_value(struct wf_graph *g, uint32_t i)
{
	wf_ref items[] = {wf_global_named(g, "torch", i % 2 ? "FloatStorage" : "HalfStorage"), wf_int(g, i)};
	return wf_tuple(g, items, 2);
}

static int make_item(void *ctx, uint32_t i, struct wf_item *ret, uint32_t *ret_kept, struct wf_error *err)
{
	struct making *m = ctx;
	m->kept = *ret_kept = wf_graph_rewind(m->g, m->kept);
	ret->key = made_key(m->g, i);
	bool again = i % 7 == 0 && m->again != WF_NIL;
	ret->value = again ? m->again : made_value(m->g, i);
	if (i % 7 == 0 && !again) {
		m->again = ret->value;
		m->kept = wf_graph_limit(m->g);
	}
	return i == 70000 ? wf_fail(err, -EIO, "no more") : 0;
}

static int keep_bytes(void *ctx, const void *data, size_t len)
{
	wf_buffer_append(((struct making *)ctx)->out, data, len);
	return 0;
}

static void test_made_items(void **state)
{
	const uint32_t counts[] = {0, 1, 2, 999, 1000, 1001, 2000, 50000, 70001};
	for (size_t k = 0; k < COUNT(counts); k++) {
		struct wf_buffer out = WF_BUFFER_INIT, want = WF_BUFFER_INIT;
		struct wf_error err = {0};
		struct wf_graph *g[2];
		wf_ref root[2], dict[2], again = WF_NIL;
		for (int i = 0; i < 2; i++) {
			assert_int_equal(wf_graph_new(&g[i]), 0);
			wf_graph_share_constants(g[i]);
			wf_ref class = wf_global_named(g[i], "collections", "OrderedDict");
			root[i] = wf_call(g[i], WF_CALL_REDUCE, class, wf_tuple(g[i], NULL, 0), WF_NIL);
			dict[i] = wf_dict_target(g[i], root[i]);
		}
		for (uint32_t i = 0; i < counts[k]; i++) {
			wf_ref key = made_key(g[0], i), value = again;
			if (i % 7 || again == WF_NIL)
				value = made_value(g[0], i);
			again = i % 7 ? again : value;
			assert_int_equal(wf_dict_append(g[0], dict[0], key, value), 0);
		}
		struct making m = {.g = g[1], .out = &out, .kept = wf_graph_limit(g[1])};
		const struct wf_pickle_writer writer = {
			.write = keep_bytes, .ctx = &m, .made = {make_item, dict[1], counts[k]}};
		uint64_t bytes = wf_graph_bytes(g[1]);
		int r = wf_pickle_write(g[1], root[1], &writer, &err);
		assert_int_equal(r, counts[k] > 70000 ? -EIO : 0);
		assert_int_equal(wf_graph_bytes(g[1]), bytes);
		assert_int_equal(wf_pickle_write_buffer(g[0], root[0], NULL, NULL, &want, NULL), 0);
		if (r == 0) {
			assert_int_equal(out.len, want.len);
			assert_memory_equal(out.data, want.data, want.len);
		}
		wf_graph_free(g[0]);
		wf_graph_free(g[1]);
		wf_buffer_free(&out);
		wf_buffer_free(&want);
	}
}

static void test_lossy(void **state)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	struct wf_error err = {0};

	assert_int_equal(rewrite(LIT("Ncm\nset\n)R0."), &out, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "can be read but not written"));
	wf_buffer_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),         cmocka_unit_test(test_containers),
		cmocka_unit_test(test_later_protocols), cmocka_unit_test(test_calls),
		cmocka_unit_test(test_batches),         cmocka_unit_test(test_recursive),
		cmocka_unit_test(test_repeats),         cmocka_unit_test(test_deep),
		cmocka_unit_test(test_doubling),        cmocka_unit_test(test_long_strings),
		cmocka_unit_test(test_edited),          cmocka_unit_test(test_ids_that_are_made),
		cmocka_unit_test(test_lossy),           cmocka_unit_test(test_faithful),
		cmocka_unit_test(test_made_items),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
