/* SPDX-License-Identifier: MIT */
/* Tells by its name and size whether a file belongs to a model beside its weights. */
#include "codec/commit/beside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/ends.h"
#include "codec/bytes/util.h"
#include "codec/directory/index.h"

#define MAX_ENTRIES 100000u
#define MAX_FILES 1000u

bool wf_is_beside(const char *name)
{
	/* weights, whoever reads them, and what only a training goes on from */
	static const char *const weights[] = {
		".safetensors", ".bin",    ".pt", ".pth", ".ckpt", ".h5",  ".msgpack", ".gguf", ".ggml", ".onnx",
		".onnx_data",   ".tflite", ".ot", ".npz", ".npy",  ".pkl", ".distcp",  ".tar",  ".zip",  ".gz"};
	if (name[0] == '.' || !name[0] || wf_index_is_name(name))
		return false;
	for (size_t i = 0; i < WF_ARRAY_SIZE(weights); i++)
		if (wf_before_end(name, weights[i]) >= 0)
			return false;
	return true;
}

int wf_beside_list(int directory, struct wf_key_map *ret)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int r = d ? 0 : -errno;
	struct stat st;
	uint32_t entries = 0;
	if (!d && fd >= 0)
		close(fd);
	for (const struct dirent *e; r == 0 && entries++ < MAX_ENTRIES && (e = readdir(d));)
		if (ret->count < MAX_FILES && wf_is_beside(e->d_name) && fstatat(dirfd(d), e->d_name, &st, 0) == 0 &&
		    S_ISREG(st.st_mode) && st.st_size <= WF_BESIDE_MAX_BYTES)
			r = wf_key_map_put(ret, e->d_name, strlen(e->d_name), 0);
	if (d)
		closedir(d);
	return r;
}
