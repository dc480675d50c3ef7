/* SPDX-License-Identifier: MIT */
/* Parses the words of a call by the options and arguments of its verb. */
#include "fs/wfctl/call.h"

#include <string.h>

/* ---- one word ---- */

static int find_long(const struct wfctl_verb *verb, const char *name, size_t len)
{
	for (int i = 0; verb->options[i].name; i++)
		if (!strncmp(verb->options[i].name, name, len) && !verb->options[i].name[len])
			return i;
	return -1;
}

static int find_letter(const struct wfctl_verb *verb, char letter)
{
	for (int i = 0; verb->options[i].name; i++)
		if (verb->options[i].letter == letter)
			return i;
	return -1;
}

struct parsing {
	struct wfctl_call *call;
	char **words;
	int count, at; /* `at` is the word that is looked at */
	const char *complaint, *word;
	char *letter;
};

static int complain(struct parsing *p, const char *complaint, const char *word)
{
	p->complaint = complaint;
	p->word = word;
	return WFCTL_USAGE;
}

/* The argument of an option: what stands behind it in its word, or the next word. */
static int take_argument(struct parsing *p, int option, const char *behind, const char *word)
{
	if (behind)
		p->call->given[option] = behind;
	else if (p->at + 1 < p->count)
		p->call->given[option] = p->words[++p->at];
	else
		return complain(p, "an argument is missing behind ", word);
	return WFCTL_OK;
}

static int take_long(struct parsing *p, char *word)
{
	const struct wfctl_verb *verb = p->call->verb;
	size_t len = strcspn(word + 2, "=");
	const char *value = word[2 + len] ? word + 3 + len : NULL;
	int option = find_long(verb, word + 2, len);
	if (!value && !strcmp(word, "--help"))
		p->call->help = true;
	else if (option < 0)
		return complain(p, "there is no option ", word);
	else if (verb->options[option].argument)
		return take_argument(p, option, value, word);
	else if (value)
		return complain(p, "an argument where none belongs: ", word);
	else
		p->call->given[option] = "";
	return WFCTL_OK;
}

static int take_letters(struct parsing *p, char *word)
{
	const struct wfctl_verb *verb = p->call->verb;
	for (const char *c = word + 1; *c; c++) {
		int option = find_letter(verb, *c);
		p->letter[0] = '-';
		p->letter[1] = *c;
		p->letter[2] = '\0';
		if (*c == 'h' && option < 0)
			p->call->help = true;
		else if (option < 0)
			return complain(p, "there is no option ", p->letter);
		else if (verb->options[option].argument)
			return take_argument(p, option, c[1] ? c + 1 : NULL, p->letter);
		else
			p->call->given[option] = "";
	}
	return WFCTL_OK;
}

/* Where a value may begin with dashes only what is an option of the verb is one. */
static bool is_option(const struct wfctl_verb *verb, const char *word, int arguments)
{
	if (word[0] != '-' || !word[1])
		return false;
	if (verb->plain_from == 0 || arguments < verb->plain_from)
		return true;
	return word[1] == '-' && (find_long(verb, word + 2, strcspn(word + 2, "=")) >= 0 || !strcmp(word, "--help"));
}

/* ---- all of them ---- */

int wfctl_call_parse(const struct wfctl_verb *verb, char **words, int count, struct wfctl_call *ret,
		     const char **ret_complaint, const char **ret_word, char letter[3])
{
	struct parsing p = {.call = ret, .words = words, .count = count, .letter = letter, .complaint = "", .word = ""};
	int r = WFCTL_OK;
	bool only_arguments = false;
	*ret = (struct wfctl_call){.verb = verb, .arguments = words};
	for (; r == WFCTL_OK && p.at < count && !ret->help; p.at++) {
		char *word = words[p.at];
		if (!only_arguments && !strcmp(word, "--"))
			only_arguments = true;
		else if (only_arguments || !is_option(verb, word, ret->count))
			words[ret->count++] = word; /* the place of a word that was looked at */
		else
			r = word[1] == '-' ? take_long(&p, word) : take_letters(&p, word);
	}
	if (r == WFCTL_OK && !ret->help && (ret->count < verb->least || (verb->most >= 0 && ret->count > verb->most)))
		r = WFCTL_USAGE;
	*ret_complaint = p.complaint;
	*ret_word = p.word;
	return r;
}

const char *wfctl_given(const struct wfctl_call *call, const char *name)
{
	int option = find_long(call->verb, name, strlen(name));
	return option < 0 ? NULL : call->given[option];
}
