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

/* ---- opcodes that always come together ---- */

static inline bool is_int(uint8_t op)
{
	return op == OP_BININT1 || op == OP_BININT2 || op == OP_BININT;
}

static inline const unsigned char *read_int(const unsigned char *p, uint8_t op, uint64_t *ret)
{
	*ret = op == OP_BININT1 ? *p : op == OP_BININT2 ? wf_le16(p) : wf_le32(p);
	return p + (op == OP_BININT1 ? 1 : op == OP_BININT2 ? 2 : 4);
}

#define MAX_TOGETHER 8u

/* Behind the class torch.Size: its numbers, and the call. Behind these, or p: they are something else. */
static const unsigned char *run_size(struct dcp_stream *s, const unsigned char *p, stream_value *ret)
{
	static const unsigned char call[] = {OP_MEMOIZE, OP_TUPLE1, OP_MEMOIZE, OP_REDUCE, OP_MEMOIZE};
	const unsigned char *q = p + (*p == OP_MARK);
	uint64_t numbers[MAX_TOGETHER];
	uint32_t n = 0;
	while (n < MAX_TOGETHER && is_int(*q)) {
		q = read_int(q + 1, *q, &numbers[n]);
		if (numbers[n++] > INT32_MAX)
			return p;
	}
	if (n == 0 || *q != (*p == OP_MARK ? OP_TUPLE : OP_TUPLE1 + n - 1) || (*p != OP_MARK && n > 3) ||
	    memcmp(q + 1, call, sizeof call) != 0)
		return p;
	s->code = stream_numbers(s, numbers, n, S_SIZE, ret);
	if (s->code != 0)
		return NULL;
	stream_put(&s->memo, stream_make(S_NUMBERS, 0));
	stream_put(&s->memo, stream_make(S_ONE_NUMBERS, 0));
	stream_put(&s->memo, *ret);
	return q + 1 + sizeof call;
}

/* Behind a class: an object of it, and the mapping that its state begins with. */
static stream_value *run_new(struct dcp_stream *s, stream_value *sp, const unsigned char **p)
{
	static const unsigned char new[] = {OP_EMPTY_TUPLE, OP_NEWOBJ, OP_MEMOIZE, OP_EMPTY_DICT, OP_MEMOIZE, OP_MARK};
	if (memcmp(*p, new, sizeof new) != 0)
		return sp;
	int r = stream_new(s, sp[-1], stream_make(S_NO_TUPLE, 0), sp - 1);
	if (r != 0)
		return stream_end(s, r);
	*sp = stream_make(S_NO_DICT, 0);
	stream_put(&s->memo, sp[-1]);
	stream_put(&s->memo, sp[0]);
	*p += sizeof new;
	return stream_push_mark(s, sp + 1);
}

/* A value from the memo; where it is a class, also what follows it mostly. */
static inline stream_value *run_get(struct dcp_stream *s, stream_value *sp, uint32_t index, const unsigned char **p)
{
	*sp = stream_get(&s->memo, index);
	if (stream_kind(*sp) != S_GLOBAL)
		return *sp ? sp + 1 : stream_end(s, STREAM_NOT_KNOWN);
	if (s->globals[stream_number(*sp)].is == G_SIZE) {
		*p = run_size(s, *p, sp);
		return *p ? sp + 1 : NULL;
	}
	return run_new(s, sp + 1, p);
}

/* ---- the machine ---- */

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
			p++;
			sp = run_get(s, sp, p[-1], &p);
			break;
		case OP_LONG_BINGET:
			p += 4;
			sp = run_get(s, sp, wf_le32(p - 4), &p);
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
