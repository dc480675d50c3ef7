/* SPDX-License-Identifier: MIT */
/* Keeps the composed files of .weightfs/safetensors while they are used, and a few more. */
#include "views.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define EDITION_BITS 22
#define KEPT 4 /* that nobody uses */

struct view {
	struct fs_view shown; /* first, so that one is the other */
	uint32_t dir, edition;
	uint32_t users; /* calls that are going on */
	uint32_t openers;
	uint64_t used_at; /* a clock of uses */
	struct view *next;
};

struct fs_views {
	pthread_mutex_t lock;
	struct view *first;
	uint64_t clock;
};

struct fs_views *fs_views_new(void)
{
	struct fs_views *all = calloc(1, sizeof *all);
	if (all)
		pthread_mutex_init(&all->lock, NULL);
	return all;
}

static void free_view(struct view *v)
{
	wf_composed_free(v->shown.file);
	free(v);
}

void fs_views_free(struct fs *fs)
{
	struct fs_views *all = fs->views;
	if (!all)
		return;
	for (struct view *v = all->first, *next; v; v = next) {
		next = v->next;
		free_view(v);
	}
	pthread_mutex_destroy(&all->lock);
	free(all);
}

uint32_t fs_views_edition(struct fs *fs)
{
	return (uint32_t)wf_edition(fs->checkpoint) & ((1u << EDITION_BITS) - 1);
}

/* ---- the lock is held for these ---- */

static struct view *find(const struct fs_views *all, uint32_t dir, uint32_t edition)
{
	struct view *v = all->first;
	while (v && (v->dir != dir || v->edition != edition))
		v = v->next;
	return v;
}

/* Drops the one that was not used for the longest time, where there are more than enough. */
static void drop_one(struct fs_views *all)
{
	struct view **oldest = NULL;
	uint32_t idle = 0;
	for (struct view **p = &all->first; *p; p = &(*p)->next) {
		if ((*p)->users > 0 || (*p)->openers > 0)
			continue;
		idle++;
		if (!oldest || (*p)->used_at < (*oldest)->used_at)
			oldest = p;
	}
	if (idle <= KEPT)
		return;
	struct view *v = *oldest;
	*oldest = v->next;
	free_view(v);
}

static int make(struct fs *fs, uint32_t dir, uint32_t edition, struct view **ret)
{
	uint64_t shown;
	struct view *v = calloc(1, sizeof *v);
	int r = v ? wf_compose_safetensors(fs->checkpoint, dir, &v->shown.file, &shown) : -ENOMEM;
	if (r == 0 && ((uint32_t)shown & ((1u << EDITION_BITS) - 1)) != edition) {
		wf_composed_free(v->shown.file);
		r = -ESTALE;
	}
	if (r < 0) {
		free(v);
		return r;
	}
	if (shown > 0)
		clock_gettime(CLOCK_REALTIME, &v->shown.made);
	v->dir = dir;
	v->edition = edition;
	v->next = fs->views->first;
	fs->views->first = v;
	*ret = v;
	return 0;
}

static int get(struct fs *fs, uint32_t dir, uint32_t edition, struct view **ret)
{
	*ret = find(fs->views, dir, edition);
	int r = *ret ? 0 : make(fs, dir, edition, ret);
	if (r == 0)
		(*ret)->used_at = ++fs->views->clock;
	return r;
}

/* ---- */

int fs_views_get(struct fs *fs, uint32_t dir, uint32_t edition, const struct fs_view **ret)
{
	struct view *v;
	pthread_mutex_lock(&fs->views->lock);
	int r = get(fs, dir, edition, &v);
	if (r == 0) {
		v->users++;
		*ret = &v->shown;
		drop_one(fs->views);
	}
	pthread_mutex_unlock(&fs->views->lock);
	return r;
}

void fs_views_put(struct fs *fs, const struct fs_view *shown)
{
	struct view *v = (struct view *)(uintptr_t)shown;
	pthread_mutex_lock(&fs->views->lock);
	v->users--;
	pthread_mutex_unlock(&fs->views->lock);
}

int fs_views_pin(struct fs *fs, uint32_t dir, uint32_t edition)
{
	struct view *v;
	pthread_mutex_lock(&fs->views->lock);
	int r = get(fs, dir, edition, &v);
	if (r == 0)
		v->openers++;
	pthread_mutex_unlock(&fs->views->lock);
	return r;
}

void fs_views_unpin(struct fs *fs, uint32_t dir, uint32_t edition)
{
	pthread_mutex_lock(&fs->views->lock);
	struct view *v = find(fs->views, dir, edition);
	if (v && v->openers > 0)
		v->openers--;
	drop_one(fs->views);
	pthread_mutex_unlock(&fs->views->lock);
}
