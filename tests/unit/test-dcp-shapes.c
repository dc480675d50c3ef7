/* SPDX-License-Identifier: MIT */
/* Objects of .metadata in the shapes that a pickler gives them, and objects that differ from the one before them in anything that may differ:
 * the stream reader, which knows shapes, says what the graph says, of the file and of each damage to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_stream.h"
#include "tests/unit/dcp-kit.h"

#define TENSORS 5u
#define SHARED 3000u                             /* chunks of a tensor whose sizes are written once */
#define REST(ndim) ((ndim) == 2 ? 70000u : 300u) /* columns */

/* What a pickler remembers: a text or a class is written once, and then by its index. */
struct known {
	char text[64];
	uint32_t index;
};

struct writer {
	struct wf_buffer out;
	struct known known[64];
	uint32_t count, memo;
	uint32_t state; /* of chance */
	bool odd;       /* whether an object may differ from the one before */
	bool rewrites;  /* whether the index of a text comes to mean another one */
	bool flat;      /* whether all tensors but the first have two dimensions */
	/* of so many times that a name, offsets, sizes or an info are needed again, one is taken from the memo; 0: none */
	uint32_t shares;
	uint32_t names[TENSORS], sizes[TENSORS], offsets[TENSORS][SHARED], info; /* index + 1 of the last one */
};

static uint32_t chance(struct writer *w, uint32_t n)
{
	w->state = w->state * 1664525u + 1013904223u;
	return (w->state >> 8) % n;
}

static bool is_odd(struct writer *w)
{
	return w->odd && chance(w, 25) == 0;
}

static void op(struct writer *w, const char *bytes)
{
	wf_buffer_puts(&w->out, bytes);
}

static void little(struct writer *w, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		wf_buffer_putc(&w->out, (char)(v >> 8 * i));
}

static void memoize(struct writer *w)
{
	op(w, "\x94");
	w->memo++;
}

static void get(struct writer *w, uint32_t index)
{
	bool small = index < 256 && !is_odd(w);
	op(w, small ? "h" : "j");
	little(w, index, small ? 1 : 4);
}

static void text(struct writer *w, const char *s)
{
	bool small = strlen(s) < 256;
	op(w, small ? "\x8c" : "X");
	little(w, strlen(s), small ? 1 : 4);
	op(w, s);
}

/* A text or a class that was told before, or that is told now. */
static struct known *find(struct writer *w, const char *s)
{
	for (uint32_t i = 0; i < w->count; i++)
		if (strcmp(w->known[i].text, s) == 0)
			return &w->known[i];
	return NULL;
}

static void learn(struct writer *w, const char *s)
{
	struct known *k = find(w, s);
	if (!k) {
		assert_true(w->count < WF_ARRAY_SIZE(w->known));
		k = &w->known[w->count++];
	}
	snprintf(k->text, sizeof k->text, "%s", s);
	k->index = w->memo - 1;
}

static void name(struct writer *w, const char *s)
{
	struct known *k = find(w, s);
	if (k && !is_odd(w)) {
		get(w, k->index);
		return;
	}
	text(w, s);
	if (!k || chance(w, 2)) {
		memoize(w);
		learn(w, s);
	}
}

static void class(struct writer *w, const char *module, const char *s)
{
	char both[64];
	snprintf(both, sizeof both, "%.40s %.20s", strrchr(module, '.') ? strrchr(module, '.') : module, s);
	const struct known *k = find(w, both);
	if (k) {
		get(w, k->index);
		return;
	}
	op(w, "c");
	op(w, module);
	op(w, "\n");
	op(w, s);
	op(w, "\n");
	memoize(w);
	learn(w, both);
}

static void number(struct writer *w, uint64_t n)
{
	size_t size = n < 256 ? 1 : n < 65536 ? 2 : 4;
	if (n > INT32_MAX || is_odd(w)) {
		op(w, "\x8a\x06");
		little(w, n, 6);
		return;
	}
	size = is_odd(w) ? 4 : size;
	op(w, size == 1 ? "K" : size == 2 ? "M" : "J");
	little(w, n, size);
}

/* Whether what was written before is taken from there. */
static bool again(struct writer *w, const uint32_t *was)
{
	if (!w->shares || *was == 0 || chance(w, w->shares) > 0)
		return false;
	get(w, *was - 1);
	return true;
}

static void size(struct writer *w, uint32_t n, uint64_t first, uint64_t rest)
{
	class(w, "torch", "Size");
	bool marked = n > 3 || is_odd(w);
	op(w, marked ? "(" : n == 0 ? ")" : "");
	for (uint32_t i = 0; i < n; i++)
		number(w, i == 0 ? first : rest);
	if (marked || n > 0) {
		op(w, marked ? "t" : n == 1 ? "\x85" : n == 2 ? "\x86" : "\x87");
		if (!is_odd(w))
			memoize(w);
	}
	op(w, "\x85");
	memoize(w);
	op(w, "R");
	memoize(w);
}

