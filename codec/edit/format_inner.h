/* SPDX-License-Identifier: MIT */
/* What a flat format, safetensors, cannot say: edit/format.c; and what a link is there: edit/copy.c. The checks return 0, or refuse with a reason; they allow everything in scratch
 * directories, in a replay, and in every other format. Threads: the checkpoint's lock is held exclusively. */
#pragma once

#include "codec/edit/state.h"

struct wf_wanted;
struct wf_place;

bool wf_edit_is_flat(const struct wf_checkpoint *ck);
bool wf_edit_in_metadata(const struct wf_checkpoint *ck, wf_ino dir); /* it is the directory of the metadata */
int wf_edit_check_key(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref *key); /* makes a text of it */
int wf_edit_check_directory(struct wf_checkpoint *ck, wf_ino dir); /* a new directory, or a symbolic link, there */
int wf_edit_check_object(struct wf_checkpoint *ck, wf_ino dir, wf_ref object);
/* A tensor gets another name, or one more, in dir. -EIO: it is in a shard that cannot be read, and so cannot be written with that name. */
int wf_edit_check_shard(struct wf_checkpoint *ck, wf_ref object, wf_ino dir);
int wf_edit_check_type(struct wf_checkpoint *ck, const struct wf_tensor *t);
int wf_edit_check_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value);
/* How much of a text that is written into the metadata is the value: a line ends before its newline, unless the old value had one, too.
 * Of any other file: all of it. */
size_t wf_edit_metadata_size(struct wf_checkpoint *ck, wf_ino ino, wf_ref old, const char *text, size_t size);
void wf_edit_narrow(const struct wf_checkpoint *ck, struct wf_wanted *w); /* to what its tensors can be */
bool wf_edit_takes_line(struct wf_checkpoint *ck, wf_ino ino);            /* a line of text may be new content there */

/* edit/distributed.c: the same of names in a distributed checkpoint */
bool wf_edit_names_entries(const struct wf_checkpoint *ck,
			   wf_ino dir); /* names in the directory are entries by themselves, of such a one */
int wf_edit_check_entry_key(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref *key);
/* Whether an attribute can make that the key of an entry: of what becomes a list, whose elements are copied as those of a mapping first. */
bool wf_edit_takes_key(struct wf_checkpoint *ck, const struct wf_place *p, wf_ref key);
int wf_edit_check_moved_mapping(struct wf_checkpoint *ck, wf_ino ino, wf_ino to, wf_ref own_key);

/* edit/copy.c */
/* A new file with the content of another. -EBUSY while that is written. `lock` is let go while bytes are copied: for nothing is changed
 * before, and commit_lock keeps edits away. */
int wf_edit_copy(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name, wf_ino *ret);

/* edit/make.c: what a link and the replay of its record do, where there are ties */
/* ret: the file that has the name now. */
int wf_apply_link(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name, wf_ino *ret);
