/* SPDX-License-Identifier: MIT */
/* Mounting, and in one line why it did not work. libfuse and fusermount3 print what failed; what a user can do about it depends on
 * the device, on who may mount and on where, which is looked at here.
 *
 * Calling sequence: fs_check_mountpoint; fs_detach_dead_mount; fs_mount; fs_answer_first; then libfuse's loop.
 *
 * Threads: none but the caller's may write to standard error meanwhile. */
#pragma once

struct fuse_session;

/* Whether something can be mounted there, as far as that is known before the checkpoint is opened. Says why not. */
int fs_check_mountpoint(const char *mountpoint);
/* A mount of ours whose daemon died answers ENOTCONN for ever: it is taken away before a new one comes. */
void fs_detach_dead_mount(const char *mountpoint);
/* fuse_session_mount. Returns 0, or 1 after saying why. */
int fs_mount(struct fuse_session *session, const char *mountpoint);
/* Answers the kernel's first message, in which both sides agree on what they can do, and after it lets the kernel read ahead further than it does
 * by itself, where this process may. What goes wrong shows in the loop, which gets it again. */
void fs_answer_first(struct fuse_session *session, const char *mountpoint);
