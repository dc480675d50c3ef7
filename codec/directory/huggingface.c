/* SPDX-License-Identifier: MIT */
/* Finds the index of a directory, opens it, and answers where the records of its shards are. */
#include "codec/directory/huggingface.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/array.h"
#include "codec/bytes/printable.h"
#include "codec/bytes/util.h"
#include "codec/directory/directory.h"
#include "codec/directory/huggingface_inner.h"

#define MAX_ENTRIES 100000u
#define MAX_CANDIDATES 64u

/* ---- finding ---- */

/* The one that transformers and diffusers would take. */
static const char *const plain[] = {
	"model.safetensors.index.json",
	"pytorch_model.bin.index.json",
	"diffusion_pytorch_model.safetensors.index.json",
	"diffusion_pytorch_model.bin.index.json",
};

struct hf_candidates {
	char *names[MAX_CANDIDATES];
	uint32_t count;
};

/* Indices of TensorFlow and Flax stand in the same directories. */
static bool is_own_name(const char *name)
{
	return wf_index_is_name(name) && !strstr(name, ".h5.index.") && !strstr(name, ".msgpack.index.");
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list(const char *path, struct hf_candidates *c)
{
	DIR *d = opendir(path);
	uint32_t entries = 0;
	int r = 0;
	for (const struct dirent *e = d ? readdir(d) : NULL; e && r == 0 && entries++ < MAX_ENTRIES; e = readdir(d)) {
		if (!is_own_name(e->d_name) || e->d_name[0] == '.' || c->count == MAX_CANDIDATES)
			continue;
		c->names[c->count] = strdup(e->d_name);
		r = c->names[c->count] ? 0 : -ENOMEM;
		c->count += r == 0;
	}
	if (d)
		closedir(d);
	qsort(c->names, c->count, sizeof *c->names, by_name);
	return r;
}

static const char *choose(const struct hf_candidates *c)
{
	for (size_t i = 0; i < WF_ARRAY_SIZE(plain); i++)
		for (uint32_t k = 0; k < c->count; k++)
			if (!strcmp(c->names[k], plain[i]))
				return c->names[k];
	return c->count == 1 ? c->names[0] : NULL;
}

static int say_several(const struct hf_candidates *c, struct wf_error *err)
{
	struct wf_buffer names = WF_BUFFER_INIT;
	for (uint32_t k = 0; k < c->count && names.len < 250; k++) {
		wf_buffer_puts(&names, k ? ", " : "");
		wf_buffer_printable(&names, c->names[k], strlen(c->names[k]));
	}
	int r = wf_fail(err, -EISDIR, "this is a directory with %u checkpoints in several files: name one of %s%s",
			c->count, names.data ? names.data : "", c->count > 1 && names.len >= 250 ? ", ..." : "");
	wf_buffer_free(&names);
	return r;
}

static int no_memory(struct wf_error *err)
{
	return wf_fail(err, -ENOMEM, "out of memory");
}

/* The index that a directory stands for. 1: it has none. */
static int index_of(const char *path, char **ret, struct wf_error *err)
{
	struct hf_candidates c = {0};
	int r = list(path, &c);
	const char *name = r == 0 ? choose(&c) : NULL;
	if (r < 0)
		r = no_memory(err);
	else if (name)
		r = asprintf(ret, "%s/%s", path, name) < 0 ? no_memory(err) : 0;
	else
		r = c.count > 0 ? say_several(&c, err) : 1;
	for (uint32_t k = 0; k < c.count; k++)
		free(c.names[k]);
	if (r != 0)
		*ret = NULL;
	return r;
}

/* An index may have any name; then its first bytes tell. */
static bool looks_like_index(const char *path)
{
	char head[4096];
	if (wf_index_is_name(strrchr(path, '/') + 1))
		return true;
	cleanup_fd int fd =
		wf_before_end(path, ".json") > 0 ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
	ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
	return n > 0 && memmem(head, (size_t)n, "\"weight_map\"", strlen("\"weight_map\"")) != NULL;
}

/* The index that its directory stands for has the directory's name, so that either is one checkpoint with one overlay. */
static int name_of(const char *index, char **ret, struct wf_error *err)
{
	struct wf_error ignored = {0};
	cleanup_free char *directory = strndup(index, (size_t)(strrchr(index, '/') - index)), *chosen = NULL;
	if (!directory)
		return no_memory(err);
	bool is_chosen = directory[0] && index_of(directory, &chosen, &ignored) == 0 && !strcmp(chosen, index);
	*ret = is_chosen ? steal_pointer(&directory) : strdup(index);
	return *ret ? 0 : no_memory(err);
}

static int find(const char *path, bool is_directory, char **ret_main, char **ret_name, struct wf_error *err)
{
	if (is_directory)
		return index_of(path, ret_main, err);
	if (!looks_like_index(path))
		return 1;
	*ret_main = strdup(path);
	return *ret_main ? name_of(path, ret_name, err) : no_memory(err);
}

/* ---- the container ---- */

static const struct hf_container *hf_of(const struct wf_container *c)
{
	return (const struct hf_container *)c;
}

static int locate(const struct wf_container *c, uint32_t i, uint64_t *ret_offset, struct wf_error *err)
{
	const struct hf_place *place = &hf_of(c)->places[i];
	const struct hf_shard *shard = &hf_of(c)->shards[place->shard];
	if (place->record == WF_NO_RECORD) {
		*ret_offset = c->records[i].header_offset;
		return 0;
	}
	int r = wf_container_locate(shard->archive, place->record, ret_offset, err);
	*ret_offset += r == 0 ? shard->shown.start : 0;
	return r;
}

static int explain(const struct wf_container *c, const struct wf_record *record, struct wf_error *err)
{
	const struct hf_place *place = &hf_of(c)->places[record - c->records];
	const struct hf_shard *shard = &hf_of(c)->shards[place->shard];
	uint64_t ignored;
	if (place->record != WF_NO_RECORD)
		return wf_container_locate(shard->archive, place->record, &ignored, err);
	return wf_fail(err, record->bad, "%s", shard->why);
}

static int why(const struct wf_container *c, uint32_t i, struct wf_error *err)
{
	const struct hf_container *hf = hf_of(c);
	return i < hf->place_count ? wf_members_check(hf->members, hf->places[i].shard, err) : 0;
}

static const char *shard_name(const struct wf_container *c, uint32_t i, uint32_t k)
{
	const struct hf_container *hf = hf_of(c);
	return k == 0 && i < hf->place_count ? wf_members_name(hf->members, hf->places[i].shard) : NULL;
}

static void free_own(struct wf_container *c)
{
	struct hf_container *hf = (struct hf_container *)c;
	for (uint32_t i = 0; hf->shards && i < wf_members_count(hf->members); i++)
		wf_container_free(hf->shards[i].archive);
	free(hf->shards);
	free(hf->places);
	wf_index_free(&hf->index);
	wf_members_unref(hf->members);
}

static const struct wf_container_ops ops = {
	.locate = locate, .explain = explain, .why = why, .load_graph = hf_load, .shard = shard_name, .free = free_own};

static int read_index(struct hf_container *hf, const struct wf_directory *d, struct wf_source *main,
		      struct wf_error *err)
{
	const char *slash = strrchr(d->main, '/');
	cleanup_free char *directory = strndup(d->main, (size_t)(slash - d->main));
	uint32_t own;
	if (!directory)
		return no_memory(err);
	int r = wf_members_new(directory[0] ? directory : "/", &hf->members, err);
	if (r == 0)
		r = wf_members_add(hf->members, slash + 1, strlen(slash + 1), &own, err); /* number 0 */
	if (r == 0)
		r = wf_index_read(main, hf->members, &hf->index, err);
	if (r < 0)
		wf_error_where(err, slash + 1);
	if (r == 0) {
		hf->base.flat = wf_index_is_safetensors_name(slash + 1);
		hf->shards = calloc(wf_members_count(hf->members), sizeof *hf->shards);
		r = hf->shards ? 0 : no_memory(err);
	}
	return r;
}

static int open_index(const struct wf_directory *d, struct wf_source *main, struct wf_container **ret,
		      struct wf_error *err)
{
	struct hf_container *hf = calloc(1, sizeof *hf);
	if (!hf)
		return no_memory(err);
	int r = wf_container_init(&hf->base, &ops, WF_CONTAINER_HUGGINGFACE, main);
	r = r < 0 ? no_memory(err) : read_index(hf, d, main, err);
	if (r < 0) {
		wf_container_free(&hf->base);
		return r;
	}
	*ret = &hf->base;
	return 0;
}

const struct wf_directory_reader wf_huggingface_reader = {.find = find, .open = open_index};

/* ---- what a commit asks ---- */

const struct wf_index *wf_huggingface_index(const struct wf_container *c)
{
	return wf_container_kind_of(c) == WF_CONTAINER_HUGGINGFACE ? &hf_of(c)->index : NULL;
}

uint32_t wf_huggingface_shards(const struct wf_container *c)
{
	return wf_members_count(hf_of(c)->members);
}

const struct wf_shard *wf_huggingface_shard(const struct wf_container *c, uint32_t i)
{
	return &hf_of(c)->shards[i].shown;
}

uint32_t wf_huggingface_shard_of(const struct wf_container *c, uint32_t record)
{
	return hf_of(c)->places[record].shard;
}

uint32_t wf_huggingface_record(const struct wf_container *c, uint32_t shard, uint32_t i)
{
	const struct wf_shard *s = &hf_of(c)->shards[shard].shown;
	/* a reader of safetensors has the header last, and the whole has it first */
	if (s->safetensors)
		i = (i + 1) % s->record_count;
	return s->first_record + i;
}

uint32_t wf_huggingface_shard_named(const struct wf_container *c, const char *name)
{
	uint32_t i = wf_members_find(hf_of(c)->members, name, strlen(name));
	return i != UINT32_MAX && i > 0 ? i : WF_NO_RECORD; /* number 0 is the index */
}

size_t wf_huggingface_stem(const char *name, const char **ret_end)
{
	const char *dot = strrchr(name, '.');
	size_t stem = dot ? (size_t)(dot - name) : strlen(name), digits = stem;
	*ret_end = dot ? dot : name + stem;
	while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9')
		digits--;
	return digits < stem && digits >= 2 && name[digits - 1] == 'w' && name[digits - 2] == '.' ? digits - 2 : stem;
}

uint32_t wf_huggingface_shard_meant(const struct wf_container *c, const char *name)
{
	const struct wf_members *m = hf_of(c)->members;
	uint32_t exact = wf_huggingface_shard_named(c, name), found = WF_NO_RECORD, count = 0;
	const char *end, *other_end;
	size_t stem = wf_huggingface_stem(name, &end);
	if (exact != WF_NO_RECORD || name + stem != end)
		return exact;
	for (uint32_t i = 1; i < wf_members_count(m); i++) {
		const char *other = wf_members_name(m, i);
		if (wf_huggingface_stem(other, &other_end) != stem || strncmp(other, name, stem) != 0 ||
		    strcmp(other_end, end) != 0)
			continue;
		found = i;
		count++;
	}
	return count == 1 ? found : WF_NO_RECORD;
}

int wf_huggingface_check_shard(const struct wf_container *c, const char *name, struct wf_error *err)
{
	const struct hf_container *hf = hf_of(c);
	uint32_t i = wf_huggingface_shard_meant(c, name);
	const char *end = hf->base.flat ? ".safetensors" : ".bin";
	if (i != WF_NO_RECORD)
		return hf->shards[i].shown.bad ? wf_fail(err, -EIO, "%s", hf->shards[i].why) : 0;
	size_t len = strlen(name);
	if (len > NAME_MAX || name[0] == '.' || strchr(name, '/') || wf_before_end(name, end) <= 0 ||
	    wf_plain_span(name, len) != len)
		return wf_fail(
			err, -EINVAL,
			"a shard of this checkpoint has a name that ends in %s, without slashes and without a dot in front",
			end);
	cleanup_free char *path = NULL;
	if (asprintf(&path, "%s/%s", wf_members_directory(hf->members), name) < 0)
		return no_memory(err);
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0
		       ? wf_fail(err, -EINVAL, "%s is there already, and is no shard of this checkpoint", name)
		       : 0;
}

void wf_huggingface_adopt(struct wf_container *c, uint32_t shard, wf_ref root, wf_ref metadata)
{
	struct wf_shard *s = &((struct hf_container *)c)->shards[shard].shown;
	s->root = root;
	s->metadata = metadata;
}
