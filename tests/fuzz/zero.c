/* SPDX-License-Identifier: MIT */
/* A directory of DeepSpeed, its files of any bytes: opened as a container, every record located and read, and then as a checkpoint, all of
 * whose tensors are listed, shown and verified. zero_seeds.py makes inputs of real directories. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/util.h"
#include "codec/checkpoint.h"
#include "codec/directory/directory.h"
#include "codec/tensor/storage.h"
#include "../unit/zip-builder.h"

/* An input is a row of files: u8 flags, u8 length of the name, u8 number of storages, u32 length of the content (little endian), name,
 * u16 bytes of each storage, content. What is to be one of torch.save has a pickle for its content, around which
 * the archive is made here, so that a changed pickle does not fail for its checksum. */
#define FILE_HEADER_BYTES 7u
#define IS_ARCHIVE 1u
#define MAX_STORAGE_BYTES 65535u
#define MAX_FILES 64u
#define MAX_NAME_BYTES 100u
#define MAX_READ_BYTES 65536u
#define MAX_STORAGES 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[64];
static char made[2 * MAX_FILES][256]; /* files and folders of this input, in the order of their making */
static uint32_t made_count;

static void remove_directory(void)
{
	while (made_count > 0)
		remove(made[--made_count]);
	rmdir(directory);
}

