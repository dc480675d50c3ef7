/* SPDX-License-Identifier: MIT */
/* The tensors below a directory of the tree, each with its full name: the keys on the way, joined with '.', as a flat dictionary calls
 * them (and torch's state_dict does). What is no tensor that stands for itself is told, too.
 *
 * Constants of TorchScript stand beside its state_dict, and are no part of it: they are told where there is no other tensor, or below
 * their own directory.
 *
 * An entry that was removed from an object which cannot lose it is told still: it is there until the object's own removal.
 * Iterative. A container that is met again is entered there, too, as a dictionary made from Python would have it; but for one that holds
 * itself, and for more of them than WF_NAMES_AGAIN entries, since a few bytes of pickle can mean billions; below the root of a
 * checkpoint that is wf_names_crossed none is. Threads: the checkpoint's lock is held.
 */
#pragma once

#include "codec/edit/state.h"

struct wf_named {
	const char *name; /* valid during the call */
	size_t name_len;
	wf_ref key; /* the last of those on the way; WF_NIL: an index */
	wf_ino ino;
	wf_ref object;
	const struct wf_tensor *tensor; /* NULL: it is none, or cannot be read */
	const char *problem;            /* a sentence, where tensor is NULL */
	bool is_tensor;                 /* it is one, though tensor may be NULL */
	bool beside;                    /* it is left out because it is no part of what is told, and of no object */
};

/* each() returning non-zero ends it. Returns that; -ENOENT, -ENOTDIR, -ENOMEM. */
int wf_each_named(struct wf_checkpoint *ck, wf_ino dir, int (*each)(void *ctx, const struct wf_named *named),
		  void *ctx);
