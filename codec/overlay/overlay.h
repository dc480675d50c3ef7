/* SPDX-License-Identifier: MIT */
/* CHECKPOINT.weightfs/: what was edited since the last commit, kept beside the checkpoint (with an output file: beside
 * that).
 *
 *   lock      flock'ed while a writer has the overlay; holds its pid
 *   log       a header that names the base file, then one checksummed record for each edit (overlay/log.c draws it)
 *   commit    the mark of a commit under way (overlay/mark.c draws it)
 *   undo      of a commit in place: what stood where it changes bytes of the checkpoint (overlay/format.h draws it)
 *   log.next  while a commit ends: the log that follows it, with what the new file does not hold (overlay/next.c)
 *   data/N    sparse extent files: what was written into one storage, at the storage's own offsets
 *   log.cut.N what followed a broken record, kept for a person to look at
 *
 * It is used only when it is ours: directories and files belong to root, to this process's user or to the checkpoint's
 * owner, nobody else can write to them, and every file is a regular one with one name. Anything else is neither opened
 * nor removed: a reader goes on without it, a writer is refused (overlay/directory.c).
 *
 * The module knows records and files, not what they mean: edit/life.c makes them and applies them. Records name things by
 * path, so that they mean the same after a commit gave the nodes and storages of the next opening other numbers.
 *
 * Calling sequence: wf_overlay_open before the checkpoint itself is read (it takes the locks, drops what a crash left
 * over and says which bytes of the file count), wf_overlay_replay once, then records and data, wf_overlay_sync;
 * wf_overlay_close, which removes the directory when nothing is pending. It is made at the first edit.
 *
 * Locks: a flock on the checkpoint itself keeps a second writer out although there is no directory yet; one on `lock`
 * guards the directory (and alone does so for an output file that does not exist yet). Readers take none.
 *
 * Commit, and what the next opening does after a crash in each state (B: the base in the log's header, T: the file to
 * be, P: the file present at the target):
 *
 *   replace     state                      at the next opening
 *   -------     -----                      -------------------
 *               edits in the log           P = B: replay
 *   temp written and fsynced, its fingerprint T known before the rename
 *   commit_begin(REPLACE, T)   mark T      P = B: the rename did not happen: the mark is void, replay
 *   rename, fsync directory                P = T: the edits are in the file: the overlay is dropped, but for log.next
 *   committed()                no log,     nothing to do; replay log.next
 *                              or log.next
 *   (failure: commit_abort)    mark void   P = B: replay
 *
 *   append      state                      at the next opening
 *   ------      -----                      -------------------
 *   commit_begin(APPEND)       mark B      P starts with B: cut back to B's size and mtime, then replay
 *   bytes, fsync, directory, fsync         the same: losing the finished append loses no edit
 *   seal_append()              mark T      P = T: the edits are in the file: the overlay is dropped, but for log.next
 *   committed()                the same as above
 *   (failure: cut_back, commit_abort)      P = B: replay
 *
 *   in place    state                      at the next opening
 *   --------    -----                      -------------------
 *   save(), commit_begin(IN_PLACE)  undo, mark B   P is B, changed where `undo` says: a writer undoes that, then replays
 *   bytes behind the end; bytes changed; bytes inserted at the start, fsync; the head; cut; fsync       the same
 *   seal_append()              mark T      as of an append
 *   (failure: cut_back, commit_abort)      P = B: replay
 *
 *   A commit to a target of another format is a REPLACE that ends with written() in place of committed(): log and mark stay, and P (the
 *   target) is T. An opening of B with that target replays the log, and nothing of it is pending. The next edit takes the mark away first:
 *   from then on all of the log is. So is a target of the same format that was renamed and not cleared.
 *
 *   P is neither B nor T: -ESTALE, nothing is touched; a reader shows the file alone. P is compared by its content, so
 *   that one that was copied, restored or touched counts as itself; B and T need no more than that (overlay/base.c).
 *   An append to a file that has another inode than B said, and that ends like a whole zip, may be a later state that was
 *   restored: it is not cut back.
 * The clone of a whole file that is appended to and then renamed is a REPLACE. A reader that opens while an append is
 * under way (or was cut short) is told B's size and reads that much of the file. In the middle of a commit in place the file is nothing
 * that a reader could show: it waits for a running one (overlay/lock.c), and is refused where that was cut short.
 *
 * Durability: wf_overlay_sync makes the extents durable before the log that speaks of them, so that after a power loss
 * no record names bytes that are not there.
 *
 * Threads: under the checkpoint's lock: everything exclusively, but wf_overlay_file and wf_overlay_next_unsynced,
 * which lock inside.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/err.h"
#include "codec/bytes/log.h"

/* Which file. Equal when size, edges and content agree: a moved, copied or touched checkpoint keeps its overlay. Where the
 * content of one is not known (the log of an older version), the mtime has to agree. */
