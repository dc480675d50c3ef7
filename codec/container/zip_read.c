/* SPDX-License-Identifier: MIT */
/* The zip of torch.save (1.6 and later) and of TorchScript.
 *
 *   PREFIX/data.pkl   [local header 30 + name + extra][bytes][descriptor]     records, at multiples of 64
 *   PREFIX/data/0     [local header][bytes][descriptor]
 *   ...               (dead bytes may lie between them)
 *   directory         an entry a record (container/zip_entry.c): the truth about method, sizes and CRC
 *   ZIP64 end record  56: 64-bit count, size and offset of the directory      torch writes it always,
 *   ZIP64 locator     20: where that is                                       other writers when they must
 *   end record        22 + comment, then at most 64 KiB of anything
 *
 * local header  0 "PK\3\4"  6 flags  8 method  14 crc  18 stored  22 size  26 name length  28 extra length
 * end record    0 "PK\5\6"  4 disk  6 directory's disk  8, 10 entries  12 directory size  16 offset  20 comment length
 * ZIP64 end     0 "PK\6\6"  16 disk  20 directory's disk  24, 32 entries  40 directory size  48 offset
 *
 * What is refused is what PyTorch's reader (caffe2/serialize/inline_container.cc over miniz) refuses, and duplicate
 * names, of which it takes either. Of a local header only the two lengths are used, as there. libzip has no part in
 * this: it does not tell where data lie, and it would keep about 200 bytes a record.
 */
#include "codec/container/lookalike.h"
#include "codec/container/zip_entry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "codec/bytes/cursor.h"
#include "codec/bytes/util.h"

#define LOCAL_BYTES 30u
#define WINDOW_BYTES (16u << 10) /* of headers that are read at once, ... */
#define CLOSE_BYTES (4u << 10)   /* ... where the next one is not farther away */

enum problem { FINE, ENCRYPTED, UNKNOWN_METHOD, TWO_SIZES, IMPOSSIBLE_RATIO, OUTSIDE, OVERLAPPING };

struct zip {
	struct wf_container base;
	uint64_t directory_offset;
	_Atomic uint32_t *data_start; /* from local header to data, a record; 0 before its first use */
	bool foreign;                 /* what is wrong is that nothing of torch's is here */
	uint32_t *next;               /* the record whose header follows a record's; NULL when that is simply i + 1 */
};

static const struct zip *zip_of(const struct wf_container *c)
{
	return (const struct zip *)c;
}

static void judge(struct wf_record *record, uint16_t flags, uint64_t directory_offset)
{
	uint64_t end;
	if (flags & 0x2041) { /* encrypted, strongly encrypted, masked */
		record->bad = -EOPNOTSUPP;
		record->problem = ENCRYPTED;
	} else if (record->method != 0 && record->method != 8) {
		record->bad = -EOPNOTSUPP;
		record->problem = UNKNOWN_METHOD;
	} else if (record->method == 0 && record->stored_bytes != record->size_bytes) {
		record->bad = -EUCLEAN;
		record->problem = TWO_SIZES;
	} else if (record->method == 8 && record->size_bytes / WF_DEFLATE_MAX_RATIO > record->stored_bytes) {
		record->bad = -EUCLEAN;
		record->problem = IMPOSSIBLE_RATIO;
	}
	if (wf_add_u64(record->header_offset, LOCAL_BYTES, &end) || wf_add_u64(end, record->stored_bytes, &end) ||
	    end > directory_offset) {
		record->bad = -EUCLEAN;
		record->problem = OUTSIDE;
	}
}

