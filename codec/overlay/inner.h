/* SPDX-License-Identifier: MIT */
/* The inside of an overlay, for the files of this folder.
 *
 * Lower files first, each calls those before it alone: home (where the files stand), base (which file), directory (what is ours
 * there), lock, files (data/N), replay (the log read back), log (the log written), next (the one that a commit
 * begins), reset (dropping both), sync (making it durable), undo (what a commit in place takes), mark (commits), overlay (opening,
 * closing, looking).
 */
#pragma once

#include <pthread.h>

#include "codec/bytes/buffer.h"
#include "codec/overlay/format.h"
#include "codec/overlay/overlay.h"

#define WF_OVERLAY_BUFFER (1u << 20) /* records kept in memory between two syncs */

#define WF_DATA_NAME 24 /* "N" or "N.new" */

struct wf_data_file {
	int fd;       /* -1 while not open */
	bool present; /* stands in data/ as far as this session knows */
	bool touched; /* written since the last sync */
	bool dropped; /* goes at the next sync: until then a durable record may still name it */
	bool earlier; /* unlogged: of edits that a log on disk has, which may need it again. N.new, a copy, is used instead */
	bool copied; /* that copy is there */
	bool failed; /* an fdatasync did: the kernel may have dropped what was written and will not say so again */
};

/* What is known of a log, where there are two. */
struct wf_log_state {
	int fd;
	bool failed;
	uint32_t version, named_below;
	uint64_t bytes, reserved, sequence, edits, unsynced, pending;
	struct wf_buffer buffer;
};

enum wf_next_state {
	WF_NEXT_NONE,
	WF_NEXT_READY,  /* log.next is whole and durable */
	WF_NEXT_IN_USE, /* it is the log, and what else the commit left is not cleared yet */
};

struct wf_overlay {
	char *checkpoint; /* of the file that the base is: the output after a commit there */
	char *target, *directory;
	bool elsewhere; /* target is not the checkpoint */
	bool apart;     /* the directory does not stand beside the target */
	bool onto;      /* the edits were made on another file */
	/* of the log, or of the one that the next record makes */
	uint32_t log_version;
	bool writable;
	bool unlogged;
	struct wf_log log;

	struct wf_overlay_base base;
	/* The directories of the target and, where that is elsewhere, of the checkpoint: names in them are found whatever is mounted over
	 * the paths later, be it our own mount. 0: not open, the paths are good enough. */
	int home_fd, source_home_fd;
	int file_fd;                   /* the checkpoint, flock'ed by a writer */
	int dir_fd;                    /* the directory; -1 until there is one */
	int data_fd;                   /* data/; -1 until there is one */
	int lock_fd;                   /* lock; -1 until there is one */
	int log_fd;                    /* log; -1 until there is one */
	int lock_pid;                  /* what `lock` says; a daemon's fork after opening changes it */
	enum wf_overlay_commit marked; /* the mark of the commit under way; once it is sealed, REPLACE */
	bool in_place;                 /* it is one in place, sealed or not */
	bool written;                  /* the edits so far are in the target, in another format: log and mark stay */
	bool goes_on;                  /* what was written so is the beginning of the log */
	bool uncleared; /* after a commit something could not be removed: before the next edit it must be */
	bool (*keep)(void *ctx, uint32_t number); /* which data files stay then */
	void *keep_ctx;
	bool new_log_name, new_data_name, new_directory; /* names not yet durable */

	uint64_t log_bytes;    /* written so far, header included */
	uint64_t log_reserved; /* up to here the file system has room for sure; UINT64_MAX: it cannot say */
	bool log_failed;       /* as of a data file; or the directory's fsync did */
	bool data_names_failed;
	bool wants_room;   /* a data file was dropped on a disk that is nearly full */
	char failure[400]; /* why the last commit failed; empty: it did not, or there was none since */
	int64_t failure_time;
	uint64_t sequence; /* of the next record */
	uint64_t edits, unsynced;
	uint64_t pending; /* of the edits, those that a commit would write */
	struct wf_buffer buffer;
	struct wf_log_state next; /* of log.next; while that is written, of the log itself */
	enum wf_next_state next_state;
	bool begun; /* the log was begun by a commit that was cut short: data files that it does not name are that commit's */
	bool left_out;    /* something of the log was, and its data files are wanted */
	bool replayed;    /* what is pending is known: before that nothing may be removed */
	bool ignored;     /* a reader found edits that are in the file already, or that it cannot use */
	bool torn;        /* a reader found the file itself in the middle of a commit in place */
	char unused[640]; /* why it cannot use them */

