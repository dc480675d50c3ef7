/* SPDX-License-Identifier: MIT */
/* The inside of a struct wf_checkpoint, for the folders edit/ and commit/ and the front door; checkpoint.h keeps it opaque for everybody
 * else.
 *
 * Lock order: commit_lock, lock, then overlay_lock or open_lock. Readers hold `lock` shared. An edit holds commit_lock and
 * `lock` exclusively; a commit holds commit_lock for all of its time and `lock` exclusively only to plan and to swap the
 * base. Opening and closing a file takes `lock` alone: it must change nothing that a commit reads while it writes (graph,
 * storages that the pickle names, their data files).
 *
 * Nobody starves: `lock` lets a waiting writer go before new readers, and since editors wait for each other on commit_lock,
 * hardly ever more than one of them waits for `lock`; the readers that came meanwhile go before the next. Therefore no
 * thread may take `lock` shared twice, not even through a callback: a writer that comes in between would wait for the first
 * and be waited for by the second.
 *
 * The overlay is used with `lock` held exclusively, or by a commit with `lock` shared and overlay_lock exclusively. Readers of
 * its data files need no more than `lock`: those calls lock inside. Who wants its numbers asks wf_checkpoint_usage.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "codec/tree/archive.h"
#include "codec/edit/calls.h"
#include "codec/container/container.h"
#include "codec/directory/directory.h"
#include "codec/edit/life.h"
#include "codec/object/object.h"
#include "codec/overlay/overlay.h"
#include "codec/placement/placement.h"
#include "codec/bytes/log.h"
#include "codec/bytes/source.h"
#include "codec/tensor/inside.h"
#include "codec/tensor/storage.h"
#include "codec/tensor/tensor.h"
#include "codec/tree/tree.h"

/* What a running commit tells wf_status; written by the commit, read by anyone. */
struct wf_commit_progress {
	atomic_bool running;
	_Atomic uint64_t done_bytes, total_bytes;
	_Atomic uint64_t append_bytes; /* what commit=append would write, where that is far less; else 0 */
};

enum wf_rewritable { WF_REWRITABLE_UNKNOWN, WF_REWRITABLE, WF_VERBATIM };

struct wf_checkpoint {
	struct wf_directory place; /* which file, or directory, it is */
	const char *path;          /* place.path */
	char *output;              /* where commits go, absolute; NULL: path */
	struct wf_directory
		output_set; /* of several files, where commits go to a directory of their own: that one; else empty */
	bool made_output;   /* ... which was made for them */
	/* Commits write another format than the container's: this makes the whole file, durable, in fd (target: its name to be). The commit
	 * keeps edits away. NULL: they write the container's own. */
	int (*write_other)(struct wf_checkpoint *ck, const char *target, int fd, struct wf_error *err);
	bool output_as_zip; /* commits of a plain pickle write what torch.load reads */
	enum wf_commit_mode commit_mode;
	bool at_once;         /* wf_open_options */
	bool onto;            /* the edits were made on another file: what they touch must be the same here */
	atomic_bool writable; /* becomes false when a commit could not clear its overlay */
	struct wf_log log;
	void (*refused)(void *ctx, int code, const char *reason); /* NULL until the edits of the log are replayed */
	void *refused_ctx;
	void (*changed)(void *ctx, uint32_t ino, uint64_t offset, uint64_t len);
	void (*renamed)(void *ctx, uint32_t dir, const char *name);
	void (*became_directory)(void *ctx, uint32_t ino);
	void *changed_ctx;

	pthread_rwlock_t lock;       /* graph, storages, tree, edits */
	pthread_mutex_t commit_lock; /* see above */
	pthread_rwlock_t overlay_lock;
	pthread_mutex_t open_lock; /* the counts of open files, where `lock` is held shared */

