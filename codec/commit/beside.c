/* SPDX-License-Identifier: MIT */
/* Tells by names and sizes which files and folders belong to a model beside its weights. */
#include "codec/commit/beside.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/ends.h"
#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/directory/index.h"

#define MAX_ENTRIES 100000u
#define MAX_FILES 10000u
#define MAX_DEPTH 8 /* of folders */

static bool ends_in_one(const char *name, const char *const *ends, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (wf_before_end(name, ends[i]) >= 0)
			return true;
	return false;
}

bool wf_is_beside(const char *name)
{
	/* weights, whoever reads them, and what only a training goes on from */
	static const char *const weights[] = {".safetensors", ".bin",  ".pt",   ".pth",     ".ckpt",      ".h5",
					      ".msgpack",     ".gguf", ".ggml", ".onnx",    ".onnx_data", ".tflite",
					      ".ot",          ".npz",  ".npy",  ".pkl",     ".distcp",    ".tar",
					      ".zip",         ".gz",   ".pb",   ".mlmodel", ".keras",     ".onnx.data"};
	return name[0] && name[0] != '.' && !wf_index_is_name(name) &&
	       !ends_in_one(name, weights, WF_ARRAY_SIZE(weights));
}

const char *wf_beside_why(enum wf_beside_why why)
{
	static const char *const texts[] = {[WF_BESIDE_WEIGHTS] = "other weights",
					    [WF_BESIDE_LARGE] = "too large",
					    [WF_BESIDE_UNREADABLE] = "no file that can be read",
					    [WF_BESIDE_LINK] = "a link that is not followed",
					    [WF_BESIDE_DEEP] = "too deep"};
	return texts[why];
}

/* Nobody's: hidden, another mount's edits, what Python compiled. */
static bool is_nothing(const char *name)
{
	return name[0] == '.' || wf_before_end(name, ".weightfs") > 0 || !strcmp(name, "__pycache__");
}

/* sentence-transformers names the folder of a module so: 1_Pooling, query_0_Transformer. */
static bool is_module(const char *name)
{
	for (const char *p = name; *p; p++) {
		const char *q = p;
		while (isdigit((unsigned char)*q))
			q++;
		if (q > p && (p == name || p[-1] == '_') && q[0] == '_' && isalpha((unsigned char)q[1]))
			return true;
		p = q > p ? q - 1 : p;
	}
	return false;
}

/* ---- opening without being led away ---- */

/* Where an open file stands; false: its path is none. */
static bool path_of(int fd, char path[PATH_MAX])
{
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, PATH_MAX - 1);
	if (n > 0)
		path[n] = '\0';
	return n > 0 && path[0] == '/';
}

/* Below the directory; or beside the folder `snapshots` that it is in, in `blobs`: the hub's cache. */
static bool may_lead_to(int directory, int fd)
{
	char home[PATH_MAX], path[PATH_MAX];
	if (!path_of(directory, home) || !path_of(fd, path))
		return false;
	size_t n = strlen(home);
	if (!strncmp(path, home, n) && (path[n] == '/' || home[n - 1] == '/'))
		return true;
	for (const char *s = home; (s = strstr(s, "/snapshots/")); s++) {
		n = (size_t)(s - home);
		if (!strncmp(path, home, n) && !strncmp(path + n, "/blobs/", 7) && !strchr(path + n + 7, '/'))
			return true;
	}
	return false;
}

