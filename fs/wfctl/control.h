/* SPDX-License-Identifier: MIT */
/* The control directory of a mount, MOUNTPOINT/.weightfs: its texts, its status, and what is asked of its daemon. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/bytes/buffer.h"

/* What .weightfs/status says, as far as wfctl needs it. The texts are the caller's to free, NULL where there is none. */
struct wfctl_mounted {
	pid_t pid;
	bool writable, dirty, relocated;
	char *checkpoint, *output;
	char *last_error; /* why the last commit failed */
	bool committing;
	uint64_t done_bytes, total_bytes, append_bytes; /* of the commit that goes on */
	uint64_t unseen_tensors,
		unseen_bytes; /* that stand only in .weightfs/objects; 0 where a daemon does not tell */
};

/* Appends a text of the directory. 0, or a negative errno. */
int wfctl_control_read(const char *mount, const char *name, struct wf_buffer *out);
/* Writes to one of its files, which asks for what the file is called after. 0, or a negative errno. */
int wfctl_control_ask(const char *mount, const char *name);
/* On success, wfctl_mounted_free. */
int wfctl_mounted_read(const char *mount, struct wfctl_mounted *ret);
void wfctl_mounted_free(struct wfctl_mounted *m);
/* Asks for a commit, and shows on a terminal how far it is. 0, or a negative errno. */
int wfctl_control_commit(const char *mount);
/* The line about a commit that failed with that code, with the sentence that the daemon keeps about it. Returns WFCTL_FAILED. */
int wfctl_fail_commit(const char *mount, int code);
/* Writes that came through shared mappings are the kernel's until it is asked for them. */
void wfctl_push_dirty_pages(const char *mount);
