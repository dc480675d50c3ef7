/* SPDX-License-Identifier: MIT */
#include "zip-builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "zip-builder: %s failed\n", what);
		abort();
	}
}

static void u16(struct wf_buffer *b, uint64_t v)
{
	uint16_t x = (uint16_t)v;
	wf_buffer_append(b, &x, sizeof x);
}

static void u32(struct wf_buffer *b, uint64_t v)
{
	uint32_t x = (uint32_t)v;
	wf_buffer_append(b, &x, sizeof x);
}

static void u64(struct wf_buffer *b, uint64_t v)
{
	wf_buffer_append(b, &v, sizeof v);
}

static uint64_t position(const struct zip_builder *b)
{
	return b->out_offset + b->out.len;
}

static void flush(struct zip_builder *b)
{
	if (b->fd < 0)
		b->fd = memfd_create("zip", MFD_CLOEXEC);
	must(b->fd >= 0, "memfd_create");
	must(wf_buffer_status(&b->out) == 0, "memory");
	must(pwrite(b->fd, b->out.data, b->out.len, (off_t)b->out_offset) == (ssize_t)b->out.len, "pwrite");
	b->out_offset += b->out.len;
	wf_buffer_free(&b->out);
	b->out = (struct wf_buffer)WF_BUFFER_INIT;
}

static unsigned char *deflated(const void *data, size_t len, size_t *ret_len)
{
	z_stream z = {0};
	must(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK, "deflateInit2");
	size_t cap = deflateBound(&z, len) + 16;
	unsigned char *out = malloc(cap);
	must(out != NULL, "malloc");
	z.next_in = (unsigned char *)data;
	z.avail_in = (uInt)len;
	z.next_out = out;
	z.avail_out = (uInt)cap;
	must(deflate(&z, Z_FINISH) == Z_STREAM_END, "deflate");
	*ret_len = z.total_out;
	deflateEnd(&z);
	return out;
}

static void local_part(struct zip_builder *b, const struct zip_entry *e, const void *data, size_t stored, bool zip64,
		       uint32_t crc)
{
	const char *name = e->local_name ? e->local_name : e->name;
	size_t name_len = e->name_len && !e->local_name ? e->name_len : strlen(name);
	size_t pad = (size_t)(-(position(b) + 30 + name_len + 4) & 63);
	uint16_t extra = e->local_extra ? e->local_extra : e->unaligned ? 0 : (uint16_t)(4 + pad);
	u32(&b->out, e->local_magic ? e->local_magic : 0x04034b50);
	u16(&b->out, 0);
	u16(&b->out, stored || e->hole_bytes ? 0x0808 : 0x0800);
	u16(&b->out, e->deflate ? 8 : 0);
	for (int i = 0; i < 8; i++)
		u16(&b->out, 0); /* time, date, crc, sizes: in the descriptor */
	u16(&b->out, name_len);
	u16(&b->out, extra);
	wf_buffer_append(&b->out, name, name_len);
	if (!e->unaligned && !e->local_extra) {
		wf_buffer_puts(&b->out, "FB");
		u16(&b->out, pad);
		for (size_t i = 0; i < pad; i++)
			wf_buffer_putc(&b->out, 'Z');
	}
	if (e->hole_bytes) {
		flush(b);
		b->out_offset += e->hole_bytes;
	} else {
		wf_buffer_append(&b->out, data, stored);
	}
	if (stored == 0 && e->hole_bytes == 0)
		return;
	u32(&b->out, 0x08074b50);
	u32(&b->out, crc);
	for (int i = 0; i < 2; i++) {
		uint64_t n = e->hole_bytes ? e->hole_bytes : i == 0 ? stored : e->len;
		if (zip64)
			u64(&b->out, n);
		else
			u32(&b->out, n);
	}
}

static void directory_part(struct zip_builder *b, const struct zip_entry *e, uint64_t stored, uint64_t size, bool zip64,
			   uint32_t crc)
{
	struct wf_buffer *d = &b->directory;
	size_t name_len = e->name_len ? e->name_len : strlen(e->name);
	uint64_t header = e->other_place ? e->header_offset : b->last_header;
	bool far = header >= UINT32_MAX;
	if (e->stored_bytes)
		stored = e->stored_bytes;
	if (e->size_bytes)
		size = e->size_bytes;
	zip64 |= stored >= UINT32_MAX || size >= UINT32_MAX;
	u32(d, 0x02014b50);
	u16(d, 0);
	u16(d, 0);
	u16(d, e->flags ? e->flags : 0x0808);
	u16(d, e->method ? e->method : e->deflate ? 8 : 0);
	u32(d, 0);
	u32(d, e->crc == UINT32_MAX ? 0 : e->crc ? e->crc : crc);
	u32(d, zip64 ? UINT32_MAX : stored);
	u32(d, zip64 ? UINT32_MAX : size);
	u16(d, name_len);
	u16(d, zip64 || far ? 4u + (zip64 ? 16 : 0) + (far ? 8 : 0) : 0);
	u16(d, 0);
	u16(d, e->disk);
	u16(d, 0);
	u32(d, 0);
	u32(d, far ? UINT32_MAX : header);
	wf_buffer_append(d, e->name, name_len);
	if (zip64 || far) {
		u16(d, 1);
		u16(d, (zip64 ? 16 : 0) + (far ? 8 : 0));
	}
	if (zip64) {
		u64(d, size);
		u64(d, stored);
	}
	if (far)
		u64(d, header);
	b->entries++;
}

