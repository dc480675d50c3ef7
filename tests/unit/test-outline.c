/* SPDX-License-Identifier: MIT */
/* The outline of a pickle, and listing a file without opening it. That both say what the tree says of every file of the corpus is tried
 * by tests/files/verbs.py. */
#include "codec/pickle/outline.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint-kit.h"

#define LIT(s) (s), sizeof(s) - 1
#define SD "ccollections\nOrderedDict\n)R"
#define TENSOR "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagetQK\0K\1\x85K\1\x85\x89tR"
#define PARAMETER "ctorch._utils\n_rebuild_parameter\n(" TENSOR "\x88" SD "tR"

static int read_bytes(const char *data, size_t len, struct wf_outline **ret)
{
	struct wf_source *s = NULL;
	char *copy = malloc(len + 1);
	memcpy(copy, data, len);
	assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
	*ret = NULL;
	int r = wf_outline_read(s, ret);
	wf_source_unref(s);
	return r;
}

/* {key: value, ...} and [...]; f a file, ? what is not known. */
static void draw(const struct wf_outline *o, wf_outlined v, int depth, struct wf_buffer *out)
{
	enum wf_outline_shape shape = wf_outline_shape(o, v);
	bool mapping = shape == WF_OUTLINE_MAPPING;
	if (depth > 8 || shape == WF_OUTLINE_UNKNOWN || shape == WF_OUTLINE_FILE) {
		wf_buffer_putc(out, shape == WF_OUTLINE_FILE ? 'f' : '?');
		return;
	}
	wf_buffer_putc(out, mapping ? '{' : '[');
	for (uint32_t i = 0; i < wf_outline_count(o, v); i++) {
		wf_outlined key, value = wf_outline_item(o, v, i, &key);
		size_t len;
		uint32_t number;
		const char *text = wf_outline_text(o, key, &len);
		wf_buffer_puts(out, i ? "," : "");
		if (text)
			wf_buffer_append(out, text, len);
		else if (mapping && wf_outline_number(o, key, &number))
			wf_buffer_printf(out, "%u", number);
		else if (mapping)
			wf_buffer_putc(out, '?');
		wf_buffer_puts(out, mapping ? ":" : "");
		draw(o, value, depth + 1, out);
	}
	wf_buffer_putc(out, mapping ? '}' : ']');
}

static const struct {
	const char *data;
	size_t len;
	const char *drawn; /* NULL: not known */
} cases[] = {
	{LIT("\x80\2}q\0."), "{}"},
	{LIT("\x80\2}(u."), "{}"},
	{LIT("\x80\2}X\1\0\0\0l](es."), "{l:f}"},
	{LIT("\x80\2}q\0X\1\0\0\0aq\1K\1s."), "{a:f}"},
	{LIT("\x80\2}q\0(X\1\0\0\0aNX\1\0\0\0bG\0\0\0\0\0\0\0\0X\1\0\0\0c\x8a\5aaaaau."), "{a:f,b:f,c:f}"},
	{LIT("\x80\4\x95\xe\0\0\0\0\0\0\0}\x94\x8c\1a\x94}\x94\x8c\1b\x94\x88ss."), "{a:{b:f}}"},
	{LIT("\x80\2" SD "(X\1\0\0\0w" TENSOR "X\1\0\0\0p" PARAMETER "u."), "{w:f,p:f}"},
	{LIT("\x80\2" SD "}X\x9\0\0\0_metadata}sb."), "{}"},
	{LIT("\x80\2" SD "}X\x9\0\0\0_mutadata}sb."), "?"}, /* may be a module's */
	{LIT("\x80\2}(K\0}K\1}M\1\2}J\0\0\1\0}u."), "{0:{},1:{},513:{},65536:{}}"},
	{LIT("\x80\2}J\xff\xff\xff\xff}s."), "{?:{}}"},
	{LIT("\x80\2}X\1\0\0\0l](K\1K\2\x86K\3es."), "{l:f}"}, /* one text */
	{LIT("\x80\2}X\1\0\0\0l](}}es."), "{l:[{},{}]}"},
	{LIT("\x80\2}X\1\0\0\0l](K\1" TENSOR "es."), "{l:[f,f]}"},
	{LIT("\x80\2}X\1\0\0\0l](K\1]es."), "{l:?}"},
	{LIT("\x80\2}X\1\0\0\0t" TENSOR "\x85s."), "{t:?}"},
	{LIT("\x80\2}X\1\0\0\0tK\1K\2\x86K\3\x86\x85s."), "{t:?}"}, /* tuples in tuples in tuples */
	{LIT("\x80\2}q\0X\1\0\0\0ah\0s."), "?"},                    /* holds itself */
	{LIT("\x80\2}q\0(X\1\0\0\0a}q\1X\1\0\0\0bh\1u."), "{a:?,b:?}"},
	{LIT("\x80\2}q\0(X\1\0\0\0a}q\1X\1\0\0\0bh\1\x85u."), "{a:?,b:?}"}, /* a tuple holds it too */
	{LIT("\x80\2}X\1\0\0\0ocsome\nclass\n)\x81}bs."), "{o:?}"},
	{LIT("\x80\2}X\1\0\0\0gcsome\nclass\ns."), "{g:?}"},
	{LIT("\x80\2}X\1\0\0\0dctorch._utils\n_rebuild_tensor_v2\n)Rs."), "{d:?}"}, /* of no storage */
	{LIT("\x80\2}X\1\0\0\0b"
	     "B\3\0\0\0abcs."),
	 "{b:f}"},
	{LIT("\x80\2K\1."), "f"},
	{LIT("\x80\2}X\x60\0\0\0"
	     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaNs."),
	 "{?:f}"}, /* long enough for a name that is cut */
	/* what pickle/read.c has to look at */
	{LIT("\x80\2}(X\1\0\0\0au."), NULL},
	{LIT("\x80\2}h\0."), NULL},
	{LIT("\x80\2}X\1\0\0\0aK\1s"), NULL},
	{LIT("\x80\2}X\xff\xff\xff\xff"
	     "a"),
	 NULL},
	{LIT("\x80\2(dp0\n."), NULL},
	{LIT("\x80\2}r\xff\xff\xff\x7f."), NULL},
	{LIT("\x80\2(."), NULL},
	{LIT("\x80\2s."), NULL},
	{LIT("\x80\2N(K\1K\2u."), NULL},
	{LIT("\x80\2}K\1\x85Qb."), NULL},
	{LIT("\x80\2(K\1(Ke."), NULL},
	{LIT("\x80\6}."), NULL},
	{LIT(""), NULL},
};

static void test_cases(void **state)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wf_buffer drawn = WF_BUFFER_INIT;
		struct wf_outline *o;
		int r = read_bytes(cases[i].data, cases[i].len, &o);
		wf_buffer_puts(&drawn, "");
		if (r == 0)
			draw(o, wf_outline_root(o), 0, &drawn);
		if (r != (cases[i].drawn ? 0 : 1) || (cases[i].drawn && strcmp(drawn.data, cases[i].drawn) != 0))
			fail_msg("case %zu: %d %s, not %s", i, r, drawn.data, cases[i].drawn ? cases[i].drawn : "1");
		wf_outline_free(o);
		wf_buffer_free(&drawn);
	}
}

