/* SPDX-License-Identifier: MIT */
/* Graphs of tensors built by hand over a zip container in memory, with extent files in memory. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "codec/container/container.h"
#include "codec/tensor/storage.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"
#include "zip-builder.h"

#define KIT_MAX_FILES 16

struct kit {
	struct zip_builder zb;
	struct wf_graph *g;
	struct wf_container *c;
	struct wf_storages *ss;
	struct wf_error err;
	int files[KIT_MAX_FILES];
	uint32_t told; /* calls of written() */
	uint64_t told_offset, told_len;
};

static inline void kit_init(struct kit *k)
{
	*k = (struct kit){.zb = ZIP_BUILDER_INIT};
	for (int i = 0; i < KIT_MAX_FILES; i++)
		k->files[i] = -1;
	assert_int_equal(wf_graph_new(&k->g), 0);
	zb_add_minimum(&k->zb);
}

static inline void kit_record(struct kit *k, const char *key, const void *data, size_t len, bool deflate)
{
	char name[64];

	snprintf(name, sizeof name, "a/data/%s", key);
	zb_add(&k->zb, &(struct zip_entry){.name = name, .data = data, .len = len, .deflate = deflate});
}

static inline void kit_open_container(struct kit *k)
{
	zb_finish(&k->zb, NULL);
	struct wf_source *s = zb_source(&k->zb);
	assert_int_equal(wf_container_open(s, &k->c, &k->err), 0);
	wf_source_unref(s);
}

static inline int kit_extent_file(void *ctx, uint32_t i, int *ret_fd)
{
	struct kit *k = ctx;

	assert_true(i < KIT_MAX_FILES);
	if (k->files[i] < 0)
		k->files[i] = memfd_create("extents", MFD_CLOEXEC);
	*ret_fd = k->files[i];
	return 0;
}

static inline void kit_written(void *ctx, uint32_t i, uint64_t offset, uint64_t len)
{
	struct kit *k = ctx;

	k->told++;
	k->told_offset = offset;
	k->told_len = len;
}

/* After the graph is complete. */
static inline void kit_open(struct kit *k)
{
	kit_open_container(k);
	assert_int_equal(wf_storages_new(k->g, k->c, &k->ss, &k->err), 0);
}

static inline void kit_make_writable(struct kit *k)
{
	wf_storages_set_extent_files(k->ss, &(struct wf_extent_files){kit_extent_file, kit_written, k});
}

static inline void kit_close(struct kit *k)
{
	wf_storages_free(k->ss);
	wf_container_free(k->c);
	wf_graph_free(k->g);
	for (int i = 0; i < KIT_MAX_FILES; i++)
		if (k->files[i] >= 0)
			close(k->files[i]);
}

/* ---- objects ---- */

#define TUPLE(g, ...) wf_tuple(g, (const wf_ref[]){__VA_ARGS__}, sizeof((const wf_ref[]){__VA_ARGS__}) / sizeof(wf_ref))

static inline wf_ref kit_persid(struct kit *k, const char *class, const char *key, int64_t numel)
{
	struct wf_graph *g = k->g;
	const char *module = strcmp(class, "UntypedStorage") ? "torch" : "torch.storage";

	return wf_persid(g, TUPLE(g, wf_str(g, "storage"), wf_global_named(g, module, class), wf_str(g, key),
				  wf_str(g, "cpu"), wf_int(g, numel)));
}

static inline wf_ref kit_call(struct kit *k, const char *module, const char *name, wf_ref args)
{
	return wf_call(k->g, WF_CALL_REDUCE, wf_global_named(k->g, module, name), args, WF_NIL);
}

static inline wf_ref kit_ints(struct kit *k, uint32_t n, const int64_t *v)
{
	wf_ref items[WF_MAX_NDIM + 1];

	for (uint32_t i = 0; i < n; i++)
		items[i] = wf_int(k->g, v[i]);
	return wf_tuple(k->g, items, n);
}

#define INTS(k, ...) \
	kit_ints(k, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]){__VA_ARGS__})

static inline wf_ref kit_v2(struct kit *k, wf_ref persid, int64_t offset, wf_ref size, wf_ref stride)
{
	struct wf_graph *g = k->g;

	return kit_call(k, "torch._utils", "_rebuild_tensor_v2",
			TUPLE(g, persid, wf_int(g, offset), size, stride, wf_bool(g, false), wf_none(g)));
}

/* numpy.dtype('f4', False, True) with its state */
static inline wf_ref kit_dtype(struct kit *k, const char *name, const char *order)
{
	struct wf_graph *g = k->g;
	wf_ref d = kit_call(k, "numpy", "dtype", TUPLE(g, wf_str(g, name), wf_bool(g, false), wf_bool(g, true)));
	wf_ref none = wf_none(g);

	wf_call_build(
		g, d,
		TUPLE(g, wf_int(g, 3), wf_str(g, order), none, none, none, wf_int(g, -1), wf_int(g, -1), wf_int(g, 0)));
	return d;
}

/* _codecs.encode(str, 'latin1') of any bytes */
static inline wf_ref kit_latin1(struct kit *k, const void *data, size_t len)
{
	const unsigned char *p = data;
	unsigned char *utf8 = malloc(2 * len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (p[i] >= 0x80)
			utf8[n++] = (unsigned char)(0xc0 | p[i] >> 6);
		utf8[n++] = (unsigned char)(p[i] >= 0x80 ? 0x80 | (p[i] & 0x3f) : p[i]);
	}
	wf_ref text = wf_string(k->g, WF_STR, utf8, n);
	free(utf8);
	return kit_call(k, "_codecs", "encode", TUPLE(k->g, text, wf_str(k->g, "latin1")));
}

static inline wf_ref kit_array(struct kit *k, wf_ref shape, wf_ref dtype, bool fortran, wf_ref bytes)
{
	struct wf_graph *g = k->g;
	wf_ref a = kit_call(k, "numpy.core.multiarray", "_reconstruct",
			    TUPLE(g, wf_global_named(g, "numpy", "ndarray"), TUPLE(g, wf_int(g, 0)),
				  wf_string(g, WF_BYTES, "b", 1)));

	wf_call_build(g, a, TUPLE(g, wf_int(g, 1), shape, dtype, wf_bool(g, fortran), bytes));
	return a;
}

/* The same every time, so that a failure can be repeated. */
static inline uint64_t kit_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}
