/* SPDX-License-Identifier: MIT */
/* The pickle writer's machine: pickle/writer.c holds its frames, pickle/trace.c looks at them, pickle/write.c moves it.
 * Part of the writer and of nothing else.
 *
 * An object that is being written has a frame, so that nesting costs memory and no stack. It is entered when its
 * writing begins; one that comes by again while it is entered contains itself.
 *
 * Functions return 0, or fill the error and return its code. */
#pragma once

#include "codec/pickle/emit.h"

enum frame_kind { FRAME_TUPLE, FRAME_BATCH, FRAME_CALL, FRAME_SET, FRAME_PERSID };

enum batch_stage { BATCH_BETWEEN, BATCH_INSIDE, BATCH_SINGLE };

enum call_stage {
	CALL_FUNC,
	CALL_ARGS,
	CALL_KWARGS,
	CALL_RESULT,
	CALL_LIST,
	CALL_SET,
	CALL_DICT,
	CALL_STATE,
	CALL_BUILD
};

struct pickle_frame {
	uint8_t kind;
	uint8_t stage;
	bool own;   /* a batch of a list or dict of its own, not of a call */
	bool again; /* begun while the same object was being written already */
	bool args;  /* arguments of a call that was begun again */
	wf_ref ref;
	uint32_t at;    /* position of the next element */
	uint32_t done;  /* elements written, removed ones not counted */
	uint32_t total; /* elements to write */
	uint32_t round; /* of a call's effects */
};

struct pickle_writer {
	struct pickle_out out;
	struct pickle_frame *frames;
	uint32_t depth;
	uint32_t cap;
	uint64_t repeats;
	bool traced;
	uint64_t trace;
	uint64_t looked_for;    /* frames, for the trace */
	struct wf_item item;    /* of the dict whose items are made, the last one */
	unsigned char *entered; /* by ref, a bit: writing has begun; for lists and dicts: and has not ended */
};

/* Frames to look at for unfinished objects when the trace of a pickle is made: past it nothing is promised. */
#define PICKLE_MAX_LOOKED_FOR (UINT64_C(64) << 20)

/* ---- pickle/writer.c ---- */

void wf_pickle_writer_free(struct pickle_writer *w);
int wf_pickle_push_frame(struct pickle_writer *w, struct pickle_frame f);
int wf_pickle_pop_frame(struct pickle_writer *w); /* 0 */
/* A frame for an object whose parts are written before it is memoised; parts: how many. */
int wf_pickle_enter(struct pickle_writer *w, struct pickle_frame f, uint32_t parts);
bool wf_pickle_is_entered(const struct pickle_writer *w, wf_ref r);
/* A list or a dict, which is memoised before it is filled. */
bool wf_pickle_is_filled(const struct pickle_writer *w, wf_ref r);
/* Elements or items that are there: a removed item of a dict is none. */
uint32_t wf_pickle_count_live(const struct wf_graph *g, wf_ref r);
/* Room for what is known of each object, nothing at first: again when the graph has grown. -ENOMEM. */
int wf_pickle_make_room(struct pickle_writer *w);
/* Whether the items of the dict are made as they are written; and makes the next one into w->item. */
bool wf_pickle_is_made(const struct pickle_writer *w, wf_ref dict);
int wf_pickle_make_item(struct pickle_writer *w, uint32_t i);
/* A frame for what a container holds, unless that is nothing; container may be WF_NIL. */
int wf_pickle_push_batch(struct pickle_writer *w, wf_ref container, bool own);
int wf_pickle_leave_batch(struct pickle_writer *w, const struct pickle_frame *f);
/* Counts what is written once more because it contains itself. -E2BIG when it becomes too much. */
int wf_pickle_charge_repeat(struct pickle_writer *w, uint32_t parts);

/* ---- pickle/trace.c ---- */

/* Nothing unless the writer is traced. */
void wf_pickle_write_trace(struct pickle_writer *w, uint64_t what);
/* An object is taken from the memo, finished or not. */
void wf_pickle_write_trace_seen(struct pickle_writer *w, wf_ref r);

/* ---- pickle/write.c ---- */

/* Writes root with the hooks of w->out, to the end. */
int wf_pickle_write_all(struct pickle_writer *w, wf_ref root);