struct wf_overlay_base {
	uint64_t dev, ino, size_bytes;
	int64_t mtime_sec, mtime_nsec;
	uint32_t edges_crc32; /* wf_edges_crc32 */
	bool has_content;
	uint32_t content_crc32; /* wf_content_crc32 */
};

struct wf_overlay;

struct wf_overlay_options {
	const char *checkpoint; /* resolved path of the file that is opened */
	const char *output;     /* where commits go, or NULL for the checkpoint itself; made absolute, links resolved */
	/* What the overlay stands beside where that is not the file that commits go to: the directory that this is the main file of. It is a
	 * name in that one then, and is replaced where it is a link. NULL. */
	const char *beside;
	const char *
		edits_of; /* absolute: the overlay beside that path, whose edits are for another state of the file; or NULL */
	bool writable; /* take the locks, repair; false: look only */
	/* Of a writer whose edits the next commit takes or nobody: no record reaches the disk, syncs do nothing, data files of earlier edits
	 * stay as they are, and closing leaves everything as it was found. */
	bool unlogged;
	struct wf_log log;
};

/* Fingerprint of the first size_bytes of an open file (UINT64_MAX: all of it). Returns 0, -EIO (shorter), or pread's
 * error. */
int wf_overlay_base_of(int fd, uint64_t size_bytes, struct wf_overlay_base *ret);

/* With edits_of: the edits are replayed all or not at all, and must have been made by a version that says what they touch. -ENOENT
 * there are none; -EBUSY; -ESTALE a commit of them was cut short and has to be settled with their own file first.
 * Returns: 0 (also when there is no overlay); -EBUSY another writer holds it (the text names its pid); -ESTALE the
 * edits belong to another state of the file (the text says what to do); -EPERM the directory is not ours; -EOPNOTSUPP a
 * log of another version; -EUCLEAN a header that is no log's; or the system's error. A reader goes on without an overlay
 * that it cannot use, with a log line (wf_overlay_unused). */
int wf_overlay_open(const struct wf_overlay_options *options, struct wf_overlay **ret, struct wf_error *err);
/* Accepts NULL. Writes the buffered records (without fsync). */
void wf_overlay_close(struct wf_overlay *ov);

/* The file that the log applies to, as wf_overlay_open found it or wf_overlay_committed set it. Its size_bytes is how
 * much of the file counts. */
const struct wf_overlay_base *wf_overlay_base(const struct wf_overlay *ov);
/* Where commits go: the output, or the checkpoint. Valid until close. */
const char *wf_overlay_target(const struct wf_overlay *ov);
/* Opens it, or its directory (O_PATH), as it was found when the overlay was opened. The descriptor, or -errno. */
int wf_overlay_open_target(const struct wf_overlay *ov, int flags);
int wf_overlay_open_home(const struct wf_overlay *ov);
const char *wf_overlay_directory(const struct wf_overlay *ov);
/* The file that the base is: the checkpoint, or after a commit to an output that one. Valid until the next commit. */
const char *wf_overlay_file_path(const struct wf_overlay *ov);
/* Why edits that are there are not shown: a sentence, or NULL. */
const char *wf_overlay_unused(const struct wf_overlay *ov);

/* ---- the log ---- */
/* Calls apply() for each record; a non-zero answer or a broken record ends the replay there: what follows is kept aside
 * in log.cut.N with a log line (a torn tail is cut off with one). Returns 0, -ENOMEM, or a read error. */
int wf_overlay_replay(struct wf_overlay *ov, int (*apply)(void *ctx, uint8_t type, const void *payload, size_t len),
		      void *ctx, struct wf_error *err);
/* After a replay: where a commit was cut short that began the log, data files that nothing in it names are that commit's, and go. */
void wf_overlay_forget_unnamed(struct wf_overlay *ov, bool (*named)(void *ctx, uint32_t number), void *ctx);
/* Makes the directory (and its lock) if this is the first edit. Before every edit, so that a full disk or a read-only
 * directory refuses the edit itself. Returns 0, -EROFS, -EBUSY, or mkdir's error. */
int wf_overlay_prepare(struct wf_overlay *ov);
/* The same before an edit that only removes, or before a commit: it may use the room that is kept for them. */
int wf_overlay_prepare_removal(struct wf_overlay *ov);
/* Appends one record to the buffer (written at wf_overlay_sync, or by wf_overlay_prepare when it grew large). pending:
 * it changes the checkpoint, so that there is something to commit (scratch files do not). Returns 0, -ENOMEM, -E2BIG,
 * or -EINVAL without wf_overlay_prepare. */
