/* SPDX-License-Identifier: MIT */
/* The member files of a directory and the address space over them, held against an array in memory. */
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
#include "codec/directory/space.h"

#define MAX_TILES 64u
#define FILES 5u

static char scratch[] = "/tmp/wf-test-directory-XXXXXX";

static uint64_t seed = 14;

static uint64_t below(uint64_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % n;
}

static void put_file(const char *name, const void *data, size_t len)
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s", scratch, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(wf_pwrite_all(fd, data, len, 0), 0);
	close(fd);
}

static struct wf_members *members_new(void)
{
	struct wf_members *m = NULL;
	assert_int_equal(wf_members_new(scratch, &m, NULL), 0);
	return m;
}

static uint32_t add(struct wf_members *m, const char *name)
{
	uint32_t i = 0;
	assert_int_equal(wf_members_add(m, name, strlen(name), &i, NULL), 0);
	return i;
}

/* ---- members ---- */

static void test_names(void **state)
{
	static const struct {
		const char *name;
		bool good;
	} table[] = {
		{"a", true},       {"a/b", true}, {"..a", true},  {"a..", true},   {"a/...", true},
		{"", false},       {"/a", false}, {"..", false},  {"../a", false}, {"a/..", false},
		{"a/../b", false}, {".", false},  {"./a", false}, {"a//b", false}, {"a/", false},
	};
	struct wf_members *m = members_new();
	uint32_t i = 0, again = 0;
	for (size_t k = 0; k < WF_ARRAY_SIZE(table); k++)
		assert_int_equal(wf_members_add(m, table[k].name, strlen(table[k].name), &i, NULL),
				 table[k].good ? 0 : -EUCLEAN);
	assert_int_equal(wf_members_add(m, "a\0b", 3, &i, NULL), -EUCLEAN);
	i = add(m, "new");
	again = add(m, "new");
	assert_int_equal(i, again);
	assert_string_equal(wf_members_name(m, i), "new");
	assert_null(wf_members_name(m, wf_members_count(m)));
	wf_members_unref(m);
}

static unsigned int open_descriptors(void)
{
	unsigned int n = 0;
	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_many_files(void **state)
{
	unsigned int before = open_descriptors();
	struct wf_members *m = members_new();
	struct wf_source *held = NULL;
	char name[32];
	for (uint32_t i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "many-%u", i);
		put_file(name, &i, sizeof i);
		assert_int_equal(add(m, name), i);
	}
	assert_int_equal(wf_members_open(m, 0, &held, NULL), 0);
	for (uint32_t round = 0; round < 2; round++)
		for (uint32_t i = 0; i < 300; i++) {
			struct wf_source *s = NULL;
			uint32_t got = 0;
			assert_int_equal(wf_members_open(m, i, &s, NULL), 0);
			assert_int_equal(wf_source_read(s, 0, &got, sizeof got), 0);
			assert_int_equal(got, i);
			wf_source_unref(s);
			assert_true(open_descriptors() <= before + WF_MEMBERS_OPEN + 2);
		}
	/* whoever holds one reads on, when it was closed for others long ago */
	uint32_t got = 1;
	assert_int_equal(wf_source_read(held, 0, &got, sizeof got), 0);
	assert_int_equal(got, 0);
	wf_source_unref(held);
	wf_members_unref(m);
	assert_int_equal(open_descriptors(), before);
}

static void test_changed_and_missing(void **state)
{
	struct wf_members *m = members_new();
	struct wf_error err = {0};
	struct wf_source *s = NULL;
	char name[64];
	put_file("changes", "one", 3);
	uint32_t changes = add(m, "changes"), gone = add(m, "gone"), folder = add(m, "folder");
	snprintf(name, sizeof name, "%s/folder", scratch);
	mkdir(name, 0700);
	assert_int_equal(wf_members_open(m, gone, &s, &err), -EIO);
	assert_non_null(strstr(err.text, "gone"));
	assert_int_equal(wf_members_open(m, folder, &s, &err), -EIO);
	assert_non_null(strstr(err.text, "folder"));
	assert_int_equal(wf_members_open(m, changes, &s, NULL), 0);
	wf_source_unref(s);
	for (uint32_t i = 0; i < WF_MEMBERS_OPEN; i++) { /* that it is closed */
		snprintf(name, sizeof name, "many-%u", i);
		assert_int_equal(wf_members_open(m, add(m, name), &s, NULL), 0);
		wf_source_unref(s);
	}
	put_file("changes", "three", 5);
	assert_int_equal(wf_members_open(m, changes, &s, &err), -ESTALE);
	assert_non_null(strstr(err.text, "changes"));
	wf_members_unref(m);
}

