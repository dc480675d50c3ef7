/* SPDX-License-Identifier: MIT */
/* Makes directories of the slashes in the names of records, and finds a record by its path. */
#include "codec/tree/archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/buffer.h"
#include "codec/bytes/map.h"
#include "codec/container/records.h"
#include "codec/value/names.h"
#include "codec/bytes/util.h"

struct node {
	size_t name; /* in the texts */
	uint32_t parent, record;
	uint32_t first, last, next; /* children, and the parent's next one */
};

struct wf_archive {
	struct node *nodes;
	uint32_t count, capacity, raw_capacity;
	/* nodes by parent and name; directories once more by the part of the record's name that they stand for */
	struct wf_map by_name, by_part;
	struct wf_buffer texts;
	size_t *raw; /* by node: the part of a record's name; while the tree is made */
};

static const char *text_of(const struct wf_archive *a, uint32_t node, bool raw)
{
	return a->texts.data + (raw ? a->raw[node] : a->nodes[node].name);
}

static uint32_t hash_of(const struct wf_map *m, uint32_t parent, const char *name)
{
	return wf_map_hash_u64(m, (uint64_t)wf_map_hash(m, name, strlen(name)) << 32 | parent);
}

/* The child of that name; 0, which is the top, when there is none. */
static uint32_t find_child(const struct wf_archive *a, uint32_t parent, const char *name, bool raw)
{
	const struct wf_map *m = raw ? &a->by_part : &a->by_name;
	struct wf_map_probe p = wf_map_probe(m, hash_of(m, parent, name));
	uint32_t node;
	while (wf_map_next(&p, &node))
		if (a->nodes[node].parent == parent && !strcmp(text_of(a, node, raw), name))
			return node;
	return 0;
}

static int grow_nodes(struct wf_archive *a)
{
	uint64_t need = (uint64_t)a->count + 1;
	int r = wf_array_reserve(&a->nodes, &a->capacity, need, sizeof *a->nodes, UINT32_MAX);
	return r < 0 ? r : wf_array_reserve(&a->raw, &a->raw_capacity, need, sizeof *a->raw, UINT32_MAX);
}

static size_t add_text(struct wf_archive *a, const char *text, size_t len)
{
	size_t at = a->texts.len;
	wf_buffer_append(&a->texts, text, len);
	wf_buffer_putc(&a->texts, '\0');
	return at;
}

/* A child for one part of a record's name; record WF_NO_RECORD: a directory. */
static int add_node(struct wf_archive *a, uint32_t parent, const char *part, size_t len, uint32_t record, uint32_t *ret)
{
	char name[WF_NAME_MAX + 1];
	int r = grow_nodes(a);
	if (r == 0)
		r = wf_map_reserve(&a->by_name, 1);
	if (r == 0)
		r = wf_map_reserve(&a->by_part, 1);
	if (r < 0)
		return r;
	size_t n = wf_name_from_text(part, len, false, name);
	if (find_child(a, parent, name, false))
		snprintf(name + WF_MIN(n, WF_NAME_MAX - 10u), 11, "%%~%08x", a->count);
	uint32_t node = a->count;
	a->nodes[node] = (struct node){.name = add_text(a, name, strlen(name)), .parent = parent, .record = record};
	a->raw[node] = record == WF_NO_RECORD ? add_text(a, part, len) : 0;
	if (a->texts.failed)
		return -ENOMEM;
	a->count++;
	wf_map_add(&a->by_name, hash_of(&a->by_name, parent, name), node);
	if (record == WF_NO_RECORD)
		wf_map_add(&a->by_part, hash_of(&a->by_part, parent, text_of(a, node, true)), node);
	struct node *p = &a->nodes[parent];
	*(p->last ? &a->nodes[p->last].next : &p->first) = node;
	p->last = node;
	*ret = node;
	return 0;
}

static int add_record(struct wf_archive *a, const struct wf_record *record, uint32_t i)
{
	const char *part = record->name;
	uint32_t dir = WF_ARCHIVE_TOP, depth = 0, ignored;
	for (const char *slash; depth < WF_ARCHIVE_DEPTH && (slash = strchr(part, '/')); part = slash + 1, depth++) {
		char *text = strndup(part, (size_t)(slash - part));
		if (!text)
			return -ENOMEM;
		uint32_t child = find_child(a, dir, text, true);
		int r = child ? 0 : add_node(a, dir, text, strlen(text), WF_NO_RECORD, &child);
		free(text);
		if (r < 0)
			return r;
		dir = child;
	}
	if (!*part && part > record->name && record->stored_bytes == 0)
		return 0; /* what zip tools write for a directory */
	return add_node(a, dir, part, strlen(part), i, &ignored);
}

int wf_archive_new(const struct wf_container *c, struct wf_archive **ret)
{
	struct wf_archive *a = calloc(1, sizeof *a);
	int r = a ? 0 : -ENOMEM;
	if (r == 0) {
		a->texts = (struct wf_buffer)WF_BUFFER_INIT;
		r = grow_nodes(a);
	}
	if (r == 0) {
		a->nodes[0] = (struct node){.name = add_text(a, "", 0), .record = WF_NO_RECORD};
		a->count = 1;
	}
	for (uint32_t i = 0; r == 0 && i < wf_container_count(c); i++)
		r = add_record(a, wf_container_record(c, i), i);
	if (r < 0) {
		wf_archive_free(a);
		return r;
	}
	free(a->raw);
	a->raw = NULL;
	*ret = a;
	return 0;
}

void wf_archive_free(struct wf_archive *a)
{
	if (!a)
		return;
	wf_buffer_free(&a->texts);
	free(a->raw);
	wf_map_free(&a->by_name);
	wf_map_free(&a->by_part);
	free(a->nodes);
	free(a);
}

uint32_t wf_archive_count(const struct wf_archive *a)
{
	return a->count;
}

const char *wf_archive_name(const struct wf_archive *a, uint32_t node)
{
	return text_of(a, node, false);
}

uint32_t wf_archive_record(const struct wf_archive *a, uint32_t node)
{
	return a->nodes[node].record;
}

uint32_t wf_archive_find(const struct wf_archive *a, uint32_t dir, const char *name)
{
	return find_child(a, dir, name, false);
}

uint32_t wf_archive_first(const struct wf_archive *a, uint32_t dir)
{
	return a->nodes[dir].first;
}

uint32_t wf_archive_next(const struct wf_archive *a, uint32_t node)
{
	return a->nodes[node].next;
}
