/* Edits reach the overlay's log without being asked: a few seconds after the first one that is not there yet, all of them.
 * A kill then loses no more than that.
 *
 * The thread sleeps until an edit wakes it, so that an idle mount costs nothing. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs.h"

#define DELAY_SECONDS 3 /* of the 5 that are promised; the rest is for the disk */

struct fs_write_behind {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool edited, stop;
	atomic_bool waiting; /* an edit need not wake it again */
};

/* Returns false when the mount ends. The lock is held. */
static bool wait_for_edit(struct fs_write_behind *w)
{
	struct timespec until;
	while (!w->edited && !w->stop)
		pthread_cond_wait(&w->wake, &w->lock);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += DELAY_SECONDS;
	while (!w->stop && pthread_cond_timedwait(&w->wake, &w->lock, &until) != ETIMEDOUT)
		;
	w->edited = false;
	atomic_store(&w->waiting, false);
	return !w->stop;
}

static void *write_behind(void *arg)
{
	struct fs_write_behind *w = arg;
	int last = 0;
	pthread_mutex_lock(&w->lock);
	while (wait_for_edit(w)) {
		pthread_mutex_unlock(&w->lock);
		int r = wf_sync_behind(w->fs->checkpoint);
		if (r < 0 && r != last && r != -EAGAIN)
			fs_log(w->fs, LOG_ERR, "edits cannot be made durable: %s", strerror(-r));
		last = r == -EAGAIN ? last : r;
		pthread_mutex_lock(&w->lock);
		w->edited |= r < 0; /* tried again */
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void fs_edited(struct fs *fs)
{
	struct fs_write_behind *w = fs->write_behind;
	if (!w || atomic_exchange(&w->waiting, true))
		return;
	pthread_mutex_lock(&w->lock);
	w->edited = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

int fs_write_behind_start(struct fs *fs)
{
	struct fs_write_behind *w = calloc(1, sizeof *w);
	pthread_condattr_t attributes;
	if (!w)
		return -ENOMEM;
	w->fs = fs;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	int r = pthread_create(&w->thread, NULL, write_behind, w);
	if (r != 0) {
		pthread_cond_destroy(&w->wake);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return -r;
	}
	fs->write_behind = w;
	return 0;
}

void fs_write_behind_stop(struct fs *fs)
{
	struct fs_write_behind *w = fs->write_behind;
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
	fs->write_behind = NULL;
}
