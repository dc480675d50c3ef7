/* SPDX-License-Identifier: MIT */
/* Single opcodes, for a pickle that is copied but for them. */
#include <errno.h>

#include "codec/pickle/emit.h"
#include "codec/bytes/util.h"

static bool pushes_string(uint8_t op)
{
	switch (op) {
	case OP_STRING:
	case OP_BINSTRING:
	case OP_SHORT_BINSTRING:
	case OP_UNICODE:
	case OP_BINUNICODE:
	case OP_SHORT_BINUNICODE:
	case OP_BINUNICODE8:
	case OP_BINBYTES:
	case OP_SHORT_BINBYTES:
	case OP_BINBYTES8:
	case OP_BYTEARRAY8:
		return true;
	default:
		return false;
	}
}

int wf_pickle_write_bytes_as(const struct wf_graph *g, wf_ref bytes, uint8_t op, const struct wf_pickle_writer *writer,
			     struct wf_error *err)
{
	cleanup_free unsigned char *buf = malloc(PICKLE_OUT_BYTES);
	struct pickle_out o = {.g = g, .hooks = writer, .err = err, .buf = buf};

	if (!buf)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (!pushes_string(op))
		return wf_fail(err, -EINVAL, "0x%02x is no opcode of a string", op);
	wf_emit_bytes_as(&o, op, bytes);
	return wf_emit_flush(&o);
}

void wf_pickle_frame(unsigned char ret[WF_PICKLE_FRAME_BYTES], uint64_t bytes)
{
	ret[0] = OP_FRAME;
	memcpy(ret + 1, &bytes, sizeof bytes);
}
