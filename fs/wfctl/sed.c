/* SPDX-License-Identifier: MIT */
/* Parses and applies sed's s command. */
#include "fs/wfctl/sed.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"

#define GROUPS 10

/* ---- reading ---- */

/* The text up to the delimiter, for free(); an escaped delimiter is the delimiter. *at goes behind it. NULL: it does not end. */
static char *read_part(const char **at, char delimiter, bool regex)
{
	char *part = malloc(strlen(*at) + 1), *out = part;
	const char *in = *at;
	for (; part && *in && *in != delimiter; in++) {
		if (*in == '\\' && in[1] == delimiter && (!regex || !strchr("|(){}+?.*^$[]", delimiter)))
			in++; /* the delimiter itself */
		else if (*in == '\\' && in[1] == 'n' && delimiter != 'n') {
			*out++ = '\n';
			in++;
			continue;
		} else if (*in == '\\' && in[1])
			*out++ = *in++;
		*out++ = *in;
	}
	if (!part || *in != delimiter) {
		free(part);
		return NULL;
	}
	*out = '\0';
	*at = in + 1;
	return part;
}

bool wfctl_is_sed(const char *text)
{
	char delimiter = text[0] == 's' ? text[1] : '\0';
	if (!delimiter || isalnum((unsigned char)delimiter) || strchr("._- \\\n", delimiter))
		return false;
	const char *at = text + 2;
	char *regex = read_part(&at, delimiter, true), *replacement = regex ? read_part(&at, delimiter, false) : NULL;
	bool both = replacement != NULL;
	free(regex);
	free(replacement);
	return both;
}

static const char *read_flags(const char **at, struct wfctl_substitution *s, int *cflags)
{
	for (; **at && !strchr(";\n", **at); ++*at) {
		if (**at == 'g') {
			s->global = true;
		} else if (**at == 'i' || **at == 'I') {
			*cflags |= REG_ICASE;
		} else if (isdigit((unsigned char)**at)) {
			char *end;
			unsigned long n = strtoul(*at, &end, 10);
			if (n == 0 || n > 1000000)
				return "a number of a match is 1 or more";
			s->from = (unsigned int)n;
			*at = end - 1;
		} else if (!isspace((unsigned char)**at)) {
			return "its flags are g, i and a number";
		}
	}
	return NULL;
}

/* Groups that the replacement names and the expression has not. */
static bool names_missing_group(const struct wfctl_substitution *s)
{
	for (const char *c = s->replacement; *c; c++)
		if (*c == '\\' && *++c && isdigit((unsigned char)*c) && (size_t)(*c - '0') > s->regex.re_nsub)
			return true;
	return false;
}

static int read_one(const char **at, const char *text, struct wfctl_substitution *s)
{
	char delimiter = **at == 's' ? (*at)[1] : '\0', why[200];
	int cflags = REG_EXTENDED;
	*s = (struct wfctl_substitution){.from = 1};
	if (!delimiter || delimiter == '\\' || delimiter == '\n')
		return wfctl_fail(NULL, "%s: no sed expression of the form s/REGEX/REPLACEMENT/", text);
	*at += 2;
	char *regex = read_part(at, delimiter, true);
	s->replacement = regex ? read_part(at, delimiter, false) : NULL;
	const char *wrong = s->replacement ? read_flags(at, s, &cflags) : "a delimiter is missing";
	int r = wrong ? wfctl_fail(NULL, "%s: %s", text, wrong) : WFCTL_OK,
	    code = r == WFCTL_OK ? regcomp(&s->regex, regex, cflags) : 0;
	free(regex);
	if (code) {
		regerror(code, &s->regex, why, sizeof why);
		r = wfctl_fail(NULL, "%s: %s", text, why);
	} else if (r == WFCTL_OK && names_missing_group(s)) {
		regfree(&s->regex);
		r = wfctl_fail(NULL, "%s: the replacement names a group that the expression has not", text);
	}
	if (r != WFCTL_OK)
		free(s->replacement);
	return r;
}

