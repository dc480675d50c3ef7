/* SPDX-License-Identifier: MIT */
/* Who may share a storage with whom, for the files of this folder.
 *
 * Two names of a tensor are one file, and views of one storage change together: that is what the checkpoint says of them, and it stays so,
 * whatever the names are. A backup and the stand-in that shows the backup's tensor are neither: they are *twins*, two files that show the same
 * bytes. Sharing costs nothing as long as nobody writes; before one of them changes, one of them gets bytes of its own.
 *
 * Calling sequence: who is going to change the bytes of a file's tensor in place, or the form of its storage, or its object, calls
 * wf_edit_part first, and decodes the tensor afterwards. A replay does not: the records of what was parted are in the log. A commit calls
 * wf_edit_part_twins: to whom opens the new checkpoint, or reads the log behind it, two tensors of the same bytes are one file. Threads: the
 * checkpoint's lock is held exclusively.
 */
#pragma once

#include "codec/edit/state.h"

struct wf_past;
struct wf_pickle_reader;
struct wf_tensor_type;

/* Returns 0; 1: it is the file itself that has to get another storage, and content of it waits to be judged, which is to have that; or what
 * a full disk, or bytes that cannot be read, came to: then nothing was changed. */
int wf_edit_part(struct wf_checkpoint *ck, wf_ino ino);
int wf_edit_part_twins(
	struct wf_checkpoint *ck); /* all that are left; what cannot be read stays, with a line in the log */

/* The file shows what the name remembers, as the twin of the file that has it. *ret: the object to show. */
int wf_edit_make_twin(struct wf_checkpoint *ck, wf_ino ino, const struct wf_past *past, wf_ref *ret);

/* edit/storages.c: whether a twin of the file shows the storage, too: then it is not the file's alone. */
/* The file may show the tensor of another one from now on, which is the first of all such, or counts for it. 0 or -ENOMEM. */
int wf_edit_join_twins(struct wf_checkpoint *ck, wf_ino ino, wf_ino first);
/* The twins of a file, one by one: *at is 0 at first, and no file joins meanwhile. WF_NO_INO: there are no more. */
wf_ino wf_edit_next_twin(const struct wf_checkpoint *ck, wf_ino ino, uint32_t *at);
bool wf_edit_twin_shows(const struct wf_checkpoint *ck, wf_ino ino, uint32_t storage);

/* edit/objects.c: reads a pickle, whose memory it takes over, into the graph; and an array that has a copy of the content, with its storage. */
int wf_edit_read_pickle(struct wf_checkpoint *ck, const struct wf_pickle_reader *hooks, char *pickle, uint64_t len,
			wf_ref *ret);
int wf_edit_make_array(struct wf_checkpoint *ck, const struct wf_tensor_type *type, wf_ref record, const void *content,
		       uint64_t size, wf_ref *ret);

/* edit/pending.c: pending content that is a copy of the tensor's first bytes, in a data file of its own. Nothing is pending yet. */
int wf_edit_hold_copy(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t, uint64_t keep);
