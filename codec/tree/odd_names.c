/* SPDX-License-Identifier: MIT */
/* The name of an entry: the plain one of its key, or the odd one that the directory keeps for it, in the order of the keys' refs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/tree/inner.h"
#include "codec/value/names.h"

static uint32_t odd_slot(const struct wf_dir *d, wf_ref key)
{
	return wf_first_not(i, d->odd_count, d->odd[i].key < key);
}

uint32_t wf_tree_odd_name(const struct wf_dir *d, wf_ref key)
{
	uint32_t at = odd_slot(d, key);
	return at < d->odd_count && d->odd[at].key == key ? d->odd[at].how : 0;
}

int wf_tree_set_odd_name(struct wf_dir *d, wf_ref key, uint32_t how)
{
	uint32_t at = odd_slot(d, key);
	if (at < d->odd_count && d->odd[at].key == key) {
		d->odd[at].how = how;
		return 0;
	}
	struct wf_odd_name *all = reallocarray(d->odd, d->odd_count + 1, sizeof *all);
	if (!all)
		return -ENOMEM;
	d->odd = all;
	memmove(&all[at + 1], &all[at], (d->odd_count - at) * sizeof *all);
	all[at] = (struct wf_odd_name){key, how};
	d->odd_count++;
	return 0;
}

void wf_tree_forget_odd_name(struct wf_dir *d, wf_ref key)
{
	if (wf_tree_odd_name(d, key))
		d->odd[odd_slot(d, key)].how = 0;
}

size_t wf_tree_name_as(const struct wf_tree *t, wf_ref key, uint32_t how, char *buf)
{
	size_t len = wf_name_from_key(t->graph, key, how == WF_NAME_ESCAPED, buf);
	return how > WF_NAME_ESCAPED ? wf_name_number(buf, len, how) : len;
}

bool wf_tree_name(const struct wf_tree *t, const struct wf_dir *d, uint32_t position, char *buf)
{
	if (position >= d->count || d->entries[position].ino == WF_NO_INO)
		return false;
	wf_ref key = d->entries[position].key;
	if (d->kind == WF_DIR_SEQUENCE)
		snprintf(buf, WF_NAME_MAX + 1, "%u", position);
	else
		wf_tree_name_as(t, key, d->odd_count ? wf_tree_odd_name(d, key) : 0, buf);
	return true;
}
