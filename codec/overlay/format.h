/* SPDX-License-Identifier: MIT */
/* The words of CHECKPOINT.weightfs/: every number and every word that stands in its files (contrib/docs/overlay-format.md).
 *
 * APPEND ONLY. Programs of yesterday wrote these, and programs of tomorrow will read them: a number keeps its meaning for ever,
 * and what is new takes a number that nothing had before. tests/unit/test-overlay-format.c holds each of them against a table
 * of its own, and replays a log that tests/overlay/generate.py wrote without this header.
 *
 * A new record, or a new meaning of what follows one, raises WF_LOG_VERSION; a new field of the mark raises WF_MARK_VERSION. A
 * program refuses a version that it does not know, with a line that names both. In every version the magic stands at byte 0, the
 * version at byte 16, and the last four bytes of a mark are the CRC-32 of all before them, so that it can.
 *
 * The dtypes in records (SETTLE) are the numbers of enum wf_dtype, which codec/object/dtype.h fixes.
 *
 * All numbers are little endian.
 */
#pragma once

/* ---- log: the header ----
 *
 *    0  16  "weightfs edits\r\n"
 *   16   4  version of this layout and of what records mean
 *   20   4  length of the header (96)
 *   24  44  the base: what it was made on (below)
 *   68   4  version of the rule that turns keys into names
 *   72   4  1: the next field is known; version 1: 0
 *   76   4  CRC-32 of the base's content
 *   80  12  zero
 *   92   4  CRC-32 of bytes 0 to 91
 */
#define WF_LOG_MAGIC "weightfs edits\r\n" /* without a zero at its end */
#define WF_LOG_VERSION 3u
#define WF_LOG_VERSION_OLDEST 1u /* that is read */
#define WF_NAMES_VERSION 1u

enum {
	WF_LOG_AT_VERSION = 16,
	WF_LOG_AT_LENGTH = 20,
	WF_LOG_AT_BASE = 24,
	WF_LOG_AT_NAMES = 68,
	WF_LOG_AT_HAS_CONTENT = 72,
	WF_LOG_AT_CONTENT = 76,
	WF_LOG_AT_CRC = 92,
	WF_LOG_HEADER_BYTES = 96,
};

/* ---- log: a record ----
 *
 *    0   4  length of the payload
 *    4   4  CRC-32 of what follows: bytes 8 to the end of the payload
 *    8   8  sequence: 1, 2, ...
 *   16   1  type
 *   17   1  flags
 *   18   2  zero
 *   20      payload
 */
enum {
	WF_RECORD_AT_LENGTH = 0,
	WF_RECORD_AT_CRC = 4,
	WF_RECORD_AT_SEQUENCE = 8,
	WF_RECORD_AT_TYPE = 16,
	WF_RECORD_AT_FLAGS = 17,
	WF_RECORD_HEADER_BYTES = 20,
};

#define WF_RECORD_PENDING 1u            /* flag: a commit would write this edit */
#define WF_RECORD_MAX_BYTES (96u << 20) /* of a payload */

/* Types. What each means, and its payload, is a row of WF_EDIT_RECORDS in codec/edit/record_inner.h. */
enum wf_edit_record {
	EDIT_RENAME = 1, /* its flags are those of renameat2: 1 no replace, 2 exchange; so are HEIR's */
	EDIT_UNLINK = 2,
	EDIT_RMDIR = 3,
	EDIT_MKDIR = 4,
	EDIT_CREATE = 5,
	EDIT_LINK = 6,
	EDIT_SYMLINK = 7,
	EDIT_BIND = 8,
	EDIT_WRITE = 9,
	EDIT_RESIZE = 10,
	EDIT_HOLD = 11,
	EDIT_SETTLE = 12,
	EDIT_VALUE = 13, /* no longer written */
	EDIT_ATTRIBUTE = 14,
	EDIT_COMPACT = 15,
	EDIT_SCRATCH = 16,
	EDIT_PIECE = 17,
	EDIT_OBJECT = 18,
	EDIT_SET = 19,
	EDIT_DECLARE = 20,
	EDIT_HEIR = 21,
	EDIT_SYMLINK_TO = 22,
	EDIT_KNOWN = 23, /* since version 3 */
	EDIT_TOUCH = 40,
	/* 41 is WF_RECORD_FAILURE */
};

/* The one type that is the overlay's own: why a commit failed. i64 seconds since 1970, then the text. */
#define WF_RECORD_FAILURE 41u

/* Flags of HOLD. */
enum wf_hold {
	HOLD_IN_PLACE = 1, /* the data file is the tensor's own: it can only have grown */
	HOLD_FIRST = 2,    /* what stands now is the old state that a failure brings back */
	HOLD_SIZED = 4,    /* nobody has it open: a size was set, and is judged when nobody writes for a while */
};

