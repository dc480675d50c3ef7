/* SPDX-License-Identifier: MIT */
/* Looks through a directory for what torch.distributed.checkpoint and the libraries around it leave there. */
#include "codec/directory/dcp_find.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_safetensors.h"

#define MAX_PARTS (1u << 17)

static bool has_file(const char *path, const char *name)
{
	cleanup_free char *full = NULL;
	struct stat st;
	return asprintf(&full, "%s/%s", path, name) >= 0 && stat(full, &st) == 0 && S_ISREG(st.st_mode);
}

/* The number behind the prefix and before the end; -1 of any other name. */
static int64_t number_in(const char *name, const char *prefix, const char *end)
{
	size_t n = strlen(prefix), digits = strspn(name + (strncmp(name, prefix, n) == 0 ? n : 0), "0123456789");
	if (strncmp(name, prefix, n) != 0 || digits == 0 || digits > 6 || strcmp(name + n + digits, end) != 0)
		return -1;
	int64_t number = strtol(name + n, NULL, 10);
	return number < MAX_PARTS ? number : -1;
}

bool dcp_is_metadata_name(const char *name)
{
	return strcmp(name, ".metadata") == 0 || number_in(name, "__", ".metadata") >= 0;
}

static int add_part(struct dcp_files *f, const char *folder, const char *name)
{
	struct dcp_part part = {.folder = strdup(folder)};
	if (asprintf(&part.file, "%s%s%s", folder, *folder ? "/" : "", name) < 0)
		part.file = NULL;
	int r = wf_array_reserve(&f->parts, &f->room, (uint64_t)f->count + 1, sizeof *f->parts, MAX_PARTS);
	if (r < 0 || !part.folder || !part.file) {
		free(part.folder);
		free(part.file);
		return r < 0 ? r : -ENOMEM;
	}
	f->parts[f->count++] = part;
	return 0;
}

/* Every rank up to the largest: one that is missing has chunks of its own, and nothing tells which. */
static int add_ranks(struct dcp_files *f, int64_t largest)
{
	char name[32];
	int r = 0;
	for (int64_t i = 0; i <= largest && r == 0; i++) {
		snprintf(name, sizeof name, "__%" PRId64 ".metadata", i);
		r = add_part(f, "", name);
	}
	return r;
}

static int add_folder(struct dcp_files *f, const char *name)
{
	cleanup_free char *full = NULL;
	if (asprintf(&full, "%s/%s", f->directory, name) < 0)
		return -ENOMEM;
	return has_file(full, ".metadata") ? add_part(f, name, ".metadata") : 0;
}

static int by_folder(const void *a, const void *b)
{
	const struct dcp_part *x = a, *y = b;
	bool model_x = x->folder[0] == 'p', model_y = y->folder[0] == 'p'; /* the model before its optimizer */
	return model_x != model_y ? (model_x ? -1 : 1) : strcmp(x->folder, y->folder);
}

static int look(struct dcp_files *f)
{
	int64_t largest = -1;
	DIR *directory = opendir(f->directory);
	int r = 0;
	for (const struct dirent *e = directory ? readdir(directory) : NULL; e && r == 0; e = readdir(directory)) {
		largest = WF_MAX(largest, number_in(e->d_name, "__", ".metadata"));
		if (number_in(e->d_name, "pytorch_model_fsdp_", "") >= 0 || number_in(e->d_name, "optimizer_", "") >= 0)
			r = add_folder(f, e->d_name);
	}
	if (directory)
		closedir(directory);
	if (r == 0 && f->count > 0)
		qsort(f->parts, f->count, sizeof *f->parts, by_folder);
	else if (r == 0)
		r = add_ranks(f, largest);
	return r;
}

/* Megatron's name of the directory below; NULL there is none. */
static char *latest_below(const char *path)
{
	cleanup_free char *file = NULL;
	char text[32] = "", *below = NULL, *end;
	if (asprintf(&file, "%s/latest_checkpointed_iteration.txt", path) < 0)
		return NULL;
	FILE *f = fopen(file, "re");
	if (!f)
		return NULL;
	size_t len = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[len] = '\0';
	text[strcspn(text, " \r\n")] = '\0';
	unsigned long iteration = strtoul(text, &end, 10);
	int n = strcmp(text, "release") == 0                       ? asprintf(&below, "%s/release", path)
		: *end == '\0' && text[0] >= '0' && text[0] <= '9' ? asprintf(&below, "%s/iter_%07lu", path, iteration)
								   : -1;
	return n < 0 ? NULL : below;
}

int dcp_files_find(const char *path, struct dcp_files *ret, struct wf_error *err)
{
	static const char *const beside[] = {"meta.pt", "common.pt"};
	cleanup_free char *below = latest_below(path);
	int r = 0;
	*ret = (struct dcp_files){.directory = strdup(below ? below : path)};
	if (!ret->directory)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (has_file(ret->directory, ".metadata"))
		r = add_part(ret, "", ".metadata");
	else
		r = look(ret);
	for (size_t i = 0; i < WF_ARRAY_SIZE(beside) && !ret->beside; i++)
		if (has_file(ret->directory, beside[i]))
			ret->beside = beside[i];
	if (r == 0 && ret->count == 0)
		r = wf_dcp_safetensors_find(ret->directory, &ret->first);
	ret->raw = ret->first != NULL;
	if (r == 0 && ret->count == 0 && !ret->raw)
		r = 1;
	if (r != 0)
		dcp_files_free(ret);
	return r < 0 ? wf_fail(err, r, r == -E2BIG ? "more than %u files of metadata" : "out of memory", MAX_PARTS) : r;
}

void dcp_files_free(struct dcp_files *f)
{
	for (uint32_t i = 0; i < f->count; i++) {
		free(f->parts[i].folder);
		free(f->parts[i].file);
	}
	free(f->parts);
	free(f->directory);
	free(f->first);
	*f = (struct dcp_files){0};
}
