/* SPDX-License-Identifier: MIT */
/* Opening and closing a checkpoint, and what is asked of its names and bytes. */
#include "codec/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "codec/commit/leftovers.h"
#include "codec/compose/output.h"
#include "codec/edit/state.h"
#include "codec/bytes/hold.h"
#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

#define MAX_TRIES 5u

/* ---- opening ---- */

/* Before anything opens it, which would wait for somebody at the other end. */
static int find_place(const char *path, struct wf_directory *ret, struct wf_error *err)
{
	struct stat st;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))
		return wf_fail(err, -EINVAL,
			       S_ISFIFO(st.st_mode)
				       ? "this is a pipe, which cannot be read at random: save it to a file "
					 "first"
				       : "this is neither a regular file nor a block device");
	return wf_directory_find(path, ret, err);
}

int wf_places(const char *path, char **ret_path, char **ret_main, struct wf_error *err)
{
	struct wf_directory place;
	int r = find_place(path, &place, err);
	if (r < 0)
		return r;
	*ret_path = place.path;
	*ret_main = place.main;
	return 0;
}

static int resolve_paths(struct wf_checkpoint *ck, const char *path, const struct wf_open_options *o,
			 struct wf_error *err)
{
	int r = find_place(path, &ck->place, err);
	if (r < 0)
		return r;
	ck->path = ck->place.path;
	const char *read_only = o->writable && !o->output ? wf_directory_read_only(&ck->place) : NULL;
	if (read_only)
		return wf_fail(err, -EPERM, "%s", read_only);
	if (o->writable && !o->output && !ck->place.reader && wf_is_named_by_digest(ck->path))
		return wf_fail(err, -EPERM,
			       "%s is named by the digest of its content, as in a cache that others share, and is not "
			       "changed: copy it, or say where commits go (output=)",
			       ck->path);
	return o->output ? wf_output_find(ck, o->output, err) : 0;
}

/* The file, or the part of it that counts: a crash in the middle of an append leaves bytes behind the base. */
static int open_source(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_source *file;
	cleanup_with(wf_file_run_end) struct wf_file_run run = WF_FILE_RUN_INIT;
	int r = wf_source_open_file(ck->place.main, &file, err);
	/* the overlay of an output holds that file's mark, not this one's; a directory is never appended to */
	if (r == 0 && !ck->place.reader && (!ck->overlay || ck->output)) {
		if (!ck->overlay && wf_source_locate(file, 0, &run))
			r = wf_hold_shared(run.fd);
		r = r < 0 ? wf_fail(err, r, "another process is committing to it in place: try again")
			  : wf_overlay_check_whole(ck->path, err);
		if (r < 0)
			wf_source_unref(file);
	}
	if (r < 0)
		return r;
	uint64_t size = ck->overlay ? wf_overlay_base(ck->overlay)->size_bytes : wf_source_size(file);
	if (size >= wf_source_size(file)) {
		ck->file = file;
		return 0;
	}
	r = wf_source_slice(file, 0, size, &ck->file);
	wf_source_unref(file);
	return r < 0 ? wf_fail(err, r, "%s", strerror(-r)) : 0;
}

static int open_overlay(struct wf_checkpoint *ck, const struct wf_open_options *options, struct wf_error *err)
{
	struct wf_overlay_options o = {.checkpoint = ck->place.main,
				       .beside = ck->output         ? ck->output_set.path
						 : ck->place.reader ? ck->path
								    : NULL,
				       .output = ck->output_set.main ? ck->output_set.main : ck->output,
				       .edits_of = options->edits_of,
				       .writable = ck->writable,
				       .unlogged = options->at_once,
				       .log = ck->log};
	return wf_overlay_open(&o, &ck->overlay, err);
}

static int read_base(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_base base = {0};
	int r = open_source(ck, err);
	if (r == 0)
		r = wf_base_read(&ck->place, ck->file, 0, &base, err);
	if (r == 0)
		wf_base_swap(ck, &base);
	wf_base_free(&base);
	return r;
}

