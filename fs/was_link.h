/* SPDX-License-Identifier: MIT */
/* Links that became directories under the eyes of who removes them; was_link.c has the story.
 *
 * Threads: any, also under the checkpoint's lock; one mutex inside. fs_removing_for holds for its own thread.
 */
#pragma once

#include "fs.h"

struct fs_was_links *fs_was_links_new(void);
void fs_was_links_free(struct fs_was_links *l); /* accepts NULL */
/* Around a call of the codec that removes something; NULL: it is over. */
void fs_removing_for(fuse_req_t req);
void fs_became_directory(void *ctx, uint32_t ino); /* for struct wf_open_options */
/* Whether the caller still sees a link there; for the last time: from now on it sees the directory. */
bool fs_sees_link(fuse_req_t req, uint32_t ino, bool for_the_last_time);
/* Whether somebody sees a link there (0: anywhere): what one is shown is not for the kernel to keep for others. */
bool fs_somebody_sees_link(const struct fs *fs, uint32_t ino);
void fs_show_link(fuse_req_t req, struct wf_stat *st); /* makes it one, for such a caller */
