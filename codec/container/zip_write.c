/* SPDX-License-Identifier: MIT */
/* Zip archives as torch writes them.
 *
 *   local header   "PK\3\4"  needed  flags  method  time  date  crc  stored  size  name length  extra length
 *                  0         4       6      8       10    12    14   18      22    26           28
 *                  name, extra fields, bytes at a multiple of the alignment, descriptor
 *   extra fields   [01 00 length size(u64) stored(u64) header offset(u64)]  "FB" length 'Z' ...
 *                  the first only where a field overflows 32 bits; the second always, it makes the alignment
 *   descriptor     "PK\7\8" crc stored size: 16 bytes, 24 with a ZIP64 field; only where the record is not empty
 *   directory      "PK\1\2"  made by  needed  flags  method  time  date  crc  stored  size  name  extra  comment
 *                  0         4        6       8      10      12    14    16   20      24    28    30     32
 *                  disk  internal  external  header offset
 *                  34    36        38        42              then name, ZIP64 field with what overflows
 *   end            ZIP64 end record (56), locator (20), end record (22): all three, but the last alone where there are no entries
 *
 * torch's values: needed, made by, time and date 0; flags UTF-8 and descriptor (0x0808), 0x0800 for an empty record; in
 * the local header crc and sizes 0, and in its ZIP64 field stored 0 and, where it overflows, the header's own offset.
 *
 * In memory a directory entry is its length and then, until that is reached, pairs of lengths (u8, u8): bytes that are those of the entry
 * before, and bytes that follow in the memory.
 *
 * Records of other writers, which have no descriptor flag, keep that form: sizes and crc in the local header.
 */
#include "codec/container/zip_write.h"

#include <errno.h>

#include "codec/bytes/util.h"

#define LOCAL_BYTES 30u
#define PAD_FIELD_BYTES 4u
#define ENTRY_MAX (WF_ZIP_ENTRY_BYTES + 3u * UINT16_MAX) /* with name, extra fields and comment */
#define OVERFLOWS(v) ((v) >= UINT32_MAX)

static unsigned char *put16(unsigned char *p, uint16_t v)
{
	memcpy(p, &v, sizeof v); /* little-endian hosts only */
	return p + sizeof v;
}

static unsigned char *put32(unsigned char *p, uint32_t v)
{
	memcpy(p, &v, sizeof v);
	return p + sizeof v;
}

static unsigned char *put64(unsigned char *p, uint64_t v)
{
	memcpy(p, &v, sizeof v);
	return p + sizeof v;
}

void wf_zip_entry_init(struct wf_zip_entry *e, const char *name, size_t name_len, uint64_t size_bytes)
{
	*e = (struct wf_zip_entry){
		.name = name,
		.name_len = (uint16_t)name_len,
		.flags = WF_ZIP_FLAG_UTF8 | (size_bytes > 0 ? WF_ZIP_FLAG_DESCRIPTOR : 0),
		.stored_bytes = size_bytes,
		.size_bytes = size_bytes,
	};
}

/* Bytes of the ZIP64 field in the local header. */
static uint32_t local_zip64_bytes(const struct wf_zip_entry *e, uint64_t header_offset)
{
	bool sizes = OVERFLOWS(e->size_bytes) || OVERFLOWS(e->stored_bytes), offset = OVERFLOWS(header_offset);
	return sizes || offset ? 4 + (sizes ? 16 : 0) + (offset ? 8 : 0) : 0;
}

static uint64_t descriptor_bytes(const struct wf_zip_entry *e, bool zip64)
{
	return !(e->flags & WF_ZIP_FLAG_DESCRIPTOR) ? 0 : zip64 ? 24 : 16;
}

void wf_zip_layout(const struct wf_zip_entry *e, uint64_t header_offset, uint32_t alignment, uint64_t block,
		   uint64_t congruent, struct wf_zip_layout *ret)
{
	uint32_t zip64 = local_zip64_bytes(e, header_offset);
	uint64_t start = header_offset + LOCAL_BYTES + e->name_len + zip64 + PAD_FIELD_BYTES;
	uint64_t pad = -start & (alignment - 1);
	if (block)
		pad = (congruent - start) & (block - 1);
	ret->pad = (uint16_t)pad;
	ret->zip64 = zip64 > 0;
	ret->data = start + pad;
	ret->end = ret->data + e->stored_bytes + descriptor_bytes(e, ret->zip64);
}

