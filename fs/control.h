/* The state behind the hidden directory; one for each mount. */
#pragma once

struct fs_control;

struct fs_control *fs_control_new(void); /* NULL: out of memory */
void fs_control_free(struct fs_control *c);
