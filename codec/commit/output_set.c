/* SPDX-License-Identifier: MIT */
/* A commit of a checkpoint in several files to a directory of its own (output=DIRECTORY): what stays is copied there, or cloned, what changed
 * is written beside it under new names, and the main file, which names all of them, takes its name last. Until then the directory is no
 * checkpoint, or the one of the commit before.
 *
 * Of a Hugging Face checkpoint what stands beside the index is copied, too (commit/output_beside.c), so that libraries load what is written.
 *
 * It is no base: the log goes on from the checkpoint that was opened, as with an output of another format. The overlay beside the directory
 * has a list of the files that are ours there (wf_overlay_note_files), durable before the first of them is made, by which a later opening
 * knows them from other people's, and what nobody names is removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/commit/leftovers.h"
#include "codec/commit/output_inner.h"
#include "codec/commit/output_set.h"
#include "codec/commit/shards_inner.h"
#include "codec/directory/dcp_entries.h"

static const char *main_name(const struct wf_checkpoint *ck)
{
	return strrchr(ck->output_set.main, '/') + 1;
}

static bool is_huggingface(const struct wf_container *c)
{
	return wf_container_kind_of(c) == WF_CONTAINER_HUGGINGFACE;
}

/* ---- the files that are there, and whose they are ---- */

static bool is_in(const struct wf_key_map *names, const char *name)
{
	return wf_key_map_get(names, name, strlen(name)) != NULL;
}

static int read_noted(const struct wf_checkpoint *ck, struct wf_key_map *ret)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	int r = wf_overlay_noted_files(ck->overlay, &text);
	for (const char *n = text.data; r == 0 && n && n < text.data + text.len; n += strlen(n) + 1)
		r = wf_key_map_put(ret, n, strlen(n), 0);
	wf_buffer_free(&text);
	return r == -ENOENT ? 0 : r;
}

/* What a crash leaves of a file on its way to another name: of the main file, which is begun before the list is there, or one of the list. */
static bool is_passing(const struct wf_key_map *noted, const char *main, const char *name)
{
	size_t len = strlen(main);
	if (name[0] != '.' || !strstr(name, ".weightfs-"))
		return false;
	return noted->count > 0 || (!strncmp(name + 1, main, len) && !strncmp(name + 1 + len, ".weightfs-", 10));
}

