/* SPDX-License-Identifier: MIT */
/* A container that the checkpoint holds twice is a directory under one name and a link under the others. Who removes the
 * directory makes one of the links the directory; but rm -r, find -delete and shutil.rmtree have seen that link as a link, and
 * are going to unlink it. So for some seconds the task that removed the directory, and nobody else, goes on seeing a link
 * there, and unlinking it removes the entry, as it would have removed the link. Whoever reads the link is shown the
 * directory from then on. In these seconds the kernel keeps neither view, in a name or in a listing: it would show it to all. */
#include "was_link.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define WAS_LINK_SECONDS 5
#define WAS_LINK_MAX 256u

struct fs_was_links {
	pthread_mutex_t lock;
	struct {
		uint32_t ino; /* 0: free */
		pid_t task;
		time_t until;
	} all[WAS_LINK_MAX];
	uint32_t next;
	_Atomic uint32_t used; /* how many were ever noted: nearly always none */
	_Atomic time_t until;  /* of the last of them */
};

/* For whom this thread removes something. */
static _Thread_local pid_t remover;

struct fs_was_links *fs_was_links_new(void)
{
	struct fs_was_links *l = calloc(1, sizeof *l);
	if (l)
		pthread_mutex_init(&l->lock, NULL);
	return l;
}

void fs_was_links_free(struct fs_was_links *l)
{
	if (!l)
		return;
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static time_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

void fs_removing_for(fuse_req_t req)
{
	remover = req ? fuse_req_ctx(req)->pid : 0;
}

void fs_became_directory(void *ctx, uint32_t ino)
{
	struct fs_was_links *l = ((struct fs *)ctx)->was_links;
	if (!l || remover == 0)
		return;
	pthread_mutex_lock(&l->lock);
	uint32_t i = l->next++ % WAS_LINK_MAX;
	l->all[i].ino = ino;
	l->all[i].task = remover;
	l->until = l->all[i].until = now() + WAS_LINK_SECONDS;
	l->used++;
	pthread_mutex_unlock(&l->lock);
}

bool fs_sees_link(fuse_req_t req, uint32_t ino, bool for_the_last_time)
{
	struct fs_was_links *l = fs_of(req)->was_links;
	bool sees = false;
	if (!l || l->used == 0)
		return false;
	pid_t task = fuse_req_ctx(req)->pid;
	pthread_mutex_lock(&l->lock);
	for (uint32_t i = 0; i < WAS_LINK_MAX && !sees; i++) {
		sees = l->all[i].ino == ino && l->all[i].task == task && now() < l->all[i].until;
		if (sees && for_the_last_time)
			l->all[i].ino = 0;
	}
	pthread_mutex_unlock(&l->lock);
	return sees;
}

bool fs_somebody_sees_link(const struct fs *fs, uint32_t ino)
{
	struct fs_was_links *l = fs->was_links;
	if (!l || l->used == 0 || now() >= l->until)
		return false;
	bool sees = ino == 0;
	pthread_mutex_lock(&l->lock);
	for (uint32_t i = 0; i < WAS_LINK_MAX && !sees; i++)
		sees = l->all[i].ino == ino && now() < l->all[i].until;
	pthread_mutex_unlock(&l->lock);
	return sees;
}

void fs_show_link(fuse_req_t req, struct wf_stat *st)
{
	if (st->type != WF_DIRECTORY || !fs_sees_link(req, st->ino, false))
		return;
	st->type = WF_SYMLINK;
	st->size_bytes = 1;
}
