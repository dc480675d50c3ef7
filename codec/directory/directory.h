/* SPDX-License-Identifier: MIT */
/* Checkpoints that are directories: what a path leads to, and its container.
 *
 *	struct wf_directory d;
 *	r = wf_directory_find(path, &d, err);
 *	... d.path is what it is called and d.main the file whose state is that of the whole
 *	r = wf_directory_open(&d, source_of_main, &container, err);
 *	wf_directory_free(&d);
 *
 * A file is a checkpoint by itself, and so is a directory with one in it: path and main are that file then. A directory that is a
 * checkpoint has a main file that tells of the others: an index, .metadata. Who changes the checkpoint changes that file last, and edits
 * belong to its state. The overlay stands beside `path`.
 *
 * A reader of a kind (struct wf_directory_reader, listed in directory/open.c) makes a container over an address space
 * (directory/space.h). It has the main file when it opens; it may look at the others in load_graph, which then puts the space in the
 * place of the container's file (wf_container_set_file).
 * Threads: pure functions of files.
 */
#pragma once

#include "codec/container/container.h"

struct wf_directory_reader;

struct wf_directory {
	char *path, *main;                        /* absolute */
	const struct wf_directory_reader *reader; /* NULL: one file */
};

struct wf_directory_reader {
	/* Whether the directory at path is one of this kind, or the file there names one: *ret_main is the main file, for free(), and
	 * *ret_name the path of the checkpoint where that is not `path`. Returns 0; 1 it is another thing; or an error. */
	int (*find)(const char *path, bool is_directory, char **ret_main, char **ret_name, struct wf_error *err);
	/* As wf_container_open; main: of d->main. */
	int (*open)(const struct wf_directory *d, struct wf_source *main, struct wf_container **ret,
		    struct wf_error *err);
	/* Why it cannot be changed where it stands: a sentence; NULL: it can. For those that are several kinds a function says it. */
	const char *read_only;
	const char *(*find_read_only)(const struct wf_directory *d);
};

/* directory/huggingface.c, zero.c */
extern const struct wf_directory_reader wf_huggingface_reader, wf_zero_reader;
/* directory/dcp_reader.c */
extern const struct wf_directory_reader wf_dcp_reader, wf_dcp_parts_reader;

/* path: as a user gives it. Links are followed, but the name of a main file stays where it is: in the hub's cache it is a link, and the
 * others stand beside the link. Returns 0; for a directory that is no checkpoint -EISDIR and others, with a line that says what it is. */
int wf_directory_find(const char *path, struct wf_directory *ret, struct wf_error *err);
void wf_directory_free(struct wf_directory *d);
/* Why a commit cannot change it where it stands: a sentence that stays valid; NULL: it can. */
const char *wf_directory_read_only(const struct wf_directory *d);
/* Of one file: wf_container_open. */
int wf_directory_open(const struct wf_directory *d, struct wf_source *main, struct wf_container **ret,
		      struct wf_error *err);
