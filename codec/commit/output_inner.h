/* SPDX-License-Identifier: MIT */
/* The parts of a commit to a directory of its own (commit/output_set.h): commit/output_copy.c, a file that goes there as it is;
 * commit/output_beside.c, what stands beside a Hugging Face index (commit/beside.h). Names are relative to the directory, which is open. */
#pragma once

#include "codec/bytes/key_map.h"
#include "codec/commit/run_inner.h"

/* Something has the name. What does is whole, and the same: it was made under another one. Or it is the user's. */
bool wf_output_has(int directory, const char *name);
/* Copies or clones the open file `from` under a temporary name, and gives it its own. name: without a folder; path: of the directory. */
int wf_output_copy_to(struct wf_commit_run *c, int directory, const char *path, const char *name, int from);
/* The same into the output. */
int wf_output_copy(struct wf_commit_run *c, int directory, const char *name, int from);

/* Adds what is going to be copied: files, and folders, whose names end in a slash. */
int wf_output_beside_list(struct wf_commit_run *c, struct wf_key_map *names);
/* Copies what is not there, of a Hugging Face checkpoint alone; the log says what stays behind, at the first commit. */
int wf_output_beside_copy(struct wf_commit_run *c, int directory);
/* Whether the list has a folder of that name. */
bool wf_output_is_folder(const struct wf_key_map *noted, const char *name);
