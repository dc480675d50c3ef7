/* SPDX-License-Identifier: MIT */
/* user.torch.shard of a Hugging Face checkpoint: the file that a tensor is to stand in from the next commit on. Until then it is noted with the
 * entry, and nothing moves. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/directory/huggingface.h"
#include "codec/edit/inner.h"
#include "codec/edit/shard_inner.h"
#include "codec/value/names.h"

const char *wf_edits_shard(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_file *f = ck->edits ? wf_edit_known(ck, ino) : NULL;
	return f ? f->shard : NULL;
}

/* Bytes that several tensors share stand in one file: the last word counts for all of them. */
static void forget_views(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage)
{
	struct wf_tensor t;
	const struct wf_storage *s = wf_storage_get(ck->storages, storage);
	if (!s || s->persids < 2) /* nobody else's */
		return;
	for (wf_ino i = 1; i <= ck->edits->files_count; i++) {
		struct wf_file *f = i == ino ? NULL : wf_edit_known(ck, i);
		if (!f || !f->shard || wf_edit_tensor(ck, i, &t) < 0 || t.storage != storage)
			continue;
		free(f->shard);
		f->shard = NULL;
	}
}

int wf_apply_shard(struct wf_checkpoint *ck, wf_ino ino, const char *value)
{
	struct wf_tensor t;
	struct wf_file *f = wf_edit_file(ck, ino);
	int r = wf_edit_tensor(ck, ino, &t);
	char *copy = r == 0 ? strdup(value) : NULL;
	if (r < 0 || !f || !copy) {
		free(copy);
		return r < 0 ? r : -ENOMEM;
	}
	free(f->shard);
	f->shard = copy;
	forget_views(ck, ino, t.storage);
	return 0;
}

/* Tools that copy attributes of another checkpoint set it on what they write, or on a name that it has on the way: its shards mean nothing here.
 * Whoever sets it on what stands there wants it. */
static bool is_copied_along(const struct wf_checkpoint *ck, const struct wf_file *f, const struct wf_place *p,
			    const char *value)
{
	char name[WF_NAME_MAX + 1];
	bool passing =
		wf_edit_is_scratch(ck, p->dir) ||
		(wf_tree_name(ck->tree, wf_tree_dir(ck->tree, p->dir), p->position, name) && wf_name_is_passing(name));
	return (f->writers > 0 || passing) && wf_huggingface_shard_meant(ck->container, value) == WF_NO_RECORD;
}

int wf_edit_set_shard(struct wf_checkpoint *ck, wf_ino ino, const char *value)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	const struct wf_file *f = wf_edit_file(ck, ino);
	struct wf_error err = {0};
	struct wf_place p;
	struct wf_tensor t;
	if (!f)
		return -ENOMEM;
	if (wf_edit_place_of(ck, ino, &p) < 0 || is_copied_along(ck, f, &p, value))
		return 0;
	if (n->type != WF_NODE_TENSOR || p.dir != WF_INO_ROOT)
		return wf_refuse(ck, -EPERM,
				 "tensors that are keys of the index can be moved to another shard, and nothing else");
	int r = wf_edit_check_shard(ck, n->object, p.dir);
	if (r == 0)
		r = wf_edit_tensor(ck, ino, &t);
	if (r == 0 && t.storage == WF_NO_STORAGE)
		r = wf_refuse(ck, -EPERM, "it has no bytes that could be moved to another shard");
	if (r == 0 && wf_huggingface_check_shard(ck->container, value, &err) < 0)
		r = wf_refuse(ck, err.code == -EIO ? -EIO : -EINVAL, "%s", err.text);
	if (r == 0)
		r = wf_edit_record_setting(ck, EDIT_ATTRIBUTE, ino, "user.torch.shard", value);
	return r < 0 ? r : wf_apply_shard(ck, ino, value);
}
