/* SPDX-License-Identifier: MIT */
/* Opens the overlay beside a checkpoint: its paths, its owner, its locks, its log. */
#include "codec/overlay/overlay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/io.h"
#include "codec/overlay/inner.h"
#include "codec/bytes/util.h"

/* ---- opening ---- */

static char *absolute(const char *path)
{
	char *resolved = realpath(path, NULL), *out = NULL;
	if (resolved || path[0] == '/')
		return resolved ? resolved : strdup(path);
	cleanup_free char *cwd = getcwd(NULL, 0);
	return cwd && asprintf(&out, "%s/%s", cwd, path) >= 0 ? out : NULL;
}

static int make_paths(struct wf_overlay *ov, const struct wf_overlay_options *o)
{
	ov->checkpoint = strdup(o->checkpoint);
	ov->target = o->output || !o->beside ? absolute(o->output ? o->output : o->checkpoint) : strdup(o->checkpoint);
	if (!ov->checkpoint || !ov->target)
		return -ENOMEM;
	ov->elsewhere = strcmp(ov->checkpoint, ov->target) != 0;
	cleanup_free char *beside = strdup(o->edits_of ? o->edits_of : o->beside ? o->beside : ov->target);
	if (!beside || asprintf(&ov->directory, "%s.weightfs", beside) < 0) {
		ov->directory = NULL;
		return -ENOMEM;
	}
	ov->onto = o->edits_of != NULL;
	ov->apart = ov->onto || o->beside;
	return 0;
}

/* A reader shows the file without edits that it cannot use, and says so. err: why, and then why the file cannot be read
 * either. */
static int do_without(struct wf_overlay *ov, int r, struct wf_error *err)
{
	struct wf_overlay_base base;
	if (ov->writable || ov->torn || r == -ENOMEM)
		return r;
	r = wf_overlay_base_look(ov->file_fd, UINT64_MAX, &base);
	if (r < 0)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
	snprintf(ov->unused, sizeof ov->unused, "%s", err->text);
	wf_log_line(&ov->log, "%s; the checkpoint is shown without them", err->text);
	wf_overlay_forget_log(ov);
	ov->ignored = true;
	ov->base = base;
	return 0;
}

static int open_all(struct wf_overlay *ov, struct wf_error *err)
{
	struct wf_error own = {0};
	if (!err)
		err = &own;
	int r = wf_overlay_lock_checkpoint(ov, err);
	if (r < 0)
		return r;
	r = wf_overlay_open_directory(ov, err);
	if (r == 0 && ov->dir_fd >= 0 && ov->writable)
		r = wf_overlay_lock_directory(ov, err);
	if (r == 0 && (r = wf_overlay_find_files(ov)) < 0)
		wf_fail(err, r, "%s/data: %s", ov->directory, strerror(-r));
	if (r == 0)
		r = ov->onto ? wf_overlay_settle_onto(ov, err) : wf_overlay_settle_state(ov, err);
	return r < 0 ? do_without(ov, r, err) : 0;
}

