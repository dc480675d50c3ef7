/* SPDX-License-Identifier: MIT */
/* Reads the keys of a mount's names, and finds that of a path. */
#include "fs/wfctl/mount_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/control.h"
#include "fs/wfctl/json.h"

void wfctl_mount_keys_free(struct wfctl_mount_keys *k)
{
	free(k->entries);
	wf_buffer_free(&k->text);
	*k = (struct wfctl_mount_keys){0};
}

static const char *key_behind(const char *path)
{
	return path + strlen(path) + 1;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct key_line {
	struct wf_buffer path, key;
};

/* Both are the first members of a line; the key is JSON again, and the root has none. */
static int take_member(void *ctx, const struct wfctl_member *m)
{
	struct key_line *line = ctx;
	if (!strcmp(m->name, "path"))
		wf_buffer_append(&line->path, m->text, m->len);
	else if (!strcmp(m->name, "key") && m->kind == WF_JSON_STRING)
		wf_json_string(&line->key, m->text, m->len);
	else if (!strcmp(m->name, "key"))
		wf_buffer_append(&line->key, m->text, m->len);
	return !strcmp(m->name, "path") ? 0 : 1;
}

static int add_lines(struct wfctl_mount_keys *k, const struct wf_buffer *json)
{
	struct key_line line = {WF_BUFFER_INIT, WF_BUFFER_INIT};
	int r = 0;
	for (size_t at = 0; r == 0 && at < json->len;) {
		const char *start = json->data + at, *end = memchr(start, '\n', json->len - at);
		size_t len = end ? (size_t)(end - start) : json->len - at;
		line.path.len = line.key.len = 0;
		r = wfctl_json_members(start, len, take_member, &line);
		if (r > 0 && !memchr(line.path.data, '\0', line.path.len)) {
			wf_buffer_append(&k->text, line.path.data, line.path.len);
			wf_buffer_putc(&k->text, '\0');
			wf_buffer_append(&k->text, line.key.data, line.key.len);
			wf_buffer_putc(&k->text, '\0');
			k->count++;
		}
		r = r < 0 ? r : 0;
		at += len + 1;
	}
	wf_buffer_free(&line.path);
	wf_buffer_free(&line.key);
	return r < 0 ? r : wf_buffer_status(&k->text);
}

static int read_keys(struct wfctl_mount_keys *k, const char *mount)
{
	struct wf_buffer json = WF_BUFFER_INIT;
	int r = wfctl_control_read(mount, "entries.json", &json);
	if (r == 0)
		r = add_lines(k, &json);
	wf_buffer_free(&json);
	if (r == 0 && !(k->entries = calloc(k->count + 1, sizeof *k->entries)))
		r = -ENOMEM;
	if (r < 0) {
		wfctl_mount_keys_free(k);
		return r;
	}
	const char *path = k->text.data;
	for (size_t i = 0; i < k->count; i++, path = key_behind(key_behind(path)))
		k->entries[i] = path;
	qsort(k->entries, k->count, sizeof *k->entries, by_path);
	return 0;
}

int wfctl_mount_key(struct wfctl_mount_keys *k, const char *mount, const char *path, struct wf_buffer *ret)
{
	int r = k->entries ? 0 : read_keys(k, mount);
	if (r < 0)
		return r;
	const char **entry = bsearch(&path, k->entries, k->count, sizeof *k->entries, by_path);
	if (!entry || !*key_behind(*entry))
		return -ENODATA;
	wf_buffer_puts(ret, key_behind(*entry));
	return wf_buffer_status(ret);
}
