/* SPDX-License-Identifier: MIT */
/* Safetensors files, and several with an index as huggingface_hub splits them: in the order of the dictionary, a file is full when the
 * next tensor would pass the limit; one that is larger alone has a file alone; tied ones go with the first.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/bytes/util.h"
#include "codec/compose/target.h"
#include "codec/value/text.h"

#define UNPLACED UINT32_MAX

struct shards {
	uint32_t *file_of; /* of each tensor, from 0 on */
	uint32_t count;
	uint64_t total_bytes;
};

/* Those of [first, end) that have no file yet are one. Returns end. */
static uint32_t close_file(const struct wf_flat *f, struct shards *s, uint32_t first, uint32_t end)
{
	bool any = false;
	for (uint32_t i = first; i < end; i++)
		if (s->file_of[i] == UNPLACED && !f->tensors[i].is_double && f->tensors[i].tie == i) {
			s->file_of[i] = s->count;
			any = true;
		}
	s->count += any;
	return end;
}

/* A file has its number when it is full: one that is larger than the limit before the one that is being filled. */
static void split(const struct wf_flat *f, uint64_t max, struct shards *s)
{
	uint64_t used = 0;
	uint32_t first = 0; /* from here on tensors may be of the file that is being filled */
	for (uint32_t i = 0; i < f->count; i++) {
		const struct wf_flat_tensor *t = &f->tensors[i];
		s->file_of[i] = UNPLACED;
		if (t->is_double || t->tie != i)
			continue;
		uint64_t bytes = wf_flat_bytes(f, t);
		s->total_bytes += bytes;
		if (bytes > max) {
			s->file_of[i] = s->count++;
			continue;
		}
		if (used + bytes > max)
			first = close_file(f, s, first, i);
		used = first == i ? bytes : used + bytes;
	}
	close_file(f, s, first, f->count);
	for (uint32_t i = 0; i < f->count; i++)
		s->file_of[i] = s->file_of[f->tensors[i].tie];
}

/* STEM-00001-of-00003.safetensors, where STEM.safetensors is the path. */
static int shard_path(const char *path, uint32_t file, uint32_t count, char **ret)
{
	const char *slash = strrchr(path, '/'), *dot = strrchr(slash, '.');
	int stem = (int)(dot && dot > slash + 1 ? (size_t)(dot - path) : strlen(path));
	return asprintf(ret, "%.*s-%05u-of-%05u%s", stem, path, file + 1, count, path + stem) < 0 ? -ENOMEM : 0;
}

static int put(void *ctx, const void *data, size_t len)
{
	return wf_out_write(ctx, data, len);
}

/* Head and tensors, one after the other: nothing of it is kept, for a head of 100,000 tensors is larger than what such an export may take. */
static int write_all(struct wf_checkpoint *ck, const struct wf_flat *f, const struct wf_safetensors_plan *p,
		     uint64_t head_bytes, struct wf_out *out)
{
	struct wf_safetensors_items items = wf_safetensors_plan_items(p);
	int r = wf_safetensors_head_put(&items, p->notes, p->note_count, head_bytes, put, out);
	for (size_t i = 0; i < p->count && r == 0; i++)
		r = wf_composed_copy_tensor(ck, f->tensors[p->ids[i]].ino, wf_flat_bytes(f, &f->tensors[p->ids[i]]),
					    out);
	return r;
}

/* A file that is written, durable, and has its temporary name: ret keeps it so, until all of them are; NULL: it gets its own at once. */
static int finish(struct wf_target *t, const struct wf_export *x, struct wf_new_file *ret, struct wf_error *err)
{
	if (!ret)
		return wf_target_finish(t, x, err);
	int r = wf_target_complete(t, x, err);
	if (r == 0) {
		*ret = t->file;
		t->file = (struct wf_new_file)WF_NEW_FILE_INIT;
	}
	return r;
}

static int write_file(struct wf_checkpoint *ck, const struct wf_flat *f, const struct wf_safetensors_plan *p,
		      uint64_t head_bytes, const struct wf_export *x, const char *path, struct wf_new_file *ret,
		      struct wf_error *err)
{
	struct wf_target t;
	struct wf_file_run old;
	wf_source_locate(wf_container_file(ck->container), 0, &old);
	int r = wf_target_open(&t, path, head_bytes + p->data_bytes, x, old.fd, err);
	if (r == 0 && (r = write_all(ck, f, p, head_bytes, &t.out)) < 0)
		wf_fail(err, r, "cannot write the new file: %s", strerror(-r));
	if (r == 0)
		r = finish(&t, x, ret, err);
	wf_target_free(&t);
	wf_file_run_end(&old);
	return r;
}

/* s: NULL: all of it is one file. */
static int compose_and_write(struct wf_checkpoint *ck, const struct wf_flat *f, const struct shards *s, uint32_t file,
			     const struct wf_export *x, const char *path, struct wf_new_file *ret, struct wf_error *err)
{
	struct wf_safetensors_plan p;
	uint64_t head_bytes;
	int r = wf_safetensors_plan(f, s ? s->file_of : NULL, file, &p);
	struct wf_safetensors_items items = wf_safetensors_plan_items(&p);
	if (r == 0)
		r = wf_safetensors_head_bytes(&items, p.notes, p.note_count, &head_bytes);
	if (r < 0)
		wf_fail(err, r, "%s",
			r == -EFBIG ? "there are more names than a safetensors header holds" : strerror(-r));
	else
		r = write_file(ck, f, &p, head_bytes, x, path, ret, err);
	wf_safetensors_plan_free(&p);
	return r;
}

