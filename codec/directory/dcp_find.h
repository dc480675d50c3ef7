/* SPDX-License-Identifier: MIT */
/* Which files of a directory tell that torch.distributed.checkpoint wrote it. Part of its reader and of nothing else. Threads: none of its
 * own.
 *
 *   .metadata                                 what rank 0 wrote for all
 *   __0.metadata, __1.metadata, ...           what each rank wrote for itself, where nothing brought them together
 *   pytorch_model_fsdp_0/, optimizer_0/, ...  a checkpoint each, side by side, as accelerate has them
 *   *.safetensors                             ranks' files that say which parts they hold (directory/dcp_safetensors.h)
 *   latest_checkpointed_iteration.txt         Megatron's: names the directory below that is meant
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/err.h"
#include "codec/bytes/source.h"

struct dcp_part {
	char *folder; /* below the directory; "" */
	char *file;   /* of metadata, from the directory on */
};

struct dcp_files {
	char *directory; /* that names are relative to */
	struct dcp_part *parts;
	uint32_t count, room;
	bool raw;               /* safetensors files in place of parts, ... */
	char *first;            /* ... of which this is the first */
	struct wf_source *main; /* the first part, open; borrowed */
	const char *beside;     /* what Lightning (meta.pt) or Megatron (common.pt) wrote beside; NULL */
};

/* path: of a directory. Returns 0; 1 it is none of these; -ENOMEM, -E2BIG, -EUCLEAN. */
int dcp_files_find(const char *path, struct dcp_files *ret, struct wf_error *err);
void dcp_files_free(struct dcp_files *f);
/* Whether a file of that name is one of metadata. */
bool dcp_is_metadata_name(const char *name);
