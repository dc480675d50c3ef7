/* SPDX-License-Identifier: MIT */
/* A checkpoint with what stands in its overlay, as one input: parts of u8 kind, u32 number, u32 length (little endian) and bytes.
 * The first byte of the input says how it is to be used. */
#pragma once

enum overlay_part { PART_CHECKPOINT, PART_LOG, PART_COMMIT, PART_DATA, PART_UNDO };

#define PART_HEADER_BYTES 9u

/* Flags of the first byte. */
#define FIX_LOG 1u    /* checksums, sequence and base of the log are made right again, so that records are looked at */
#define FIX_COMMIT 2u /* the same of the mark of a commit */
#define WRITABLE 4u   /* opened by a writer, who repairs and commits */
#define FIX_UNDO 16u  /* and those of what a commit in place saves */
#define ONTO 8u       /* committed as edits that were made on another file */
