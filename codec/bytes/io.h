/* Reading and writing all of a range, interrupted or not. No state; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Reads exactly len bytes. Returns 0, -EIO at the end of the file, or pread's error. */
int wf_pread_all(int fd, void *buf, size_t len, uint64_t offset);
/* Writes exactly len bytes. Returns 0, -EIO where the file takes none, or pwrite's error. */
int wf_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset);
