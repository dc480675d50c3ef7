/* SPDX-License-Identifier: MIT */
/* Zip images in memory or in a sparse file, for tests: as torch.save writes them, or wrong in one chosen way.
 * A failed allocation or write ends the test program. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/source.h"

struct zip_entry {
	const char *name;
	size_t name_len;  /* 0: strlen(name) */
	const void *data; /* NULL: zeroes */
	size_t len;
	uint64_t hole_bytes; /* instead of data: a hole of a sparse file */
	bool deflate;
	bool zip64;          /* sizes in a ZIP64 field though they would fit */
	bool directory_only; /* no local header and data */
	bool other_place;    /* the directory says header_offset */
	uint64_t header_offset;
	/* lies of the directory; 0: the truth */
	uint64_t stored_bytes, size_bytes;
	uint16_t flags, method, disk;
	uint32_t crc; /* UINT32_MAX: 0 */
	/* lies of the local header */
	const char *local_name;
	uint16_t local_extra; /* its length, without the bytes being there */
	uint32_t local_magic;
	bool unaligned; /* no FB field */
};

struct zip_builder {
	struct wf_buffer out; /* from out_offset on */
	uint64_t out_offset;
	int fd; /* a sparse file, when a hole was added */
	struct wf_buffer directory;
	uint64_t entries;
	uint64_t last_header; /* of the entry added last */
};

#define ZIP_BUILDER_INIT \
	{                \
		.fd = -1 \
	}

struct zip_end {
	bool classic; /* no ZIP64 records */
	const char *comment;
	size_t trailing_bytes;
	/* lies; 0: the truth */
	uint64_t entries, entries_here, directory_bytes, directory_offset, end64_offset;
	uint32_t disk;
};

void zb_add(struct zip_builder *b, const struct zip_entry *e);
/* The usual: a stored record. */
void zb_add_text(struct zip_builder *b, const char *name, const char *text);
/* a/data.pkl (the pickle of an empty dict) and a/version. */
void zb_add_minimum(struct zip_builder *b);
/* end may be NULL. The image stays in b->out (after out_offset). */
void zb_finish(struct zip_builder *b, const struct zip_end *end);
/* Hands the image on as a source; b is empty afterwards. */
struct wf_source *zb_source(struct zip_builder *b);
