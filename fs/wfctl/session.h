/* SPDX-License-Identifier: MIT */
/* The checkpoints that a run has open: of one verb, or of all lines of a script. What it edits is one commit at its end, or nothing.
 *
 * Calling sequence: wfctl_session_new; the verbs ask for stores, which stay the session's; wfctl_session_end. */
#pragma once

#include <stdbool.h>

#include "fs/wfctl/store.h"

struct wfctl_call;
struct wfctl_session;

/* options: the call whose --with-pending and --commit hold; NULL: neither. NULL without memory, or after saying that an option is wrong. */
struct wfctl_session *wfctl_session_new(const struct wfctl_call *options);
/* A checkpoint or mount to look at: the one that is edited, where it is that. NULL after saying why. */
struct wfctl_store *wfctl_session_read(struct wfctl_session *s, const char *path);
/* The one to edit: a session edits one checkpoint, or mount. NULL after saying why. */
struct wfctl_store *wfctl_session_edit(struct wfctl_session *s, const char *path);
/* status: what the verbs came to. Commits after WFCTL_OK, else drops what was edited, closes all and frees s. Returns the exit status. */
int wfctl_session_end(struct wfctl_session *s, int status);
/* Whether a mount is edited, of which a failure leaves what was done before. */
bool wfctl_session_on_mount(const struct wfctl_session *s);
