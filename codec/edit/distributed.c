/* SPDX-License-Identifier: MIT */
/* What a distributed checkpoint cannot say of names. Each tensor and value is an entry, and the way to it is texts (and positions in lists):
 * whoever reads it makes mappings of texts, but that a mapping called "state" whose keys are all digits has numbers for keys, as those of
 * optimizers do. So a name tells its key there, and what would read as something else is refused when it is asked for.
 * What is one value, and all that stands in it, is pickled, and holds any key. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/directory/dcp_entries.h"
#include "codec/edit/inner.h"
#include "codec/value/names.h"

bool wf_edit_names_entries(const struct wf_checkpoint *ck, wf_ino dir)
{
	if (wf_container_kind_of(ck->container) != WF_CONTAINER_DCP || wf_edit_is_scratch(ck, dir))
		return false;
	for (;;) {
		const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
		if (!d || wf_dcp_is_value(ck->container, d->object) ||
		    (wf_dcp_mapping(ck->graph, d->object) == WF_NIL && !wf_is(ck->graph, d->object, WF_LIST)))
			return false;
		wf_ino parent = wf_tree_node(ck->tree, dir)->parent;
		if (parent == dir)
			return true;
		dir = parent;
	}
}

static bool is_called_state(struct wf_checkpoint *ck, wf_ino dir)
{
	struct wf_place p;
	return wf_edit_place_of(ck, dir, &p) == 0 && wf_dcp_has_numbers(ck->graph, wf_edit_entry(ck, &p)->key);
}

/* Of a mapping all keys are of one kind: WF_NIL for none. */
static wf_ref first_key(const struct wf_dir *d)
{
	for (uint32_t i = 0; i < d->count; i++)
		if (d->entries[i].ino != WF_NO_INO)
			return d->entries[i].key;
	return WF_NIL;
}

int wf_edit_check_entry_key(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref *key)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	if (ck->edits->replaying || d->kind != WF_DIR_MAPPING || !wf_edit_names_entries(ck, dir))
		return 0;
	wf_ref first = first_key(d);
	bool numbers = wf_is(ck->graph, first, WF_INT),
	     state = (numbers || first == WF_NIL) && is_called_state(ck, dir);
	if (state && wf_dcp_is_number(name, strlen(name))) {
		*key = wf_int(ck->graph, strtoll(name, NULL, 10));
		return *key == WF_NIL ? -ENOMEM : 0;
	}
	if (numbers && state) /* others with numbers are lists that are being copied */
		return wf_refuse(
			ck, -EPERM,
			"%s: the keys beside it are numbers, and a distributed checkpoint has no texts beside those",
			name);
	return wf_is(ck->graph, *key, WF_STR) ? 0 : wf_key_from_name(ck->graph, name, false, key);
}

bool wf_edit_takes_key(struct wf_checkpoint *ck, const struct wf_place *p, wf_ref key)
{
	const struct wf_file *f = wf_edit_known(ck, p->dir);
	int64_t number;
	return !wf_edit_names_entries(ck, p->dir) || (f && f->is_new && wf_is(ck->graph, key, WF_INT) &&
						      wf_int_value(ck->graph, key, &number) && number == p->position);
}

/* Whether the keys of a mapping would read as they are under that key of its own. */
int wf_edit_check_moved_mapping(struct wf_checkpoint *ck, wf_ino ino, wf_ino to, wf_ref own_key)
{
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
	if (!d || ck->edits->replaying || !wf_edit_names_entries(ck, to) || d->kind != WF_DIR_MAPPING ||
	    wf_dcp_mapping(ck->graph, d->object) == WF_NIL || wf_dcp_is_value(ck->container, d->object))
		return 0;
	const char *why = wf_dcp_refuses_keys(ck->graph, d->container, own_key);
	return why ? wf_refuse(ck, -EPERM, "%s", why) : 0;
}
