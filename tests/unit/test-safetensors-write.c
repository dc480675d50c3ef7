/* SPDX-License-Identifier: MIT */
/* A commit of a safetensors file as bytes: unchanged it is the file again, changed it reads back, and where blocks could be shared the data
 * stay where they lie in their blocks. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/commit/commit.h"

#define BLOCK 4096u
#define WIDE (600u << 10) /* elements of the larger tensor: two of them pass what a longer header is worth */

struct opened {
	struct wf_source *source;
	struct wf_container *container;
	struct wf_graph *graph;
	struct wf_storages *storages;
	wf_ref root;
};

static void open_fd(struct opened *f, int fd)
{
	struct wf_error err = {0};
	*f = (struct opened){0};
	assert_int_equal(wf_source_from_fd(dup(fd), &f->source, &err), 0);
	assert_int_equal(wf_graph_new(&f->graph), 0);
	if (wf_container_open(f->source, &f->container, &err) < 0 ||
	    wf_container_load_graph(f->container, f->graph, &f->root, &err) < 0 ||
	    wf_storages_new(f->graph, f->container, &f->storages, &err) < 0)
		fail_msg("%s", err.text);
}

static void close_file(struct opened *f)
{
	wf_storages_free(f->storages);
	wf_graph_free(f->graph);
	wf_container_free(f->container);
	wf_source_unref(f->source);
}

