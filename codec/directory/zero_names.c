/* SPDX-License-Identifier: MIT */
/* Finds the files of a DeepSpeed checkpoint by their names (deepspeed/runtime/engine.py: _get_zero_ckpt_name, _get_ckpt_name and others;
 * deepspeed/checkpoint/ds_to_universal.py for universal ones). */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"

#define MAX_TAG_BYTES 255u

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Numbers by their value, other characters by themselves. */
static int natural_order(const char *a, const char *b)
{
	const char *p = a, *q = b;
	while (*p && *q) {
		if (!is_digit(*p) || !is_digit(*q)) {
			if (*p != *q)
				return (unsigned char)*p < (unsigned char)*q ? -1 : 1;
			p++;
			q++;
			continue;
		}
		p += strspn(p, "0");
		q += strspn(q, "0");
		size_t n = strspn(p, "0123456789"), m = strspn(q, "0123456789");
		int order = n != m ? (n < m ? -1 : 1) : memcmp(p, q, n);
		if (order)
			return order;
		p += n;
		q += m;
	}
	return *p || *q ? (*p ? 1 : -1) : strcmp(a, b);
}

static int file_order(const void *a, const void *b)
{
	return natural_order(((const struct zero_file *)a)->name, ((const struct zero_file *)b)->name);
}

static bool skip(const char **at, const char *word)
{
	size_t n = strlen(word);
	if (strncmp(*at, word, n) != 0)
		return false;
	*at += n;
	return true;
}

static bool take_number(const char **at, uint32_t *ret)
{
	uint64_t n = 0;
	const char *start = *at;
	for (; is_digit(**at) && n <= UINT32_MAX; ++*at)
		n = n * 10 + (uint64_t)(**at - '0');
	*ret = (uint32_t)n;
	return *at > start && n < UINT32_MAX;
}

/* What a name says; false: it is no file of such a checkpoint. */
static bool read_name(const char *name, struct zero_file *f)
{
	const char *at = name;
	bool ranked, moe = strstr(name, "expert") || strncmp(name, "expp_", 5) == 0;
	size_t n = strlen(name);
	if (n < 10 || strcmp(name + n - 10, "_states.pt") != 0) {
		/* so called before there was an underscore */
		if (n < 15 || strcmp(name + n - 15, "optim_states.pt") != 0)
			return false;
	}
	if (!skip(&at, "bf16_"))
		skip(&at, "fp16_");
	ranked = skip(&at, "zero_pp_rank_");
	if (ranked && !(take_number(&at, &f->rank) && skip(&at, "_")))
		ranked = false;
	if (skip(&at, "mp_rank_") && take_number(&at, &f->mp)) {
		bool optim = strcmp(at, "_optim_states.pt") == 0 || strcmp(at, "optim_states.pt") == 0;
		if ((ranked && optim) || strcmp(at, "_model_states.pt") == 0) {
			f->kind = optim ? ZERO_OPTIM : ZERO_MODEL;
			return true;
		}
	}
	f->rank = f->mp = 0;
	f->kind = moe ? ZERO_EXPERT : ZERO_LAYER;
	return moe || strncmp(name, "layer_", 6) == 0;
}

static int add_file(struct zero_listing *l, const struct zero_file *f, const char *folder, const char *name,
		    struct wf_error *err)
{
	int r = wf_array_reserve(&l->files, &l->capacity, l->count + 1, sizeof *l->files, WF_MEMBERS_MAX);
	struct zero_file *to = &l->files[l->count];
	if (r == 0) {
		*to = *f;
		if (asprintf(&to->name, "%s%s", folder, name) < 0)
			r = -ENOMEM;
	}
	if (r < 0)
		return wf_fail(err, r, r == -E2BIG ? "more than %u files" : "out of memory", WF_MEMBERS_MAX);
	l->count++;
	l->of_kind[f->kind]++;
	l->max_mp = WF_MAX(l->max_mp, f->mp);
	return 0;
}

