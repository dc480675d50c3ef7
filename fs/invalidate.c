/* Telling the kernel about stale pages.
 *
 * A request's own thread must not do that: the kernel may hold the page that it is to drop locked until the request is
 * answered. So changes are queued and a thread of their own tells them. A request that made some waits before it
 * answers until they are told (fs_settle): who has seen a write return then reads it under every name. That wait is
 * bounded, since two writers can hold a page each that the other one's change is about; the pages are then dropped as
 * soon as the answers let go of them. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "fs.h"

#define SETTLE_NSEC 50000000

struct change {
	uint32_t ino;
	uint64_t offset, len;
};

struct fs_invalidator {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake, told;
	_Atomic uint64_t changes; /* ever queued */
	_Atomic uint64_t done;    /* of these, told */
	struct change *queue;
	size_t count, capacity;
	bool stop;
};

static void *run(void *arg)
{
	struct fs *fs = arg;
	struct fs_invalidator *v = fs->invalidator;
	pthread_mutex_lock(&v->lock);
	for (;;) {
		while (!v->count && !v->stop)
			pthread_cond_wait(&v->wake, &v->lock);
		if (v->stop)
			break;
		struct change *queue = v->queue;
		size_t n = v->count;
		v->queue = NULL;
		v->count = v->capacity = 0;
		pthread_mutex_unlock(&v->lock);
		for (size_t i = 0; i < n; i++)
			/* a node that the kernel does not know, or no longer, is no error */
			fuse_lowlevel_notify_inval_inode(fs->session, queue[i].ino, (off_t)queue[i].offset,
							 (off_t)queue[i].len);
		free(queue);
		pthread_mutex_lock(&v->lock);
		v->done += n;
		pthread_cond_broadcast(&v->told);
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

int fs_invalidator_start(struct fs *fs)
{
	struct fs_invalidator *v = calloc(1, sizeof *v);
	if (!v)
		return -ENOMEM;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->wake, NULL);
	pthread_cond_init(&v->told, NULL);
	fs->invalidator = v;
	/* signals are for the thread that waits for the session's end */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int r = -pthread_create(&v->thread, NULL, run, fs);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0) {
		fs->invalidator = NULL;
		free(v);
	}
	return r;
}

void fs_invalidator_stop(struct fs *fs)
{
	struct fs_invalidator *v = fs->invalidator;
	if (!v)
		return;
	pthread_mutex_lock(&v->lock);
	v->stop = true;
	pthread_cond_signal(&v->wake);
	pthread_mutex_unlock(&v->lock);
	pthread_join(v->thread, NULL);
	pthread_cond_destroy(&v->wake);
	pthread_cond_destroy(&v->told);
	pthread_mutex_destroy(&v->lock);
	free(v->queue);
	free(v);
	fs->invalidator = NULL;
}

void fs_invalidate(void *ctx, uint32_t ino, uint64_t offset, uint64_t len)
{
	struct fs *fs = ctx;
	struct fs_invalidator *v = fs->invalidator;
	if (!v)
		return;
	pthread_mutex_lock(&v->lock);
	struct change *last = v->count ? &v->queue[v->count - 1] : NULL;
	if (last && last->ino == ino && last->len && len && last->offset + last->len == offset) {
		last->len += len; /* a long sequential write is one change */
	} else {
		if (v->count == v->capacity) {
			size_t capacity = v->capacity ? v->capacity * 2 : 64;
			struct change *queue = reallocarray(v->queue, capacity, sizeof *queue);
			if (queue) {
				v->queue = queue;
				v->capacity = capacity;
			}
		}
		if (v->count < v->capacity) {
			v->queue[v->count++] = (struct change){ino, offset, len};
			v->changes++;
		}
	}
	pthread_cond_signal(&v->wake);
	pthread_mutex_unlock(&v->lock);
}

void fs_settle(struct fs *fs)
{
	struct fs_invalidator *v = fs->invalidator;
	struct timespec until;
	if (!v || v->done == v->changes)
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += SETTLE_NSEC;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&v->lock);
	uint64_t all = v->changes;
	while (v->done < all && pthread_cond_timedwait(&v->told, &v->lock, &until) == 0)
		;
	pthread_mutex_unlock(&v->lock);
}
