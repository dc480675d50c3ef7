/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "pickle-kit.h"

struct good {
	const char *data;
	size_t len;
	const char *text;
};

struct bad {
	const char *data;
	size_t len;
	int code;
	uint64_t offset;
	const char *text; /* part of the message */
};

static void check_good(const struct good *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct wf_graph *g;
		struct wf_error err = {0};
		wf_ref root;
		int rc = kit_read(cases[i].data, cases[i].len, &g, &root, &err);
		if (rc < 0)
			fail_msg("case %zu, %s: %s", i, cases[i].text, err.text);
		char *text = kit_text(g, root);
		assert_string_equal(text, cases[i].text);
		free(text);
		wf_graph_free(g);
	}
}

static void check_bad(const struct bad *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct wf_graph *g;
		struct wf_error err = {0};
		wf_ref root;
		int rc = kit_read(cases[i].data, cases[i].len, &g, &root, &err);
		if (rc != cases[i].code || err.code != rc || err.offset != cases[i].offset ||
		    !strstr(err.text, cases[i].text))
			fail_msg("case %zu: %d at %" PRIu64 ", %s; wanted %d at %" PRIu64 ", %s", i, rc, err.offset,
				 err.text, cases[i].code, cases[i].offset, cases[i].text);
		assert_null(g);
		assert_int_equal(kit_read(cases[i].data, cases[i].len, &g, &root, NULL), rc);
	}
}

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void test_atoms(void **state)
{
	static const struct good cases[] = {
		{LIT("N."), "None"},
		{LIT("\x80\x02\x88."), "True"},
		{LIT("\x89."), "False"},
		{LIT("K\xff."), "255"},
		{LIT("M\xff\xff."), "65535"},
		{LIT("J\xff\xff\xff\xff."), "-1"},
		{LIT("J\0\0\0\x80."), "-2147483648"},
		{LIT("\x8a\0."), "0"},
		{LIT("\x8a\x01\x80."), "-128"},
		{LIT("\x8a\x05\0\0\0\0\x01."), "4294967296"},
		{LIT("\x8a\x09\0\0\0\0\0\0\0\0\x01."), "long9"},
		{LIT("\x8b\x02\0\0\0\xff\0."), "255"},
		{LIT("G?\xf8\0\0\0\0\0\0."), "1.5"},
		{LIT("X\x03\0\0\0abc."), "'abc'"},
		{LIT("X\x03\0\0\0\xed\xa0\x80."), "'\\xed\\xa0\\x80'"},
		{LIT("\x8c\x02hi."), "'hi'"},
		{LIT("\x8d\x02\0\0\0\0\0\0\0hi."), "'hi'"},
		{LIT("U\x02hi."), "p'hi'"},
		{LIT("T\x02\0\0\0h\xff."), "p'h\\xff'"},
		{LIT("C\x02h\xff."), "b'h\\xff'"},
		{LIT("B\x01\0\0\0x."), "b'x'"},
		{LIT("\x8e\x01\0\0\0\0\0\0\0x."), "b'x'"},
		{LIT("\x96\x01\0\0\0\0\0\0\0x."), "a'x'"},
		{LIT("\x80\x04\x95\x01\0\0\0\0\0\0\0N."), "None"},
	};
	check_good(cases, COUNT(cases));
}

static void test_text_atoms(void **state)
{
	static const struct good cases[] = {
		{LIT("I01\n."), "True"},
		{LIT("I00\n."), "False"},
		{LIT("I1\n."), "1"},
		{LIT("I-42\n."), "-42"},
		{LIT("L123456789012L\n."), "123456789012"},
		{LIT("L-9223372036854775808L\n."), "-9223372036854775808"},
		{LIT("L9223372036854775807\n."), "9223372036854775807"},
		{LIT("L9223372036854775808L\n."), "long9"},
		{LIT("L-9223372036854775809L\n."), "long9"},
		{LIT("F1.5e3\n."), "1500"},
		{LIT("F-inf\n."), "-inf"},
		{LIT("S'a\\'b\\n\\x41\\101\\q'\n."), "p'a'b\\x0aAA\\q'"},
		{LIT("S\"it's\"\n."), "p'it's'"},
		{LIT("Va\\u00e4\\U0001F600\xe4\\n\n."), "'a\\xc3\\xa4\\xf0\\x9f\\x98\\x80\\xc3\\xa4\\n'"},
		{LIT("V\\\\u0041\n."), "'\\\\u0041'"},
		{LIT("(lp0\nI1\nag0\na."), "[1,[1,[1,[1,[1,[1,[1,[1,[1,[1,[1,[...,...]]]]]]]]]]]]"},
		{LIT("(dp0\nS'k'\np1\nI1\ns."), "{p'k':1}"},
		{LIT("(I1\nI2\ntp0\n0g0\n."), "(1,2)"},
	};
	check_good(cases, COUNT(cases));
}

