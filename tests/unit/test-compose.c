/* SPDX-License-Identifier: MIT */
/* Composed files of a real checkpoint: any range of them is what the whole has there, edits show, and what is gone is told. */
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

#include "codec/bytes/util.h"
#include "codec/compose/composed.h"
#include "codec/tensor/layout.h"

static int setup(void **state)
{
	struct wf_error err = {0};
	const struct wf_open_options o = {.writable = true};
	copy_checkpoint("compose");
	assert_int_equal(wf_open(file, &o, &ck, &err), 0);
	return 0;
}

/* All of it at once. */
static unsigned char *whole(const struct wf_composed *c)
{
	unsigned char *all = malloc(wf_composed_size(c) + 1);
	assert_int_equal(wf_composed_read(ck, c, 0, all, wf_composed_size(c) + 1), wf_composed_size(c));
	return all;
}

/* Text, tensors with their layouts, empty ones and runs of storages, from every offset in every small length. */
static void ranges(void **state)
{
	struct wf_composed *c;
	unsigned char part[64];
	assert_int_equal(wf_composed_new(&c), 0);
	wf_buffer_puts(wf_composed_text(c), "head");
	for (wf_ino ino = 1; ino <= wf_tree_node_count(ck->tree) && wf_composed_size(c) < 3000; ino++) {
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		struct wf_tensor t;
		if (!n || n->type != WF_NODE_TENSOR ||
		    wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL) < 0 || t.kind == WF_TENSOR_META ||
		    t.size_bytes > 500)
			continue;
		assert_int_equal(wf_composed_tensor(c, ino, WF_PIECE_AS_SHOWN, t.size_bytes), 0);
		wf_buffer_puts(wf_composed_text(c), "-");
		if (wf_storage_get(ck->storages, t.storage)->size_bytes >= 3)
			assert_int_equal(wf_composed_storage(c, t.storage, 1, 2), 0);
	}
	wf_buffer_puts(wf_composed_text(c), "tail");
	assert_int_equal(wf_composed_finish(c), 0);
	assert_true(wf_composed_size(c) > 100);
	unsigned char *all = whole(c);
	uint64_t size = wf_composed_size(c);
	assert_memory_equal(all, "head", 4);
	assert_memory_equal(all + size - 4, "tail", 4);
	for (uint64_t at = 0; at < size; at++)
		for (size_t len = 1; len <= sizeof part; len += 9) {
			ssize_t n = wf_composed_read(ck, c, at, part, len);
			assert_int_equal(n, WF_MIN(len, size - at));
			assert_memory_equal(part, all + at, (size_t)n);
		}
	assert_int_equal(wf_composed_read(ck, c, size, part, 1), 0);
	assert_int_equal(wf_composed_read(ck, c, UINT64_MAX, part, 1), 0);
	free(all);
	wf_composed_free(c);
}

/* A copy into a file is what is read. */
static void copies(void **state)
{
	struct wf_composed *c;
	struct wf_out out;
	struct wf_error err = {0};
	char path[128];
	uint64_t edition;
	assert_int_equal(wf_compose_safetensors(ck, WF_ROOT, &c, &edition), 0);
	assert_int_equal(edition, wf_edition(ck));
	snprintf(path, sizeof path, "%s/copy", dir);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(wf_out_init(&out, fd, 0, NULL), 0);
	assert_int_equal(wf_composed_copy(ck, c, &out, &err), 0);
	assert_int_equal(wf_out_finish(&out), 0);
	unsigned char *all = whole(c), *got = malloc(wf_composed_size(c));
	assert_int_equal(pread(fd, got, wf_composed_size(c), 0), wf_composed_size(c));
	assert_memory_equal(got, all, wf_composed_size(c));
	wf_out_free(&out);
	close(fd);
	free(all);
	free(got);
	wf_composed_free(c);
}

/* The first tensor of the root that has bytes. */
static uint32_t some_tensor(char *name, uint64_t *ret_size)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, WF_INO_ROOT);
	struct wf_stat st;
	for (uint32_t i = 0; i < d->count; i++)
		if (wf_tree_name(ck->tree, d, i, name) && wf_lookup(ck, WF_ROOT, name, &st) == 0 && st.nlink == 1 &&
		    wf_tree_node(ck->tree, st.ino)->type == WF_NODE_TENSOR && st.size_bytes > 0) {
			*ret_size = st.size_bytes;
			return st.ino;
		}
	fail();
	return 0;
}

