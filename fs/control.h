/* The state behind the hidden directory; one for each mount. */
#pragma once

struct fs;
struct fs_control;

struct fs_control *fs_control_new(void); /* NULL: out of memory */
void fs_control_free(struct fs *fs); /* accepts that there is none; the checkpoint is still open */
