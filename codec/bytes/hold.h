/* SPDX-License-Identifier: MIT */
/* Who reads a file whose bytes must not move, and who is about to move them: a lock of the open file description on one byte far behind
 * any end (F_OFD_SETLK, l_start WF_HOLD_AT, l_len 1). It lasts until the descriptor and all copies of it are closed, those inside a
 * mapping of Python's among them; programs that map a checkpoint take the shared one. It is independent of the flock of a writer.
 *
 * Where the file system has no such locks, every call succeeds. No state; any thread. */
#pragma once

#define WF_HOLD_AT (1ll << 62)

/* fd is open for reading. Waits at most some seconds for somebody who holds it alone. 0, or -EBUSY. */
int wf_hold_shared(int fd);
/* fd is open for writing. Does not wait: 0, or -EBUSY. */
int wf_hold_alone(int fd);