/* In memory where there is such a place. One directory for all inputs. */
static void make_directory(void)
{
	if (directory[0])
		return;
	snprintf(directory, sizeof directory, "%s/weightfs-fuzz-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(directory) || atexit(remove_directory) != 0)
		abort();
}

static void clear_directory(void)
{
	while (made_count > 0)
		if (remove(made[--made_count]) < 0)
			abort();
}

/* ---- an input ---- */

/* The path of a name below the directory, its folders made; false: it is none, or there already. */
static bool make_path(const uint8_t *name, size_t len, char path[256])
{
	if (len == 0 || len > MAX_NAME_BYTES || memchr(name, '\0', len) || name[0] == '/' ||
	    made_count + 8 > 2 * MAX_FILES)
		return false;
	snprintf(path, 256, "%s/%.*s", directory, (int)len, (const char *)name);
	if (strstr(path, "/../") || strstr(path, "/./") || strstr(path, "//") || path[strlen(path) - 1] == '/' ||
	    strstr(path, "/..") || access(path, F_OK) == 0)
		return false;
	unsigned int depth = 0;
	for (char *slash = path + strlen(directory) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (++depth < 4 && mkdir(path, 0700) == 0)
			snprintf(made[made_count++], sizeof made[0], "%s", path);
		*slash = '/';
	}
	return depth < 4;
}

static void put(const char *path, const void *data, size_t size)
{
	FILE *f = fopen(path, "wb");
	if (!f) /* below a file, or called "." */
		return;
	if (fwrite(data, 1, size, f) != size || fclose(f) != 0)
		abort();
	snprintf(made[made_count++], sizeof made[0], "%s", path);
}

static void put_archive(const char *path, const uint8_t *sizes, uint32_t storages, const uint8_t *pickle, size_t size)
{
	static uint8_t bytes[MAX_STORAGE_BYTES];
	struct zip_builder b = ZIP_BUILDER_INIT;
	for (size_t i = 0; bytes[1] == 0 && i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	zb_add(&b, &(struct zip_entry){.name = "a/data.pkl", .data = pickle, .len = size});
	zb_add_text(&b, "a/byteorder", "little");
	for (uint32_t i = 0; i < storages; i++) {
		char name[32];
		size_t n = (size_t)(sizes[2 * i] | sizes[2 * i + 1] << 8);
		snprintf(name, sizeof name, "a/data/%u", i);
		zb_add(&b, &(struct zip_entry){.name = name, .data = bytes, .len = n});
	}
	zb_add_text(&b, "a/version", "3\n");
	zb_finish(&b, NULL);
	put(path, b.out.data, b.out.len);
	wf_buffer_free(&b.out);
}

static void unpack(const uint8_t *data, size_t size)
{
	char path[256];
	for (uint32_t i = 0; i < MAX_FILES && size >= FILE_HEADER_BYTES; i++) {
		uint8_t flags = data[0];
		size_t name_len = data[1], storages = data[2], len = wf_le32(data + 3), head = name_len + 2 * storages;
		data += FILE_HEADER_BYTES;
		size -= FILE_HEADER_BYTES;
		if (head > size)
			return;
		len = WF_MIN(len, size - head);
		if (make_path(data, name_len, path)) {
			if (flags & IS_ARCHIVE)
				put_archive(path, data + name_len, (uint32_t)storages, data + head, len);
			else
				put(path, data + head, len);
		}
		data += head + len;
		size -= head + len;
	}
}

/* ---- what is done with it ---- */

static void check_told(int r, const struct wf_error *err)
{
	if (r < 0 && (err->code != r || err->text[0] == '\0'))
		abort(); /* every refusal has a reason that a person can read */
}

/* A record's bytes are those of the file that it is said to stand in. */
static void check_run(struct wf_storages *ss, uint32_t i, uint64_t at, const uint8_t *bytes, size_t len)
{
	static uint8_t found[MAX_READ_BYTES];
	struct wf_file_run run = WF_FILE_RUN_INIT;
	if (wf_storage_locate(ss, i, at, &run)) {
		size_t n = (size_t)WF_MIN(run.len, (uint64_t)len);
		if (n == 0 || pread(run.fd, found, n, (off_t)run.offset) != (ssize_t)n || memcmp(found, bytes, n) != 0)
			abort();
	}
	wf_file_run_end(&run);
}

static void read_storage(const struct wf_container *c, struct wf_storages *ss, uint32_t i)
{
	static uint8_t bytes[MAX_READ_BYTES], again[MAX_READ_BYTES];
	const struct wf_storage *s = wf_storage_get(ss, i);
	size_t n = (size_t)WF_MIN(s->size_bytes, (uint64_t)sizeof bytes), half = n / 2 + 1;
	if (s->record != WF_NO_RECORD)
		for (uint32_t k = 0; k <= MAX_FILES && wf_container_shard(c, s->record, k); k++)
			if (k == MAX_FILES)
				abort(); /* there are not so many files */
	if (n == 0 || wf_storage_read(ss, i, 0, bytes, n) < 0)
		return;
	/* the same in two pieces */
	if (wf_storage_read(ss, i, 0, again, WF_MIN(half, n)) < 0 ||
	    (half < n && wf_storage_read(ss, i, half, again + half, n - half) < 0) || memcmp(bytes, again, n) != 0)
		abort();
	check_run(ss, i, 0, bytes, n);
	if (half < n)
		check_run(ss, i, half, bytes + half, n - half);
}

static void load(struct wf_container *c)
{
	struct wf_graph *g = NULL;
	struct wf_storages *ss = NULL;
	struct wf_error err = {0};
	wf_ref root = WF_NIL;
	bool fault;
	if (wf_graph_new(&g) < 0)
		return;
	int r = wf_container_load_graph(c, g, &root, &err);
	check_told(r, &err);
	if (r == 0) {
		const char *note = wf_container_note(c, &fault);
		if (note && !*note)
			abort();
		r = wf_storages_new(g, c, &ss, &err);
		check_told(r, &err);
	}
	for (uint32_t i = 0; r == 0 && i < wf_storages_count(ss) && i < MAX_STORAGES; i++)
		read_storage(c, ss, i);
	wf_storages_free(ss);
	wf_graph_free(g);
}

static void open_container(void)
{
	struct wf_directory d;
	struct wf_source *main_file = NULL;
	struct wf_container *c = NULL;
	struct wf_error err = {0};
	int r = wf_directory_find(directory, &d, &err);
	check_told(r, &err);
	if (r < 0)
		return;
	if (d.reader == &wf_zero_reader && wf_source_open_file(d.main, &main_file, NULL) == 0) {
		r = wf_directory_open(&d, main_file, &c, &err);
		check_told(r, &err);
		if (r == 0)
			load(c);
		wf_container_free(c);
	}
	wf_source_unref(main_file);
	wf_directory_free(&d);
}

static int look_at(void *ctx, const struct wf_tensor_row *row)
{
	struct wf_buffer *json = ctx;
	json->len = 0;
	return wf_row_json(row, json) < 0;
}

static void take_line(void *ctx, bool fault, const char *line)
{
	(void)ctx;
	(void)fault;
	if (!*line)
		abort();
}

static void open_checkpoint(void)
{
	const struct wf_open_options options = {.writable = false};
	struct wf_checkpoint *ck;
	struct wf_error err = {0};
	struct wf_buffer json = WF_BUFFER_INIT;
	int r = wf_open(directory, &options, &ck, &err);
	check_told(r, &err);
	if (r < 0)
		return;
	wf_each_tensor(ck, look_at, &json);
	wf_buffer_free(&json);
	wf_verify(ck, take_line, NULL, NULL);
	wf_close(ck);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	make_directory();
	clear_directory();
	unpack(data, size);
	open_container();
	open_checkpoint();
	return 0;
}
