/* SPDX-License-Identifier: MIT */
/* Edits through the front door, as tools make them. Whatever was done, the tree must read the same at once, after the
 * log was replayed by a reader and by a writer, and after a commit. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint-kit.h"

#include "codec/bytes/buffer.h"
#include "codec/value/names.h"
#include "codec/bytes/util.h"

static unsigned int changes;

static void note_change(void *ctx, uint32_t ino, uint64_t offset, uint64_t len)
{
	changes++;
}

static struct wf_checkpoint *open_file(bool writable)
{
	struct wf_checkpoint *c = NULL;
	struct wf_error err = {0};
	const struct wf_open_options o = {.writable = writable, .changed = note_change};
	int r = wf_open(file, &o, &c, &err);
	if (r < 0)
		fail_msg("%d: %s", r, err.text);
	return c;
}

static int setup(void **state)
{
	copy_checkpoint("edit");
	ck = open_file(true);
	return 0;
}

/* ---- what a tool does ---- */

/* The directory of a path; *ret_name: its last name. */
static uint32_t dir_of(const char *path, const char **ret_name)
{
	uint32_t ino = WF_ROOT;
	struct wf_stat st;
	for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
		char name[WF_NAME_MAX + 1];
		snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
		assert_int_equal(wf_lookup(ck, ino, name, &st), 0);
		ino = st.ino;
	}
	*ret_name = path;
	return ino;
}

static int find(const char *path, struct wf_stat *st)
{
	const char *name;
	uint32_t parent = dir_of(path, &name);
	return wf_lookup(ck, parent, name, st);
}

static uint32_t ino_of(const char *path)
{
	struct wf_stat st;
	if (!*path)
		return WF_ROOT;
	if (find(path, &st) < 0)
		fail_msg("no %s", path);
	return st.ino;
}

static int rename_to(const char *from, const char *to)
{
	const char *a, *b;
	uint32_t x = dir_of(from, &a), y = dir_of(to, &b);
	return wf_rename(ck, x, a, y, b, 0);
}

static int unlink_path(const char *path)
{
	const char *name;
	uint32_t parent = dir_of(path, &name);
	return wf_unlink(ck, parent, name);
}

static int make_dir(const char *path)
{
	struct wf_stat st;
	const char *name;
	uint32_t parent = dir_of(path, &name);
	return wf_mkdir(ck, parent, name, &st);
}

/* > path, as a shell does it: the descriptor is duplicated and closed before a byte is written. */
static int put(const char *path, const void *data, size_t len)
{
	struct wf_stat st;
	const char *name;
	uint32_t parent = dir_of(path, &name);
	int r = wf_lookup(ck, parent, name, &st);
	if (r == -ENOENT)
		assert_int_equal(wf_create(ck, parent, name, &st), 0);
	struct wf_opening *o;
	assert_int_equal(wf_open_file(ck, st.ino, WF_WRITES, &o), 0);
	if (r == 0)
		assert_int_equal(wf_truncate(ck, st.ino, NULL, 0), 0);
	wf_flush(ck, st.ino, o);
	for (size_t at = 0; at < len; at += 5)
		assert_int_equal(wf_write(ck, st.ino, o, at, (const char *)data + at, WF_MIN(len - at, 5u)),
				 WF_MIN(len - at, 5u));
	r = wf_flush(ck, st.ino, o);
	wf_release(ck, st.ino, o);
	return r;
}

static int put_text(const char *path, const char *text)
{
	return put(path, text, strlen(text));
}

static int set(const char *path, const char *name, const char *value)
{
	char full[64];
	snprintf(full, sizeof full, "user.torch.%s", name);
	return wf_setxattr(ck, ino_of(path), full, value, strlen(value), 0);
}

static void expect_text(const char *path, const char *text)
{
	char buf[256];
	ssize_t n = wf_read(ck, ino_of(path), 0, buf, sizeof buf - 1);
	assert_true(n >= 0);
	buf[n] = '\0';
	assert_string_equal(buf, text);
}

static void expect_bytes(const char *path, const void *data, size_t len)
{
	char *buf = calloc(1, len + 1);
	assert_int_equal(wf_read(ck, ino_of(path), 0, buf, len + 1), (ssize_t)len);
	assert_memory_equal(buf, data, len);
	free(buf);
}

