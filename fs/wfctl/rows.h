/* SPDX-License-Identifier: MIT */
/* The entries of a checkpoint, or of a mount, as wfctl ls shows them: the tensors with their columns, which a mount tells in
 * .weightfs/tensors.json and a checkpoint without that text; and all entries out of .weightfs/summary. KEYs choose among them.
 *
 * Calling sequence: wfctl_rows_load; wfctl_rows_choose for each KEY; rows[i]; wfctl_rows_free. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "codec/bytes/buffer.h"

/* Of a tensor: as they are printed, without control characters. */
enum wfctl_column {
	WFCTL_SHAPE,
	WFCTL_DTYPE,
	WFCTL_BYTES_OF,
	WFCTL_STORAGE,
	WFCTL_LOCATION,
	WFCTL_ERROR, /* empty where there is none */
	WFCTL_COLUMNS
};

/* All pieces are borrowed from the rows, and without a NUL at their end unless it says so. */
struct wfctl_row {
	const char *path;    /* as it is printed: without control characters */
	const char *columns; /* a tensor: one behind the other, each with a NUL; NULL: no tensor */
	const char *json;    /* its line of tensors.json, without the newline; NULL where it was not asked for */
	const char *text;    /* what the summary says; NULL where it was not asked for */
	size_t path_len, json_len, text_len;
	bool chosen;
};

struct wfctl_rows {
	struct wf_buffer json, summary, texts; /* texts: of each tensor the path and its columns */
	struct wfctl_row *rows;
	size_t count, capacity;
	bool keyed;                                      /* a KEY has chosen */
	unsigned long long unseen_tensors, unseen_bytes; /* that stand only in .weightfs/objects */
};

/* path: a mount point or a checkpoint. with_values: of all entries, not only tensors, and with their texts; so it is, too, where
 * there are no tensors. with_json: also the lines. Returns 0, or WFCTL_FAILED after saying why. wfctl_rows_free in any case. */
int wfctl_rows_load(const char *path, bool with_values, bool with_json, struct wfctl_rows *ret);
/* Appends the text of .weightfs/entries.json, or of columns.json: everything. Returns 0, or WFCTL_FAILED after saying why. */
int wfctl_entries_read(const char *path, bool columns, struct wf_buffer *ret);
void wfctl_rows_free(struct wfctl_rows *r);
/* Chooses the entry that the KEY names and all below it; or those that it fits as a shell pattern, part by part; or those whose
 * path begins with it. Control characters of names match as they are, and as they are printed. Returns whether there were any. */
bool wfctl_rows_choose(struct wfctl_rows *r, const char *key);
/* A KEY among the rows, as when there is none: all are chosen. */
bool wfctl_row_is_chosen(const struct wfctl_rows *r, const struct wfctl_row *row);
