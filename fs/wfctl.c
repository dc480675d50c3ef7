#include "wfctl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "places.h"
#include "say.h"

/* ---- what the commands share ---- */

int wfctl_fail(const char *path, const char *fmt, ...)
{
	va_list ap;
	wfctl_progress(NULL);
	va_start(ap, fmt);
	fs_say_v("wfctl", path, fmt, ap);
	va_end(ap);
	return WFCTL_FAILED;
}

/* Where the checkpoint is mounted that another process holds. */
static int fail_busy(const char *path, const char *text)
{
	char mount[PATH_MAX];
	if (!fs_mount_of(path, mount, sizeof mount))
		return wfctl_fail(path, "%s", text);
	return wfctl_fail(path, "%s, and mounted on %s (name that, or wfctl umount it first)", text, mount);
}

int wfctl_fail_error(const char *path, int code, const struct wf_error *err)
{
	char text[700];
	if (!err || !err->code)
		return wfctl_fail(path, "%s", strerror(-code));
	wf_error_format(err, text, sizeof text);
	const char *named = text[0] == '/' ? NULL : path; /* the text opens with the file's path */
	if (code == -EBUSY)
		return fail_busy(path, text);
	return wfctl_fail(named, "%s", text);
}

static void say(void *ctx, const char *line)
{
	wfctl_progress(NULL);
	fs_say("wfctl", NULL, "%s", line);
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

/* ---- help ---- */

static const struct wfctl_verb *find_verb(const char *name)
{
	for (size_t i = 0; i < wfctl_verb_count; i++)
		if (!strcmp(name, wfctl_verbs[i].name))
			return &wfctl_verbs[i];
	return NULL;
}

static void usage(FILE *out)
{
	fputs("usage: wfctl VERB [OPTION...] ARGUMENT...\n\nLooks at PyTorch checkpoints and steers weightfs mounts.\n\nverbs:\n", out);
	for (size_t i = 0; i < wfctl_verb_count; i++)
		fprintf(out, "  %-19s%s\n", wfctl_verbs[i].name, wfctl_verbs[i].summary);
	fputs("\noptions:\n"
	      "  -h, --help         this text; wfctl VERB --help explains the verb\n"
	      "  -V, --version      the version\n"
	      "\nExit status: 0 done; 1 failed, one line says why; 2 used wrongly.\n",
	      out);
}

static int explain(const struct wfctl_verb *v)
{
	printf("usage: wfctl %s %s\n\n%s\n\noptions:\n%s  -h, --help         this text\n\nexample:\n%s\n"
	       "Exit status: 0 done; 1 failed, one line says why; 2 used wrongly.\n",
	       v->name, v->arguments, v->text, v->options ? v->options : "", v->example);
	return WFCTL_OK;
}

static int used_wrongly(const struct wfctl_verb *v, const char *complaint, const char *what)
{
	if (*complaint)
		fs_say("wfctl", v->name, "%s%s; usage: wfctl %s %s", complaint, what, v->name, v->arguments);
	else
		fprintf(stderr, "usage: wfctl %s %s (wfctl %s --help tells more)\n", v->name, v->arguments, v->name);
	return WFCTL_USAGE;
}

/* The option that getopt stumbled over, as it was written. */
static const char *bad_option(char **argv, char letter[3])
{
	if (optopt == 0 || optopt >= 0x100)
		return argv[optind - 1];
	snprintf(letter, 3, "-%c", optopt);
	return letter;
}

/* ---- where a verb is sent to ---- */

/* A verb that works on mounts was given a directory on which there is none of weightfs. */
static int refuse_directory(const char *path)
{
	char mount[PATH_MAX], user[128];
	struct fs_place place;
	if (!fs_look_at(path, &place) || (!place.mounted && fs_mount_around(path, mount, sizeof mount)))
		return wfctl_fail(path, "not a weightfs mount: it is inside the one on %s", mount);
	if (!place.mounted)
		return wfctl_fail(path, "not a weightfs mount: a directory on which nothing is mounted");
	if (!place.weightfs)
		return wfctl_fail(path, "not a weightfs mount: a file system of type %s is mounted here", place.type);
	return wfctl_fail(path, "mounted by %s, and for that user alone (-o allow_other lets others in)",
			  fs_user_name(place.owner, user, sizeof user));
}

int wfctl_check_place(enum wfctl_place at, const char *path)
{
	const char *dash = fs_refuse_dash(path);
	char mount[PATH_MAX], user[128];
	struct fs_place place;
	struct statx st;
	if (dash)
		return wfctl_fail(path, "%s", dash);
	if (at == WFCTL_FILE)
		return WFCTL_OK;
	bool known = fs_look_at(path, &place);
	if (at == WFCTL_MOUNT && known && place.weightfs && geteuid() != 0 && place.owner != geteuid())
		return wfctl_fail(path, "not unmounted: it was mounted by %s; only that user and root can unmount it",
				  fs_user_name(place.owner, user, sizeof user));
	/* the kernel may still have the attributes of a mount whose daemon has died: that has to be asked */
	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_TYPE, &st) < 0) {
		if (errno == ENOTCONN && at == WFCTL_EITHER)
			return wfctl_fail(path, "the daemon of this mount has died; wfctl umount frees it, and the edits of the "
						"last sync are shown by the next mount");
		if (errno == EACCES && known && place.weightfs)
			return refuse_directory(path);
		return at == WFCTL_MOUNT && errno != ENOTCONN ? wfctl_fail(path, "not a weightfs mount: %s", strerror(errno))
								     : WFCTL_OK;
	}
	if (S_ISDIR(st.stx_mode))
		return wfctl_is_mount(path) ? WFCTL_OK : refuse_directory(path);
	if (at != WFCTL_MOUNT)
		return WFCTL_OK;
	if (fs_mount_of(path, mount, sizeof mount))
		return wfctl_fail(path, "not a weightfs mount: this checkpoint is mounted on %s; name that", mount);
	return wfctl_fail(path, "not a weightfs mount: a file, which is mounted nowhere here");
}

