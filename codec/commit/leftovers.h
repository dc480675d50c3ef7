/* SPDX-License-Identifier: MIT */
/* What a commit of a checkpoint in several files leaves beside it: old files, once the index names others, and new ones, when it was cut
 * short before. The overlay has their names (wf_overlay_note_files). Threads: the one that opens, or that commits. */
#pragma once

#include <stdbool.h>

struct wf_checkpoint;
struct wf_container;

/* Whether a file in the directory is one of the checkpoint's, which is one of those: the main file names it, or it belongs beside that. */
bool wf_commit_belongs(const struct wf_container *c, const char *name);

/* Removes those that the checkpoint, an index with its shards or a distributed one that is open for writing, does not name. 0, or the error of reading the list or of making the
 * removal durable. */
int wf_shards_remove_unnamed(struct wf_checkpoint *ck);