/* A composed file says what was so when it was made: a rename is not seen in it, bytes are, and a tensor that is gone for good is an error. */
static void edits(void **state)
{
	char name[WF_NAME_MAX + 1];
	uint64_t size;
	uint32_t ino = some_tensor(name, &size);
	struct wf_composed *before, *after, *npy;
	assert_int_equal(wf_compose_safetensors(ck, WF_ROOT, &before, NULL), 0);
	uint64_t edition = wf_edition(ck);
	assert_int_equal(wf_rename(ck, WF_ROOT, name, WF_ROOT, "renamed tensor", 0), 0);
	assert_int_not_equal(wf_edition(ck), edition);
	assert_int_equal(wf_compose_safetensors(ck, WF_ROOT, &after, NULL), 0);
	unsigned char *a = whole(before), *b = whole(after);
	assert_null(memmem(a, wf_composed_size(before), "\"renamed tensor\"", 16));
	assert_non_null(memmem(b, wf_composed_size(after), "\"renamed tensor\"", 16));
	assert_int_equal(wf_compose_npy(ck, ino, &npy), 0);
	assert_true(wf_composed_size(npy) > size);
	struct wf_opening *o;
	unsigned char byte, mark = 0x5a;
	assert_int_equal(wf_open_file(ck, ino, WF_WRITES, &o), 0);
	assert_int_equal(wf_write(ck, ino, o, 0, &mark, 1), 1);
	assert_int_equal(wf_flush(ck, ino, o), 0);
	wf_release(ck, ino, o);
	assert_int_equal(wf_composed_read(ck, npy, wf_composed_size(npy) - size, &byte, 1), 1);
	assert_int_equal(byte, mark);
	edition = wf_edition(ck);
	struct wf_error err = {0};
	assert_int_equal(wf_revert(ck, &err), 0);
	assert_int_not_equal(wf_edition(ck), edition);
	assert_int_equal(wf_composed_read(ck, npy, wf_composed_size(npy) - size, &byte, 1),
			 -ESTALE); /* nodes have other numbers now */
	assert_int_equal(wf_composed_read(ck, npy, 0, &byte, 1), 1);
	assert_int_equal(wf_compose_npy(ck, ino, &after), -ENOENT);
	assert_int_equal(wf_composed_read(ck, before, 0, &byte, 1), 1);
	wf_composed_free(before);
	wf_composed_free(npy);
	wf_composed_free(after);
	free(a);
	free(b);
}

static void refusals(void **state)
{
	char name[WF_NAME_MAX + 1], path[128];
	uint64_t size;
	struct wf_composed *c;
	struct wf_error err = {0};
	struct wf_buffer skipped = WF_BUFFER_INIT;
	struct wf_export x = {.format = WF_EXPORT_SAFETENSORS, .mode = 0600, .skip = true};
	assert_int_equal(wf_compose_safetensors(ck, some_tensor(name, &size), &c, NULL), -ENOTDIR);
	assert_int_equal(wf_compose_safetensors(ck, UINT32_MAX, &c, NULL), -ENOENT);
	assert_int_equal(wf_compose_npy(ck, WF_ROOT, &c), -ENOENT);
	x.prefix = "no such mapping";
	snprintf(path, sizeof path, "%s/out", dir);
	assert_int_equal(wf_export(ck, &x, path, &skipped, &err), -ENOENT);
	x.prefix = name;
	assert_int_equal(wf_export(ck, &x, path, &skipped, &err), -ENOTDIR);
	x.prefix = NULL;
	assert_int_equal(wf_export(ck, &x, file, &skipped, &err), -EINVAL); /* the checkpoint itself */
	assert_int_equal(wf_export(ck, &x, dir, &skipped, &err), -EISDIR);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(wf_export(ck, &x, path, &skipped, &err), 0);
	assert_int_equal(access(path, F_OK), 0);
	wf_buffer_free(&skipped);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ranges, setup, teardown),
		cmocka_unit_test_setup_teardown(copies, setup, teardown),
		cmocka_unit_test_setup_teardown(edits, setup, teardown),
		cmocka_unit_test_setup_teardown(refusals, setup, teardown),
	};
	files = argc > 1 ? argv[1] : "tests/unit/torch-files";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
