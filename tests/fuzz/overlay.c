/* SPDX-License-Identifier: MIT */
/* The overlay of a checkpoint, of any bytes: log, mark of a commit, data files, what a commit in place saved. Opened by a reader, read through, opened by a writer,
 * committed, discarded. overlay_seeds.c makes inputs of real edits. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "codec/checkpoint.h"
#include "codec/overlay/overlay.h"
#include "codec/bytes/util.h"
#include "overlay.h"

#define MAX_DATA_FILES 64u
#define MAX_COMMIT_BYTES (8u << 20)
#define MAX_NODES 5000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64], file[96], overlay[128];

/* In memory where there is such a place. One directory for all inputs. */
static void make_directory(void)
{
	if (dir[0])
		return;
	snprintf(dir, sizeof dir, "%s/weightfs-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(dir))
		abort();
	snprintf(file, sizeof file, "%s/m.pt", dir);
	snprintf(overlay, sizeof overlay, "%s.weightfs", file);
}

static void clear_directory(void)
{
	char command[200];
	snprintf(command, sizeof command, "%s/data", overlay);
	/* system() would cost more than the run */
	static const char *const names[] = {"log", "log.new", "commit", "commit.new", "lock", "names.new", "undo"};
	for (unsigned int i = 0; i < MAX_DATA_FILES; i++) {
		char path[256];
		snprintf(path, sizeof path, "%s/%u", command, i);
		unlink(path);
		snprintf(path, sizeof path, "%s/log.cut.%u", overlay, i);
		unlink(path);
	}
	if (rmdir(command) < 0 && access(command, F_OK) == 0) {
		snprintf(command, sizeof command, "rm -rf %s/data", overlay);
		if (system(command) != 0)
			abort();
	}
	for (size_t i = 0; i < WF_ARRAY_SIZE(names); i++) {
		char path[256];
		snprintf(path, sizeof path, "%s/%s", overlay, names[i]);
		unlink(path);
	}
	rmdir(overlay);
	unlink(file);
}

static void put(const char *path, const uint8_t *data, size_t size)
{
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
		abort();
	chmod(path, 0600);
}

/* ---- checksums that a mutation broke ---- */

static void put_u32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, 4);
}

/* The fields of a base, which log and mark have at the same places but for the content's checksum. */
static void put_base(uint8_t *at, const struct wf_overlay_base *b)
{
	memcpy(at + 24, &b->dev, 8);
	memcpy(at + 32, &b->ino, 8);
	memcpy(at + 40, &b->size_bytes, 8);
	memcpy(at + 48, &b->mtime_sec, 8);
	memcpy(at + 56, &b->mtime_nsec, 8);
	put_u32(at + 64, b->edges_crc32);
}

static void fix_log(uint8_t *log, size_t size, const struct wf_overlay_base *base)
{
	if (size < 96)
		return;
	put_base(log, base);
	log[72] = 1;
	put_u32(log + 76, base->content_crc32);
	put_u32(log + 92, (uint32_t)crc32(0, log, 92));
	uint64_t sequence = 1;
	for (size_t at = 96; size - at >= 20; sequence++) {
		uint32_t len = wf_le32(log + at);
		if (len > size - at - 20) /* the last one, which a mutation made longer */
			put_u32(log + at, len = (uint32_t)(size - at - 20));
		memcpy(log + at + 8, &sequence, 8);
		put_u32(log + at + 4, (uint32_t)crc32(0, log + at + 8, 12 + len));
		at += 20 + len;
	}
}

static void fix_commit(uint8_t *mark, size_t size, const struct wf_overlay_base *base)
{
	if (size < 76)
		return;
	/* of a part of the file where the mutation says so: an append that was cut short */
	if (wf_le32(mark + 20) % 2 == 0)
		put_base(mark, base);
	put_u32(mark + 68, base->content_crc32);
	put_u32(mark + 72, (uint32_t)crc32(0, mark, 72));
}

/* As many pieces as there is room for, and one length that makes the sum of the bytes right. */
static void fix_undo(uint8_t *undo, size_t size)
{
	if (size < 64 + 4)
		return;
	uint32_t count = wf_le32(undo + 20);
	if (count > (size - 68) / 16)
		put_u32(undo + 20, count = (uint32_t)((size - 68) / 16));
	size_t table = (size_t)count * 16, bytes = size - 68 - table;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t len = wf_le64(undo + 64 + (size_t)i * 16 + 8);
		if (len > bytes || i + 1 == count)
			len = bytes;
		memcpy(undo + 64 + (size_t)i * 16 + 8, &len, 8);
		bytes -= len;
	}
	put_u32(undo + 60, (uint32_t)crc32(crc32(0, undo, 60), undo + 64, (uInt)table));
	put_u32(undo + size - 4, (uint32_t)crc32(0, undo + 64 + table, (uInt)(size - 68 - table)));
}

/* ---- an input ---- */