/* Verbs without options of their own are given their one argument as argv[1]. */
static int run_plain(const struct wfctl_verb *v, int argc, char **argv)
{
	static const struct option none[] = {{NULL, 0, NULL, 0}};
	char letter[3];
	if (getopt_long(argc, argv, "", none, NULL) != -1)
		return used_wrongly(v, "there is no option ", bad_option(argv, letter));
	if (argc - optind != 1)
		return used_wrongly(v, "", "");
	int r = wfctl_check_place(v->place, argv[optind]);
	char *arguments[] = {argv[0], argv[optind], NULL};
	return r ? r : v->run(2, arguments);
}

static int run_verb(const struct wfctl_verb *v, int argc, char **argv)
{
	char letter[3];
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return explain(v);
	opterr = 0; /* complaints of getopt would not say whose option it is */
	if (!v->options)
		return run_plain(v, argc, argv);
	optopt = 0;
	int r = v->run(argc, argv);
	if (r != WFCTL_USAGE)
		return r;
	return optopt || (optind > 1 && optind <= argc && !strncmp(argv[optind - 1], "--", 2) && argv[optind - 1][2])
		       ? used_wrongly(v, "there is no option ", bad_option(argv, letter))
		       : used_wrongly(v, "", "");
}

static int help(int argc, char **argv)
{
	const struct wfctl_verb *v = argc > 1 ? find_verb(argv[1]) : NULL;
	if (argc > 1 && !v)
		return wfctl_fail(NULL, "there is no verb %s; wfctl --help lists them", argv[1]), WFCTL_USAGE;
	if (v)
		return explain(v);
	usage(stdout);
	return WFCTL_OK;
}

static int run(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return WFCTL_USAGE;
	}
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
		return help(argc - 1, argv + 1);
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		puts("wfctl " WEIGHTFS_VERSION);
		return WFCTL_OK;
	}
	const struct wfctl_verb *v = find_verb(argv[1]);
	if (v)
		return run_verb(v, argc - 1, argv + 1);
	wfctl_fail(NULL, "there is no verb %s; wfctl --help lists them", argv[1]);
	return WFCTL_USAGE;
}

int main(int argc, char **argv)
{
	signal(SIGXFSZ, SIG_IGN); /* a size limit is an error like a full disk */
	setlocale(LC_CTYPE, "C.UTF-8"); /* for patterns: ? is a character; nothing else depends on it */
	int r = run(argc, argv);
	wfctl_progress(NULL);
	if (fflush(stdout) != 0 || ferror(stdout))
		return r ? r : wfctl_fail("standard output", "%s", strerror(errno));
	return r;
}