int wf_overlay_open(const struct wf_overlay_options *options, struct wf_overlay **ret, struct wf_error *err)
{
	struct wf_overlay *ov = calloc(1, sizeof *ov);
	if (!ov)
		return wf_fail(err, -ENOMEM, "out of memory");
	ov->writable = options->writable;
	ov->unlogged = options->unlogged;
	ov->log = options->log;
	ov->file_fd = ov->dir_fd = ov->data_fd = ov->lock_fd = ov->log_fd = -1;
	ov->log_version = WF_LOG_VERSION;
	ov->sequence = 1;
	pthread_mutex_init(&ov->files_lock, NULL);
	int r = make_paths(ov, options);
	if (r == 0)
		wf_overlay_open_homes(ov);
	r = r < 0 ? wf_fail(err, r, "out of memory") : open_all(ov, err);
	if (r < 0) {
		ov->writable = false; /* nothing is ours to write or remove */
		wf_overlay_close(ov);
		return r;
	}
	*ret = ov;
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void free_all(struct wf_overlay *ov)
{
	wf_overlay_close_files(ov);
	if (ov->next_state == WF_NEXT_READY) {
		close_fd(&ov->next.fd);
		wf_buffer_free(&ov->next.buffer);
	}
	free(ov->files);
	wf_buffer_free(&ov->buffer);
	close_fd(&ov->log_fd);
	close_fd(&ov->data_fd);
	close_fd(&ov->dir_fd);
	close_fd(&ov->lock_fd);
	close_fd(&ov->file_fd);
	pthread_mutex_destroy(&ov->files_lock);
	free(ov->checkpoint);
	free(ov->target);
	free(ov->directory);
}

void wf_overlay_close(struct wf_overlay *ov)
{
	if (!ov)
		return;
	if (ov->writable && ov->replayed && ov->dir_fd >= 0) {
		if (ov->unlogged && ov->log_fd >= 0) {
			wf_overlay_forget_new_files(ov);
		} else if (ov->pending == 0 || ov->unlogged) {
			wf_overlay_clear(ov, NULL, NULL);
			wf_overlay_remove_directory(ov, false);
		} else if (wf_overlay_write_log(ov) < 0) {
			wf_log_line(&ov->log, "%s/log: the last edits could not be written", ov->directory);
		} else if (ov->log_fd >= 0 && ftruncate(ov->log_fd, (off_t)ov->log_bytes) < 0) {
			/* the room that was reserved stays taken */
		}
	}
	wf_overlay_close_homes(ov);
	free_all(ov);
	free(ov);
}

const struct wf_overlay_base *wf_overlay_base(const struct wf_overlay *ov)
{
	return &ov->base;
}

const char *wf_overlay_target(const struct wf_overlay *ov)
{
	return ov->target;
}

const char *wf_overlay_directory(const struct wf_overlay *ov)
{
	return ov->directory;
}

const char *wf_overlay_file_path(const struct wf_overlay *ov)
{
	return ov->checkpoint;
}

const char *wf_overlay_unused(const struct wf_overlay *ov)
{
	return ov->unused[0] ? ov->unused : NULL;
}

bool wf_overlay_is_dirty(const struct wf_overlay *ov)
{
	return ov->pending > 0;
}

void wf_overlay_usage(const struct wf_overlay *ov, struct wf_overlay_usage *ret)
{
	struct stat st;
	char name[16];
	*ret = (struct wf_overlay_usage){
		.edits = ov->pending, .log_bytes = ov->log_bytes + ov->buffer.len, .unsynced = ov->unsynced};
	for (uint32_t i = 0; i < ov->files_count; i++) {
		snprintf(name, sizeof name, "%u", i);
		if (ov->files[i].present && fstatat(ov->data_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			ret->data_bytes += (uint64_t)st.st_blocks * 512;
	}
}

/* ---- without a mount ---- */

/* An overlay beside the file at path that is not opened with it. An absolute path is taken as it is: a link, too, has edits of its own
 * where it is the main file of a directory. */
static int begin_without(struct wf_overlay *ov, const char *path, bool writable, struct wf_error *err)
{
	struct stat st;
	*ov = (struct wf_overlay){.writable = writable,
				  .file_fd = -1,
				  .dir_fd = -1,
				  .data_fd = -1,
				  .lock_fd = -1,
				  .log_fd = -1,
				  .sequence = 1};
	pthread_mutex_init(&ov->files_lock, NULL);
	ov->target = path[0] == '/' ? strdup(path) : absolute(path);
	ov->checkpoint = ov->target ? strdup(ov->target) : NULL;
	if (!ov->checkpoint || asprintf(&ov->directory, "%s.weightfs", ov->target) < 0) {
		ov->directory = NULL;
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	/* edits for an output that was never written stand beside a file that is not there */
	ov->elsewhere = stat(ov->target, &st) < 0;
	return 0;
}

int wf_overlay_look(const char *path, uint64_t *ret_edits, char *ret_failure, size_t size, struct wf_error *err)
{
	struct wf_overlay ov;
	bool found = false;
	uint64_t edits = 0;
	int r = begin_without(&ov, path, false, err);
	if (r == 0)
		r = wf_overlay_open_directory(&ov, err);
	if (r == 0 && ov.dir_fd >= 0 && !wf_overlay_is_done(&ov))
		r = wf_overlay_read_header(&ov, "log", &ov.base, &found, err);
	if (r == 0 && found && (r = wf_overlay_scan_log(&ov, &edits)) < 0)
		wf_fail(err, r, "%s/log: %s", ov.directory, strerror(-r));
	if (r == 0) {
		*ret_edits = edits;
		snprintf(ret_failure, size, "%s", ov.failure);
	}
	free_all(&ov);
	return r;
}

int wf_overlay_check_whole(const char *path, struct wf_error *err)
{
	struct wf_overlay ov;
	int r = begin_without(&ov, path, false, err);
	if (r == 0 && !ov.elsewhere && wf_overlay_open_directory(&ov, NULL) == 0)
		r = wf_overlay_check_torn(&ov, err);
	free_all(&ov);
	return r;
}

int wf_overlay_discard(const char *checkpoint, struct wf_error *err)
{
	struct wf_overlay ov;
	int r = begin_without(&ov, checkpoint, true, err);
	if (r == 0 && !ov.elsewhere)
		r = wf_overlay_lock_checkpoint(&ov, err);
	if (r == 0)
		r = wf_overlay_open_directory(&ov, err);
	if (r == 0 && ov.dir_fd < 0)
		r = wf_fail(err, -ENOENT, "%s has no edits that wait for a commit", ov.target);
	if (r == 0)
		r = wf_overlay_lock_directory(&ov, err);
	if (r == 0)
		r = wf_overlay_find_files(&ov);
	if (r == 0)
		r = wf_overlay_undo_append(&ov, err);
	if (r == 0 && (r = wf_overlay_clear(&ov, NULL, NULL)) < 0)
		wf_fail(err, r, "%s: %s", ov.directory, strerror(-r));
	if (r == 0)
		wf_overlay_remove_directory(&ov, true);
	free_all(&ov);
	return r;
}

static int remove_noted(struct wf_overlay *ov)
{
	struct wf_buffer noted = WF_BUFFER_INIT;
	int r = wf_overlay_noted_files(ov, &noted), left = 0;
	int home = r == 0 ? open(ov->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (r == 0 && home < 0)
		r = -errno;
	for (const char *n = noted.data; r == 0 && n && n < noted.data + noted.len; n += strlen(n) + 1)
		if (*n && !strchr(n, '/') && unlinkat(home, n, 0) < 0 && errno != ENOENT)
			left = -errno;
	if (home >= 0) {
		wf_overlay_remove_passing(home);
		if (r == 0)
			r = wf_overlay_clear_folders(ov, home, true);
		close(home);
	}
	wf_buffer_free(&noted);
	r = r < 0 ? r : left;
	return r == 0 ? wf_overlay_forget_noted(ov) : r;
}

int wf_overlay_discard_noted(const char *directory, struct wf_error *err)
{
	struct wf_overlay ov;
	int r = begin_without(&ov, directory, true, err);
	if (r == 0)
		r = wf_overlay_lock_checkpoint(&ov, err);
	if (r == 0)
		r = wf_overlay_open_directory(&ov, err);
	if (r == 0 && ov.dir_fd >= 0) {
		r = wf_overlay_lock_directory(&ov, err);
		if (r == 0 && (r = remove_noted(&ov)) < 0 && r != -ENOENT)
			wf_fail(err, r, "%s: %s", ov.target, strerror(-r));
		if (r == 0)
			wf_overlay_remove_directory(&ov, true);
	}
	free_all(&ov);
	return r == -ENOENT ? 0 : r;
}
