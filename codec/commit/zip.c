/* SPDX-License-Identifier: MIT */
/* A new zip archive, record by record in the order of the plan; or new records and a new directory behind an old one,
 * in which entries of records that stay stand as they were.
 *
 *   replace   [record]...                                       [directory][end records]
 *   append    [the old file, its directory dead bytes now][new record]...[directory][end records]
 *
 * Records that stand in the old file as torch would write them at their new place too (the same bytes of header,
 * padding and descriptor: they only move by a multiple of the alignment) are gathered into runs, which are moved whole.
 * Others get a new header and descriptor around their bytes.
 *
 * Where the file system clones, the first record of a run that cannot be a part of one gets a longer padding, so that
 * all that follows keeps its place within a block.
 */
#include "codec/bytes/io.h"
#include "codec/commit/commit.h"

#include <errno.h>
#include <stdio.h>

#include "codec/bytes/crc32.h"
#include "codec/bytes/util.h"

#define WINDOW_BYTES (16u << 10)
#define TEXT_MAX 40u /* of the short records that are written here */
#define MAX_CLONE_BLOCK 16384u
/* Below this a block or two more of padding costs as much as copying. */
#define MIN_CLONE_BYTES (128u << 10)

/* The old directory. */
struct old_directory {
	unsigned char *raw; /* NULL when the old file is no zip */
	struct wf_zip_entry *entries;
};

struct rewriter {
	const struct wf_plan *plan;
	struct wf_out *out;
	struct wf_zip_writer zip;
	struct wf_error *err;
	struct old_directory old;
	struct wf_file_run old_file;
	uint64_t run_start, run_end; /* of the old file, not yet moved; equal when there is none */
	bool append;
	bool placed;           /* a storage was written: exact layouts have no choice from now on */
	unsigned char *window; /* of the old file, for its headers */
	uint64_t window_start;
	size_t window_len;
};

static int read_old_directory(const struct wf_container *c, struct old_directory *ret, struct wf_error *err)
{
	struct wf_zip_directory d;
	int r = wf_zip_find_directory(wf_container_file(c), &d, err);
	if (r < 0)
		return r;
	ret->raw = malloc(d.size_bytes);
	ret->entries = calloc(d.entries, sizeof *ret->entries);
	if (!ret->raw || !ret->entries)
		return wf_fail(err, -ENOMEM, "out of memory");
	r = wf_source_read(wf_container_file(c), d.offset, ret->raw, d.size_bytes);
	if (r < 0)
		return wf_fail(err, r, "cannot read the directory: %s", strerror(-r));
	for (uint64_t i = 0, at = 0; i < d.entries; i++) {
		size_t n = wf_zip_entry_parse(&ret->entries[i], ret->raw + at, d.size_bytes - at);
		if (n == 0)
			return wf_fail(err, -EUCLEAN, "the directory changed since it was read");
		at += n;
	}
	if (d.entries != wf_container_count(c))
		return wf_fail(err, -EUCLEAN, "the directory changed since it was read");
	return 0;
}

/* Some bytes of the old file; NULL when they are not there. Valid until the next call. */
static const unsigned char *peek(struct rewriter *w, uint64_t offset, size_t len)
{
	if (len > WINDOW_BYTES)
		return NULL;
	if (offset < w->window_start || offset + len > w->window_start + w->window_len) {
		uint64_t size = wf_source_size(wf_container_file(w->plan->in.container));
		if (offset > size || len > size - offset)
			return NULL;
		size_t n = (size_t)WF_MIN(size - offset, (uint64_t)WINDOW_BYTES);
		w->window_len = 0;
		if (wf_pread_all(w->old_file.fd, w->window, n, offset) < 0)
			return NULL;
		w->window_start = offset;
		w->window_len = n;
	}
	return w->window + (offset - w->window_start);
}

static uint64_t position(const struct rewriter *w)
{
	return w->out->at + (w->run_end - w->run_start);
}

static int flush_run(struct rewriter *w)
{
	uint64_t start = w->run_start, len = w->run_end - start;
	w->run_start = w->run_end = 0;
	return len ? wf_out_copy(w->out, w->old_file.fd, start, len) : 0;
}

