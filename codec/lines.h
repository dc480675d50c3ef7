/* One line of JSON a tensor: .weightfs/tensors.json and `wfctl ls --json` (the contract's section 2 lists the members).
 *
 * Knows where a tensor's bytes are. Threads: the checkpoint's lock is held shared.
 */
#pragma once

#include "checkpoint_impl.h"

/* What the lines of all tensors that stand in the file have in common: made once, for there can be 100,000. */
struct wf_line_file {
	struct wf_buffer name; /* its path */
	struct wf_buffer id;   /* device, inode, size and time of change: who maps the file compares them first */
};
void wf_line_file_init(struct wf_line_file *f, const struct wf_checkpoint *ck);
void wf_line_file_free(struct wf_line_file *f);

/* A name of the tree and the tensor that it shows. */
struct wf_line {
	struct wf_checkpoint *ck;
	wf_ino ino;
	const struct wf_dir *dir; /* of the name; NULL where the tensor was asked for without one */
	uint32_t position;        /* of the name in dir */
	const struct wf_tensor *tensor;
	const struct wf_line_file *file;
};