size_t wf_zip_header(const struct wf_zip_entry *e, const struct wf_zip_layout *l, unsigned char *buf)
{
	uint64_t header_offset = l->data - l->pad - PAD_FIELD_BYTES - e->name_len - LOCAL_BYTES;
	uint32_t zip64 = 0;
	if (l->zip64) {
		/* the field's length decides what is in it: the header starts that much earlier */
		for (uint32_t try = 12; try <= 28; try += 8)
			if (local_zip64_bytes(e, header_offset - try) == try)
				zip64 = try;
		header_offset -= zip64;
	}
	bool later = e->flags & WF_ZIP_FLAG_DESCRIPTOR || e->stored_bytes == 0;
	bool wide = OVERFLOWS(e->size_bytes) || OVERFLOWS(e->stored_bytes);
	uint32_t stored = later ? 0 : wide ? UINT32_MAX : (uint32_t)e->stored_bytes;
	uint32_t size = later ? 0 : wide ? UINT32_MAX : (uint32_t)e->size_bytes;
	unsigned char *p = put32(buf, 0x04034b50);
	p = put16(p, e->needed);
	p = put16(p, e->flags);
	p = put16(p, e->method);
	p = put16(p, e->time);
	p = put16(p, e->date);
	p = put32(p, later ? 0 : e->crc32);
	p = put32(p, stored);
	p = put32(p, size);
	p = put16(p, e->name_len);
	p = put16(p, (uint16_t)(zip64 + PAD_FIELD_BYTES + l->pad));
	memcpy(p, e->name, e->name_len);
	p += e->name_len;
	if (zip64) {
		p = put16(p, 1);
		p = put16(p, (uint16_t)(zip64 - 4));
		if (wide) {
			p = put64(p, e->size_bytes);
			p = put64(p, later ? 0 : e->stored_bytes);
		}
		if (OVERFLOWS(header_offset))
			p = put64(p, header_offset);
	}
	*p++ = 'F';
	*p++ = 'B';
	p = put16(p, l->pad);
	memset(p, 'Z', l->pad);
	return (size_t)(p + l->pad - buf);
}

/* Where the next byte goes, in the archive. */
static uint64_t archive_at(const struct wf_zip_writer *w)
{
	return w->out->at - w->origin;
}

void wf_zip_writer_init(struct wf_zip_writer *w, struct wf_out *out, uint32_t alignment)
{
	*w = (struct wf_zip_writer){.out = out, .alignment = alignment};
}

void wf_zip_writer_free(struct wf_zip_writer *w)
{
	wf_buffer_free(&w->directory);
	wf_buffer_free(&w->last);
}

int wf_zip_begin(struct wf_zip_writer *w, struct wf_zip_entry *e, uint64_t block, uint64_t congruent)
{
	struct wf_zip_layout l;
	cleanup_free unsigned char *header = NULL;
	unsigned char small[4096];
	e->header_offset = archive_at(w);
	wf_zip_layout(e, e->header_offset, w->alignment, block, congruent, &l);
	size_t len = (size_t)(l.data - e->header_offset);
	if (len > sizeof small) {
		header = malloc(len);
		if (!header)
			return -ENOMEM;
	}
	unsigned char *p = header ? header : small;
	return wf_out_write(w->out, p, wf_zip_header(e, &l, p));
}

uint64_t wf_zip_id_combine(uint64_t id, uint32_t crc32)
{
	return id ^ ((uint64_t)crc32 + 0x9e3779b9u + (id << 6) + (id >> 2));
}

/* ---- the directory ---- */

static size_t count_equal(const unsigned char *a, const unsigned char *b, size_t n)
{
	size_t i = 0;
	while (i < n && a[i] == b[i])
		i++;
	return i;
}

/* The next one: `last` behind its first `before` bytes, which are the entry before it. */
static int keep_entry(struct wf_zip_writer *w, size_t before)
{
	int r = wf_buffer_status(&w->last);
	if (r < 0)
		return r;
	const unsigned char *old = (unsigned char *)w->last.data, *new = old + before;
	uint32_t len = (uint32_t)(w->last.len - before);
	wf_buffer_append(&w->directory, &len, sizeof len);
	for (size_t at = 0; at < len;) {
		size_t both = at < before ? WF_MIN(len, before) - at : 0;
		size_t same = count_equal(old + at, new + at, WF_MIN(both, (size_t)UINT8_MAX)), other = 0;
		at += same;
		while (at + other < len && other < UINT8_MAX &&
		       (at + other >= before || old[at + other] != new[at + other]))
			other++;
		wf_buffer_append(&w->directory, (unsigned char[]){(unsigned char)same, (unsigned char)other}, 2);
		wf_buffer_append(&w->directory, new + at, other);
		at += other;
	}
	memmove(w->last.data, w->last.data + before, len);
	w->last.len = len;
	w->directory_bytes += len;
	w->entries++;
	return wf_buffer_status(&w->directory);
}

static int write_directory(struct wf_zip_writer *w)
{
	const unsigned char *p = (unsigned char *)w->directory.data, *end = p + w->directory.len;
	cleanup_free unsigned char *entry = malloc(ENTRY_MAX);
	uint32_t len;
	int r = entry ? wf_buffer_status(&w->directory) : -ENOMEM;
	while (r == 0 && p < end) {
		memcpy(&len, p, sizeof len);
		p += sizeof len;
		for (size_t at = 0; at < len; p += p[1] + 2) {
			at += p[0];
			memcpy(entry + at, p + 2, p[1]);
			at += p[1];
		}
		r = wf_out_write(w->out, entry, len);
	}
	return r;
}

