/* SPDX-License-Identifier: MIT */
/* Payloads of records: numbers, texts, and the paths of directories, which are kept until a directory gets another
 * name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/edit/inner.h"

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

/* ---- paths ---- */

static struct wf_dir_path *cached(struct wf_checkpoint *ck, wf_ino dir)
{
	struct wf_edits *e = ck->edits;
	uint32_t need = dir > e->paths_count ? WF_MAX(wf_tree_node_count(ck->tree), dir) : 0;
	return wf_edit_grow(&e->paths, &e->paths_count, need, sizeof *e->paths, 0) < 0 ? NULL : &e->paths[dir - 1];
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

static int dir_path(struct wf_checkpoint *ck, wf_ino dir, const char **ret)
{
	char name[WF_NAME_MAX + 2];
	wf_ino chain[DEPTH_MAX], at = wf_edits_visible_dir(ck, dir);
	uint32_t n = 0;
	const char *base = "";
	/* the one that no directory names */
	if (at == wf_tree_metadata(ck->tree)) {
		*ret = WF_METADATA_PATH "/";
		return 0;
	}
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
		at = wf_edits_visible_dir(ck, node->parent);
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

int wf_put_names(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir, const char *name)
{
	const char *path;
	int r = dir_path(ck, dir, &path);
	if (r < 0)
		return r;
	size_t a = strlen(path), c = strlen(name);
	wf_put_u32(b, (uint32_t)(a + c));
	wf_buffer_append(b, path, a);
	wf_buffer_append(b, name, c);
	return 0;
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
