/* SPDX-License-Identifier: MIT */
/* The opcodes of a `.metadata`: a stack machine as pickle/read.c has one, whose values are numbers.
 *
 * A checkpoint of 100,000 tensors on 64 ranks has half a thousand million opcodes here. What each of them would check for itself is seen to
 * once for a window of bytes: no opcode puts more than one value on the stack, or into the memo, and none but a long string has more
 * bytes than the margin behind the last one in the window.
 */
#include "codec/directory/dcp_stream.h"

#include <errno.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_stream_inner.h"
#include "codec/pickle/opcodes.h"

/* ---- the machine ---- */

static inline const unsigned char *read_int(const unsigned char *p, uint8_t op, uint64_t *ret)
{
	*ret = op == OP_BININT1 ? *p : op == OP_BININT2 ? wf_le16(p) : wf_le32(p);
	return p + (op == OP_BININT1 ? 1 : op == OP_BININT2 ? 2 : 4);
}

/* A value from the memo; where it is a class, also the objects that mostly follow. */
static inline stream_value *run_get(struct dcp_stream *s, stream_value *sp, uint32_t index, struct stream_place *at)
{
	*sp = stream_get(&s->memo, index);
	if (stream_kind(*sp) == S_GLOBAL)
		return stream_shaped(s, sp, at);
	return *sp ? sp + 1 : stream_end(s, STREAM_NOT_KNOWN);
}

/* The stack's end behind STOP, or NULL. */
static stream_value *run(struct dcp_stream *s)
{
	struct stream_place at = {.p = s->window, .safe = s->window};
	const unsigned char *p = at.p;
	stream_value *sp = s->floor;
	uint64_t number;
	while (sp) {
		if (__builtin_expect(p >= at.safe, 0)) {
			at.p = p;
			if (!stream_fill_window(s, &at, sp))
				return NULL;
			p = at.p;
		}
		uint8_t op = *p++;
		switch (op) {
		case OP_MEMOIZE:
			if (__builtin_expect(sp == s->floor, 0))
				return stream_end(s, STREAM_NOT_KNOWN);
			stream_put(&s->memo, sp[-1]);
			break;
		case OP_BINGET:
			at.p = p + 1;
			sp = run_get(s, sp, *p, &at);
			p = at.p;
			break;
		case OP_LONG_BINGET:
			at.p = p + 4;
			sp = run_get(s, sp, wf_le32(p), &at);
			p = at.p;
			break;
		case OP_BININT1:
		case OP_BININT2:
		case OP_BININT:
			p = read_int(p, op, &number);
			*sp++ = stream_make(number > INT32_MAX ? S_SCALAR : S_INT, number);
			break;
		case OP_SHORT_BINUNICODE:
			sp = stream_push_text(s, sp, p + 1, *p);
			p += 1 + *p;
			break;
		case OP_SETITEMS:
			sp = stream_fill(s, sp, op);
			break;
		case OP_BUILD:
			sp = stream_call(s, sp, op);
			break;
		case OP_STOP:
			return p <= s->window + s->window_len ? sp : stream_end(s, STREAM_NOT_KNOWN);
		default:
			at.p = p;
			sp = stream_run_other(s, sp, op, &at);
			p = at.p;
		}
	}
	return NULL;
}

static int read_all(struct dcp_stream *s)
{
	s->window = malloc(STREAM_WINDOW_BYTES + STREAM_MARGIN_BYTES);
	s->stack = malloc(STREAM_STACK_ROOM * sizeof *s->stack);
	s->indices = malloc(STREAM_BATCH * sizeof *s->indices);
	s->infos = malloc(STREAM_BATCH * sizeof *s->infos);
	if (!s->window || !s->stack || !s->indices || !s->infos)
		return dcp_fill_no_memory(&s->fill);
	for (uint32_t i = 0; i < STREAM_BATCH; i++)
		s->indices[i].number = s->infos[i].number = UINT64_MAX;
	s->stack[0] = stream_make(S_MARK, 0);
	s->floor = s->stack + 1;
	int r = stream_begin_texts(s);
	if (r != 0)
		return r;
	const stream_value *sp = run(s);
	if (!sp)
		return s->code;
	if (s->floor != s->stack + 1 || sp != s->floor + 1 || stream_kind(sp[-1]) != S_METADATA || !s->built)
		return STREAM_NOT_KNOWN;
	return dcp_fill_rest(&s->fill);
}

static void free_stream(struct dcp_stream *s)
{
	dcp_fill_free(&s->fill);
	wf_buffer_free(&s->bytes);
	wf_map_free(&s->text_index);
	free(s->window);
	free(s->stack);
	stream_free_memo(&s->memo);
	free(s->texts);
	free(s->globals);
	free(s->tuples);
	free(s->tensors);
	free(s->properties);
	free(s->indices);
	free(s->infos);
	free(s->entries);
	free(s->places);
}

int wf_dcp_metadata_stream(struct wf_dcp_metadata *m, struct wf_source *file, const char *folder, struct wf_error *err)
{
	uint64_t size = wf_source_size(file);
	if (size > WF_DCP_MAX_METADATA_BYTES)
		return wf_fail(err, -E2BIG, "the metadata has more than %llu bytes", WF_DCP_MAX_METADATA_BYTES);
	struct dcp_stream s = {
		.fill = {.m = m, .folder = folder, .first_entry = m->entry_count, .err = err},
		.file = file,
		.size = size,
		/* what torch writes takes at most about its bytes */
		.limit = WF_MIN((64ull << 20) + 2 * size, DCP_STREAM_MAX_MEMORY),
		.first_chunk = m->chunk_count,
		.memo = {.tables = m},
	};
	int r = read_all(&s);
	free_stream(&s);
	return r;
}

int wf_dcp_metadata_load(struct wf_dcp_metadata *m, struct wf_source *file, struct wf_error *err)
{
	int r = wf_dcp_metadata_stream(m, file, "", err);
	if (r != STREAM_NOT_KNOWN)
		return r;
	wf_dcp_metadata_free(m);
	return wf_dcp_metadata_read(m, file, "", err);
}
