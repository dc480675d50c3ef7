/* SPDX-License-Identifier: MIT */
/* Which directories are of torch.distributed.checkpoint, and which of them a commit can write. */
#include <errno.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_find.h"
#include "codec/directory/dcp_inner.h"
#include "codec/directory/directory.h"

/* What a commit can do for a directory. */
enum kind {
	KIND_ONE, /* metadata in one file, and nothing beside: it is written anew */
	KIND_PARTS,
};

static enum kind kind_of(const struct dcp_files *f)
{
	bool one = f->count == 1 && !f->parts[0].folder[0] && strcmp(f->parts[0].file, ".metadata") == 0 && !f->beside;
	return one ? KIND_ONE : KIND_PARTS;
}

static int find_in(const char *path, enum kind kind, char **ret_main, struct wf_error *err)
{
	struct dcp_files files;
	int r = dcp_files_find(path, &files, err);
	if (r != 0)
		return r;
	const char *first = files.raw ? files.first : files.parts[0].file;
	r = kind_of(&files) != kind;
	if (r == 0 && asprintf(ret_main, "%s/%s", files.directory, first) < 0) {
		*ret_main = NULL;
		r = -ENOMEM;
	}
	dcp_files_free(&files);
	return r < 0 ? wf_fail(err, r, "out of memory") : r;
}

/* A file of metadata that is named means the directory that it stands in. */
static int find(const char *path, bool is_directory, enum kind kind, char **ret_main, char **ret_name,
		struct wf_error *err)
{
	if (is_directory)
		return find_in(path, kind, ret_main, err);
	const char *slash = strrchr(path, '/');
	if (!slash || !dcp_is_metadata_name(slash + 1))
		return 1;
	cleanup_free char *directory = strndup(path, WF_MAX((size_t)(slash - path), (size_t)1));
	if (!directory)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = find_in(directory, kind, ret_main, err);
	if (r == 0)
		*ret_name = steal_pointer(&directory);
	return r;
}

static int find_one(const char *path, bool is_directory, char **ret_main, char **ret_name, struct wf_error *err)
{
	return find(path, is_directory, KIND_ONE, ret_main, ret_name, err);
}

static int find_parts(const char *path, bool is_directory, char **ret_main, char **ret_name, struct wf_error *err)
{
	return find(path, is_directory, KIND_PARTS, ret_main, ret_name, err);
}

static int open_directory(const struct wf_directory *d, struct wf_source *main_file, struct wf_container **ret,
			  struct wf_error *err)
{
	struct dcp_files files;
	int r = dcp_files_find(d->path, &files, err);
	if (r != 0)
		return r < 0 ? r : wf_fail(err, -ESTALE, "its files went away while it was opened");
	/* of a commit it is the file that is going to have the name */
	files.main = files.raw ? NULL : main_file;
	r = dcp_open_files(&files, ret, err);
	dcp_files_free(&files);
	return r;
}

const struct wf_directory_reader wf_dcp_reader = {.find = find_one, .open = open_directory};

#define NOT_CHANGED "this distributed checkpoint is not changed where it stands, for "
#define INSTEAD "output=FILE and wfctl export write one file"

/* Of those that are no one .metadata, in which of them a rename would be the commit. */
static const char *find_read_only(const struct wf_directory *d)
{
	struct dcp_files f;
	const char *why = NOT_CHANGED "its files went away: " INSTEAD;
	if (dcp_files_find(d->path, &f, NULL) != 0)
		return why;
	if (f.raw)
		why = NOT_CHANGED
			"its tensors are parts in ranks' safetensors files, which nothing names together: " INSTEAD;
	else if (f.parts[0].folder[0])
		why = NOT_CHANGED
			"its model and its optimizer are checkpoints by themselves: name one of its folders to change "
			"that, or " INSTEAD;
	else if (f.beside && !strcmp(f.beside, "meta.pt"))
		why = NOT_CHANGED
			"a part of it stands in Lightning's meta.pt, which would have to change with .metadata: " INSTEAD;
	else if (f.beside)
		why = NOT_CHANGED
			"a part of it stands in Megatron's common.pt, which would have to change with .metadata: " INSTEAD;
	else
		why = NOT_CHANGED "each rank has metadata of its own, which would have to change together: " INSTEAD;
	dcp_files_free(&f);
	return why;
}

const struct wf_directory_reader wf_dcp_parts_reader = {
	.find = find_parts, .open = open_directory, .find_read_only = find_read_only};