void zb_add(struct zip_builder *b, const struct zip_entry *e)
{
	size_t stored = e->len;
	void *zeroes = e->data ? NULL : calloc(1, e->len + 1), *packed = NULL;
	const void *data = e->data ? e->data : zeroes;
	uint32_t crc = (uint32_t)crc32(0, data, (uInt)e->len);
	must(data != NULL, "calloc");
	if (e->deflate)
		data = packed = deflated(data, e->len, &stored);
	bool zip64 = e->zip64 || e->hole_bytes >= UINT32_MAX;
	if (!e->directory_only) {
		b->last_header = position(b);
		local_part(b, e, data, stored, zip64, crc);
	}
	directory_part(b, e, e->hole_bytes ? e->hole_bytes : stored, e->hole_bytes ? e->hole_bytes : e->len, zip64,
		       crc);
	free(zeroes);
	free(packed);
}

void zb_add_text(struct zip_builder *b, const char *name, const char *text)
{
	const struct zip_entry e = {.name = name, .data = text, .len = strlen(text)};
	zb_add(b, &e);
}

void zb_add_minimum(struct zip_builder *b)
{
	zb_add_text(b, "a/data.pkl", "\x80\x02}.");
	zb_add_text(b, "a/version", "3\n");
}

void zb_finish(struct zip_builder *b, const struct zip_end *given)
{
	const struct zip_end end = given ? *given : (struct zip_end){0};
	uint64_t offset = end.directory_offset ? end.directory_offset : position(b);
	uint64_t size = end.directory_bytes ? end.directory_bytes : b->directory.len;
	uint64_t entries = end.entries ? end.entries : b->entries;
	uint64_t here = end.entries_here ? end.entries_here : entries;
	must(wf_buffer_status(&b->directory) == 0, "memory");
	wf_buffer_append(&b->out, b->directory.data, b->directory.len);
	uint64_t end64 = position(b);
	if (!end.classic) {
		u32(&b->out, 0x06064b50);
		u64(&b->out, 44);
		u16(&b->out, 0x031e);
		u16(&b->out, 45);
		u32(&b->out, end.disk);
		u32(&b->out, end.disk);
		u64(&b->out, here);
		u64(&b->out, entries);
		u64(&b->out, size);
		u64(&b->out, offset);
		u32(&b->out, 0x07064b50);
		u32(&b->out, 0);
		u64(&b->out, end.end64_offset ? end.end64_offset : end64);
		u32(&b->out, 1);
	}
	u32(&b->out, 0x06054b50);
	u16(&b->out, end.disk);
	u16(&b->out, end.disk);
	u16(&b->out, here > UINT16_MAX ? UINT16_MAX : here);
	u16(&b->out, entries > UINT16_MAX ? UINT16_MAX : entries);
	u32(&b->out, size > UINT32_MAX ? UINT32_MAX : size);
	u32(&b->out, offset > UINT32_MAX ? UINT32_MAX : offset);
	u16(&b->out, end.comment ? strlen(end.comment) : 0);
	if (end.comment)
		wf_buffer_puts(&b->out, end.comment);
	for (size_t i = 0; i < end.trailing_bytes; i++)
		wf_buffer_putc(&b->out, '\n');
	must(wf_buffer_status(&b->out) == 0, "memory");
	wf_buffer_free(&b->directory);
	b->directory = (struct wf_buffer)WF_BUFFER_INIT;
}

struct wf_source *zb_source(struct zip_builder *b)
{
	struct wf_source *s = NULL;
	if (b->fd >= 0) {
		flush(b);
		must(wf_source_from_fd(b->fd, &s, NULL) == 0, "wf_source_from_fd");
		b->fd = -1;
	} else {
		size_t len = b->out.len;
		must(wf_source_from_memory(wf_buffer_steal(&b->out), len, true, &s) == 0, "wf_source_from_memory");
	}
	*b = (struct zip_builder)ZIP_BUILDER_INIT;
	return s;
}