/* A regular file alone is opened: the opening of a device may do something. */
int wf_beside_open(int directory, const char *name)
{
	const char *last = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
	cleanup_free char *folder = strndup(name, (size_t)(last - name));
	cleanup_fd int home = folder ? wf_open_folder(directory, folder) : -ENOMEM;
	if (home < 0)
		return home;
	cleanup_fd int file = openat(home, last, O_PATH | O_CLOEXEC);
	struct stat st, link;
	char self[64];
	if (file < 0 || fstat(file, &st) < 0 || fstatat(home, last, &link, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENXIO;
	if (last > name && S_ISLNK(link.st_mode) && !may_lead_to(directory, file))
		return -EXDEV;
	snprintf(self, sizeof self, "/proc/self/fd/%d", file);
	int fd = open(self, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

/* ---- the walk ---- */

struct beside_walk {
	int directory;
	struct wf_beside *b;
	struct wf_key_map folders; /* that are still to be listed: 1, where it is a module's */
	uint32_t entries;
	bool has_modules; /* modules.json is there */
};

static int put(struct wf_key_map *to, const char *name, uint64_t value)
{
	return wf_key_map_put(to, name, strlen(name), value);
}

/* Every folder on the way to the file, and the file. */
static int take(struct beside_walk *w, const char *name)
{
	int r = 0;
	for (const char *slash = name; r == 0 && (slash = strchr(slash, '/')); slash++)
		r = wf_key_map_put(&w->b->names, name, (size_t)(slash + 1 - name), 0);
	return r == 0 ? put(&w->b->names, name, 0) : r;
}

static int take_file(struct beside_walk *w, const char *name, const char *last, bool module, bool link)
{
	struct stat st;
	cleanup_fd int fd = wf_beside_open(w->directory, name);
	if (!module && !wf_is_beside(last))
		return put(&w->b->left, name, WF_BESIDE_WEIGHTS);
	if (fd < 0 || fstat(fd, &st) < 0)
		return put(&w->b->left, name, link ? WF_BESIDE_LINK : WF_BESIDE_UNREADABLE);
	uint64_t size = module ? 0 : (uint64_t)st.st_size;
	if (size > WF_BESIDE_MAX_BYTES || w->b->total_bytes + size > WF_BESIDE_MAX_TOTAL)
		return put(&w->b->left, name, WF_BESIDE_LARGE);
	w->b->total_bytes += size;
	return take(w, name);
}

/* Whether something in it is read as weights. */
static bool has_weights(struct beside_walk *w, const char *folder)
{
	int fd = wf_open_folder(w->directory, folder);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool has = false;
	if (!d && fd >= 0)
		close(fd);
	for (const struct dirent *e; d && !has && w->entries < MAX_ENTRIES && (e = readdir(d)); w->entries++)
		has = !is_nothing(e->d_name) && !wf_is_beside(e->d_name);
	if (d)
		closedir(d);
	return has;
}

static int take_folder(struct beside_walk *w, const char *name, const char *last, int depth)
{
	cleanup_free char *folder = NULL;
	if (asprintf(&folder, "%s/", name) < 0) {
		folder = NULL;
		return -ENOMEM;
	}
	bool module = depth == 0 && w->has_modules && is_module(last);
	if (depth >= MAX_DEPTH)
		return put(&w->b->left, folder, WF_BESIDE_DEEP);
	if (!module && (!wf_is_beside(last) || has_weights(w, folder)))
		return put(&w->b->left, folder, WF_BESIDE_WEIGHTS);
	return put(&w->folders, folder, module);
}

static int take_entry(struct beside_walk *w, int at, const char *folder, const char *last, bool module)
{
	cleanup_free char *name = NULL;
	struct stat st;
	if (asprintf(&name, "%s%s", folder, last) < 0) {
		name = NULL;
		return -ENOMEM;
	}
	int depth = 0;
	for (const char *p = folder; *p; p++)
		depth += *p == '/';
	if (fstatat(at, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return put(&w->b->left, name, WF_BESIDE_UNREADABLE);
	return S_ISDIR(st.st_mode) ? take_folder(w, name, last, depth)
				   : take_file(w, name, last, module, S_ISLNK(st.st_mode));
}

static int list_folder(struct beside_walk *w, const char *folder, bool module)
{
	int fd = wf_open_folder(w->directory, folder);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int r = d ? 0 : fd < 0 ? fd : -errno;
	if (!d && fd >= 0)
		close(fd);
	for (const struct dirent *e; r == 0 && (e = readdir(d));) {
		if (w->entries++ >= MAX_ENTRIES || w->b->names.count + w->b->left.count >= MAX_FILES) {
			w->b->cut = true;
			break;
		}
		if (!is_nothing(e->d_name))
			r = take_entry(w, fd, folder, e->d_name, module);
	}
	if (d)
		closedir(d);
	if (r < 0 && r != -ENOMEM && *folder) /* one that may not be read stays; so it is with a file */
		r = put(&w->b->left, folder, WF_BESIDE_UNREADABLE);
	return r;
}

int wf_beside_list(int directory, struct wf_beside *ret)
{
	struct stat st;
	struct beside_walk w = {.directory = directory, .b = ret};
	w.has_modules = fstatat(directory, "modules.json", &st, 0) == 0 && S_ISREG(st.st_mode);
	int r = list_folder(&w, "", false);
	for (uint32_t i = 0; r == 0 && i < w.folders.count; i++) {
		cleanup_free char *folder = strdup(w.folders.keys[i].bytes); /* the keys move */
		r = folder ? list_folder(&w, folder, w.folders.keys[i].value) : -ENOMEM;
	}
	wf_key_map_free(&w.folders);
	if (r < 0)
		wf_beside_free(ret);
	return r;
}

void wf_beside_free(struct wf_beside *b)
{
	wf_key_map_free(&b->names);
	wf_key_map_free(&b->left);
	*b = (struct wf_beside){0};
}