/* Whether the record stands in the old file as it would be written at `to`; *ret_end is where it ends. */
static bool is_movable(struct rewriter *w, const struct wf_zip_entry *e, uint64_t data, uint64_t to, uint64_t *ret_end)
{
	unsigned char want[WINDOW_BYTES];
	struct wf_zip_layout here, there;
	wf_zip_layout(e, e->header_offset, w->zip.alignment, 0, 0, &here);
	wf_zip_layout(e, to, w->zip.alignment, 0, 0, &there);
	if (here.data != data || here.pad != there.pad || here.zip64 || there.zip64)
		return false;
	size_t len = (size_t)(data - e->header_offset);
	if (len > sizeof want || wf_zip_header(e, &here, want) != len)
		return false;
	const unsigned char *p = peek(w, e->header_offset, len);
	if (!p || memcmp(p, want, len) != 0)
		return false;
	if (e->flags & WF_ZIP_FLAG_DESCRIPTOR) {
		p = peek(w, data + e->stored_bytes, 16);
		if (!p || wf_le32(p) != 0x08074b50 || wf_le32(p + 4) != e->crc32 || wf_le32(p + 8) != e->stored_bytes ||
		    wf_le32(p + 12) != e->size_bytes)
			return false;
	}
	*ret_end = here.end;
	return true;
}

/* How data should lie within a block so that they can be cloned from `data`; *ret_block 0 when that is no matter. */
static void choose_place(const struct rewriter *w, const struct wf_part *part, uint64_t size, uint64_t data,
			 uint64_t *ret_block, uint64_t *ret_congruent)
{
	uint64_t block = w->out->clone_block;
	bool fixed = w->plan->exact && part->storage != WF_NO_STORAGE && w->placed;
	/* the first storage decides for those that follow it */
	bool worth = size >= MIN_CLONE_BYTES || (part->storage != WF_NO_STORAGE && !w->placed);
	bool can = !fixed && block >= w->zip.alignment && block <= MAX_CLONE_BLOCK && data % w->zip.alignment == 0;
	*ret_block = worth && can ? block : 0;
	*ret_congruent = *ret_block ? data % block : 0;
}

/* Sums bytes that move, where the old file has no sum. */
static int copy_summed(struct rewriter *w, uint64_t offset, uint64_t len, uint32_t *ret_crc32)
{
	enum { PIECE = 1 << 20 };
	cleanup_free unsigned char *piece = malloc(PIECE);
	uint32_t crc = 0;
	if (!piece)
		return -ENOMEM;
	while (len > 0) {
		size_t n = (size_t)WF_MIN(len, (uint64_t)PIECE);
		int r = wf_source_read(wf_container_file(w->plan->in.container), offset, piece, n);
		if (r == 0)
			r = wf_out_write(w->out, piece, n);
		if (r < 0)
			return r;
		crc = wf_crc32(crc, piece, n);
		offset += n;
		len -= n;
	}
	*ret_crc32 = crc;
	return 0;
}

/* The directory entry as it stands in the old directory. */
static int keep_entry(struct rewriter *w, uint32_t record)
{
	const struct wf_zip_entry *e = &w->old.entries[record];
	const unsigned char *raw = (const unsigned char *)e->name - WF_ZIP_ENTRY_BYTES;
	size_t len = WF_ZIP_ENTRY_BYTES + e->name_len + wf_le16(raw + 30) + wf_le16(raw + 32);
	return wf_zip_keep_raw(&w->zip, e, raw, len);
}

static int put_bytes(struct rewriter *w, const struct wf_part *part, const struct wf_record *record, uint64_t data,
		     struct wf_zip_entry *e)
{
	if (w->old.entries)
		return wf_out_copy(w->out, w->old_file.fd, data, e->stored_bytes);
	if (!record->has_crc || record->crc32 == 0)
		return copy_summed(w, data, e->stored_bytes, &e->crc32);
	e->crc32 = record->crc32;
	return wf_commit_copy(w->plan, part->record, 0, e->stored_bytes, w->out, w->err);
}

