/* SPDX-License-Identifier: MIT */
/* New files of other formats. */
#include "codec/compose/target.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

static int step_into(struct wf_checkpoint *ck, wf_ino *dir, const char *name)
{
	uint32_t position;
	int r = wf_tree_lookup(ck->tree, *dir, name, &position);
	if (r < 0)
		return r;
	wf_ino ino = wf_tree_dir(ck->tree, *dir)->entries[position].ino;
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (n && n->type == WF_NODE_LINK && n->object != WF_NIL)
		ino = wf_tree_ino_of(ck->tree, n->object);
	*dir = ino;
	return wf_tree_dir(ck->tree, ino) ? 0 : -ENOTDIR;
}

static int find_prefix(struct wf_checkpoint *ck, const char *prefix, wf_ino *ret, struct wf_error *err)
{
	cleanup_free char *path = strdup(prefix ? prefix : "");
	char *rest = path, *name;
	*ret = prefix ? WF_INO_ROOT : wf_whole_start(ck);
	if (!path)
		return wf_fail(err, -ENOMEM, "out of memory");
	while ((name = strsep(&rest, "/"))) {
		int r = *name ? step_into(ck, ret, name) : 0;
		if (r < 0)
			return wf_fail(err, r,
				       r == -ENOTDIR ? "%s is a tensor or a value: --prefix names what holds tensors"
						     : "%s is not there",
				       prefix);
	}
	return 0;
}

static int refuse_own(const struct wf_checkpoint *ck, const char *out, struct wf_error *err)
{
	struct wf_own_files own;
	int r = wf_own_files_read(ck, &own, err);
	if (r == 0)
		r = wf_own_files_refuse(&own, out, err);
	wf_own_files_free(&own);
	return r;
}

/* The name that the file takes: absolute, links followed, but for one to what is named by its digest: that link is replaced. */
static int resolve(const char *out, char **ret, struct wf_error *err)
{
	char cwd[PATH_MAX];
	if (access(out, F_OK) == 0) {
		*ret = realpath(out, NULL);
		if (!*ret || !wf_is_named_by_digest(*ret) || wf_is_named_by_digest(out))
			return *ret ? 0 : wf_fail(err, -ENOMEM, "out of memory");
		free(*ret);
	}
	if (out[0] == '/') {
		*ret = strdup(out);
	} else if (!getcwd(cwd, sizeof cwd) || asprintf(ret, "%s/%s", cwd, out) < 0) {
		*ret = NULL;
	}
	return *ret ? 0 : wf_fail(err, -ENOMEM, "out of memory");
}

static int refuse(const struct wf_skipped *skipped, const char *format, struct wf_error *err)
{
	const char *first = skipped->text.data + skipped->first_tensor, *tab = strchr(first, '\t');
	int name = (int)(tab - first), reason = (int)strcspn(tab + 1, "\n");
	if (skipped->tensors == 1)
		return wf_fail(err, -EOPNOTSUPP, "%.*s has no place in %s (%.*s); --skip leaves it out", name, first,
			       format, reason, tab + 1);
	return wf_fail(err, -EOPNOTSUPP, "%u tensors have no place in %s, as %.*s (%.*s); --skip leaves them out",
		       skipped->tensors, format, name, first, reason, tab + 1);
}

/* The list of tensors is all that is needed for the rest, and where they are. What the list itself does not need goes before it is made. */
static int read_flat(struct wf_checkpoint *ck, wf_ino dir, bool last, const char *(*refuses)(const struct wf_named *n),
		     const char *taken, struct wf_flat *ret, struct wf_skipped *skipped)
{
	if (last)
		wf_container_forget_names(ck->container);
	if (last && !wf_tree_has_links(ck->tree))
		wf_tree_forget_objects(ck->tree);
	int r = wf_flat_read(ck, dir, refuses, taken, ret, skipped);
	if (last)
		wf_tree_forget_entries(ck->tree);
	return r;
}

int wf_export(struct wf_checkpoint *ck, const struct wf_export *x, const char *out, struct wf_buffer *ret_skipped,
	      struct wf_error *err)
{
	static const struct {
		const char *name;
		const char *(*refuses)(const struct wf_named *n);
		int (*write)(struct wf_checkpoint *, const struct wf_flat *, const struct wf_export *, const char *,
			     struct wf_error *);
	} formats[] = {
		[WF_EXPORT_SAFETENSORS] = {"a safetensors file", wf_safetensors_refuses_tensor, wf_export_safetensors},
		[WF_EXPORT_PT] = {"a file for weights_only", wf_pt_refuses, wf_export_pt},
		[WF_EXPORT_NPZ] = {"an .npz", wf_npz_refuses, wf_export_npz},
	};
	const char *taken = x->format == WF_EXPORT_SAFETENSORS ? WF_SAFETENSORS_TAKEN : NULL;
	struct wf_flat flat = {0};
	struct wf_skipped skipped = {0};
	wf_ino dir;
	cleanup_free char *path = NULL;
	int r = refuse_own(ck, out, err);
	if (r < 0 || (r = resolve(out, &path, err)) < 0)
		return r;
	if (x->last)
		pthread_rwlock_wrlock(&ck->lock);
	else
		pthread_rwlock_rdlock(&ck->lock);
	r = find_prefix(ck, x->prefix, &dir, err);
	if (r == 0 && (r = read_flat(ck, dir, x->last, formats[x->format].refuses, taken, &flat, &skipped)) < 0)
		wf_fail(err, r, "%s",
			r == -EFBIG ? "there are more bytes of names than such a file holds" : strerror(-r));
	if (r == 0 && skipped.tensors > 0 && !x->skip)
		r = refuse(&skipped, formats[x->format].name, err);
	for (uint32_t i = 0; r == 0 && x->total_bytes && i < flat.count; i++)
		if (flat.tensors[i].tie == i && !flat.tensors[i].is_double)
			atomic_fetch_add(x->total_bytes, wf_flat_bytes(&flat, &flat.tensors[i]));
	if (x->format != WF_EXPORT_SAFETENSORS) /* the others have the order of the dictionary */
		free(steal_pointer(&flat.by_name));
	if (r == 0)
		r = formats[x->format].write(ck, &flat, x, path, err);
	pthread_rwlock_unlock(&ck->lock);
	wf_flat_free(&flat);
	wf_buffer_append(ret_skipped, skipped.text.data ? skipped.text.data : "", skipped.text.len);
	wf_buffer_free(&skipped.text);
	return r;
}
