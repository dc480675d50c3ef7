/* SPDX-License-Identifier: MIT */
/* The opcodes of a `.metadata` one after the other, from any place in the file on: what each one is, and where it ends. It knows those that
 * picklers of protocol 2 and later write, and runs none. Nothing but the parts of the writer of large metadata uses it.
 *
 * Calling sequence: dcp_cursor_open; dcp_cursor_seek and dcp_cursor_next as often as wanted; dcp_cursor_close. Functions return 0, a negative
 * errno of the source, or DCP_NOT_KNOWN. Threads: one owner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/source.h"

#define DCP_NOT_KNOWN 1 /* an opcode of another kind, or the file is cut short */

struct dcp_opcode {
	uint8_t op;
	uint64_t at, end;           /* in the file */
	uint64_t number;            /* the index of a GET or PUT; of what has a length that length */
	const unsigned char *bytes; /* all of it, valid until the next call; NULL: it is longer than the window */
	size_t text;                /* where its text begins in bytes */
};

struct dcp_cursor {
	struct wf_source *file; /* borrowed */
	unsigned char *window;
	uint64_t size, window_at, at; /* of the file; where the window begins, and the next opcode */
	size_t have, step;            /* bytes in the window; how many the next read asks for */
};

int dcp_cursor_open(struct dcp_cursor *c, struct wf_source *file);
void dcp_cursor_close(struct dcp_cursor *c); /* accepts an all-zero one */
/* at: where an opcode begins. */
void dcp_cursor_seek(struct dcp_cursor *c, uint64_t at);
int dcp_cursor_next(struct dcp_cursor *c, struct dcp_opcode *ret);
/* Bytes of the file, wherever the cursor is; in the window they cost nothing. */
int dcp_cursor_read(struct dcp_cursor *c, uint64_t at, void *buf, size_t len);

static inline bool dcp_is_get(uint8_t op)
{
	return op == 'h' || op == 'j';
}

/* MEMOIZE has no number: it is how many PUTs went before. */
static inline bool dcp_is_put(uint8_t op)
{
	return op == 0x94 || op == 'q' || op == 'r';
}

static inline bool dcp_is_text(uint8_t op)
{
	return op == 'X' || op == 0x8c || op == 0x8d;
}
