/* SPDX-License-Identifier: MIT */
/* Telling the kernel about stale pages.
 *
 * A request's own thread must not do that: the kernel may hold the page that it is to drop locked until the request is
 * answered. So changes are queued and a thread of their own tells them. A request that made some waits before it
 * answers until they are told (fs_settle): who has seen a write return then reads it under every name. That wait ends
 * where a while goes by in which none is told, since two writers can hold a page each that the other one's change is
 * about; the pages are then dropped as soon as the answers let go of them. Only a notification that was begun can wait for
 * a page: a thread that has not come to it waits for a CPU, and has more time. */
#include "invalidate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "worker.h"

#define SETTLE_NSEC 250000000
#define SETTLE_CLOSE_NSEC 1000000000
#define STARVED_MAX 80 /* halves of these in which no change is told, and none is begun */

struct change {
	fuse_ino_t ino;
	uint64_t offset, len;
	char *name; /* of an entry of the directory ino; NULL: the node itself */
};

struct fs_invalidator {
	struct fs_worker worker;
	pthread_cond_t told;
	_Atomic uint64_t changes; /* ever queued */
	_Atomic uint64_t done;    /* of these, told */
	_Atomic uint64_t names;   /* of the changes, those of names; and of these, told */
	_Atomic uint64_t names_done;
	struct change *queue;
	size_t count;
	uint32_t capacity;
	bool telling; /* a notification was begun, and has not come back */
};

/* A node or name that the kernel does not know, or no longer, is no error. */
static void tell(struct fs *fs, const struct change *c)
{
	/* of a name that the kernel has not looked up it forgets nothing, not even the listing that lacks it */
	if (!c->name || fuse_lowlevel_notify_inval_entry(fs->session, c->ino, c->name, strlen(c->name)) < 0)
		fuse_lowlevel_notify_inval_inode(fs->session, c->ino, (off_t)c->offset, (off_t)c->len);
}

static void *run(void *arg)
{
	struct fs *fs = arg;
	struct fs_invalidator *v = fs->invalidator;
	pthread_mutex_lock(&v->worker.lock);
	for (;;) {
		while (!v->count && !v->worker.stop)
			pthread_cond_wait(&v->worker.changed, &v->worker.lock);
		if (v->worker.stop)
			break;
		struct change *queue = v->queue;
		size_t n = v->count;
		v->queue = NULL;
		v->count = 0;
		v->capacity = 0;
		pthread_mutex_unlock(&v->worker.lock);
		for (size_t i = 0; i < n; i++) {
			pthread_mutex_lock(&v->worker.lock);
			v->telling = true;
			pthread_mutex_unlock(&v->worker.lock);
			tell(fs, &queue[i]);
			pthread_mutex_lock(&v->worker.lock);
			v->telling = false;
			v->done++;
			v->names_done += queue[i].name != NULL;
			pthread_cond_broadcast(&v->told);
			pthread_mutex_unlock(&v->worker.lock);
			free(queue[i].name);
		}
		free(queue);
		pthread_mutex_lock(&v->worker.lock);
	}
	pthread_mutex_unlock(&v->worker.lock);
	return NULL;
}

int fs_invalidator_start(struct fs *fs)
{
	struct fs_invalidator *v = calloc(1, sizeof *v);
	if (!v)
		return -ENOMEM;
	fs_worker_init(&v->worker);
	fs_condition_init(&v->told);
	fs->invalidator = v;
	int r = fs_worker_start(&v->worker, run, fs);
	if (r < 0)
		fs_invalidator_stop(fs);
	return r;
}

void fs_invalidator_stop(struct fs *fs)
{
	struct fs_invalidator *v = fs->invalidator;
	if (!v)
		return;
	fs_worker_stop(&v->worker);
	pthread_cond_destroy(&v->told);
	for (size_t i = 0; i < v->count; i++)
		free(v->queue[i].name);
	free(v->queue);
	free(v);
	fs->invalidator = NULL;
}

/* The lock is held. */
static int push(struct fs_invalidator *v, const struct change *c)
{
	int r = wf_array_reserve(&v->queue, &v->capacity, v->count + 1, sizeof *v->queue, UINT32_MAX);
	if (r < 0)
		return r;
	v->queue[v->count++] = *c;
	v->changes++;
	v->names += c->name != NULL;
	return 0;
}

void fs_invalidate_node(struct fs *fs, fuse_ino_t ino, uint64_t offset, uint64_t len)
{
	struct fs_invalidator *v = fs->invalidator;
	if (!v)
		return;
	pthread_mutex_lock(&v->worker.lock);
	struct change *last = v->count ? &v->queue[v->count - 1] : NULL;
	if (last && last->ino == ino && !last->name && last->len && len && last->offset + last->len == offset)
		last->len += len; /* a long sequential write is one change */
	else
		push(v, &(struct change){.ino = ino, .offset = offset, .len = len});
	pthread_cond_signal(&v->worker.changed);
	pthread_mutex_unlock(&v->worker.lock);
}

int fs_invalidate_entry(struct fs *fs, fuse_ino_t dir, const char *name)
{
	struct fs_invalidator *v = fs->invalidator;
	struct change c = {.ino = dir, .name = strdup(name)};
	int r = c.name ? 0 : -ENOMEM;
	pthread_mutex_lock(&v->worker.lock);
	if (r == 0)
		r = push(v, &c);
	pthread_cond_signal(&v->worker.changed);
	pthread_mutex_unlock(&v->worker.lock);
	if (r < 0)
		free(c.name);
	return r;
}

static void settle(struct fs_invalidator *v, const _Atomic uint64_t *done, const _Atomic uint64_t *changes,
		   long most_nsec)
{
	if (*done == *changes)
		return;
	struct timespec until = fs_deadline(most_nsec / 2);
	pthread_mutex_lock(&v->worker.lock);
	uint64_t all = *changes, told = *done;
	int held = 0, starved = 0;
	while (*done < all) {
		if (pthread_cond_timedwait(&v->told, &v->worker.lock, &until) == 0)
			continue;
		held = *done == told && v->telling ? held + 1 : 0;
		starved = *done == told && !v->telling ? starved + 1 : 0;
		if (held == 2 || starved == STARVED_MAX)
			break;
		told = *done;
		until = fs_deadline(most_nsec / 2);
	}
	pthread_mutex_unlock(&v->worker.lock);
}

void fs_settle(struct fs *fs)
{
	struct fs_invalidator *v = fs->invalidator;
	if (v)
		settle(v, &v->done, &v->changes, SETTLE_NSEC);
}

void fs_settle_names(struct fs *fs)
{
	struct fs_invalidator *v = fs->invalidator;
	if (v)
		settle(v, &v->names_done, &v->names, SETTLE_NSEC);
}

/* No page is held meanwhile, so that nothing waits for this request but its caller. */
void fs_settle_close(struct fs *fs)
{
	struct fs_invalidator *v = fs->invalidator;
	if (v)
		settle(v, &v->done, &v->changes, SETTLE_CLOSE_NSEC);
}
