#include "wfctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name, *arguments, *help;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"ls", "[-l] [--json] CHECKPOINT [KEY-PREFIX]", "list keys and shapes without mounting", wfctl_ls},
	{"verify", "CHECKPOINT", "check structure, CRCs and bounds", wfctl_verify},
	{"status", "PATH", "show the pending edits of a mount or a checkpoint", wfctl_status},
	{"commit", "PATH", "write the pending edits into the checkpoint", wfctl_commit},
	{"discard", "CHECKPOINT", "drop the pending edits", wfctl_discard},
	{"umount", "MOUNTPOINT", "commit, unmount, and return when all is written", wfctl_umount},
	{"repack", "[--trim] CHECKPOINT", "rewrite without dead bytes", wfctl_repack},
};

int wfctl_fail(const char *path, const char *fmt, ...)
{
	va_list ap;
	wfctl_progress(NULL);
	fprintf(stderr, "wfctl: %s: ", path);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return WFCTL_FAILED;
}

int wfctl_fail_error(const char *path, int code, const struct wf_error *err)
{
	char text[700];
	if (err && err->code) {
		wf_error_format(err, text, sizeof text);
		bool named = text[0] == '/'; /* the text opens with the file's path */
		if (!named)
			return wfctl_fail(path, "%s", text);
		wfctl_progress(NULL);
		fprintf(stderr, "wfctl: %s\n", text);
		return WFCTL_FAILED;
	}
	return wfctl_fail(path, "%s", strerror(-code));
}

static void say(void *ctx, const char *line)
{
	wfctl_progress(NULL);
	fprintf(stderr, "wfctl: %s\n", line);
}

struct wf_checkpoint *wfctl_open(const char *path, bool plain)
{
	struct wf_open_options options = {.ignore_overlay = plain, .log = say};
	struct wf_checkpoint *ck;
	struct wf_error err = {0};
	int r = wf_open(path, &options, &ck, &err);
	if (r == 0)
		return ck;
	wfctl_fail_error(path, r, &err);
	return NULL;
}

void wfctl_progress(const char *line)
{
	static bool shown;
	if (!line && shown)
		fputs("\r\033[K", stderr);
	else if (line && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%s", line);
	shown = line && isatty(STDERR_FILENO);
	fflush(stderr);
}

static void usage(FILE *out)
{
	fputs("usage: wfctl COMMAND ...\n\nLooks at PyTorch checkpoints and steers weightfs mounts.\n\ncommands:\n",
	      out);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		char call[64];
		snprintf(call, sizeof call, "%s %s", commands[i].name, commands[i].arguments);
		fprintf(out, "  %-42s %s\n", call, commands[i].help);
	}
	fputs("\noptions:\n"
	      "  -l                 ls: also dtype, bytes, storage and location\n"
	      "  --json             ls: one JSON array of objects\n"
	      "  --trim             repack: cut each storage to what its views use\n"
	      "  -h, --help         this text\n"
	      "  -V, --version      the version\n"
	      "\nExit status: 0 done; 1 failed, one line says why; 2 used wrongly.\n",
	      out);
}

int main(int argc, char **argv)
{
	if (argc < 2 || !strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
		usage(argc < 2 ? stderr : stdout);
		return argc < 2 ? WFCTL_USAGE : WFCTL_OK;
	}
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		puts("wfctl " WEIGHTFS_VERSION);
		return WFCTL_OK;
	}
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		int r = commands[i].run(argc - 1, argv + 1);
		wfctl_progress(NULL);
		if (r == WFCTL_USAGE)
			fprintf(stderr, "usage: wfctl %s %s\n", commands[i].name, commands[i].arguments);
		if (fflush(stdout) != 0 || ferror(stdout))
			return r ? r : wfctl_fail("standard output", "%s", strerror(errno));
		return r;
	}
	fprintf(stderr, "wfctl: there is no command %s; wfctl --help lists them\n", argv[1]);
	return WFCTL_USAGE;
}
