/* SPDX-License-Identifier: MIT */
/* A call of a verb: what the verb offers, and how the words of a command line or of a line of a script become its options and arguments.
 * Knows no verb: the table of verbs.c describes them.
 *
 * Calling sequence: wfctl_call_parse; the verb's function takes options with wfctl_given and arguments in their order. Nothing is copied:
 * words live as long as their caller keeps them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { WFCTL_OK = 0, WFCTL_FAILED = 1, WFCTL_USAGE = 2 };

#define WFCTL_MAX_OPTIONS 12

struct wfctl_call;
struct wfctl_session; /* session.h */

struct wfctl_option {
	char letter;          /* 0: it has none */
	const char *name;     /* without the dashes; NULL ends a list */
	const char *argument; /* as --help shows it; NULL: it takes none */
	const char *text;     /* lines */
};

/* Everything that --help, the man page, the completions and wfctl help --json say of a verb is here (tests/docs.py). */
struct wfctl_verb {
	const char *name, *arguments;
	const char *summary;                            /* a line of wfctl --help */
	const char *text;                               /* what it does, in lines */
	const char *example;                            /* lines, indented */
	struct wfctl_option options[WFCTL_MAX_OPTIONS]; /* --help is every verb's, and is not in it */
	int least, most;                                /* arguments; most -1: any number */
	bool scripted;                                  /* a line of a script may be it */
	int plain_from; /* from this argument on a word that is none of the long options is an argument, whatever it begins with; 0: none */
	/* Returns an exit status. WFCTL_USAGE: nothing is said yet. */
	int (*run)(const struct wfctl_call *call);
};

struct wfctl_call {
	const struct wfctl_verb *verb;
	const char *given
		[WFCTL_MAX_OPTIONS]; /* as the verb's options; what was given last. NULL: not given; "" without an argument */
	char **arguments;            /* NULL behind the last */
	int count;
	bool help;                     /* --help was there, and nothing else counts */
	struct wfctl_session *session; /* who runs the verb sets it */
};

/* words: those behind the verb's name; their order changes, arguments come last. Returns WFCTL_OK, or WFCTL_USAGE with the complaint and
 * the word (one of them, or in `letter`). */
int wfctl_call_parse(const struct wfctl_verb *verb, char **words, int count, struct wfctl_call *ret,
		     const char **ret_complaint, const char **ret_word, char letter[3]);
/* What the option was given, "" for one without an argument; NULL: it was not given, or the verb has none of that name. */
const char *wfctl_given(const struct wfctl_call *call, const char *name);
