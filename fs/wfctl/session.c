/* SPDX-License-Identifier: MIT */
/* Opens what verbs read and edit, and commits it at the end. */
#include "fs/wfctl/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/where.h"

#define PROGRESS_AFTER_MS 1000
#define PROGRESS_EVERY_MS 300

struct opened {
	struct wfctl_store *store;
	dev_t dev;
	ino_t ino;
};

struct wfctl_session {
	struct wfctl_open_how how; /* to edit */
	struct opened *opened;
	size_t count;
	struct opened edited; /* one of them is not in it */
};

struct wfctl_session *wfctl_session_new(const struct wfctl_call *options)
{
	static const char *const modes[] = {
		[WF_COMMIT_AUTO] = "auto", [WF_COMMIT_REPLACE] = "replace", [WF_COMMIT_APPEND] = "append"};
	const char *mode = options ? wfctl_given(options, "commit") : NULL;
	struct wfctl_session *s = calloc(1, sizeof *s);
	int chosen = -1;
	for (int i = 0; i < 3; i++)
		if (!mode || !strcmp(mode, modes[i]))
			chosen = chosen < 0 ? i : chosen;
	if (s && chosen >= 0) {
		s->how = (struct wfctl_open_how){.edit = true,
						 .with_pending = options && wfctl_given(options, "with-pending"),
						 .commit_mode = (enum wf_commit_mode)chosen};
		return s;
	}
	free(s);
	if (chosen < 0)
		wfctl_fail(NULL, "--commit=%s: it is auto, replace or append", mode);
	else
		wfctl_fail(NULL, "out of memory");
	return NULL;
}

static struct wfctl_store *known(const struct wfctl_session *s, const char *path, const struct stat *st)
{
	const struct opened *e = &s->edited;
	if (e->store && (!strcmp(e->store->path, path) || (st && st->st_dev == e->dev && st->st_ino == e->ino)))
		return e->store;
	for (size_t i = 0; i < s->count; i++)
		if (!strcmp(s->opened[i].store->path, path))
			return s->opened[i].store;
	return NULL;
}

static struct wfctl_store *open_store(const char *path, const struct wfctl_open_how *how)
{
	if (wfctl_check_place(WFCTL_FILE, path) != WFCTL_OK)
		return NULL;
	return wfctl_is_mount(path) ? wfctl_open_mount(path, how->edit) : wfctl_open_checkpoint(path, how);
}

struct wfctl_store *wfctl_session_read(struct wfctl_session *s, const char *path)
{
	static const struct wfctl_open_how look;
	struct stat st;
	struct wfctl_store *store = known(s, path, stat(path, &st) == 0 ? &st : NULL);
	if (store)
		return store;
	struct opened *more = reallocarray(s->opened, s->count + 1, sizeof *more);
	if (!more) {
		wfctl_fail(path, "out of memory");
		return NULL;
	}
	s->opened = more;
	store = open_store(path, &look);
	if (store)
		s->opened[s->count++] = (struct opened){.store = store};
	return store;
}

struct wfctl_store *wfctl_session_edit(struct wfctl_session *s, const char *path)
{
	struct stat st;
	struct opened *e = &s->edited;
	if (e->store && !strcmp(e->store->path, path))
		return e->store;
	bool there = stat(path, &st) == 0;
	if (e->store && there && st.st_dev == e->dev && st.st_ino == e->ino)
		return e->store;
	if (e->store) {
		wfctl_fail(path, "one run edits one checkpoint, and this one edits %s", e->store->path);
		return NULL;
	}
	e->store = open_store(path, &s->how);
	if (there) {
		e->dev = st.st_dev;
		e->ino = st.st_ino;
	}
	return e->store;
}

bool wfctl_session_on_mount(const struct wfctl_session *s)
{
	return s->edited.store && !s->edited.store->ck;
}

/* ---- the commit ---- */

struct watch {
	struct wf_checkpoint *ck;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool done;
};

static void show(const struct watch *w)
{
	uint64_t done_bytes, total_bytes;
	char line[96];
	if (!wf_commit_progress(w->ck, &done_bytes, &total_bytes))
		return;
	snprintf(line, sizeof line, "committing: %llu of %llu MiB", (unsigned long long)done_bytes >> 20,
		 (unsigned long long)total_bytes >> 20);
	wfctl_progress(line);
}

static void *watch_commit(void *ctx)
{
	struct watch *w = ctx;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	int64_t pause_ms = PROGRESS_AFTER_MS;
	pthread_mutex_lock(&w->lock);
	while (!w->done) {
		int64_t ns = until.tv_nsec + pause_ms % 1000 * 1000000;
		until.tv_sec += pause_ms / 1000 + ns / 1000000000;
		until.tv_nsec = ns % 1000000000;
		while (!w->done && pthread_cond_timedwait(&w->ended, &w->lock, &until) == 0)
			;
		if (!w->done)
			show(w);
		pause_ms = PROGRESS_EVERY_MS;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static int commit(const struct wfctl_store *store)
{
	struct watch w = {.ck = store->ck, .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
	struct wf_error err = {0};
	pthread_t thread;
	bool watched = wfctl_shows_progress() && pthread_create(&thread, NULL, watch_commit, &w) == 0;
	int r = wf_commit(store->ck, &err);
	pthread_mutex_lock(&w.lock);
	w.done = true;
	pthread_cond_signal(&w.ended);
	pthread_mutex_unlock(&w.lock);
	if (watched)
		pthread_join(thread, NULL);
	wfctl_progress(NULL);
	return r < 0 ? wfctl_fail_error(store->path, r, &err) : WFCTL_OK;
}

/* A verb that failed has told why, in one line; after one that worked it is worth knowing that not all of it can be read. */
static void close_store(struct wfctl_store *store, int status)
{
	if (store && store->ck && status == WFCTL_OK)
		wf_log_unread(store->ck);
	wfctl_store_free(store);
}

int wfctl_session_end(struct wfctl_session *s, int status)
{
	bool edits = status == WFCTL_OK && s->edited.store && s->edited.store->ck;
	/* a script that could not say what it found has failed, and commits nothing */
	if (edits && (fflush(stdout) != 0 || ferror(stdout)))
		status = wfctl_fail("standard output", "%s", strerror(errno));
	else if (edits)
		status = commit(s->edited.store);
	close_store(s->edited.store, status);
	for (size_t i = 0; i < s->count; i++)
		close_store(s->opened[i].store, status);
	free(s->opened);
	free(s);
	return status;
}
