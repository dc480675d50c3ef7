/* SPDX-License-Identifier: MIT */
/* The outline of a pickle: which mappings and lists it holds, under which keys, and of the rest only whether it is one tensor, one
 * plain value, or something that this file does not know. A fifth of the time of wf_pickle_read, and nothing is kept but the outline.
 *
 * It knows what torch.save writes of state_dicts, optimizers and checkpoints made of them. Whatever else there is it calls unknown, a
 * value or the whole pickle: who asked then reads the pickle itself. What it does say is what the tree shows.
 *
 * Calling sequence: wf_outline_read, look, wf_outline_free. Threads: one owner while it is made, any readers afterwards.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/source.h"

struct wf_outline;

typedef uint32_t wf_outlined; /* a value of the outline; 0: not known */

enum wf_outline_shape {
	WF_OUTLINE_UNKNOWN,
	WF_OUTLINE_FILE,    /* a tensor, a plain value, a short list of plain values */
	WF_OUTLINE_MAPPING, /* a dict or OrderedDict that stands at one place */
	WF_OUTLINE_LIST,    /* a list that holds tensors or mappings and stands at one place */
};

/* Reads the pickle that a source begins with. Returns: 0; 1 where the pickle holds, or is, what the outline does not know; -ENOMEM; or
 * the source's error. */
int wf_outline_read(struct wf_source *s, struct wf_outline **ret);
void wf_outline_free(struct wf_outline *o); /* accepts NULL */

wf_outlined wf_outline_root(const struct wf_outline *o);
enum wf_outline_shape wf_outline_shape(const struct wf_outline *o, wf_outlined v);
/* How many items a mapping or list has; 0 for all else. */
uint32_t wf_outline_count(const struct wf_outline *o, wf_outlined v);
/* i < count. The key of an item of a mapping, or 0 for a list, and its value. */
wf_outlined wf_outline_item(const struct wf_outline *o, wf_outlined v, uint32_t i, wf_outlined *ret_key);
/* A str: its bytes, the outline's. NULL when it is none, or too long to be a name. */
const char *wf_outline_text(const struct wf_outline *o, wf_outlined v, size_t *ret_len);
/* A small int that is not negative. */
bool wf_outline_number(const struct wf_outline *o, wf_outlined v, uint32_t *ret);
