#include "fs/wfctl/help.h"

#include <string.h>

#include "fs/say.h"

#define TEXT_COLUMN 21
#define EXIT_STATUSES "Exit status: 0 done; 1 failed, one line says why; 2 used wrongly.\n"

/* ---- for people ---- */

void wfctl_usage(const struct wfctl_verb *verbs, size_t count, FILE *out)
{
	fputs("usage: wfctl VERB [OPTION...] ARGUMENT...\n\nLooks at PyTorch checkpoints and steers weightfs mounts.\n\nverbs:\n", out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "  %-19s%s\n", verbs[i].name, verbs[i].summary);
	fputs("\noptions:\n"
	      "  -h, --help         this text; wfctl VERB --help explains the verb\n"
	      "  -V, --version      the version\n"
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