	struct wf_source *file;
	struct wf_container *container;
	struct wf_graph *graph;
	struct wf_storages *storages;
	struct wf_tree *tree;
	enum wf_rewritable rewritable;
	const char *why_verbatim; /* a sentence, where it is WF_VERBATIM */
	struct wf_insides *
		insides; /* of such a pickle, once the bytes of an array in it were to be changed; else NULL. Its places are
	                                 * those of the base that was looked at, and not of what later commits made of it */
	struct wf_placement *placement; /* NULL where there are no devices */
	bool relocated;                 /* map_location has changed location tags, which no commit has recorded yet */
	struct wf_overlay *overlay;     /* NULL when overlays are ignored; the same as long as the checkpoint is open */
	struct wf_overlay_usage usage_before; /* of the overlay when the last commit began; under `lock` */
	struct wf_edits *edits;               /* NULL where the overlay is; under `lock` */
	uint32_t generation;                  /* wf_generation */
	struct stat opened; /* of the file that was opened: its time is that of all that is not edited */

	uint32_t objects_after;  /* wf_tree_objects; under commit_lock and `lock` */
	struct wf_unseen unseen; /* as it was when the tree had so many changes; under `lock` */
	uint32_t unseen_of;
	bool unseen_known;

	_Atomic uint64_t crossed; /* compose/crossed.c: the edition that it was looked at in, + 1, and a bit */

	pthread_mutex_t archive_lock; /* makes the tree of records; `lock` is held by then */
	struct wf_archive *archive;   /* NULL until somebody looks, and after a commit */

	struct wf_commit_progress progress;
	char last_error[512]; /* of the last failed commit, for wf_status; under `lock` */
};

/* What a file says, as edits change it and a commit or a revert replaces it. */
struct wf_base {
	struct wf_container *container;
	struct wf_graph *graph;
	struct wf_storages *storages;
	struct wf_tree *tree; /* knows the root object */
};
/* file: of place->main. after: wf_tree_new's. On failure, too, wf_base_free. */
int wf_base_read(const struct wf_directory *place, struct wf_source *file, uint32_t after, struct wf_base *ret,
		 struct wf_error *err);
void wf_base_free(struct wf_base *b);
/* The checkpoint gets b's, and b the checkpoint's (nothing, at first). */
void wf_base_swap(struct wf_checkpoint *ck, struct wf_base *b);

/* Says why an edit is refused, to who shows it (.weightfs/log), and returns code: one line says and does it. What a call
 * refuses; what is refused later, when no call waits for it, goes to the log. */
int wf_refuse(const struct wf_checkpoint *ck, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

void wf_checkpoint_make_locks(struct wf_checkpoint *ck);
void wf_checkpoint_free_locks(struct wf_checkpoint *ck);
/* What waits in the overlay, which is there; during a commit, what waited when it began. The lock is held. */
void wf_checkpoint_usage(struct wf_checkpoint *ck, struct wf_overlay_usage *ret);

/* Waits until what was written into data files so far is on disk, without `lock`: who held it shared meanwhile would, as soon as
 * somebody wants it exclusively, keep all readers out. 0, or what fdatasync said. */
int wf_checkpoint_flush(struct wf_checkpoint *ck);

/* What stat says about a node. The lock is held. */
int wf_checkpoint_stat(struct wf_checkpoint *ck, wf_ino ino, struct wf_stat *ret);
/* wf_read. The lock is held. */
ssize_t wf_checkpoint_read(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, void *buf, size_t len);

/* wf_lend. The lock is held. */
bool wf_checkpoint_lend(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, size_t len,
			void (*take)(void *ctx, const void *data, size_t len), void *ctx);

/* wf_getxattr with the lock held. */
int wf_attribute_text(struct wf_checkpoint *ck, wf_ino ino, const char *name, struct wf_buffer *ret);

/* Whether the pickle can be written anew with the same meaning (rewrite.c). Found out at the first call, which has to
 * come before the graph is changed; the lock is held exclusively then. */
bool wf_checkpoint_rewritable(struct wf_checkpoint *ck);
/* Whether the bytes of a storage inside a pickle that cannot be written anew can be changed there; the lock is held exclusively.
 * -EPERM: refused, with the reason; -ENOMEM, or why the pickle could not be read again. */
int wf_check_inside(struct wf_checkpoint *ck, uint32_t storage);
void wf_forget_insides(struct wf_checkpoint *ck);
/* Refuses an edit that would change a pickle which cannot: -EPERM. */
int wf_refuse_rewrite(struct wf_checkpoint *ck);