/* ---- tiles ---- */

struct plan {
	uint32_t ndim, element_bytes, count;
	uint64_t sizes[4], bytes;
	struct wf_tile tiles[MAX_TILES];
	uint64_t boxes[MAX_TILES * 8];
};

/* Cuts a box in two until there are enough. */
static void cut(struct plan *p)
{
	for (unsigned int tries = 0; tries < 40 && p->count < MAX_TILES; tries++) {
		uint32_t i = (uint32_t)below(p->count), d = (uint32_t)below(p->ndim);
		uint64_t *box = p->boxes + i * 2 * p->ndim, *new = p->boxes + p->count * 2 * p->ndim;
		if (box[p->ndim + d] < 2)
			continue;
		uint64_t at = 1 + below(box[p->ndim + d] - 1);
		memcpy(new, box, 2 * p->ndim * sizeof *box);
		box[p->ndim + d] = at;
		new[d] += at;
		new[p->ndim + d] -= at;
		p->count++;
	}
}

static void make_plan(struct plan *p, bool rows)
{
	*p = (struct plan){.ndim = (uint32_t)below(4), .element_bytes = 1u << below(4), .count = 1};
	p->bytes = p->element_bytes;
	for (uint32_t d = 0; d < p->ndim; d++) {
		p->sizes[d] = p->boxes[p->ndim + d] = 1 + below(rows && d == 0 ? 60 : 12);
		p->bytes *= p->sizes[d];
	}
	uint32_t ndim = p->ndim;
	if (ndim == 0)
		return;
	if (!rows) {
		cut(p);
		return;
	}
	for (uint64_t at = p->sizes[0]; at > 1 && p->count < MAX_TILES;) {
		uint64_t n = 1 + below(at - 1), *new = p->boxes + p->count * 2 * ndim;
		memcpy(new, p->boxes, 2 * ndim * sizeof *new);
		new[0] = at - n;
		new[ndim] = n;
		at -= n;
		p->boxes[ndim] = at;
		p->count++;
	}
	/* from the first row to the last, as one writer tells them, or in another order */
	for (uint32_t i = 1, k = below(2) ? p->count - 1 : 0; i < k; i++, k--) {
		uint64_t other[8], *x = p->boxes + i * 2 * ndim, *y = p->boxes + k * 2 * ndim;
		memcpy(other, x, 2 * ndim * sizeof *x);
		memcpy(x, y, 2 * ndim * sizeof *x);
		memcpy(y, other, 2 * ndim * sizeof *x);
	}
}

struct disk {
	unsigned char *data[FILES];
	size_t len[FILES];
};

static void put(struct disk *d, uint32_t file, const void *data, size_t len)
{
	d->data[file] = realloc(d->data[file], d->len[file] + len + 1);
	assert_non_null(d->data[file]);
	memcpy(d->data[file] + d->len[file], data, len);
	d->len[file] += len;
}

/* Row by row, as the tile's writer would. */
static size_t pack(const struct plan *p, uint32_t tile, const unsigned char *whole, unsigned char *out)
{
	const uint64_t *box = p->boxes + tile * 2 * p->ndim;
	uint64_t i[4] = {0}, n = 1, len = 0;
	for (uint32_t d = 0; d < p->ndim; d++)
		n *= box[p->ndim + d];
	for (uint64_t k = 0; k < n; k++, len += p->element_bytes) {
		uint64_t at = 0, rest = k;
		for (uint32_t d = p->ndim; d-- > 0; rest /= box[p->ndim + d])
			i[d] = box[d] + rest % box[p->ndim + d];
		for (uint32_t d = 0; d < p->ndim; d++)
			at = at * p->sizes[d] + i[d];
		memcpy(out + len, whole + at * p->element_bytes, p->element_bytes);
	}
	return len;
}

/* What a space asked for. */
struct asked {
	const struct plan *plans;
	unsigned int resolved, tiles;
};

static struct wf_tiling tiling_of(const struct plan *p)
{
	return (struct wf_tiling){p->ndim, p->element_bytes, p->count, p->sizes, p->tiles, p->boxes};
}

static int tell_tiles(void *ctx, uint32_t number, int (*take)(void *arg, const struct wf_tiling *t), void *arg)
{
	struct asked *a = ctx;
	const struct wf_tiling t = tiling_of(&a->plans[number]);
	a->tiles++;
	return take(arg, &t);
}

/* A slice that is longer than the data begins with a byte that tells where they are in it. Some are read through the slice. */
static int data_in_slice(struct wf_members *m, const struct wf_space_slice *slice, uint64_t *ret_at,
			 struct wf_source **ret, struct wf_error *err)
{
	unsigned char skip = 0;
	int r = wf_members_open(m, slice->member, ret, err);
	if (r < 0)
		return r;
	r = wf_source_read(*ret, slice->offset, &skip, 1);
	*ret_at = slice->offset + skip;
	return r;
}