static void test_containers(void **state)
{
	static const struct good cases[] = {
		{LIT(")."), "()"},
		{LIT("K\x01\x85."), "(1)"},
		{LIT("K\x01K\x02\x86."), "(1,2)"},
		{LIT("K\x01K\x02K\x03\x87."), "(1,2,3)"},
		{LIT("(K\x01K\x02K\x03K\x04t."), "(1,2,3,4)"},
		{LIT("(t."), "()"},
		{LIT("]K\x01"
		     "a."),
		 "[1]"},
		{LIT("](K\x01K\x02"
		     "e(e."),
		 "[1,2]"},
		{LIT("(K\x01l."), "[1]"},
		{LIT("}K\x01K\x02s."), "{1:2}"},
		{LIT("}(K\x01K\x02K\x03K\x04u(u."), "{1:2,3:4}"},
		{LIT("(K\x01K\x02"
		     "d."),
		 "{1:2}"},
		{LIT("\x8f(K\x01K\x02\x90."), "set(1,2)"},
		{LIT("(K\x01\x91."), "frozenset(1)"},
		{LIT("K\x01"
		     "2\x86."),
		 "(1,1)"},
		{LIT("K\x01(K\x02K\x03"
		     "1."),
		 "1"},
		{LIT("K\x01(0."), "1"},
		/* the last value of equal keys, at the first one's place */
		{LIT("}(K\x01K\x02K\x03K\x04\x88K\x05u."), "{1:5,3:4}"},
		{LIT("(X\x01\0\0\0aK\x01X\x01\0\0\0bK\x02X\x01\0\0\0aK\x03"
		     "d."),
		 "{'a':3,'b':2}"},
	};
	check_good(cases, COUNT(cases));
}

static void test_calls(void **state)
{
	static const struct good cases[] = {
		{LIT("cm\nn\n."), "m.n"},
		{LIT("cm.a\nn.b\n."), "m.a.n.b"},
		{LIT("\x80\x04\x8c\x01m\x8c\x03n.b\x93."), "nested m.n.b"},
		{LIT("\x80\x02\x8c\x01m\x8c\x03n.b\x93."), "m.n.b"},
		{LIT("cm\nn\n)R."), "m.n()"},
		{LIT("cm\nn\nK\x01\x85R."), "m.n(1)"},
		{LIT("cm\nn\n](K\x01"
		     "eR."),
		 "m.n[1]"},
		{LIT("cm\nn\n)\x81."), "new m.n()"},
		{LIT("cm\nn\n)}K\x01K\x02s\x92."), "newex m.n(){1:2}"},
		{LIT("(im\nn\n."), "new m.n()"},
		{LIT("(K\x01im\nn\n."), "m.n(1)"},
		{LIT("(cm\nn\no."), "new m.n()"},
		{LIT("(cm\nn\nK\x01o."), "m.n(1)"},
		{LIT("cm\nn\n)R}b."), "m.n()!{}"},
		{LIT("cm\nn\n)RK\x01K\x02sK\x03"
		     "a(K\x04\x90K\x05"
		     "bK\x06"
		     "bK\x07"
		     "a."),
		 "m.n()+[3]&set(4)={1:2}!5!6+[7]"},
		{LIT("K\x01Q."), "<1>"},
	};
	check_good(cases, COUNT(cases));
}

