/* SPDX-License-Identifier: MIT */
/* Sizes that were set without an opening (truncate(2), NFS) wait for a write, and are judged when none follows. That is rare:
 * the thread is made for the first. */
#include "waiting.h"

#include <errno.h>
#include <stdlib.h>

#include "worker.h"

struct fs_waiting {
	struct fs *fs;
	struct fs_worker worker;
	bool begun; /* something may wait */
};

static void *judge_when_due(void *arg)
{
	struct fs_waiting *waiting = arg;
	struct fs_worker *w = &waiting->worker;
	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		if (!waiting->begun) {
			pthread_cond_wait(&w->changed, &w->lock);
			continue;
		}
		waiting->begun = false;
		pthread_mutex_unlock(&w->lock);
		int64_t ms = wf_judge_waiting(waiting->fs->checkpoint);
		pthread_mutex_lock(&w->lock);
		if (ms < 0)
			continue;
		struct timespec at = fs_deadline((ms + 1) * 1000000);
		while (!w->stop && !waiting->begun && pthread_cond_timedwait(&w->changed, &w->lock, &at) == 0)
			;
		waiting->begun = true;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int fs_waiting_start(struct fs *fs)
{
	struct fs_waiting *w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	w->fs = fs;
	fs_worker_init(&w->worker);
	fs->waiting = w;
	return 0;
}

void fs_waiting_stop(struct fs *fs)
{
	struct fs_waiting *w = fs->waiting;
	if (!w)
		return;
	fs_worker_stop(&w->worker);
	free(w);
	fs->waiting = NULL;
}

void fs_waiting_begins(struct fs *fs)
{
	struct fs_waiting *w = fs->waiting;
	if (!w)
		return;
	pthread_mutex_lock(&w->worker.lock);
	fs_worker_start(&w->worker, judge_when_due, w); /* without a thread it is judged by the next commit */
	w->begun = true;
	pthread_cond_signal(&w->worker.changed);
	pthread_mutex_unlock(&w->worker.lock);
}