static int explain(const struct wf_container *c, const struct wf_record *record, struct wf_error *err)
{
	switch ((enum problem)record->problem) {
	case ENCRYPTED:
		return wf_fail_at(err, record->bad, record->name, WF_ERROR_NO_OFFSET, "the record is encrypted");
	case UNKNOWN_METHOD:
		return wf_fail_at(
			err, record->bad, record->name, WF_ERROR_NO_OFFSET,
			"the record is compressed by method %u; only 0 (stored) and 8 (deflated) are supported",
			record->method);
	case TWO_SIZES:
		return wf_fail_at(err, record->bad, record->name, WF_ERROR_NO_OFFSET,
				  "the record is stored, but as %" PRIu64 " bytes of %" PRIu64, record->stored_bytes,
				  record->size_bytes);
	case IMPOSSIBLE_RATIO:
		return wf_fail_at(err, record->bad, record->name, WF_ERROR_NO_OFFSET,
				  "%" PRIu64 " deflated bytes cannot hold the %" PRIu64 " that the directory declares",
				  record->stored_bytes, record->size_bytes);
	case OUTSIDE:
		return wf_fail_at(err, record->bad, record->name, WF_ERROR_NO_OFFSET,
				  "%" PRIu64 " bytes after a header at %" PRIu64
				  " do not lie before the directory at %" PRIu64,
				  record->stored_bytes, record->header_offset, zip_of(c)->directory_offset);
	case OVERLAPPING:
		return wf_fail_at(err, record->bad, record->name, WF_ERROR_NO_OFFSET,
				  "the record (header at %" PRIu64 ") overlaps another one", record->header_offset);
	case FINE:
		break;
	}
	return record->bad;
}

/* The first record's folder is the prefix, and every record must be in it. */
static int check_prefix(struct zip *z, const char *name, size_t name_len, uint64_t number, struct wf_error *err)
{
	char shown[100];
	size_t shown_len = WF_MIN(name_len, sizeof shown - 1);
	memcpy(shown, name, shown_len);
	shown[shown_len] = '\0';
	if (number == 0) {
		const char *slash = memchr(name, '/', name_len);
		if (!slash) {
			z->foreign = true;
			return wf_fail_at(
				err, -EUCLEAN, shown, WF_ERROR_NO_OFFSET,
				"the record lies at the top; PyTorch wants all of them in one folder (zip the "
				"folder, not its content)");
		}
		char *p = strndup(name, (size_t)(slash - name));
		if (!p)
			return wf_fail(err, -ENOMEM, "out of memory");
		free(z->base.prefix);
		z->base.prefix = p;
	}
	size_t prefix_len = strlen(z->base.prefix);
	if (name_len <= prefix_len || memcmp(name, z->base.prefix, prefix_len) != 0 || name[prefix_len] != '/') {
		z->foreign = true;
		return wf_fail_at(err, -EUCLEAN, shown, WF_ERROR_NO_OFFSET,
				  "the record is not in the folder \"%s/\" of the first one; PyTorch refuses such an "
				  "archive",
				  z->base.prefix);
	}
	return 0;
}

static int read_entry(struct zip *z, struct wf_cursor *cur, uint64_t number, struct wf_error *err)
{
	struct wf_zip_entry e;
	uint64_t at = cur->pos;
	int r = wf_zip_entry_read(cur, &e);
	if (r < 0 && r != -EUCLEAN)
		return wf_fail_at(err, r, NULL, at, "cannot read the directory: %s", strerror(-r));
	if (r < 0)
		return wf_fail_at(err, -EUCLEAN, NULL, at, "no directory entry where number %" PRIu64 " belongs",
				  number);
	if (memchr(e.name, '\0', e.name_len))
		return wf_fail_at(err, -EUCLEAN, NULL, at, "the name of a record holds a NUL byte");
	r = check_prefix(z, e.name, e.name_len, number, err);
	if (r < 0)
		return r;
	struct wf_record *record = NULL;
	size_t prefix_len = strlen(z->base.prefix);
	r = wf_container_add(&z->base, e.name + prefix_len + 1, e.name_len - prefix_len - 1, &record);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	record->method = e.method;
	record->crc32 = e.crc32;
	record->has_crc = true;
	record->stored_bytes = e.stored_bytes;
	record->size_bytes = e.size_bytes;
	record->header_offset = e.header_offset;
	if (e.broken_zip64)
		return wf_fail_at(err, -EUCLEAN, record->name, WF_ERROR_NO_OFFSET,
				  "its sizes do not fit 32 bits and the ZIP64 field for them is missing or broken");
	if (e.disk > 1)
		return wf_fail_at(err, -EOPNOTSUPP, record->name, WF_ERROR_NO_OFFSET,
				  "a zip archive in several parts is not supported");
	judge(record, e.flags, z->directory_offset);
	return 0;
}

static int read_directory(struct zip *z, const struct wf_zip_directory *d, struct wf_error *err)
{
	struct wf_cursor cur;
	int r = wf_cursor_init_source(&cur, z->base.file, d->offset, d->size_bytes);
	if (r == 0)
		r = wf_container_reserve(&z->base, (uint32_t)d->entries);
	if (r < 0)
		return wf_fail(err, r, "cannot read the directory: %s", strerror(-r));
	for (uint64_t i = 0; i < d->entries && r == 0; i++)
		r = read_entry(z, &cur, i, err);
	wf_cursor_free(&cur);
	return r;
}

