/* SPDX-License-Identifier: MIT */
/* Finds the place that the last argument of mv, cp and ln names. */
#include "fs/wfctl/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"

int wfctl_target_find(struct wfctl_store *s, const char *text, size_t sources, bool plain, struct wfctl_target *ret)
{
	struct wfctl_entry e;
	struct wfctl_keys found = {0};
	size_t len = strlen(text);
	bool slash = len > 0 && text[len - 1] == '/';
	*ret = (struct wfctl_target){.store = s};
	int r = wfctl_keys_find(s, text, &found);
	if (r == -EINVAL)
		return WFCTL_FAILED;
	if (r > 1) {
		wfctl_keys_free(&found);
		return wfctl_fail(s->path, "%s: the target is several keys", text);
	}
	ret->path = r == 1 ? strdup(found.key[0]) : wfctl_key_new(s, text);
	wfctl_keys_free(&found);
	if (!ret->path)
		return WFCTL_FAILED;
	bool directory = r == 1 && s->calls->stat(s, ret->path, true, &e) == 0 && e.type == WF_DIRECTORY;
	ret->into = directory && (!plain || !*ret->path);
	if (!directory && (sources > 1 || slash)) {
		wfctl_fail(s->path, "%s: %s", text, r == 1 ? "not a mapping" : "there is no such mapping");
		wfctl_target_free(ret);
		return WFCTL_FAILED;
	}
	return WFCTL_OK;
}

void wfctl_target_free(struct wfctl_target *t)
{
	free(t->path);
	t->path = NULL;
	wfctl_keys_free(&t->made);
}

char *wfctl_target_for(struct wfctl_target *t, const char *source)
{
	if (!t->into)
		return strdup(t->path);
	char *path = wfctl_key_join(t->path, wfctl_key_name(source));
	for (size_t i = 0; path && i < t->made.count; i++)
		if (!strcmp(t->made.key[i], path)) {
			wfctl_fail(t->store->path, "%s: two of what is given have this name", path);
			free(path);
			return NULL;
		}
	if (path && wfctl_keys_add(&t->made, path) < 0) {
		free(path);
		path = NULL;
	}
	return path;
}
