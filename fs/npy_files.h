/* SPDX-License-Identifier: MIT */
/* The files of .weightfs/npy that are open: which of them are being written, and what they were made for.
 *
 * Calling sequence: fs_npy_open and fs_npy_release around each opening of a writable mount, of readers too; fs_npy_hold and fs_npy_drop
 * around each use of what a writer has. Numbers are the codec's.
 *
 * Threads: any, and fs_npy_is_open with the checkpoint's lock held, too, as callbacks have it. Who releases the last writer waits for those
 * who hold its file.
 */
#pragma once

#include "fs.h"

struct fs_npy_files;
struct wf_npy_file;

struct fs_npy_files *fs_npy_files_new(void); /* NULL: out of memory */
void fs_npy_files_free(struct fs *fs);       /* accepts that there are none; nobody has one open any more */

int fs_npy_open(struct fs *fs, uint32_t ino, bool writes);
/* An entry that was made for it goes again, where nothing that was written was ever accepted. Returns what the content was refused with
 * that was written behind the last close (a mapping's). */
int fs_npy_release(struct fs *fs, uint32_t ino, bool writes);
/* Makes the entry KEY of the directory, or takes one that is there and is no array, and opens it for writing. */
int fs_npy_make(struct fs *fs, uint32_t dir, const char *key, struct wf_stat *ret);

/* NULL: nobody writes it. */
struct wf_npy_file *fs_npy_hold(struct fs *fs, uint32_t ino);
void fs_npy_drop(struct fs *fs, uint32_t ino);
/* A writer's descriptor was closed. */
void fs_npy_closed(struct fs *fs, uint32_t ino);
/* Whether an entry that was made for an array waits for its release: it may go again. */
bool fs_npy_is_closing(struct fs *fs);
bool fs_npy_is_open(struct fs *fs, uint32_t ino); /* waits for nobody: the checkpoint's lock may be held */
