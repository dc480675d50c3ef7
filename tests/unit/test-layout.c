/* SPDX-License-Identifier: MIT */
#include "tensor-kit.h"

#include "codec/tensor/layout.h"

#define ELEMENTS 4096

static unsigned char content[ELEMENTS * 16];

static void fill(uint64_t seed)
{
	for (size_t i = 0; i < sizeof content; i++)
		content[i] = (unsigned char)(kit_random(&seed) >> 32);
}

/* A storage of bytes from content that tensors made by hand refer to. */
static void open_bytes(struct kit *k, size_t len)
{
	kit_init(k);
	kit_record(k, "0", content, len, false);
	kit_persid(k, "UntypedStorage", "0", (int64_t)len);
	kit_open(k);
	assert_int_equal(wf_storages_count(k->ss), 1);
}

/* Finishes what shape, stride and offset say. */
static void settle(struct wf_tensor *t)
{
	uint64_t expected = 1;

	t->numel = 1;
	t->contiguous = true;
	for (uint32_t d = t->ndim; d-- > 0;) {
		t->numel *= (uint64_t)t->shape[d];
		t->contiguous &= t->shape[d] == 1 || (uint64_t)t->stride[d] == expected;
		expected *= (uint64_t)t->shape[d];
	}
	t->size_bytes = t->numel * wf_dtype_info(t->dtype)->size_bytes;
}

/* Element i of the file as an index of the storage, the obvious way. */
static uint64_t naive(const struct wf_tensor *t, uint64_t i)
{
	uint64_t at = t->offset_elems;

	for (uint32_t d = t->ndim; d-- > 0;) {
		at += i % (uint64_t)t->shape[d] * (uint64_t)t->stride[d];
		i /= (uint64_t)t->shape[d];
	}
	return at;
}

static void reference(const struct wf_tensor *t, const unsigned char *storage, unsigned char *out)
{
	size_t size = wf_dtype_info(t->dtype)->size_bytes;

	for (uint64_t i = 0; i < t->numel; i++)
		memcpy(out + i * size, storage + naive(t, i) * size, size);
}

/* A view of at most ELEMENTS elements; with overlaps (stride 0, as_strided) when asked. */
static void random_view(struct wf_tensor *t, enum wf_dtype dtype, bool overlaps, uint64_t *seed)
{
	*t = (struct wf_tensor){.kind = WF_TENSOR_DENSE, .dtype = dtype};
	for (;;) {
		uint64_t span = 1;
		t->ndim = (uint32_t)(kit_random(seed) % 5);
		uint32_t order[4] = {0, 1, 2, 3};
		for (uint32_t i = t->ndim; i-- > 1;) {
			uint32_t j = (uint32_t)(kit_random(seed) % (i + 1)), o = order[i];
			order[i] = order[j];
			order[j] = o;
		}
		/* from the innermost of a random permutation outwards: dense, or with a gap */
		for (uint32_t i = 0; i < t->ndim; i++) {
			uint32_t d = order[i];
			t->shape[d] = (int64_t)(kit_random(seed) % 7 + (kit_random(seed) % 20 != 0));
			t->stride[d] = (int64_t)(span + (kit_random(seed) % 3 ? 0 : kit_random(seed) % 5));
			if (overlaps)
				t->stride[d] = (int64_t)(kit_random(seed) % (span + 2));
			if (t->shape[d] > 0)
				span += (uint64_t)(t->shape[d] - 1) * (uint64_t)t->stride[d];
		}
		if (span <= ELEMENTS) {
			t->offset_elems = kit_random(seed) % (ELEMENTS - span + 1);
			settle(t);
			return;
		}
	}
}

static void check_reads(struct kit *k, const struct wf_tensor *t, const unsigned char *want)
{
	static unsigned char got[ELEMENTS * 16 + 1];
	uint64_t seed = 11 + t->size_bytes;

	assert_true(t->size_bytes < sizeof got);
	/* every range of a small tensor, some of a large one */
	uint64_t step = t->size_bytes > 60 ? t->size_bytes / 13 : 1;
	for (uint64_t from = 0; from <= t->size_bytes; from += step)
		for (uint64_t len = 0; len <= t->size_bytes - from; len += step) {
			uint64_t more = step == 1 ? 0 : kit_random(&seed) % 3,
				 n = WF_MIN(len + more, t->size_bytes - from);
			got[n] = 0xa5;
			assert_int_equal(wf_tensor_read(k->ss, t, from, got, n), 0);
			assert_memory_equal(got, want + from, n);
			assert_int_equal(got[n], 0xa5);
		}
	assert_int_equal(wf_tensor_read(k->ss, t, 0, got, t->size_bytes + 1), -EUCLEAN);
	assert_int_equal(wf_tensor_read(k->ss, t, t->size_bytes + 1, got, 0), -EUCLEAN);
}

