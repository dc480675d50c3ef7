/* SPDX-License-Identifier: MIT */
/* The life of the edits of a checkpoint, from its opening to its close. */
#include "codec/edit/life.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <string.h>
#include <unistd.h>

#include "codec/bytes/util.h"
#include "codec/directory/directory.h"
#include "codec/edit/inner.h"

struct wf_edits *wf_edits_new(void)
{
	struct wf_edits *e = calloc(1, sizeof *e);
	if (e) {
		e->generation = 1;
		e->viewed = WF_NO_STORAGE;
	}
	return e;
}

void wf_edits_start(struct wf_checkpoint *ck, struct wf_storages *ss)
{
	struct wf_extent_files files = {
		.open = wf_edit_open_extents, .before = wf_edit_before_write, .written = wf_edit_written, .ctx = ck};
	wf_storages_set_extent_files(ss, &files);
}

static bool is_named(void *ctx, uint32_t number)
{
	return wf_edit_storage(ctx, number) != WF_NO_STORAGE;
}

int wf_edits_open(struct wf_checkpoint *ck, struct wf_error *err)
{
	if (!ck->overlay)
		return 0;
	ck->edits = wf_edits_new();
	if (!ck->edits)
		return wf_fail(err, -ENOMEM, "out of memory");
	wf_edits_start(ck, ck->storages);
	int r = wf_edit_reserve_files(ck->edits, wf_tree_node_count(ck->tree));
	r = r < 0 ? wf_fail(err, r, "out of memory") : wf_edit_replay(ck, err);
	if (r == 0)
		wf_overlay_forget_unnamed(ck->overlay, is_named, ck);
	return r;
}

void wf_edits_close(struct wf_checkpoint *ck)
{
	struct wf_edits *e = ck->edits;
	if (!e)
		return;
	for (uint32_t i = 0; i < e->files_count; i++)
		wf_edit_free_file(e->files[i]);
	for (uint32_t i = 0; i < e->paths_count; i++)
		free(e->paths[i].path);
	free(e->files);
	free(e->paths);
	free(e->numbers);
	free(e->unnamed);
	free(e->by_number);
	free(e->scratch_dirs);
	for (uint32_t i = 0; i < e->refused_count; i++)
		free(e->refused[i]);
	free(e->refused);
	wf_pasts_clear(e);
	free(e->viewers);
	free(e->kept);
	wf_edits_free_twins(e);
	free(e->put_off);
	wf_edits_drop_next(e);
	free(e->touched);
	free(e->inside);
	free(e->storage_of_record);
	wf_buffer_free(&e->pieces);
	free(e->last_path);
	wf_buffer_free(&e->payload);
	free(e);
	ck->edits = NULL;
}

/* ---- without a mount ---- */

char *wf_edited_path(const char *path)
{
	struct wf_directory place;
	char *found = NULL;
	if (wf_directory_find(path, &place, NULL) == 0) {
		found = steal_pointer(&place.path);
		wf_directory_free(&place);
		return found;
	}
	found = realpath(path, NULL); /* no checkpoint, or not there: edits for an output that was never written */
	if (found || path[0] == '/')
		return found ? found : strdup(path);
	cleanup_free char *cwd = getcwd(NULL, 0);
	return cwd && asprintf(&found, "%s/%s", cwd, path) >= 0 ? found : NULL;
}

int wf_discard(const char *path, struct wf_error *err)
{
	struct wf_directory place;
	struct stat st;
	cleanup_free char *edited = wf_edited_path(path);
	int r = edited ? wf_overlay_discard(edited, err) : wf_fail(err, -ENOMEM, "out of memory");
	if (r < 0 || stat(edited, &st) < 0 || !S_ISDIR(st.st_mode))
		return r;
	if (wf_directory_find(edited, &place, NULL) < 0)
		return wf_overlay_discard_noted(edited, err);
	wf_directory_free(&place);
	return 0;
}

int wf_waiting(const char *path, uint64_t *ret_edits, char *ret_failure, size_t size, struct wf_error *err)
{
	cleanup_free char *edited = wf_edited_path(path);
	return edited ? wf_overlay_look(edited, ret_edits, ret_failure, size, err)
		      : wf_fail(err, -ENOMEM, "out of memory");
}

uint64_t wf_edits_edition(const struct wf_checkpoint *ck)
{
	return ck->edits ? ck->edits->changes : 0;
}
