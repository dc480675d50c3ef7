/* SPDX-License-Identifier: MIT */
/* What a directory is that was given as a checkpoint: the folder of an unpacked one, or of one in several files. */
#include "codec/container/lookalike.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/util.h"

#define MAX_ENTRIES 10000u
#define MAX_FOLDERS 1000u
#define MAX_INSIDE 100u /* of one of them */

struct folder {
	const char *path;
	bool distcp, data_pkl, constants_pkl, version, index, saved_model, deepspeed, latest;
	char inner[256]; /* the one folder in it */
	unsigned int entries, folders;
	char file[256]; /* the one checkpoint by its name */
	unsigned int files;
	char latest_inside[256]; /* of the folders that are checkpoints, by the numbers in their names */
	unsigned int inside;
};

static bool is_checkpoint_name(const char *name)
{
	static const char *const ends[] = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pt2", ".safetensors", ".tar"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(ends); i++)
		if (wf_before_end(name, ends[i]) >= 0)
			return true;
	return false;
}

/* Files whose names are numbered: those of ranks of torch.distributed.checkpoint, the index of a variant. */
static bool has_numbered(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool has = false;
	unsigned int entries = 0;
	if (!d && fd >= 0)
		close(fd);
	for (const struct dirent *e; d && !has && entries++ < MAX_INSIDE && (e = readdir(d));)
		has = (!strncmp(e->d_name, "shard-", 6) && wf_before_end(e->d_name, ".safetensors") > 0) ||
		      (!strncmp(e->d_name, "__", 2) && wf_before_end(e->d_name, ".metadata") > 2) ||
		      (strstr(e->d_name + 1, ".index.") && wf_before_end(e->d_name, ".json") > 0);
	if (d)
		closedir(d);
	return has;
}

/* A run leaves a folder a step: step-100, checkpoint-500, epoch_3. */
static bool is_checkpoint_folder(int dir, const char *name)
{
	static const char *const marks[] = {".metadata",
					    "latest",
					    "mp_rank_00_model_states.pt",
					    "zero_pp_rank_0_mp_rank_00_model_states.pt",
					    "pytorch_model_fsdp_0",
					    "model.safetensors",
					    "model.safetensors.index.json",
					    "pytorch_model.bin",
					    "pytorch_model.bin.index.json",
					    "diffusion_pytorch_model.safetensors",
					    "diffusion_pytorch_model.safetensors.index.json",
					    "adapter_model.safetensors"};
	char path[300];
	for (size_t i = 0; i < WF_ARRAY_SIZE(marks); i++) {
		snprintf(path, sizeof path, "%s/%s", name, marks[i]);
		if (faccessat(dir, path, F_OK, 0) == 0)
			return true;
	}
	return has_numbered(dir, name);
}

static void look_inside(struct folder *f, int dir, const char *name)
{
	if (f->folders > MAX_FOLDERS || !is_checkpoint_folder(dir, name))
		return;
	if (f->inside++ == 0 || strverscmp(name, f->latest_inside) > 0)
		snprintf(f->latest_inside, sizeof f->latest_inside, "%s", name);
}

static void look_at(struct folder *f, int dir, const struct dirent *e)
{
	f->entries++;
	f->distcp |= wf_before_end(e->d_name, ".distcp") >= 0;
	f->data_pkl |= strcmp(e->d_name, "data.pkl") == 0;
	f->constants_pkl |= strcmp(e->d_name, "constants.pkl") == 0;
	f->version |= strcmp(e->d_name, "version") == 0;
	f->index |= wf_before_end(e->d_name, ".index.json") >= 0;
	f->saved_model |= strcmp(e->d_name, "saved_model.pb") == 0;
	f->latest |= strcmp(e->d_name, "latest") == 0;
	f->deepspeed |=
		wf_before_end(e->d_name, "_model_states.pt") >= 0 || wf_before_end(e->d_name, "_optim_states.pt") >= 0;
	if (e->d_type == DT_DIR && f->folders++ == 0)
		snprintf(f->inner, sizeof f->inner, "%s", e->d_name);
	if (e->d_type == DT_DIR)
		look_inside(f, dir, e->d_name);
	if (e->d_type != DT_DIR && is_checkpoint_name(e->d_name) && f->files++ == 0)
		snprintf(f->file, sizeof f->file, "%s", e->d_name);
}

static int look(struct folder *f, struct wf_error *err)
{
	DIR *d = opendir(f->path);
	if (!d)
		return wf_fail(err, -errno, "this is a directory, and cannot be read: %s", strerror(errno));
	for (const struct dirent *e = readdir(d); e && f->entries < MAX_ENTRIES; e = readdir(d))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			look_at(f, dirfd(d), e);
	closedir(d);
	return 0;
}

static int unpacked(const char *path, struct wf_error *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	return wf_fail(
		err, -EMEDIUMTYPE,
		"this is the folder of an unpacked checkpoint: `cd %.*s && zip -0 -r model.pt %s` makes one file of it "
		"again",
		slash && slash > path ? (int)(slash - path) : 1,
		slash && slash > path ? path
		: slash               ? "/"
				      : ".",
		name);
}

int wf_lookalike_directory(const char *path, struct wf_error *err)
{
	struct folder f = {.path = path};
	int r = look(&f, err);
	if (r < 0)
		return r;
	if (f.data_pkl)
		return unpacked(path, err);
	if (f.distcp)
		return wf_fail(
			err, -EUCLEAN,
			"this is a folder of torch.distributed.checkpoint without its .metadata, which the save writes last: "
			"it did not finish, or the file was not copied along");
	if (f.deepspeed || (f.latest && f.folders > 0))
		return wf_fail(
			err, -EOPNOTSUPP,
			"this is a folder of DeepSpeed, but its files are not those that make a checkpoint: name the "
			"folder of a tag that holds mp_rank_00_model_states.pt or those of the ranks");
	if (f.index)
		return wf_fail(
			err, -EOPNOTSUPP,
			"this is a folder with a checkpoint in several files (its index.json says which), which this "
			"version does not open as one: open them one by one");
	if (f.saved_model)
		return wf_fail(err, -EMEDIUMTYPE, "this is a TensorFlow SavedModel, not a PyTorch checkpoint");
	if (f.folders == 1) {
		cleanup_free char *inner = NULL, *pickle = NULL;
		if (asprintf(&inner, "%s/%s", path, f.inner) < 0)
			inner = NULL;
		if (!inner || asprintf(&pickle, "%s/data.pkl", inner) < 0)
			pickle = NULL;
		if (pickle && access(pickle, F_OK) == 0)
			return unpacked(inner, err);
	}
	if (f.inside > 0)
		return wf_fail(err, -EISDIR, "this is a directory with %u checkpoint%s in it: name one, as %s",
			       f.inside, f.inside == 1 ? "" : "s", f.latest_inside);
	if (f.files == 1)
		return wf_fail(err, -EISDIR, "this is a directory, not a checkpoint (%s stands in it)", f.file);
	if (f.files > 1)
		return wf_fail(err, -EISDIR,
			       "this is a directory with %u files that are named as checkpoints: name one, as %s",
			       f.files, f.file);
	return wf_fail(err, -EISDIR, "this is a directory, not a checkpoint");
}
