/* SPDX-License-Identifier: MIT */
/* Decides what a path leads to: the one place that knows all kinds of directories. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/util.h"
#include "codec/container/lookalike.h"
#include "codec/directory/directory.h"

#define MAX_ENTRIES 10000u

static const struct wf_directory_reader *const readers[] = {
	&wf_huggingface_reader,
	&wf_zero_reader,
	&wf_dcp_reader,
	&wf_dcp_parts_reader,
};

/* ---- a directory with one file ---- */

/* Names that the libraries give a checkpoint that is in one file, first the one that they would take. */
static const char *const usual[] = {
	"model.safetensors",           "pytorch_model.bin",         "diffusion_pytorch_model.safetensors",
	"diffusion_pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin",
};

static bool is_checkpoint_name(const char *name)
{
	static const char *const ends[] = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pt2", ".safetensors", ".tar"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(ends); i++)
		if (wf_before_end(name, ends[i]) > 0)
			return true;
	return false;
}

/* model-00002-of-00004.safetensors: without the others, and the index that names them, it is a part of something. */
static bool is_part_name(const char *name)
{
	const char *of = strstr(name, "-of-");
	size_t digits = of ? strspn(of + 4, "0123456789") : 0;
	return digits > 0 && of > name && of[-1] >= '0' && of[-1] <= '9' && strtoul(of + 4, NULL, 10) > 1;
}

static char *join(const char *directory, const char *name)
{
	char *path;
	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

static bool is_file(const char *directory, const char *name)
{
	struct stat st;
	cleanup_free char *path = join(directory, name);
	return path && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* The one file that a directory is about: one of the usual names, else the only one that is called as checkpoints are, and no part. A directory with
 * another directory of its own kind of content in it is left to who knows it. *ret: for free(), NULL there is none. */
static int find_single(const char *path, char **ret)
{
	char only[NAME_MAX + 1] = "";
	unsigned int files = 0, parts = 0, entries = 0;
	*ret = NULL;
	for (size_t i = 0; i < WF_ARRAY_SIZE(usual); i++)
		if (is_file(path, usual[i]))
			return (*ret = join(path, usual[i])) ? 0 : -ENOMEM;
	DIR *d = opendir(path);
	for (const struct dirent *e = d ? readdir(d) : NULL; e && entries++ < MAX_ENTRIES; e = readdir(d))
		if (is_checkpoint_name(e->d_name) && is_file(path, e->d_name)) {
			parts += is_part_name(e->d_name);
			if (files++ == 0)
				snprintf(only, sizeof only, "%s", e->d_name);
		}
	if (d)
		closedir(d);
	if (files != 1 || parts > 0)
		return 0;
	return (*ret = join(path, only)) ? 0 : -ENOMEM;
}

/* ---- what a path leads to ---- */

static int no_memory(struct wf_error *err)
{
	return wf_fail(err, -ENOMEM, "out of memory");
}

static int one_file(const char *path, struct wf_directory *ret, struct wf_error *err)
{
	ret->path = realpath(path, NULL);
	if (!ret->path)
		return wf_fail(err, -errno, "%s", strerror(errno));
	ret->main = strdup(ret->path);
	return ret->main ? 0 : no_memory(err);
}

static int find(const char *path, struct wf_directory *ret, struct wf_error *err)
{
	struct stat st;
	bool directory = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	cleanup_free char *single = NULL;
	for (size_t i = 0; i < WF_ARRAY_SIZE(readers); i++) {
		int r = readers[i]->find(path, directory, &ret->main, &ret->path, err);
		if (r < 0)
			return r;
		if (r > 0)
			continue;
		ret->reader = readers[i];
		if (!ret->path)
			ret->path = strdup(path);
		return ret->path ? 0 : no_memory(err);
	}
	if (!directory)
		return one_file(path, ret, err);
	if (find_single(path, &single) < 0)
		return no_memory(err);
	return single ? one_file(single, ret, err) : wf_lookalike_directory(path, err);
}

/* Absolute, without links but for the last part. */
static int absolute(const char *path, char **ret, struct wf_error *err)
{
	struct stat st;
	const char *slash = strrchr(path, '/');
	bool whole = stat(path, &st) < 0 || !S_ISREG(st.st_mode);
	cleanup_free char *start = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	cleanup_free char *parent = start ? realpath(whole ? path : start, NULL) : NULL;
	if (!parent)
		return wf_fail(err, -errno, "%s", strerror(errno));
	*ret = whole ? steal_pointer(&parent) : join(strcmp(parent, "/") ? parent : "", slash ? slash + 1 : path);
	return *ret ? 0 : no_memory(err);
}

int wf_directory_find(const char *path, struct wf_directory *ret, struct wf_error *err)
{
	cleanup_free char *full = NULL;
	*ret = (struct wf_directory){0};
	int r = absolute(path, &full, err);
	if (r == 0)
		r = find(full, ret, err);
	if (r < 0)
		wf_directory_free(ret);
	return r;
}

const char *wf_directory_read_only(const struct wf_directory *d)
{
	const struct wf_directory_reader *reader = d->reader;
	return !reader ? NULL : reader->find_read_only ? reader->find_read_only(d) : reader->read_only;
}

void wf_directory_free(struct wf_directory *d)
{
	free(d->path);
	free(d->main);
	*d = (struct wf_directory){0};
}

int wf_directory_open(const struct wf_directory *d, struct wf_source *main, struct wf_container **ret,
		      struct wf_error *err)
{
	return d->reader ? d->reader->open(d, main, ret, err) : wf_container_open(main, ret, err);
}
