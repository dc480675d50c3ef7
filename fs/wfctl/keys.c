/* SPDX-License-Identifier: MIT */
/* Keeps lists of KEYs, takes them apart, and finds those that a pattern means. */
#include "fs/wfctl/keys.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"

/* ---- lists ---- */

void wfctl_keys_free(struct wfctl_keys *k)
{
	for (size_t i = 0; i < k->count; i++)
		free(k->key[i]);
	free(k->key);
	*k = (struct wfctl_keys){0};
}

static int take(struct wfctl_keys *k, char *key)
{
	int r = key ? wf_array_reserve(&k->key, &k->capacity, k->count + 1, sizeof *k->key, UINT32_MAX) : -ENOMEM;
	if (r == 0)
		k->key[k->count++] = key;
	else
		free(key);
	return r;
}

int wfctl_keys_add(struct wfctl_keys *k, const char *key)
{
	return take(k, strdup(key));
}

/* ---- parts ---- */

const char *wfctl_key_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

char *wfctl_key_directory(const char *path)
{
	const char *name = wfctl_key_name(path);
	return strndup(path, name == path ? 0 : (size_t)(name - path) - 1);
}

char *wfctl_key_join(const char *directory, const char *name)
{
	size_t len = strlen(directory), more = strlen(name);
	char *path = malloc(len + more + 2), *at = path;
	if (!path)
		return NULL;
	if (len > 0) {
		memcpy(at, directory, len);
		at += len;
		*at++ = '/';
	}
	memcpy(at, name, more + 1);
	return path;
}

char *wfctl_key_path(const struct wfctl_store *s, const char *text)
{
	char *path = malloc(strlen(text) + 1), *out = path;
	if (!path) {
		wfctl_store_fail(s, text, -ENOMEM, NULL);
		return NULL;
	}
	for (const char *part = text + strspn(text, "/"); *part; part += strspn(part, "/")) {
		size_t len = strcspn(part, "/");
		if ((len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.')) {
			wfctl_fail(s->path, "%s: a part of a key that is called . or .. is written %%2E or %%2E.",
				   text);
			free(path);
			return NULL;
		}
		if (out != path)
			*out++ = '/';
		memcpy(out, part, len);
		out += len;
		part += len;
	}
	*out = '\0';
	return path;
}

static bool has_pattern(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\\')
			i++;
		else if (strchr("*?[", text[i]))
			return true;
	return false;
}

char *wfctl_key_new(const struct wfctl_store *s, const char *text)
{
	char *path = has_pattern(text, strlen(text)) ? NULL : wfctl_key_path(s, text), *out = path;
	if (has_pattern(text, strlen(text)))
		wfctl_fail(
			s->path,
			"%s: no key fits that pattern; a new key with such characters is written with a \\ before each",
			text);
	for (const char *in = path; in && *in; in++) {
		if (*in == '\\' && in[1])
			in++;
		*out++ = *in;
	}
	if (out)
		*out = '\0';
	return path;
}

char *wfctl_key_resolve(struct wfctl_store *s, const char *path)
{
	struct wf_buffer in = WF_BUFFER_INIT;
	char *directory = wfctl_key_directory(path);
	int r = directory ? s->calls->resolve(s, directory, &in) : -ENOMEM;
	char *resolved = r == 0 ? wfctl_key_join(in.data, wfctl_key_name(path)) : NULL;
	free(directory);
	wf_buffer_free(&in);
	errno = r < 0 ? -r : ENOMEM;
	return resolved;
}

/* ---- patterns ---- */

struct matching {
	const char *directory, *pattern;
	bool printed; /* names as they are printed: without control characters */
	struct wfctl_keys *into;
};

static bool fits(const struct matching *m, const char *name)
{
	if (!m->printed)
		return fnmatch(m->pattern, name, 0) == 0;
	struct wf_buffer shown = WF_BUFFER_INIT;
	wf_buffer_printable(&shown, name, strlen(name));
	bool same = shown.data && !strcmp(shown.data, m->pattern);
	wf_buffer_free(&shown);
	return same;
}

static int match_one(void *ctx, const char *name, const struct wfctl_entry *e)
{
	struct matching *m = ctx;
	return fits(m, name) ? take(m->into, wfctl_key_join(m->directory, name)) : 0;
}

/* The entries of a directory that one part of a pattern fits. */
static int match_part(struct wfctl_store *s, const char *directory, const char *part, struct wfctl_keys *into)
{
	struct wfctl_entry e;
	char *path = wfctl_key_join(directory, part);
	int r = !path ? -ENOMEM : s->calls->stat(s, path, false, &e);
	size_t before = into->count;
	if (r == 0)
		return take(into, path);
	free(path);
	struct matching m = {.directory = directory, .pattern = part, .into = into};
	bool pattern = has_pattern(part, strlen(part)) || strchr(part, '\\');
	r = r == -ENOMEM ? r : pattern ? s->calls->list(s, directory, match_one, &m) : 0;
	m.printed = true;
	if (r == 0 && into->count == before && strchr(part, '%'))
		r = s->calls->list(s, directory, match_one, &m);
	return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

int wfctl_keys_find(struct wfctl_store *s, const char *text, struct wfctl_keys *k)
{
	struct wfctl_entry e;
	struct wfctl_keys now = {0}, next = {0};
	char *path = wfctl_key_path(s, text);
	if (!path)
		return -EINVAL;
	int r = s->calls->stat(s, path, false, &e);
	if (r == 0) {
		r = take(k, path);
		return r < 0 ? r : 1;
	}
	/* the metadata of a safetensors file have a place that is in no mapping */
	size_t within =
		!strncmp(path, WF_METADATA_NAME "/", strlen(WF_METADATA_NAME "/")) ? strlen(WF_METADATA_NAME "/") : 0;
	r = r == -ENOENT || r == -ENOTDIR || r == -ENAMETOOLONG ? wfctl_keys_add(&now, within ? WF_METADATA_NAME : "")
								: r;
	for (char *part = path + within; r == 0 && *part && now.count > 0;) {
		size_t len = strcspn(part, "/");
		bool last = !part[len];
		part[len] = '\0';
		for (size_t i = 0; r == 0 && i < now.count; i++)
			r = match_part(s, now.key[i], part, &next);
		wfctl_keys_free(&now);
		now = next;
		next = (struct wfctl_keys){0};
		part += len + !last;
	}
	int found = (int)now.count;
	for (size_t i = 0; r == 0 && i < now.count; i++)
		r = wfctl_keys_add(k, now.key[i]);
	wfctl_keys_free(&now);
	free(path);
	return r < 0 ? r : found;
}

int wfctl_keys_expand(struct wfctl_store *s, char *const *texts, int count, struct wfctl_keys *k)
{
	for (int i = 0; i < count; i++) {
		int r = wfctl_keys_find(s, texts[i], k);
		if (r == -EINVAL)
			return WFCTL_FAILED;
		if (r <= 0)
			return wfctl_store_fail(s, texts[i], r < 0 ? r : -ENOENT, NULL);
	}
	return WFCTL_OK;
}
