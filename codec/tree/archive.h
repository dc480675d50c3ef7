/* SPDX-License-Identifier: MIT */
/* The container's records as a tree of directories, for .weightfs/archive: their names are cut at slashes, and each part
 * is escaped as a key is (value/names.h), so that any record of a hostile file has a name. Where two would get the same, the
 * later one ends in "%~" and 8 hex digits.
 *
 * Nodes are numbers from 0, the top; immutable once made. Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/container/container.h"

#define WF_ARCHIVE_TOP 0u
#define WF_ARCHIVE_DEPTH 32u /* slashes after that many are part of the name */

struct wf_archive;

/* Returns 0 or -ENOMEM. The container is not kept. */
int wf_archive_new(const struct wf_container *c, struct wf_archive **ret);
void wf_archive_free(struct wf_archive *a);

uint32_t wf_archive_count(const struct wf_archive *a); /* nodes */
const char *wf_archive_name(const struct wf_archive *a, uint32_t node);
uint32_t wf_archive_record(const struct wf_archive *a, uint32_t node); /* WF_NO_RECORD: a directory */
/* 0, the top, when there is none: it is nobody's child. */
uint32_t wf_archive_find(const struct wf_archive *a, uint32_t dir, const char *name);
uint32_t wf_archive_first(const struct wf_archive *a, uint32_t dir);
uint32_t wf_archive_next(const struct wf_archive *a, uint32_t node);