	pthread_mutex_t files_lock; /* files, for readers beside each other */
	struct wf_data_file *files;
	uint32_t files_count; /* numbers below it are taken */
	uint32_t named_below; /* numbers from here on are in no record that was written so far */
	uint32_t files_capacity;
	uint32_t open_count, touched_count, dropped_count;
};

/* overlay/lock.c */
/* Opens the checkpoint and, for a writer, takes its flock. */
int wf_overlay_lock_checkpoint(struct wf_overlay *ov, struct wf_error *err);
/* Takes the lock of the directory, which exists. */
int wf_overlay_lock_directory(struct wf_overlay *ov, struct wf_error *err);
void wf_overlay_note_pid(struct wf_overlay *ov);

/* overlay/log.c */
/* Reads the header of the log of that name, which is the log from then on. *ret_found: there is one with at least a whole header. */
int wf_overlay_read_header(struct wf_overlay *ov, const char *name, struct wf_overlay_base *ret, bool *ret_found,
			   struct wf_error *err);
int wf_overlay_write_header(int fd, const struct wf_overlay_base *base); /* of a new log */
/* Makes the log with its header when missing, and keeps room in it for removals, which a full disk must not refuse.
 * removes: this is one. */
int wf_overlay_reserve_log(struct wf_overlay *ov, bool removes);
/* Writes what is buffered. */
int wf_overlay_write_log(struct wf_overlay *ov);
/* The log is durable on return. After a failure only a copy of it in a new file is believed. */
int wf_overlay_sync_log(struct wf_overlay *ov);
/* Makes the names in a directory of ours durable. *failed: the last time that did not work. */
int wf_overlay_sync_names(int dir_fd, bool *failed);

/* overlay/replay.c */
/* Whether the first `bytes` of a log are whole records: 0, -EIO when not, or the system's error. */
int wf_overlay_check_log(int fd, uint64_t bytes);
/* What a log that is not replayed holds: edits that a commit would write, and the last failure. */
int wf_overlay_scan_log(struct wf_overlay *ov, uint64_t *ret_edits);
void wf_overlay_forget_log(struct wf_overlay *ov); /* the file is gone: the next record starts a new one */

/* overlay/base.c */
/* The same as wf_overlay_base_of but for the content. */
int wf_overlay_base_look(int fd, uint64_t size_bytes, struct wf_overlay_base *ret);
bool wf_overlay_base_equal(const struct wf_overlay_base *a, const struct wf_overlay_base *b);
/* As log and mark have it (format.h), WF_BASE_BYTES long; the content's checksum stands elsewhere in each. */
void wf_overlay_put_base(unsigned char *at, const struct wf_overlay_base *base);
struct wf_overlay_base wf_overlay_get_base(const unsigned char *at, bool has_content, uint32_t content_crc32);
/* Before the base is written down: its content, too, where it still is what was opened. */
void wf_overlay_know_content(struct wf_overlay *ov);

/* overlay/undo.c */
int wf_overlay_write_undo(struct wf_overlay *ov,
			  const struct wf_overlay_rewrite *rewrite); /* durable, but for its name */
void wf_overlay_remove_undo(struct wf_overlay *ov);
/* After a commit to the checkpoint itself that was cut short, of base b: the target gets the bytes, size and mtime of b back. A reader
 * looks whether it can read the first bytes of an append as b, or whether nothing was changed in place. Returns 0; -ESTALE the target is
 * not surely that file; -EUCLEAN `undo` cannot be used; -EBUSY a reader would have to write; -EOPNOTSUPP the file system of a copy cannot
 * take out what was inserted; or the system's error. */