static int temporary(void)
{
	char path[] = "/tmp/wf-test-safetensors-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

/* w of WIDE floats, b of WIDE bytes, and metadata; as the format's own writer makes it. */
static int make(void)
{
	static unsigned char data[WIDE];
	const int64_t shape[] = {WIDE};
	struct wf_safetensors_item items[] = {
		{.name = "b", .name_len = 1, .dtype = WF_UINT8, .ndim = 1, .shape = shape, .size_bytes = WIDE},
		{.name = "w", .name_len = 1, .dtype = WF_FLOAT32, .ndim = 1, .shape = shape, .size_bytes = 4 * WIDE},
	};
	const struct wf_safetensors_note note = {"format", "pt", 6, 2};
	struct wf_buffer head = WF_BUFFER_INIT;
	uint64_t bytes;
	int fd = temporary();
	assert_int_equal(wf_safetensors_place(items, 2, &bytes), 0);
	assert_int_equal(wf_safetensors_head(items, 2, &note, 1, &head), 0);
	assert_int_equal(wf_pwrite_all(fd, head.data, head.len, 0), 0);
	for (uint64_t at = 0; at < bytes; at += WIDE) {
		for (size_t i = 0; i < WIDE; i++)
			data[i] = (unsigned char)(at / WIDE * 31 + i % 251);
		assert_int_equal(wf_pwrite_all(fd, data, WIDE, head.len + at), 0);
	}
	wf_buffer_free(&head);
	return fd;
}

static int commit(struct opened *f, bool canonical, uint64_t clone_block)
{
	struct wf_error err = {0};
	struct wf_plan plan;
	struct wf_out o;
	const struct wf_commit_input in = {.graph = f->graph,
					   .storages = f->storages,
					   .container = f->container,
					   .root = f->root,
					   .metadata = wf_container_metadata(f->container),
					   .canonical = canonical};
	int fd = temporary();
	assert_int_equal(wf_out_init(&o, fd, 0, NULL), 0);
	o.clone_block = clone_block; /* what does not clone after all is copied */
	if (wf_plan_make(&plan, &in, false, &err) < 0 || wf_replace_safetensors(&plan, &o, &err) < 0)
		fail_msg("%s", err.text);
	wf_out_free(&o);
	wf_plan_free(&plan);
	return fd;
}

static uint64_t size_of(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

static uint64_t data_start(int fd)
{
	uint64_t n;
	assert_int_equal(wf_pread_all(fd, &n, sizeof n, 0), 0);
	return n + 8;
}

static void same_bytes(int a, uint64_t from_a, int b, uint64_t from_b, uint64_t len)
{
	static char x[1 << 16], y[1 << 16];
	for (uint64_t at = 0; at < len; at += sizeof x) {
		size_t n = (size_t)WF_MIN(len - at, (uint64_t)sizeof x);
		assert_int_equal(wf_pread_all(a, x, n, from_a + at), 0);
		assert_int_equal(wf_pread_all(b, y, n, from_b + at), 0);
		assert_memory_equal(x, y, n);
	}
}

static void unchanged_it_is_the_file_again(void **state)
{
	for (int canonical = 0; canonical < 2; canonical++) {
		struct opened f;
		int fd = make();
		open_fd(&f, fd);
		int out = commit(&f, canonical, 0);
		assert_int_equal(size_of(out), size_of(fd));
		same_bytes(out, 0, fd, 0, size_of(fd));
		close_file(&f);
		close(out);
		close(fd);
	}
}

static void rename_key(struct opened *f, uint32_t i, const char *to)
{
	uint32_t n;
	wf_ref value = wf_items(f->graph, f->root, &n)[i].value;
	assert_int_equal(wf_dict_set_at(f->graph, f->root, i, wf_str(f->graph, to), value), 0);
}

/* A longer name moves all data; where blocks are shared they keep their places in these. */
static void data_keep_their_places_in_blocks(void **state)
{
	static const char longer[] = "a.much.longer.name.of.that.tensor";
	for (int clones = 0; clones < 2; clones++) {
		struct opened f, again;
		int fd = make();
		open_fd(&f, fd);
		rename_key(&f, 0, longer);
		int out = commit(&f, false, clones ? BLOCK : 0);
		uint64_t from = data_start(fd), to = data_start(out);
		assert_int_equal(to % 8, 0);
		assert_int_not_equal(to, from);
		assert_int_equal((to - from) % BLOCK == 0, clones);
		same_bytes(out, to, fd, from, 5ull * WIDE);
		assert_int_equal(size_of(out), to + 5ull * WIDE);
		open_fd(&again, out);
		uint32_t n;
		const struct wf_item *items = wf_items(again.graph, again.root, &n);
		assert_int_equal(n, 2);
		assert_true(wf_str_equal(again.graph, items[0].key, longer));
		assert_true(wf_str_equal(again.graph, items[1].key, "b"));
		close_file(&again);
		close_file(&f);
		close(out);
		close(fd);
	}
}

/* The second header is no longer than the padded first one: nothing grows from commit to commit. */
static void padding_does_not_grow(void **state)
{
	struct opened f;
	int fd = make();
	uint64_t start = 0;
	for (int i = 0; i < 4; i++) {
		open_fd(&f, fd);
		rename_key(&f, 0, i % 2 ? "w" : "a.much.longer.name.of.that.tensor");
		int out = commit(&f, false, BLOCK);
		if (i > 0)
			assert_true(data_start(out) <= start);
		start = WF_MAX(start, data_start(out));
		close_file(&f);
		close(fd);
		fd = out;
	}
	close(fd);
}

/* A smaller element that comes first in the dictionary lies behind all larger ones. */
static void tensors_are_aligned(void **state)
{
	const int64_t three[] = {3}, one[] = {1};
	struct wf_safetensors_item items[] = {
		{.name = "a", .name_len = 1, .dtype = WF_BOOL8, .ndim = 1, .shape = three, .size_bytes = 3},
		{.name = "b", .name_len = 1, .dtype = WF_FLOAT16, .ndim = 1, .shape = three, .size_bytes = 6},
		{.name = "c", .name_len = 1, .dtype = WF_COMPLEX64, .ndim = 1, .shape = one, .size_bytes = 8},
		{.name = "d", .name_len = 1, .dtype = WF_FLOAT32, .ndim = 1, .shape = three, .size_bytes = 12},
		{.name = "e", .name_len = 1, .dtype = WF_UINT8, .ndim = 1, .shape = one, .size_bytes = 1},
	};
	static const uint64_t begin[] = {26, 20, 0, 8, 29};
	uint64_t bytes;
	assert_int_equal(wf_safetensors_align(items, WF_ARRAY_SIZE(items), &bytes), 0);
	for (size_t i = 0; i < WF_ARRAY_SIZE(items); i++)
		assert_int_equal(items[i].begin, begin[i]);
	assert_int_equal(bytes, 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unchanged_it_is_the_file_again),
		cmocka_unit_test(data_keep_their_places_in_blocks),
		cmocka_unit_test(padding_does_not_grow),
		cmocka_unit_test(tensors_are_aligned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