/* The offsets of a chunk, or the sizes of all. */
static void size_of(struct writer *w, uint32_t *was, uint32_t n, uint64_t first, uint64_t rest)
{
	if (again(w, was))
		return;
	size(w, n, first, rest);
	*was = w->memo;
}

static void frame(struct writer *w)
{
	if (!is_odd(w))
		return;
	op(w, "\x95");
	little(w, 1, 8);
}

#define METADATA "torch.distributed.checkpoint.metadata"

static void begin(struct writer *w, const char *module, const char *s)
{
	class(w, module, s);
	op(w, ")\x81");
	memoize(w);
	op(w, "}");
	memoize(w);
	op(w, "(");
	frame(w);
}

static uint32_t ndim_of(const struct writer *w, uint32_t t)
{
	return w->flat && t > 0 ? 2 : t;
}

static void tensor(struct writer *w, const char *fqn, uint32_t t, uint32_t chunks)
{
	uint32_t ndim = ndim_of(w, t);
	text(w, fqn);
	memoize(w);
	w->names[t] = w->memo;
	begin(w, METADATA, "TensorStorageMetadata");
	name(w, "properties");
	class(w, METADATA, "TensorProperties");
	op(w, ")\x81");
	memoize(w);
	op(w, "(");
	class(w, "torch", "float32");
	op(w, "Nt");
	memoize(w);
	op(w, "b");
	name(w, "size");
	size(w, ndim, 4 * (uint64_t)chunks, REST(ndim));
	name(w, "chunks");
	op(w, "]");
	memoize(w);
	op(w, "(");
	for (uint32_t i = 0; i < chunks; i++) {
		bool swapped = is_odd(w);
		begin(w, METADATA, "ChunkStorageMetadata");
		for (uint32_t k = 0; k < 2; k++) {
			bool offsets = swapped ? k == 1 : k == 0;
			name(w, offsets ? "offsets" : "sizes");
			if (offsets)
				size_of(w, &w->offsets[t][i], ndim, 4 * i, 0);
			else
				size_of(w, &w->sizes[t], ndim, 4, REST(ndim));
			if (k == 0)
				frame(w);
		}
		op(w, "ub");
	}
	op(w, "eub");
}

/* A text in place of another one, whose index then means it. */
static void rename_known(struct writer *w, const char *from, const char *to)
{
	text(w, to);
	op(w, "r");
	little(w, find(w, from)->index, 4);
}

static void slice(struct writer *w, const char *fqn, uint32_t t, uint32_t chunk)
{
	uint32_t ndim = ndim_of(w, t);
	char file[32];
	begin(w, METADATA, "MetadataIndex");
	name(w, "fqn");
	if (!again(w, &w->names[t])) {
		text(w, fqn);
		if (!is_odd(w)) {
			memoize(w);
			w->names[t] = w->memo;
		}
	}
	name(w, "index");
	if (is_odd(w))
		op(w, "N");
	else
		number(w, chunk);
	if (w->rewrites && chunk == 4)
		rename_known(w, "length", "offset");
	else
		name(w, "offset");
	size_of(w, &w->offsets[t][chunk], ndim, 4 * chunk, 0);
	frame(w);
	op(w, "ub");
	if (again(w, &w->info))
		return;
	snprintf(file, sizeof file, "__%u_0.distcp", (unsigned int)chunk % 3);
	begin(w, "torch.distributed.checkpoint.filesystem", "_StorageInfo");
	w->info = w->memo - 1; /* not the mapping, but what it is the state of */
	name(w, "relative_path");
	name(w, file);
	name(w, "offset");
	number(w, UINT64_C(1) << (chunk * 5 % 40));
	name(w, "length");
	number(w, 100000);
	if (!w->odd || !is_odd(w)) {
		name(w, "transform_descriptors");
		op(w, is_odd(w) ? "]" : "N");
	}
	op(w, "ub");
	if (is_odd(w))
		memoize(w);
}

static void write_all(struct writer *w, uint32_t chunks)
{
	char fqn[TENSORS][400];
	op(w, "\x80\x04");
	begin(w, METADATA, "Metadata");
	name(w, "state_dict_metadata");
	op(w, "}");
	memoize(w);
	op(w, "(");
	for (uint32_t t = 0; t < TENSORS; t++) {
		snprintf(fqn[t], sizeof fqn[t], "%0*u.weight", t == 3 ? 230 : 4, (unsigned int)t);
		tensor(w, fqn[t], t, t == 0 ? 1 : chunks);
	}
	op(w, "u");
	name(w, "storage_data");
	op(w, "}");
	memoize(w);
	op(w, "(");
	for (uint32_t i = 0; i < chunks; i++) {
		for (uint32_t t = i == 0 ? 0 : 1; t < TENSORS; t++)
			slice(w, fqn[t], t, i);
		if (i % 250 == 249)
			op(w, "u("); /* picklers make batches of 1000 */
	}
	op(w, "uub.");
	assert_int_equal(wf_buffer_status(&w->out), 0);
}