int wf_overlay_take_back(struct wf_overlay *ov, enum wf_mark_kind kind, const struct wf_overlay_base *b);
/* The text for its error, which is returned. */
int wf_overlay_say_not_taken_back(struct wf_overlay *ov, enum wf_mark_kind kind, int r, struct wf_error *err);

/* overlay/mark.c */
/* Holds file, mark and log against each other, finishes or undoes a commit that was cut short (a writer) or looks past
 * it (a reader), and sets ov->base. */
int wf_overlay_settle_state(struct wf_overlay *ov, struct wf_error *err);
/* The same for edits that were made on another file: their log is taken as it is. */
int wf_overlay_settle_onto(struct wf_overlay *ov, struct wf_error *err);
/* For a reader that does not open the overlay: -EBUSY where the target is in the middle of a commit in place. */
int wf_overlay_check_torn(struct wf_overlay *ov, struct wf_error *err);
/* Whether a mark says that the edits are in the file at the target already. */
bool wf_overlay_is_done(const struct wf_overlay *ov);
/* For a discard: gives the target its old bytes when a commit to itself was under way. */
int wf_overlay_undo_append(struct wf_overlay *ov, struct wf_error *err);

/* overlay/home.c */
/* Opens the two directories. Where that does not work, whoever needs them says so. */
void wf_overlay_open_homes(struct wf_overlay *ov);
void wf_overlay_close_homes(struct wf_overlay *ov);
/* Opens the checkpoint that the base is of (the output after a commit there). The descriptor, or -errno. */
int wf_overlay_open_checkpoint(const struct wf_overlay *ov, int flags);

/* overlay/directory.c */
/* Opens the directory and data/ where they are there and ours. -EPERM with a text when they are not. */
int wf_overlay_open_directory(struct wf_overlay *ov, struct wf_error *err);
/* Make the one or the other where it is missing. Between the two the caller takes the lock of the directory. */
int wf_overlay_make_directory(struct wf_overlay *ov);
int wf_overlay_make_data(struct wf_overlay *ov);
/* Opens (O_CREAT: makes) a regular file of ours with one name; -EPERM where something else has the name. */
int wf_overlay_open_at(const struct wf_overlay *ov, int dir_fd, const char *name, int flags, int *ret_fd);
int wf_overlay_sync_parent(const struct wf_overlay *ov);
/* Removes what is left of the directory; one that holds other things (log.cut.N) stays. */
void wf_overlay_remove_directory(struct wf_overlay *ov, bool cut_logs);

/* overlay/next.c */
void wf_overlay_drop_next(struct wf_overlay *ov); /* log.next, whoever left it */
int wf_overlay_use_next(struct wf_overlay *ov);   /* the commit is done: it is the log */
/* After a commit that was cut short, whose file is `now`: the log that it began, under either name. *ret: there is one, and its header
 * is read. */
int wf_overlay_adopt_next(struct wf_overlay *ov, const struct wf_overlay_base *now, bool *ret);

/* overlay/reset.c */
/* Removes log, mark and data files, but those kept. Durable on return. */
int wf_overlay_clear(struct wf_overlay *ov, bool (*keep)(void *ctx, uint32_t number), void *ctx);

/* overlay/files.c */
int wf_overlay_find_files(struct wf_overlay *ov); /* which data files are there; a writer removes half-made copies */
void wf_overlay_close_files(struct wf_overlay *ov);
void wf_overlay_trim_files(struct wf_overlay *ov); /* closes descriptors beyond a limit; nobody may borrow one */
int wf_overlay_sync_files(struct wf_overlay *ov);
void wf_overlay_unlink_dropped(struct wf_overlay *ov);
void wf_overlay_forget_new_files(struct wf_overlay *ov); /* unlogged: what was found is there again, and nothing else */
/* Removes data files but those kept, which lose nothing. */
void wf_overlay_remove_files(struct wf_overlay *ov, bool (*keep)(void *ctx, uint32_t number), void *ctx);
