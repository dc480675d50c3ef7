/* SPDX-License-Identifier: MIT */
/* Plans and writes checkpoints from real files of torch: unchanged they come out byte for byte, changed they read back
 * as what was meant. With arguments: a tool for the tests that ask torch itself. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "codec/bytes/io.h"
#include "codec/commit/commit.h"
#include "codec/bytes/crc32.h"
#include "codec/tensor/layout.h"
#include "codec/tensor/tensor.h"
#include "codec/tree/tree.h"
#include "codec/bytes/util.h"

static char scratch[] = "/tmp/wf-test-commit-XXXXXX";
static const char *files;

/* ---- a file, opened ---- */

struct opened {
	struct wf_source *source;
	struct wf_container *container;
	struct wf_graph *graph;
	struct wf_storages *storages;
	wf_ref root;
	int extents[64]; /* by storage; 0: none yet */
};

static int extent_file(void *ctx, uint32_t i, int *ret_fd)
{
	struct opened *f = ctx;
	char path[] = "/tmp/wf-test-commit-extent-XXXXXX";
	assert_true(i < WF_ARRAY_SIZE(f->extents));
	if (!f->extents[i]) {
		f->extents[i] = mkostemp(path, O_CLOEXEC);
		assert_true(f->extents[i] > 0);
		unlink(path);
	}
	*ret_fd = f->extents[i];
	return 0;
}

static void open_path(struct opened *f, const char *path)
{
	struct wf_error err = {0};
	char text[512];
	*f = (struct opened){0};
	int r = wf_source_open_file(path, &f->source, &err);
	if (r == 0)
		r = wf_container_open(f->source, &f->container, &err);
	assert_int_equal(wf_graph_new(&f->graph), 0);
	if (r == 0)
		r = wf_container_load_graph(f->container, f->graph, &f->root, &err);
	if (r == 0)
		r = wf_storages_new(f->graph, f->container, &f->storages, &err);
	if (r < 0)
		fail_msg("%s: %s", path, wf_error_format(&err, text, sizeof text));
	const struct wf_extent_files extents = {.open = extent_file, .ctx = f};
	wf_storages_set_extent_files(f->storages, &extents);
}

static void open_file(struct opened *f, const char *name)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", files, name);
	open_path(f, path);
}

static void close_file(struct opened *f)
{
	wf_storages_free(f->storages);
	wf_graph_free(f->graph);
	wf_container_free(f->container);
	wf_source_unref(f->source);
	for (size_t i = 0; i < WF_ARRAY_SIZE(f->extents); i++)
		if (f->extents[i])
			close(f->extents[i]);
}

/* ---- editing ---- */

static wf_ref root_dict(struct opened *f)
{
	return wf_dict_target(f->graph, f->root);
}

static uint32_t position(struct opened *f, const char *key)
{
	uint32_t n;
	const struct wf_item *items = wf_items(f->graph, root_dict(f), &n);
	for (uint32_t i = 0; i < n; i++)
		if (items[i].key && wf_str_equal(f->graph, items[i].key, key))
			return i;
	return UINT32_MAX;
}

static void rename_key(struct opened *f, const char *key, const char *to)
{
	uint32_t n, i = position(f, key);
	assert_int_not_equal(i, UINT32_MAX);
	wf_ref value = wf_items(f->graph, root_dict(f), &n)[i].value;
	assert_int_equal(wf_dict_set_at(f->graph, root_dict(f), i, wf_str(f->graph, to), value), 0);
}

static void remove_key(struct opened *f, const char *key)
{
	assert_int_equal(wf_dict_set_at(f->graph, root_dict(f), position(f, key), WF_NIL, WF_NIL), 0);
	wf_dict_compact(f->graph, root_dict(f));
}

static void tensor_at(struct opened *f, const char *key, struct wf_tensor *t)
{
	struct wf_error err = {0};
	uint32_t n, i = position(f, key);
	if (i == UINT32_MAX)
		fail_msg("no key %s", key);
	if (wf_tensor_decode(f->graph, f->storages, wf_items(f->graph, root_dict(f), &n)[i].value, t, &err) < 0)
		fail_msg("%s: %s", key, err.text);
}

