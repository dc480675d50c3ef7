/* SPDX-License-Identifier: MIT */
/* A commit in place that was cut short, in every state that a kill or a power loss leaves, is taken back byte for byte; a file that is
 * not surely that one is not touched. */
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
#include <zlib.h>

#include <cmocka.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/overlay/format.h"
#include "codec/overlay/overlay.h"

#define BLOCK 4096u
#define SIZE (300u << 10) /* of the base: past both edges and some pieces between */
#define HEAD 1000u
#define MORE 9000u /* behind it */

static char dir[64], file[96], overlay[128];
static unsigned char base[SIZE], new_head[HEAD + BLOCK];
static struct timespec base_time;

static int set_up(void **state)
{
	snprintf(dir, sizeof dir, "/tmp/test-in-place-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/m.st", dir);
	snprintf(overlay, sizeof overlay, "%s.weightfs", file);
	srand(1);
	for (size_t i = 0; i < sizeof base; i++)
		base[i] = (unsigned char)(rand() >> 7);
	for (size_t i = 0; i < sizeof new_head; i++)
		new_head[i] = (unsigned char)(base[i] + 1);
	return 0;
}

static int tear_down(void **state)
{
	char command[160];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static int open_file(void)
{
	int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static void make_base(void)
{
	struct stat st;
	char command[400];
	snprintf(command, sizeof command, "rm -rf %s %s", file, overlay);
	assert_int_equal(system(command), 0);
	int fd = open_file();
	assert_int_equal(wf_pwrite_all(fd, base, sizeof base, 0), 0);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	base_time = st.st_mtim;
	close(fd);
}

static int open_overlay(bool writable, struct wf_overlay **ret, struct wf_error *err)
{
	struct wf_overlay_options o = {.checkpoint = file, .writable = writable};
	*err = (struct wf_error){0};
	return wf_overlay_open(&o, ret, err);
}

static int collect(void *ctx, uint8_t type, const void *payload, size_t len)
{
	++*(unsigned int *)ctx;
	return 0;
}

/* ---- a commit as far as it comes ---- */

static const struct wf_overlay_piece in_middle[] = {{0, HEAD}, {70000, 5000}, {150000, 1}};
static const struct wf_overlay_piece at_end[] = {{0, HEAD}, {70000, 5000}, {SIZE - 20000, 20000}};
static struct wf_overlay_rewrite longer = {.pieces = in_middle,
					   .count = 3,
					   .inserted = BLOCK,
					   .grown_bytes = SIZE + MORE,
					   .final_bytes = SIZE + MORE,
					   .head_bytes = HEAD + BLOCK};
static struct wf_overlay_rewrite cut = {
	.pieces = at_end, .count = 3, .grown_bytes = SIZE, .final_bytes = SIZE - 15000, .head_bytes = HEAD};

/* A base with one edit, saved and marked; then what a kill leaves. */
static void begin(struct wf_overlay_rewrite *w)
{
	struct wf_overlay *ov;
	struct wf_error err;
	char command[400];
	make_base();
	w->head_crc32 = (uint32_t)crc32(0, new_head, (uInt)w->head_bytes);
	if (open_overlay(true, &ov, &err) < 0)
		fail_msg("%s", err.text);
	unsigned int n = 0;
	assert_int_equal(wf_overlay_replay(ov, collect, &n, NULL), 0);
	assert_int_equal(wf_overlay_prepare(ov), 0);
	assert_int_equal(wf_overlay_record(ov, 1, "edit", 4, true), 0);
	assert_int_equal(wf_overlay_sync(ov), 0);
	if (wf_overlay_save(ov, w, &err) < 0 || wf_overlay_commit_begin(ov, WF_OVERLAY_IN_PLACE, NULL, &err) < 0)
		fail_msg("%s", err.text);
	snprintf(command, sizeof command, "rm -rf %s/saved && cp -a %s %s/saved", dir, overlay, dir);
	assert_int_equal(system(command), 0);
	wf_overlay_close(ov);
	snprintf(command, sizeof command, "rm -rf %s && mv %s/saved %s", overlay, dir, overlay);
	assert_int_equal(system(command), 0);
}

static void put(int fd, uint64_t at, uint64_t len)
{
	unsigned char *other = malloc(len);
	memset(other, 0xa5, len);
	assert_int_equal(wf_pwrite_all(fd, other, len, at), 0);
	free(other);
}

/* Pieces but for the head. */
static void overwrite(int fd, const struct wf_overlay_rewrite *w)
{
	for (uint32_t i = 1; i < w->count; i++)
		put(fd, w->pieces[i].offset, w->pieces[i].len);
}

/* false: this file system does not do that. */
static bool insert(int fd, uint64_t at)
{
	return fallocate(fd, FALLOC_FL_INSERT_RANGE, (off_t)at, BLOCK) == 0;
}

static void put_head(int fd, const struct wf_overlay_rewrite *w, uint64_t bytes)
{
	assert_int_equal(wf_pwrite_all(fd, new_head, WF_MIN(bytes, w->head_bytes), 0), 0);
}

enum state {
	MARKED,
	GROWING,
	GROWN,
	OVERWRITTEN,
	INSERT_TOLD,   /* the size is there, and no extent has moved */
	INSERT_BEHIND, /* ... or those behind the base have */
	INSERT_HALF,   /* ... or some of the base's */
	INSERTED,
	HEAD_HALF,
	HEAD_WRITTEN,
	COLLAPSE_HALF, /* the old head is at the start again, and not all behind it has followed */
	STATES,
};

/* The file as a commit leaves it that is cut short there. false: this file system does not insert. */
static bool advance(const struct wf_overlay_rewrite *w, enum state at)
{
	int fd = open_file();
	bool can = true;
	if (at == GROWING)
		put(fd, SIZE, MORE / 2);
	if (at >= GROWN)
		put(fd, SIZE, MORE);
	if (at >= OVERWRITTEN && at != COLLAPSE_HALF)
		overwrite(fd, w);
	if (at == INSERT_TOLD)
		assert_int_equal(ftruncate(fd, SIZE + MORE + BLOCK), 0);
	if (at == INSERT_BEHIND)
		can = insert(fd, (SIZE / BLOCK + 1) * BLOCK);
	if (at == INSERT_HALF || at == COLLAPSE_HALF)
		can = insert(fd, 17 * BLOCK); /* inside of a piece */
	if (at == INSERTED || at == HEAD_HALF || at == HEAD_WRITTEN)
		can = insert(fd, 0);
	if (at == HEAD_HALF)
		put_head(fd, w, HEAD / 2);
	if (at == HEAD_WRITTEN)
		put_head(fd, w, w->head_bytes);
	close(fd);
	return can;
}

/* ---- what the next opening does ---- */

static void expect_base(const char *what)
{
	unsigned char *now = malloc(SIZE);
	struct stat st;
	int fd = open_file();
	assert_int_equal(fstat(fd, &st), 0);
	if (st.st_size != SIZE)
		fail_msg("%s: %lld bytes", what, (long long)st.st_size);
	assert_int_equal(wf_pread_all(fd, now, SIZE, 0), 0);
	for (size_t i = 0; i < SIZE; i++)
		if (now[i] != base[i])
			fail_msg("%s: byte %zu", what, i);
	if (st.st_mtim.tv_sec != base_time.tv_sec || st.st_mtim.tv_nsec != base_time.tv_nsec)
		fail_msg("%s: another mtime", what);
	close(fd);
	free(now);
}

static void expect_taken_back(const char *what, bool untouched)
{
	struct wf_overlay *ov;
	struct wf_error err;
	unsigned int n = 0;
	/* a reader sees all of the base or nothing */
	int r = open_overlay(false, &ov, &err);
	if (r == 0)
		wf_overlay_close(ov);
	if (r != (untouched ? 0 : -EBUSY) || (r < 0 && !strstr(err.text, "cut short")))
		fail_msg("%s: a reader got %d: %s", what, r, err.text);
	assert_int_equal(wf_overlay_check_whole(file, NULL), untouched ? 0 : -EBUSY);
	r = open_overlay(true, &ov, &err);
	if (r < 0)
		fail_msg("%s: %d: %s", what, r, err.text);
	assert_int_equal(wf_overlay_replay(ov, collect, &n, NULL), 0);
	if (n != 1)
		fail_msg("%s: %u edits", what, n);
	expect_base(what);
	wf_overlay_close(ov);
	assert_int_equal(wf_overlay_check_whole(file, NULL), 0);
	char path[160];
	snprintf(path, sizeof path, "%s/undo", overlay);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_states(void **state)
{
	unsigned int skipped = 0;
	for (int at = MARKED; at < STATES; at++) {
		char what[32];
		snprintf(what, sizeof what, "longer, state %d", at);
		begin(&longer);
		if (advance(&longer, (enum state)at))
			expect_taken_back(what, at == MARKED);
		else
			skipped++;
	}
	if (skipped)
		print_message("%u states left out: /tmp inserts no bytes into files\n", skipped);
}

static void test_cut(void **state)
{
	for (int at = 0; at < 4; at++) {
		char what[32];
		snprintf(what, sizeof what, "cut, state %d", at);
		begin(&cut);
		int fd = open_file();
		if (at >= 1)
			overwrite(fd, &cut);
		if (at >= 2)
			put_head(fd, &cut, cut.head_bytes);
		if (at >= 3)
			assert_int_equal(ftruncate(fd, (off_t)cut.final_bytes), 0);
		close(fd);
		expect_taken_back(what, at == 0);
	}
}

/* A discard takes back as well. */
static void test_discard(void **state)
{
	begin(&cut);
	int fd = open_file();
	overwrite(fd, &cut);
	assert_int_equal(ftruncate(fd, (off_t)cut.final_bytes), 0);
	close(fd);
	assert_int_equal(wf_overlay_discard(file, NULL), 0);
	expect_base("discard");
	assert_int_equal(access(overlay, F_OK), -1);
}

/* A copy of the file where the commit was cut short is taken back; one that is complete may be a later state. */
static void test_copies(void **state)
{
	char command[500];
	struct wf_overlay *ov;
	struct wf_error err;
	for (int complete = 0; complete < 2; complete++) {
		begin(&cut);
		int fd = open_file();
		overwrite(fd, &cut);
		put_head(fd, &cut, complete ? cut.head_bytes : HEAD / 2);
		close(fd);
		snprintf(command, sizeof command, "cp %s %s.copy && mv %s.copy %s", file, file, file, file);
		assert_int_equal(system(command), 0);
		int r = open_overlay(true, &ov, &err);
		assert_int_equal(r, complete ? -ESTALE : 0);
		if (r == 0)
			wf_overlay_close(ov);
		if (r == 0)
			expect_base("a copy");
	}
}

/* What is not the file, or an `undo` that cannot be believed, leaves all as it is. */
static void test_doubt(void **state)
{
	struct wf_overlay *ov;
	struct wf_error err;
	char path[160];
	snprintf(path, sizeof path, "%s/undo", overlay);
	for (int i = 0; i < 7; i++) {
		begin(&longer);
		advance(&longer, OVERWRITTEN);
		int fd = open_file(), undo = open(path, O_RDWR | O_CLOEXEC), code = -EUCLEAN;
		if (i == 0)
			put(fd, SIZE / 64 * 3, 100); /* somebody else's bytes, where they are looked for */
		if (i == 1)
			assert_int_equal(ftruncate(fd, SIZE - 1), 0);
		if (i == 2)
			assert_int_equal(ftruncate(fd, SIZE + MORE + 5), 0);
		if (i < 3)
			code = -ESTALE;
		if (i == 3)
			put(undo, 64 + 3 * 16 + 2000, 1); /* of a piece */
		if (i == 4)
			put(undo, 70, 1); /* of the table */
		if (i == 5)
			assert_int_equal(ftruncate(undo, 500), 0);
		if (i == 6)
			assert_int_equal(unlink(path), 0);
		struct stat before, after;
		fstat(fd, &before);
		int r = open_overlay(true, &ov, &err);
		if (r != code)
			fail_msg("doubt %d: %d: %s", i, r, err.text);
		r = open_overlay(false, &ov, &err);
		if (r != code)
			fail_msg("doubt %d, a reader: %d: %s", i, r, err.text);
		r = wf_overlay_discard(file, &err);
		if (r != code)
			fail_msg("doubt %d, discarding: %d: %s", i, r, err.text);
		fstat(fd, &after);
		assert_int_equal(before.st_size, after.st_size);
		assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
		close(fd);
		close(undo);
		char command[400];
		snprintf(command, sizeof command, "rm -rf %s", overlay);
		assert_int_equal(system(command), 0);
	}
}

/* A seal whose durability fails is followed by the way back in the same session. */
static void test_cut_back(void **state)
{
	struct wf_overlay *ov;
	struct wf_overlay_base now;
	struct wf_error err;
	unsigned int n = 0;
	for (int sealed = 0; sealed < 2; sealed++) {
		make_base();
		assert_int_equal(open_overlay(true, &ov, &err), 0);
		assert_int_equal(wf_overlay_replay(ov, collect, &n, NULL), 0);
		assert_int_equal(wf_overlay_prepare(ov), 0);
		assert_int_equal(wf_overlay_record(ov, 1, "edit", 4, true), 0);
		assert_int_equal(wf_overlay_save(ov, &cut, &err), 0);
		assert_int_equal(wf_overlay_commit_begin(ov, WF_OVERLAY_IN_PLACE, NULL, &err), 0);
		int fd = open_file();
		overwrite(fd, &cut);
		put_head(fd, &cut, cut.head_bytes);
		assert_int_equal(ftruncate(fd, (off_t)cut.final_bytes), 0);
		assert_int_equal(wf_overlay_base_of(fd, UINT64_MAX, &now), 0);
		if (sealed)
			assert_int_equal(wf_overlay_seal_append(ov, &now), 0);
		assert_int_equal(wf_overlay_cut_back(ov), 0);
		wf_overlay_commit_abort(ov);
		close(fd);
		expect_base("cut back");
		assert_int_equal(wf_overlay_check_base(ov, NULL), 0);
		wf_overlay_close(ov);
		assert_int_equal(wf_overlay_discard(file, NULL), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_states, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cut, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_discard, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_copies, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_doubt, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cut_back, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
