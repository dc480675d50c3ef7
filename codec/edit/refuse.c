/* SPDX-License-Identifier: MIT */
/* Why names of a directory cannot change, and what to do instead: for each kind of object. */
#include <errno.h>

#include "codec/edit/inner.h"
#include "codec/tree/module.h"
#include "codec/value/text.h"

static const char *why(const struct wf_checkpoint *ck, const struct wf_dir *d, const char **ret_instead)
{
	*ret_instead = "";
	if (d->object == WF_NIL)
		return "the checkpoint is one value, which has no key";
	if (d->companion)
		return "the code of a TorchScript archive names its constants by their places";
	if (wf_is_module(ck->graph, ck->container, d->object)) {
		*ret_instead = ", or save its state_dict(), whose keys can be renamed";
		return "the class of a whole module decides about its names";
	}
	*ret_instead = ", or save a list in its place";
	switch (wf_kind_of(ck->graph, d->container)) {
	case WF_TUPLE:
		return "a tuple cannot change";
	case WF_SET:
	case WF_FROZENSET:
		return "the elements of a set have no names of their own";
	default:
		*ret_instead = "";
		return "these are the parts of one object";
	}
}

void wf_edit_explain(const struct wf_checkpoint *ck, int r, wf_ino dir, wf_ino new_dir)
{
	const wf_ino dirs[] = {dir, new_dir};
	char class[256];
	const char *instead;
	for (int i = 0; r == -EPERM && i < 2; i++) {
		const struct wf_dir *d = wf_tree_dir(ck->tree, dirs[i]);
		if (!d || wf_edits_one_by_one(ck, dirs[i]))
			continue;
		const char *text = why(ck, d, &instead);
		class[0] = '\0';
		if (d->object != WF_NIL)
			wf_class_name(ck->graph, d->object, class, sizeof class);
		wf_refuse(ck, r, "%s%s%s%s: write into its files%s%s", text, class[0] ? " (" : "", class,
			  class[0] ? ")" : "", wf_edit_can_go(ck, dirs[i]) ? ", remove it whole with rm -r" : "",
			  instead);
		return;
	}
}
