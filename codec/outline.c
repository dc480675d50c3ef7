/* SPDX-License-Identifier: MIT */
/* What stands in a mapping of a file, without opening it as a checkpoint: no tensor is decoded, no node made. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "codec/bytes/map.h"
#include "codec/bytes/util.h"
#include "codec/checkpoint.h"
#include "codec/container/container.h"
#include "codec/pickle/outline.h"
#include "codec/value/names.h"

#define NOT_KNOWN 1

struct listed {
	const struct wf_outline *o;
	wf_outlined dir;
	uint32_t count;
};

/* The name of an entry, by the rules of a mapping whose keys are all texts, or all small ints. */
static bool name_of(const struct listed *l, uint32_t i, char name[WF_NAME_MAX + 1])
{
	size_t len;
	uint32_t number;
	wf_outlined key;
	wf_outline_item(l->o, l->dir, i, &key);
	const char *text = wf_outline_text(l->o, key, &len);
	if (text)
		wf_name_from_text(text, len, false, name);
	else if (wf_outline_shape(l->o, l->dir) == WF_OUTLINE_LIST || wf_outline_number(l->o, key, &number))
		snprintf(name, WF_NAME_MAX + 1, "%u", key ? number : i);
	else
		return false;
	return true;
}

/* Whether each name follows from its key alone: keys of one kind, each there once. */
static bool has_plain_names(const struct listed *l)
{
	struct wf_map seen = {0};
	char name[WF_NAME_MAX + 1], other[WF_NAME_MAX + 1];
	uint32_t texts = 0, at;
	bool plain = wf_map_reserve(&seen, l->count + 1) == 0;
	for (uint32_t i = 0; plain && i < l->count; i++) {
		wf_outlined key;
		size_t len;
		wf_outline_item(l->o, l->dir, i, &key);
		texts += wf_outline_text(l->o, key, &len) != NULL;
		plain = name_of(l, i, name) && (texts == 0 || texts == i + 1);
		uint32_t hash = plain ? wf_map_hash(&seen, name, strlen(name)) : 0;
		struct wf_map_probe p = wf_map_probe(&seen, hash);
		while (plain && wf_map_next(&p, &at))
			plain = name_of(l, at, other) && strcmp(name, other) != 0;
		wf_map_add(&seen, hash, i);
	}
	wf_map_free(&seen);
	return plain;
}

/* The directory that a path leads to from the root. */
static bool find(const struct wf_outline *o, const char *path, struct listed *ret)
{
	char name[WF_NAME_MAX + 1];
	*ret = (struct listed){o, wf_outline_root(o), 0};
	for (;;) {
		enum wf_outline_shape shape = wf_outline_shape(o, ret->dir);
		ret->count = wf_outline_count(o, ret->dir);
		if ((shape != WF_OUTLINE_MAPPING && shape != WF_OUTLINE_LIST) || !has_plain_names(ret))
			return false;
		if (!*path)
			return true;
		size_t len = strcspn(path, "/");
		uint32_t i = 0;
		while (i < ret->count && !(name_of(ret, i, name) && strlen(name) == len && !memcmp(name, path, len)))
			i++;
		if (i == ret->count)
			return false;
		wf_outlined key;
		ret->dir = wf_outline_item(o, ret->dir, i, &key);
		path += len + strspn(path + len, "/");
	}
}

static int list(const struct wf_outline *o, const char *dir, int (*each)(void *ctx, const char *name, bool directory),
		void *ctx)
{
	char name[WF_NAME_MAX + 1];
	struct listed l;
	wf_outlined key;
	if (!find(o, dir, &l))
		return NOT_KNOWN;
	for (uint32_t i = 0; i < l.count; i++)
		if (wf_outline_shape(o, wf_outline_item(o, l.dir, i, &key)) == WF_OUTLINE_UNKNOWN)
			return NOT_KNOWN;
	int r = 0;
	for (uint32_t i = 0; i < l.count && r == 0; i++)
		if (name_of(&l, i, name))
			r = each(ctx, name, wf_outline_shape(o, wf_outline_item(o, l.dir, i, &key)) != WF_OUTLINE_FILE);
	return r < 0 ? r : 0;
}

static int read_outline(const char *path, struct wf_outline **ret)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL, *pickle = NULL;
	struct wf_container *c = NULL;
	int r = wf_source_open_file(path, &file, NULL);
	if (r == 0)
		r = wf_container_open(file, &c, NULL);
	if (r < 0)
		return r;
	uint32_t record = wf_container_kind_of(c) == WF_CONTAINER_ZIP ? wf_container_find(c, "data.pkl") : WF_NO_RECORD;
	r = record == WF_NO_RECORD ? NOT_KNOWN : wf_container_open_record(c, record, &pickle, NULL);
	if (r == 0)
		r = wf_outline_read(pickle, ret);
	wf_container_free(c);
	return r;
}

int wf_list_unopened(const char *path, const char *dir, int (*each)(void *ctx, const char *name, bool directory),
		     void *ctx)
{
	struct stat st;
	struct wf_outline *o = NULL;
	cleanup_free char *resolved = realpath(path, NULL), *overlay = NULL;
	if (!resolved || stat(resolved, &st) < 0 || !S_ISREG(st.st_mode) ||
	    asprintf(&overlay, "%s.weightfs", resolved) < 0 || lstat(overlay, &st) == 0)
		return NOT_KNOWN;
	int r = read_outline(resolved, &o);
	if (r == 0)
		r = list(o, dir, each, ctx);
	wf_outline_free(o);
	return r == -ENOMEM ? r : r != 0 ? NOT_KNOWN : 0;
}