/* The span is from the first byte of an element to the end of the last. */
static void check_span(const struct wf_tensor *t)
{
	size_t size = wf_dtype_info(t->dtype)->size_bytes;
	uint64_t first = UINT64_MAX, end = 0, told_first, told_end;

	for (uint64_t i = 0; i < t->numel; i++) {
		first = WF_MIN(first, naive(t, i) * size);
		end = WF_MAX(end, (naive(t, i) + 1) * size);
	}
	wf_layout_span(t, &told_first, &told_end);
	assert_int_equal(told_end - told_first, t->numel ? end - first : 0);
	if (t->numel)
		assert_int_equal(told_first, first);
}

static void random_views(void **state)
{
	static const enum wf_dtype dtypes[] = {WF_UINT8, WF_FLOAT16, WF_FLOAT32, WF_INT64, WF_COMPLEX128};
	static unsigned char want[ELEMENTS * 16];
	struct kit k;
	uint64_t seed = 42;

	fill(1);
	open_bytes(&k, sizeof content);
	for (int round = 0; round < 400; round++) {
		struct wf_tensor t;
		do
			random_view(&t, dtypes[round % 5], round % 4 == 0, &seed);
		while (t.size_bytes > sizeof want);
		reference(&t, content, want);
		check_span(&t);
		check_reads(&k, &t, want);
	}
	kit_close(&k);
}

/* Larger than the window, so that axes are split. */
static void large_transposed(void **state)
{
	enum { ROWS = 700, COLUMNS = 900 };
	unsigned char *big = malloc(ROWS * COLUMNS * 4), *want = malloc(ROWS * COLUMNS * 4);
	unsigned char *got = malloc(ROWS * COLUMNS * 4);
	uint64_t seed = 5;
	struct kit k;
	struct wf_tensor t = {.dtype = WF_FLOAT32, .ndim = 2, .shape = {COLUMNS, ROWS}, .stride = {1, COLUMNS}};

	for (size_t i = 0; i < ROWS * COLUMNS * 4; i++)
		big[i] = (unsigned char)kit_random(&seed);
	kit_init(&k);
	kit_record(&k, "0", big, ROWS * COLUMNS * 4, false);
	kit_persid(&k, "FloatStorage", "0", ROWS * COLUMNS);
	kit_open(&k);
	kit_make_writable(&k);
	settle(&t);
	reference(&t, big, want);
	assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, t.size_bytes), 0);
	assert_memory_equal(got, want, t.size_bytes);
	for (int round = 0; round < 60; round++) {
		uint64_t from = kit_random(&seed) % t.size_bytes, len = kit_random(&seed) % (t.size_bytes - from);
		memset(got, 0, len);
		assert_int_equal(wf_tensor_read(k.ss, &t, from, got, len), 0);
		assert_memory_equal(got, want + from, len);
	}
	/* one column in every tenth row: gaps that are not worth reading over, and rows of storage far apart */
	struct wf_tensor sparse = {
		.dtype = WF_FLOAT32, .ndim = 3, .shape = {3, ROWS / 10, 2}, .stride = {2, COLUMNS * 10, 300}};
	settle(&sparse);
	reference(&sparse, big, want);
	assert_int_equal(wf_tensor_read(k.ss, &sparse, 0, got, sparse.size_bytes), 0);
	assert_memory_equal(got, want, sparse.size_bytes);
	/* written back whole, it is one dense extent, and few calls */
	for (size_t i = 0; i < t.size_bytes; i++)
		want[i] = (unsigned char)kit_random(&seed);
	assert_int_equal(wf_tensor_write(k.ss, &t, 0, want, t.size_bytes), 0);
	assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, t.size_bytes), 0);
	assert_memory_equal(got, want, t.size_bytes);
	uint32_t n;
	wf_extents_all(wf_storage_get(k.ss, 0)->dirty, &n);
	assert_int_equal(n, 1);
	assert_true(k.told < 100);
	kit_close(&k);
	free(big);
	free(want);
	free(got);
}

static void random_writes(void **state)
{
	static unsigned char model[ELEMENTS * 4], data[ELEMENTS * 4], want[ELEMENTS * 4], got[ELEMENTS * 4];
	struct kit k;
	uint64_t seed = 99;
	uint32_t refused = 0;

	fill(2);
	memcpy(model, content, sizeof model);
	open_bytes(&k, sizeof model);
	kit_make_writable(&k);
	for (int round = 0; round < 600; round++) {
		struct wf_tensor t;
		do
			random_view(&t, WF_FLOAT32, round % 5 == 0, &seed);
		while (t.size_bytes > sizeof want);
		uint64_t from = kit_random(&seed) % (t.size_bytes + 1);
		uint64_t len = kit_random(&seed) % (t.size_bytes - from + 1);
		for (size_t i = 0; i < len; i++)
			data[i] = (unsigned char)kit_random(&seed);
		int r = wf_tensor_write(k.ss, &t, from, data, len);
		if (r == -EOPNOTSUPP) {
			assert_true(wf_layout_overlaps(&t));
			refused++;
			continue;
		}
		assert_int_equal(r, 0);
		for (uint64_t i = 0; i < len; i++)
			model[naive(&t, (from + i) / 4) * 4 + (from + i) % 4] = data[i];
		reference(&t, model, want);
		assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, t.size_bytes), 0);
		assert_memory_equal(got, want, t.size_bytes);
		/* nothing else was touched */
		assert_int_equal(wf_storage_read(k.ss, 0, 0, got, sizeof model), 0);
		assert_memory_equal(got, model, sizeof model);
	}
	assert_true(refused > 10);
	kit_close(&k);
}

