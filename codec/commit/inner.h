/* SPDX-License-Identifier: MIT */
/* What the files that make a plan share: commit/plan.c, commit/names.c, commit/arrays.c, commit/inline.c, commit/layout.c,
 * commit/parts.c, commit/patch.c, commit/safetensors.c, commit/stay.c and commit/in_place.c. Nobody else includes it. */
#pragma once

#include "codec/commit/commit.h"
#include "codec/pickle/pickle.h"

/* What is known of storages and names while a plan is made. */
struct wf_naming {
	uint32_t *owner;        /* by record: the storage it is the base of, + 1 */
	const char **name;      /* by storage: full record name, NULL until given */
	struct wf_key_map used; /* names of the new file in lower case: torch looks up without regard to case */
	uint64_t next;
};

/* commit/names.c */
void wf_plan_find_owners(struct wf_plan *p, struct wf_naming *n);
/* The record that a storage has for itself, or WF_NO_RECORD. */
uint32_t wf_plan_own_record(const struct wf_plan *p, const struct wf_naming *n, uint32_t storage);
bool wf_plan_storage_changed(const struct wf_plan *p, const struct wf_naming *n, uint32_t storage);
/* A string of the plan's own; takes over name. NULL without memory (or name). */
char *wf_plan_own_name(struct wf_plan *p, char *name);
/* Every record that stays keeps its name; then come the new storages. */
int wf_plan_name_storages(struct wf_plan *p, struct wf_naming *n);
/* Plans the id to write for a PERSID where its own is not right. */
int wf_plan_id(struct wf_plan *p, const struct wf_naming *n, wf_ref persid, struct wf_error *err);
/* The keys that storages have from now on, where the PERSID that tells them (wf_storage_key) is one that was not written. */
void wf_plan_adopt_keys(struct wf_plan *p);
/* Offsets of tensors become absolute where the tar had views of storages. */
int wf_plan_flatten_views(struct wf_plan *p, struct wf_error *err);

/* commit/arrays.c: arrays that changed inside the pickle get their bytes as new objects of the graph. */
int wf_plan_move_bytes(struct wf_plan *p, struct wf_error *err);

/* commit/patch.c: the same arrays as pieces of a pickle that is copied but for them; and that pickle (of `to`, write and ctx are used). */
int wf_plan_patch(struct wf_plan *p, struct wf_error *err);
int wf_plan_write_patched(const struct wf_plan *p, const struct wf_pickle_writer *to, struct wf_error *err);

/* commit/inline.c: tensors over storages that the pickle names (p->live), in a format without records */
int wf_plan_inline(struct wf_plan *p, struct wf_error *err);
void wf_plan_undo_inline(struct wf_plan *p);

/* commit/parts.c: p->parts, in the order in which they are written, once their names are known */
int wf_plan_parts(struct wf_plan *p, const struct wf_naming *n, struct wf_error *err);

/* commit/safetensors.c: parts, entries and header of such a file */
int wf_plan_safetensors(struct wf_plan *p, struct wf_error *err);

/* commit/stay.c: where the entries of p->items stand when the old file is changed; then its new head, in place of p->head. p->in_place says
 * whether that can be; where it cannot, p->why_new does. 0, -ENOMEM, or the error of reading the file. */
int wf_plan_stay(struct wf_plan *p);
int wf_plan_stay_head(struct wf_plan *p);

/* commit/layout.c */
/* Whether torch computes the places of the old file's storages (exact), and their alignment. */
void wf_plan_read_layout(struct wf_plan *p);
/* A record among the storages that is none, or one that is deflated, would not lie where torch computes. */
bool wf_plan_can_be_exact(const struct wf_plan *p, const struct wf_naming *n);
/* Whether torch would find every storage that it computes the place of, in a file that only grows. */
bool wf_plan_layout_holds(const struct wf_plan *p, const struct wf_naming *n);