static void expect(const char *path, const char *name, const char *value)
{
	struct wf_buffer b = WF_BUFFER_INIT;
	char full[64];
	snprintf(full, sizeof full, "user.torch.%s", name);
	int r = wf_getxattr(ck, ino_of(path), full, &b);
	if (r < 0 || !b.data || strcmp(b.data, value) != 0)
		fail_msg("%s of %s is %s (%d), not %s", name, path, b.data ? b.data : "nothing", r, value);
	wf_buffer_free(&b);
}

static void expect_gone(const char *path)
{
	struct wf_stat st;
	assert_int_equal(find(path, &st), -ENOENT);
}

/* ---- the whole tree as text ---- */

struct dump {
	struct wf_buffer out;
	struct wf_checkpoint *ck;
	struct {
		char path[256];
		uint32_t ino;
	} todo[64];
	uint32_t count, at;
	bool scratch;
};

static int dump_entry(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	struct dump *d = ctx;
	char above[121];
	if (!d->scratch && wf_name_is_scratch(name))
		return 0;
	assert_true(d->count < WF_ARRAY_SIZE(d->todo));
	d->todo[d->count].ino = st->ino;
	snprintf(above, sizeof above, "%.120s", d->todo[d->at].path);
	snprintf(d->todo[d->count++].path, sizeof d->todo->path, "%s/%.120s", above, name);
	return 0;
}

static void dump_node(struct dump *d, uint32_t i)
{
	static const char *const names[] = {"dtype", "shape", "stride", "location", "requires_grad", "class"};
	struct wf_stat st;
	assert_int_equal(wf_getattr(d->ck, d->todo[i].ino, &st), 0);
	wf_buffer_printf(&d->out, "%s type %d size %llu links %u", d->todo[i].path, st.type,
			 (unsigned long long)st.size_bytes, st.nlink);
	for (size_t k = 0; k < WF_ARRAY_SIZE(names); k++) {
		char name[64];
		struct wf_buffer value = WF_BUFFER_INIT;
		snprintf(name, sizeof name, "user.torch.%s", names[k]);
		if (wf_getxattr(d->ck, st.ino, name, &value) == 0)
			wf_buffer_printf(&d->out, " %s", value.data);
		wf_buffer_free(&value);
	}
	if (st.type == WF_SYMLINK) {
		wf_buffer_puts(&d->out, " -> ");
		wf_readlink(d->ck, st.ino, &d->out);
	} else if (st.type == WF_FILE) {
		unsigned char *p = malloc(st.size_bytes + 1);
		ssize_t n = wf_read(d->ck, st.ino, 0, p, st.size_bytes + 1);
		wf_buffer_printf(&d->out, " read %zd:", n);
		for (ssize_t k = 0; k < n; k++)
			wf_buffer_printf(&d->out, "%02x", p[k]);
		free(p);
	}
	wf_buffer_putc(&d->out, '\n');
	if (st.type == WF_DIRECTORY) {
		d->at = i;
		assert_int_equal(wf_readdir(d->ck, st.ino, 0, dump_entry, d), 0);
	}
}

static char *dump(struct wf_checkpoint *c, bool scratch)
{
	struct dump *d = calloc(1, sizeof *d);
	*d = (struct dump){.ck = c, .scratch = scratch, .count = 1};
	d->todo[0].ino = WF_ROOT;
	for (uint32_t i = 0; i < d->count; i++)
		dump_node(d, i);
	char *text = wf_buffer_steal(&d->out);
	free(d);
	return text;
}

