/* SPDX-License-Identifier: MIT */
/* Copies opcodes into frames. A value that is needed and not there yet is a range above the one at hand. */
#include "codec/directory/dcp_replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_metadata.h"
#include "codec/pickle/opcodes.h"

#define FRAME_BYTES ((size_t)64 << 10) /* as those of CPython */
#define FRAME_LEAST 4u
#define MAX_DEPTH 10000u /* values that are needed for values */

/* A range that is under way; above it one of a value that it needs. */
struct dcp_replay_level {
	uint64_t from, at, to;
	uint32_t memo;
	bool open;
};

static int no_memory(const struct dcp_replay *p)
{
	return wf_fail(p->err, -ENOMEM, "out of memory");
}

static int spoiled(const struct dcp_replay *p, int code)
{
	return code < 0 ? wf_fail(p->err, code, "cannot read the metadata: %s", strerror(-code))
			: wf_fail(p->err, -EUCLEAN, "the metadata are not what they were when they were read");
}

/* ---- the new file ---- */

static int write_out(struct dcp_replay *p, const void *bytes, size_t len)
{
	p->written += len;
	if (p->written >= WF_DCP_MAX_METADATA_BYTES)
		return wf_fail(p->err, -E2BIG, "the new metadata have more than %llu bytes", WF_DCP_MAX_METADATA_BYTES);
	int r = len > 0 ? p->write(p->ctx, bytes, len) : 0;
	return r < 0 ? wf_fail(p->err, r, "cannot write the metadata: %s", strerror(-r)) : 0;
}

int dcp_replay_begin(struct dcp_replay *p, uint8_t protocol, int (*write)(void *ctx, const void *data, size_t len),
		     void *ctx, bool tracked, struct wf_error *err)
{
	*p = (struct dcp_replay){.write = write,
				 .ctx = ctx,
				 .protocol = protocol,
				 .tracked = tracked,
				 .frame = WF_BUFFER_INIT,
				 .err = err};
	return write_out(p, (const unsigned char[]){OP_PROTO, protocol}, 2);
}

static int end_frame(struct dcp_replay *p)
{
	unsigned char head[9] = {OP_FRAME};
	uint64_t len = p->frame.len;
	if (wf_buffer_status(&p->frame) < 0)
		return no_memory(p);
	for (int i = 0; i < 8; i++)
		head[1 + i] = (unsigned char)(len >> 8 * i);
	int r = p->protocol >= 4 && len >= FRAME_LEAST ? write_out(p, head, sizeof head) : 0;
	if (r == 0)
		r = write_out(p, p->frame.data, p->frame.len);
	p->frame.len = 0;
	return r;
}

int dcp_replay_bytes(struct dcp_replay *p, const void *bytes, size_t len)
{
	int r = p->frame.len >= FRAME_BYTES ? end_frame(p) : 0;
	wf_buffer_append(&p->frame, bytes, len);
	return r;
}

int dcp_replay_end(struct dcp_replay *p, struct dcp_ranges *r, int code)
{
	if (code == 0)
		code = end_frame(p);
	for (uint32_t i = 0; i < p->made_count; i++)
		r->defs[p->made[i]].made = 0;
	wf_buffer_free(&p->frame);
	free(p->levels);
	free(p->made);
	return code;
}

/* ---- values ---- */

static int put_number(struct dcp_replay *p, uint8_t op, uint64_t number, uint8_t width)
{
	unsigned char bytes[9] = {op};
	for (uint8_t i = 0; i < width; i++)
		bytes[1 + i] = (unsigned char)(number >> 8 * i);
	return dcp_replay_bytes(p, bytes, 1 + (size_t)width);
}

int dcp_replay_put(struct dcp_replay *p, uint32_t *ret)
{
	uint32_t index = p->memo++;
	*ret = index;
	if (p->protocol >= 4)
		return put_number(p, OP_MEMOIZE, 0, 0);
	return index < 256 ? put_number(p, OP_BINPUT, index, 1) : put_number(p, OP_LONG_BINPUT, index, 4);
}

int dcp_replay_get(struct dcp_replay *p, uint32_t index)
{
	return index < 256 ? put_number(p, OP_BINGET, index, 1) : put_number(p, OP_LONG_BINGET, index, 4);
}

int dcp_replay_text(struct dcp_replay *p, const char *text, size_t len)
{
	bool is_short = p->protocol >= 4 && len < 256;
	if (len > UINT32_MAX)
		return wf_fail(p->err, -E2BIG, "a name has more than %u bytes", UINT32_MAX);
	int r = put_number(p, is_short ? OP_SHORT_BINUNICODE : OP_BINUNICODE, len, is_short ? 1 : 4);
	wf_buffer_append(&p->frame, text, len);
	return r;
}

