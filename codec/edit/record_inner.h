/* SPDX-License-Identifier: MIT */
/* The records of the log: their payloads, and how an edit makes one.
 *
 * overlay/format.h numbers them. The table below is the only list of what they are: the question whether a commit has to write a new
 * pickle (record.c) and the dispatch of a replay (replay.c) are made of it, and the compiler finds a number that has no row.
 * contrib/docs/overlay-format.md tells the bytes to those who have no source.
 *
 * A record that follows a commit means the tree as it was then, and is replayed into one that is read from the new base: there
 * another place of a shared container may be the directory and this one the link, and a list that lost its last tensor is a file of
 * text. A replay takes the one for the other.
 *
 * Calling sequence: wf_edit_payload, then wf_put_... in the order of the table, then wf_edit_record. All of it does nothing during a
 * replay. Threads: the checkpoint's lock is held exclusively.
 */
#pragma once

#include "codec/edit/state.h"
#include "codec/overlay/format.h"

/* Name (EDIT_NAME is its number); the function of replay.c that reads it (replay_names, ...); whether a commit writes a new pickle
 * for it. Behind it the payload. A text is a u32 length and its bytes. A path is a text: names from the root, joined with '/'. */
/* clang-format off */
#define WF_EDIT_RECORDS(X)                                                                                              \
	X(RENAME,     names,   true)  /* u32 flags of rename(2), path, new path */                                      \
	X(UNLINK,     names,   true)  /* path */                                                                        \
	X(RMDIR,      names,   true)  /* path */                                                                        \
	X(MKDIR,      names,   true)  /* path */                                                                        \
	X(CREATE,     names,   true)  /* path, u32 data file */                                                         \
	X(LINK,       names,   true)  /* path of the file, new path */                                                  \
	X(SYMLINK,    names,   true)  /* path of the directory, new path */                                             \
	X(BIND,       bytes,   false) /* path, u32 data file: it is that of the tensor's storage */                     \
	X(WRITE,      bytes,   false) /* u32 data file, u64 offset, u64 length */                                       \
	X(RESIZE,     bytes,   false) /* u32 data file, u64 size */                                                     \
	X(HOLD,       content, false) /* path, u32 data file, u8 flags (enum wf_hold) */                                \
	X(SETTLE,     content, false) /* path, u8 how (enum wf_settle), u8 dtype, u8 dimensions, i64 sizes */           \
	X(VALUE,      content, true)  /* path, text; nobody writes it any more */                                       \
	X(ATTRIBUTE,  content, true)  /* path, text name, text value */                                                 \
	X(COMPACT,    compact, false) /* nothing: lists are numbered anew, for a commit that failed */                  \
	X(SCRATCH,    scratch, false) /* nothing: scratch entries that earlier records made are gone */                 \
	X(PIECE,      piece,   false) /* u64 offset, a part of the next pickle */                                       \
	X(OBJECT,     object,  false) /* path, u64 length of the pieces before, rest of the pickle (edit/scratch.c) */  \
	X(SET,        content, true)  /* path, u8 takes the place that its name remembers, pickle (edit/set.c) */       \
	X(DECLARE,    content, false) /* path, text name, text value: an attribute for content that is to come */       \
	X(HEIR,       names,   true)  /* as RENAME, of a file that was judged by what stands or stood at the new name */ \
	X(SYMLINK_TO, names,   true)  /* path, text target: a link to anywhere, which only a scratch name can be */     \
	X(KNOWN,      content, false) /* path, u8 enum wf_known: what the records so far do not tell of the file (edit/known.c) */ \
	X(TOUCH,      touch,   false) /* path, text: what stood there, before the first edit that names it */
/* clang-format on */

/* edit/payload.c */
struct wf_buffer *wf_edit_payload(struct wf_checkpoint *ck); /* emptied; the checkpoint's own, until the next call */
void wf_put_u8(struct wf_buffer *b, uint8_t v);
void wf_put_u32(struct wf_buffer *b, uint32_t v);
void wf_put_u64(struct wf_buffer *b, uint64_t v);
void wf_put_text(struct wf_buffer *b, const void *text, size_t len);
/* The path of a name in a directory, which no edit has touched so far. -ENOENT, -ENAMETOOLONG, -ENOMEM. */
int wf_put_names(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir, const char *name);
int wf_put_dir(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir);

/* edit/touch.c */
/* An edit is about to name the entry: nothing where there is none, or where it is new. */
int wf_edit_touch(struct wf_checkpoint *ck, wf_ino dir, const char *name);
int wf_edit_touch_file(struct wf_checkpoint *ck, wf_ino ino); /* in its first place */
int wf_replay_touch(struct wf_checkpoint *ck, wf_ino dir, const char *name, const char *form, size_t len);
void wf_edit_forget_touched(struct wf_edits *e); /* a new log begins */

/* edit/record.c */
/* As wf_put_names, and the log says first what stands there. */
int wf_put_path(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir, const char *name);
int wf_put_file(struct wf_checkpoint *ck, struct wf_buffer *b,
		wf_ino ino); /* in its first place; -ENOENT for an orphan */
/* Appends the payload as a record. pending: a commit would write what it says. -EPERM: the pickle has to stay as it is. */
int wf_edit_record(struct wf_checkpoint *ck, enum wf_edit_record type, bool pending);
/* Of an attribute, set or declared. Nothing for an orphan, which no log could name. */
int wf_edit_record_setting(struct wf_checkpoint *ck, enum wf_edit_record type, wf_ino ino, const char *name,
			   const char *value);
int wf_edit_record_size(struct wf_checkpoint *ck, uint32_t number, uint64_t size, bool pending);
int wf_edit_record_write(struct wf_checkpoint *ck, uint32_t number, uint64_t offset, uint64_t len, bool pending);
/* Names are going to change: -EPERM where the pickle is kept as it is (edit/rewrite.c). */
int wf_edit_check_names(struct wf_checkpoint *ck);
/* An edit of this file would change the pickle: -EPERM where that is kept as it is (edit/rewrite.c). */
int wf_edit_check_pickle(struct wf_checkpoint *ck, wf_ino ino);
/* Whether the entry is one of a pickle beside the object's, which no commit writes. */
bool wf_edit_is_companion(struct wf_checkpoint *ck, wf_ino ino);
/* Whether the pickle that holds the entry is kept as it is: wf_edit_check_pickle, without a refusal. */
bool wf_edit_is_kept(struct wf_checkpoint *ck, wf_ino ino);
/* The same for the bytes of a tensor or of a storage: those of an array stand in the pickle, and can be written over there, as a rule. */
int wf_edit_check_bytes(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t);
int wf_edit_check_storage(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage);