/* What the stream reader returns; where it knows the file, the graph says the same. */
static int compare(const void *bytes, size_t len, const char *what, unsigned int n)
{
	struct wf_dcp_metadata graph = {0}, stream = {0};
	struct wf_error err = {0};
	struct wf_source *s = NULL;
	void *copy = malloc(len + 1); /* of its size: a byte behind it is none to be read */
	assert_non_null(copy);
	memcpy(copy, bytes, len);
	assert_int_equal(wf_source_from_memory(copy, len, true, &s), 0);
	int r = wf_dcp_metadata_stream(&stream, s, "", &err);
	if (r == 0) {
		if (wf_dcp_metadata_read(&graph, s, "", &err) != 0)
			fail_msg("%s %u: the graph says %s", what, n, err.text);
		assert_int_equal(wf_dcp_metadata_finish(&stream), 0);
		assert_int_equal(wf_dcp_metadata_finish(&graph), 0);
		const char *difference = kit_difference(&graph, &stream);
		if (difference)
			fail_msg("%s %u: the readers differ in %s", what, n, difference);
	}
	wf_source_unref(s);
	wf_dcp_metadata_free(&graph);
	wf_dcp_metadata_free(&stream);
	return r;
}

/* Any object may be odd. What is known has every chunk and slice; some oddities are none that the stream knows. */
static void test_odd(void **state)
{
	unsigned int known = 0;
	for (unsigned int seed = 0; seed < 400; seed++) {
		struct writer w = {.state = seed, .odd = seed > 0};
		write_all(&w, 1 + seed % 20);
		int r = compare(w.out.data, w.out.len, "seed", seed);
		assert_true(r == 0 || (r == 1 && seed > 0));
		known += r == 0;
		wf_buffer_free(&w.out);
	}
	assert_true(known > 300);
}

/* No byte of a file is passed over: each is changed, to what differs little and to what is another opcode. */
static void test_damaged(void **state)
{
	static const unsigned char changes[] = {0x01, 0x82};
	struct writer w = {.state = 1};
	write_all(&w, 3);
	for (size_t i = 0; i < w.out.len; i++) {
		w.out.data[i] = (char)(w.out.data[i] ^ changes[i % 2]);
		compare(w.out.data, w.out.len, "damage at", (unsigned int)i);
		w.out.data[i] = (char)(w.out.data[i] ^ changes[i % 2]);
	}
	wf_buffer_free(&w.out);
}

static void test_cut(void **state)
{
	struct writer w = {.state = 1};
	write_all(&w, 2);
	for (size_t len = 0; len < w.out.len; len++)
		assert_int_equal(compare(w.out.data, len, "cut at", (unsigned int)len), 1);
	wf_buffer_free(&w.out);
}

/* From the fifth chunk on an info that is written as those before has two offsets and no length, which the stream does not know. */
static void test_rewritten(void **state)
{
	struct writer w = {.state = 1, .rewrites = true};
	write_all(&w, 5);
	assert_int_equal(compare(w.out.data, w.out.len, "an index", 4), 1);
	wf_buffer_free(&w.out);
}

/* Objects lie over the edges of the windows in which a file is read, and shapes are those of one window and the next. */
static void test_windows(void **state)
{
	struct writer w = {.state = 1};
	write_all(&w, 3000);
	assert_true(w.out.len > 1u << 20);
	assert_int_equal(compare(w.out.data, w.out.len, "chunks", 3000), 0);
	wf_buffer_free(&w.out);
}

/* What objects of a shape are made of is taken from the memo again, wherever it was put there, and now and then an info is that of two slices.
 * What was shared is shared as well as not: the tables are the same. */
static void test_shared(void **state)
{
	static const uint32_t shares[] = {1, 2, 10, 100};
	for (unsigned int seed = 0; seed < 120; seed++) {
		struct writer w = {
			.state = seed, .shares = shares[seed % 4], .odd = seed % 8 > 3, .flat = seed % 3 > 0};
		write_all(&w, seed < 4 ? SHARED : 1 + seed);
		int r = compare(w.out.data, w.out.len, "shared, seed", seed);
		assert_true(r == 0 || (r == 1 && w.odd));
		wf_buffer_free(&w.out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_odd),       cmocka_unit_test(test_shared),
					   cmocka_unit_test(test_damaged),   cmocka_unit_test(test_cut),
					   cmocka_unit_test(test_rewritten), cmocka_unit_test(test_windows)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