static bool ends_in_pt(const char *name)
{
	size_t n = strlen(name);
	return n > 3 && strcmp(name + n - 3, ".pt") == 0;
}

/* Calls each for the names in a directory below base. 0; 1: it is not there. */
static int each_name(const char *base, const char *folder, int (*each)(void *ctx, const char *folder, const char *name),
		     void *ctx, struct wf_error *err)
{
	cleanup_free char *path = NULL;
	if (asprintf(&path, "%s/%s", base, folder) < 0) {
		path = NULL;
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	DIR *d = opendir(path);
	if (!d)
		return errno == ENOENT || errno == ENOTDIR ? 1 : wf_fail(err, -errno, "%s: %s", path, strerror(errno));
	int r = 0;
	for (const struct dirent *e = readdir(d); e && r == 0; e = readdir(d))
		if (e->d_name[0] != '.')
			r = each(ctx, folder, e->d_name);
	closedir(d);
	return r;
}

struct zero_walk {
	const char *directory;
	struct zero_listing *list;
	struct wf_error *err;
};

static int take_state(void *ctx, const char *folder, const char *name)
{
	struct zero_walk *l = ctx;
	return ends_in_pt(name) ? add_file(l->list, &(struct zero_file){.kind = ZERO_PART}, folder, name, l->err) : 0;
}

static int take_part(void *ctx, const char *folder, const char *name)
{
	struct zero_walk *l = ctx;
	if (ends_in_pt(name)) {
		struct stat st;
		cleanup_free char *path = NULL;
		if (asprintf(&path, "%s/%s%s", l->directory, folder, name) < 0) {
			path = NULL;
			return wf_fail(l->err, -ENOMEM, "out of memory");
		}
		if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) /* a parameter may be called so, too */
			return take_state(ctx, folder, name);
	}
	cleanup_free char *inner = NULL;
	if (asprintf(&inner, "%s%s/", folder, name) < 0) {
		inner = NULL;
		return wf_fail(l->err, -ENOMEM, "out of memory");
	}
	int r = each_name(l->directory, inner, take_state, l, l->err);
	return r < 0 ? r : 0;
}

static int take_name(void *ctx, const char *folder, const char *name)
{
	struct zero_walk *l = ctx;
	struct zero_file f = {0};
	return read_name(name, &f) ? add_file(l->list, &f, folder, name, l->err) : 0;
}

int zero_list(const char *directory, struct zero_listing *ret, struct wf_error *err)
{
	struct zero_walk l = {.directory = directory, .list = ret, .err = err};
	int r = each_name(directory, "", take_name, &l, err);
	if (r == 0 && ret->of_kind[ZERO_MODEL] > 0) {
		r = each_name(directory, "zero/", take_part, &l, err);
		ret->universal = ret->of_kind[ZERO_PART] > 0;
		r = WF_MIN(r, 0);
	}
	if (r == 0 && ret->count > 1)
		qsort(ret->files, ret->count, sizeof *ret->files, file_order);
	return r;
}

void zero_listing_free(struct zero_listing *l)
{
	for (uint32_t i = 0; i < l->count; i++) {
		free(l->files[i].name);
		free(l->files[i].problem);
	}
	free(l->files);
	*l = (struct zero_listing){0};
}

/* ---- the file of a rank ---- */

static const struct zero_file *file_of(const struct zero_listing *l, enum zero_kind kind, uint64_t rank)
{
	for (uint32_t i = 0; i < l->count; i++)
		if (l->files[i].kind == kind && l->files[i].rank == rank)
			return &l->files[i];
	return NULL;
}

const char *zero_name_of(const struct zero_listing *l, enum zero_kind kind, uint32_t rank)
{
	const struct zero_file *f = file_of(l, kind, rank);
	return f ? f->name : "a file";
}