int wfctl_sed_add(struct wfctl_sed *sed, const char *text)
{
	for (const char *at = text; *at;) {
		struct wfctl_substitution *more = reallocarray(sed->all, sed->count + 1, sizeof *more);
		if (!more)
			return wfctl_fail(NULL, "out of memory");
		sed->all = more;
		int r = read_one(&at, text, &more[sed->count]);
		if (r != WFCTL_OK)
			return r;
		sed->count++;
		at += strspn(at, ";\n \t");
	}
	return sed->count ? WFCTL_OK : wfctl_fail(NULL, "an empty expression");
}

void wfctl_sed_free(struct wfctl_sed *sed)
{
	for (size_t i = 0; i < sed->count; i++) {
		regfree(&sed->all[i].regex);
		free(sed->all[i].replacement);
	}
	free(sed->all);
}

/* ---- substituting ---- */

static void put_replacement(const char *replacement, const char *line, const regmatch_t *m, struct wf_buffer *out)
{
	for (const char *c = replacement; *c; c++) {
		int group = *c == '&' ? 0 : -1;
		if (*c == '\\' && c[1]) {
			c++;
			group = isdigit((unsigned char)*c) ? *c - '0' : -1;
		}
		if (group >= 0 && m[group].rm_so >= 0)
			wf_buffer_append(out, line + m[group].rm_so, (size_t)(m[group].rm_eo - m[group].rm_so));
		else if (group < 0)
			wf_buffer_putc(out, *c);
	}
}

static size_t character(const char *at, size_t left)
{
	size_t n = 1;
	while (n < left && ((unsigned char)at[n] & 0xc0) == 0x80)
		n++;
	return n;
}

static int substitute(const struct wfctl_substitution *s, const char *line, size_t len, struct wf_buffer *out)
{
	size_t at = 0, last_end = SIZE_MAX;
	unsigned int found = 0;
	while (at <= len) {
		regmatch_t m[GROUPS] = {{.rm_so = (regoff_t)at, .rm_eo = (regoff_t)len}};
		int r = regexec(&s->regex, line, GROUPS, m, REG_STARTEND | (at > 0 ? REG_NOTBOL : 0));
		if (r == REG_NOMATCH)
			break;
		if (r != 0)
			return -EINVAL;
		size_t start = (size_t)m[0].rm_so, end = (size_t)m[0].rm_eo;
		bool counts = !(start == end && start == last_end); /* nothing right behind a match is none */
		wf_buffer_append(out, line + at, start - at);
		found += counts;
		if (counts && found >= s->from)
			put_replacement(s->replacement, line, m, out);
		else
			wf_buffer_append(out, line + start, end - start);
		last_end = at = end;
		if (start == end && at < len) {
			size_t n = character(line + at, len - at);
			wf_buffer_append(out, line + at, n);
			at += n;
		} else if (start == end) {
			at++;
		}
		if (counts && found >= s->from && !s->global)
			break;
	}
	if (at < len)
		wf_buffer_append(out, line + at, len - at);
	return wf_buffer_status(out);
}

int wfctl_sed_apply(const struct wfctl_sed *sed, const char *line, size_t len, struct wf_buffer *ret)
{
	struct wf_buffer a = WF_BUFFER_INIT, b = WF_BUFFER_INIT;
	wf_buffer_append(&a, line, len);
	wf_buffer_puts(&a, ""); /* with a NUL at its end */
	int r = wf_buffer_status(&a);
	for (size_t i = 0; r == 0 && i < sed->count; i++) {
		b.len = 0;
		r = substitute(&sed->all[i], a.data ? a.data : "", a.len, &b);
		struct wf_buffer swap = a;
		a = b;
		b = swap;
	}
	if (r == 0)
		wf_buffer_append(ret, a.data ? a.data : "", a.len);
	wf_buffer_free(&a);
	wf_buffer_free(&b);
	return r < 0 ? r : wf_buffer_status(ret);
}
