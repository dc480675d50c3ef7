/* SPDX-License-Identifier: MIT */
/* Frees a store, reads a whole text through it, and prints why one of its calls failed. */
#include "fs/wfctl/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/fail.h"

void wfctl_store_free(struct wfctl_store *s)
{
	if (!s)
		return;
	s->calls->free(s);
	free(s->path);
	free(s);
}

int wfctl_store_get(struct wfctl_store *s, const char *path, const char *name, struct wf_buffer *ret)
{
	return strcmp(name, "user.torch.key") ? s->calls->get(s, path, name, ret) : s->calls->key(s, path, ret);
}

/* The words of the tools for what strerror says in the words of system calls. */
static const char *words_for(int code)
{
	return code == -ENOENT      ? "there is no such key"
	       : code == -EEXIST    ? "there is such a key already"
	       : code == -ENOTDIR   ? "not a mapping"
	       : code == -EISDIR    ? "a mapping"
	       : code == -ENOTEMPTY ? "a mapping that is not empty"
				    : strerror(-code);
}

int wfctl_store_fail(const struct wfctl_store *s, const char *key, int code, const char *what)
{
	bool known = s->reason[0] && s->reason_code == code;
	const char *why = known ? s->reason : words_for(code);
	return wfctl_fail(s->path, "%s%s%s%s%s", key ? key : "", key ? ": " : "", what ? what : "", what ? ": " : "",
			  why);
}