static int open_placement(struct wf_checkpoint *ck, const struct wf_open_options *o, struct wf_error *err)
{
	struct wf_placement_options options = {.map_location = o->map_location,
					       .verify = o->verify,
					       .open_device = o->open_device,
					       .device_ctx = o->device_ctx,
					       .log = ck->log};
	int r = wf_placement_new(&options, ck->storages, &ck->placement, err);
	if (r == 0 && o->map_location && wf_tree_has_companions(ck->tree))
		wf_log_line(&ck->log,
			    "constants.pkl is kept as it is: of constants, no commit records the locations of "
			    "map_location");
	/* a format without locations has nothing to record */
	ck->relocated =
		r == 0 && wf_placement_relocated(ck->placement) > 0 && wf_container_keeps_locations(ck->container);
	return r;
}

/* Pickles beside the object's that cannot be read: what they hold is shown nowhere. */
static void log_bad_companions(struct wf_checkpoint *ck)
{
	const struct wf_companion *c;
	for (uint32_t i = 0; (c = wf_container_companion(ck->container, i)); i++)
		if (c->problem[0])
			wf_log_line(&ck->log, "%s; what it holds is not shown", c->problem);
}

/* Edits of a log give numbers in their order, which a file does not have. */
static uint32_t make_generation(const struct wf_checkpoint *ck)
{
	struct wf_overlay_usage usage = {0};
	if (ck->overlay)
		wf_overlay_usage(ck->overlay, &usage);
	uint64_t of[] = {ck->opened.st_ino, (uint64_t)ck->opened.st_size, (uint64_t)ck->opened.st_mtim.tv_sec,
			 (uint64_t)ck->opened.st_mtim.tv_nsec, usage.log_bytes};
	uint32_t hash = (uint32_t)wf_hash_bytes(of, sizeof of, 0) & INT32_MAX;
	return hash ? hash : 1;
}

/* A commit that failed when nobody was there to be told. */
static void log_failure(struct wf_checkpoint *ck)
{
	char when[32];
	int64_t seconds;
	const char *why = wf_overlay_failure(ck->overlay, &seconds);
	time_t t = seconds;
	struct tm tm;
	if (!why)
		return;
	snprintf(ck->last_error, sizeof ck->last_error, "%s", why);
	if (!localtime_r(&t, &tm) || !strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm))
		when[0] = '\0';
	wf_log_line(&ck->log, "edits in %s wait since a commit failed (%s): %s", wf_overlay_directory(ck->overlay),
		    when, why);
}

/* Whether somebody's commit has replaced the main file of a directory meanwhile, and maybe removed other files that it named. A writer has
 * the lock. */
static bool is_replaced(const struct wf_checkpoint *ck)
{
	struct stat now;
	return ck->place.reader && !ck->writable && ck->opened.st_ino != 0 && stat(ck->place.main, &now) == 0 &&
	       (now.st_ino != ck->opened.st_ino || now.st_dev != ck->opened.st_dev);
}