static int resolve(void *ctx, struct wf_members *m, const struct wf_space_slice *slice, uint64_t *ret_at,
		   struct wf_error *err)
{
	struct wf_source *s = NULL;
	int r = data_in_slice(m, slice, ret_at, &s, err);
	wf_source_unref(s);
	if (r == 0 && *ret_at % 3 == 0)
		*ret_at = WF_SPACE_SCATTERED;
	((struct asked *)ctx)->resolved++;
	return r;
}

static int read_scattered(void *ctx, struct wf_members *m, const struct wf_space_slice *slice, uint64_t at, void *buf,
			  size_t len, struct wf_error *err)
{
	struct wf_source *s = NULL;
	uint64_t data = 0;
	int r = data_in_slice(m, slice, &data, &s, err);
	assert_true(at + len <= slice->want_bytes);
	if (r == 0)
		r = wf_source_read(s, data + at, buf, len);
	wf_source_unref(s);
	return r;
}

static void place(struct plan *p, struct disk *d, const unsigned char *whole, const uint32_t *members)
{
	unsigned char *packed = malloc(p->bytes), head[256];
	assert_non_null(packed);
	for (uint32_t k = p->count; k-- > 0;) {
		uint32_t file = (uint32_t)below(FILES);
		size_t len = pack(p, k, whole, packed), skip = below(2) ? 1 + below(200) : 0,
		       tail = skip ? below(3) : 0;
		memset(head, 0xee, sizeof head);
		put(d, file, head, below(5));
		head[0] = (unsigned char)skip;
		p->tiles[k] = (struct wf_tile){members[file], d->len[file], skip + len + tail};
		put(d, file, head, skip);
		put(d, file, packed, len);
		put(d, file, head, tail);
	}
	free(packed);
}

static void compare(struct wf_source *s, uint64_t start, const unsigned char *whole, uint64_t bytes)
{
	unsigned char *got = malloc(bytes + 1);
	assert_non_null(got);
	for (unsigned int i = 0; i < 40; i++) {
		uint64_t from = i ? below(bytes) : 0, len = i ? below(bytes - from + 1) : bytes;
		struct wf_file_run run;
		got[len] = 0x5a;
		assert_int_equal(wf_source_read(s, start + from, got, len), 0);
		assert_memory_equal(got, whole + from, len);
		assert_int_equal(got[len], 0x5a);
		if (!wf_source_locate(s, start + from, &run))
			continue;
		len = WF_MIN(run.len, bytes - from);
		assert_true(len > 0);
		assert_int_equal(wf_pread_all(run.fd, got, len, run.offset), 0);
		assert_memory_equal(got, whole + from, len);
		wf_file_run_end(&run);
	}
	free(got);
}