static int by_header(const void *a, const void *b, void *ctx)
{
	const struct wf_record *records = ctx;
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	uint64_t x = records[i].header_offset, y = records[j].header_offset;
	return x != y ? (x < y ? -1 : 1) : (i < j ? -1 : i > j);
}

static void mark_overlap(struct wf_record *record)
{
	if (record->bad)
		return;
	record->bad = -EUCLEAN;
	record->problem = OVERLAPPING;
}

/* Two stored records may be one: torch reads such an archive, and nobody gains bytes by it, as with deflated ones. */
static bool same_record(const struct wf_record *a, const struct wf_record *b)
{
	return a->header_offset == b->header_offset && a->stored_bytes == b->stored_bytes && a->method == 0 &&
	       b->method == 0;
}

/* Marks records that share bytes, by the least space that each can take. Exactly how much is known when its local
 * header is read; then `next` gives the bound. */
static int find_overlaps(struct zip *z, struct wf_error *err)
{
	struct wf_record *records = z->base.records;
	uint32_t n = z->base.count;
	cleanup_free uint32_t *order = NULL;
	bool in_order = true;
	for (uint32_t i = 1; i < n && in_order; i++)
		in_order = records[i - 1].header_offset < records[i].header_offset;
	if (!in_order) {
		order = malloc(n * sizeof *order);
		z->next = malloc(n * sizeof *z->next);
		if (!order || !z->next)
			return wf_fail(err, -ENOMEM, "out of memory");
		for (uint32_t i = 0; i < n; i++)
			order[i] = i;
		qsort_r(order, n, sizeof *order, by_header, records);
		uint32_t following = WF_NO_RECORD;
		for (uint32_t k = n; k-- > 0;) {
			if (k + 1 < n && records[order[k]].header_offset != records[order[k + 1]].header_offset)
				following = order[k + 1];
			z->next[order[k]] = following;
		}
	}
	struct wf_record *widest = NULL;
	uint64_t widest_end = 0;
	for (uint32_t k = 0; k < n; k++) {
		struct wf_record *record = &records[order ? order[k] : k];
		if (record->problem == OUTSIDE)
			continue;
		uint64_t end = record->header_offset + LOCAL_BYTES + record->stored_bytes;
		if (widest && record->header_offset < widest_end && !same_record(record, widest)) {
			mark_overlap(record);
			mark_overlap(widest);
		}
		if (!widest || end > widest_end) {
			widest = record;
			widest_end = end;
		}
	}
	return 0;
}

static uint32_t next_of(const struct zip *z, uint32_t i)
{
	return z->next ? z->next[i] : i + 1;
}

/* What follows a record; the next one may lie outside. */
static uint64_t limit_of(const struct zip *z, uint32_t i)
{
	uint32_t next = next_of(z, i);
	uint64_t end = z->directory_offset;
	return next < z->base.count ? WF_MIN(z->base.records[next].header_offset, end) : end;
}

/* Where the bytes start behind the local header; 0: it is none, or they do not fit. */
static uint32_t start_of(const struct zip *z, uint32_t i, const unsigned char *local)
{
	const struct wf_record *record = &z->base.records[i];
	uint32_t start = LOCAL_BYTES + wf_le16(local + 26) + wf_le16(local + 28);
	uint64_t room = limit_of(z, i) - record->header_offset;
	return wf_le32(local) == 0x04034b50 && room >= start && room - start >= record->stored_bytes ? start : 0;
}

/* Reads the local header of a record, and where small ones stand close together all headers of a window with it. What is wrong with
 * another one is said when that is asked for. Several threads may find the same numbers at once. */
