/* SPDX-License-Identifier: MIT */
/* SIGTERM and SIGINT end a mount, but not under somebody who has mapped device memory of ours: the first one waits until the
 * last lease is given back and says so in the log, the second one ends it at once.
 *
 * Calling sequence: fs_signals_start before any other thread is there, fs_signals_serve when there is a session,
 * fs_signals_stop. Before fs_signals_serve a signal ends the process, as ever.
 */
#pragma once

struct fs;
struct fs_signals;

int fs_signals_start(struct fs *fs); /* 0 or a negative errno */
void fs_signals_serve(struct fs *fs);
void fs_signals_lease_ended(struct fs *fs);
void fs_signals_stop(struct fs *fs); /* accepts that it was never started */