/* Calls with each name in the directory until one answers something else than 0. */
static int each_name(const struct wf_checkpoint *ck, int (*take)(void *ctx, int directory, const char *name), void *ctx)
{
	DIR *d = opendir(ck->output_set.path);
	int r = d ? 0 : -errno;
	for (const struct dirent *e; r == 0 && (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = take(ctx, dirfd(d), e->d_name);
	if (d)
		closedir(d);
	return r;
}

struct in_directory {
	const struct wf_key_map *noted;
	const struct wf_container *set; /* what the main file there says; NULL: there is none */
	const char *main;
	char stranger[NAME_MAX + 1];
	int left;
};

static int find_stranger(void *ctx, int directory, const char *name)
{
	struct in_directory *l = ctx;
	bool is_main =
		l->noted->count > 0 && !strcmp(name, l->main); /* the list does not have it: it is never left over */
	if (is_main || wf_output_is_folder(l->noted, name) || is_in(l->noted, name) ||
	    is_passing(l->noted, l->main, name))
		return 0;
	snprintf(l->stranger, sizeof l->stranger, "%s", name);
	return 1;
}

static bool is_named(const struct in_directory *l, const char *name)
{
	return l->set && (!strcmp(name, l->main) || wf_commit_belongs(l->set, name));
}

static int remove_unnamed(void *ctx, int directory, const char *name)
{
	struct in_directory *l = ctx;
	bool ours = is_in(l->noted, name) || is_passing(l->noted, l->main, name);
	if (ours && !is_named(l, name) && unlinkat(directory, name, 0) < 0 && errno != ENOENT)
		l->left = -errno;
	return 0;
}

/* The set that is there; *ret NULL: none. */
static int open_set(const struct wf_checkpoint *ck, struct wf_container **ret, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	struct wf_graph *g = NULL;
	wf_ref root;
	struct stat st;
	*ret = NULL;
	if (stat(ck->output_set.main, &st) < 0)
		return errno == ENOENT ? 0 : wf_fail(err, -errno, "%s: %s", ck->output_set.main, strerror(errno));
	int r = wf_source_open_file(ck->output_set.main, &file, err);
	if (r == 0)
		r = wf_directory_open(&ck->output_set, file, ret, err);
	if (r == 0 && wf_graph_new(&g) < 0)
		r = wf_fail(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = wf_container_load_graph(*ret, g, &root, err);
	wf_graph_free(g);
	return r;
}

static int clear_folders(const struct wf_checkpoint *ck, bool all)
{
	cleanup_fd int directory = open(ck->output_set.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return directory < 0 ? -errno : wf_overlay_clear_folders(ck->overlay, directory, all);
}

static int tidy(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_key_map noted = {0};
	struct wf_container *set = NULL;
	int r = read_noted(ck, &noted);
	if (r < 0)
		wf_fail(err, r, "%s: %s", wf_overlay_directory(ck->overlay), strerror(-r));
	if (r == 0)
		r = open_set(ck, &set, err);
	struct in_directory l = {.noted = &noted, .set = set, .main = main_name(ck)};
	if (r == 0)
		r = each_name(ck, remove_unnamed, &l);
	if (r == 0)
		r = clear_folders(ck, !set);
	r = r < 0 ? r : l.left;
	wf_container_free(set);
	wf_key_map_free(&noted);
	return r;
}

static int refuse_folders(const struct wf_checkpoint *ck, struct wf_error *err)
{
	const char *name;
	for (uint32_t k = 0; !is_huggingface(ck->container) && (name = wf_dcp_file(ck->container, k)); k++)
		if (strchr(name, '/'))
			return wf_fail(
				err, -EOPNOTSUPP,
				"output=%s: %.200s stands in a folder of the checkpoint, and only files beside its "
				".metadata are copied",
				ck->output_set.path, name);
	return 0;
}

int wf_output_set_settle(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_key_map noted = {0};
	int r = read_noted(ck, &noted);
	struct in_directory l = {.noted = &noted, .main = main_name(ck)};
	if (r < 0)
		wf_fail(err, r, "%s: %s", wf_overlay_directory(ck->overlay), strerror(-r));
	else if ((r = each_name(ck, find_stranger, &l)) < 0)
		wf_fail(err, r, "%s: %s", ck->output_set.path, strerror(-r));
	else if (r > 0)
		r = wf_fail(
			err, -ENOTEMPTY,
			"output=%s: it is not empty (%s is in it): a checkpoint in several files is written into a new directory",
			ck->output_set.path, l.stranger);
	else
		r = tidy(ck, err);
	wf_key_map_free(&noted);
	return r < 0 ? r : refuse_folders(ck, err);
}

void wf_output_set_leave(struct wf_checkpoint *ck)
{
	struct wf_key_map noted = {0};
	struct wf_error ignored;
	bool dirty = ck->overlay && wf_overlay_is_dirty(ck->overlay);
	/* without a list the overlay may be another mount's, and so what is on its way to a name */
	if (ck->overlay && !dirty && read_noted(ck, &noted) == 0 && noted.count > 0 && tidy(ck, &ignored) == 0)
		wf_overlay_forget_noted(ck->overlay);
	wf_key_map_free(&noted);
	if (ck->made_output)
		rmdir(ck->output_set.path); /* where nothing came of it: an empty one alone goes */
}

/* ---- the commit ---- */

/* The k-th file that the checkpoint has and the new set needs, as it is; NULL: no more. *ret_needed: it is. */
static const char *old_file(const struct wf_commit_run *c, uint32_t k, bool *ret_needed)
{
	if (c->dcp)
		return wf_dcp_plan_old_file(c->dcp, k, ret_needed);
	uint32_t at = 0;
	for (uint32_t i = 0; i < c->set->count; i++) {
		const struct wf_shard_plan *p = &c->set->all[i];
		if (!p->old || at++ != k)
			continue;
		*ret_needed = p->keys != WF_NIL && !p->name;
		return p->old->name;
	}
	return NULL;
}

static int put_name(struct wf_key_map *names, const char *name)
{
	return name ? wf_key_map_put(names, name, strlen(name), 0) : 0;
}

/* All that are in the directory, or are going to be, but for the main file. */
static int list_files(struct wf_commit_run *c, struct wf_key_map *names)
{
	const char *name;
	bool needed;
	int r = read_noted(c->ck, names);
	for (uint32_t k = 0; r == 0 && (name = old_file(c, k, &needed)); k++)
		r = put_name(names, name);
	for (uint32_t i = 0; r == 0 && c->set && i < c->set->count; i++)
		r = put_name(names, c->set->all[i].name);
	if (r == 0 && c->dcp)
		r = put_name(names, wf_dcp_plan_new_file(c->dcp));
	return r == 0 && c->set ? wf_output_beside_list(c, names) : r;
}

static int note(struct wf_commit_run *c)
{
	struct wf_key_map names = {0};
	struct wf_buffer text = WF_BUFFER_INIT;
	wf_commit_take_overlay(c->ck);
	int r = list_files(c, &names);
	wf_commit_leave_overlay(c->ck);
	for (uint32_t i = 0; i < names.count; i++)
		wf_buffer_append(&text, names.keys[i].bytes, names.keys[i].len + 1u);
	if (r == 0)
		r = wf_commit_note_files(c, &text);
	else if (!c->err->code)
		wf_fail(c->err, r, "%s: %s", wf_overlay_directory(c->ck->overlay), strerror(-r));
	wf_key_map_free(&names);
	wf_buffer_free(&text);
	return r;
}

/* The file as it was read: one that somebody changed is none of the checkpoint. */
static int open_old(struct wf_commit_run *c, const char *name, struct wf_file_run *ret)
{
	const struct wf_container *old = c->ck->container;
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	bool found = false;
	int r = 0;
	if (c->dcp) {
		r = wf_dcp_open_file(old, name, &file, c->err);
		found = r == 0 && wf_source_locate(file, 0, ret);
	} else {
		const struct wf_shard *shard = wf_huggingface_shard(old, wf_huggingface_shard_named(old, name));
		if (shard->bad)
			return wf_fail(c->err, shard->bad, "%s; all files of the checkpoint are copied to the output",
				       shard->why);
		found = wf_source_locate(wf_container_file(old), shard->start, ret);
	}
	return r < 0 || found ? r : wf_fail(c->err, -EIO, "%s cannot be opened", name);
}

static int copy_old(struct wf_commit_run *c, int directory, const char *name)
{
	cleanup_with(wf_file_run_end) struct wf_file_run old = WF_FILE_RUN_INIT;
	if (wf_output_has(directory, name))
		return 0;
	int r = open_old(c, name, &old);
	return r < 0 ? r : wf_output_copy(c, directory, name, old.fd);
}

static int copy_all(struct wf_commit_run *c)
{
	bool needed;
	const char *name;
	cleanup_fd int directory = wf_overlay_open_home(c->ck->overlay);
	int r = directory < 0 ? wf_fail(c->err, directory, "%s: %s", c->ck->output_set.path, strerror(-directory)) : 0;
	for (uint32_t k = 0; r == 0 && (name = old_file(c, k, &needed)); k++)
		if (needed)
			r = copy_old(c, directory, name);
	return r == 0 ? wf_output_beside_copy(c, directory) : r;
}

/* The new metadata have no name yet, without which their directory is none. */
static int check_metadata(struct wf_commit_run *c)
{
	int r = wf_commit_open_written(c, wf_new_file_reopen(&c->file));
	return r < 0 ? r : wf_dcp_plan_check(c->dcp, c->source, c->err);
}

static int write_set(struct wf_commit_run *c)
{
	cleanup_with(wf_file_run_end) struct wf_file_run old = WF_FILE_RUN_INIT;
	int r = note(c);
	if (r == 0 && wf_source_locate(wf_container_file(c->ck->container), 0, &old))
		r = wf_new_file_dress(&c->file, old.fd, c->err);
	if (r < 0)
		return r;
	r = c->set ? copy_all(c) : 0;
	if (r == 0)
		r = wf_commit_write(c, c->file.fd, 0);
	if (r == 0)
		r = c->set ? wf_commit_reopen(c, wf_new_file_reopen(&c->file)) : check_metadata(c);
	return r == 0 && c->dcp ? copy_all(c) : r; /* they tell which slice files are needed */
}

int wf_commit_to_output_set(struct wf_commit_run *c, int (*put_in_place)(struct wf_commit_run *c))
{
	struct wf_checkpoint *ck = c->ck;
	struct wf_error why = {0};
	int r = wf_overlay_check_base(ck->overlay, c->err);
	if (r == 0)
		r = write_set(c);
	if (r == 0)
		r = wf_commit_look_at(c, c->file.fd);
	if (r == 0) {
		wf_commit_take_overlay(ck);
		r = put_in_place(c);
		if (r == 0)
			wf_overlay_written(ck->overlay);
		wf_commit_leave_overlay(ck);
	}
	if (r == 0 && c->dcp)
		wf_dcp_plan_keep_file(c->dcp);
	if (r == 0 && c->set)
		wf_shards_stay(c);
	if (r == 0 && tidy(ck, &why) < 0)
		wf_log_line(&ck->log, "files that the new checkpoint does not name may be left in %s: %s",
			    ck->output_set.path, why.text);
	return r;
}
