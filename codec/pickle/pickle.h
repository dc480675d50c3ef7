/* SPDX-License-Identifier: MIT */
/* Pickle opcodes <-> object graph. Nothing is ever imported or called.
 *
 * Source of the opcode facts: CPython's Lib/pickletools.py; of what torch accepts: torch/_weights_only_unpickler.py.
 *
 * Reader: protocols 0 to 5, every opcode except NEXT_BUFFER, READONLY_BUFFER and PERSID (refused with
 * -EOPNOTSUPP). Iterative; the stack, the memo and the marks are bounded by the bytes read and by the limits below.
 * Every error names the offset (in the source) of the opcode that broke a rule. Text lines of protocol 0 are limited to
 * 256 MiB, numbers to 128 KiB, names to 4 KiB. INST and OBJ become the nearest call, which knows that it was one.
 *
 * Writer: protocols 0 to 5. Of protocol 2 only what weights_only accepts, unless the graph holds what that cannot
 * express (strings of 4 GiB and more, NEWOBJ_EX, OBJ, Python 2 strings of 256 bytes and more, sets added to the result of
 * a call, and immutable objects that contain themselves). It memoises what CPython's pickler does, containers before they are filled and in batches
 * of 1000, so that a graph read from torch's own protocol-2 pickle is written back byte for byte. Iterative.
 *
 * Not every pickle can be written again from its graph: where a call was made only for what it does, or an object was
 * changed after another one had seen it, the order in which it all happened is lost. wf_pickle_faithful tells.
 *
 * Threads: none of its own; reading needs the graph exclusively, writing only reads it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/err.h"
#include "codec/object/object.h"
#include "codec/bytes/source.h"

#define WF_PICKLE_MAX_MEMO (1u << 27) /* entries; an index past it is refused before anything is allocated */
#define WF_PICKLE_MAX_OPCODES (1ull << 31)
#define WF_PICKLE_MAX_LONG (1u << 16) /* bytes of one int */

/* Where strings and frames stand in the source, in the order of the pickle. The caller's; freed with free(all). */
struct wf_pickle_place {
	uint64_t start, end; /* from the opcode on; to the end of the string, or of what the frame holds */
	wf_ref string;       /* WF_NIL: a frame */
	uint8_t op;
};
struct wf_pickle_places {
	struct wf_pickle_place *all;
	uint32_t count, capacity;
};

struct wf_pickle_reader {
	/* Called for BINPERSID with the id object; returns the object that stands for it (usually wf_persid(g, id)),
	 * or WF_NIL after filling *err. NULL: wf_persid is used. */
	wf_ref (*persid)(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err);
	void *ctx;
	struct wf_pickle_places *places; /* NULL, or gets them all */
	/* true: for ('storage', class, key, location, numel) with this key, persid() would do nothing but
	 * wf_persid(g, id), and need not be called: then a tensor takes half the memory. NULL: it is always called. */
	bool (*is_plain)(void *ctx, const char *key, size_t key_len);
};

/* Reads one pickle that starts at offset of source, at most to offset + len. Bytes after STOP are left alone.
 * *ret_root is its object, *ret_end the offset after STOP. A wf_graph may take several pickles. A graph without a source
 * gets this one; strings longer than WF_INLINE_MAX stay in it, and are copied when the graph has another source. Those
 * left in the source are not checked for UTF-8.
 * Returns: 0; -EUCLEAN broken; -EOPNOTSUPP refused opcode; -E2BIG limit; -ENOMEM; or the source's error. */
int wf_pickle_read(struct wf_graph *g, struct wf_source *source, uint64_t offset, uint64_t len,
		   const struct wf_pickle_reader *reader, wf_ref *ret_root, uint64_t *ret_end, struct wf_error *err);

struct wf_pickle_writer {
	/* Called for every PERSID object when it is written; returns the id object to write in place of its own
	 * (or its own), which may be made for it. NULL: the id is written as it is. */
	wf_ref (*persid)(void *ctx, wf_ref persid, wf_ref id);
	/* Takes the next bytes. Returns 0 or a negative errno, which ends the writing. */
	int (*write)(void *ctx, const void *data, size_t len);
	void *ctx;
	/* NULL, or makes the items of one empty dict of the graph when they come to be written: item number i of `count`, in their order. What
	 * objects were made for the one before may be gone by then (wf_graph_rewind), from *ret_kept on. Returns 0, or fills err and
	 * returns its code. */
	struct {
		int (*item)(void *ctx, uint32_t i, struct wf_item *ret, uint32_t *ret_kept, struct wf_error *err);
		wf_ref dict;
		uint32_t count;
	} made;
	bool marks; /* MARK ... SETITEMS for a single item, too, as C++ writes: torch.jit.load of 1.13 knows no SETITEM */
	bool as_read; /* in the protocol of the pickle that the graph was read from; else in protocol 2 */
};

/* Writes root as one pickle. Returns: 0, -ENOMEM, -EOPNOTSUPP (an object no opcode can express, or a graph that is
 * lossy), -E2BIG (objects that contain themselves in too many ways), or the error of write or of a source that an
 * external string lies in. */
int wf_pickle_write(const struct wf_graph *g, wf_ref root, const struct wf_pickle_writer *writer, struct wf_error *err);

/* Writes the one opcode that pushes the bytes of a WF_BYTES or WF_BYTEARRAY, in the form of the opcode op: raw (BINBYTES, BINSTRING, ...), or
 * as a text in latin-1 (BINUNICODE, UNICODE, ...), whose length is another one for each content. op may become its longer form. Of writer, write
 * and ctx are used. -EINVAL: op pushes no string. */
int wf_pickle_write_bytes_as(const struct wf_graph *g, wf_ref bytes, uint8_t op, const struct wf_pickle_writer *writer,
			     struct wf_error *err);
/* A FRAME that so many bytes follow. */
#define WF_PICKLE_FRAME_BYTES 9u
void wf_pickle_frame(unsigned char ret[WF_PICKLE_FRAME_BYTES], uint64_t bytes);

/* Whether a pickle written from the graph as it was read would do what the one read did: the same calls, each with the
 * same arguments as far as they are filled by then, and states set, in the same order. Both are traced, the written one
 * goes nowhere. Returns 1; 0 with the reason in *ret_why (a fixed sentence, for a message); -ENOMEM. A source of errors
 * (external strings that cannot be read) makes it 0. */
int wf_pickle_faithful(const struct wf_graph *g, wf_ref root, const char **ret_why);

/* The same into memory. */
int wf_pickle_write_buffer(const struct wf_graph *g, wf_ref root, wf_ref (*persid)(void *, wf_ref, wf_ref), void *ctx,
			   struct wf_buffer *out, struct wf_error *err);