/* 1: the checkpoint was replaced under its reading; not where `last`. */
static int open_state(const char *path, const struct wf_open_options *options, bool last, struct wf_checkpoint **ret,
		      struct wf_error *err)
{
	struct wf_checkpoint *ck = calloc(1, sizeof *ck);
	if (!ck)
		return wf_fail(err, -ENOMEM, "out of memory");
	ck->writable = options->writable;
	ck->commit_mode = options->commit_mode;
	ck->at_once = options->at_once;
	ck->onto = options->edits_of != NULL;
	ck->log = (struct wf_log){options->log, options->log_ctx};
	ck->changed = options->changed;
	ck->renamed = options->renamed;
	ck->became_directory = options->became_directory;
	ck->changed_ctx = options->changed_ctx;
	wf_checkpoint_make_locks(ck);
	int r = resolve_paths(ck, path, options, err);
	/* before the file is read: a crash may have left an append half done, and the overlay knows how much of it
	 * counts */
	if (r == 0 && !options->ignore_overlay)
		r = open_overlay(ck, options, err);
	if (r == 0 && stat(ck->place.main, &ck->opened) < 0)
		r = wf_fail(err, -errno, "%s", strerror(errno));
	if (r == 0)
		r = read_base(ck, err);
	if (!last && is_replaced(ck)) {
		wf_close(ck);
		return 1;
	}
	/* the list that an overlay has for another checkpoint is none of names here */
	if (r == 0 && ck->writable && ck->overlay && !ck->output && !ck->onto && ck->place.reader &&
	    (r = wf_shards_remove_unnamed(ck)) < 0)
		wf_fail(err, r, "%s: %s", wf_overlay_directory(ck->overlay), strerror(-r));
	/* before the edits: a location that was set by hand is newer than what map_location makes of the file's */
	if (r == 0 && options->open_device)
		r = open_placement(ck, options, err);
	if (r == 0 && ck->overlay)
		r = wf_edits_open(ck, err);
	if (r == 0)
		r = wf_output_choose(ck, err);
	if (r == 0 && ck->overlay)
		log_failure(ck);
	if (r == 0 && options->preload && ck->placement)
		r = wf_placement_preload(ck->placement, options->preloaded, options->preloaded_ctx, err);
	if (r < 0) {
		wf_close(ck);
		return r;
	}
	ck->generation = make_generation(ck);
	ck->refused = options->refused;
	ck->refused_ctx = options->refused_ctx;
	log_bad_companions(ck);
	bool fault;
	const char *note = wf_container_note(ck->container, &fault);
	if (note)
		wf_log_line(&ck->log, "%s", note);
	if (!options->tells_unread)
		wf_log_unread(ck);
	*ret = ck;
	return 0;
}

int wf_open(const char *path, const struct wf_open_options *options, struct wf_checkpoint **ret, struct wf_error *err)
{
	int r = 1;
	for (unsigned int tries = 1; r == 1; tries++)
		r = open_state(path, options, tries == MAX_TRIES, ret, err);
	return r;
}

void wf_close(struct wf_checkpoint *ck)
{
	if (!ck)
		return;
	if (ck->edits)
		wf_edits_close(ck);
	wf_placement_free(ck->placement);
	struct wf_base base = {0};
	wf_base_swap(ck, &base);
	wf_base_free(&base);
	wf_source_unref(ck->file);
	wf_output_end(ck);
	wf_overlay_close(ck->overlay);
	wf_archive_free(ck->archive);
	wf_checkpoint_free_locks(ck);
	free(ck->output);
	wf_directory_free(&ck->output_set);
	wf_directory_free(&ck->place);
	free(ck);
}

uint32_t wf_generation(const struct wf_checkpoint *ck)
{
	return ck->generation;
}

const char *wf_path(const struct wf_checkpoint *ck)
{
	return ck->path;
}

/* ---- names ---- */

