/* SPDX-License-Identifier: MIT */
/* Prints the help of a verb and of all verbs. */
#include "fs/wfctl/help.h"

#include <string.h>

#include "codec/bytes/buffer.h"
#include "fs/say.h"
#include "fs/wfctl/json.h"

#define TEXT_COLUMN 21
#define EXIT_STATUSES "Exit status: 0 done; 1 failed, one line says why; 2 used wrongly.\n"

/* ---- for people ---- */

void wfctl_usage(const struct wfctl_verb *verbs, size_t count, FILE *out)
{
	fputs("usage: wfctl VERB [OPTION...] ARGUMENT...\n\nLooks at PyTorch checkpoints, edits them, and steers weightfs mounts. PATH is a checkpoint or a mount point.\n\nverbs:\n",
	      out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "  %-19s%s\n", verbs[i].name, verbs[i].summary);
	fputs("\noptions:\n"
	      "  -h, --help         this text; wfctl VERB --help explains the verb\n"
	      "  -V, --version      the version\n"
	      "  -f, --file=SCRIPT  run the verbs of a file, a line each, as one commit: all or nothing; - is standard\n"
	      "                     input. --with-pending and --commit=MODE may follow\n"
	      "\n" EXIT_STATUSES,
	      out);
}

static void explain_option(const struct wfctl_option *o)
{
	int n = o->letter ? printf("  -%c, --%s", o->letter, o->name) : printf("  --%s", o->name);
	if (o->argument)
		n += printf("=%s", o->argument);
	for (const char *line = o->text; line; n = 0) {
		size_t len = strcspn(line, "\n");
		printf("%*s%.*s\n", n < TEXT_COLUMN - 1 ? TEXT_COLUMN - n : 2, "", (int)len, line);
		line = line[len] ? line + len + 1 : NULL;
	}
}

void wfctl_explain(const struct wfctl_verb *v)
{
	printf("usage: wfctl %s %s\n\n%s\n\noptions:\n", v->name, v->arguments, v->text);
	for (const struct wfctl_option *o = v->options; o->name; o++)
		explain_option(o);
	printf("  -h, --help         this text\n\nexample:\n%s\n" EXIT_STATUSES, v->example);
}

int wfctl_used_wrongly(const struct wfctl_verb *v, const char *complaint, const char *what)
{
	if (*complaint)
		fs_say("wfctl", v->name, "%s%s; usage: wfctl %s %s", complaint, what, v->name, v->arguments);
	else
		fprintf(stderr, "usage: wfctl %s %s (wfctl %s --help tells more)\n", v->name, v->arguments, v->name);
	return WFCTL_USAGE;
}

/* ---- for programs ---- */

static void put_member(struct wf_buffer *out, const char *name, const char *value, bool last)
{
	wf_buffer_printf(out, "\"%s\": ", name);
	if (value)
		wfctl_json_put(out, value, strlen(value));
	else
		wf_buffer_puts(out, "null");
	wf_buffer_puts(out, last ? "" : ", ");
}

static void put_verb(struct wf_buffer *out, const struct wfctl_verb *v)
{
	char letter[2] = "";
	wf_buffer_puts(out, "{");
	put_member(out, "name", v->name, false);
	put_member(out, "usage", v->arguments, false);
	put_member(out, "summary", v->summary, false);
	put_member(out, "text", v->text, false);
	put_member(out, "example", v->example, false);
	wf_buffer_printf(out, "\"script\": %s, \"options\": [", v->scripted ? "true" : "false");
	for (const struct wfctl_option *o = v->options; o->name; o++) {
		letter[0] = o->letter;
		wf_buffer_puts(out, o == v->options ? "{" : ", {");
		put_member(out, "name", o->name, false);
		put_member(out, "letter", o->letter ? letter : NULL, false);
		put_member(out, "argument", o->argument, false);
		put_member(out, "text", o->text, true);
		wf_buffer_puts(out, "}");
	}
	wf_buffer_puts(out, "]}");
}

void wfctl_usage_json(const struct wfctl_verb *verbs, size_t count)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	wf_buffer_puts(&out, "{\"program\": \"wfctl\", \"version\": \"" WEIGHTFS_VERSION "\", \"verbs\": [\n");
	for (size_t i = 0; i < count; i++) {
		put_verb(&out, &verbs[i]);
		wf_buffer_puts(&out, i + 1 < count ? ",\n" : "\n]}\n");
	}
	fwrite(out.data, 1, out.len, stdout);
	wf_buffer_free(&out);
}