static void test_memo(void **state)
{
	static const struct good cases[] = {
		{LIT("]q\0h\0\x86."), ""},
		{LIT("K\x01q\0K\x02q\0h\0\x87."), "(1,2,2)"},
		{LIT("X\x01\0\0\0ar\xff\xff\xff\x07"
		     "0j\xff\xff\xff\x07."),
		 "'a'"},
		{LIT("K\x01\x94K\x02\x94h\x01h\0(t\x87."), "(2,1,())"},
		{LIT("K\x01q\x09K\x02\x94h\x01\x86."), "(2,2)"},
		{LIT("K\x01p2000000\nK\x02p2000000\ng2000000\n\x86."), "(2,2)"},
	};
	check_good(cases + 1, COUNT(cases) - 1);

	/* One object under two names is one ref. */
	struct wf_graph *g;
	wf_ref root;
	assert_int_equal(kit_read(cases[0].data, cases[0].len, &g, &root, NULL), 0);
	assert_true(wf_is(g, wf_element(g, root, 0), WF_LIST));
	assert_int_equal(wf_element(g, root, 0), wf_element(g, root, 1));
	wf_graph_free(g);
}

/* Indices far apart and in any order, against an array. */
static void test_memo_sparse(void **state)
{
	enum { N = 20000 };
	struct wf_buffer b = WF_BUFFER_INIT;
	struct wf_graph *g;
	wf_ref root;
	uint32_t index;

	wf_buffer_append(&b, "(", 1);
	for (uint32_t i = 0; i < N; i++) {
		index = (i * 2654435761u) % WF_PICKLE_MAX_MEMO;
		wf_buffer_append(&b, "M", 1);
		wf_buffer_append(&b, &i, 2);
		wf_buffer_append(&b, "r", 1);
		wf_buffer_append(&b, &index, 4);
		wf_buffer_append(&b, "0", 1);
	}
	for (uint32_t i = 0; i < N; i++) {
		index = (i * 2654435761u) % WF_PICKLE_MAX_MEMO;
		wf_buffer_append(&b, "j", 1);
		wf_buffer_append(&b, &index, 4);
	}
	wf_buffer_append(&b, "t.", 2);
	assert_int_equal(kit_read(b.data, b.len, &g, &root, NULL), 0);
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(wf_element(g, root, i), wf_int(g, i));
	wf_graph_free(g);
	wf_buffer_free(&b);
}