/* Cut anywhere, and with any byte changed: an outline or none, inside its bounds. */
static void test_any_bytes(void **state)
{
	char data[512];
	struct wf_outline *o;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_true(cases[i].len <= sizeof data);
		for (size_t len = 0; len < cases[i].len; len++) {
			assert_true(read_bytes(cases[i].data, len, &o) >= 0);
			wf_outline_free(o);
		}
		for (size_t at = 0; at < cases[i].len; at++)
			for (int byte = 0; byte < 256; byte += 1 + (byte > 16 && byte < 96 ? 2 : 0)) {
				struct wf_buffer drawn = WF_BUFFER_INIT;
				memcpy(data, cases[i].data, cases[i].len);
				data[at] = (char)byte;
				assert_true(read_bytes(data, cases[i].len, &o) >= 0);
				if (o)
					draw(o, wf_outline_root(o), 0, &drawn);
				wf_buffer_free(&drawn);
				wf_outline_free(o);
			}
	}
}

/* ---- files ---- */

static int collect(void *ctx, const char *name, bool directory)
{
	wf_buffer_printf(ctx, "%s%s ", name, directory ? "/" : "");
	return 0;
}

static void assert_listed(const char *path, const char *expected)
{
	struct wf_buffer names = WF_BUFFER_INIT;
	wf_buffer_puts(&names, "");
	int r = wf_list_unopened(file, path, collect, &names);
	if (r != (expected ? 0 : 1) || strcmp(names.data, expected ? expected : "") != 0)
		fail_msg("%s: %d, %s", path, r, names.data);
	wf_buffer_free(&names);
}

static void edit(int (*change)(void))
{
	const struct wf_open_options options = {.writable = true};
	assert_int_equal(wf_open(file, &options, &ck, NULL), 0);
	assert_int_equal(change(), 0);
	assert_int_equal(wf_commit(ck, NULL), 0);
	wf_close(ck);
	ck = NULL;
}

static int make_some(void)
{
	struct wf_stat st, sub;
	int r = wf_mkdir(ck, WF_ROOT, "enc", &sub);
	r = r < 0 ? r : wf_mkdir(ck, sub.ino, "layer%2F1", &st);
	r = r < 0 ? r : wf_create(ck, sub.ino, "w", &st);
	return r < 0 ? r : wf_mkdir(ck, WF_ROOT, "1", &st);
}

static void test_files(void **state)
{
	copy_checkpoint("outline");
	unlink(file);
	assert_int_equal(wf_new(file, NULL), 0);
	assert_listed("", "");
	edit(make_some);
	assert_listed("", "enc/ 1/ ");
	assert_listed("enc", "layer%2F1/ w ");
	assert_listed("enc/layer%2F1", "");
	assert_listed("enc/w", NULL);
	assert_listed("nothing", NULL);
	assert_listed("..", NULL);
	/* what waits beside a file is part of what it shows */
	char overlay[120];
	snprintf(overlay, sizeof overlay, "%s.weightfs", file);
	assert_int_equal(mkdir(overlay, 0700), 0);
	assert_listed("", NULL);
	assert_int_equal(rmdir(overlay), 0);
	assert_listed("", "enc/ 1/ ");
	assert_int_equal(truncate(file, 100), 0);
	assert_listed("", NULL);
	unlink(file);
	assert_listed("", NULL);
}

int main(int argc, char **argv)
{
	files = argc > 1 ? argv[1] : ".";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_any_bytes),
		cmocka_unit_test_teardown(test_files, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
