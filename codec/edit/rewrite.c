/* SPDX-License-Identifier: MIT */
/* Whether a checkpoint's pickle can be written anew. One that cannot is kept byte for byte, but for the bytes of arrays inside it:
 * tensors' and arrays' bytes are edited as ever, and whatever would change more of the pickle is refused when it is tried. */
#include <errno.h>
#include <stdlib.h>

#include "codec/edit/state.h"
#include "codec/pickle/pickle.h"

bool wf_checkpoint_rewritable(struct wf_checkpoint *ck)
{
	enum wf_container_kind kind = wf_container_kind_of(ck->container);
	if (ck->rewritable != WF_REWRITABLE_UNKNOWN)
		return ck->rewritable == WF_REWRITABLE;
	/* a tar's ids become calls while it is read; TorchScript has its own rules; safetensors has no pickle; of a directory
	 * each file is another matter */
	int r = kind == WF_CONTAINER_TAR || kind == WF_CONTAINER_TORCHSCRIPT || kind == WF_CONTAINER_SAFETENSORS ||
				wf_container_is_directory(ck->container)
			? 1
			: wf_pickle_faithful(ck->graph, wf_tree_root(ck->tree), &ck->why_verbatim);
	if (r < 0)
		ck->why_verbatim = "memory was short when that was looked at";
	ck->rewritable = r == 1 ? WF_REWRITABLE : WF_VERBATIM;
	return r == 1;
}

/* Why the bytes of a storage inside the pickle cannot be written over there; NULL: they can. */
static const char *why_not_inside(const struct wf_insides *t, const struct wf_storage *s, uint32_t storage)
{
	if (storage >= t->count || t->all[storage].end == 0)
		return "it is not a part of it";
	if (t->all[storage].shared)
		return "another object in it has the same bytes object";
	return s->size_bytes > WF_GRAPH_MAX_BYTES / 4 ? "it is too large" : NULL;
}

int wf_check_inside(struct wf_checkpoint *ck, uint32_t storage)
{
	struct wf_error err = {0};
	struct wf_insides found = {0};
	if (!ck->insides) {
		struct wf_insides *t = malloc(sizeof *t);
		int r = t ? wf_insides_find(ck->container, ck->storages, &found, &err) : -ENOMEM;
		if (r < 0) {
			free(t);
			return wf_refuse(ck, r, "the pickle could not be looked at again: %s", err.text);
		}
		*t = found;
		ck->insides = t;
	}
	const char *why = why_not_inside(ck->insides, wf_storage_get(ck->storages, storage), storage);
	return why ? wf_refuse(
			     ck, -EPERM,
			     "this checkpoint's pickle is kept as it is, because %s; the bytes of this array cannot be changed in it: %s",
			     ck->why_verbatim, why)
		   : 0;
}

void wf_forget_insides(struct wf_checkpoint *ck)
{
	if (ck->insides)
		wf_insides_free(ck->insides);
	free(ck->insides);
	ck->insides = NULL;
}

int wf_refuse_rewrite(struct wf_checkpoint *ck)
{
	return wf_refuse(
		ck, -EPERM,
		"this checkpoint's pickle is kept as it is, because %s: only the bytes of tensors can be edited "
		"(load it in Python and save it with torch.save to change more)",
		ck->why_verbatim);
}
