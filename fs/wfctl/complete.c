/* SPDX-License-Identifier: MIT */
/* Answers the completions of the shells. */
#include "fs/wfctl/complete.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/mounts.h"
#include "fs/wfctl/key_cache.h"
#include "fs/wfctl/keys.h"
#include "fs/wfctl/session.h"

#define LIST_MAX 200 /* more than that nobody reads */
#define KEY_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* ---- verbs and options ---- */

static void put_line(const char *word, const char *text)
{
	printf("%s\t%.*s\n", word, (int)strcspn(text, "\n"), text);
}

static void put_verbs(const struct wfctl_verb *verbs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		put_line(verbs[i].name, verbs[i].summary);
	put_line("help", "explain a verb");
	put_line("-f", "run many verbs as one commit");
	put_line("--file=", "run many verbs as one commit");
	put_line("-h", "print a summary");
	put_line("--help", "print a summary");
	put_line("-V", "print the version");
	put_line("--version", "print the version");
}

static void put_options(const struct wfctl_verb *v)
{
	char word[64];
	for (const struct wfctl_option *o = v->options; o->name; o++) {
		if (o->letter) {
			snprintf(word, sizeof word, "-%c", o->letter);
			put_line(word, o->text);
		}
		snprintf(word, sizeof word, "--%s%s", o->name, o->argument ? "=" : "");
		put_line(word, o->text);
	}
	put_line("-h", "explain the verb");
	put_line("--help", "explain the verb");
}

/* ---- keys ---- */

struct candidates {
	const char *directory, *beginning; /* of the word */
	struct wfctl_keys names;           /* without what is before the last slash; a mapping ends in one */
	struct wf_buffer all;              /* of the mapping, for the cache */
};

static int collect(void *ctx, const char *name, bool directory)
{
	struct candidates *c = ctx;
	struct wf_buffer shown = WF_BUFFER_INIT;
	int r = 0;
	size_t len = strlen(c->beginning), plain = strspn(name, KEY_CHARACTERS);
	if (plain > 0 && strncmp(name, c->beginning, plain < len ? plain : len) != 0)
		return 0; /* most: these characters are printed as they are */
	wf_buffer_printable(&shown, name, strlen(name));
	wf_buffer_puts(&shown, directory ? "/" : "");
	if (wf_buffer_status(&shown) == 0 && !strncmp(shown.data, c->beginning, len))
		r = wfctl_keys_add(&c->names, shown.data);
	wf_buffer_free(&shown);
	return r;
}

static int collect_all(void *ctx, const char *name, bool directory)
{
	struct candidates *c = ctx;
	wfctl_key_cache_add(&c->all, name, directory);
	return collect(c, name, directory);
}

static int collect_entry(void *ctx, const char *name, const struct wfctl_entry *e)
{
	return collect_all(ctx, name, e->type == WF_DIRECTORY);
}

/* The shell goes on: what is left to do is for the next time. */
static void end_output(void)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (fflush(stdout) == 0 && null >= 0)
		dup2(null, STDOUT_FILENO);
	if (null >= 0)
		close(null);
}

/* Up to the next part of a name. The length is that of the whole name where it has no more parts. */
static size_t common_part(const char *name, size_t typed)
{
	size_t len = typed + strcspn(name + typed, "._/");
	return name[len] ? len + 1 : len;
}

static void put_candidates(const struct candidates *c)
{
	size_t typed = strlen(c->beginning), before = 0;
	const char *last = "";
	for (size_t i = 0; i < c->names.count; i++) {
		const char *name = c->names.key[i];
		size_t len = c->names.count > LIST_MAX ? common_part(name, typed) : strlen(name);
		if (len == before && !strncmp(name, last, len))
			continue; /* as the line above: keys of one part stand together */
		printf("%s%s%.*s\n", c->directory, *c->directory ? "/" : "", (int)len, name);
		last = name;
		before = len;
	}
}

/* word: as it is typed so far. */
static void put_keys(const char *path, const char *word)
{
	char *directory = wfctl_key_directory(word);
	struct candidates c = {.directory = directory ? directory : "", .beginning = wfctl_key_name(word)};
	struct wfctl_session *session = wfctl_session_new(NULL);
	struct wfctl_store *s = NULL;
	bool known = !directory || wfctl_key_cache_read(path, directory, collect, &c) ||
		     wf_list_unopened(path, directory, collect_all, &c) == 0;
	if (!known && session && (s = wfctl_session_read(session, path)))
		s->calls->list(s, directory, collect_entry, &c);
	put_candidates(&c);
	if (c.all.len > 0) {
		end_output();
		wfctl_key_cache_write(path, directory, &c.all);
	}
	wf_buffer_free(&c.all);
	wfctl_keys_free(&c.names);
	if (session)
		wfctl_session_end(session, WFCTL_FAILED);
	free(directory);
}

static int put_attribute(void *ctx, const char *name)
{
	puts(strncmp(name, "user.torch.", 11) ? name : name + 11);
	return 0;
}

static void put_attributes(const char *path, const char *key)
{
	struct wfctl_session *session = wfctl_session_new(NULL);
	struct wfctl_store *s = session ? wfctl_session_read(session, path) : NULL;
	if (s)
		s->calls->names(s, key, put_attribute, NULL);
	if (session)
		wfctl_session_end(session, WFCTL_FAILED);
}

static bool put_mount(void *ctx, const struct fs_mount *m)
{
	if (m->weightfs)
		puts(m->point);
	return false;
}

int wfctl_complete(int count, char **words, const struct wfctl_verb *verbs, size_t verb_count)
{
	const char *what = count > 0 ? words[0] : "";
	if (!strcmp(what, "verbs"))
		put_verbs(verbs, verb_count);
	for (size_t i = 0; !strcmp(what, "options") && count > 1 && i < verb_count; i++)
		if (!strcmp(verbs[i].name, words[1]))
			put_options(&verbs[i]);
	if (!strcmp(what, "keys") && count > 2)
		put_keys(words[1], words[2]);
	if (!strcmp(what, "attributes") && count > 2)
		put_attributes(words[1], words[2]);
	if (!strcmp(what, "mounts"))
		fs_each_mount(NULL, put_mount, NULL);
	return WFCTL_OK;
}