/* As json.dumps(index, indent=2, sort_keys=True) prints it, non-ASCII characters as they are. */
static int put_index(const struct wf_flat *f, const struct shards *s, const char *path, struct wf_buffer *out)
{
	const char *comma = "";
	wf_buffer_printf(out, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
			 (unsigned long long)s->total_bytes);
	for (uint32_t i = 0; i < f->count; i++) {
		const struct wf_flat_tensor *t = &f->tensors[f->by_name[i]];
		cleanup_free char *shard = NULL;
		if (t->is_double || t->tie != f->by_name[i])
			continue;
		int r = shard_path(path, s->file_of[f->by_name[i]], s->count, &shard);
		if (r < 0)
			return r;
		const char *name = strrchr(shard, '/') + 1;
		wf_buffer_puts(out, comma);
		wf_buffer_puts(out, "\n    ");
		wf_json_string(out, wf_flat_name(f, t), t->name_len);
		wf_buffer_puts(out, ": ");
		wf_json_string(out, name, strlen(name));
		comma = ",";
	}
	wf_buffer_puts(out, "\n  }\n}\n");
	return wf_buffer_status(out);
}

static int write_index(const struct wf_flat *f, const struct shards *s, const struct wf_export *x, const char *path,
		       const char *name, struct wf_new_file *ret, struct wf_error *err)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	struct wf_target t;
	int r = put_index(f, s, path, &text);
	if (r < 0) {
		wf_buffer_free(&text);
		return wf_fail(err, r, "out of memory");
	}
	r = wf_target_open(&t, name, text.len, x, -1, err);
	if (r == 0 && (r = wf_out_write(&t.out, text.data, text.len)) < 0)
		wf_fail(err, r, "cannot write the new file: %s", strerror(-r));
	if (r == 0)
		r = finish(&t, x, ret, err);
	wf_target_free(&t);
	wf_buffer_free(&text);
	return r;
}

static int shard_paths(const struct wf_checkpoint *ck, const char *path, uint32_t count, char **paths,
		       struct wf_error *err)
{
	struct wf_own_files own;
	int r = wf_own_files_read(ck, &own, err);
	for (uint32_t i = 0; r == 0 && i <= count; i++) {
		r = i < count                                        ? shard_path(path, i, count, &paths[i])
		    : asprintf(&paths[i], "%s.index.json", path) < 0 ? -ENOMEM
								     : 0;
		r = r < 0 ? wf_fail(err, r, "out of memory") : wf_own_files_refuse(&own, paths[i], err);
	}
	wf_own_files_free(&own);
	return r;
}

/* The index last: who finds it finds all of them. Where files of an older set go, which its index would mix with new ones, that index goes
 * first. */
static int give_names(struct wf_new_file *files, uint32_t count, struct wf_error *err)
{
	bool renamed, replaces = false;
	int r = 0;
	for (uint32_t i = 0; i < count; i++)
		replaces |= access(files[i].target, F_OK) == 0;
	if (replaces && unlink(files[count].target) < 0 && errno != ENOENT)
		return wf_fail(err, -errno, "cannot replace %s: %s", files[count].target, strerror(errno));
	for (uint32_t i = 0; i <= count && r == 0; i++)
		r = wf_new_file_rename(&files[i], &renamed, err);
	return r;
}

/* All of them, or none: nothing has its name before everything is on the disk. paths: of the files, and behind them of the index. */
static int write_shards(struct wf_checkpoint *ck, const struct wf_flat *f, const struct shards *s,
			const struct wf_export *x, const char *path, char *const *paths, struct wf_error *err)
{
	struct wf_new_file *files = malloc(((size_t)s->count + 1) * sizeof *files);
	if (!files)
		return wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i <= s->count; i++)
		files[i] = (struct wf_new_file)WF_NEW_FILE_INIT;
	int r = 0;
	for (uint32_t i = 0; i < s->count && r == 0; i++)
		r = compose_and_write(ck, f, s, i, x, paths[i], &files[i], err);
	if (r == 0)
		r = write_index(f, s, x, path, paths[s->count], &files[s->count], err);
	if (r == 0)
		r = give_names(files, s->count, err);
	for (uint32_t i = 0; i <= s->count; i++)
		wf_new_file_free(&files[i]);
	free(files);
	return r;
}

int wf_export_safetensors(struct wf_checkpoint *ck, const struct wf_flat *f, const struct wf_export *x,
			  const char *path, struct wf_error *err)
{
	struct shards s = {0};
	cleanup_free uint32_t *file_of = s.file_of = calloc((size_t)f->count + 1, sizeof *file_of);
	if (!file_of)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (x->max_shard_bytes > 0)
		split(f, x->max_shard_bytes, &s);
	if (s.count < 2)
		return compose_and_write(ck, f, NULL, 0, x, path, NULL, err);
	char **paths = calloc((size_t)s.count + 1, sizeof *paths);
	int r = paths ? shard_paths(ck, path, s.count, paths, err) : wf_fail(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = write_shards(ck, f, &s, x, path, paths, err);
	for (uint32_t i = 0; paths && i <= s.count; i++)
		free(paths[i]);
	free(paths);
	return r;
}