static void write_floats(struct opened *f, const char *key, uint64_t at, uint32_t n, float first)
{
	struct wf_tensor t;
	tensor_at(f, key, &t);
	for (uint32_t i = 0; i < n; i++) {
		float v = first + (float)i;
		assert_int_equal(wf_tensor_write(f->storages, &t, (at + i) * 4, &v, 4), 0);
	}
}

static void add_tensor(struct opened *f, const char *key, uint32_t n, float first)
{
	wf_ref persid, tensor;
	uint32_t storage;
	int64_t shape[1] = {n};
	assert_int_equal(wf_tensor_make_persid(f->graph, WF_FLOAT32, "0", "cpu", 4ull * n, &persid), 0);
	assert_int_equal(wf_storage_new(f->storages, persid, 4ull * n, &storage), 0);
	assert_int_equal(wf_tensor_make(f->graph, persid, WF_FLOAT32, 0, shape, 1, false, &tensor), 0);
	assert_int_equal(wf_dict_append(f->graph, root_dict(f), wf_str(f->graph, key), tensor), 0);
	write_floats(f, key, 0, n, first);
}

static float float_at(struct opened *f, const char *key, uint64_t i)
{
	struct wf_tensor t;
	float v = 0;
	tensor_at(f, key, &t);
	assert_int_equal(wf_tensor_read(f->storages, &t, 4 * i, &v, 4), 0);
	return v;
}

/* ---- writing ---- */

enum way { REPLACE, APPEND };

static void copy_whole(int fd, const char *path)
{
	struct wf_out o;
	struct stat st;
	cleanup_fd int in = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(in >= 0);
	assert_int_equal(fstat(in, &st), 0);
	assert_int_equal(wf_out_init(&o, fd, 0, NULL), 0);
	assert_int_equal(wf_out_copy(&o, in, 0, (uint64_t)st.st_size), 0);
	assert_int_equal(wf_out_finish(&o), 0);
	wf_out_free(&o);
}

