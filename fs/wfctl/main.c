/* SPDX-License-Identifier: MIT */
/* Runs wfctl: the verb of the command line, in a session of its own. */
#include <errno.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "fs/wfctl/complete.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/help.h"
#include "fs/wfctl/script.h"
#include "fs/wfctl/session.h"
#include "fs/wfctl/verbs.h"

#define LARGE_BYTES (256 << 10)

static const struct wfctl_verb *find_verb(const char *name)
{
	for (size_t i = 0; i < wfctl_verb_count; i++)
		if (!strcmp(name, wfctl_verbs[i].name))
			return &wfctl_verbs[i];
	wfctl_fail(NULL, "there is no verb %s; wfctl --help lists them", name);
	return NULL;
}

static int run_session(const struct wfctl_verb *v, struct wfctl_call *call)
{
	call->session = wfctl_session_new(call);
	if (!call->session)
		return WFCTL_FAILED;
	int r = v->run(call);
	return wfctl_session_end(call->session, r);
}

static int run_verb(const struct wfctl_verb *v, int count, char **words)
{
	struct wfctl_call call;
	const char *complaint, *word;
	char letter[3];
	int r = wfctl_call_parse(v, words, count, &call, &complaint, &word, letter);
	if (call.help)
		wfctl_explain(v);
	else if (r == WFCTL_OK && v == &wfctl_script_verb)
		r = wfctl_script(&call, wfctl_verbs, wfctl_verb_count);
	else if (r == WFCTL_OK)
		r = run_session(v, &call);
	return r == WFCTL_USAGE ? wfctl_used_wrongly(v, complaint, word) : r;
}

static int help(int count, char **words)
{
	if (count > 0 && !strcmp(words[0], "--json")) {
		wfctl_usage_json(wfctl_verbs, wfctl_verb_count);
		return WFCTL_OK;
	}
	const struct wfctl_verb *v = count > 0 ? find_verb(words[0]) : NULL;
	if (count > 0 && !v)
		return WFCTL_USAGE;
	if (v)
		wfctl_explain(v);
	else
		wfctl_usage(wfctl_verbs, wfctl_verb_count, stdout);
	return WFCTL_OK;
}

static int run(int argc, char **argv)
{
	if (argc < 2) {
		wfctl_usage(wfctl_verbs, wfctl_verb_count, stderr);
		return WFCTL_USAGE;
	}
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
		return help(argc - 2, argv + 2);
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		puts("wfctl " WEIGHTFS_VERSION);
		return WFCTL_OK;
	}
	if (!strcmp(argv[1], "-f") || !strcmp(argv[1], "--file"))
		return run_verb(&wfctl_script_verb, argc - 2, argv + 2);
	if (!strncmp(argv[1], "--file=", strlen("--file="))) {
		argv[1] += strlen("--file=");
		return run_verb(&wfctl_script_verb, argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "complete"))
		return wfctl_complete(argc - 2, argv + 2, wfctl_verbs, wfctl_verb_count);
	const struct wfctl_verb *v = find_verb(argv[1]);
	return v ? run_verb(v, argc - 2, argv + 2) : WFCTL_USAGE;
}

int main(int argc, char **argv)
{
#ifdef M_MMAP_THRESHOLD
	/* what is freed goes back at once, and a table that grows is moved by its pages and leaves no holes */
	mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
#endif
	signal(SIGXFSZ, SIG_IGN);       /* a size limit is an error like a full disk */
	setlocale(LC_CTYPE, "C.UTF-8"); /* for patterns: ? is a character; nothing else depends on it */
	int r = run(argc, argv);
	wfctl_progress(NULL);
	if (fflush(stdout) != 0 || ferror(stdout))
		return r ? r : wfctl_fail("standard output", "%s", strerror(errno));
	return r;
}