void zero_tell_lost(const struct zero_listing *l, enum zero_kind kind, uint64_t rank, char *ret, size_t size)
{
	static const char prefix[] = "zero_pp_rank_";
	const struct zero_file *f = file_of(l, kind, rank);
	const char *at = NULL;
	if (f) {
		const char *why = f->problem ? f->problem : "it has no state of its rank";
		if (strstr(why, f->name))
			snprintf(ret, size, "%s", why);
		else
			snprintf(ret, size, "%.120s: %s", f->name, why);
		return;
	}
	for (uint32_t i = 0; i < l->count && !at; i++) /* one of its like */
		if (l->files[i].kind == kind && (at = strstr(l->files[i].name, prefix)))
			f = &l->files[i];
	if (!at) {
		snprintf(ret, size, "the file of rank %" PRIu64 " is missing", rank);
		return;
	}
	at += strlen(prefix);
	snprintf(ret, size, "the file %.*s%" PRIu64 "%s is missing", (int)(at - f->name), f->name, rank,
		 at + strspn(at, "0123456789"));
}

/* ---- the directory ---- */

static int is_one(void *ctx, const char *folder, const char *name)
{
	(void)ctx;
	(void)folder;
	struct zero_file f = {0};
	return read_name(name, &f) && (f.kind == ZERO_MODEL || f.kind == ZERO_OPTIM);
}

/* 1: there are files of a checkpoint in it. */
static int has_files(const char *path, struct wf_error *err)
{
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	return each_name(path, "", is_one, NULL, err);
}

/* The tag that a file names; "" where it is none: text of one line, a name in this directory. */
static void read_tag(const char *path, const char *file, char tag[MAX_TAG_BYTES + 1])
{
	cleanup_free char *name = NULL;
	tag[0] = '\0';
	if (asprintf(&name, "%s/%s", path, file) < 0) {
		name = NULL;
		return;
	}
	struct stat st;
	FILE *f = stat(name, &st) == 0 && S_ISREG(st.st_mode) ? fopen(name, "re") : NULL;
	if (!f)
		return;
	size_t n = fread(tag, 1, MAX_TAG_BYTES, f);
	bool more = fgetc(f) != EOF;
	fclose(f);
	while (n > 0 && (tag[n - 1] == '\n' || tag[n - 1] == '\r' || tag[n - 1] == ' '))
		n--;
	tag[n] = '\0';
	if (more || strlen(tag) != n || strpbrk(tag, "/\n") || strcmp(tag, ".") == 0 || strcmp(tag, "..") == 0)
		tag[0] = '\0';
}

static int try_tag(const char *path, const char *file, char **ret_directory, struct wf_error *err)
{
	char tag[MAX_TAG_BYTES + 1];
	cleanup_free char *directory = NULL, *script = NULL;
	read_tag(path, file, tag);
	if (!tag[0])
		return 1;
	if (asprintf(&directory, "%s/%s", path, tag) < 0)
		directory = NULL;
	if (asprintf(&script, "%s/zero_to_fp32.py", path) < 0)
		script = NULL;
	if (!directory || !script)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = has_files(directory, err);
	if (r == 1) {
		*ret_directory = steal_pointer(&directory);
		return 0;
	}
	if (r == 0 && access(directory, F_OK) < 0 && access(script, F_OK) == 0)
		return wf_fail(err, -ENOENT, "this is a folder of DeepSpeed, whose `%s` names %s, which is not there",
			       file, tag);
	return r < 0 ? r : 1;
}

int zero_find(const char *path, char **ret_directory, struct wf_error *err)
{
	int r = has_files(path, err);
	if (r == 0) {
		r = try_tag(path, "latest", ret_directory, err);
		return r == 1 ? try_tag(path, "latest_universal", ret_directory, err) : r;
	}
	if (r < 0)
		return r;
	*ret_directory = strdup(path);
	return *ret_directory ? 0 : wf_fail(err, -ENOMEM, "out of memory");
}
