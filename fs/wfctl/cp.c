/* SPDX-License-Identifier: MIT */
/* wfctl cp: within a checkpoint, or from others into one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/copy.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/keys.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/session.h"
#include "fs/wfctl/target.h"

/* "FILE:KEY" at the first colon whose left side is a file or directory. path: for free(). NULL: there is none. */
static const char *split(const char *word, char **ret_path)
{
	struct stat st;
	for (const char *colon = strchr(word, ':'); colon; colon = strchr(colon + 1, ':')) {
		char *path = strndup(word, (size_t)(colon - word));
		if (path && *path && stat(path, &st) == 0 &&
		    (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode))) {
			*ret_path = path;
			return colon + 1;
		}
		free(path);
	}
	return NULL;
}

struct sources {
	struct wfctl_keys keys;
	struct wfctl_store **store; /* of each key */
};

/* The mapping's entries, where a key is the root or ends in "/." as for cp -a. */
static int expand_source(struct wfctl_store *s, const char *text, struct wfctl_keys *keys)
{
	size_t len = strlen(text);
	bool entries =
		len == 0 || !strcmp(text, ".") || !strcmp(text, "/") || (len > 1 && !strcmp(text + len - 2, "/."));
	if (!entries)
		return wfctl_keys_expand(s, (char *const *)&text, 1, keys);
	char *pattern = len > 1 && text[len - 1] == '.' ? strndup(text, len - 2) : strdup("");
	char *all = pattern ? wfctl_key_join(pattern, "*") : NULL;
	int found = all ? wfctl_keys_find(s, all, keys) : -ENOMEM;
	free(pattern);
	free(all);
	return found < 0 ? wfctl_store_fail(s, text, found, NULL) : WFCTL_OK;
}

static int add_sources(struct sources *all, struct wfctl_store *s, const char *text)
{
	size_t before = all->keys.count;
	int r = expand_source(s, text, &all->keys);
	struct wfctl_store **more = r == WFCTL_OK ? reallocarray(all->store, all->keys.count + 1, sizeof *more) : NULL;
	if (r == WFCTL_OK && !more)
		return wfctl_store_fail(s, text, -ENOMEM, NULL);
	if (!more)
		return r;
	all->store = more;
	for (size_t i = before; i < all->keys.count; i++)
		all->store[i] = s;
	return WFCTL_OK;
}

/* One store of the sources at a time: ties hold among what comes from it. */
static int copy_all(const struct wfctl_call *call, const struct sources *all, struct wfctl_store *to,
		    const char *target_text)
{
	struct wfctl_target target;
	int r = wfctl_target_find(to, target_text, all->keys.count, wfctl_given(call, "no-target-directory"), &target);
	if (r != WFCTL_OK)
		return r;
	struct wfctl_copying c = {.to = to, .keep = wfctl_given(call, "no-clobber")};
	for (size_t i = 0; r == WFCTL_OK && i < all->keys.count; i++) {
		if (all->store[i] != c.from) {
			wfctl_copying_end(&c);
			c = (struct wfctl_copying){.from = all->store[i], .to = to, .keep = c.keep};
		}
		char *path = wfctl_target_for(&target, all->keys.key[i]);
		r = path ? wfctl_copy(&c, all->keys.key[i], path) : WFCTL_FAILED;
		free(path);
	}
	wfctl_copying_end(&c);
	wfctl_target_free(&target);
	return r;
}

/* cp FILE:KEY... FILE:KEY */
static int find_split(const struct wfctl_call *call, struct sources *all, struct wfctl_store **ret_to,
		      const char **ret_target)
{
	int r = WFCTL_OK;
	for (int i = call->count - 1; r == WFCTL_OK && i >= 0;
	     i--) { /* what is edited is opened first, for it may be a source, too */
		bool last = i == call->count - 1;
		int at = last ? i : call->count - 2 - i;
		char *path = NULL;
		const char *key = split(call->arguments[at], &path);
		struct wfctl_store *s = !key   ? NULL
					: last ? wfctl_session_edit(call->session, path)
					       : wfctl_session_read(call->session, path);
		if (!key)
			r = wfctl_fail(NULL, "%s: no file and key with a colon between them", call->arguments[at]);
		else if (!s)
			r = WFCTL_FAILED;
		else if (last) {
			*ret_to = s;
			*ret_target = key;
		} else {
			r = add_sources(all, s, key);
		}
		free(path);
	}
	return r;
}

int wfctl_cp(const struct wfctl_call *call)
{
	const char *from = wfctl_given(call, "from"), *to = wfctl_given(call, "to"), *target = NULL;
	struct sources all = {0};
	struct wfctl_store *edited = NULL;
	struct stat st;
	int r = WFCTL_OK;
	bool plain = from || to || stat(call->arguments[0], &st) == 0;
	if (!plain) {
		r = find_split(call, &all, &edited, &target);
	} else {
		int first = from || to ? 0 : 1;
		const char *here = first ? call->arguments[0] : to ? to : from;
		if (call->count - first < 2)
			return WFCTL_USAGE;
		target = call->arguments[call->count - 1];
		edited = wfctl_session_edit(call->session, here);
		struct wfctl_store *s = edited && from ? wfctl_session_read(call->session, from) : edited;
		r = s ? WFCTL_OK : WFCTL_FAILED;
		for (int i = first; r == WFCTL_OK && i < call->count - 1; i++)
			r = add_sources(&all, s, call->arguments[i]);
	}
	if (r == WFCTL_OK)
		r = copy_all(call, &all, edited, target);
	wfctl_keys_free(&all.keys);
	free(all.store);
	return r;
}
