/* The verbs of wfctl. Exit statuses: 0 done, 1 failed (one line on stderr says why), 2 used wrongly. */
#pragma once

#include "codec/checkpoint.h"

enum { WFCTL_OK = 0, WFCTL_FAILED = 1, WFCTL_USAGE = 2 };

enum wfctl_place {
	WFCTL_FILE,   /* a checkpoint */
	WFCTL_MOUNT,  /* a mount point */
	WFCTL_EITHER, /* a mount point or a checkpoint */
};

/* What --help says of a verb is all here; the man page and the completions offer the same (tests/docs.py). */
struct wfctl_verb {
	const char *name, *arguments;
	const char *summary; /* a line of wfctl --help */
	const char *text;    /* what it does, in lines */
	const char *options; /* lines of "  -x, --long         text\n"; NULL: it has none, and gets its one argument as argv[1] */
	const char *example; /* lines, indented */
	enum wfctl_place place; /* what its one argument is; only of verbs without options */
	/* Returns an exit status; argv[0] is the verb. WFCTL_USAGE: nothing is said yet. */
	int (*run)(int argc, char **argv);
};

extern const struct wfctl_verb wfctl_verbs[];
extern const size_t wfctl_verb_count;

int wfctl_ls(int argc, char **argv);
int wfctl_verify(int argc, char **argv);
int wfctl_status(int argc, char **argv);
int wfctl_commit(int argc, char **argv);
int wfctl_discard(int argc, char **argv);
int wfctl_umount(int argc, char **argv);
int wfctl_repack(int argc, char **argv);

/* "wfctl: PATH: reason" on stderr; returns WFCTL_FAILED. path may be NULL. */
int wfctl_fail(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same with the text of an error, or of an errno value when it has none. */
int wfctl_fail_error(const char *path, int code, const struct wf_error *err);
/* Opens a checkpoint for reading, its pending edits left out when plain. NULL after saying why. */
struct wf_checkpoint *wfctl_open(const char *path, bool plain);
/* A line that overwrites itself on a terminal; nothing elsewhere. NULL ends it. */
void wfctl_progress(const char *line);
/* 0, or WFCTL_FAILED after saying why a verb of this kind cannot be sent there. */
int wfctl_check_place(enum wfctl_place place, const char *path);
/* Whether a weightfs is mounted on the path, and answers. */
bool wfctl_is_mount(const char *path);
