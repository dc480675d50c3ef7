/* SPDX-License-Identifier: MIT */
/* One entry of a zip archive's directory, and the one parser of it. Says what stands there; what of that is allowed is
 * for its users to judge. No state; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/cursor.h"

#define WF_ZIP_ENTRY_BYTES 46u /* before its name */
#define WF_ZIP_FLAG_DESCRIPTOR 0x0008u
#define WF_ZIP_FLAG_UTF8 0x0800u

/* All-zero but for name, sizes and flags is what torch writes. */
struct wf_zip_entry {
	const char *name; /* with the prefix; not terminated; borrowed */
	uint16_t name_len;
	uint16_t made_by, needed, flags, method, time, date, internal;
	uint16_t disk;
	bool broken_zip64; /* a size or the offset does not fit 32 bits, and no field says it */
	uint32_t external;
	uint32_t crc32;
	uint64_t stored_bytes, size_bytes;
	uint64_t header_offset;
};

/* Reads the entry at the cursor, its comment included. The name is valid until the next call on the cursor. Returns 0;
 * -EUCLEAN there is none, or it is cut off; or the error of reading. */
int wf_zip_entry_read(struct wf_cursor *c, struct wf_zip_entry *ret);
/* The same for the one at p, of at most len bytes. Returns its length in bytes, or 0 when it is broken, the ZIP64 field
 * too. The name points into p. */
size_t wf_zip_entry_parse(struct wf_zip_entry *e, const unsigned char *p, size_t len);
