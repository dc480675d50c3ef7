/* SPDX-License-Identifier: MIT */
/* Keeps the list of open .npy files. */
#include "npy_files.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "invalidate.h"

struct open_file {
	uint32_t ino;
	uint32_t openers, writers;
	uint32_t users;           /* of `file`, at the moment */
	struct wf_npy_file *file; /* NULL: nobody writes it */
	uint32_t dir;             /* where the entry was made for it; 0: it was there */
	char *key;
	bool closed; /* as far as can be seen: a descriptor was */
	struct open_file *next;
};

/* An edit says which file it changed with the checkpoint's lock held, while who holds `lock` waits for that one. So which files there
 * are stands behind a lock of its own, under which nothing is waited for; to change the list both are held. */
struct fs_npy_files {
	pthread_mutex_t lock, list;
	pthread_cond_t unused;
	struct open_file *first;
};

struct fs_npy_files *fs_npy_files_new(void)
{
	struct fs_npy_files *all = calloc(1, sizeof *all);
	if (!all)
		return NULL;
	pthread_mutex_init(&all->lock, NULL);
	pthread_mutex_init(&all->list, NULL);
	pthread_cond_init(&all->unused, NULL);
	return all;
}

static void free_file(struct open_file *f)
{
	if (f->file)
		wf_npy_close(f->file);
	free(f->key);
	free(f);
}

void fs_npy_files_free(struct fs *fs)
{
	struct fs_npy_files *all = fs->npy_files;
	if (!all)
		return;
	for (struct open_file *f = all->first, *next; f; f = next) {
		next = f->next;
		free_file(f);
	}
	pthread_cond_destroy(&all->unused);
	pthread_mutex_destroy(&all->list);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

/* ---- the lock is held for these ---- */

static struct open_file *find(const struct fs_npy_files *all, uint32_t ino)
{
	struct open_file *f = all->first;
	while (f && f->ino != ino)
		f = f->next;
	return f;
}

static struct open_file *need(struct fs_npy_files *all, uint32_t ino)
{
	struct open_file *f = find(all, ino);
	if (f || !(f = calloc(1, sizeof *f)))
		return f;
	f->ino = ino;
	pthread_mutex_lock(&all->list);
	f->next = all->first;
	all->first = f;
	pthread_mutex_unlock(&all->list);
	return f;
}

static void remove_idle(struct fs_npy_files *all, struct open_file *f)
{
	struct open_file **p = &all->first;
	if (f->openers > 0 || f->users > 0)
		return;
	pthread_mutex_lock(&all->list);
	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	pthread_mutex_unlock(&all->list);
	free_file(f);
}

static int open_one(struct fs *fs, uint32_t ino, bool writes, bool anew, struct open_file **ret)
{
	struct open_file *f = need(fs->npy_files, ino);
	int r = !f ? -ENOMEM : writes && !f->file ? wf_npy_open(fs->checkpoint, ino, anew, &f->file) : 0;
	if (r < 0) {
		if (f)
			remove_idle(fs->npy_files, f);
		return r;
	}
	f->openers++;
	f->writers += writes;
	*ret = f;
	return 0;
}

/* ---- */

int fs_npy_open(struct fs *fs, uint32_t ino, bool writes)
{
	struct open_file *f;
	pthread_mutex_lock(&fs->npy_files->lock);
	int r = open_one(fs, ino, writes, false, &f);
	pthread_mutex_unlock(&fs->npy_files->lock);
	return r;
}

int fs_npy_make(struct fs *fs, uint32_t dir, const char *key, struct wf_stat *ret)
{
	struct open_file *f;
	int r = wf_create(fs->checkpoint, dir, key, ret);
	bool made = r == 0;
	if (r == -EEXIST)
		r = wf_lookup(fs->checkpoint, dir, key, ret);
	if (r == 0 && ret->type != WF_FILE)
		r = -EEXIST;
	if (r < 0)
		return r;
	pthread_mutex_lock(&fs->npy_files->lock);
	r = open_one(fs, ret->ino, true, true, &f);
	if (r == 0 && made) {
		f->dir = dir;
		f->key = strdup(key);
	}
	pthread_mutex_unlock(&fs->npy_files->lock);
	if (r < 0 && made)
		wf_unlink(fs->checkpoint, dir, key);
	fs_invalidate_entry(fs, dir, key);
	return r;
}

/* The entry that was made for the file, if its name still leads to it. */
static void remove_made(struct fs *fs, const struct open_file *f)
{
	struct wf_stat st;
	if (wf_lookup(fs->checkpoint, f->dir, f->key, &st) == 0 && st.ino == f->ino)
		wf_unlink(fs->checkpoint, f->dir, f->key);
	fs_invalidate_entry(fs, f->dir, f->key);
}

int fs_npy_release(struct fs *fs, uint32_t ino, bool writes)
{
	struct fs_npy_files *all = fs->npy_files;
	int r = 0;
	pthread_mutex_lock(&all->lock);
	struct open_file *f = find(all, ino);
	if (f) {
		f->writers -= writes && f->writers > 0;
		if (f->writers == 0 && f->file) {
			while (f->users > 0)
				pthread_cond_wait(&all->unused, &all->lock);
			r = wf_npy_flush(f->file);
			bool accepted = wf_npy_close(f->file);
			f->file = NULL;
			if (!accepted && f->key)
				remove_made(fs, f);
			free(f->key);
			f->key = NULL;
		}
		f->openers -= f->openers > 0;
		remove_idle(all, f);
	}
	pthread_mutex_unlock(&all->lock);
	return r;
}

struct wf_npy_file *fs_npy_hold(struct fs *fs, uint32_t ino)
{
	struct fs_npy_files *all = fs->npy_files;
	struct wf_npy_file *file = NULL;
	pthread_mutex_lock(&all->lock);
	struct open_file *f = find(all, ino);
	if (f && f->file) {
		f->users++;
		file = f->file;
	}
	pthread_mutex_unlock(&all->lock);
	return file;
}

void fs_npy_drop(struct fs *fs, uint32_t ino)
{
	struct fs_npy_files *all = fs->npy_files;
	pthread_mutex_lock(&all->lock);
	struct open_file *f = find(all, ino);
	if (f && --f->users == 0)
		pthread_cond_broadcast(&all->unused);
	pthread_mutex_unlock(&all->lock);
}

void fs_npy_closed(struct fs *fs, uint32_t ino)
{
	struct fs_npy_files *all = fs->npy_files;
	pthread_mutex_lock(&all->lock);
	struct open_file *f = find(all, ino);
	if (f)
		f->closed = true;
	pthread_mutex_unlock(&all->lock);
}

bool fs_npy_is_closing(struct fs *fs)
{
	struct fs_npy_files *all = fs->npy_files;
	bool closing = false;
	pthread_mutex_lock(&all->lock);
	for (const struct open_file *f = all->first; f && !closing; f = f->next)
		closing = f->key && f->closed;
	pthread_mutex_unlock(&all->lock);
	return closing;
}

bool fs_npy_is_open(struct fs *fs, uint32_t ino)
{
	struct fs_npy_files *all = fs->npy_files;
	pthread_mutex_lock(&all->list);
	bool open = find(all, ino) != NULL;
	pthread_mutex_unlock(&all->list);
	return open;
}
