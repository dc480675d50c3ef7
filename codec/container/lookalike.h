/* SPDX-License-Identifier: MIT */
/* Saying what a file is that is no checkpoint, and the way out of it: by its first bytes (container/lookalike.c), by what a transfer
 * did to it (lookalike_damage.c), by the names in a zip archive (lookalike_zip.c) or a directory (lookalike_dir.c). One
 * line each; codes as for wf_container_open. Nothing is read but the beginning and the end of a file.
 */
#pragma once

#include "codec/container/records.h"

/* A checkpoint, a zip or a pickle that was taken for text on its way: 0 where it was not. */
int wf_lookalike_mangled(struct wf_source *file, struct wf_error *err);
/* A zip archive whose first two bytes are others, or that stands behind something else: 0 where it is none. */
int wf_lookalike_prefixed(struct wf_source *file, const unsigned char *head, size_t len, struct wf_error *err);
/* The same for one that begins as it should and cannot be read (code, and err says why): several in one file. Returns
 * the code. */
int wf_lookalike_damaged_zip(struct wf_source *file, int code, struct wf_error *err);
/* What a directory holds that was given as a checkpoint. */
int wf_lookalike_directory(const char *path, struct wf_error *err);
