/* SPDX-License-Identifier: MIT */
/* One run of a commit, for commit/commit.c, which drives it, and commit/strategy.c. Nobody else includes it. */
#pragma once

#include "codec/bytes/buffer.h"
#include "codec/commit/commit.h"
#include "codec/commit/file.h"
#include "codec/edit/state.h"

/* contrib/docs/commit.md tells when it is which. */
enum wf_strategy {
	WF_STRATEGY_REPLACE,          /* a whole new file */
	WF_STRATEGY_CLONE_AND_APPEND, /* a clone of the old one, which grows and takes its name */
	WF_STRATEGY_APPEND,           /* the checkpoint itself grows */
};

struct wf_commit_run {
	struct wf_checkpoint *ck;
	struct wf_error *err; /* never NULL */
	struct wf_plan plan;
	bool planned;
	bool whole; /* a repack: the file as if it were made now */
	enum wf_strategy strategy;
	struct wf_new_file file; /* of the first two */
	int target_fd;           /* of APPEND: the checkpoint itself, for writing; -1 */
	/* the finished file */
	struct wf_source *source;
	struct wf_container *container;
	uint32_t *records; /* by storage, in the new container */
	struct wf_overlay_base to_be;
	uint32_t alignment;        /* of all records; 0: as it is */
	struct wf_window *windows; /* of a trim; the checkpoint is closed after it */
	/* entries that were removed from objects which are still there */
	uint32_t returned;
	struct wf_buffer returned_names;
};

/* Decides, and opens the file that is going to be written. `lock` is held exclusively. */
int wf_commit_choose(struct wf_commit_run *c, enum wf_commit_mode mode);
/* Whether commits replace the file that was opened, and no output is given. */
bool wf_commit_targets_itself(const struct wf_checkpoint *ck);
/* Writes what is planned into fd from `at` on, and makes it durable. No lock but commit_lock. */
int wf_commit_write(struct wf_commit_run *c, int fd, uint64_t at);
/* Opens what was written with the ordinary reader and holds it against the plan. fd: for reading, taken over; or a negative errno. */
int wf_commit_reopen(struct wf_commit_run *c, int fd);
