/* SPDX-License-Identifier: MIT */
/* Entries by name, and names by entry: the index of a large directory, paths, targets of links. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/tree/inner.h"

#define PATH_LIMIT 4095

static uint32_t name_hash(const struct wf_map *m, const char *name)
{
	return wf_map_hash(m, name, strlen(name));
}

void wf_tree_index_drop(struct wf_dir *d)
{
	wf_map_free(&d->index);
}

/* How many names an index may hold before it is made anew. Positions that were renamed or removed leave theirs behind: a
 * lookup compares names, so that they only cost time. */
static uint32_t most_of_index(const struct wf_dir *d)
{
	return d->live < UINT32_MAX / 4 ? d->live * 2 + 8 : UINT32_MAX;
}

static int make_index(struct wf_tree *t, struct wf_dir *d)
{
	char name[WF_NAME_MAX + 1];
	struct wf_map index = {0};
	int r = wf_map_reserve(&index, WF_MAX(d->live, 1u)); /* of one at least, so that it is seen to be there */
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < d->count; i++)
		if (wf_tree_name(t, d, i, name))
			wf_map_add(&index, name_hash(&index, name), i);
	wf_map_free(&d->index);
	d->index = index;
	return 0;
}

int wf_tree_index_add(struct wf_tree *t, struct wf_dir *d, uint32_t position)
{
	char name[WF_NAME_MAX + 1];
	if (d->index.size == 0 || !wf_tree_name(t, d, position, name))
		return 0;
	if (d->index.count >= most_of_index(d))
		return make_index(t, d);
	int r = wf_map_reserve(&d->index, 1);
	if (r == 0)
		wf_map_add(&d->index, name_hash(&d->index, name), position);
	return r;
}

int wf_tree_find(struct wf_tree *t, struct wf_dir *d, const char *name, uint32_t except, uint32_t *ret_position)
{
	char other[WF_NAME_MAX + 1];
	pthread_mutex_lock(&t->index_lock);
	int r = d->index.size ? 0 : make_index(t, d);
	pthread_mutex_unlock(&t->index_lock);
	if (r < 0)
		return r;
	uint32_t position;
	struct wf_map_probe p = wf_map_probe(&d->index, name_hash(&d->index, name));
	while (wf_map_next(&p, &position))
		if (position != except && wf_tree_name(t, d, position, other) && !strcmp(name, other)) {
			*ret_position = position;
			return 0;
		}
	return -ENOENT;
}

int wf_tree_lookup(struct wf_tree *t, wf_ino ino, const char *name, uint32_t *ret_position)
{
	struct wf_dir *d = wf_tree_mutable_dir(t, ino);
	if (!d)
		return wf_tree_node(t, ino) ? -ENOTDIR : -ENOENT;
	return wf_tree_find(t, d, name, UINT32_MAX, ret_position);
}

/* Position of the entry that makes ino appear in its parent. */
static bool entry_of(const struct wf_tree *t, wf_ino ino, const struct wf_dir **ret_dir, uint32_t *ret_position)
{
	const struct wf_node *n = wf_tree_node(t, ino);
	const struct wf_dir *d = n && n->parent != ino ? wf_tree_dir(t, n->parent) : NULL;
	for (uint32_t i = 0; d && i < d->count; i++)
		if (d->entries[i].ino == ino) {
			*ret_dir = d;
			*ret_position = i;
			return true;
		}
	return false;
}

/* The directories from the root down to ino, without the root itself and without detached ones, whose entries appear in
 * the directory above them. Returns their number, -ENAMETOOLONG past what a path can hold. */
static int ancestors(const struct wf_tree *t, wf_ino ino, wf_ino *chain, int max)
{
	int n = 0;
	while (ino != t->base + WF_INO_ROOT) {
		const struct wf_node *node = wf_tree_node(t, ino);
		if (!node || n == max)
			return -ENAMETOOLONG;
		if (!node->detached)
			chain[n++] = ino;
		ino = node->parent;
	}
	for (int i = 0; i < n / 2; i++) {
		wf_ino swap = chain[i];
		chain[i] = chain[n - 1 - i];
		chain[n - 1 - i] = swap;
	}
	return n;
}

static int append_path(const struct wf_tree *t, const wf_ino *chain, int n, struct wf_buffer *out)
{
	char name[WF_NAME_MAX + 1];
	const struct wf_dir *d;
	uint32_t position;
	for (int i = 0; i < n; i++) {
		if (!entry_of(t, chain[i], &d, &position) || !wf_tree_name(t, d, position, name))
			return -ENOENT;
		if (i > 0)
			wf_buffer_putc(out, '/');
		wf_buffer_puts(out, name);
		if (out->len > PATH_LIMIT)
			return -ENAMETOOLONG;
	}
	return wf_buffer_status(out);
}

void wf_tree_path(const struct wf_tree *t, wf_ino ino, struct wf_buffer *out)
{
	t = wf_tree_of(t, ino) ? wf_tree_of(t, ino) : t;
	wf_ino *chain = malloc((PATH_LIMIT / 2 + 1) * sizeof *chain);
	int n = chain ? ancestors(t, ino, chain, PATH_LIMIT / 2 + 1) : -ENOMEM;
	const struct wf_node *node = wf_tree_node(t, ino);
	if (t->metadata != WF_NO_INO && node && (ino == t->metadata || node->parent == t->metadata))
		wf_buffer_puts(out, n == 0 ? WF_METADATA_PATH : WF_METADATA_PATH "/");
	if (n < 0 || append_path(t, chain, n, out) < 0)
		wf_buffer_puts(out, "...");
	free(chain);
}

int wf_tree_link_target(const struct wf_tree *t, wf_ino link, struct wf_buffer *out)
{
	enum { MAX = PATH_LIMIT / 2 + 1 };
	const struct wf_node *node = wf_tree_node(t, link);
	if (!node || node->type != WF_NODE_LINK)
		return -EINVAL;
	t = wf_tree_of(t, link);
	if (wf_is(t->graph, node->object, WF_STR)) {
		size_t len;
		const char *text = wf_bytes(t->graph, node->object, &len);
		wf_buffer_append(out, text, len);
		return text ? wf_buffer_status(out) : -EIO;
	}
	cleanup_free wf_ino *from = malloc(2 * MAX * sizeof *from);
	if (!from)
		return -ENOMEM;
	wf_ino *to = from + MAX;
	int n = ancestors(t, node->parent, from, MAX), m = ancestors(t, wf_tree_ino_of(t, node->object), to, MAX),
	    common = 0;
	if (n < 0 || m < 0)
		return -ENAMETOOLONG;
	while (common < n && common < m && from[common] == to[common])
		common++;
	for (int i = common; i < n; i++)
		wf_buffer_puts(out, i + 1 < n || common < m ? "../" : "..");
	if (common == n && common == m)
		wf_buffer_puts(out, ".");
	return append_path(t, to + common, m - common, out);
}
