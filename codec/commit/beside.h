/* SPDX-License-Identifier: MIT */
/* The files that stand beside a Hugging Face index and belong to its model, without which no library loads it: config.json, those of a
 * tokenizer, code, a README; and those in folders (1_Pooling/config.json of sentence-transformers). Weights of other variants and formats do
 * not, nor what is larger than any of these. A folder that has weights is a model of its own (onnx/, checkpoint-500/), and stays whole; but
 * the folders of sentence-transformers' modules, beside a modules.json, belong to the model with their weights (2_Dense/model.safetensors).
 *
 * A link is followed where it stands beside the index and leads to a file. In folders it has to lead to a file below the directory, or to
 * one of the blobs of the hub's cache that the directory is a snapshot in. Links to folders are not followed.
 *
 *   wf_beside_list(directory, &b) ... wf_beside_open(directory, name) ... wf_beside_free(&b)
 *
 * Threads: pure functions of files. */
#pragma once

#include <stdbool.h>

#include "codec/bytes/key_map.h"

#define WF_BESIDE_MAX_BYTES (64u << 20)         /* of one file; tokenizers have up to 40 MiB */
#define WF_BESIDE_MAX_TOTAL (UINT64_C(1) << 30) /* of all of them, but for the modules' */

enum wf_beside_why { WF_BESIDE_WEIGHTS = 1, WF_BESIDE_LARGE, WF_BESIDE_UNREADABLE, WF_BESIDE_LINK, WF_BESIDE_DEEP };

struct wf_beside {
	struct wf_key_map names; /* relative ones; a folder (its name ends in a slash) stands before what is in it */
	struct wf_key_map
		left; /* what stays behind, and why; the checkpoint's own weights are among it, hidden files are not */
	uint64_t total_bytes;
	bool cut; /* there was more than is looked through */
};

/* What is said of it. */
const char *wf_beside_why(enum wf_beside_why why);
/* Whether a file of that name may be one. */
bool wf_is_beside(const char *name);
/* Fills in ret, which is all zero. 0, -ENOMEM, or the error of reading the directory; ret is freed in any case. */
int wf_beside_list(int directory, struct wf_beside *ret);
void wf_beside_free(struct wf_beside *b);
/* The file, for reading, if it is one that may be followed to: a descriptor, or -errno (-EXDEV: it leads elsewhere). */
int wf_beside_open(int directory, const char *name);
