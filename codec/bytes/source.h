/* SPDX-License-Identifier: MIT */
/* Bytes by (offset, length): the file itself, a slice of it, memory, an inflating stream, or what somebody else puts together.
 *
 * Nobody reads a file through a mapping: one that shrinks under us must give an error, not SIGBUS. wf_source_lend maps it for the kernel alone.
 * Calling sequence: wf_source_open_file / _slice / _memory / _inflate / _from_ops, any number of wf_source_read from any
 * thread, wf_source_unref. Reference counted; a slice or inflating source holds its parent.
 * Threads: read is safe from several threads (an inflating source locks inside).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "codec/bytes/err.h"

struct wf_source;

/* What identifies the state of a file; a commit or a read compares it with the present one. */
struct wf_fingerprint {
	uint64_t dev, ino, size_bytes;
	int64_t mtime_sec, mtime_nsec;
};

/* Bytes that lie unchanged in a file: [offset, offset + len) of it. `file` holds the file open for as long as fd is used, because
 * who has many files closes those that nobody holds. Given back by wf_file_run_end. */
struct wf_file_run {
	int fd; /* borrowed from file */
	uint64_t offset, len;
	struct wf_source *file; /* a reference; NULL: something else keeps fd open */
};

#define WF_FILE_RUN_INIT \
	{                \
		.fd = -1 \
	}

/* A source whose bytes are put together of others'. Any thread calls them. */
struct wf_source_ops {
	/* As wf_source_read; the range lies inside the source and is not empty. */
	int (*read)(void *ctx, uint64_t offset, void *buf, size_t len);
	/* As wf_source_locate; offset lies inside the source, and what ret->len says beyond it is cut. NULL: never. */
	bool (*locate)(void *ctx, uint64_t offset, struct wf_file_run *ret);
	/* As wf_source_find_run. NULL: locate does it. */
	bool (*find_run)(void *ctx, uint64_t offset, struct wf_file_run *ret);
	/* As wf_source_fingerprint. NULL: zeroes. */
	void (*fingerprint)(void *ctx, struct wf_fingerprint *ret);
	void (*free)(void *ctx); /* NULL: nothing is freed */
};

/* Opens path for reading. Refuses what is not a regular file or block device (-EINVAL with a text). */
int wf_source_open_file(const char *path, struct wf_source **ret, struct wf_error *err);
/* A file as it was first seen, for whoever closes it and opens it again; {0} before that. */
struct wf_file_state {
	bool known, has_edges;
	struct wf_fingerprint print;
	uint32_t edges_crc32; /* wf_small_edges_crc32 */
};
/* The same for name in an open directory (path: what wf_source_path will say). state is filled in by the first opening, which reads two
 * pages of the file; later ones read nothing, and a file that is in another state since then is -ESTALE, at reads, too. As above one
 * that was only touched goes on. For files of which there are many. */
int wf_source_open_member(int directory, const char *name, const char *path, struct wf_file_state *state,
			  struct wf_source **ret, struct wf_error *err);
/* Takes over fd on success. */
int wf_source_from_fd(int fd, struct wf_source **ret, struct wf_error *err);
/* Copies nothing and frees data with free() at the end when owned. */
int wf_source_from_memory(void *data, size_t len, bool owned, struct wf_source **ret);
/* offset + len must lie inside parent (-EUCLEAN otherwise). Takes its own reference on parent. */
int wf_source_slice(struct wf_source *parent, uint64_t offset, uint64_t len, struct wf_source **ret);
/* The bytes of parent (a raw deflate stream) inflated to exactly size_bytes; reads give -EUCLEAN where the stream
 * is shorter, longer, or broken. Sequential reads go on where the last one ended; a read further back starts the
 * stream again: bounded memory (one window), whatever the declared size. */
int wf_source_inflate(struct wf_source *parent, uint64_t size_bytes, struct wf_source **ret);
/* ctx is freed with the source, on success alone. 0 or -ENOMEM. */
int wf_source_from_ops(const struct wf_source_ops *ops, void *ctx, uint64_t size_bytes, struct wf_source **ret);

struct wf_source *wf_source_ref(struct wf_source *s);
void wf_source_unref(struct wf_source *s); /* accepts NULL */
void wf_source_unrefp(struct wf_source **s);

uint64_t wf_source_size(const struct wf_source *s);
/* The path that a file, or the file of a slice, was opened by; "" for everything else. Valid while s lives. */
const char *wf_source_path(const struct wf_source *s);

/* Reads exactly len bytes at offset.
 * Returns: 0; -EUCLEAN when the range leaves the source or a stream is broken; -EIO when the file has become
 * shorter than it was at open; -ESTALE when its size, or its mtime and one of its edges, changed since open; or the
 * error of pread. */
int wf_source_read(struct wf_source *s, uint64_t offset, void *buf, size_t len);

/* The bytes of a file, or of a slice of one, in memory that may be handed to write(2) and the like, and must not be looked at: where the file
 * has become shorter the kernel says EFAULT there, and a look would be a SIGBUS. Valid while s lives. What changes after the call is
 * noticed by the next one, and not by this, as a read would. The file is mapped at the first call.
 * Returns: 0; -EOPNOTSUPP they are to be read (no file, or it cannot be mapped); or as wf_source_read. */
int wf_source_lend(struct wf_source *s, uint64_t offset, size_t len, const void **ret);

/* Where the bytes of s from offset on lie in a file, if they lie there unchanged, as far as they go on there; at the end of s
 * the run is empty. ret->file is the caller's to give back. Returns: true, or false for memory and inflated bytes; then *ret is
 * WF_FILE_RUN_INIT. */
bool wf_source_locate(struct wf_source *s, uint64_t offset, struct wf_file_run *ret);
/* The same however short the run is: locate says false where a source of many pieces is read faster than copied run by run. */
bool wf_source_find_run(struct wf_source *s, uint64_t offset, struct wf_file_run *ret);
void wf_file_run_end(struct wf_file_run *run); /* of one that holds nothing, too */

/* While on, the file may grow and get a new mtime: bytes are being appended to it by us, and those that were there stay.
 * Off again, it is compared with its state at open as before (what was appended must have been cut off by then, or the
 * file be opened anew). For files and slices of files; any thread. */
void wf_source_allow_growth(struct wf_source *s, bool on);

/* The file's fingerprint as it was at open (files and slices of files; zeroes otherwise). */
void wf_source_fingerprint(const struct wf_source *s, struct wf_fingerprint *ret);
