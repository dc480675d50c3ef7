/* SPDX-License-Identifier: MIT */
/* wfctl attr: the extended attributes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/json.h"
#include "fs/wfctl/keys.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/session.h"

#define NAME_MAX_BYTES 256

/* "dtype" is user.torch.dtype, "descr" user.numpy.descr; a name with a dot is as it stands. */
static bool full_name(const char *text, size_t len, char name[NAME_MAX_BYTES])
{
	bool whole = memchr(text, '.', len) != NULL;
	const char *before = whole ? "" : len == 5 && !strncmp(text, "descr", len) ? "user.numpy." : "user.torch.";
	return snprintf(name, NAME_MAX_BYTES, "%s%.*s", before, (int)len, text) < NAME_MAX_BYTES;
}

static bool is_one_of(const char *const *names, const char *name)
{
	while (*names && strcmp(*names, name) != 0)
		names++;
	return *names;
}

/* Tools that copy attributes set all of them, and a mount ignores what cannot be: who names one is told. */
static const char *refusal(struct wfctl_store *s, const char *key, const char *name, const char *value)
{
	static const char *const tell[] = {"user.torch.key",
					   "user.torch.stride",
					   "user.torch.storage",
					   "user.torch.storage_offset",
					   "user.torch.file_offset",
					   "user.numpy.descr",
					   NULL};
	struct wf_buffer now = WF_BUFFER_INIT;
	struct wfctl_entry e;
	int has = wfctl_store_get(s, key, name, &now);
	bool same = has == 0 && !strcmp(now.data, value),
	     directory = s->calls->stat(s, key, true, &e) == 0 && e.type == WF_DIRECTORY;
	const char *why = same                           ? NULL
			  : is_one_of(tell, name)        ? "it only tells, and cannot be set"
			  : has == -ENODATA && directory ? "a mapping has no such attribute"
							 : NULL;
	wf_buffer_free(&now);
	return why;
}

/* A Hugging Face checkpoint moves what is given another shard; whatever else has shards ignores it. */
static bool is_ignored(struct wfctl_store *s, const char *key, const char *name, const char *value)
{
	struct wf_buffer now = WF_BUFFER_INIT;
	bool ignored = !strcmp(name, "user.torch.shard") &&
		       (wfctl_store_get(s, key, name, &now) < 0 || strcmp(now.data, value) != 0);
	wf_buffer_free(&now);
	return ignored;
}

static int set(struct wfctl_store *s, const char *key, const char *assignment)
{
	char name[NAME_MAX_BYTES];
	const char *equals = strchr(assignment, '=');
	if (!full_name(assignment, (size_t)(equals - assignment), name))
		return wfctl_store_fail(s, key, -ENAMETOOLONG, NULL);
	const char *why = refusal(s, key, name, equals + 1);
	if (why)
		return wfctl_fail(s->path, "%s: %s: %s", key, name, why);
	int r = s->calls->set(s, key, name, equals + 1);
	if (r == 0 && is_ignored(s, key, name, equals + 1))
		return wfctl_fail(s->path, "%s: %s: only of the shards of a Hugging Face checkpoint can it be set", key,
				  name);
	return r < 0 ? wfctl_store_fail(s, key, r == -ENODATA || r == -EOPNOTSUPP ? -EINVAL : r, name) : WFCTL_OK;
}

struct output {
	struct wfctl_store *s;
	const char *key;
	bool json, first, several;
};

static void put(const char *text, size_t len)
{
	struct wf_buffer line = WF_BUFFER_INIT;
	wf_buffer_printable(&line, text, len);
	fwrite(line.data, 1, line.len, stdout);
	wf_buffer_free(&line);
}

static void put_json(const char *text, size_t len)
{
	struct wf_buffer line = WF_BUFFER_INIT;
	wfctl_json_put(&line, text, len);
	fwrite(line.data, 1, line.len, stdout);
	wf_buffer_free(&line);
}

static int show(struct output *o, const char *name, bool named)
{
	struct wf_buffer value = WF_BUFFER_INIT;
	wf_buffer_puts(&value, "");
	int r = wfctl_store_get(o->s, o->key, name, &value);
	if (r == 0 && o->json) {
		fputs(o->first ? "" : ", ", stdout);
		put_json(name, strlen(name));
		fputs(": ", stdout);
		put_json(value.data, value.len);
	} else if (r == 0) {
		if (o->several)
			put(o->key, strlen(o->key)), fputs("\t", stdout);
		if (!named)
			printf("%s=", name);
		put(value.data, value.len);
		putchar('\n');
	}
	o->first = false;
	wf_buffer_free(&value);
	return r;
}

static int show_one(void *ctx, const char *name)
{
	int r = show(ctx, name, false);
	return r == -ENODATA ? 0 : r;
}

static int show_key(struct output *o, char *const *names, int count)
{
	int r = 0, result = WFCTL_OK;
	char name[NAME_MAX_BYTES];
	o->first = true;
	if (o->json) {
		fputs("{\"path\": ", stdout);
		put_json(o->key, strlen(o->key));
		fputs(", \"attributes\": {", stdout);
	}
	if (count == 0)
		r = o->s->calls->names(o->s, o->key, show_one, o);
	for (int i = 0; r == 0 && i < count; i++) {
		r = full_name(names[i], strlen(names[i]), name) ? show(o, name, count == 1) : -ENAMETOOLONG;
		if (r < 0)
			result = r == -ENODATA || r == -EOPNOTSUPP
					 ? wfctl_fail(o->s->path, "%s: there is no attribute %s", o->key, name)
					 : wfctl_store_fail(o->s, o->key, r, name);
	}
	if (o->json)
		puts("}}");
	return r < 0 && result == WFCTL_OK ? wfctl_store_fail(o->s, o->key, r, NULL) : result;
}

int wfctl_attr(const struct wfctl_call *call)
{
	char *const *names = call->arguments + 2;
	int count = call->count - 2, sets = 0, r = WFCTL_OK;
	for (int i = 0; i < count; i++)
		sets += strchr(names[i], '=') != NULL;
	if (sets > 0 && sets < count)
		return WFCTL_USAGE;
	struct wfctl_store *s = sets > 0 ? wfctl_session_edit(call->session, call->arguments[0])
					 : wfctl_session_read(call->session, call->arguments[0]);
	struct wfctl_keys keys = {0};
	if (!s)
		return WFCTL_FAILED;
	r = wfctl_keys_expand(s, call->arguments + 1, 1, &keys);
	for (size_t i = 0; r == WFCTL_OK && i < keys.count; i++) {
		struct output o = {
			.s = s, .key = keys.key[i], .json = wfctl_given(call, "json"), .several = keys.count > 1};
		if (sets == 0)
			r = show_key(&o, names, count);
		for (int k = 0; r == WFCTL_OK && sets > 0 && k < count; k++)
			r = set(s, keys.key[i], names[k]);
	}
	wfctl_keys_free(&keys);
	return r;
}
