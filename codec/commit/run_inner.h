/* SPDX-License-Identifier: MIT */
/* One run of a commit, for commit/commit.c, which drives it, commit/strategy.c, commit/steps.c, commit/itself.c, commit/directory.c, and
 * through commit/shards_inner.h commit/shards.c and commit/shards_write.c. Nobody else includes it. */
#pragma once

#include <errno.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/err.h"
#include "codec/commit/commit.h"
#include "codec/commit/dcp.h"
#include "codec/commit/file.h"
#include "codec/edit/state.h"

/* contrib/docs/commit.md tells when it is which. */
enum wf_strategy {
	WF_STRATEGY_REPLACE,          /* a whole new file */
	WF_STRATEGY_CLONE_AND_APPEND, /* a clone of the old one, which grows and takes its name */
	WF_STRATEGY_APPEND,           /* the checkpoint itself grows */
	WF_STRATEGY_IN_PLACE,         /* ... or is changed where it stands: a safetensors file */
};

struct wf_shard_set;

struct wf_commit_run {
	struct wf_checkpoint *ck;
	struct wf_error *err; /* never NULL */
	struct wf_plan plan;
	bool planned;
	struct wf_shard_set *set; /* of a checkpoint in several files: in place of plan; else NULL */
	struct wf_dcp_plan *dcp;  /* of a distributed checkpoint, in place of most of the other */
	bool whole;               /* a repack: the file as if it were made now */
	enum wf_strategy strategy;
	struct wf_new_file file; /* of the first two */
	int target_fd;           /* of the others: the checkpoint itself, for writing; -1 */
	uint32_t
		insert_block; /* IN_PLACE: what its file system inserts at the start of a file are multiples of it; 0: it does not */
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
	/* directories that were to be tensors, and are mappings */
	uint32_t unmade;
	struct wf_buffer unmade_names;
};

/* Decides, and opens the file that is going to be written. `lock` is held exclusively. */
int wf_commit_choose(struct wf_commit_run *c, enum wf_commit_mode mode);
/* Instead of IN_PLACE, and the log says why. */
int wf_commit_choose_new_file(struct wf_commit_run *c, const char *why);
/* Whether commits replace the file that was opened, and no output is given. */
bool wf_commit_targets_itself(const struct wf_checkpoint *ck);
/* Writes what is planned into fd from `at` on, and makes it durable. No lock but commit_lock. */
int wf_commit_write(struct wf_commit_run *c, int fd, uint64_t at);
/* Opens what was written as the run's source. fd as below. */
int wf_commit_open_written(struct wf_commit_run *c, int fd);
/* Opens what was written with the ordinary reader and holds it against the plan. fd: for reading, taken over; or a negative errno. */
int wf_commit_reopen(struct wf_commit_run *c, int fd);

static inline int wf_commit_no_memory(struct wf_commit_run *c)
{
	return wf_fail(c->err, -ENOMEM, "out of memory");
}

/* Where a checkpoint in several files is written. */
static inline const struct wf_directory *wf_commit_place(const struct wf_checkpoint *ck)
{
	return ck->output_set.main ? &ck->output_set : &ck->place;
}

/* Around what a commit does with the overlay while reads go on: nobody edits, but others want its numbers. */
static inline void wf_commit_take_overlay(struct wf_checkpoint *ck)
{
	pthread_rwlock_rdlock(&ck->lock);
	pthread_rwlock_wrlock(&ck->overlay_lock);
}

static inline void wf_commit_leave_overlay(struct wf_checkpoint *ck)
{
	pthread_rwlock_unlock(&ck->overlay_lock);
	pthread_rwlock_unlock(&ck->lock);
}

/* ---- commit/noted.c ---- */
/* The overlay's list of files (wf_overlay_note_files), each name with a NUL behind it, durable before the first of them is made. */
int wf_commit_note_files(struct wf_commit_run *c, const struct wf_buffer *names);

/* ---- commit/steps.c ---- */
/* The fingerprint of the finished file. */
int wf_commit_look_at(struct wf_commit_run *c, int fd);
/* That, and what was under scratch names, which stays as durable as it was: the log that follows the commit has it before the file is
 * there. After a trim the checkpoint is closed, and they go with it. `lock` is held exclusively. */
int wf_commit_begin_next_log(struct wf_commit_run *c, int fd);
/* The commit is a fact: the checkpoint goes on from the new file. `lock` is held exclusively. */
void wf_commit_swap_base(struct wf_commit_run *c);
/* Then what waited is cleared, which takes some fsyncs; reads go on meanwhile. */
void wf_commit_go_on(struct wf_commit_run *c);

/* ---- commit/itself.c: from PREPARED on ---- */
int wf_commit_append(struct wf_commit_run *c);
int wf_commit_in_place(struct wf_commit_run *c);

/* ---- commit/directory.c: of a distributed checkpoint ---- */
int wf_commit_plan_directory(struct wf_commit_run *c);
/* The directory as it will be once c->source, the new metadata, has its name: fills in c->container and c->records, of which all are
 * WF_NO_RECORD. */
int wf_commit_reopen_directory(struct wf_commit_run *c);
/* After the overlay was cleared: removes the slice files that the new metadata do not name. */
void wf_commit_clear_directory(struct wf_commit_run *c);
