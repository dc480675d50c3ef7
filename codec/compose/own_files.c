/* SPDX-License-Identifier: MIT */
/* The files of a checkpoint, by device and inode: an export reads them while it writes, and is not to take their names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/compose/target.h"
#include "codec/directory/directory.h"

/* A file that is missing is none. */
static int add(struct wf_own_files *own, const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return 0;
	int r = wf_array_reserve(&own->ids, &own->room, (uint64_t)own->count + 1, sizeof *own->ids, UINT32_MAX);
	if (r < 0)
		return r;
	own->ids[own->count++] = (struct wf_file_id){st.st_dev, st.st_ino};
	return 0;
}

/* The shards and slices that tensors stand in, below the directory of the main file. Records come file by file, or nearly so. */
static int add_members(const struct wf_checkpoint *ck, const char *main, struct wf_own_files *own)
{
	const char *name, *last = "";
	int directory = (int)(strrchr(main, '/') - main), r = 0;
	for (uint32_t i = 0; r == 0 && i < wf_container_count(ck->container); i++)
		for (uint32_t k = 0; r == 0 && (name = wf_container_shard(ck->container, i, k)); k++) {
			cleanup_free char *path = NULL;
			if (!strcmp(name, last))
				continue;
			last = name;
			r = asprintf(&path, "%.*s/%s", directory, main, name) < 0 ? -ENOMEM : add(own, path);
		}
	return r;
}

int wf_own_files_read(const struct wf_checkpoint *ck, struct wf_own_files *ret, struct wf_error *err)
{
	struct wf_directory d = {0};
	*ret = (struct wf_own_files){0};
	if (!wf_container_is_directory(ck->container))
		return add(ret, ck->path) < 0 ? wf_fail(err, -ENOMEM, "out of memory") : 0;
	int r = wf_directory_find(ck->path, &d, err);
	if (r == 0 && (add(ret, d.main) < 0 || add_members(ck, d.main, ret) < 0))
		r = wf_fail(err, -ENOMEM, "out of memory");
	wf_directory_free(&d);
	if (r < 0)
		wf_own_files_free(ret);
	return r;
}

void wf_own_files_free(struct wf_own_files *own)
{
	free(own->ids);
	*own = (struct wf_own_files){0};
}

int wf_own_files_refuse(const struct wf_own_files *own, const char *path, struct wf_error *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return 0;
	if (!S_ISREG(st.st_mode))
		return wf_fail(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL, "%s is no regular file", path);
	for (uint32_t i = 0; i < own->count; i++)
		if (own->ids[i].dev == st.st_dev && own->ids[i].ino == st.st_ino)
			return wf_fail(err, -EINVAL,
				       own->count == 1 ? "%s is the checkpoint itself"
						       : "%s is a file of the checkpoint itself",
				       path);
	return 0;
}
