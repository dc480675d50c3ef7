/* SPDX-License-Identifier: MIT */
/* Writes a pickle out of ranges of others (dcp_ranges.h): opcodes are copied, indices of the memo counted anew. What a range takes from the memo
 * and the new pickle does not have yet is written there and then, out of the range that made it: the value is the same, only not one object with
 * what comes later. Frames are made anew.
 *
 * Calling sequence: dcp_replay_begin; values, opcodes; dcp_replay_end, also where the first one failed. Functions return 0 or a negative errno with the error filled in: -E2BIG
 * the pickle is larger than metadata are. Threads: one owner.
 */
#pragma once

#include "codec/bytes/buffer.h"
#include "codec/directory/dcp_ranges.h"

struct dcp_replay_level;

struct dcp_replay {
	int (*write)(void *ctx, const void *data, size_t len);
	void *ctx;
	struct wf_error *err;
	uint8_t protocol;
	struct wf_buffer frame; /* that is being filled */
	uint64_t written;
	uint32_t memo; /* indices given so far */
	struct dcp_replay_level *levels;
	uint32_t depth, room;
	bool tracked;   /* what it makes in the old file's memo is undone: the file is going to be replayed again */
	uint32_t *made; /* defs */
	uint32_t made_count, made_room;
};

int dcp_replay_begin(struct dcp_replay *p, uint8_t protocol, int (*write)(void *ctx, const void *data, size_t len),
		     void *ctx, bool tracked, struct wf_error *err);
/* Writes what is left, and frees all; also after an error, `code`, which is returned. r: whose values it made, where tracked. */
int dcp_replay_end(struct dcp_replay *p, struct dcp_ranges *r, int code);

/* Opcodes of these bytes, one or several whole ones. */
int dcp_replay_bytes(struct dcp_replay *p, const void *bytes, size_t len);
/* Gives the value on the stack an index in the memo. */
int dcp_replay_put(struct dcp_replay *p, uint32_t *ret);
int dcp_replay_get(struct dcp_replay *p, uint32_t index);
int dcp_replay_text(struct dcp_replay *p, const char *text, size_t len);
int dcp_replay_int(struct dcp_replay *p, uint64_t number);
/* A value of the old file is the one under this index from now on. */
int dcp_replay_note(struct dcp_replay *p, struct dcp_ranges *r, struct dcp_def *def, uint32_t index);
/* A range; *memo: PUTs of its file before it, and afterwards those before what follows it. Values that go on behind the range are noted only
 * where it is `open`: the rest of them is written otherwise. */
int dcp_replay_range(struct dcp_replay *p, struct dcp_ranges *r, uint64_t from, uint64_t to, bool open, uint32_t *memo);
/* Passes over a range. */
int dcp_replay_skip(struct dcp_replay *p, struct dcp_ranges *r, uint64_t from, uint64_t to, uint32_t *memo);
