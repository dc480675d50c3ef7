/* SPDX-License-Identifier: MIT */
/* What content is to become (edit/wanted.c), and the judgement that makes it that or refuses it (edit/judge.c).
 *
 * Asked in this order: what attributes declare, what the file is renamed over, what stood there before, what its name remembers. Objects
 * and texts of a struct wf_wanted are the graph's and the file's, and valid until the next edit. The checkpoint's lock is held exclusively.
 */
#pragma once

#include "codec/edit/inner.h"

struct wf_wanted {
	enum { WANT_NEW, WANT_VALUE, WANT_TENSOR } kind;
	bool insists;               /* content that does not fit is refused; else it is new content */
	bool place;                 /* it takes the place that its name remembers */
	bool exact;                 /* the type is what attributes declare, and no other */
	bool declared;              /* attributes decide */
	bool shown;                 /* the content is what the old value shows: its last newline is nobody's */
	wf_ref like;                /* WANT_VALUE: parsed as this; WANT_TENSOR: of this kind, or WF_NIL */
	struct wf_tensor_type type; /* WANT_TENSOR */
	int free_dim;               /* of the type, which follows the size; -1: none */
	bool array, bare, parameter, requires_grad;
	const char *location; /* NULL: cpu */
	wf_ref quantizer;
	wf_ref record; /* dtype of an array whose elements are no numbers (tensor/tensor.h), or WF_NIL */
};
/* onto: an entry that the file is about to replace, or NULL; past: likewise a name's. */
int wf_edit_wanted(struct wf_checkpoint *ck, wf_ino ino, const struct wf_place *onto, const struct wf_past *past,
		   struct wf_wanted *ret);
/* Whether content can become of that class: not of an object that only its own program makes. */
bool wf_edit_makes_class(struct wf_graph *g, const char *klass);

/* edit/judge.c: gives the content its meaning, or refuses it: -EINVAL, and the entry is the old one. */
int wf_edit_judge(struct wf_checkpoint *ck, wf_ino ino);
bool wf_edit_fits_declared(struct wf_checkpoint *ck, wf_ino ino); /* after a replay */
/* It became what was wanted. */
bool wf_edit_is_judged(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w);
int wf_edit_judge_as(struct wf_checkpoint *ck, wf_ino ino, const struct wf_wanted *w);
/* Whether a whole line, written from the start, can be the entry's value. shell: whoever writes it hears no error of close. */
bool wf_edit_line_fits(struct wf_checkpoint *ck, wf_ino ino, const char *text, size_t len, bool shell);
