/* SPDX-License-Identifier: MIT */
/* Removes a mapping and all that is in it, from the leaves on. */
#include "fs/wfctl/remove.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/keys.h"

#define DEPTH_MAX 1000 /* a mount has no longer paths */

static int remember(void *ctx, const char *name, const struct wfctl_entry *e)
{
	char text[2] = {e->type == WF_DIRECTORY ? 'd' : 'f', 0};
	int r = wfctl_keys_add(ctx, text);
	return r < 0 ? r : wfctl_keys_add(ctx, name);
}

static int remove_entries(struct wfctl_store *s, const char *path, int depth)
{
	struct wfctl_keys names = {0}; /* what it is and its name, in turn */
	int r = depth > DEPTH_MAX ? -ENAMETOOLONG : s->calls->list(s, path, remember, &names);
	for (size_t i = 0; r == 0 && i + 1 < names.count; i += 2) {
		char *entry = wfctl_key_join(path, names.key[i + 1]);
		bool directory = names.key[i][0] == 'd';
		r = entry ? 0 : -ENOMEM;
		if (r == 0 && directory)
			r = remove_entries(s, entry, depth + 1);
		if (r == 0)
			r = directory ? s->calls->rmdir(s, entry) : s->calls->unlink(s, entry);
		free(entry);
	}
	wfctl_keys_free(&names);
	return r;
}

int wfctl_remove_all(struct wfctl_store *s, const char *path)
{
	if (s->calls->remove)
		return s->calls->remove(s, path);
	int r = remove_entries(s, path, 0);
	return r < 0 ? r : s->calls->rmdir(s, path);
}