/* What became of pending content: the second field of SETTLE. */
enum wf_settle {
	SETTLE_SWITCH = 0,     /* the data file becomes the tensor's storage */
	SETTLE_WRITE_BACK = 1, /* no longer written; as 2 */
	SETTLE_ABANDON = 2,    /* the content is given up */
	SETTLE_RESTORE = 3,    /* the old object comes back */
};

/* The second field of SET. */
enum wf_set {
	SET_PLACE = 1, /* it takes the place that its name remembers */
	SET_FIRST = 2, /* as HOLD_FIRST; since version 3 */
	SET_BACK = 4,  /* the old object comes back, and pending content is not it; since version 3 */
};

/* What is known of a file beside its object, its content and its name: the second field of KNOWN. */
enum wf_known {
	KNOWN_NEW = 1,        /* made since the last commit */
	KNOWN_JUDGED = 2,     /* of a new one: its content was judged */
	KNOWN_STANDS_IN = 4,  /* it shows the object of a backup until its own content fits */
	KNOWN_DECLARED = 8,   /* attributes that were declared count; without this they are of earlier content */
	KNOWN_CAME_TRUE = 16, /* the content has been what they declare */
	KNOWN_FIRST = 32,     /* as HOLD_FIRST */
};

/* In place of "storage" in the storage ids of the pickles of SET and OBJECT. */
#define WF_RECORD_ID "record"       /* a record of the base, by its index */
#define WF_DATA_FILE_ID "data file" /* data/N, by its number */
#define WF_NO_NUMBER 4294967295u    /* in place of N: the bytes could not be kept */

/* ---- data/N ---- N is decimal; the file has the bytes of a storage at their own offsets, and nothing else. */
#define WF_DATA_FILES_MAX (1u << 22) /* N is below it: a directory cannot ask for a larger table */

/* ---- commit: the mark ----
 *
 *    0  16  "weightfs commit\n"
 *   16   4  version
 *   20   4  kind
 *   24  44  REPLACE: the file to be; APPEND, IN_PLACE: the base
 *   68   4  CRC-32 of its content; version 1: zero, and not known
 *   72   4  CRC-32 of bytes 0 to 71
 */
/* files: 16 bytes of magic, names with their NULs, u32 CRC-32 of all before it */
#define WF_NOTED_MAGIC "weightfs files\r\n"
#define WF_NOTED_MAX_BYTES (64u << 20)
#define WF_MARK_MAGIC "weightfs commit\n" /* without a zero at its end */
#define WF_MARK_VERSION 2u
#define WF_MARK_VERSION_OLDEST 1u /* that is read, and written where the content is not known */

enum {
	WF_MARK_AT_VERSION = 16,
	WF_MARK_AT_KIND = 20,
	WF_MARK_AT_BASE = 24,
	WF_MARK_AT_CONTENT = 68,
	WF_MARK_AT_CRC = 72,
	WF_MARK_BYTES = 76,
};

enum wf_mark_kind {
	MARK_REPLACE = 0,
	MARK_APPEND = 1,
	MARK_IN_PLACE = 2, /* as APPEND, and `undo` has what stood where bytes of the base changed */
};

/* ---- undo: what a commit in place takes from the base ----
 *
 *    0  16  "weightfs undoing"
 *   16   4  version
 *   20   4  pieces
 *   24   8  bytes inserted at the start of the file, after everything behind its end was written
 *   32   8  size of the file before they are inserted
 *   40   8  size of the file at the end of the commit, less the inserted bytes
 *   48   8  length of the new head; 0: it stays as it is
 *   56   4  CRC-32 of the new head
 *   60   4  CRC-32 of bytes 0 to 59, then of the table
 *   64      the table: u64 offset in the base, u64 length of each piece, ascending and apart
 *           the bytes of the pieces
 *        4  CRC-32 of those
 */
#define WF_UNDO_MAGIC "weightfs undoing" /* without a zero at its end */
#define WF_UNDO_VERSION 1u
#define WF_UNDO_PIECES_MAX (1u << 20)
#define WF_UNDO_PIECE_BYTES 16u

enum {
	WF_UNDO_AT_VERSION = 16,
	WF_UNDO_AT_COUNT = 20,
	WF_UNDO_AT_INSERTED = 24,
	WF_UNDO_AT_GROWN = 32,
	WF_UNDO_AT_FINAL = 40,
	WF_UNDO_AT_HEAD_LENGTH = 48,
	WF_UNDO_AT_HEAD_CRC = 56,
	WF_UNDO_AT_CRC = 60,
	WF_UNDO_HEADER_BYTES = 64,
};

/* ---- a file, in the header and in the mark ----
 *
 *    0   8  device                  24   8  mtime, seconds
 *    8   8  inode                   32   8  mtime, nanoseconds
 *   16   8  size in bytes           40   4  CRC-32 of its edges
 */
#define WF_BASE_BYTES 44u

/* Both magics are as long. */
#define WF_MAGIC_BYTES 16u