static int put_kept(struct rewriter *w, const struct wf_part *part, const char *name, size_t name_len)
{
	const struct wf_record *record = wf_container_record(w->plan->in.container, part->record);
	struct wf_zip_entry e;
	uint64_t data = 0, end = 0, block = 0, congruent = 0;
	if (w->append)
		return keep_entry(w, part->record);
	int r = wf_container_locate(w->plan->in.container, part->record, &data, w->err);
	if (r < 0)
		return r;
	if (!w->old.entries) {
		wf_zip_entry_init(&e, name, name_len, record->stored_bytes);
	} else {
		e = w->old.entries[part->record];
		bool same = e.name_len == name_len && memcmp(e.name, name, name_len) == 0;
		bool goes_on = w->run_end == e.header_offset && w->run_end > w->run_start;
		choose_place(w, part, record->stored_bytes, data, &block, &congruent);
		if (block && (position(w) ^ e.header_offset) & (block - 1))
			same = false; /* it would move whole, but not be cloned */
		if (same && is_movable(w, &e, data, position(w), &end)) {
			if (!goes_on) {
				r = flush_run(w);
				w->run_start = e.header_offset;
			}
			/* the place was computed for the end of the run, which is where it goes in either case */
			e.header_offset = w->out->at + (e.header_offset - w->run_start);
			w->run_end = end;
			return r < 0 ? r : wf_zip_keep(&w->zip, &e);
		}
		e.name = name;
		e.name_len = (uint16_t)name_len;
	}
	r = flush_run(w);
	if (r == 0)
		r = wf_zip_begin(&w->zip, &e, block, congruent);
	if (r == 0)
		r = put_bytes(w, part, record, data, &e);
	return r < 0 ? r : wf_zip_end(&w->zip, &e);
}

static int put_storage(struct rewriter *w, const struct wf_part *part, const char *name, size_t name_len)
{
	const struct wf_storage *s = wf_storage_get(w->plan->in.storages, part->storage);
	const struct wf_record *record = wf_container_record(w->plan->in.container, s->record);
	struct wf_zip_entry e;
	struct wf_window window = wf_plan_window(w->plan, part->storage);
	uint64_t data = 0, block = 0, congruent = 0;
	wf_zip_entry_init(&e, name, name_len, window.size_bytes);
	if (record && record->method == 0 && wf_container_locate(w->plan->in.container, s->record, &data, NULL) == 0)
		choose_place(w, part, window.size_bytes, data + window.start, &block, &congruent);
	int r = wf_zip_begin(&w->zip, &e, block, congruent);
	if (r == 0)
		r = wf_commit_storage(w->plan, part->storage, w->out, &e.crc32, w->err);
	return r < 0 ? r : wf_zip_end(&w->zip, &e);
}

static int put_pickle(struct rewriter *w, const char *name, size_t name_len)
{
	struct wf_zip_entry e;
	wf_zip_entry_init(&e, name, name_len, w->plan->pickle_bytes);
	e.crc32 = w->plan->pickle_crc32;
	int r = wf_zip_begin(&w->zip, &e, 0, 0);
	if (r == 0)
		r = wf_plan_write_pickle(w->plan, w->out, w->err);
	return r < 0 ? r : wf_zip_end(&w->zip, &e);
}

static int put_text(struct rewriter *w, const struct wf_part *part, const char *name, size_t name_len)
{
	char id[41];
	struct wf_zip_entry e;
	const char *text = part->text;
	if (strcmp(part->name, ".data/serialization_id") == 0) {
		snprintf(id, sizeof id, "%.20s%020llu", text, (unsigned long long)w->zip.id);
		text = id;
	}
	wf_zip_entry_init(&e, name, name_len, strlen(text));
	e.crc32 = wf_crc32(0, text, strlen(text));
	int r = wf_zip_begin(&w->zip, &e, 0, 0);
	if (r == 0)
		r = wf_out_write(w->out, text, strlen(text));
	return r < 0 ? r : wf_zip_end(&w->zip, &e);
}

