/* Sizes that were set without an opening (truncate(2), NFS) wait for a write, and are judged when none follows. That is rare:
 * the thread is made for the first. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "fs.h"

struct fs_waiting {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool running, begun, stop; /* there is a thread; something may wait; nobody asks any more */
};

static void *judge_when_due(void *arg)
{
	struct fs_waiting *w = arg;
	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		if (!w->begun) {
			pthread_cond_wait(&w->changed, &w->lock);
			continue;
		}
		w->begun = false;
		pthread_mutex_unlock(&w->lock);
		int64_t ms = wf_judge_waiting(w->fs->checkpoint);
		pthread_mutex_lock(&w->lock);
		if (ms < 0)
			continue;
		struct timespec at;
		clock_gettime(CLOCK_MONOTONIC, &at);
		at.tv_sec += ms / 1000;
		at.tv_nsec += ms % 1000 * 1000000 + 1000000;
		at.tv_sec += at.tv_nsec / 1000000000;
		at.tv_nsec %= 1000000000;
		while (!w->stop && !w->begun && pthread_cond_timedwait(&w->changed, &w->lock, &at) == 0)
			;
		w->begun = true;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int fs_waiting_start(struct fs *fs)
{
	pthread_condattr_t attr;
	struct fs_waiting *w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	w->fs = fs;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	fs->waiting = w;
	return 0;
}

void fs_waiting_stop(struct fs *fs)
{
	struct fs_waiting *w = fs->waiting;
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	if (w->running)
		pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
	fs->waiting = NULL;
}

void fs_waiting_begins(struct fs *fs)
{
	struct fs_waiting *w = fs->waiting;
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	/* without a thread it is judged by the next commit */
	w->running = w->running || pthread_create(&w->thread, NULL, judge_when_due, w) == 0;
	w->begun = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}
