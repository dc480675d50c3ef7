/* SPDX-License-Identifier: MIT */
/* The command line and mount options, in one struct. Parsing only: nothing is opened here. */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <sys/types.h>

#include "codec/checkpoint.h"

struct fs_options {
	char *checkpoint;   /* as given */
	char *mountpoint;   /* absolute */
	char *output;       /* -o output=FILE, or NULL */
	char *commit;       /* -o commit=, or NULL */
	char *map_location; /* -o map_location=, or NULL */
	int read_only;      /* -o ro */
	int read_write;     /* -o rw */
	int preload, verify, direct_io;
	int foreground, debug, single_threaded, show_help, show_version;
	int allow_other, default_permissions;
	unsigned int uid, gid, umask;
	int set_uid, set_gid, set_umask;
	enum wf_commit_mode commit_mode;
	struct fuse_args fuse; /* what is left for libfuse's session */
};

/* Returns 0, or the exit status after a line on stderr. fs_options_free in every case. */
int fs_options_parse(int argc, char **argv, struct fs_options *ret);
void fs_options_free(struct fs_options *o);
void fs_options_help(void);
