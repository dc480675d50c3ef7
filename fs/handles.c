/* SPDX-License-Identifier: MIT */
/* Keeps the list of open texts of .weightfs and of the leases that they hold. */
#include "handles.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs.h"

struct handle {
	struct wf_buffer text;
	struct wf_lease *lease; /* of a tensor, or of all of them */
	pid_t opener;
	struct handle *next, **link;
};

struct fs_handles {
	pthread_mutex_t lock;
	struct handle *first;
};

struct fs_handles *fs_handles_new(void)
{
	struct fs_handles *all = calloc(1, sizeof *all);
	if (all)
		pthread_mutex_init(&all->lock, NULL);
	return all;
}

static void free_handle(struct fs *fs, struct handle *h)
{
	if (h->lease)
		wf_unshare(fs->checkpoint, h->lease);
	wf_buffer_free(&h->text);
	free(h);
}

void fs_handles_free(struct fs *fs)
{
	struct fs_handles *all = fs->handles;
	if (!all)
		return;
	for (struct handle *h = all->first, *next; h; h = next) {
		next = h->next;
		free_handle(fs, h);
	}
	pthread_mutex_destroy(&all->lock);
	free(all);
}

int fs_handle_new(struct fs *fs, pid_t opener, struct wf_buffer *text, struct wf_lease *lease, uint64_t *ret)
{
	struct fs_handles *all = fs->handles;
	struct handle *h = malloc(sizeof *h);
	if (!h) {
		if (lease)
			wf_unshare(fs->checkpoint, lease);
		wf_buffer_free(text);
		return -ENOMEM;
	}
	*h = (struct handle){.text = *text, .lease = lease, .opener = opener, .link = &all->first};
	pthread_mutex_lock(&all->lock);
	h->next = all->first;
	if (h->next)
		h->next->link = &h->next;
	all->first = h;
	pthread_mutex_unlock(&all->lock);
	*ret = (uintptr_t)h;
	return 0;
}

static struct handle *handle_of(uint64_t handle)
{
	return (struct handle *)(uintptr_t)handle;
}

const struct wf_buffer *fs_handle_text(uint64_t handle)
{
	return handle ? &handle_of(handle)->text : NULL;
}

bool fs_handle_release(struct fs *fs, uint64_t handle)
{
	struct handle *h = handle_of(handle);
	if (!h)
		return false;
	pthread_mutex_lock(&fs->handles->lock);
	*h->link = h->next;
	if (h->next)
		h->next->link = h->link;
	pthread_mutex_unlock(&fs->handles->lock);
	bool leased = h->lease;
	free_handle(fs, h);
	return leased;
}

void fs_handles_lease_holders(struct fs *fs, char *buf, size_t size)
{
	size_t n = 0;
	buf[0] = '\0';
	pthread_mutex_lock(&fs->handles->lock);
	for (const struct handle *h = fs->handles->first; h && n + 16 < size; h = h->next)
		if (h->lease)
			n += (size_t)snprintf(buf + n, size - n, "%s%d", n ? ", " : "", (int)h->opener);
	pthread_mutex_unlock(&fs->handles->lock);
}