/* Some tensors in one space, and a whole file among them. */
static void one_random_space(bool rows)
{
	struct disk disk = {0};
	struct plan plans[4];
	unsigned char *wholes[4];
	uint32_t members[FILES];
	uint64_t starts[4], file_start = 0;
	struct asked asked = {.plans = plans};
	struct wf_members *m = members_new();
	struct wf_space *space = NULL;
	struct wf_source *s = NULL;
	char name[16];
	for (uint32_t f = 0; f < FILES; f++) {
		snprintf(name, sizeof name, "file-%u", f);
		members[f] = add(m, name);
	}
	static const struct wf_space_ops ops = {.resolve = resolve, .read = read_scattered, .tiles = tell_tiles};
	assert_int_equal(wf_space_new(m, &ops, &asked, &space, NULL), 0);
	for (unsigned int i = 0; i < 4; i++) {
		make_plan(&plans[i], rows);
		wholes[i] = malloc(plans[i].bytes);
		for (uint64_t k = 0; k < plans[i].bytes; k++)
			wholes[i][k] = (unsigned char)below(256);
		place(&plans[i], &disk, wholes[i], members);
	}
	for (uint32_t f = 0; f < FILES; f++) {
		snprintf(name, sizeof name, "file-%u", f);
		put_file(name, disk.data[f], disk.len[f]);
	}
	for (unsigned int i = 0; i < 4; i++) {
		const struct wf_tiling t = tiling_of(&plans[i]);
		if (i == 2)
			assert_int_equal(wf_space_add_file(space, members[1], &file_start, NULL), 0);
		assert_int_equal(i % 2 ? wf_space_add_tiles_later(space, &t, i, &starts[i], NULL)
				       : wf_space_add_tiles(space, &t, &starts[i], NULL),
				 0);
	}
	assert_int_equal(asked.tiles, 0);
	assert_int_equal(wf_space_source(space, &s), 0);
	for (unsigned int i = 0; i < 4; i++)
		compare(s, starts[i], wholes[i], plans[i].bytes);
	if (disk.len[1] > 0)
		compare(s, file_start, disk.data[1], disk.len[1]);
	/* over the edges of pieces */
	uint64_t size = wf_source_size(s);
	unsigned char *all = malloc(size + 1);
	assert_int_equal(wf_source_read(s, 0, all, size), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_memory_equal(all + starts[i], wholes[i], plans[i].bytes);
	/* a place is looked up once */
	unsigned int before = asked.resolved;
	assert_int_equal(wf_source_read(s, 0, all, size), 0);
	assert_int_equal(asked.resolved, before);
	assert_int_equal(asked.tiles, 2);
	free(all);
	wf_source_unref(s);
	for (unsigned int i = 0; i < 4; i++)
		free(wholes[i]);
	for (uint32_t f = 0; f < FILES; f++)
		free(disk.data[f]);
}

static void test_random_tilings(void **state)
{
	for (unsigned int i = 0; i < 150; i++)
		one_random_space(i % 2);
}

/* Tiles that do not cover the whole once are refused, and nothing is added. */
static void test_wrong_tilings(void **state)
{
	struct wf_space *space = NULL;
	struct wf_error err = {0};
	uint64_t start = 0;
	assert_int_equal(wf_space_new(members_new(), NULL, NULL, &space, NULL), 0);
	for (unsigned int i = 0; i < 400; i++) {
		struct plan p;
		make_plan(&p, i % 2);
		if (p.ndim == 0)
			continue;
		for (uint32_t k = 0; k < p.count; k++) {
			uint64_t bytes = p.element_bytes;
			for (uint32_t d = 0; d < p.ndim; d++)
				bytes *= p.boxes[k * 2 * p.ndim + p.ndim + d];
			p.tiles[k] = (struct wf_tile){0, 0, bytes};
		}
		uint32_t k = (uint32_t)below(p.count), d = (uint32_t)below(p.ndim);
		uint64_t *box = p.boxes + k * 2 * p.ndim;
		switch (below(5)) {
		case 0: /* one is missing */
			memmove(box, box + 2 * p.ndim, (p.count - k - 1) * 2 * p.ndim * sizeof *box);
			memmove(p.tiles + k, p.tiles + k + 1, (p.count - k - 1) * sizeof *p.tiles);
			p.count--;
			break;
		case 1: /* one is longer */
			box[p.ndim + d]++;
			p.tiles[k].slice_bytes = UINT64_MAX / 2;
			break;
		case 2: /* one lies elsewhere */
			box[d] ^= 1;
			break;
		case 3: /* one has no room */
			p.tiles[k].slice_bytes--;
			break;
		case 4: /* sizes that are not added up */
			box[d] = UINT64_MAX - below(3);
			break;
		}
		const struct wf_tiling t = tiling_of(&p);
		err.text[0] = '\0';
		assert_int_equal(wf_space_add_tiles(space, &t, &start, &err), -EUCLEAN);
		assert_true(err.text[0] != '\0');
		assert_int_equal(wf_space_add_tiles_later(space, &t, 0, &start, NULL), -EUCLEAN);
	}
	const uint64_t huge[] = {UINT64_C(1) << 40, UINT64_C(1) << 40, 0}, none[] = {0, 5};
	const struct wf_tiling too_large = {.ndim = 2, .element_bytes = 1, .sizes = huge};
	const struct wf_tiling large_and_empty = {.ndim = 3, .element_bytes = 1, .sizes = huge};
	const struct wf_tiling empty = {.ndim = 2, .element_bytes = 4, .sizes = none};
	assert_int_equal(wf_space_add_tiles(space, &too_large, &start, &err), -EUCLEAN);
	assert_int_equal(wf_space_add_tiles(space, &large_and_empty, &start, &err), -EUCLEAN);
	assert_int_equal(wf_space_add_tiles(space, &empty, &start, &err), 0);
	struct wf_source *s = NULL;
	assert_int_equal(wf_space_source(space, &s), 0);
	assert_int_equal(wf_source_size(s), 0);
	wf_source_unref(s);
}

static int remove_scratch(void **state)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf %s", scratch);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_many_files),
		cmocka_unit_test(test_changed_and_missing),
		cmocka_unit_test(test_random_tilings),
		cmocka_unit_test(test_wrong_tilings),
	};
	if (!mkdtemp(scratch))
		return 1;
	return cmocka_run_group_tests_name("directory", tests, NULL, remove_scratch);
}