int wf_overlay_record(struct wf_overlay *ov, uint8_t type, const void *payload, size_t len, bool pending);
/* Of the log that records go to: one that an older program began goes on in its version until a commit, so that the program can read it. */
uint32_t wf_overlay_log_version(const struct wf_overlay *ov);
/* The long part of wf_overlay_sync, for a caller that does the waiting without a lock. Finds a data file from *number (0 at first) on
 * that was written since the last sync: *ret_fd is the caller's to fdatasync and close, *number one more than the file's. Returns
 * false after the last. */
bool wf_overlay_next_unsynced(struct wf_overlay *ov, uint32_t *number, int *ret_fd);
/* The fdatasync of that one failed, which must not be lost: it says so only once. */
void wf_overlay_sync_failed(struct wf_overlay *ov, uint32_t number);
/* Extents, then the log, then directories that have new names: all durable. The kernel tells of a failed write once and
 * forgets it: after a failure this stays an error until the file concerned was written anew, as another one. */
int wf_overlay_sync(struct wf_overlay *ov);
/* A data file was dropped while the disk is nearly full: a wf_overlay_sync now gives its room back. */
bool wf_overlay_wants_room(const struct wf_overlay *ov);

/* Why a commit failed: kept in the log until one succeeds, as far as there is room and a log. */
void wf_overlay_note_failure(struct wf_overlay *ov, const char *why);
/* NULL: the last commit did not fail. */
const char *wf_overlay_failure(const struct wf_overlay *ov, int64_t *ret_time);

/* ---- data files ---- */
/* The file for that number, made when missing and writable; borrowed until the next wf_overlay_drop_file of it, commit
 * or close. -ENOENT for a reader when there is none. */
int wf_overlay_file(struct wf_overlay *ov, uint32_t number, int *ret_fd);
void wf_overlay_touched(struct wf_overlay *ov, uint32_t number);   /* written since the last sync */
void wf_overlay_drop_file(struct wf_overlay *ov, uint32_t number); /* its bytes are no longer needed */
void wf_overlay_need_file(struct wf_overlay *ov, uint32_t number); /* a later record says that they are */
/* A file of no name, for bytes that go with the process; the caller's. */
int wf_overlay_unnamed_file(struct wf_overlay *ov, int *ret_fd);
uint32_t wf_overlay_new_number(struct wf_overlay *ov);          /* one that no file and no record has */
int wf_overlay_reserve(struct wf_overlay *ov, uint32_t number); /* a record names it: it is taken */

struct wf_overlay_usage {
	uint64_t edits; /* pending records */
	uint64_t log_bytes;
	uint64_t data_bytes; /* allocated on disk */
	uint64_t unsynced;   /* records not yet durable */
};
void wf_overlay_usage(const struct wf_overlay *ov, struct wf_overlay_usage *ret);
bool wf_overlay_is_dirty(const struct wf_overlay *ov);

/* ---- commit; the checkpoint's lock keeps edits away from begin to committed or abort ---- */
enum wf_overlay_commit { WF_OVERLAY_REPLACE, WF_OVERLAY_APPEND, WF_OVERLAY_IN_PLACE };

/* What a commit in place does to the checkpoint. After commit_begin it writes behind the end first, then over the pieces, but for one that
 * begins at 0 where bytes are inserted: it inserts those, makes that durable, and then writes the head, which is as much longer. At last
 * it cuts. */
struct wf_overlay_piece {
	uint64_t offset, len;
};
struct wf_overlay_rewrite {
	const struct wf_overlay_piece
		*pieces;   /* of the base, changed or cut off: ascending, apart, none empty; borrowed */
	uint32_t count;    /* at most WF_UNDO_PIECES_MAX */
	uint64_t inserted; /* at the start: whole blocks, of a file without holes, and the first piece begins there */
	uint64_t grown_bytes; /* size before they are inserted and anything is cut */
	uint64_t final_bytes; /* size at the end, less what is inserted; with inserted > 0 it is grown_bytes */
	uint64_t head_bytes;  /* of the new head, 0 where that stays; and its CRC-32 */
	uint32_t head_crc32;
};

/* Whether the file at the checkpoint's path is still the base (a touched one is): 0, -ESTALE with a text, or the system's
 * error. */
int wf_overlay_check_base(struct wf_overlay *ov, struct wf_error *err);
/* Before commit_begin of a commit in place: copies what that is going to change into `undo`, durably. It takes as long as writing the
 * pieces does, and needs no lock: nobody edits. Returns 0, or the error of reading or writing with a text. */
int wf_overlay_save(struct wf_overlay *ov, const struct wf_overlay_rewrite *rewrite, struct wf_error *err);
/* Everything so far and the mark are durable on return. to_be: of the finished temporary file for REPLACE, else NULL. */
int wf_overlay_commit_begin(struct wf_overlay *ov, enum wf_overlay_commit kind, const struct wf_overlay_base *to_be,
			    struct wf_error *err);
