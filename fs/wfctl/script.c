/* SPDX-License-Identifier: MIT */
/* Splits the lines of a script into words, and runs them. */
#include "fs/wfctl/script.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/buffer.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/session.h"

#define WORDS_MAX 4096

/* ---- the words of a line ---- */

/* One word as a shell reads it, without substitutions, written over the line: '...', "...", \x. false: a quote does not end. */
static bool read_word(char **at, char **ret)
{
	char *in = *at, *out = *at, quote = '\0';
	*ret = out;
	for (; *in && (quote || !strchr(" \t", *in)); in++) {
		if (quote != '\'' && *in == '\\' && in[1] && (!quote || strchr("\"\\$`", in[1])))
			*out++ = *++in;
		else if (quote && *in == quote)
			quote = '\0';
		else if (!quote && (*in == '\'' || *in == '"'))
			quote = *in;
		else
			*out++ = *in;
	}
	*at = *in ? in + 1 : in;
	*out = '\0';
	return !quote;
}

/* Returns how many words, or -1 after saying what is wrong. A word that begins with # begins a comment. */
static int split(char *line, char **words)
{
	int n = 0;
	for (char *at = line + strspn(line, " \t"); *at && *at != '#'; at += strspn(at, " \t")) {
		if (n == WORDS_MAX || !read_word(&at, &words[n])) {
			wfctl_fail(NULL, n == WORDS_MAX ? "too many words" : "a quote does not end");
			return -1;
		}
		n++;
	}
	words[n] = NULL;
	return n;
}

/* ---- lines ---- */

static const struct wfctl_verb *find(const struct wfctl_verb *verbs, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(verbs[i].name, name)) {
			if (verbs[i].scripted)
				return &verbs[i];
			wfctl_fail(NULL, "%s is no verb for a script", name);
			return NULL;
		}
	wfctl_fail(NULL, "there is no verb %s", name);
	return NULL;
}

static int run_line(char *line, char **words, const struct wfctl_verb *verbs, size_t count,
		    struct wfctl_session *session)
{
	struct wfctl_call call;
	const char *complaint, *word;
	char letter[3];
	int n = split(line, words);
	if (n <= 0)
		return n < 0 ? WFCTL_FAILED : WFCTL_OK;
	const struct wfctl_verb *verb = find(verbs, count, words[0]);
	if (!verb)
		return WFCTL_FAILED;
	int r = wfctl_call_parse(verb, words + 1, n - 1, &call, &complaint, &word, letter);
	call.session = session;
	if (r == WFCTL_OK && (call.help || wfctl_given(&call, "with-pending") || wfctl_given(&call, "commit")))
		return wfctl_fail(NULL, "options of the commit belong to wfctl -f itself");
	if (r == WFCTL_OK)
		r = verb->run(&call);
	return r == WFCTL_USAGE ? wfctl_fail(NULL, "%s: %s%s; usage: %s %s", verb->name, complaint, word, verb->name,
					     verb->arguments)
				: r;
}

static int run_lines(FILE *f, const char *path, const struct wfctl_verb *verbs, size_t count,
		     struct wfctl_session *session)
{
	char *line = NULL, **words = calloc(WORDS_MAX + 1, sizeof *words);
	size_t size = 0;
	unsigned long number = 0;
	ssize_t len;
	int r = words ? WFCTL_OK : wfctl_fail(NULL, "out of memory");
	while (r == WFCTL_OK && (len = getline(&line, &size, f)) > 0) {
		wfctl_fail_at(path, ++number);
		if (line[len - 1] == '\n')
			line[--len] = '\0';
		if (len > 0 && line[len - 1] == '\r') /* of an editor elsewhere */
			line[--len] = '\0';
		if (strlen(line) != (size_t)len)
			r = wfctl_fail(NULL, "a NUL is no text");
		else
			r = run_line(line, words, verbs, count, session);
	}
	if (r != WFCTL_OK && wfctl_session_on_mount(session) && number > 1)
		wfctl_fail(NULL, "what stands above it is done, as edits of the mount");
	wfctl_fail_at(NULL, 0);
	if (r == WFCTL_OK && ferror(f))
		r = wfctl_fail(path, "%s", strerror(errno));
	free(line);
	free(words);
	return r;
}

int wfctl_script(const struct wfctl_call *call, const struct wfctl_verb *verbs, size_t count)
{
	const char *path = call->arguments[0];
	FILE *f = strcmp(path, "-") ? fopen(path, "re") : stdin;
	if (!f)
		return wfctl_fail(path, "%s", strerror(errno));
	struct wfctl_session *session = wfctl_session_new(call);
	int r = session ? run_lines(f, path, verbs, count, session) : WFCTL_FAILED;
	if (f != stdin)
		fclose(f);
	return session ? wfctl_session_end(session, r) : r;
}