int dcp_replay_int(struct dcp_replay *p, uint64_t number)
{
	unsigned char bytes[11] = {OP_LONG1, 0};
	if (number < 256)
		return put_number(p, OP_BININT1, number, 1);
	if (number < 65536)
		return put_number(p, OP_BININT2, number, 2);
	if (number <= INT32_MAX)
		return put_number(p, OP_BININT, number, 4);
	do {
		bytes[2 + bytes[1]++] = (unsigned char)number;
		number >>= 8;
	} while (number > 0);
	if (bytes[1 + bytes[1]] & 0x80)
		bytes[1]++;
	return dcp_replay_bytes(p, bytes, 2 + (size_t)bytes[1]);
}

/* ---- ranges ---- */

int dcp_replay_note(struct dcp_replay *p, struct dcp_ranges *r, struct dcp_def *def, uint32_t index)
{
	def->made = index + 1;
	if (!p->tracked)
		return 0;
	if (wf_array_reserve(&p->made, &p->made_room, (uint64_t)p->made_count + 1, sizeof *p->made, UINT32_MAX - 1) < 0)
		return no_memory(p);
	p->made[p->made_count++] = (uint32_t)(def - r->defs);
	return 0;
}

static int go_in(struct dcp_replay *p, const struct dcp_replay_level *level)
{
	int r = wf_array_reserve(&p->levels, &p->room, (uint64_t)p->depth + 1, sizeof *p->levels, MAX_DEPTH);
	if (r < 0)
		return wf_fail(p->err, r,
			       r == -E2BIG ? "values of the metadata need each other too deeply" : "out of memory");
	p->levels[p->depth++] = *level;
	return 0;
}

/* A long text, which no frame takes. */
static int copy_long(struct dcp_replay *p, struct dcp_ranges *r, const struct dcp_opcode *o)
{
	unsigned char piece[4096];
	int code = end_frame(p);
	for (uint64_t at = o->at; at < o->end && code == 0; at += sizeof piece) {
		size_t n = (size_t)WF_MIN(o->end - at, (uint64_t)sizeof piece);
		code = dcp_cursor_read(&r->cursor, at, piece, n);
		code = code < 0 ? spoiled(p, code) : write_out(p, piece, n);
	}
	return code;
}

static int put_again(struct dcp_replay *p, struct dcp_ranges *r, struct dcp_replay_level *l, const struct dcp_opcode *o)
{
	struct dcp_def *def = dcp_ranges_def(r, o->op == OP_MEMOIZE ? l->memo : o->number);
	uint32_t index;
	l->memo++;
	int code = dcp_replay_put(p, &index);
	/* what goes on behind the range is another value there */
	if (code == 0 && def && def->start >= l->from && (l->open || def->end <= l->to))
		code = dcp_replay_note(p, r, def, index);
	return code;
}

static int get_again(struct dcp_replay *p, struct dcp_ranges *r, const struct dcp_opcode *o)
{
	const struct dcp_def *def = dcp_ranges_def(r, o->number);
	if (!def || def->end == 0)
		return spoiled(p, DCP_NOT_KNOWN);
	if (def->made > 0)
		return dcp_replay_get(p, def->made - 1);
	const struct dcp_replay_level level = {.from = def->start, .at = def->start, .to = def->end, .memo = def->memo};
	return go_in(p, &level);
}

static int copy_one(struct dcp_replay *p, struct dcp_ranges *r, struct dcp_replay_level *l)
{
	struct dcp_opcode o;
	dcp_cursor_seek(&r->cursor, l->at);
	int code = dcp_cursor_next(&r->cursor, &o);
	if (code != 0 || o.end > l->to || o.op == OP_STOP)
		return spoiled(p, code < 0 ? code : DCP_NOT_KNOWN);
	l->at = o.end;
	if (o.op == OP_FRAME || o.op == OP_PROTO)
		return 0;
	if (dcp_is_put(o.op))
		return put_again(p, r, l, &o);
	if (dcp_is_get(o.op))
		return get_again(p, r, &o); /* l is not valid any more */
	return o.bytes && o.end - o.at < FRAME_BYTES ? dcp_replay_bytes(p, o.bytes, (size_t)(o.end - o.at))
						     : copy_long(p, r, &o);
}

int dcp_replay_range(struct dcp_replay *p, struct dcp_ranges *r, uint64_t from, uint64_t to, bool open, uint32_t *memo)
{
	const struct dcp_replay_level level = {.from = from, .at = from, .to = to, .memo = *memo, .open = open};
	int code = go_in(p, &level);
	while (code == 0 && p->depth > 0) {
		struct dcp_replay_level *l = &p->levels[p->depth - 1];
		if (l->at < l->to) {
			code = copy_one(p, r, l);
			continue;
		}
		*memo = l->memo; /* the last one to end is the range's */
		p->depth--;
	}
	return code;
}

int dcp_replay_skip(struct dcp_replay *p, struct dcp_ranges *r, uint64_t from, uint64_t to, uint32_t *memo)
{
	struct dcp_opcode o;
	int code = 0;
	dcp_cursor_seek(&r->cursor, from);
	while (code == 0 && r->cursor.at < to) {
		code = dcp_cursor_next(&r->cursor, &o);
		if (code == 0)
			*memo += dcp_is_put(o.op);
	}
	return code != 0 ? spoiled(p, code) : 0;
}
