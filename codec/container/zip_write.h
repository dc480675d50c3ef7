/* SPDX-License-Identifier: MIT */
/* Zip archives as torch writes them (miniz under caffe2/serialize/inline_container.cc; the bytes are drawn in
 * container/zip_write.c).
 *
 * Two uses: a whole archive, record by record; and a new directory behind records of which some stand in the file
 * already. Knows records, not what is in them. Calling sequence: wf_zip_writer_init; for each record wf_zip_begin, its
 * bytes through the same wf_out, wf_zip_end, or wf_zip_keep for one that stands; wf_zip_finish; wf_zip_writer_free.
 * Threads: one owner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/out.h"
#include "codec/container/zip_entry.h"

#define WF_ZIP_ALIGNMENT 64u /* torch's default for the start of a record's bytes */
#define WF_ZIP_END_BYTES (56u + 20u + 22u)

/* Where the parts of a record lie when its local header stands at header_offset. */
struct wf_zip_layout {
	uint64_t data; /* start of the bytes */
	uint64_t end;  /* after the descriptor: where the next header goes */
	uint16_t pad;  /* bytes of padding in the FB field */
	bool zip64;
};

struct wf_zip_writer {
	struct wf_out *out;
	uint32_t alignment;
	/* Of each entry what differs from the one before (container/zip_write.c), and that one: those of 100,000 records are alike. */
	struct wf_buffer directory, last;
	uint64_t directory_bytes; /* of all entries, whole */
	uint64_t entries;
	uint64_t origin; /* of the archive in the file; set by the caller where it is not the start */
	uint64_t id;     /* right half of .data/serialization_id over the records so far */
};

/* A stored record as torch writes it; flags follow from the size. */
void wf_zip_entry_init(struct wf_zip_entry *e, const char *name, size_t name_len, uint64_t size_bytes);

/* alignment: a power of two up to 32768. congruent: how data must lie modulo `block` (a power of two >= alignment), for
 * cloning; block 0 leaves that out, as torch does. */
void wf_zip_layout(const struct wf_zip_entry *e, uint64_t header_offset, uint32_t alignment, uint64_t block,
		   uint64_t congruent, struct wf_zip_layout *ret);

/* The local header with name and extra fields into buf, which holds WF_ZIP_HEADER_MAX bytes; returns its length. */
#define WF_ZIP_HEADER_MAX (30u + 65535u + 4u + 24u + 4u + 32768u)
size_t wf_zip_header(const struct wf_zip_entry *e, const struct wf_zip_layout *l, unsigned char *buf);

void wf_zip_writer_init(struct wf_zip_writer *w, struct wf_out *out, uint32_t alignment);
void wf_zip_writer_free(struct wf_zip_writer *w);

/* Writes the local header for exactly e->stored_bytes bytes that the caller writes next; sets e->header_offset. */
int wf_zip_begin(struct wf_zip_writer *w, struct wf_zip_entry *e, uint64_t block, uint64_t congruent);
/* Writes the descriptor (e->crc32 is known now) and enters it into the directory. */
int wf_zip_end(struct wf_zip_writer *w, const struct wf_zip_entry *e);
/* Enters a record that stands at e->header_offset already. */
int wf_zip_keep(struct wf_zip_writer *w, const struct wf_zip_entry *e);
/* Enters a directory entry as it was found (raw bytes), e parsed from it. */
int wf_zip_keep_raw(struct wf_zip_writer *w, const struct wf_zip_entry *e, const unsigned char *raw, size_t len);
/* Writes the directory and the end records. */
int wf_zip_finish(struct wf_zip_writer *w);

/* The right half of .data/serialization_id: one record more. */
uint64_t wf_zip_id_combine(uint64_t id, uint32_t crc32);
