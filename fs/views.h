/* SPDX-License-Identifier: MIT */
/* The composed files of .weightfs/safetensors that are known at the moment: by directory and edition, so that one number of the kernel
 * always means the same bytes, and who has one open goes on reading what it opened.
 *
 * Made at the first look, which costs the names below the directory. Kept: those that are open, and a few of the last.
 * Calling sequence: fs_views_get for each look, fs_views_put after it; fs_views_pin and _unpin around an opening.
 *
 * Threads: any; one mutex inside, which is held while a file is made: others wait for the same one.
 */
#pragma once

#include "fs.h"

struct fs_views;
struct wf_composed;

struct fs_view {
	struct wf_composed *file;
	struct timespec made; /* zero: nothing was edited before */
};

struct fs_views *fs_views_new(void); /* NULL: out of memory */
void fs_views_free(struct fs *fs);   /* accepts that there is none */

/* The edition as it goes into a number. */
uint32_t fs_views_edition(struct fs *fs);
/* -ESTALE: of an edition that is over, and nobody has it open. */
int fs_views_get(struct fs *fs, uint32_t dir, uint32_t edition, const struct fs_view **ret);
void fs_views_put(struct fs *fs, const struct fs_view *v);
int fs_views_pin(struct fs *fs, uint32_t dir, uint32_t edition);
void fs_views_unpin(struct fs *fs, uint32_t dir, uint32_t edition);
