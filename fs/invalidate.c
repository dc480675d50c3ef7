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
#include <string.h>
#include <time.h>

#include "fs.h"

#define SETTLE_NSEC 50000000
#define SETTLE_CLOSE_NSEC 1000000000

struct change {
	uint32_t ino;
	uint64_t offset, len;
	char *name; /* of an entry of the directory ino; NULL: the node itself */
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

/* A node or name that the kernel does not know, or no longer, is no error. */
static void tell(struct fs *fs, struct change *c)
{
	if (c->name)
		fuse_lowlevel_notify_inval_entry(fs->session, c->ino, c->name, strlen(c->name));
	else
		fuse_lowlevel_notify_inval_inode(fs->session, c->ino, (off_t)c->offset, (off_t)c->len);
	free(c->name);
}

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
			tell(fs, &queue[i]);
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
	for (size_t i = 0; i < v->count; i++)
		free(v->queue[i].name);
	free(v->queue);
	free(v);
	fs->invalidator = NULL;
}

/* The lock is held. */
static int push(struct fs_invalidator *v, const struct change *c)
{
	if (v->count == v->capacity) {
		size_t capacity = v->capacity ? v->capacity * 2 : 64;
		struct change *queue = reallocarray(v->queue, capacity, sizeof *queue);
		if (!queue)
			return -ENOMEM;
		v->queue = queue;
		v->capacity = capacity;
	}
	v->queue[v->count++] = *c;
	v->changes++;
	return 0;
}

void fs_invalidate(void *ctx, uint32_t ino, uint64_t offset, uint64_t len)
{
	struct fs *fs = ctx;
	struct fs_invalidator *v = fs->invalidator;
	if (!v)
		return;
	pthread_mutex_lock(&v->lock);
	struct change *last = v->count ? &v->queue[v->count - 1] : NULL;
	if (last && last->ino == ino && !last->name && last->len && len && last->offset + last->len == offset)
		last->len += len; /* a long sequential write is one change */
	else
		push(v, &(struct change){.ino = ino, .offset = offset, .len = len});
	pthread_cond_signal(&v->wake);
	pthread_mutex_unlock(&v->lock);
}

int fs_invalidate_entry(struct fs *fs, uint32_t dir, const char *name)
{
	struct fs_invalidator *v = fs->invalidator;
	struct change c = {.ino = dir, .name = strdup(name)};
	int r = c.name ? 0 : -ENOMEM;
	pthread_mutex_lock(&v->lock);
	if (r == 0)
		r = push(v, &c);
	pthread_cond_signal(&v->wake);
	pthread_mutex_unlock(&v->lock);
	if (r < 0)
		free(c.name);
	return r;
}

static void settle(struct fs *fs, long most_nsec)
{
	struct fs_invalidator *v = fs->invalidator;
	struct timespec until;
	if (!v || v->done == v->changes)
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += most_nsec;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&v->lock);
	uint64_t all = v->changes;
	while (v->done < all && pthread_cond_timedwait(&v->told, &v->lock, &until) == 0)
		;
	pthread_mutex_unlock(&v->lock);
}

void fs_settle(struct fs *fs)
{
	settle(fs, SETTLE_NSEC);
}

/* No page is held meanwhile, so that nothing waits for this request but its caller. */
void fs_settle_close(struct fs *fs)
{
	settle(fs, SETTLE_CLOSE_NSEC);
}