static int try_write(struct opened *f, enum way way, const char *in_path, const char *out_path,
		     const struct wf_window *windows, struct wf_error *err)
{
	const struct wf_commit_input in = {.graph = f->graph,
					   .storages = f->storages,
					   .container = f->container,
					   .root = f->root,
					   .windows = windows};
	struct wf_plan plan;
	struct wf_out o;
	cleanup_fd int fd = open(out_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	int r = wf_plan_make(&plan, &in, way == APPEND, err);
	if (r < 0)
		return r;
	if (way == APPEND)
		copy_whole(fd, in_path);
	assert_int_equal(wf_out_init(&o, fd, way == APPEND ? wf_source_size(f->source) : 0, NULL), 0);
	wf_out_probe_clone(&o, fd);
	r = way == APPEND ? wf_append_zip(&plan, &o, err)
	    : plan.plain  ? wf_replace_plain(&plan, &o, err)
	    : plan.legacy ? wf_replace_legacy(&plan, &o, err)
			  : wf_replace_zip(&plan, &o, err);
	wf_out_free(&o);
	wf_plan_free(&plan);
	return r;
}

static void write_path(struct opened *f, enum way way, const char *in, const char *out)
{
	struct wf_error err = {0};
	char text[512];
	if (try_write(f, way, in, out, NULL, &err) < 0)
		fail_msg("%s: %s", in, wf_error_format(&err, text, sizeof text));
}

static const char *out_path(void)
{
	static char path[300];
	snprintf(path, sizeof path, "%s/out.pt", scratch);
	return path;
}

static const char *in_path(const char *name)
{
	static char path[4096];
	snprintf(path, sizeof path, "%s/%s", files, name);
	return path;
}

static char *slurp(const char *path, size_t *ret_len)
{
	struct stat st;
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	char *p = malloc((size_t)st.st_size + 1);
	*ret_len = (size_t)st.st_size;
	assert_int_equal(wf_pread_all(fd, p, *ret_len, 0), 0);
	return p;
}

/* Every sum in the directory is that of the record's bytes. */
static void assert_sums(struct opened *f)
{
	for (uint32_t i = 0; i < wf_container_count(f->container); i++) {
		const struct wf_record *record = wf_container_record(f->container, i);
		struct wf_source *s = NULL;
		assert_int_equal(wf_container_open_record(f->container, i, &s, NULL), 0);
		size_t n = (size_t)wf_source_size(s);
		char *p = malloc(n + 1);
		assert_int_equal(wf_source_read(s, 0, p, n), 0);
		if (wf_crc32(0, p, n) != record->crc32)
			fail_msg("%s: wrong sum", record->name);
		free(p);
		wf_source_unref(s);
	}
}

/* ---- tests ---- */

static const char *const all_files[] = {"torch-2.15.pt", "torch-1.13.pt", "legacy-2.15.pt", "legacy-1.13.pt"};

static void test_unchanged(void **state)
{
	for (size_t i = 0; i < WF_ARRAY_SIZE(all_files); i++) {
		struct opened f;
		size_t n, m;
		open_file(&f, all_files[i]);
		write_path(&f, REPLACE, in_path(all_files[i]), out_path());
		char *a = slurp(in_path(all_files[i]), &n), *b = slurp(out_path(), &m);
		if (n != m || memcmp(a, b, n) != 0)
			fail_msg("%s did not come out as it was (%zu and %zu bytes)", all_files[i], n, m);
		free(a);
		free(b);
		close_file(&f);
	}
}

static bool is_legacy(const char *name)
{
	return strncmp(name, "legacy", 6) == 0;
}

static void edit_all(struct opened *f)
{
	rename_key(f, "k3", "a key with a longer name");
	remove_key(f, "k5");
	write_floats(f, "view", 1, 2, 100);
	write_floats(f, "k8", 8, 1, -1);
	add_tensor(f, "new", 70, 1000);
}

static void check_all(struct opened *f)
{
	assert_int_equal(position(f, "k3"), UINT32_MAX);
	assert_int_equal(position(f, "k5"), UINT32_MAX);
	assert_true(float_at(f, "a key with a longer name", 3) == 3);
	assert_true(float_at(f, "a", 4) == 100 && float_at(f, "a", 5) == 101 && float_at(f, "a", 6) == 6);
	assert_true(float_at(f, "view", 1) == 100);
	assert_true(float_at(f, "k8", 7) == 8 && float_at(f, "k8", 8) == -1);
	assert_true(float_at(f, "new", 0) == 1000 && float_at(f, "new", 69) == 1069);
	assert_true(float_at(f, "k0", 0) == 0 && float_at(f, "k7", 7) == 7);
}

static void test_edited(void **state)
{
	for (size_t i = 0; i < WF_ARRAY_SIZE(all_files); i++)
		for (int way = REPLACE; way <= APPEND; way++) {
			struct opened f;
			if (is_legacy(all_files[i]) && way == APPEND)
				continue;
			open_file(&f, all_files[i]);
			edit_all(&f);
			write_path(&f, way, in_path(all_files[i]), out_path());
			close_file(&f);
			open_path(&f, out_path());
			check_all(&f);
			if (!is_legacy(all_files[i])) {
				assert_sums(&f);
				/* new records begin where torch wants them */
				for (uint32_t k = 0; k < wf_container_count(f.container); k++) {
					uint64_t at;
					assert_int_equal(wf_container_locate(f.container, k, &at, NULL), 0);
					assert_int_equal(at % 64, 0);
				}
			}
			close_file(&f);
		}
}

/* The records that tell torch to compute places: kept where it then finds the storages, left out otherwise. */
static void test_layout_records(void **state)
{
	static const struct {
		bool drop, add, write, rename;
		bool after_replace, after_append;
	} cases[] = {
		{.after_replace = true, .after_append = true},
		{.rename = true, .after_replace = true, .after_append = true},
		{.write = true, .after_replace = true},
		{.drop = true, .after_replace = true},
		{.add = true, .after_replace = true},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++)
		for (int way = REPLACE; way <= APPEND; way++) {
			struct opened f;
			open_file(&f, "torch-2.15.pt");
			if (cases[i].drop)
				remove_key(&f, "k2");
			if (cases[i].add)
				add_tensor(&f, "new", 3, 1);
			if (cases[i].write)
				write_floats(&f, "k2", 0, 1, 5);
			if (cases[i].rename)
				rename_key(&f, "k2", "another");
			write_path(&f, way, in_path("torch-2.15.pt"), out_path());
			close_file(&f);
			open_path(&f, out_path());
			bool there = wf_container_find(f.container, ".format_version") != WF_NO_RECORD;
			if (there != (way == REPLACE ? cases[i].after_replace : cases[i].after_append))
				fail_msg("case %zu, way %d: .format_version is %s", i, way, there ? "there" : "gone");
			close_file(&f);
		}
}

/* The first storage that the pickle names goes, and torch wants the next one to be called 0. */
static void test_first_storage_goes(void **state)
{
	struct opened f;
	struct wf_tensor t;
	open_file(&f, "torch-2.15.pt");
	remove_key(&f, "a");
	remove_key(&f, "view");
	write_path(&f, REPLACE, in_path("torch-2.15.pt"), out_path());
	close_file(&f);
	open_path(&f, out_path());
	tensor_at(&f, "ints", &t);
	assert_string_equal(wf_storage_key(f.storages, t.storage), "0");
	assert_int_not_equal(wf_container_find(f.container, ".format_version"), WF_NO_RECORD);
	assert_true(float_at(&f, "k7", 7) == 7);
	close_file(&f);
}

/* An append writes behind the old bytes and leaves them alone. */
static void test_append_keeps_old_bytes(void **state)
{
	struct opened f;
	size_t n, m;
	open_file(&f, "torch-1.13.pt");
	edit_all(&f);
	write_path(&f, APPEND, in_path("torch-1.13.pt"), out_path());
	char *a = slurp(in_path("torch-1.13.pt"), &n), *b = slurp(out_path(), &m);
	assert_true(m > n);
	assert_memory_equal(a, b, n);
	free(a);
	free(b);
	close_file(&f);
}

static void test_legacy_refuses_v3(void **state)
{
	struct opened f;
	struct wf_error err = {0};
	wf_ref persid, tensor;
	uint32_t storage;
	int64_t shape[1] = {4};
	open_file(&f, "legacy-2.15.pt");
	assert_int_equal(wf_tensor_make_persid(f.graph, WF_UINT16, "new", "cpu", 8, &persid), 0);
	assert_int_equal(wf_storage_new(f.storages, persid, 8, &storage), 0);
	assert_int_equal(wf_tensor_make(f.graph, persid, WF_UINT16, 0, shape, 1, false, &tensor), 0);
	assert_int_equal(wf_dict_append(f.graph, root_dict(&f), wf_str(f.graph, "new"), tensor), 0);
	assert_int_equal(try_write(&f, REPLACE, NULL, out_path(), NULL, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "legacy"));
	close_file(&f);
}

/* Two views of one storage, the rest of which goes; both still share. */
static void test_trim(void **state)
{
	for (size_t i = 0; i < WF_ARRAY_SIZE(all_files); i++) {
		struct opened f;
		struct wf_error err = {0};
		struct wf_window *windows = NULL;
		struct wf_tensor t;
		open_file(&f, all_files[i]);
		remove_key(&f, "a");
		close_file(&f);
		open_file(&f, all_files[i]);
		uint32_t at = position(&f, "a"), n;
		tensor_at(&f, "a", &t);
		t.offset_elems = 6;
		t.shape[0] = 4;
		wf_ref call = wf_items(f.graph, root_dict(&f), &n)[at].value;
		assert_int_equal(wf_tensor_update(f.graph, &t, wf_element(f.graph, wf_call_args(f.graph, call), 0)), 0);
		wf_storages_free(f.storages);
		/* the arguments that were replaced are still in the arena and refer to the storage: start from a file
		 */
		assert_int_equal(wf_storages_new(f.graph, f.container, &f.storages, &err), 0);
		write_path(&f, REPLACE, in_path(all_files[i]), out_path());
		close_file(&f);

		char middle[300];
		snprintf(middle, sizeof middle, "%s/middle.pt", scratch);
		assert_int_equal(rename(out_path(), middle), 0);
		open_path(&f, middle);
		assert_int_equal(wf_trim(f.graph, f.storages, &windows, &err), 0);
		assert_int_equal(try_write(&f, REPLACE, NULL, out_path(), windows, &err), 0);
		free(windows);
		close_file(&f);
		unlink(middle);
		open_path(&f, out_path());
		tensor_at(&f, "view", &t);
		/* elements 3 to 10 of 12 were in use; 0 to 3 go only by whole grains of 16 bytes */
		assert_int_equal(wf_storage_get(f.storages, t.storage)->size_bytes, 40);
		assert_true(float_at(&f, "view", 0) == 3 && float_at(&f, "view", 5) == 8);
		assert_true(float_at(&f, "a", 0) == 6 && float_at(&f, "a", 3) == 9);
		close_file(&f);
	}
}

static int make_scratch(void **state)
{
	return mkdtemp(scratch) ? 0 : -1;
}

static int drop_scratch(void **state)
{
	unlink(out_path());
	return rmdir(scratch);
}

/* Raw bytes into the tensor at a path of the tree. */
static void poke(struct opened *f, const char *path, uint64_t offset, const char *hex)
{
	struct wf_tree *tree;
	struct wf_error err = {0};
	struct wf_tensor t;
	wf_ino ino = WF_INO_ROOT;
	cleanup_free char *copy = strdup(path);
	assert_int_equal(wf_tree_new(f->graph, f->storages, f->container, f->root, 0, &tree, &err), 0);
	for (char *name = strtok(copy, "/"); name; name = strtok(NULL, "/")) {
		uint32_t at;
		if (wf_tree_lookup(tree, ino, name, &at) < 0)
			fail_msg("no %s in %s", name, path);
		ino = wf_tree_dir(tree, ino)->entries[at].ino;
	}
	if (wf_tensor_decode(f->graph, f->storages, wf_tree_node(tree, ino)->object, &t, &err) < 0)
		fail_msg("%s: %s", path, err.text);
	for (size_t i = 0; hex[2 * i]; i++) {
		unsigned int byte;
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		unsigned char c = (unsigned char)byte;
		assert_int_equal(wf_tensor_write(f->storages, &t, offset + i, &c, 1), 0);
	}
	wf_tree_free(tree);
}

/* test-commit DIRECTORY (replace|append|trim) IN OUT (rename K K | remove K | write K AT N FIRST | add K N FIRST |
 * poke PATH OFFSET HEX)... */
static int tool(char **argv)
{
	struct opened f;
	open_path(&f, argv[1]);
	for (char **a = argv + 3; *a;) {
		if (strcmp(*a, "rename") == 0) {
			rename_key(&f, a[1], a[2]);
			a += 3;
		} else if (strcmp(*a, "remove") == 0) {
			remove_key(&f, a[1]);
			a += 2;
		} else if (strcmp(*a, "write") == 0) {
			write_floats(&f, a[1], strtoull(a[2], NULL, 10), (uint32_t)atoi(a[3]), (float)atof(a[4]));
			a += 5;
		} else if (strcmp(*a, "poke") == 0) {
			poke(&f, a[1], strtoull(a[2], NULL, 10), a[3]);
			a += 4;
		} else {
			add_tensor(&f, a[1], (uint32_t)atoi(a[2]), (float)atof(a[3]));
			a += 4;
		}
	}
	struct wf_error err = {0};
	char text[512];
	struct wf_window *windows = NULL;
	int r = strcmp(argv[0], "trim") == 0 ? wf_trim(f.graph, f.storages, &windows, &err) : 0;
	if (r == 0)
		r = try_write(&f, strcmp(argv[0], "append") == 0 ? APPEND : REPLACE, argv[1], argv[2], windows, &err);
	free(windows);
	if (r < 0)
		fprintf(stderr, "%s\n", wf_error_format(&err, text, sizeof text));
	close_file(&f);
	return r < 0;
}

/* An ndarray of one byte over the given bytes object. */
static void add_array(struct opened *f, const char *key, wf_ref bytes)
{
	struct wf_graph *g = f->graph;
	wf_ref none = wf_none(g), no = wf_bool(g, false), zero = wf_int(g, 0), one = wf_int(g, 1),
	       minus = wf_int(g, -1);
	const wf_ref dtype_args[] = {wf_str(g, "u1"), no, wf_bool(g, true)};
	const wf_ref dtype_state[] = {wf_int(g, 3), wf_str(g, "|"), none, none, none, minus, minus, zero};
	const wf_ref array_args[] = {wf_global_named(g, "numpy", "ndarray"), wf_tuple(g, &zero, 1),
				     wf_string(g, WF_BYTES, "b", 1)};
	wf_ref dtype =
		wf_call(g, WF_CALL_REDUCE, wf_global_named(g, "numpy", "dtype"), wf_tuple(g, dtype_args, 3), WF_NIL);
	wf_ref array = wf_call(g, WF_CALL_REDUCE, wf_global_named(g, "numpy._core.multiarray", "_reconstruct"),
			       wf_tuple(g, array_args, 3), WF_NIL);
	const wf_ref state[] = {one, wf_tuple(g, &one, 1), dtype, no, bytes};
	assert_int_equal(wf_call_build(g, dtype, wf_tuple(g, dtype_state, 8)), 0);
	assert_int_equal(wf_call_build(g, array, wf_tuple(g, state, 5)), 0);
	assert_int_equal(wf_dict_append(g, root_dict(f), wf_str(g, key), array), 0);
}

static void assert_byte(struct opened *f, const char *key, unsigned char want)
{
	struct wf_tensor t;
	unsigned char got;
	tensor_at(f, key, &t);
	assert_int_equal(t.kind, WF_TENSOR_NUMPY);
	assert_int_equal(wf_tensor_read(f->storages, &t, 0, &got, 1), 0);
	assert_int_equal(got, want);
}

/* Two arrays whose bytes are one object of the pickle, as Python makes them of single bytes: one is edited. */
static void test_arrays(void **state)
{
	char first[300];
	struct opened f;
	struct wf_tensor t;
	struct wf_plan plan;
	snprintf(first, sizeof first, "%s/arrays.pt", scratch);
	open_file(&f, "torch-2.15.pt");
	wf_ref shared = wf_string(f.graph, WF_BYTES, "\x81", 1);
	add_array(&f, "a", shared);
	add_array(&f, "b", shared);
	write_path(&f, REPLACE, in_path("torch-2.15.pt"), first);
	close_file(&f);

	open_path(&f, first);
	assert_byte(&f, "a", 0x81);
	tensor_at(&f, "a", &t);
	assert_int_equal(wf_tensor_write(f.storages, &t, 0, "\xfe", 1), 0);
	/* a plan that comes to nothing leaves the graph as it was */
	const struct wf_commit_input in = {
		.graph = f.graph, .storages = f.storages, .container = f.container, .root = f.root};
	wf_ref before = wf_numpy_bytes(f.graph, t.object);
	assert_int_equal(wf_plan_make(&plan, &in, false, NULL), 0);
	assert_int_not_equal(wf_numpy_bytes(f.graph, t.object), before);
	wf_plan_undo(&plan);
	wf_plan_free(&plan);
	assert_int_equal(wf_numpy_bytes(f.graph, t.object), before);
	assert_byte(&f, "a", 0xfe);
	write_path(&f, REPLACE, first, out_path());
	close_file(&f);

	open_path(&f, out_path());
	assert_byte(&f, "a", 0xfe);
	assert_byte(&f, "b", 0x81);
	close_file(&f);
	unlink(first);
}

int main(int argc, char **argv)
{
	files = argc > 1 ? argv[1] : "tests/unit/torch-files";
	if (argc > 4)
		return tool(argv + 2);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unchanged),
		cmocka_unit_test(test_edited),
		cmocka_unit_test(test_layout_records),
		cmocka_unit_test(test_first_storage_goes),
		cmocka_unit_test(test_append_keeps_old_bytes),
		cmocka_unit_test(test_legacy_refuses_v3),
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_arrays),
	};
	return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