/* Undoes a partial append or commit in place: the target has the base's bytes, size and mtime again. */
int wf_overlay_cut_back(struct wf_overlay *ov);
/* The commit failed and the target is as it was. */
void wf_overlay_commit_abort(struct wf_overlay *ov);
/* An append or a commit in place is finished and durable: from here on the edits count as in the file, which is `grown` now. Returns 0, or an
 * error after which the append can still be cut back. */
int wf_overlay_seal_append(struct wf_overlay *ov, const struct wf_overlay_base *grown);
/* The log that follows the commit, for what the new file `to_be` does not hold (scratch files): before the mark of a REPLACE, or before the
 * seal. Between the two calls, after wf_overlay_prepare_removal, records go there, as edits of that file. wf_overlay_end_next makes them durable, or with r < 0 throws them
 * away; it returns r or its own error. wf_overlay_committed makes it the log, wf_overlay_commit_abort removes it, and after a kill the
 * next opening goes on from it. */
int wf_overlay_begin_next(struct wf_overlay *ov, const struct wf_overlay_base *to_be);
int wf_overlay_end_next(struct wf_overlay *ov, int r);
/* fd is the file that now stands at the target, open for reading at least (duplicated): the new base. It is locked
 * (call wf_overlay_lock_file on the temporary before the rename so that no other writer slips in between), the log and
 * the data files are dropped, except those that keep(ctx, number) asks for (scratch files). With an output, the output
 * is the checkpoint from now on. What cannot be removed is tried again before the next edit and at the end. Returns 0,
 * or an error of looking at fd, after which no edit may be recorded. */
int wf_overlay_committed(struct wf_overlay *ov, int fd, bool (*keep)(void *ctx, uint32_t number), void *ctx);
/* In place of wf_overlay_committed, where the target has another format and is no base: the log goes on, from the same base. Nothing
 * is pending, and the mark stays until the next edit: an opening until then goes on from there. */
void wf_overlay_written(struct wf_overlay *ov);
/* Whether the log has edits that are in such a target: dropping it would take them from the mount, too. */
bool wf_overlay_goes_on(const struct wf_overlay *ov);
/* Takes the writer's lock on a file about to be renamed over the target; released with fd. */
int wf_overlay_lock_file(int fd);

/* ---- the files of a checkpoint in several ---- */
/* Writes down names in the directory of the target, each with its NUL, durably: of files that a commit is going to make, and of those that
 * it will remove. Until wf_overlay_forget_noted the overlay stays, and what of them the checkpoint does not name is left over. */
int wf_overlay_note_files(struct wf_overlay *ov, const char *names, size_t len);
/* Appends them to ret. -ENOENT: there are none; -EUCLEAN. */
int wf_overlay_noted_files(const struct wf_overlay *ov, struct wf_buffer *ret);
int wf_overlay_forget_noted(struct wf_overlay *ov);

/* Drops the log and the data files: nothing was edited. Returns 0, or the error of removing the log, after which all of it
 * is still there. */
int wf_overlay_forget(struct wf_overlay *ov);

/* ---- without a mount ---- */
/* What waits beside the file at that path (which need not exist, and in which no link is resolved where it is absolute), whoever has it open: edits, and why the last commit failed
 * (empty: it did not). Returns 0; -EPERM it is not ours; -EUCLEAN, -EOPNOTSUPP as wf_overlay_open; or the system's error. */
int wf_overlay_look(const char *path, uint64_t *ret_edits, char *ret_failure, size_t size, struct wf_error *err);
/* For who opens a file without the overlay beside it: whether its bytes are those of one state. 0 (also where nobody can tell); -EBUSY in
 * the middle of a commit in place, which runs or was cut short. */
int wf_overlay_check_whole(const char *path, struct wf_error *err);
/* Cuts back what an append left over and removes the directory. -ENOENT when there is none; -EBUSY in use; -EPERM it is
 * not ours; -ESTALE an append was left unfinished, and the file that is there is not (surely) the one that has it. */
int wf_overlay_discard(const char *checkpoint, struct wf_error *err);
/* Removes what is in a directory on its way to another name. */
int wf_overlay_remove_passing(int home);
/* The same in the folders of the list; a folder's name ends in a slash, and stands before what is in it. all: what the list has in folders
 * goes, and the folders that are empty then. home: the directory that the names are in. */
int wf_overlay_clear_folders(const struct wf_overlay *ov, int home, bool all);
/* Then, of a directory that is no checkpoint: removes the files of a commit to it that was cut short, which the overlay has a list of. */
int wf_overlay_discard_noted(const char *directory, struct wf_error *err);
