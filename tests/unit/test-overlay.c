/* SPDX-License-Identifier: MIT */
/* The overlay: records come back, torn and damaged logs lose only what was not durable, and every state that a crash
 * inside a commit leaves is recognised. */
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec/overlay/overlay.h"
#include "codec/bytes/util.h"

static char dir[64], file[96], overlay[128];
static char last_line[512];

static void note_line(void *ctx, const char *line)
{
	snprintf(last_line, sizeof last_line, "%s", line);
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static char *slurp(const char *path, size_t *ret_len)
{
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	char *p = calloc(1, 1 << 16);
	*ret_len = fread(p, 1, (1 << 16) - 1, f);
	fclose(f);
	return p;
}

static int setup(void **state)
{
	snprintf(dir, sizeof dir, "/tmp/test-overlay-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/m.pt", dir);
	snprintf(overlay, sizeof overlay, "%s.weightfs", file);
	put(file, "the base");
	last_line[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	char command[160];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static int try_open(bool writable, struct wf_overlay **ret, struct wf_error *err)
{
	struct wf_overlay_options o = {.checkpoint = file, .writable = writable, .log = {.line = note_line}};
	return wf_overlay_open(&o, ret, err);
}

static struct wf_overlay *open_overlay(bool writable)
{
	struct wf_overlay *ov = NULL;
	struct wf_error err = {0};
	int r = try_open(writable, &ov, &err);
	if (r < 0)
		fail_msg("%d: %s", r, err.text);
	return ov;
}

/* What a kill leaves: the locks go with the process, the directory stays as it was. */
static void crash(struct wf_overlay *ov, const char *keep)
{
	char command[400];
	snprintf(command, sizeof command, "rm -rf %s/saved && cp -a %s %s/saved", dir, keep, dir);
	assert_int_equal(system(command), 0);
	wf_overlay_close(ov);
	snprintf(command, sizeof command, "rm -rf %s && mv %s/saved %s", keep, dir, keep);
	assert_int_equal(system(command), 0);
}

struct seen {
	unsigned int n;
	char text[4096];
};

static int collect(void *ctx, uint8_t type, const void *payload, size_t len)
{
	struct seen *s = ctx;
	s->n++;
	size_t used = strlen(s->text);
	snprintf(s->text + used, sizeof s->text - used, "%u:%.*s ", type, (int)len, (const char *)payload);
	return memcmp(payload, "refuse", WF_MIN(len, 6u)) == 0 && len >= 6 ? -ENOENT : 0;
}

static void record(struct wf_overlay *ov, uint8_t type, const char *text, bool pending)
{
	assert_int_equal(wf_overlay_prepare(ov), 0);
	assert_int_equal(wf_overlay_record(ov, type, text, strlen(text), pending), 0);
}

static struct seen replay(struct wf_overlay *ov)
{
	struct seen s = {0};
	assert_int_equal(wf_overlay_replay(ov, collect, &s, NULL), 0);
	return s;
}

static void test_records(void **state)
{
	struct wf_overlay *ov = open_overlay(true);
	assert_false(access(overlay, F_OK) == 0); /* made at the first edit */
	record(ov, 1, "one", true);
	record(ov, 2, "", false);
	assert_int_equal(wf_overlay_record(ov, 5, NULL, 0, false), 0);
	record(ov, 3, "three", true);
	assert_true(wf_overlay_is_dirty(ov));
	assert_int_equal(wf_overlay_sync(ov), 0);
	crash(ov, overlay);
	ov = open_overlay(true);
	struct seen s = replay(ov);
	assert_string_equal(s.text, "1:one 2: 5: 3:three ");
	struct wf_overlay_usage u;
	wf_overlay_usage(ov, &u);
	assert_int_equal(u.edits, 2);
	record(ov, 4, "four", true);
	wf_overlay_close(ov); /* pending: kept */
	ov = open_overlay(false);
	assert_string_equal(replay(ov).text, "1:one 2: 5: 3:three 4:four ");
	assert_int_equal(wf_overlay_prepare(ov), -EROFS);
	wf_overlay_close(ov);
}

static void test_nothing_pending(void **state)
{
	struct wf_overlay *ov = open_overlay(true);
	int fd;
	record(ov, 1, "scratch", false);
	assert_int_equal(wf_overlay_file(ov, wf_overlay_new_number(ov), &fd), 0);
	assert_int_equal(wf_overlay_sync(ov), 0);
	assert_int_equal(access(overlay, F_OK), 0);
	wf_overlay_close(ov);
	assert_int_equal(access(overlay, F_OK), -1);
}

/* Every length of the log: whole records before the cut come back, nothing else, and the log goes on from there. */
static void test_torn_tail(void **state)
{
	struct wf_overlay *ov = open_overlay(true);
	for (int i = 0; i < 4; i++)
		record(ov, 7, "abcde", true);
	assert_int_equal(wf_overlay_sync(ov), 0);
	crash(ov, overlay);
	char log[160];
	size_t len, header = 96, size = 25;
	snprintf(log, sizeof log, "%s/log", overlay);
	char *whole = slurp(log, &len);
	assert_int_equal(len, header + 4 * size);
	for (size_t cut = 0; cut <= len; cut++) {
		for (int zeroes = 0; zeroes < 2; zeroes++) {
			FILE *f = fopen(log, "w");
			fwrite(whole, 1, cut, f);
			for (int i = 0; i < 60 && zeroes; i++)
				fputc(0, f);
			fclose(f);
			if (zeroes && cut > 0 && cut < header)
				continue; /* a header that is half there: its size says that it was all written */
			struct wf_overlay *reader = open_overlay(false);
			unsigned int expected = cut < header ? 0 : (unsigned int)((cut - header) / size);
			struct seen s = replay(reader);
			if (s.n != expected)
				fail_msg("cut at %zu, zeroes %d: %u records, expected %u", cut, zeroes, s.n, expected);
			wf_overlay_close(reader);
			struct wf_overlay *w = open_overlay(true);
			assert_int_equal(replay(w).n, expected);
			record(w, 8, "more", true);
			assert_int_equal(wf_overlay_sync(w), 0);
			wf_overlay_close(w);
			w = open_overlay(false);
			s = replay(w);
			assert_int_equal(s.n, expected + 1);
			wf_overlay_close(w);
			char cut_log[180];
			snprintf(cut_log, sizeof cut_log, "%s/log.cut.1", overlay);
			assert_int_equal(access(cut_log, F_OK), -1); /* a torn tail is no loss */
		}
	}
	free(whole);
}

static void test_damage(void **state)
{
	struct wf_overlay *ov = open_overlay(true);
	for (int i = 0; i < 4; i++)
		record(ov, 7, "abcde", true);
	assert_int_equal(wf_overlay_sync(ov), 0);
	crash(ov, overlay);
	char log[160];
	snprintf(log, sizeof log, "%s/log", overlay);
	int fd = open(log, O_RDWR);
	assert_int_equal(pwrite(fd, "X", 1, 96 + 25 + 22), 1);
	close(fd);
	ov = open_overlay(true);
	assert_int_equal(replay(ov).n, 1);
	assert_non_null(strstr(last_line, "log.cut.1"));
	wf_overlay_close(ov);
	char cut_log[180];
	size_t len;
	snprintf(cut_log, sizeof cut_log, "%s/log.cut.1", overlay);
	free(slurp(cut_log, &len));
	assert_int_equal(len, 75);
}

static void test_refused_record(void **state)
{
	struct wf_overlay *ov = open_overlay(true);
	record(ov, 1, "good", true);
	record(ov, 1, "refuse", true);
	record(ov, 1, "later", true);
	wf_overlay_close(ov);
	ov = open_overlay(true);
	struct seen s = replay(ov);
	assert_int_equal(s.n, 2);
	wf_overlay_close(ov);
	ov = open_overlay(true);
	assert_string_equal(replay(ov).text, "1:good ");
	wf_overlay_close(ov);
}

static void test_locks(void **state)
{
	struct wf_overlay *ov = open_overlay(true), *other;
	struct wf_error err = {0};
	char pid[16];
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	assert_int_equal(try_open(true, &other, &err), -EBUSY);
	assert_non_null(strstr(err.text, pid));
	record(ov, 1, "x", true);
	assert_int_equal(try_open(true, &other, &err), -EBUSY);
	assert_int_equal(wf_overlay_discard(file, &err), -EBUSY);
	other = open_overlay(false);
	wf_overlay_close(other);
	wf_overlay_close(ov);
	wf_overlay_close(open_overlay(true)); /* gave up before the replay: nothing may be lost */
	assert_int_equal(wf_overlay_discard(file, &err), 0);
	assert_int_equal(access(overlay, F_OK), -1);
	assert_int_equal(wf_overlay_discard(file, &err), -ENOENT);
}

/* A reader goes on without the edits. */
static void expect_unused(const char *why)
{
	struct wf_overlay *ov = open_overlay(false);
	assert_int_equal(replay(ov).n, 0);
	assert_non_null(strstr(wf_overlay_unused(ov), why));
	assert_non_null(strstr(last_line, why));
	struct stat st;
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(wf_overlay_base(ov)->size_bytes, st.st_size);
	wf_overlay_close(ov);
	assert_int_equal(access(overlay, F_OK), 0);
}

static void test_other_file_and_version(void **state)
{
	struct wf_overlay *ov = open_overlay(true);
	struct wf_error err = {0};
	record(ov, 1, "x", true);
	wf_overlay_close(ov);
	char log[160], command[300];
	size_t len;
	snprintf(log, sizeof log, "%s/log", overlay);
	char *whole = slurp(log, &len);
	int fd = open(log, O_RDWR);
	assert_int_equal(pwrite(fd, "\4\0\0\0", 4, 16), 4);
	assert_int_equal(try_open(true, &ov, &err), -EOPNOTSUPP);
	expect_unused("another version");
	assert_int_equal(pwrite(fd, "?", 1, 0), 1);
	assert_int_equal(try_open(true, &ov, &err), -EUCLEAN);
	expect_unused("no log");
	assert_int_equal(pwrite(fd, whole, len, 0), (ssize_t)len);
	close(fd);
	free(whole);
	snprintf(command, sizeof command, "cp -a %s %s/copy", file, dir);
	assert_int_equal(system(command), 0);
	put(file, "another file");
	assert_int_equal(try_open(true, &ov, &err), -ESTALE);
	expect_unused("another state");
	/* a backup: another inode; a copy: another time as well; touched */
	static const char *const back[] = {"rm m.pt && cp -a copy m.pt",
					   "rm m.pt && cp copy m.pt && touch -d 1999-01-01 m.pt",
					   "touch -d 2001-01-01 m.pt"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(back); i++) {
		snprintf(command, sizeof command, "cd %s && %s", dir, back[i]);
		assert_int_equal(system(command), 0);
		for (int writable = 0; writable < 2; writable++) {
			ov = open_overlay(writable);
			assert_int_equal(replay(ov).n, 1);
			assert_null(wf_overlay_unused(ov));
			wf_overlay_close(ov);
		}
	}
}

/* ---- commit: a crash in every state ---- */

static struct wf_overlay *edited(void)
{
	struct wf_overlay *ov = open_overlay(true);
	int fd;
	record(ov, 1, "edit", true);
	assert_int_equal(wf_overlay_file(ov, 0, &fd), 0);
	assert_int_equal(write(fd, "data", 4), 4);
	wf_overlay_touched(ov, 0);
	return ov;
}

static void expect_edits(unsigned int n, const char *content)
{
	for (int writable = 0; writable < 2; writable++) {
		struct wf_overlay *ov = open_overlay(writable);
		assert_int_equal(replay(ov).n, n);
		assert_int_equal(wf_overlay_base(ov)->size_bytes, strlen(content));
		wf_overlay_close(ov);
	}
	size_t len;
	char *now = slurp(file, &len);
	assert_string_equal(now, content);
	free(now);
	if (n == 0)
		assert_int_equal(access(overlay, F_OK), -1);
}

static int new_file(const char *path, struct wf_overlay_base *ret)
{
	put(path, "the new file");
	int fd = open(path, O_RDONLY);
	assert_int_equal(wf_overlay_base_of(fd, UINT64_MAX, ret), 0);
	return fd;
}

static void test_replace(void **state)
{
	for (int at = 0; at < 4; at++) {
		char temporary[128];
		struct wf_overlay_base to_be;
		struct wf_overlay *ov = edited();
		snprintf(temporary, sizeof temporary, "%s/tmp", dir);
		int fd = new_file(temporary, &to_be);
		assert_int_equal(wf_overlay_check_base(ov, NULL), 0);
		assert_int_equal(wf_overlay_commit_begin(ov, WF_OVERLAY_REPLACE, &to_be, NULL), 0);
		if (at == 1)
			wf_overlay_commit_abort(ov);
		assert_int_equal(wf_overlay_lock_file(fd), 0);
		if (at >= 2)
			assert_int_equal(rename(temporary, file), 0);
		if (at == 3) {
			assert_int_equal(wf_overlay_committed(ov, fd, NULL, NULL), 0);
			assert_false(wf_overlay_is_dirty(ov));
			assert_int_equal(wf_overlay_check_base(ov, NULL), 0);
			wf_overlay_close(ov);
		} else {
			crash(ov, overlay);
		}
		close(fd);
		expect_edits(at < 2 ? 1 : 0, at < 2 ? "the base" : "the new file");
		if (at < 2)
			assert_int_equal(wf_overlay_discard(file, NULL), 0);
		put(file, "the base");
	}
}

static void append(const char *text)
{
	FILE *f = fopen(file, "a");
	fputs(text, f);
	fclose(f);
}

static void test_append(void **state)
{
	for (int at = 0; at < 4; at++) {
		struct wf_overlay *ov = edited();
		assert_int_equal(wf_overlay_commit_begin(ov, WF_OVERLAY_APPEND, NULL, NULL), 0);
		if (at >= 1)
			append(" and more");
		if (at == 2) {
			assert_int_equal(wf_overlay_cut_back(ov), 0);
			wf_overlay_commit_abort(ov);
			assert_int_equal(wf_overlay_check_base(ov, NULL), 0);
		}
		if (at == 3) {
			int fd = open(file, O_RDWR);
			assert_int_equal(wf_overlay_committed(ov, fd, NULL, NULL), 0);
			close(fd);
			record(ov, 1, "next", true);
			wf_overlay_close(ov);
		} else {
			struct wf_overlay *reader = open_overlay(false);
			assert_int_equal(replay(reader).n, 1);
			assert_int_equal(wf_overlay_base(reader)->size_bytes, 8);
			wf_overlay_close(reader);
			crash(ov, overlay);
		}
		if (at == 3) {
			struct wf_overlay *again = open_overlay(false);
			assert_string_equal(replay(again).text, "1:next ");
			assert_int_equal(wf_overlay_base(again)->size_bytes, 17);
			wf_overlay_close(again);
		} else if (at == 1) { /* a reader before a writer repairs: told the old size */
			struct wf_overlay *reader = open_overlay(false);
			assert_int_equal(wf_overlay_base(reader)->size_bytes, 8);
			wf_overlay_close(reader);
			wf_overlay_close(open_overlay(true));
			expect_edits(1, "the base");
		} else {
			expect_edits(1, "the base");
		}
		assert_int_equal(wf_overlay_discard(file, NULL), 0);
		put(file, "the base");
	}
}

/* A discard in the middle of an append cuts it back. */
static void test_discard_append(void **state)
{
	struct wf_overlay *ov = edited();
	assert_int_equal(wf_overlay_commit_begin(ov, WF_OVERLAY_APPEND, NULL, NULL), 0);
	append(" and more");
	crash(ov, overlay);
	assert_int_equal(wf_overlay_discard(file, NULL), 0);
	expect_edits(0, "the base");
}

/* Why a commit failed is told until one succeeds; a look from outside sees what waits. */
static void test_failure(void **state)
{
	uint64_t edits = 9;
	int64_t when;
	char why[64] = "x";
	assert_int_equal(wf_overlay_look(file, &edits, why, sizeof why, NULL), 0);
	assert_int_equal(edits, 0);
	assert_string_equal(why, "");
	struct wf_overlay *ov = edited();
	wf_overlay_note_failure(ov, "no room");
	record(ov, 1, "another", true);
	wf_overlay_note_failure(ov, "no luck");
	crash(ov, overlay);
	assert_int_equal(wf_overlay_look(file, &edits, why, sizeof why, NULL), 0);
	assert_int_equal(edits, 2);
	assert_string_equal(why, "no luck");
	ov = open_overlay(true);
	assert_string_equal(replay(ov).text, "1:edit 1:another ");
	assert_string_equal(wf_overlay_failure(ov, &when), "no luck");
	struct wf_overlay_base to_be;
	char path[200];
	snprintf(path, sizeof path, "%s/tmp", dir);
	int fd = new_file(path, &to_be);
	assert_int_equal(wf_overlay_commit_begin(ov, WF_OVERLAY_REPLACE, &to_be, NULL), 0);
	assert_int_equal(rename(path, file), 0);
	/* a crash here: the edits are in the file */
	assert_int_equal(wf_overlay_look(file, &edits, why, sizeof why, NULL), 0);
	assert_int_equal(edits, 0);
	assert_int_equal(wf_overlay_committed(ov, fd, NULL, NULL), 0);
	assert_null(wf_overlay_failure(ov, &when));
	close(fd);
	wf_overlay_close(ov);
	expect_edits(0, "the new file");
}

static void test_output(void **state)
{
	char output[128], output_overlay[160];
	snprintf(output, sizeof output, "%s/out.pt", dir);
	snprintf(output_overlay, sizeof output_overlay, "%s.weightfs", output);
	struct wf_overlay_options o = {.checkpoint = file, .output = output, .writable = true};
	struct wf_overlay *ov, *second;
	assert_int_equal(wf_overlay_open(&o, &ov, NULL), 0);
	record(ov, 1, "edit", true);
	assert_int_equal(access(output_overlay, F_OK), 0);
	assert_int_equal(wf_overlay_open(&o, &second, NULL), -EBUSY);
	second = open_overlay(true); /* the source itself is free */
	wf_overlay_close(second);
	struct wf_overlay_base to_be;
	int fd = new_file(output, &to_be);
	assert_int_equal(wf_overlay_commit_begin(ov, WF_OVERLAY_REPLACE, &to_be, NULL), 0);
	assert_int_equal(wf_overlay_committed(ov, fd, NULL, NULL), 0);
	close(fd);
	assert_int_equal(wf_overlay_base(ov)->size_bytes, 12);
	record(ov, 1, "on the output", true);
	wf_overlay_close(ov);
	o = (struct wf_overlay_options){.checkpoint = output, .writable = true};
	assert_int_equal(wf_overlay_open(&o, &ov, NULL), 0);
	assert_string_equal(replay(ov).text, "1:on the output ");
	wf_overlay_close(ov);
}

static bool keep_two(void *ctx, uint32_t number)
{
	return number == 2;
}

static void test_files(void **state)
{
	struct wf_overlay *ov = edited();
	int fd;
	for (uint32_t i = 1; i < 4; i++) {
		assert_int_equal(wf_overlay_file(ov, wf_overlay_new_number(ov), &fd), 0);
		assert_int_equal(write(fd, "x", 1), 1);
	}
	char path[200];
	snprintf(path, sizeof path, "%s/data/3", overlay);
	assert_int_equal(wf_overlay_sync(ov), 0);
	wf_overlay_drop_file(ov, 3);
	assert_int_equal(access(path, F_OK), 0); /* a durable record may still name it */
	assert_int_equal(wf_overlay_sync(ov), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(wf_overlay_file(ov, 3, &fd), 0);
	assert_int_equal(access(path, F_OK), 0);
	record(ov, 1, "written later", true);
	assert_int_equal(wf_overlay_sync(ov), 0);
	assert_int_equal(wf_overlay_file(ov, 4, &fd), 0);
	snprintf(path, sizeof path, "%s/data/4", overlay);
	wf_overlay_drop_file(ov, 4); /* no record that was written can */
	assert_int_equal(access(path, F_OK), -1);
	wf_overlay_drop_file(ov, 3);
	assert_int_equal(wf_overlay_sync(ov), 0);
	assert_int_equal(wf_overlay_new_number(ov), 5);
	struct wf_overlay_base to_be;
	snprintf(path, sizeof path, "%s/tmp", dir);
	int new_fd = new_file(path, &to_be);
	assert_int_equal(wf_overlay_commit_begin(ov, WF_OVERLAY_REPLACE, &to_be, NULL), 0);
	assert_int_equal(rename(path, file), 0);
	assert_int_equal(wf_overlay_committed(ov, new_fd, keep_two, NULL), 0);
	close(new_fd);
	snprintf(path, sizeof path, "%s/data/0", overlay);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof path, "%s/data/2", overlay);
	assert_int_equal(access(path, F_OK), 0);
	wf_overlay_close(ov);
	expect_edits(0, "the new file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_torn_tail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_file_and_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_append, setup, teardown),
		cmocka_unit_test_setup_teardown(test_discard_append, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_output, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
