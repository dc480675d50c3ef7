/* SPDX-License-Identifier: MIT */
/* The front door's edits of names: each locks, applies, and unlocks. */
#include <errno.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"

/* Ends an edit of names whose outcome is r. */
static int end_names(struct wf_checkpoint *ck, const struct wf_names_edit *e, int r)
{
	if (r == 0)
		wf_edit_stamp_names(ck, e);
	wf_edit_explain(ck, r, e->dir, e->new_dir);
	wf_edit_end(ck);
	return r;
}

bool wf_is_scratch_name(const char *name)
{
	return wf_name_is_scratch(name);
}

int wf_rename(struct wf_checkpoint *ck, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
	      unsigned int flags)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	struct wf_names_edit e = wf_edit_before(ck, dir, name, new_dir, new_name);
	r = wf_apply_rename(ck, dir, name, new_dir, new_name, flags, NULL);
	return end_names(ck, &e, r);
}

int wf_unlink(struct wf_checkpoint *ck, uint32_t dir, const char *name)
{
	int r = wf_edit_begin_removal(ck);
	if (r < 0)
		return r;
	struct wf_names_edit e = wf_edit_before(ck, dir, name, dir, NULL);
	r = wf_apply_unlink(ck, dir, name);
	return end_names(ck, &e, r);
}

static int remove_directory(struct wf_checkpoint *ck, wf_ino dir, const char *name, bool whole)
{
	int r = wf_edit_begin_removal(ck);
	if (r < 0)
		return r;
	struct wf_names_edit e = wf_edit_before(ck, dir, name, dir, NULL);
	r = wf_apply_rmdir(ck, dir, name, whole);
	return end_names(ck, &e, r);
}

int wf_rmdir(struct wf_checkpoint *ck, uint32_t dir, const char *name)
{
	return remove_directory(ck, dir, name, false);
}

int wf_remove_whole(struct wf_checkpoint *ck, uint32_t dir, const char *name)
{
	return remove_directory(ck, dir, name, true);
}

static int stat_and_end(struct wf_checkpoint *ck, int r, wf_ino dir, wf_ino ino, struct wf_stat *ret)
{
	if (r == 0)
		r = wf_checkpoint_stat(ck, ino, ret);
	wf_edit_explain(ck, r, dir, dir);
	wf_edit_end(ck);
	return r;
}

int wf_mkdir(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret)
{
	wf_ino ino = WF_NO_INO;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_apply_mkdir(ck, dir, name, &ino); /* before ino is passed on */
	if (r == 0)
		wf_edit_stamp_made(ck, dir, ino);
	return stat_and_end(ck, r, dir, ino, ret);
}

int wf_create(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret)
{
	wf_ino ino = WF_NO_INO;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = wf_apply_create(ck, dir, name, wf_overlay_new_number(ck->overlay), &ino);
	if (r == 0)
		wf_edit_stamp_made(ck, dir, ino);
	return stat_and_end(ck, r, dir, ino, ret);
}

int wf_link(struct wf_checkpoint *ck, uint32_t ino, uint32_t new_dir, const char *new_name, struct wf_stat *ret)
{
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	wf_ino made;
	r = wf_edit_is_flat(ck) && !wf_name_is_scratch(new_name) ? wf_edit_copy(ck, ino, new_dir, new_name, &made)
								 : wf_apply_link(ck, ino, new_dir, new_name, &made);
	if (r == 0) {
		wf_edit_stamp(ck, new_dir, true);
		wf_edit_stamp(ck, made, false);
	}
	return stat_and_end(ck, r, new_dir, made, ret);
}

/* Follows a relative target, symbolic links excepted. An absolute one names no place that this library knows. */
static int resolve_target(struct wf_checkpoint *ck, wf_ino dir, const char *target, wf_ino *ret)
{
	char name[WF_NAME_MAX + 1];
	struct wf_place p;
	if (target[0] == '/' || !target[0])
		return -EPERM;
	while (*target) {
		size_t len = strcspn(target, "/");
		if (len > WF_NAME_MAX)
			return -EPERM;
		memcpy(name, target, len);
		name[len] = '\0';
		target += len + strspn(target + len, "/");
		if (!strcmp(name, "."))
			continue;
		if (!strcmp(name, "..")) {
			if (dir == WF_INO_ROOT)
				return -EPERM;
			dir = wf_edit_parent_of(ck, dir);
			continue;
		}
		if (wf_edit_find(ck, dir, name, &p) < 0 || !wf_tree_dir(ck->tree, wf_edit_entry(ck, &p)->ino))
			return -EPERM;
		dir = wf_edit_entry(ck, &p)->ino;
	}
	*ret = dir;
	return 0;
}

int wf_symlink(struct wf_checkpoint *ck, const char *target, uint32_t dir, const char *name, struct wf_stat *ret)
{
	wf_ino ino = WF_NO_INO, to;
	int r = wf_edit_begin(ck);
	if (r < 0)
		return r;
	r = resolve_target(ck, dir, target, &to);
	r = r == 0 ? wf_apply_symlink(ck, to, dir, name, &ino) : wf_apply_symlink_to(ck, target, dir, name, &ino);
	if (r == 0)
		wf_edit_stamp_made(ck, dir, ino);
	return stat_and_end(ck, r, dir, ino, ret);
}
