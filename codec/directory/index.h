/* SPDX-License-Identifier: MIT */
/* The index of a Hugging Face checkpoint: *.index.json, which tells the file of every tensor.
 *
 *   {"metadata": {"total_size": 28, ...}, "weight_map": {"a.weight": "model-00001-of-00002.safetensors", ...}}
 *
 * Knows JSON, names and nothing of what the files hold. `metadata` may be missing, as it is in files in the wild. Threads: one owner.
 */
#pragma once

#include "codec/bytes/buffer.h"
#include "codec/bytes/key_map.h"
#include "codec/directory/members.h"

#define WF_INDEX_MAX_BYTES (64u << 20)

struct wf_index {
	struct wf_key_map keys; /* of weight_map, in its order; the value is the member file */
	uint64_t total_size;    /* as it is told; 0: it is not, or as no number of bytes */
	/* What commits have removed from files that could not be read, and which these may still hold: FILE, NUL, KEY; the values mean nothing.
	 * {"metadata": {"weightfs_removed": [["model-00002-of-00002.safetensors", "b.weight"], ...]}} */
	struct wf_key_map removed;
	/* What a new index keeps: members as they stand, `"name": value`, joined with commas. */
	struct wf_buffer metadata; /* of `metadata`, but for total_size, weightfs_removed and the next */
	struct wf_buffer
		parameters; /* total_parameters of it, which transformers counts: true as long as there are as many elements */
	struct wf_buffer others; /* of the whole, but for metadata and weight_map */
};

/* Whether a file is called as an index: NAME.index.json, or NAME.index.VARIANT.json, as transformers and diffusers call that of a variant;
 * and as one of safetensors files. */
bool wf_index_is_name(const char *name);
bool wf_index_is_safetensors_name(const char *name);

/* Reads the index and adds its files to m. Returns 0; -E2BIG it is larger than WF_INDEX_MAX_BYTES; -EUCLEAN no JSON, no weight_map, a key
 * twice, a file name that has '/' or is no plain name; or the error of reading. On failure, too, wf_index_free. */
int wf_index_read(struct wf_source *file, struct wf_members *m, struct wf_index *ret, struct wf_error *err);
/* Appends to a map as `removed`, and asks it. Returns 0, -ENOMEM, -E2BIG. */
int wf_index_add_removed(struct wf_key_map *removed, const char *file, const char *key, size_t len);
bool wf_index_is_removed(const struct wf_key_map *removed, const char *file, const char *key, size_t len);
void wf_index_free(struct wf_index *x);