/* Never false for a view that names one element twice. */
static void overlaps(void **state)
{
	uint64_t seed = 3;
	uint32_t seen_twice = 0;

	for (int round = 0; round < 3000; round++) {
		struct wf_tensor t;
		static uint8_t named[ELEMENTS];
		bool twice = false;
		random_view(&t, WF_UINT8, round % 2 == 0, &seed);
		memset(named, 0, sizeof named);
		for (uint64_t i = 0; i < t.numel; i++)
			twice |= named[naive(&t, i)]++ > 0;
		if (twice)
			assert_true(wf_layout_overlaps(&t));
		else if (round % 2 == 1)
			assert_false(wf_layout_overlaps(&t)); /* a permuted view with gaps is none */
		seen_twice += twice;
	}
	assert_true(seen_twice > 100);
}

/* expand() of one element to 2^62 of them */
static void huge_expanded(void **state)
{
	struct kit k;
	struct wf_tensor t = {
		.dtype = WF_UINT8, .ndim = 2, .shape = {(int64_t)1 << 40, (int64_t)1 << 22}, .offset_elems = 5};
	unsigned char got[100];
	uint64_t start, end;

	fill(4);
	open_bytes(&k, 64);
	settle(&t);
	wf_layout_span(&t, &start, &end);
	assert_true(start == 5 && end == 6);
	assert_int_equal(wf_tensor_read(k.ss, &t, ((uint64_t)1 << 62) - 100, got, 100), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(got[i], content[5]);
	kit_make_writable(&k);
	assert_int_equal(wf_tensor_write(k.ss, &t, 0, got, 1), -EOPNOTSUPP);
	kit_close(&k);
}

static void logical_values(void **state)
{
	const float raw[6] = {1, 2, -3, 4, 5, -6};
	float got[6], back[6];
	struct kit k;
	struct wf_tensor t = {.dtype = WF_COMPLEX64, .ndim = 1, .shape = {3}, .stride = {1}, .conj = true};

	memcpy(content, raw, sizeof raw);
	open_bytes(&k, sizeof raw);
	kit_make_writable(&k);
	settle(&t);
	assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, sizeof got), 0);
	assert_memory_equal(got, ((float[6]){1, -2, -3, -4, 5, 6}), sizeof got);
	/* any range, also inside an element */
	for (size_t from = 0; from <= sizeof got; from++)
		for (size_t len = 0; len <= sizeof got - from; len++) {
			memset(back, 0x55, sizeof back);
			assert_int_equal(wf_tensor_read(k.ss, &t, from, back, len), 0);
			assert_memory_equal(back, (char *)got + from, len);
		}
	/* conj and neg together leave the imaginary part alone */
	t.neg = true;
	assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, sizeof got), 0);
	assert_memory_equal(got, ((float[6]){-1, 2, 3, 4, -5, -6}), sizeof got);
	/* what is written reads back, piece by piece, and the storage holds the inverse */
	const float new[6] = {10, 20, 30, 40, 50, 60};
	t.neg = false;
	for (size_t at = 0; at < sizeof new; at += 5)
		assert_int_equal(wf_tensor_write(k.ss, &t, at, (const char *)new + at, WF_MIN(5, sizeof new - at)), 0);
	assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, sizeof got), 0);
	assert_memory_equal(got, new, sizeof new);
	assert_int_equal(wf_storage_read(k.ss, 0, 0, got, sizeof got), 0);
	assert_memory_equal(got, ((float[6]){10, -20, 30, -40, 50, -60}), sizeof got);
	/* NumPy's big-endian elements */
	struct wf_tensor big = {
		.kind = WF_TENSOR_NUMPY, .dtype = WF_INT16, .ndim = 1, .shape = {2}, .stride = {1}, .swap = true};
	settle(&big);
	assert_int_equal(wf_tensor_write(k.ss, &big, 0, (const int16_t[2]){0x0102, 0x0304}, 4), 0);
	assert_int_equal(wf_storage_read(k.ss, 0, 0, got, 4), 0);
	assert_memory_equal(got, "\1\2\3\4", 4);
	struct wf_tensor meta = {.kind = WF_TENSOR_META, .dtype = WF_INT16, .ndim = 1, .shape = {2}, .stride = {1}};
	settle(&meta);
	assert_int_equal(wf_tensor_read(k.ss, &meta, 0, got, 4), -ENODATA);
	kit_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_views), cmocka_unit_test(large_transposed), cmocka_unit_test(random_writes),
		cmocka_unit_test(overlaps),     cmocka_unit_test(huge_expanded),    cmocka_unit_test(logical_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