static int read_headers(const struct zip *z, uint32_t i, struct wf_error *err)
{
	unsigned char window[WINDOW_BYTES];
	const struct wf_container *c = &z->base;
	const struct wf_record *record = &c->records[i];
	uint64_t from = record->header_offset, limit = limit_of(z, i);
	uint64_t len = limit - from > CLOSE_BYTES ? LOCAL_BYTES : WF_MIN(z->directory_offset - from, sizeof window);
	int r = wf_source_read(c->file, from, window, len);
	if (r < 0)
		return wf_fail_at(err, r, record->name, WF_ERROR_NO_OFFSET, "cannot read its header: %s", strerror(-r));
	for (uint32_t k = i; k < c->count; k = next_of(z, k)) {
		uint64_t at = c->records[k].header_offset - from;
		if (c->records[k].header_offset < from || at > len - LOCAL_BYTES)
			break;
		if (!c->records[k].bad)
			atomic_store_explicit(&z->data_start[k], start_of(z, k, window + at), memory_order_relaxed);
	}
	if (atomic_load_explicit(&z->data_start[i], memory_order_relaxed))
		return 0;
	if (wf_le32(window) != 0x04034b50)
		return wf_fail_at(err, -EUCLEAN, record->name, WF_ERROR_NO_OFFSET,
				  "there is no local header at %" PRIu64, from);
	return wf_fail_at(err, -EUCLEAN, record->name, WF_ERROR_NO_OFFSET,
			  "its %" PRIu64 " bytes at %" PRIu64 " run into what follows at %" PRIu64,
			  record->stored_bytes, from + LOCAL_BYTES + wf_le16(window + 26) + wf_le16(window + 28),
			  limit);
}

static int locate(const struct wf_container *c, uint32_t i, uint64_t *ret_offset, struct wf_error *err)
{
	const struct zip *z = zip_of(c);
	if (atomic_load_explicit(&z->data_start[i], memory_order_relaxed) == 0) {
		int r = read_headers(z, i, err);
		if (r < 0)
			return r;
	}
	*ret_offset = c->records[i].header_offset + atomic_load_explicit(&z->data_start[i], memory_order_relaxed);
	return 0;
}

static void free_zip(struct wf_container *c)
{
	struct zip *z = (struct zip *)c;
	free((void *)z->data_start);
	free(z->next);
}

static const struct wf_container_ops ops = {
	.locate = locate,
	.explain = explain,
	.load_graph = wf_zip_load_graph,
	.free = free_zip,
};

static int open_directory(struct zip *z, const struct wf_zip_directory *d, struct wf_error *err)
{
	struct wf_container *c = &z->base;
	z->directory_offset = d->offset;
	c->fold_case = true;
	int r = read_directory(z, d, err);
	if (r == 0)
		r = wf_container_index(c, err);
	if (r < 0 || wf_container_find(c, "data.pkl") != WF_NO_RECORD)
		return r;
	for (uint32_t i = 0; i < c->count; i++)
		if (strlen(c->records[i].name) > 9 && strcmp(strrchr(c->records[i].name, '\0') - 9, "/data.pkl") == 0)
			return wf_fail_at(err, -EUCLEAN, c->records[i].name, WF_ERROR_NO_OFFSET,
					  "the pickle is too deep; PyTorch wants it directly in the top folder \"%s/\"",
					  c->prefix);
	z->foreign = true;
	return wf_fail(err, -EUCLEAN, "it has no record \"%s/data.pkl\", which holds the object", c->prefix);
}

static int open_zip(struct wf_source *file, struct wf_container **ret, struct wf_error *err)
{
	struct wf_zip_directory d;
	int r = wf_zip_find_directory(file, &d, err);
	if (r < 0)
		return r;
	struct zip *z = calloc(1, sizeof *z);
	if (!z)
		return wf_fail(err, -ENOMEM, "out of memory");
	cleanup_with(wf_container_freep) struct wf_container *c = &z->base;
	r = wf_container_init(c, &ops, WF_CONTAINER_ZIP, file);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	r = open_directory(z, &d, err);
	if (r < 0 && z->foreign) {
		struct wf_error other = {0};
		int named = wf_lookalike_zip(file, &d, &other);
		if (named < 0)
			return wf_fail(err, named, "%s", other.text);
	}
	if (r < 0)
		return r;
	z->data_start = calloc(c->count, sizeof *z->data_start);
	if (!z->data_start)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (wf_container_find(c, "constants.pkl") != WF_NO_RECORD)
		c->kind = WF_CONTAINER_TORCHSCRIPT;
	r = find_overlaps(z, err);
	if (r == 0)
		r = wf_zip_check_marks(c, err);
	if (r < 0)
		return r;
	*ret = steal_pointer(&c);
	return 0;
}

int wf_zip_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err)
{
	int r = open_zip(file, ret, err);
	return r < 0 ? wf_lookalike_damaged_zip(file, r, err) : r;
}
