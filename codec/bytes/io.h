/* SPDX-License-Identifier: MIT */
/* Reading and writing all of a range, interrupted or not, and making names durable. No state; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads up to len bytes into buf, fewer at the end of the file alone: *ret_got. Returns 0 or pread's error. */
int wf_pread_most(int fd, void *buf, size_t len, uint64_t offset, size_t *ret_got);
/* Reads exactly len bytes. Returns 0, -EIO at the end of the file, or pread's error. */
int wf_pread_all(int fd, void *buf, size_t len, uint64_t offset);
/* Writes exactly len bytes. Returns 0, -EIO where the file takes none, or pwrite's error. */
int wf_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset);
/* The names in a directory are durable on return; its descriptor may be one of O_PATH. A file system that has nothing to sync
 * there, and says so, is no failure. Returns 0, or the error of opening it for reading or of fsync. */
int wf_sync_directory(int directory);
/* Whether a file's name is the digest of what stands in it, as in the caches of Hugging Face, git-annex, DVC and wandb: other names
 * for the same content lead to it, and changed bytes would make the name a lie. path: resolved. */
bool wf_is_named_by_digest(const char *path);
/* The folder of a relative name that ends in its last slash, for reading; "": the directory itself. No link is followed, and no "..".
 * Or -errno. */
int wf_open_folder(int directory, const char *name);