static void same(const char *when, const char *before, char *now)
{
	const char *a = before, *b = now;
	while (*a && *a == *b) {
		a++;
		b++;
	}
	if (*a == *b) {
		free(now);
		return;
	}
	while (a > before && a[-1] != '\n')
		a--;
	while (b > now && b[-1] != '\n')
		b--;
	fail_msg("%s: before: %.*s; now: %.*s", when, (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
}

/* Replay and commit change nothing that can be seen. */
static void survives(void)
{
	char *all = dump(ck, true), *keys = dump(ck, false);
	struct wf_error err = {0};
	assert_int_equal(wf_sync(ck), 0);
	struct wf_checkpoint *reader = open_file(false);
	same("a reader's replay", all, dump(reader, true));
	wf_close(reader);
	wf_close(ck);
	ck = open_file(true);
	same("replay", all, dump(ck, true));
	int r = wf_commit(ck, &err);
	if (r < 0)
		fail_msg("commit: %d %s", r, err.text);
	same("after the commit", all, dump(ck, true));
	assert_false(wf_is_dirty(ck));
	wf_close(ck);
	ck = open_file(true);
	same("opened again", keys, dump(ck, false));
	free(all);
	free(keys);
}

/* ---- names ---- */

static void test_rename(void **state)
{
	assert_int_equal(rename_to("a", "b"), 0);
	assert_int_equal(rename_to("k0", "k1"), 0);
	assert_int_equal(rename_to("k9", "x"), -ENOENT);
	assert_int_equal(make_dir("sub"), 0);
	assert_int_equal(make_dir("sub/deep"), 0);
	assert_int_equal(rename_to("k2", "sub/deep/k2"), 0);
	assert_int_equal(rename_to("sub", "sub/deep/sub"), -EINVAL);
	assert_int_equal(rename_to("sub", "moved"), 0);
	assert_int_equal(rename_to("moved/deep", "deep"), 0);
	assert_int_equal(rename_to("k3", "deep"), -EISDIR);
	assert_int_equal(rename_to("deep", "k3"), -ENOTDIR);
	assert_int_equal(wf_rename(ck, WF_ROOT, "k3", WF_ROOT, "k4", 1), -EEXIST);
	assert_int_equal(wf_rename(ck, WF_ROOT, "k3", WF_ROOT, "k4", 2), 0);
	assert_int_equal(wf_rename(ck, WF_ROOT, "k5", ino_of("deep"), "k2", 2), 0);
	expect("k3", "shape", "[5]");
	expect("deep/k2", "shape", "[6]");
	expect_gone("k0");
	expect("k1", "shape", "[1]");
	survives();
}

static void test_remove_and_make(void **state)
{
	struct wf_stat st;
	assert_int_equal(unlink_path("view"), 0);
	assert_int_equal(make_dir("d"), 0);
	assert_int_equal(make_dir("d"), -EEXIST);
	assert_int_equal(unlink_path("d"), -EISDIR);
	assert_int_equal(put("d/x", "12345678", 8), 0);
	assert_int_equal(wf_rmdir(ck, WF_ROOT, "d"), -ENOTEMPTY);
	assert_int_equal(wf_rmdir(ck, WF_ROOT, "a"), -ENOTDIR);
	assert_int_equal(make_dir("e"), 0);
	assert_int_equal(wf_rmdir(ck, WF_ROOT, "e"), 0);
	assert_int_equal(wf_link(ck, ino_of("a"), ino_of("d"), "tie", &st), 0);
	assert_int_equal(st.nlink, 2);
	assert_int_equal(wf_symlink(ck, "d", WF_ROOT, "link", &st), 0);
	assert_int_equal(wf_symlink(ck, "/etc", WF_ROOT, "link2", &st), -EPERM);
	assert_int_equal(wf_symlink(ck, "a", WF_ROOT, "link2", &st), -EPERM);
	expect("d", "class", "collections.OrderedDict"); /* as the mapping above */
	survives();
	assert_int_equal(unlink_path("a"), 0); /* the other name of the tie holds the data */
	assert_int_equal(wf_write(ck, ino_of("d/tie"), NULL, 0, "\0\0\x80\x3f", 4), 4);
	survives();
}

/* ---- content ---- */

static void test_write(void **state)
{
	float one = 1.0f;
	unsigned int before = changes;
	assert_int_equal(wf_write(ck, ino_of("a"), NULL, 20, &one, 4), 4);
	assert_true(changes > before); /* view shows the same bytes */
	assert_int_equal(wf_write(ck, ino_of("ints"), NULL, 3, "abc", 3), 3);
	survives();
}

static void test_replace(void **state)
{
	float values[12] = {3, 1, 4, 1, 5, 9};
	assert_int_equal(put("a", values, sizeof values), 0); /* fits: and its view shows it */
	expect("a", "shape", "[12]");
	expect_bytes("a", values, sizeof values);
	survives();
	assert_int_equal(put("k7", values, 16), 0); /* another size: one dimension */
	expect("k7", "shape", "[4]");
	expect("k7", "dtype", "float32");
	assert_int_equal(put("k6", values, 7), -EINVAL); /* no multiple: it stays */
	expect("k6", "dtype", "float32");
	expect("k6", "shape", "[7]");
	assert_int_equal(put("view", values, 8), 0); /* parted from a */
	expect_bytes("a", values, sizeof values);
	assert_int_equal(put("k8", "", 0), 0); /* emptied and not written: nothing changes */
	expect("k8", "shape", "[9]");
	survives();
}

static void test_truncate(void **state)
{
	uint32_t ino = ino_of("k7");
	float zeroes[10] = {0};
	assert_int_equal(wf_truncate(ck, ino, NULL, 4), 0);
	expect("k7", "shape", "[1]");
	assert_int_equal(wf_truncate(ck, ino, NULL, 40), 0);
	expect("k7", "shape", "[10]");
	char buf[40];
	assert_int_equal(wf_read(ck, ino, 0, buf, 40), 40);
	assert_memory_equal(buf + 4, zeroes, 36); /* what was cut off does not come back */
	assert_int_equal(wf_allocate(ck, ino, NULL, 0, 40, 8), 0);
	expect("k7", "shape", "[12]");
	assert_int_equal(wf_write(ck, ino, NULL, 48, "abcd", 4), 4); /* nobody has it open: it is settled at once */
	expect("k7", "shape", "[13]");
	survives();
}

static void test_new_file(void **state)
{
	assert_int_equal(put("n", "0123456789abcdef", 16), 0);
	expect("n", "dtype", "uint8");
	expect("n", "shape", "[16]");
	assert_int_equal(set("n", "shape", "[3, x]"), -EINVAL);
	assert_int_equal(set("n", "dtype", "float32"), 0);
	expect("n", "shape", "[4]");
	assert_int_equal(set("n", "shape", "[2, -1]"), 0);
	expect("n", "shape", "[2, 2]");
	assert_int_equal(set("n", "requires_grad", "true"), 0);
	assert_int_equal(set("n", "location", "cuda:0"), 0);
	assert_int_equal(set("n", "stride", "[9]"), 0); /* what cp -a carries along */
	assert_int_equal(set("n", "key", "\"other\""), 0);
	assert_int_equal(set("a", "stride", "[2]"), 0); /* on what is there as well: they only report */
	assert_int_equal(set("a", "shape", "[5]"), -EINVAL);
	survives();
	expect("n", "location", "cuda:0");
	expect("n", "requires_grad", "true");
}

/* What cp -a sets on directories that it has filled, and on what is in them. */
static void test_copied_classes(void **state)
{
	static const char *const dirs[] = {"nums", "seq", "seq/0", "pair", "odd"};
	struct wf_stat st;
	for (size_t i = 0; i < WF_ARRAY_SIZE(dirs); i++)
		assert_int_equal(make_dir(dirs[i]), 0);
	assert_int_equal(put_text("nums/7", "a"), 0);
	assert_int_equal(put_text("nums/07", "b"), 0);
	assert_int_equal(set("nums/7", "key", "7"), 0);
	expect("nums/7", "key", "7");
	assert_int_equal(set("nums/07", "key", "7"), 0); /* another key: it stays */
	expect("nums/07", "key", "\"07\"");
	assert_int_equal(put_text("seq/1", "b"), 0);
	assert_int_equal(set("seq/0", "key", "0"), 0);
	assert_int_equal(set("seq", "class", "list"), 0);
	expect("seq", "class", "list");
	expect("seq/1", "key", "1");
	expect_text("seq/1", "b");
	assert_int_equal(put_text("pair/1", "b"), 0);
	assert_int_equal(put_text("pair/0", "a"), 0);
	assert_int_equal(wf_symlink(ck, "pair", WF_ROOT, "link", &st), 0);
	assert_int_equal(set("pair", "class", "tuple"), 0);
	expect_text("pair/0", "a");
	assert_int_equal(rename_to("pair/0", "first"), -EPERM);
	assert_int_equal(put_text("odd/2", "a"), 0);
	assert_int_equal(set("odd", "class", "list"), 0); /* 0 and 1 are missing: it stays */
	expect("odd", "class", "collections.OrderedDict");
	assert_int_equal(set("odd", "class", "dict"), 0);
	expect("odd", "class", "dict");
	assert_int_equal(set("nums", "class", "dict"), 0);
	assert_int_equal(set("nums", "class", "collections.OrderedDict"), 0);
	assert_int_equal(put_text("odd/more", "c"), 0);
	assert_int_equal(unlink_path("odd/2"), 0);
	assert_int_equal(put("n", "0123456789abcdef", 16), 0);
	assert_int_equal(set("n", "class", "torch.nn.parameter.Parameter"), 0);
	assert_int_equal(set("n", "dtype", "float32"), 0);
	assert_int_equal(set("n", "requires_grad", "true"), 0);
	survives();
	expect("seq", "class", "list");
	expect("pair", "class", "tuple");
	expect("odd", "class", "dict");
	expect("nums", "class", "collections.OrderedDict");
	expect("n", "class", "torch.nn.parameter.Parameter");
	expect("n", "requires_grad", "true");
	assert_int_equal(set("seq", "class", "dict"), -EPERM); /* no copy any more */
}

/* Type and shape said first, content afterwards. */
static void test_form_before_content(void **state)
{
	struct wf_stat st;
	assert_int_equal(wf_create(ck, WF_ROOT, "n", &st), 0);
	assert_int_equal(set("n", "dtype", "int16"), 0);
	assert_int_equal(set("n", "shape", "[2, 3]"), 0);
	wf_close(ck);
	ck = open_file(true);
	assert_int_equal(put("n", "abcdefghijkl", 12), 0);
	expect("n", "dtype", "int16");
	expect("n", "shape", "[2, 3]");
	survives();
}

static void test_dtype(void **state)
{
	assert_int_equal(set("a", "dtype", "int32"), -EINVAL); /* view has the storage as float32 */
	assert_int_equal(set("a", "dtype", "uint16"), 0);      /* says its dtype itself */
	expect("a", "shape", "[24]");
	assert_int_equal(set("k1", "dtype", "int64"), 0);
	expect("k1", "shape", "[1]");
	assert_int_equal(set("k2", "dtype", "float64"), -EINVAL);
	assert_int_equal(set("k3", "dtype", "bfloat16"), 0);
	assert_int_equal(set("k3", "shape", "[2, 2, 2]"), 0);
	assert_int_equal(set("ints", "requires_grad", "true"), -EINVAL);
	assert_int_equal(set("ints", "shape", "[3"), -EINVAL);
	assert_int_equal(set("ints", "nonsense", "1"), -EOPNOTSUPP);
	assert_int_equal(wf_removexattr(ck, ino_of("a"), "user.torch.shape"), -EPERM);
	assert_int_equal(wf_removexattr(ck, ino_of("a"), "user.torch.scale"), -ENODATA);
	survives();
}

/* ---- values ---- */

static void make_value(const char *path, const char *class, const char *text)
{
	assert_int_equal(put_text(path, text), 0);
	assert_int_equal(set(path, "class", class), 0);
	expect(path, "class", class);
}

static void test_values(void **state)
{
	make_value("v.epoch", "int", "10\n");
	make_value("v.lr", "float", "0.001\n");
	make_value("v.flag", "bool", "true");
	make_value("v.name", "str", "resnet");
	make_value("v.betas", "tuple", "[0.9, 0.999]\n");
	make_value("v.nothing", "NoneType", "null\n");
	expect_text("v.flag", "true\n");
	survives();
	assert_int_equal(put_text("v.epoch", "11\n"), 0);
	assert_int_equal(put_text("v.lr", "1e-4"), 0);
	expect_text("v.lr", "0.0001\n");
	assert_int_equal(put_text("v.name", "vit"), 0);
	assert_int_equal(put_text("v.betas", "[0.8, 0.99]"), 0);
	assert_int_equal(put_text("v.flag", "perhaps"), -EINVAL);
	expect_text("v.flag", "true\n");
	assert_int_equal(put_text("v.epoch", "twelve"), -EINVAL);
	expect_text("v.epoch", "11\n");
	assert_int_equal(rename_to("v.epoch", "k0"), 0);
	survives();
	expect("k0", "class", "int");
}

/* sed -i and editors: a new file is renamed over the old one. */
static void test_write_and_rename(void **state)
{
	float values[3] = {7, 8, 9};
	make_value("v.epoch", "int", "10");
	survives();
	assert_int_equal(put_text("sedXyZ12", "12\n"), 0);
	assert_int_equal(rename_to("sedXyZ12", "v.epoch"), 0);
	expect_text("v.epoch", "12\n");
	assert_int_equal(put(".goutputstream-AB", values, 12), 0); /* a scratch name first */
	assert_int_equal(rename_to(".goutputstream-AB", "k2"), 0);
	expect("k2", "dtype", "float32");
	expect_bytes("k2", values, 12);
	assert_int_equal(put_text("junk", "not a number"), 0);
	assert_int_equal(rename_to("junk", "v.epoch"), -EINVAL); /* does not fit: both stay */
	expect_text("v.epoch", "12\n");
	expect_text("junk", "not a number");
	survives();
}

/* ---- scratch and open files ---- */

static void test_scratch(void **state)
{
	assert_int_equal(put_text(".a.swp", "swap"), 0);
	assert_int_equal(put_text(".DS_Store", "finder"), 0);
	assert_int_equal(unlink_path(".DS_Store"), 0);
	assert_false(wf_is_dirty(ck));
	assert_int_equal(make_dir(".Trash-0"), 0);
	assert_int_equal(rename_to("k0", ".Trash-0/k0"), 0);
	assert_true(wf_is_dirty(ck));
	assert_int_equal(rename_to("k1", "k1.aside~"), 0);
	survives();
	expect_gone("k0");
	expect_gone(".a.swp");
	/* moved away, a commit in between, moved back: the content is still there */
	float k2[3];
	assert_int_equal(wf_read(ck, ino_of("k2"), 0, k2, 12), 12);
	assert_int_equal(rename_to("k2", "k2.aside~"), 0);
	assert_int_equal(wf_commit(ck, NULL), 0);
	expect_bytes("k2.aside~", k2, 12);
	assert_int_equal(rename_to("k2.aside~", "k2"), 0);
	expect_bytes("k2", k2, 12);
	expect("k2", "dtype", "float32");
	survives();
	expect_bytes("k2", k2, 12);
}

static void test_orphan(void **state)
{
	uint32_t old = ino_of("k5"), fresh;
	struct wf_opening *a, *b;
	float values[6];
	assert_int_equal(wf_read(ck, old, 0, values, 24), 24);
	assert_int_equal(wf_open_file(ck, old, WF_WRITES, &a), 0);
	assert_int_equal(put("n", "12345", 5), 0);
	fresh = ino_of("n");
	assert_int_equal(wf_open_file(ck, fresh, WF_WRITES, &b), 0);
	assert_int_equal(unlink_path("k5"), 0);
	assert_int_equal(unlink_path("n"), 0);
	values[1] = 42;
	assert_int_equal(wf_write(ck, old, NULL, 4, &values[1], 4), 4);
	assert_int_equal(wf_write(ck, fresh, NULL, 5, "678", 3), 3);
	for (int i = 0; i < 2; i++) {
		char buf[32];
		assert_int_equal(wf_read(ck, old, 0, buf, 32), 24);
		assert_memory_equal(buf, values, 24);
		assert_int_equal(wf_read(ck, fresh, 0, buf, 32), 8);
		assert_memory_equal(buf, "12345678", 8);
		assert_int_equal(wf_commit(ck, NULL), 0);
	}
	wf_release(ck, old, a);
	wf_release(ck, fresh, b);
	survives();
}

/* A file stays open across a commit, and goes on growing. */
static void test_open_across_commit(void **state)
{
	struct wf_stat st;
	struct wf_opening *o;
	assert_int_equal(wf_create(ck, WF_ROOT, "n", &st), 0);
	assert_int_equal(wf_open_file(ck, st.ino, WF_WRITES, &o), 0);
	assert_int_equal(wf_write(ck, st.ino, o, 0, "abc", 3), 3);
	assert_int_equal(wf_commit(ck, NULL), 0);
	assert_int_equal(wf_write(ck, st.ino, o, 3, "def", 3), 3);
	assert_int_equal(wf_sync(ck), 0);
	assert_int_equal(wf_write(ck, st.ino, o, 1, "BCDEFGHI", 8), 8);
	assert_int_equal(wf_flush(ck, st.ino, o), 0);
	wf_release(ck, st.ino, o);
	expect_bytes("n", "aBCDEFGHI", 9);
	expect("n", "shape", "[9]");
	survives();
}

/* A second line that does not fit brings back the empty file of before the first; and what comes next into its data file stays. */
static void test_written_after_refusal(void **state)
{
	struct wf_stat st;
	struct wf_opening *o;
	assert_int_equal(wf_create(ck, WF_ROOT, "n", &st), 0);
	assert_int_equal(wf_open_file(ck, st.ino, WF_WRITES, &o), 0);
	assert_int_equal(set("n", "class", "int"), 0);
	assert_int_equal(wf_write(ck, st.ino, o, 0, "7\n", 2), 2);
	assert_int_equal(wf_flush(ck, st.ino, o), 0);
	assert_int_equal(wf_sync(ck), 0);
	assert_int_equal(wf_write(ck, st.ino, o, 2, "x", 1), 1);
	assert_int_equal(wf_flush(ck, st.ino, o), -EINVAL);
	wf_release(ck, st.ino, o);
	assert_int_equal(set("n", "class", "torch.Tensor"), 0);
	assert_int_equal(put("n", "abc", 3), 0);
	assert_int_equal(wf_sync(ck), 0);
	expect_bytes("n", "abc", 3);
	survives();
}

/* Attributes of an entry that is empty, or that was just emptied by its path, are of the content that comes. */
static void test_attributes_before_content(void **state)
{
	assert_int_equal(set("none", "shape", "[2, 1]"), 0);
	assert_int_equal(put("none", "12345678", 8), 0);
	expect("none", "shape", "[2, 1]");
	assert_int_equal(wf_truncate(ck, ino_of("k1"), NULL, 0), 0);
	assert_int_equal(set("k1", "dtype", "int16"), 0);
	assert_int_equal(set("k1", "shape", "[1, 2]"), 0);
	assert_int_equal(put("k1", "1234", 4), 0);
	expect("k1", "dtype", "int16");
	expect("k1", "shape", "[1, 2]");
	survives();
}

/* Between a close and the release readers see the entry, its shape as its bytes, and not what the writer has in its hands. */
static void test_shape_that_stands_aside(void **state)
{
	struct wf_opening *o;
	uint32_t ino = ino_of("k3");
	assert_int_equal(wf_open_file(ck, ino, WF_WRITES, &o), 0);
	assert_int_equal(wf_truncate(ck, ino, NULL, 0), 0);
	assert_int_equal(wf_flush(ck, ino, o), 0);
	expect("k3", "shape", "[4]");
	assert_int_equal(wf_write(ck, ino, o, 0, "12345678", 8), 8);
	expect("k3", "shape", "[2]");
	assert_int_equal(wf_write(ck, ino, o, 8, "9", 1), 1);
	assert_int_equal(wf_flush(ck, ino, o), -EINVAL);
	expect("k3", "shape", "[4]");
	wf_release(ck, ino, o);
	survives();
}

/* An opening that only empties changes nothing, of a new value either. */
static void test_emptied_value(void **state)
{
	struct wf_opening *o;
	assert_int_equal(put_text("n", "7\n"), 0);
	uint32_t ino = ino_of("n");
	assert_int_equal(wf_open_file(ck, ino, WF_WRITES, &o), 0);
	assert_int_equal(wf_truncate(ck, ino, NULL, 0), 0);
	assert_int_equal(wf_flush(ck, ino, o), 0);
	expect_text("n", "7\n");
	wf_release(ck, ino, o);
	expect_text("n", "7\n");
	survives();
}

static void test_read_only(void **state)
{
	struct wf_checkpoint *writer = ck;
	struct wf_stat st;
	struct wf_opening *o;
	ck = open_file(false);
	assert_int_equal(rename_to("a", "b"), -EROFS);
	assert_int_equal(wf_create(ck, WF_ROOT, "n", &st), -EROFS);
	assert_int_equal(wf_write(ck, ino_of("a"), NULL, 0, "x", 1), -EROFS);
	assert_int_equal(set("a", "shape", "[-1]"), -EROFS);
	assert_int_equal(wf_open_file(ck, ino_of("a"), WF_WRITES, &o), -EROFS);
	wf_close(ck);
	ck = writer;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rename, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_and_make, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_new_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_form_before_content, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dtype, setup, teardown),
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_and_rename, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copied_classes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scratch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orphan, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_across_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_written_after_refusal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attributes_before_content, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shape_that_stands_aside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_emptied_value, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
	};
	if (argc < 2)
		return 77;
	files = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