static int put(struct rewriter *w, const struct wf_part *part)
{
	cleanup_free char *name = NULL;
	int len = asprintf(&name, "%s/%s", w->plan->prefix, part->name), r = 0;
	if (len < 0)
		return wf_fail(w->err, -ENOMEM, "out of memory");
	if (len > UINT16_MAX)
		return wf_fail_at(w->err, -E2BIG, part->name, WF_ERROR_NO_OFFSET, "the name of the record is too long");
	if (part->kind != WF_PART_KEEP)
		r = flush_run(w);
	if (r == 0)
		switch ((enum wf_part_kind)part->kind) {
		case WF_PART_KEEP:
			r = put_kept(w, part, name, (size_t)len);
			break;
		case WF_PART_STORAGE:
			r = put_storage(w, part, name, (size_t)len);
			break;
		case WF_PART_PICKLE:
			r = put_pickle(w, name, (size_t)len);
			break;
		case WF_PART_TEXT:
			r = put_text(w, part, name, (size_t)len);
			break;
		}
	if (part->storage != WF_NO_STORAGE)
		w->placed = true;
	return r;
}

uint64_t wf_zip_end_of(const struct wf_plan *p, bool append, uint64_t at)
{
	uint64_t directory = 0, prefix = strlen(p->prefix);
	for (uint32_t i = 0; i < p->count; i++) {
		const struct wf_part *part = &p->parts[i];
		struct wf_zip_entry e;
		struct wf_zip_layout l;
		uint64_t size = part->kind == WF_PART_KEEP
					? wf_container_record(p->in.container, part->record)->stored_bytes
				: part->kind == WF_PART_STORAGE ? wf_plan_window(p, part->storage).size_bytes
				: part->kind == WF_PART_PICKLE  ? p->pickle_bytes
								: TEXT_MAX;
		wf_zip_entry_init(&e, part->name, prefix + 1 + strlen(part->name), size);
		directory += WF_ZIP_ENTRY_BYTES + e.name_len + (at >= UINT32_MAX || size >= UINT32_MAX ? 28 : 0);
		if (append && part->kind == WF_PART_KEEP)
			continue;
		wf_zip_layout(&e, at, p->alignment, 0, 0, &l);
		at = l.end;
	}
	return at + directory + WF_ZIP_END_BYTES;
}

static int rewrite(struct rewriter *w)
{
	const struct wf_container *c = w->plan->in.container;
	enum wf_container_kind kind = wf_container_kind_of(c);
	int r = 0;
	if (!wf_source_locate(wf_container_file(c), 0, &w->old_file))
		return wf_fail(w->err, -EOPNOTSUPP, "the checkpoint is not a file");
	if (kind == WF_CONTAINER_ZIP || kind == WF_CONTAINER_TORCHSCRIPT)
		r = read_old_directory(c, &w->old, w->err);
	for (uint32_t i = 0; i < w->plan->count && r == 0; i++)
		r = put(w, &w->plan->parts[i]);
	if (r == 0)
		r = flush_run(w);
	/* a directory never stands in the file before what it speaks of: other readers know nothing of a recovery */
	if (r == 0 && w->append)
		r = wf_out_flush(w->out);
	if (r == 0 && w->append && fdatasync(w->out->fd) < 0)
		r = -errno;
	if (r == 0)
		r = wf_zip_finish(&w->zip);
	return r < 0 ? r : wf_out_finish(w->out);
}

static int write_zip(const struct wf_plan *plan, bool append, struct wf_out *o, struct wf_error *err)
{
	struct rewriter w = {.plan = plan,
			     .append = append,
			     .out = o,
			     .err = err,
			     .old_file = WF_FILE_RUN_INIT,
			     .window = malloc(WINDOW_BYTES)};
	if (!w.window)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (err)
		err->code = 0;
	wf_zip_writer_init(&w.zip, o, plan->alignment);
	int r = rewrite(&w);
	wf_zip_writer_free(&w.zip);
	free(w.window);
	free(w.old.raw);
	free(w.old.entries);
	wf_file_run_end(&w.old_file);
	if (r < 0 && err && err->code == 0)
		wf_fail(err, r, "cannot write the new file: %s", strerror(-r));
	return r;
}

int wf_replace_zip(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err)
{
	return write_zip(plan, false, o, err);
}

int wf_append_zip(const struct wf_plan *plan, struct wf_out *o, struct wf_error *err)
{
	return write_zip(plan, true, o, err);
}
