/* SPDX-License-Identifier: MIT */
/* The files that stand beside a Hugging Face index and belong to its model, without which no library loads it: config.json, those of a
 * tokenizer, code, a README. Weights of other variants and formats do not, nor what is larger than any of these. Threads: pure functions of
 * files. */
#pragma once

#include <stdbool.h>

#include "codec/bytes/key_map.h"

#define WF_BESIDE_MAX_BYTES (64u << 20) /* of one; tokenizers have up to 40 MiB */

/* Whether a file of that name may be one. */
bool wf_is_beside(const char *name);
/* Puts the names of those in a directory into ret; a link that leads to one is one. 0, -ENOMEM, or the error of reading the directory. */
int wf_beside_list(int directory, struct wf_key_map *ret);
