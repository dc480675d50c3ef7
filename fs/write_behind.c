/* SPDX-License-Identifier: MIT */
/* Edits reach the overlay's log without being asked: a few seconds after the first one that is not there yet, all of them.
 * A kill then loses no more than that. */
#include "write_behind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "worker.h"

#define DELAY_SECONDS 3 /* of the 5 that are promised; the rest is for the disk */

struct fs_write_behind {
	struct fs *fs;
	struct fs_worker worker;
	bool edited;
	atomic_bool waiting; /* an edit need not wake it again */
};

/* Returns false when the mount ends. The lock is held. */
static bool wait_for_edit(struct fs_write_behind *b)
{
	struct fs_worker *w = &b->worker;
	while (!b->edited && !w->stop)
		pthread_cond_wait(&w->changed, &w->lock);
	struct timespec until = fs_deadline(DELAY_SECONDS * 1000000000ll);
	while (!w->stop && pthread_cond_timedwait(&w->changed, &w->lock, &until) != ETIMEDOUT)
		;
	b->edited = false;
	atomic_store(&b->waiting, false);
	return !w->stop;
}

static void *write_behind(void *arg)
{
	struct fs_write_behind *b = arg;
	int last = 0;
	pthread_mutex_lock(&b->worker.lock);
	while (wait_for_edit(b)) {
		pthread_mutex_unlock(&b->worker.lock);
		int r = wf_sync_behind(b->fs->checkpoint);
		if (r < 0 && r != last && r != -EAGAIN)
			fs_log(b->fs, LOG_ERR, "edits cannot be made durable: %s", strerror(-r));
		last = r == -EAGAIN ? last : r;
		pthread_mutex_lock(&b->worker.lock);
		b->edited |= r < 0; /* tried again */
	}
	pthread_mutex_unlock(&b->worker.lock);
	return NULL;
}

void fs_edited(struct fs *fs)
{
	struct fs_write_behind *b = fs->write_behind;
	if (!b || atomic_exchange(&b->waiting, true))
		return;
	pthread_mutex_lock(&b->worker.lock);
	b->edited = true;
	pthread_cond_signal(&b->worker.changed);
	pthread_mutex_unlock(&b->worker.lock);
}

int fs_write_behind_start(struct fs *fs)
{
	struct fs_write_behind *b = calloc(1, sizeof *b);
	if (!b)
		return -ENOMEM;
	b->fs = fs;
	fs_worker_init(&b->worker);
	fs->write_behind = b;
	int r = fs_worker_start(&b->worker, write_behind, b);
	if (r < 0)
		fs_write_behind_stop(fs);
	return r;
}

void fs_write_behind_stop(struct fs *fs)
{
	struct fs_write_behind *b = fs->write_behind;
	if (!b)
		return;
	fs_worker_stop(&b->worker);
	free(b);
	fs->write_behind = NULL;
}
