/* SPDX-License-Identifier: MIT */
/* The member files of a checkpoint that is a directory, by number.
 *
 * At most WF_MEMBERS_OPEN of them stay open, or an eighth of the descriptors that the process may have where that is less, so that 10,000
 * shards need no 10,000 descriptors: the one that was not used for longest is closed first. What was read of a file before holds: whoever finds it changed when it is opened again gets -ESTALE. One that was only
 * touched goes on.
 * Calling sequence: wf_members_new, wf_members_add for each, any number of wf_members_open, wf_members_unref. Its directory is held: what is
 * mounted over its path later does not matter.
 * Threads: adding has one owner; everything else any thread. A file that is being opened is waited for by those alone who want it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/bytes/err.h"
#include "codec/bytes/source.h"

#define WF_MEMBERS_OPEN 128u
#define WF_MEMBERS_MAX (1u << 20)

struct wf_members;

/* directory: absolute. 0, -ENOMEM, or the error of opening it. */
int wf_members_new(const char *directory, struct wf_members **ret, struct wf_error *err);
struct wf_members *wf_members_ref(struct wf_members *m);
void wf_members_unref(struct wf_members *m); /* accepts NULL */

/* The number of the file with this name, a new one for a new name; nothing is opened. A name may have slashes, and symbolic links are
 * followed (the hub's cache is made of them). Refused with -EUCLEAN: an empty name, an absolute one, an empty component, "." or ".."
 * among the components, NUL. -E2BIG, -ENOMEM. */
int wf_members_add(struct wf_members *m, const char *name, size_t len, uint32_t *ret, struct wf_error *err);
/* The number of a name that is there; UINT32_MAX. */
uint32_t wf_members_find(const struct wf_members *m, const char *name, size_t len);
/* That file is open already: what its name leads to, or will once a commit has renamed it. Before others use m; takes its own reference. */
void wf_members_give(struct wf_members *m, uint32_t i, struct wf_source *file);
/* A reference on the open file. -EIO it is missing, or no regular file, and the text names it; -ESTALE it is another than at its first
 * opening; or the system's error. */
int wf_members_open(struct wf_members *m, uint32_t i, struct wf_source **ret, struct wf_error *err);
/* A source over it that holds m and no descriptor: each read opens the file where it is closed. Errors as above. */
int wf_members_source(struct wf_members *m, uint32_t i, struct wf_source **ret, struct wf_error *err);
/* Whether it can be read, and is what it was. Errors as above. */
int wf_members_check(struct wf_members *m, uint32_t i, struct wf_error *err);
/* Its size. Errors as above. */
int wf_members_size(struct wf_members *m, uint32_t i, uint64_t *ret, struct wf_error *err);

uint32_t wf_members_count(const struct wf_members *m);
const char *wf_members_name(const struct wf_members *m, uint32_t i); /* NULL past the end */
const char *wf_members_directory(const struct wf_members *m);
