/* SPDX-License-Identifier: MIT */
/* Counts releases, and waits for the next one. */
#include "releases.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "worker.h"

#define MOST_NSEC 1000000000 /* a release is there already, but for a thread that waits for a CPU */

struct fs_releases {
	pthread_mutex_t lock;
	pthread_cond_t another;
	uint64_t count;
};

int fs_releases_start(struct fs *fs)
{
	struct fs_releases *all = calloc(1, sizeof *all);
	if (!all)
		return -ENOMEM;
	pthread_mutex_init(&all->lock, NULL);
	fs_condition_init(&all->another);
	fs->releases = all;
	return 0;
}

void fs_releases_free(struct fs *fs)
{
	struct fs_releases *all = fs->releases;
	if (!all)
		return;
	pthread_cond_destroy(&all->another);
	pthread_mutex_destroy(&all->lock);
	free(all);
	fs->releases = NULL;
}

void fs_released(struct fs *fs)
{
	struct fs_releases *all = fs->releases;
	pthread_mutex_lock(&all->lock);
	all->count++;
	pthread_cond_broadcast(&all->another);
	pthread_mutex_unlock(&all->lock);
}

static uint64_t count(struct fs_releases *all)
{
	pthread_mutex_lock(&all->lock);
	uint64_t n = all->count;
	pthread_mutex_unlock(&all->lock);
	return n;
}

/* false: it is too late for another try. *seen: releases before the last one. */
static bool wait_for_another(struct fs *fs, uint64_t *seen, const struct timespec *until)
{
	struct fs_releases *all = fs->releases;
	int r = fs->options.single_threaded ? ETIMEDOUT : 0;
	pthread_mutex_lock(&all->lock);
	while (r == 0 && all->count == *seen)
		r = pthread_cond_timedwait(&all->another, &all->lock, until);
	*seen = all->count;
	pthread_mutex_unlock(&all->lock);
	return r == 0;
}

void fs_wait_for_releases(struct fs *fs, bool (*in_the_way)(struct fs *fs))
{
	const struct timespec until = fs_deadline(MOST_NSEC);
	uint64_t seen = count(fs->releases);
	while (in_the_way(fs) && wait_for_another(fs, &seen, &until))
		;
}

int fs_do_after_releases(struct fs *fs, int (*attempt)(struct fs *fs, struct wf_error *err), struct wf_error *err)
{
	const struct timespec until = fs_deadline(MOST_NSEC);
	uint64_t seen = count(fs->releases);
	int r;
	do {
		*err = (struct wf_error){0};
		r = attempt(fs, err);
	} while ((r == -EBUSY || r == -ENOSPC) && wait_for_another(fs, &seen, &until));
	return r;
}