static void test_malformed(void **state)
{
	static const struct bad cases[] = {
		{LIT(""), -EUCLEAN, 0, "ends without STOP"},
		{LIT("N"), -EUCLEAN, 1, "ends without STOP"},
		{LIT("."), -EUCLEAN, 0, "STOP needs 1 operands, and the stack holds 0"},
		{LIT("N(."), -EUCLEAN, 2, "STOP finds a MARK"},
		{LIT("\xff."), -EUCLEAN, 0, "0xff is no pickle opcode"},
		{LIT("\x80\x06N."), -EOPNOTSUPP, 0, "protocol 6"},
		{LIT("0."), -EUCLEAN, 0, "POP needs"},
		{LIT("1."), -EUCLEAN, 0, "POP_MARK without a MARK"},
		{LIT("2."), -EUCLEAN, 0, "DUP needs"},
		{LIT("N\x86."), -EUCLEAN, 1, "TUPLE2 needs 2 operands, and the stack holds 1"},
		{LIT("N(N\x86."), -EUCLEAN, 3, "TUPLE2 finds a MARK"},
		{LIT("t."), -EUCLEAN, 0, "TUPLE without a MARK"},
		{LIT("}Nu."), -EUCLEAN, 2, "SETITEMS without a MARK"},
		{LIT("}(Nu."), -EUCLEAN, 3, "SETITEMS with a key that has no value"},
		{LIT("(Nd."), -EUCLEAN, 2, "DICT with a key that has no value"},
		{LIT("(NNu."), -EUCLEAN, 3, "SETITEMS with nothing below its MARK"},
		{LIT("((NNu."), -EUCLEAN, 4, "SETITEMS with nothing below its MARK"},
		{LIT("]NNs."), -EUCLEAN, 3, "SETITEM on a list"},
		{LIT("}Na."), -EUCLEAN, 2, "APPEND on a dict"},
		{LIT("K\x01(Ne."), -EUCLEAN, 4, "APPENDS on a int"},
		{LIT("](N\x90."), -EUCLEAN, 3, "ADDITEMS on a list"},
		{LIT("}]Ns."), -EUCLEAN, 3, "SETITEM with a list for a key"},
		{LIT("}(}Nu."), -EUCLEAN, 4, "SETITEMS with a dict for a key"},
		{LIT("(]\x91."), -EUCLEAN, 2, "FROZENSET with a list"},
		{LIT("\x8f(\x8f\x90."), -EUCLEAN, 3, "ADDITEMS with a set"},
		{LIT("h\x07."), -EUCLEAN, 0, "BINGET of the unset memo index 7"},
		{LIT("j\xff\xff\xff\xff."), -EUCLEAN, 0, "LONG_BINGET of the unset memo index 4294967295"},
		{LIT("g12\n."), -EUCLEAN, 0, "GET of the unset memo index 12"},
		{LIT("gx\n."), -EUCLEAN, 0, "GET with a line that is no memo index"},
		{LIT("Np-1\n."), -EUCLEAN, 1, "PUT with a line that is no memo index"},
		{LIT("q\0."), -EUCLEAN, 0, "BINPUT needs"},
		{LIT("\x94."), -EUCLEAN, 0, "MEMOIZE needs"},
		{LIT("Nr\xff\xff\xff\xff."), -E2BIG, 1, "memo index 4294967295"},
		{LIT("Nr\0\0\0\x08."), -E2BIG, 1, "memo index 134217728"},
		{LIT("Np99999999999\n."), -E2BIG, 1, "memo index 99999999999"},
		{LIT("P1\n."), -EOPNOTSUPP, 0, "PERSID is not supported"},
		{LIT("\x82"), -EUCLEAN, 0, "the pickle ends inside EXT1"},
		{LIT("\x97."), -EOPNOTSUPP, 0, "NEXT_BUFFER"},
		{LIT("\x98."), -EOPNOTSUPP, 0, "READONLY_BUFFER"},
		{LIT("Q."), -EUCLEAN, 0, "BINPERSID needs"},
		{LIT("NR."), -EUCLEAN, 1, "REDUCE needs 2"},
		{LIT("N)R."), -EUCLEAN, 2, "REDUCE of a None, which cannot be called"},
		{LIT("cm\nn\nNR."), -EUCLEAN, 6, "REDUCE with a None for its arguments"},
		{LIT("cm\nn\nX\0\0\0\0\x81."), -EUCLEAN, 10, "NEWOBJ with a str for its arguments"},
		{LIT("cm\nn\n)N\x92."), -EUCLEAN, 7, "NEWOBJ_EX with a None for its keyword"},
		{LIT("im\nn\n."), -EUCLEAN, 0, "INST without a MARK"},
		{LIT("(o."), -EUCLEAN, 1, "OBJ without a class"},
		{LIT("(No."), -EUCLEAN, 2, "OBJ of a None"},
		{LIT("}}b."), -EUCLEAN, 2, "BUILD on a dict"},
		{LIT("}b."), -EUCLEAN, 1, "BUILD needs 2"},
		{LIT("K\0X\0\0\0\0\x93."), -EUCLEAN, 7, "STACK_GLOBAL of a int and a str"},
		{LIT("X\x01\0\0\0\0X\0\0\0\0\x93."), -EUCLEAN, 11, "a name that holds a NUL"},
		{LIT("\x8c\x01\nX\0\0\0\0\x93."), -EUCLEAN, 8, "a name that holds a NUL or a newline"},
		{LIT("cm\0\nn\n."), -EUCLEAN, 0, "GLOBAL with a name that holds a NUL"},
		{LIT("c\xff\nn\n."), -EUCLEAN, 0, "GLOBAL with a name that is not UTF-8"},
		{LIT("cm\nn"), -EUCLEAN, 0, "ends inside GLOBAL"},
		{LIT("\x8b\xff\xff\xff\xff."), -EUCLEAN, 0, "LONG4 with a negative length (-1)"},
		{LIT("\x8b\xff\xff\xff\x7f."), -E2BIG, 0, "an int of 2147483647 bytes"},
		{LIT("\x8a\x05\x01."), -EUCLEAN, 0, "ends inside LONG1"},
		{LIT("T\xff\xff\xff\xff."), -EUCLEAN, 0, "BINSTRING with a negative length (-1)"},
		{LIT("X\xff\xff\xff\xff."), -EUCLEAN, 0, "BINUNICODE of 4294967295 bytes where 1 are left"},
		{LIT("\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), -EUCLEAN, 0, "BINUNICODE8 of 18446744073709551615"},
		{LIT("\x96\xff\xff\xff\xff\xff\xff\xff\x7f."), -EUCLEAN, 0, "BYTEARRAY8 of"},
		{LIT("X\x01\0\0\0\x80."), -EUCLEAN, 0, "not UTF-8"},
		{LIT("X\x02\0\0\0\xc0\x80."), -EUCLEAN, 0, "not UTF-8"},
		{LIT("X\x03\0\0\0\xe0\x80\x80."), -EUCLEAN, 0, "not UTF-8"},
		{LIT("X\x04\0\0\0\xf4\x90\x80\x80."), -EUCLEAN, 0, "not UTF-8"},
		{LIT("X\x02\0\0\0\xe2\x82."), -EUCLEAN, 0, "not UTF-8"},
		{LIT("\x95\xff\0\0\0\0\0\0\0N."), -EUCLEAN, 0, "FRAME of 255 bytes where 2 are left"},
		{LIT("I\n."), -EUCLEAN, 0, "INT with a line that is no decimal number"},
		{LIT("I1x\n."), -EUCLEAN, 0, "INT with a line"},
		{LIT("L-L\n."), -EUCLEAN, 0, "LONG with a line"},
		{LIT("F\n."), -EUCLEAN, 0, "FLOAT with a line"},
		{LIT("F0x1\n."), -EUCLEAN, 0, "FLOAT with a line"},
		{LIT("F1.5.5\n."), -EUCLEAN, 0, "FLOAT with a line"},
		{LIT("Sabc\n."), -EUCLEAN, 0, "not in quotes"},
		{LIT("S'abc\n."), -EUCLEAN, 0, "not in quotes"},
		{LIT("S'a\\'\n."), -EUCLEAN, 0, "bad escape"},
		{LIT("S'\\xg0'\n."), -EUCLEAN, 0, "bad escape"},
		{LIT("V\\u12\n."), -EUCLEAN, 0, "bad \\u escape"},
		{LIT("V\\U00110000\n."), -EUCLEAN, 0, "bad \\U escape"},
	};
	check_bad(cases, COUNT(cases));
}

static void test_long_lines(void **state)
{
	enum { N = 300000 };
	static char data[N + 8];
	struct wf_graph *g;
	struct wf_error err = {0};
	wf_ref root;

	memset(data, '7', sizeof data);
	data[0] = 'I';
	memcpy(data + N, "\n.", 2);
	assert_int_equal(kit_read(data, N + 2, &g, &root, &err), -E2BIG);
	assert_non_null(strstr(err.text, "INT with a line of more than"));
	memcpy(data + 5000, "\n.", 2);
	assert_int_equal(kit_read(data, 5002, &g, &root, &err), -E2BIG);
	assert_non_null(strstr(err.text, "INT of 4999 digits; the limit is 4300"));
	memcpy(data + 4301, "\n.", 2);
	assert_int_equal(kit_read(data, 4303, &g, &root, &err), 0);
	wf_graph_free(g);
}

/* A small state dict as torch.save writes it. */
#define STATE_DICT                                                                                \
	"\x80\x02"                                                                                \
	"ccollections\nOrderedDict\nq\0)Rq\1(X\1\0\0\0wq\2ctorch._utils\n_rebuild_tensor_v2\nq\3" \
	"((X\7\0\0\0storageq\4ctorch\nFloatStorage\nq\5X\1\0\0\0"                                 \
	"0q\6X\3\0\0\0cpuq\7K\6tq\x08QK\0K\2K\3\x86q\x09K\3K\1"                                   \
	"\x86q\x0a\x89h\0)Rq\x0btq\x0cRq\x0dX\5\0\0\0epochq\x0eK\x0au}q\x0fX\x09\0\0\0_metadataq\x10h\0)Rq\x11sb."

static void test_state_dict(void **state)
{
	static const struct good cases[] = {
		{LIT(STATE_DICT),
		 "collections.OrderedDict()={'w':torch._utils._rebuild_tensor_v2(<('storage',torch.FloatStorage,'0',"
		 "'cpu',6)>,0,(2,3),(3,1),False,collections.OrderedDict()),'epoch':10}"
		 "!{'_metadata':collections.OrderedDict()}"},
	};
	check_good(cases, 1);
}

/* Wherever the bytes end, and whichever byte is another one: an answer, and never more than that. */
static void test_truncated_and_flipped(void **state)
{
	static const char whole[] = STATE_DICT;
	char data[sizeof whole];
	struct wf_graph *g;
	wf_ref root;

	for (size_t n = 0; n < sizeof whole - 1; n++) {
		struct wf_error err = {0};
		assert_int_equal(kit_read(whole, n, &g, &root, &err), -EUCLEAN);
		assert_true(strstr(err.text, "ends") || strstr(err.text, "are left"));
	}
	for (size_t n = 0; n < sizeof whole - 1; n++) {
		for (int v = 0; v < 256; v++) {
			memcpy(data, whole, sizeof whole);
			data[n] = (char)v;
			if (kit_read(data, sizeof whole - 1, &g, &root, NULL) == 0)
				wf_graph_free(g);
		}
	}
}

static void read_generated(const struct wf_buffer *b, int want)
{
	struct wf_graph *g;
	struct wf_error err = {0};
	wf_ref root;

	assert_int_equal(wf_buffer_status(b), 0);
	int rc = kit_read(b->data, b->len, &g, &root, &err);
	if (rc != want)
		fail_msg("%d, %s", rc, err.text);
	wf_graph_free(g);
}

static void test_deep(void **state)
{
	enum { N = 100000 };
	struct wf_buffer b = WF_BUFFER_INIT;

	for (int i = 0; i < N; i++)
		wf_buffer_puts(&b, "]");
	for (int i = 1; i < N; i++)
		wf_buffer_puts(&b, "a");
	wf_buffer_puts(&b, ".");
	read_generated(&b, 0);
	b.len = 0;
	for (int i = 0; i < N; i++)
		wf_buffer_puts(&b, "(");
	for (int i = 0; i < N; i++)
		wf_buffer_puts(&b, "t");
	wf_buffer_puts(&b, ".");
	read_generated(&b, 0);
	wf_buffer_free(&b);
}

/* 2^1000 leaves by DUP, and by the memo. */
static void test_doubling(void **state)
{
	struct wf_buffer b = WF_BUFFER_INIT;

	wf_buffer_puts(&b, "N");
	for (int i = 0; i < 1000; i++)
		wf_buffer_puts(&b, "2\x86");
	wf_buffer_puts(&b, ".");
	read_generated(&b, 0);
	b.len = 0;
	wf_buffer_puts(&b, "]q");
	wf_buffer_append(&b, "\0", 1);
	for (int i = 0; i < 1000; i++) {
		wf_buffer_puts(&b, "(h");
		wf_buffer_append(&b, "\0h\0lq\0", 6);
	}
	wf_buffer_puts(&b, ".");
	read_generated(&b, 0);
	wf_buffer_free(&b);
}

static void test_cycles(void **state)
{
	static const struct good cases[] = {
		{LIT("}q\0K\x01h\0s."), "{1:{1:{1:{1:{1:{1:{1:{1:{1:{1:{1:{...:...}}}}}}}}}}}}"},
		{LIT("cm\nn\n)Rq\0}K\x01h\0sb0K\x01."), "1"},
	};
	check_good(cases, COUNT(cases));
}

/* One long tuple as every key: the work for a key must not depend on its length. */
static void test_huge_keys(void **state)
{
	enum { N = 200000 };
	struct wf_buffer b = WF_BUFFER_INIT;

	wf_buffer_puts(&b, "(");
	for (int i = 0; i < N; i++)
		wf_buffer_puts(&b, "N");
	wf_buffer_puts(&b, "tq");
	wf_buffer_append(&b,
			 "\0"
			 "0}(",
			 4);
	for (int i = 0; i < N; i++) {
		wf_buffer_puts(&b, "h");
		wf_buffer_append(&b, "\0N", 2);
	}
	wf_buffer_puts(&b, "u.");
	clock_t start = clock();
	read_generated(&b, 0);
	assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
	wf_buffer_free(&b);
}

/* Long strings stay where they are; the graph knows where. */
static void test_long_strings(void **state)
{
	enum { N = 100000 };
	struct wf_buffer b = WF_BUFFER_INIT;
	struct wf_graph *g;
	wf_ref root;
	uint32_t n = N;
	uint64_t at;
	char buf[8];

	wf_buffer_puts(&b, "X");
	wf_buffer_append(&b, &n, 4);
	for (int i = 0; i < N; i++)
		wf_buffer_putc(&b, (char)('a' + i % 26));
	wf_buffer_puts(&b, ".");
	assert_int_equal(kit_read(b.data, b.len, &g, &root, NULL), 0);
	assert_null(wf_bytes(g, root, NULL));
	assert_int_equal(wf_string_size(g, root), N);
	assert_true(wf_string_external_at(g, root, &at) && at == 5);
	assert_int_equal(wf_string_read(g, root, 26 * 1000, buf, 8), 0);
	assert_memory_equal(buf, "abcdefgh", 8);

	/* Into a graph whose source is another one it has to be copied. */
	struct wf_source *s;
	uint64_t end;
	wf_ref second;
	assert_int_equal(wf_source_from_memory(b.data, b.len, false, &s), 0);
	assert_int_equal(wf_pickle_read(g, s, 0, b.len, NULL, &second, &end, NULL), 0);
	size_t len;
	assert_non_null(wf_bytes(g, second, &len));
	assert_int_equal(len, N);
	assert_int_equal(end, b.len);
	wf_source_unref(s);
	wf_graph_free(g);
	wf_buffer_free(&b);
}

static wf_ref name_persid(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	int64_t v;

	if (!wf_int_value(g, id, &v)) {
		wf_fail(err, -EUCLEAN, "a persistent id that is no int");
		return WF_NIL;
	}
	*(int64_t *)ctx = v;
	return wf_str(g, "loaded");
}

static void test_persid_hook(void **state)
{
	int64_t met = 0;
	const struct wf_pickle_reader hooks = {name_persid, &met};
	static char good[] = "xxK\x07Q.tail", bad[] = "xx]Q.";
	struct wf_source *s;
	struct wf_graph *g;
	struct wf_error err = {0};
	wf_ref root;
	uint64_t end;

	assert_int_equal(wf_graph_new(&g), 0);
	assert_int_equal(wf_source_from_memory(good, sizeof good - 1, false, &s), 0);
	assert_int_equal(wf_pickle_read(g, s, 2, sizeof good - 3, &hooks, &root, &end, &err), 0);
	assert_true(wf_str_equal(g, root, "loaded"));
	assert_int_equal(met, 7);
	assert_int_equal(end, 6);
	assert_int_equal(wf_pickle_read(g, s, 2, sizeof good, &hooks, &root, &end, &err), -EUCLEAN);
	wf_source_unref(s);
	assert_int_equal(wf_source_from_memory(bad, sizeof bad - 1, false, &s), 0);
	assert_int_equal(wf_pickle_read(g, s, 2, sizeof bad - 3, &hooks, &root, &end, &err), -EUCLEAN);
	assert_string_equal(err.text, "a persistent id that is no int");
	assert_int_equal(err.offset, 3);
	wf_source_unref(s);
	wf_graph_free(g);
}

/* A call whose result is dropped leaves nothing in the graph: such a pickle must not be written back. */
static void test_lossy(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		bool lossy;
	} cases[] = {
		{LIT("Ncm\nset\n)R0."), true},
		{LIT("cm\nn\n)Rq\0cm\nn\n)R0h\0\x86."), false}, /* an object that contains itself */
		{LIT("NK\x01"
		     "0."),
		 false},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct wf_graph *g;
		wf_ref root;
		assert_int_equal(kit_read(cases[i].data, cases[i].len, &g, &root, NULL), 0);
		assert_int_equal(wf_graph_lossy(g) != NULL, cases[i].lossy);
		wf_graph_free(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_atoms),        cmocka_unit_test(test_text_atoms),
		cmocka_unit_test(test_containers),   cmocka_unit_test(test_calls),
		cmocka_unit_test(test_memo),         cmocka_unit_test(test_memo_sparse),
		cmocka_unit_test(test_malformed),    cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_state_dict),   cmocka_unit_test(test_truncated_and_flipped),
		cmocka_unit_test(test_deep),         cmocka_unit_test(test_doubling),
		cmocka_unit_test(test_cycles),       cmocka_unit_test(test_huge_keys),
		cmocka_unit_test(test_long_strings), cmocka_unit_test(test_persid_hook),
		cmocka_unit_test(test_lossy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
