/* SPDX-License-Identifier: MIT */
/* A thread that does something beside the requests, and sleeps until it is told that there is something to do: so that an idle mount
 * costs nothing. What it works on is its owner's, behind the worker's lock.
 *
 * Calling sequence: fs_worker_init; fs_worker_start when the thread is wanted; fs_worker_stop, which waits for its end. Signals go to the
 * other threads.
 *
 * Threads: lock and changed are for everybody. The thread ends its loop when `stop` is set.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

struct fs_worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* times are CLOCK_MONOTONIC */
	bool running, stop;
};

void fs_worker_init(struct fs_worker *w);
/* Does nothing when it runs. 0, or a negative errno. */
int fs_worker_start(struct fs_worker *w, void *(*run)(void *arg), void *arg);
/* Of one that was made by fs_worker_init, whether it was started or not. */
void fs_worker_stop(struct fs_worker *w);

/* A condition for fs_deadline. */
void fs_condition_init(pthread_cond_t *c);
/* So many nanoseconds from now. */
struct timespec fs_deadline(long long nanoseconds);