static bool unpack(const uint8_t *data, size_t size, uint8_t flags)
{
	char path[200];
	struct wf_overlay_base base = {0};
	bool found = false;
	for (size_t at = 0; size - at >= PART_HEADER_BYTES;) {
		uint8_t kind = data[at] % (PART_UNDO + 1);
		uint32_t number = wf_le32(data + at + 1) % MAX_DATA_FILES, len = wf_le32(data + at + 5);
		at += PART_HEADER_BYTES;
		if (len > size - at)
			len = (uint32_t)(size - at);
		uint8_t *bytes = malloc(len + 1);
		if (!bytes)
			abort();
		memcpy(bytes, data + at, len);
		at += len;
		if (kind == PART_CHECKPOINT && !found) {
			put(file, bytes, len);
			int fd = open(file, O_RDONLY | O_CLOEXEC);
			found = wf_overlay_base_of(fd, UINT64_MAX, &base) == 0;
			close(fd);
		} else if (found) {
			if (kind == PART_LOG && (flags & FIX_LOG))
				fix_log(bytes, len, &base);
			if (kind == PART_COMMIT && (flags & FIX_COMMIT))
				fix_commit(bytes, len, &base);
			if (kind == PART_UNDO && (flags & FIX_UNDO))
				fix_undo(bytes, len);
			mkdir(overlay, 0700);
			snprintf(path, sizeof path, "%s/data", overlay);
			mkdir(path, 0700);
			if (kind == PART_DATA)
				snprintf(path, sizeof path, "%s/data/%u", overlay, number);
			else
				snprintf(path, sizeof path, "%s/%s", overlay,
					 kind == PART_LOG      ? "log"
					 : kind == PART_COMMIT ? "commit"
							       : "undo");
			if (kind != PART_CHECKPOINT)
				put(path, bytes, len);
		}
		free(bytes);
	}
	return found;
}

/* ---- what is done with it ---- */

struct walk {
	struct wf_checkpoint *ck;
	uint32_t *dirs;
	uint32_t count, done, nodes;
};

static int visit(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	struct walk *w = ctx;
	if (strlen(name) > 255 || !name[0] || strchr(name, '/'))
		abort();
	if (++w->nodes > MAX_NODES)
		return 1;
	if (st->type == WF_DIRECTORY)
		w->dirs[w->count++] = st->ino;
	return 0;
}

static int read_file(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	static char buf[4096];
	struct walk *w = ctx;
	if (st->type == WF_FILE) {
		wf_read(w->ck, st->ino, 0, buf, sizeof buf);
		wf_read(w->ck, st->ino, st->size_bytes > 100 ? st->size_bytes - 100 : 0, buf, sizeof buf);
	}
	return 0;
}

/* Every directory that can be reached by names, and the ends of every file. */
static void look_through(struct wf_checkpoint *ck)
{
	struct walk w = {.ck = ck, .dirs = malloc((MAX_NODES + 1) * sizeof(uint32_t))};
	struct wf_totals totals;
	if (!w.dirs)
		abort();
	w.dirs[w.count++] = WF_ROOT;
	while (w.done < w.count && w.nodes <= MAX_NODES) {
		uint32_t at = w.dirs[w.done++], parent;
		wf_readdir(ck, at, 0, visit, &w);
		wf_parent(ck, at, &parent);
	}
	for (uint32_t i = 0; i < w.count; i++)
		wf_readdir(ck, w.dirs[i], 0, read_file, &w);
	wf_totals(ck, &totals);
	free(w.dirs);
}

static int open_it(bool writable, struct wf_checkpoint **ret)
{
	const struct wf_open_options options = {.writable = writable};
	struct wf_error err = {0};
	int r = wf_open(file, &options, ret, &err);
	if (r < 0 && (err.code != r || err.text[0] == '\0'))
		abort(); /* every refusal has a reason that a person can read */
	return r;
}

static int add_bytes(void *ctx, const struct wf_tensor_row *row)
{
	uint64_t *sum = ctx;
	*sum = row->size_bytes < MAX_COMMIT_BYTES - *sum ? *sum + row->size_bytes : MAX_COMMIT_BYTES;
	return *sum == MAX_COMMIT_BYTES;
}

/* Edits can make a small file's tensors huge. */
static bool is_small(struct wf_checkpoint *ck)
{
	uint64_t sum = 0;
	wf_each_tensor(ck, add_bytes, &sum);
	return sum < MAX_COMMIT_BYTES;
}

static void edit_and_commit(struct wf_checkpoint *ck)
{
	struct wf_stat st;
	wf_mkdir(ck, WF_ROOT, "fuzz", &st);
	if (wf_create(ck, WF_ROOT, "fuzz-file", &st) == 0)
		wf_write(ck, st.ino, NULL, 0, "abcd", 4);
	wf_sync(ck);
	if (is_small(ck))
		wf_commit(ck, NULL);
	look_through(ck);
}

/* As wf_commit_onto, but for edits that would make a huge file. */
static void commit_onto(void)
{
	const struct wf_open_options options = {.writable = true, .edits_of = file};
	struct wf_checkpoint *ck;
	struct wf_error err = {0};
	int r = wf_open(file, &options, &ck, &err);
	if (r < 0 && (err.code != r || err.text[0] == '\0'))
		abort();
	if (r < 0)
		return;
	if (is_small(ck))
		wf_commit(ck, NULL);
	wf_close(ck);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wf_checkpoint *ck;
	uint64_t edits;
	char why[64];
	make_directory();
	clear_directory();
	if (size < 1 || !unpack(data + 1, size - 1, data[0]))
		return 0;
	wf_waiting(file, &edits, why, sizeof why, NULL);
	if (open_it(false, &ck) == 0) {
		look_through(ck);
		wf_close(ck);
	}
	if ((data[0] & ONTO) && size < MAX_COMMIT_BYTES)
		commit_onto();
	if ((data[0] & WRITABLE) && open_it(true, &ck) == 0) {
		look_through(ck);
		edit_and_commit(ck);
		wf_close(ck);
	}
	wf_discard(file, NULL);
	return 0;
}
