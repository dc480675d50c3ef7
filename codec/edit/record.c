/* Records: payloads, and the paths in them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"

#define DEPTH_MAX 2048 /* directories in one path: as deep as a path of 4096 bytes can go */

struct wf_buffer *wf_edit_payload(struct wf_checkpoint *ck)
{
	ck->edits->payload.len = 0;
	ck->edits->payload.failed = false;
	return &ck->edits->payload;
}

void wf_put_u8(struct wf_buffer *b, uint8_t v)
{
	wf_buffer_append(b, &v, sizeof v);
}

void wf_put_u32(struct wf_buffer *b, uint32_t v)
{
	wf_buffer_append(b, &v, sizeof v);
}

void wf_put_u64(struct wf_buffer *b, uint64_t v)
{
	wf_buffer_append(b, &v, sizeof v);
}

void wf_put_text(struct wf_buffer *b, const void *text, size_t len)
{
	wf_put_u32(b, (uint32_t)len);
	wf_buffer_append(b, text, len);
}

/* ---- paths of directories, kept until a directory gets another name ---- */

static struct wf_dir_path *cached(struct wf_checkpoint *ck, wf_ino dir)
{
	struct wf_edits *e = ck->edits;
	if (dir > e->paths_count) {
		uint32_t count = WF_MAX(wf_tree_node_count(ck->tree), dir) + 16;
		struct wf_dir_path *p = reallocarray(e->paths, count, sizeof *p);
		if (!p)
			return NULL;
		memset(p + e->paths_count, 0, (count - e->paths_count) * sizeof *p);
		e->paths = p;
		e->paths_count = count;
	}
	return &e->paths[dir - 1];
}

static int name_in_parent(const struct wf_checkpoint *ck, wf_ino dir, char *name)
{
	const struct wf_node *n = wf_tree_node(ck->tree, dir);
	const struct wf_dir *d = n ? wf_tree_dir(ck->tree, n->parent) : NULL;
	for (uint32_t i = 0; d && i < d->count; i++)
		if (d->entries[i].ino == dir)
			return wf_tree_name(ck->tree, d, i, name) ? 0 : -ENOENT;
	return -ENOENT;
}

static wf_ino visible(const struct wf_checkpoint *ck, wf_ino dir)
{
	wf_ino shadowed = wf_edits_shadowed(ck, dir);
	return shadowed != WF_NO_INO ? shadowed : dir;
}

static int dir_path(struct wf_checkpoint *ck, wf_ino dir, const char **ret)
{
	char name[WF_NAME_MAX + 2];
	wf_ino chain[DEPTH_MAX], at = visible(ck, dir);
	uint32_t n = 0;
	const char *base = "";
	/* up to a directory whose path is known, then down again */
	while (at != WF_INO_ROOT) {
		struct wf_dir_path *p = cached(ck, at);
		const struct wf_node *node = wf_tree_node(ck->tree, at);
		if (!p || !node)
			return p ? -ENOENT : -ENOMEM;
		if (p->path && p->generation == ck->edits->generation) {
			base = p->path;
			break;
		}
		if (n == DEPTH_MAX)
			return -ENAMETOOLONG;
		chain[n++] = at;
		at = visible(ck, node->parent);
	}
	while (n > 0) {
		wf_ino next = chain[--n];
		struct wf_dir_path *p = cached(ck, next);
		int r = name_in_parent(ck, next, name);
		if (r < 0)
			return r;
		size_t base_len = strlen(base), len = strlen(name);
		char *path = malloc(base_len + len + 2);
		if (!path)
			return -ENOMEM;
		memcpy(path, base, base_len);
		memcpy(path + base_len, name, len);
		memcpy(path + base_len + len, "/", 2);
		free(p->path);
		p->path = path;
		p->generation = ck->edits->generation;
		base = path;
	}
	*ret = base;
	return 0;
}

int wf_put_path(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir, const char *name)
{
	const char *path;
	if (ck->edits->replaying)
		return 0;
	int r = wf_edit_touch(ck, dir, name);
	if (r == 0)
		r = dir_path(ck, dir, &path);
	if (r < 0)
		return r;
	size_t a = strlen(path), c = strlen(name);
	wf_put_u32(b, (uint32_t)(a + c));
	wf_buffer_append(b, path, a);
	wf_buffer_append(b, name, c);
	return 0;
}

int wf_put_file(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino ino)
{
	struct wf_place place;
	char name[WF_NAME_MAX + 1];
	if (ck->edits->replaying)
		return 0;
	if (ino == WF_INO_ROOT) {
		wf_put_u32(b, 0);
		return 0;
	}
	int r = wf_edit_place_of(ck, ino, &place);
	if (r < 0)
		return r;
	if (!wf_tree_name(ck->tree, wf_tree_dir(ck->tree, place.dir), place.position, name))
		return -ENOENT;
	return wf_put_path(ck, b, place.dir, name);
}

int wf_put_dir(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir)
{
	const char *path;
	if (ck->edits->replaying)
		return 0;
	int r = dir_path(ck, dir, &path);
	if (r == 0)
		wf_put_text(b, path, strlen(path));
	return r;
}

/* Records of edits that a commit writes a new pickle for. */
static bool changes_pickle(enum wf_edit_record type)
{
	switch (type) {
	case EDIT_RENAME:
	case EDIT_UNLINK:
	case EDIT_RMDIR:
	case EDIT_MKDIR:
	case EDIT_CREATE:
	case EDIT_LINK:
	case EDIT_SYMLINK:
	case EDIT_SYMLINK_TO:
	case EDIT_VALUE:
	case EDIT_SET:
	case EDIT_ATTRIBUTE:
		return true;
	default:
		return false;
	}
}

int wf_edit_check_pickle(struct wf_checkpoint *ck, wf_ino ino)
{
	bool kept = !ck->edits->replaying && wf_edit_pending(ck, ino) && !wf_checkpoint_rewritable(ck);
	return kept ? wf_refuse_rewrite(ck) : 0;
}

int wf_edit_check_bytes(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor *t)
{
	const struct wf_storage *s = wf_storage_get(ck->storages, t->storage);
	return s && s->array != WF_NIL ? wf_edit_check_pickle(ck, ino) : 0;
}

int wf_edit_record(struct wf_checkpoint *ck, enum wf_edit_record type, bool pending)
{
	struct wf_edits *e = ck->edits;
	e->changes++;
	if (pending && changes_pickle(type)) {
		/* what an earlier program accepted stays, and the commit says that it cannot be written */
		if (!wf_checkpoint_rewritable(ck) && !e->replaying)
			return wf_refuse_rewrite(ck);
		e->structural = true;
	}
	if (e->replaying)
		return 0;
	int r = wf_buffer_status(&e->payload);
	return r < 0 ? r : wf_overlay_record(ck->overlay, type, e->payload.data, e->payload.len, pending);
}

int wf_edit_record_write(struct wf_checkpoint *ck, uint32_t number, uint64_t offset, uint64_t len, bool pending)
{
	struct wf_buffer *b = wf_edit_payload(ck);
	wf_put_u32(b, number);
	wf_put_u64(b, offset);
	wf_put_u64(b, len);
	return wf_edit_record(ck, EDIT_WRITE, pending);
}