int wf_getattr(struct wf_checkpoint *ck, uint32_t ino, struct wf_stat *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_checkpoint_stat(ck, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_lookup(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret)
{
	wf_ino ino;
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_edits_lookup(ck, dir, name, &ino);
	if (r == 0)
		r = wf_checkpoint_stat(ck, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

#define SCRATCH_COOKIE (1ull << 40) /* cookies of scratch entries follow those of the keys */

static int list(struct wf_checkpoint *ck, wf_ino dir, uint64_t position, uint64_t base,
		int (*each)(void *, const char *, uint64_t, const struct wf_stat *), void *ctx)
{
	char name[WF_NAME_MAX + 1];
	struct wf_stat st;
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	for (; d && position < d->count; position++) {
		if (!wf_tree_name(ck->tree, d, (uint32_t)position, name) || wf_edits_hides(ck, dir, (uint32_t)position))
			continue;
		int r = wf_checkpoint_stat(ck, d->entries[position].ino, &st);
		if (r == 0)
			r = each(ctx, name, base + position + 1, &st);
		if (r != 0)
			return r;
	}
	return 0;
}

int wf_readdir(struct wf_checkpoint *ck, uint32_t dir, uint64_t cookie,
	       int (*each)(void *ctx, const char *name, uint64_t next, const struct wf_stat *st), void *ctx)
{
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_tree_dir(ck->tree, dir) ? 0 : -ENOTDIR;
	if (r == 0 && cookie < SCRATCH_COOKIE)
		r = list(ck, dir, cookie, 0, each, ctx);
	wf_ino scratch_dir = r == 0 ? wf_edits_scratch_dir(ck, dir) : WF_NO_INO;
	if (scratch_dir != WF_NO_INO)
		r = list(ck, scratch_dir, cookie < SCRATCH_COOKIE ? 0 : cookie - SCRATCH_COOKIE, SCRATCH_COOKIE, each,
			 ctx);
	pthread_rwlock_unlock(&ck->lock);
	return r < 0 ? r : 0;
}

int wf_parent(struct wf_checkpoint *ck, uint32_t dir, uint32_t *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_node *n = wf_tree_node(ck->tree, dir);
	int r = n && n->type == WF_NODE_DIR ? 0 : -ENOTDIR;
	if (r == 0)
		*ret = wf_edits_visible_dir(ck, n->parent);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

void wf_path_of(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	if (wf_tree_node(ck->tree, ino))
		wf_tree_path(ck->tree, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
}

bool wf_names_stay(struct wf_checkpoint *ck, uint32_t dir)
{
	if (!ck->writable)
		return true;
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	bool stay = !d || d->kind != WF_DIR_SEQUENCE || !wf_is(ck->graph, d->container, WF_LIST);
	pthread_rwlock_unlock(&ck->lock);
	return stay;
}

bool wf_names_return(struct wf_checkpoint *ck, uint32_t dir)
{
	if (!ck->writable)
		return false;
	pthread_rwlock_rdlock(&ck->lock);
	bool may = wf_tree_dir(ck->tree, dir) && (!wf_edits_one_by_one(ck, dir) || wf_edits_is_held(ck, dir));
	pthread_rwlock_unlock(&ck->lock);
	return may;
}

bool wf_types_stay(struct wf_checkpoint *ck)
{
	if (!ck->writable)
		return true;
	pthread_rwlock_rdlock(&ck->lock);
	bool stay = !wf_tree_has_links(ck->tree);
	pthread_rwlock_unlock(&ck->lock);
	return stay;
}

/* Where the directory that a link leads to was removed, and that is put off, so that the link leads nowhere. The lock is held. */
static bool leads_nowhere(const struct wf_checkpoint *ck, wf_ino link)
{
	const struct wf_node *n = wf_tree_node(ck->tree, link);
	return n && n->type == WF_NODE_LINK && !wf_is(ck->graph, n->object, WF_STR) &&
	       wf_edits_put_off_around(ck, wf_tree_ino_of(ck->tree, n->object));
}

int wf_readlink(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	bool settle = leads_nowhere(ck, ino);
	pthread_rwlock_unlock(&ck->lock);
	if (settle)
		wf_edits_wait_and_settle(ck);
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	int r = settle && n && n->type == WF_NODE_DIR ? -ESTALE : wf_tree_link_target(ck->tree, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_metadata(struct wf_checkpoint *ck, uint32_t *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	wf_ino ino = wf_tree_metadata(ck->tree);
	pthread_rwlock_unlock(&ck->lock);
	if (ino != WF_NO_INO)
		*ret = ino;
	return ino == WF_NO_INO ? -ENOENT : 0;
}

/* ---- content ---- */

ssize_t wf_read(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, void *buf, size_t len)
{
	pthread_rwlock_rdlock(&ck->lock);
	ssize_t r = wf_checkpoint_read(ck, ino, offset, buf, len);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

bool wf_lend(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, size_t len,
	     void (*take)(void *ctx, const void *data, size_t len), void *ctx)
{
	pthread_rwlock_rdlock(&ck->lock);
	bool taken = wf_checkpoint_lend(ck, ino, offset, len, take, ctx);
	pthread_rwlock_unlock(&ck->lock);
	return taken;
}
