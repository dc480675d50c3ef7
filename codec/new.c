/* SPDX-License-Identifier: MIT */
/* An empty checkpoint: what torch.save({}, path) writes, or safetensors.torch.save_file({}, path). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "codec/bytes/crc32.h"
#include "codec/bytes/util.h"
#include "codec/checkpoint.h"
#include "codec/commit/file.h"
#include "codec/container/safetensors_head.h"
#include "codec/container/zip_write.h"

#define PREFIX "archive/"
/* The left half of the id is made of the records' names (in a way that libstdc++ defines), the right half of their sums. */
#define NAMES_ID "02908468677762923104"

static int put(struct wf_zip_writer *zip, const char *name, const char *text, size_t len)
{
	char full[64];
	struct wf_zip_entry e;
	int n = snprintf(full, sizeof full, PREFIX "%s", name);
	wf_zip_entry_init(&e, full, (size_t)n, len);
	e.crc32 = wf_crc32(0, text, len);
	int r = wf_zip_begin(zip, &e, 0, 0);
	if (r == 0)
		r = wf_out_write(zip->out, text, len);
	return r < 0 ? r : wf_zip_end(zip, &e);
}

static int put_all(struct wf_zip_writer *zip)
{
	static const struct {
		const char *name, *text;
		size_t len;
	} records[] = {{"data.pkl", "\x80\x02}q\0.", 6},
		       {".format_version", "1", 1},
		       {".storage_alignment", "64", 2},
		       {"byteorder", "little", 6},
		       {"version", "3\n", 2}};
	char id[48];
	int r = 0;
	for (size_t i = 0; r == 0 && i < WF_ARRAY_SIZE(records); i++)
		r = put(zip, records[i].name, records[i].text, records[i].len);
	int n = snprintf(id, sizeof id, NAMES_ID "%020llu", (unsigned long long)zip->id);
	if (r == 0)
		r = put(zip, ".data/serialization_id", id, (size_t)n);
	return r < 0 ? r : wf_zip_finish(zip);
}

static int write_zip(struct wf_out *out)
{
	struct wf_zip_writer zip;
	wf_zip_writer_init(&zip, out, WF_ZIP_ALIGNMENT);
	int r = put_all(&zip);
	wf_zip_writer_free(&zip);
	return r;
}

static int write_safetensors(struct wf_out *out)
{
	struct wf_buffer head = WF_BUFFER_INIT;
	int r = wf_safetensors_head(NULL, 0, NULL, 0, &head);
	if (r == 0)
		r = wf_out_write(out, head.data, head.len);
	wf_buffer_free(&head);
	return r;
}

/* There are no bytes yet that could decide. */
static bool is_named_safetensors(const char *path)
{
	return wf_before_end(path, ".safetensors") > 0;
}

static int write_empty(int fd, const char *path)
{
	struct wf_out out;
	int r = wf_out_init(&out, fd, 0, NULL);
	if (r < 0)
		return r;
	r = is_named_safetensors(path) ? write_safetensors(&out) : write_zip(&out);
	if (r == 0)
		r = wf_out_finish(&out);
	wf_out_free(&out);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

static int open_directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *directory = !slash          ? strdup(".")
				       : slash == path ? strdup("/")
						       : strndup(path, (size_t)(slash - path));
	int fd = directory ? open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : -ENOMEM;
	return fd < 0 && directory ? -errno : fd;
}

int wf_new(const char *path, struct wf_error *err)
{
	struct wf_new_file f;
	struct stat st;
	if (lstat(path, &st) == 0)
		return wf_fail(err, -EEXIST, "%s is there already", path);
	int home = open_directory_of(path);
	if (home < 0)
		return wf_fail(err, home, "%s: %s", path, strerror(-home));
	int r = wf_new_file_open(&f, path, home, err);
	if (r < 0)
		return r;
	mode_t mask = umask(077);
	umask(mask);
	if (fchmod(f.fd, 0666 & ~mask) < 0 && errno != EPERM)
		r = -errno;
	if (r == 0)
		r = write_empty(f.fd, path);
	r = r < 0 ? wf_fail(err, r, "%s: %s", path, strerror(-r)) : wf_new_file_link(&f, err);
	wf_new_file_free(&f);
	return r;
}