/* The entry itself; its name has 16 bits and there is no comment. */
static int enter(struct wf_zip_writer *w, const struct wf_zip_entry *e)
{
	unsigned char fixed[WF_ZIP_ENTRY_BYTES], extra[28];
	unsigned char *x = extra + 4;
	if (OVERFLOWS(e->size_bytes) || OVERFLOWS(e->stored_bytes)) {
		/* both or none, as miniz writes them */
		x = put64(x, e->size_bytes);
		x = put64(x, e->stored_bytes);
	}
	bool wide = x != extra + 4;
	if (OVERFLOWS(e->header_offset))
		x = put64(x, e->header_offset);
	size_t extra_len = x == extra + 4 ? 0 : (size_t)(x - extra);
	put16(extra, 1);
	put16(extra + 2, (uint16_t)(extra_len - 4));

	unsigned char *p = put32(fixed, 0x02014b50);
	p = put16(p, e->made_by);
	p = put16(p, e->needed);
	p = put16(p, e->flags);
	p = put16(p, e->method);
	p = put16(p, e->time);
	p = put16(p, e->date);
	p = put32(p, e->crc32);
	p = put32(p, wide ? UINT32_MAX : (uint32_t)e->stored_bytes);
	p = put32(p, wide ? UINT32_MAX : (uint32_t)e->size_bytes);
	p = put16(p, e->name_len);
	p = put16(p, (uint16_t)extra_len);
	p = put16(p, 0); /* comment */
	p = put16(p, 0); /* disk */
	p = put16(p, e->internal);
	p = put32(p, e->external);
	put32(p, OVERFLOWS(e->header_offset) ? UINT32_MAX : (uint32_t)e->header_offset);
	size_t before = w->last.len;
	wf_buffer_append(&w->last, fixed, sizeof fixed);
	wf_buffer_append(&w->last, e->name, e->name_len);
	wf_buffer_append(&w->last, extra, extra_len);
	if (e->stored_bytes > 0)
		w->id = wf_zip_id_combine(w->id, e->crc32);
	return keep_entry(w, before);
}

int wf_zip_end(struct wf_zip_writer *w, const struct wf_zip_entry *e)
{
	if (e->flags & WF_ZIP_FLAG_DESCRIPTOR) {
		unsigned char descriptor[24];
		unsigned char *p = put32(descriptor, 0x08074b50);
		p = put32(p, e->crc32);
		if (local_zip64_bytes(e, e->header_offset) > 0) {
			p = put64(p, e->stored_bytes);
			p = put64(p, e->size_bytes);
		} else {
			p = put32(p, (uint32_t)e->stored_bytes);
			p = put32(p, (uint32_t)e->size_bytes);
		}
		int r = wf_out_write(w->out, descriptor, (size_t)(p - descriptor));
		if (r < 0)
			return r;
	}
	return enter(w, e);
}

int wf_zip_keep(struct wf_zip_writer *w, const struct wf_zip_entry *e)
{
	return enter(w, e);
}

int wf_zip_keep_raw(struct wf_zip_writer *w, const struct wf_zip_entry *e, const unsigned char *raw, size_t len)
{
	size_t before = w->last.len;
	wf_buffer_append(&w->last, raw, len);
	if (e->stored_bytes > 0)
		w->id = wf_zip_id_combine(w->id, e->crc32);
	return keep_entry(w, before);
}

int wf_zip_finish(struct wf_zip_writer *w)
{
	unsigned char end[WF_ZIP_END_BYTES];
	uint64_t directory = archive_at(w), size = w->directory_bytes, end64 = directory + size;
	uint16_t entries16 = (uint16_t)WF_MIN(w->entries, (uint64_t)UINT16_MAX);
	int r = write_directory(w);
	if (r < 0)
		return r;
	unsigned char *p = end;
	if (w->entries >
	    0) { /* an archive of nothing is known by the signature of its last record, with which it begins */
		p = put32(p, 0x06064b50);
		p = put64(p, 44); /* bytes of this record that follow */
		p = put16(p, 0x031e);
		p = put16(p, 45);
		p = put32(p, 0);
		p = put32(p, 0);
		p = put64(p, w->entries);
		p = put64(p, w->entries);
		p = put64(p, size);
		p = put64(p, directory);
		p = put32(p, 0x07064b50);
		p = put32(p, 0);
		p = put64(p, end64);
		p = put32(p, 1);
	}
	p = put32(p, 0x06054b50);
	p = put32(p, 0);
	p = put16(p, entries16);
	p = put16(p, entries16);
	p = put32(p, (uint32_t)WF_MIN(size, (uint64_t)UINT32_MAX));
	p = put32(p, (uint32_t)WF_MIN(directory, (uint64_t)UINT32_MAX));
	p = put16(p, 0);
	return wf_out_write(w->out, end, (size_t)(p - end));
}
