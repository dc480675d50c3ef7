/* SPDX-License-Identifier: MIT */
/* Where the directory of a zip archive lies: the end records, drawn in container/zip_read.c. As miniz finds them, so that an
 * archive which can be read in two ways is read in torch's. */
#include "codec/container/records.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/bytes/util.h"
#include "codec/container/zip_entry.h"

#define LOCATOR_BYTES 20u
#define END_BYTES 22u
#define END64_BYTES 56u
#define MAX_TRAILING_BYTES (64u << 10)
#define MAX_DIRECTORY_BYTES (1ull << 30)

static int cannot_read(struct wf_error *err, int code, uint64_t offset)
{
	return wf_fail_at(err, code, NULL, offset, "cannot read the file: %s", strerror(-code));
}

/* The last end record signature within reach, as miniz searches; whatever it names then counts. */
static int find_end(struct wf_source *file, unsigned char *ret_end, uint64_t *ret_offset, struct wf_error *err)
{
	uint64_t size = wf_source_size(file);
	size_t reach = (size_t)WF_MIN(size, (uint64_t)MAX_TRAILING_BYTES + END_BYTES);
	cleanup_free unsigned char *tail = malloc(reach);
	if (!tail)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_source_read(file, size - reach, tail, reach);
	if (r < 0)
		return cannot_read(err, r, size - reach);
	for (size_t i = reach < END_BYTES ? 0 : reach - END_BYTES + 1; i-- > 0;)
		if (tail[i] == 'P' && wf_le32(tail + i) == 0x06054b50) {
			memcpy(ret_end, tail + i, END_BYTES);
			*ret_offset = size - reach + i;
			return 0;
		}
	return wf_fail(err, -EUCLEAN,
		       "truncated or incomplete: it starts as a zip archive but has no directory at its end (was the "
		       "download or the save cut short?)");
}

/* The ZIP64 end record, where a locator stands right before the end record. Returns 1 when there is one. */
static int find_end64(struct wf_source *file, uint64_t end_offset, unsigned char *ret_end64, uint64_t *ret_offset,
		      struct wf_error *err)
{
	unsigned char locator[LOCATOR_BYTES];
	if (end_offset < LOCATOR_BYTES)
		return 0;
	int r = wf_source_read(file, end_offset - LOCATOR_BYTES, locator, sizeof locator);
	if (r < 0)
		return cannot_read(err, r, end_offset - LOCATOR_BYTES);
	if (wf_le32(locator) != 0x07064b50)
		return 0;
	uint64_t at = wf_le64(locator + 8);
	if (wf_le32(locator + 16) != 1 && wf_le32(locator + 16) != 0)
		return wf_fail(err, -EOPNOTSUPP, "a zip archive in several parts is not supported");
	if (end_offset - LOCATOR_BYTES < END64_BYTES || at > end_offset - LOCATOR_BYTES - END64_BYTES)
		return wf_fail_at(err, -EUCLEAN, NULL, end_offset - LOCATOR_BYTES,
				  "the ZIP64 end record would lie at %" PRIu64 ", outside the file", at);
	r = wf_source_read(file, at, ret_end64, END64_BYTES);
	if (r < 0)
		return cannot_read(err, r, at);
	if (wf_le32(ret_end64) != 0x06064b50 || wf_le64(ret_end64 + 4) < END64_BYTES - 12)
		return wf_fail_at(err, -EUCLEAN, NULL, at, "no ZIP64 end record where the locator names one");
	*ret_offset = at;
	return 1;
}

static int read_end_records(struct wf_source *file, struct wf_zip_directory *ret, struct wf_error *err)
{
	unsigned char end[END_BYTES] = {0}, end64[END64_BYTES] = {0};
	uint64_t end_offset = 0, end64_offset = 0, entries_here;
	uint32_t disk, directory_disk;
	int r = find_end(file, end, &end_offset, err);
	if (r < 0)
		return r;
	r = find_end64(file, end_offset, end64, &end64_offset, err);
	if (r < 0)
		return r;
	if (r == 1) {
		disk = wf_le32(end64 + 16);
		directory_disk = wf_le32(end64 + 20);
		entries_here = wf_le64(end64 + 24);
		*ret = (struct wf_zip_directory){
			.entries = wf_le64(end64 + 32),
			.size_bytes = wf_le64(end64 + 40),
			.offset = wf_le64(end64 + 48),
			.limit = end64_offset,
		};
	} else {
		disk = wf_le16(end + 4);
		directory_disk = wf_le16(end + 6);
		entries_here = wf_le16(end + 8);
		*ret = (struct wf_zip_directory){
			.entries = wf_le16(end + 10),
			.size_bytes = wf_le32(end + 12),
			.offset = wf_le32(end + 16),
			.limit = end_offset,
		};
	}
	if (disk != directory_disk || disk > 1 || entries_here != ret->entries)
		return wf_fail_at(err, -EOPNOTSUPP, NULL, end_offset,
				  "a zip archive in several parts is not supported");
	return 0;
}

int wf_zip_find_directory(struct wf_source *file, struct wf_zip_directory *ret, struct wf_error *err)
{
	struct wf_zip_directory d;
	int r = read_end_records(file, &d, err);
	if (r < 0)
		return r;
	if (d.offset > d.limit || d.size_bytes > d.limit - d.offset)
		return wf_fail_at(err, -EUCLEAN, NULL, d.limit,
				  "the directory (%" PRIu64 " bytes at %" PRIu64
				  ") does not lie inside the file: bytes are missing, or others were put in front",
				  d.size_bytes, d.offset);
	if (d.entries == 0)
		return wf_fail(err, -EUCLEAN, "the archive has no records");
	if (d.entries > d.size_bytes / WF_ZIP_ENTRY_BYTES)
		return wf_fail_at(err, -EUCLEAN, NULL, d.limit,
				  "%" PRIu64 " records do not fit into a directory of %" PRIu64 " bytes", d.entries,
				  d.size_bytes);
	if (d.entries > WF_CONTAINER_MAX_RECORDS || d.size_bytes > MAX_DIRECTORY_BYTES)
		return wf_fail(err, -E2BIG,
			       "%" PRIu64 " records in a directory of %" PRIu64
			       " bytes: more than the %u and %llu that are supported",
			       d.entries, d.size_bytes, WF_CONTAINER_MAX_RECORDS, MAX_DIRECTORY_BYTES);
	*ret = d;
	return 0;
}
