/* SPDX-License-Identifier: MIT */
/* Starts and ends the threads that work beside the requests. */
#include "worker.h"

#include <signal.h>

#define NSEC 1000000000

void fs_condition_init(pthread_cond_t *c)
{
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attributes);
	pthread_condattr_destroy(&attributes);
}

struct timespec fs_deadline(long long nanoseconds)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	nanoseconds += at.tv_nsec;
	at.tv_sec += nanoseconds / NSEC;
	at.tv_nsec = nanoseconds % NSEC;
	return at;
}

void fs_worker_init(struct fs_worker *w)
{
	*w = (struct fs_worker){0};
	pthread_mutex_init(&w->lock, NULL);
	fs_condition_init(&w->changed);
}

int fs_worker_start(struct fs_worker *w, void *(*run)(void *arg), void *arg)
{
	sigset_t all, before;
	if (w->running)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int r = -pthread_create(&w->thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->running = r == 0;
	return r;
}

void fs_worker_stop(struct fs_worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	if (w->running)
		pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
}
