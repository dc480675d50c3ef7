/* SPDX-License-Identifier: MIT */
/* Whether a checkpoint's pickle can be written anew. One that cannot is kept byte for byte: tensors' bytes are edited as
 * ever, and whatever would change the pickle is refused when it is tried. */
#include <errno.h>

#include "codec/edit/state.h"
#include "codec/pickle/pickle.h"

bool wf_checkpoint_rewritable(struct wf_checkpoint *ck)
{
	enum wf_container_kind kind = wf_container_kind_of(ck->container);
	if (ck->rewritable != WF_REWRITABLE_UNKNOWN)
		return ck->rewritable == WF_REWRITABLE;
	/* a tar's ids become calls while it is read; TorchScript has its own rules; safetensors has no pickle */
	int r = kind == WF_CONTAINER_TAR || kind == WF_CONTAINER_TORCHSCRIPT || kind == WF_CONTAINER_SAFETENSORS
			? 1
			: wf_pickle_faithful(ck->graph, wf_tree_root(ck->tree), &ck->why_verbatim);
	if (r < 0)
		ck->why_verbatim = "memory was short when that was looked at";
	ck->rewritable = r == 1 ? WF_REWRITABLE : WF_VERBATIM;
	return r == 1;
}

int wf_refuse_rewrite(struct wf_checkpoint *ck)
{
	return wf_refuse(
		ck, -EPERM,
		"this checkpoint's pickle is kept as it is, because %s: only the bytes of tensors can be edited "
		"(load it in Python and save it with torch.save to change more)",
		ck->why_verbatim);
}
