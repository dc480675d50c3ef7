/* SPDX-License-Identifier: MIT */
/* The files of a commit that goes to several: shards under new names, durable and read again before the index that names them is. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "codec/bytes/io.h"
#include "codec/bytes/json.h"
#include "codec/bytes/util.h"
#include "codec/commit/beside.h"
#include "codec/commit/leftovers.h"
#include "codec/commit/shards_inner.h"
#include "codec/directory/dcp_entries.h"

/* ---- writing ---- */

/* Whoever comes after a crash looks at these. */
static int note_files(struct wf_commit_run *c)
{
	struct wf_buffer names = WF_BUFFER_INIT;
	for (uint32_t i = 0; i < c->set->count; i++) {
		const struct wf_shard_plan *p = &c->set->all[i];
		if (p->name)
			wf_buffer_append(&names, p->name, strlen(p->name) + 1);
		if (p->touched && p->old && !p->old->bad) /* nobody knows what is in that */
			wf_buffer_append(&names, p->old->name, strlen(p->old->name) + 1);
	}
	c->set->noted = names.len > 0;
	int r = c->set->noted || names.failed ? wf_commit_note_files(c, &names) : 0;
	wf_buffer_free(&names);
	return r;
}

static int make_file(struct wf_commit_run *c, struct wf_shard_plan *p, int like)
{
	cleanup_free char *path = NULL;
	if (asprintf(&path, "%s/%s", c->set->home, p->name) < 0) {
		path = NULL;
		return wf_commit_no_memory(c);
	}
	int r = wf_new_file_make(&p->file, path, c->set->home_fd, c->err);
	return r < 0 ? r : wf_new_file_dress(&p->file, like, c->err);
}

static int put_shard(struct wf_commit_run *c, struct wf_shard_plan *p, int old_fd)
{
	struct wf_out o;
	uint64_t bytes;
	int r = wf_out_init(&o, p->file.fd, 0, &c->ck->progress.done_bytes);
	if (r < 0)
		return wf_commit_no_memory(c);
	wf_out_probe_clone(&o, old_fd);
	r = wf_commit_reserve(&p->plan, true, old_fd, &o, &bytes);
	if (r < 0)
		wf_fail(c->err, r, "there is no room for %s: %s", p->name, strerror(-r));
	if (r == 0)
		r = p->plan.safetensors ? wf_replace_safetensors(&p->plan, &o, c->err)
					: wf_replace_zip(&p->plan, &o, c->err);
	wf_out_free(&o);
	if (r == 0 && fsync(p->file.fd) < 0)
		r = wf_fail(c->err, -errno, "cannot make %s durable: %s", p->name, strerror(errno));
	return r;
}

/* scratch: by storage, all WF_NO_RECORD, and so again on return. */
static int check_shard(struct wf_commit_run *c, struct wf_shard_plan *p, uint32_t *scratch)
{
	struct wf_container *written = NULL;
	cleanup_with(wf_source_unrefp) struct wf_source *source = NULL;
	cleanup_fd int fd = wf_new_file_reopen(&p->file);
	p->records = calloc((size_t)p->plan.count + 1, sizeof *p->records);
	if (!p->records)
		return wf_commit_no_memory(c);
	int r = fd < 0 ? wf_fail(c->err, fd, "cannot open %s, which was written: %s", p->name, strerror(-fd))
		       : wf_source_from_fd(fd, &source, c->err);
	if (r < 0)
		return r;
	steal_fd(&fd);
	r = wf_container_open(source, &written, c->err);
	if (r == 0)
		r = wf_commit_check(&p->plan, written, scratch, c->err);
	wf_container_free(written);
	for (uint32_t i = 0; i < p->plan.count && r == 0; i++) {
		uint32_t storage = p->plan.parts[i].storage;
		p->records[i] = storage == WF_NO_STORAGE ? WF_NO_RECORD : scratch[storage];
		if (storage != WF_NO_STORAGE)
			scratch[storage] = WF_NO_RECORD;
	}
	return r;
}

/* Written, durable, and read again; no descriptor of it stays open, since there may be thousands. */
static int write_shard(struct wf_commit_run *c, struct wf_shard_plan *p, uint32_t *scratch)
{
	cleanup_with(wf_file_run_end) struct wf_file_run old = WF_FILE_RUN_INIT;
	struct wf_source *file = wf_container_file(c->ck->container);
	if ((!p->old || !wf_source_locate(file, p->old->start, &old)) && !wf_source_locate(file, 0, &old))
		return wf_fail(c->err, -EIO, "the files of the checkpoint cannot be opened");
	int r = make_file(c, p, old.fd);
	if (r == 0)
		r = put_shard(c, p, old.fd);
	if (r == 0)
		r = check_shard(c, p, scratch);
	if (p->file.fd >= 0)
		close(steal_fd(&p->file.fd));
	return r;
}

static int write_index(struct wf_commit_run *c, int fd)
{
	int r = wf_pwrite_all(fd, c->set->index.data, c->set->index.len, 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		return wf_fail(c->err, r, "cannot write the new index: %s", strerror(-r));
	/* the names of the shards, before anything names them */
	cleanup_fd int home = wf_overlay_open_home(c->ck->overlay);
	r = home < 0 ? home : wf_sync_directory(home);
	return r < 0 ? wf_fail(c->err, r, "cannot make the new files durable: %s", strerror(-r)) : 0;
}

int wf_shards_write(struct wf_commit_run *c, int fd)
{
	struct wf_commit_progress *progress = &c->ck->progress;
	uint64_t total = 0;
	for (uint32_t i = 0; i < c->set->count; i++)
		total += c->set->all[i].planned ? c->set->all[i].plan.kept_bytes + c->set->all[i].plan.new_bytes : 0;
	atomic_store(&progress->done_bytes, 0);
	atomic_store(&progress->total_bytes, total);
	uint32_t n = wf_storages_count(c->ck->storages);
	cleanup_free uint32_t *scratch = malloc(((size_t)n + 1) * sizeof *scratch);
	if (!scratch)
		return wf_commit_no_memory(c);
	memset(scratch, 0xff, n * sizeof *scratch);
	c->set->home_fd = wf_overlay_open_home(c->ck->overlay);
	if (c->set->home_fd < 0)
		return wf_fail(c->err, c->set->home_fd, "%s: %s", c->set->home, strerror(-c->set->home_fd));
	int r = c->ck->output_set.main ? 0 : note_files(c);
	for (uint32_t i = 0; i < c->set->count && r == 0; i++)
		if (c->set->all[i].planned)
			r = write_shard(c, &c->set->all[i], scratch);
	return r == 0 ? write_index(c, fd) : r;
}

/* ---- checking ---- */

/* The new index is read with all that it names. */
static int open_whole(struct wf_commit_run *c)
{
	struct wf_graph *g = NULL;
	wf_ref root;
	int r = wf_directory_open(wf_commit_place(c->ck), c->source, &c->container, c->err);
	if (r == 0 && (r = wf_graph_new(&g)) < 0)
		wf_commit_no_memory(c);
	if (r == 0)
		r = wf_container_load_graph(c->container, g, &root, c->err);
	wf_graph_free(g);
	return r;
}

static int find_shards(struct wf_commit_run *c)
{
	for (uint32_t k = 0; k < c->set->count; k++) {
		struct wf_shard_plan *p = &c->set->all[k];
		p->now = WF_NO_RECORD;
		if (p->keys == WF_NIL)
			continue;
		p->now = wf_huggingface_shard_named(c->container, p->name ? p->name : p->old->name);
		const struct wf_shard *shard =
			p->now != WF_NO_RECORD ? wf_huggingface_shard(c->container, p->now) : NULL;
		if (!shard || (p->planned && (shard->bad || shard->record_count < p->plan.count)))
			return wf_fail(c->err, -EUCLEAN, "what was just written is wrong: %s cannot be read",
				       p->name ? p->name : p->old->name);
		if (!p->planned && !shard->bad != !p->old->bad)
			return wf_fail(c->err, -ESTALE, "%s was changed by someone else", p->old->name);
	}
	return 0;
}

/* Of a shard that cannot be read, each key has a record that says so; they stand in the order of the index. */
static int find_unread_records(struct wf_commit_run *c, uint32_t *new_of)
{
	uint32_t shards = wf_huggingface_shards(c->container), count = wf_container_count(c->container), n;
	cleanup_free uint32_t *first = malloc(((size_t)shards + 1) * sizeof *first);
	cleanup_free uint32_t *next = malloc(((size_t)count + 1) * sizeof *next);
	if (!first || !next)
		return wf_commit_no_memory(c);
	memset(first, 0xff, shards * sizeof *first);
	for (uint32_t i = count; i-- > 0;) {
		uint32_t shard = wf_huggingface_shard_of(c->container, i);
		next[i] = first[shard];
		first[shard] = i;
	}
	memset(new_of, 0xff, wf_container_count(c->ck->container) * sizeof *new_of);
	const struct wf_item *items = wf_items(c->ck->graph, wf_tree_root(c->ck->tree), &n);
	for (uint32_t i = 0; i < n; i++) {
		const struct wf_shard_plan *p = &c->set->all[c->set->shard_of[i]];
		if (items[i].key == WF_NIL || !p->old || !p->old->bad || p->now == WF_NO_RECORD ||
		    first[p->now] == WF_NO_RECORD)
			continue;
		uint32_t storage = wf_tensor_storage(c->ck->graph, c->ck->storages, items[i].value);
		uint32_t was =
			storage == WF_NO_STORAGE ? WF_NO_RECORD : wf_storage_get(c->ck->storages, storage)->record;
		if (was != WF_NO_RECORD)
			new_of[was] = first[p->now];
		first[p->now] = next[first[p->now]];
	}
	return 0;
}

/* Records of the new whole: of shards that stayed, by those of the old whole; of others, by those of their files. */
static int find_records(struct wf_commit_run *c)
{
	cleanup_free uint32_t *unread = malloc(((size_t)wf_container_count(c->ck->container) + 1) * sizeof *unread);
	int r = unread ? find_unread_records(c, unread) : wf_commit_no_memory(c);
	if (r < 0)
		return r;
	const struct wf_checkpoint *ck = c->ck;
	for (uint32_t i = 0; i < wf_storages_count(ck->storages); i++) {
		uint32_t was = wf_storage_get(ck->storages, i)->record;
		const struct wf_shard_plan *p =
			was == WF_NO_RECORD ? NULL : &c->set->all[wf_huggingface_shard_of(ck->container, was)];
		if (!p || p->planned || p->now == WF_NO_RECORD)
			continue;
		c->records[i] = p->old->bad ? unread[was]
					    : wf_huggingface_shard(c->container, p->now)->first_record +
						      (was - p->old->first_record);
	}
	for (uint32_t k = 0; k < c->set->count; k++) {
		const struct wf_shard_plan *p = &c->set->all[k];
		for (uint32_t i = 0; p->planned && i < p->plan.count; i++)
			if (p->records[i] != WF_NO_RECORD)
				c->records[p->plan.parts[i].storage] =
					wf_huggingface_record(c->container, p->now, p->records[i]);
	}
	return 0;
}

int wf_shards_reopen(struct wf_commit_run *c)
{
	int r = open_whole(c);
	if (r == 0)
		r = find_shards(c);
	return r == 0 ? find_records(c) : r;
}

/* ---- afterwards ---- */

void wf_shards_adopt(struct wf_commit_run *c)
{
	for (uint32_t k = 0; k < c->set->count; k++) {
		struct wf_shard_plan *p = &c->set->all[k];
		/* the ids that were written have the keys of a file by itself; what else the graph has now was written */
		p->plan.moved_count = p->plan.call_count = 0;
		if (p->now == WF_NO_RECORD)
			continue;
		wf_ref root = p->old ? p->old->root : WF_NIL;
		if (!wf_huggingface_shard(c->container, p->now)->safetensors && root == WF_NIL)
			root = p->keys;
		wf_huggingface_adopt(c->container, p->now, root, wf_shards_metadata(c->set, p));
	}
}

/* Each storage's id says the key of its record: what user.torch.storage shows, and what the next opening reads. */
void wf_shards_adopted(struct wf_commit_run *c)
{
	struct wf_graph *g = c->ck->graph;
	for (uint32_t i = 0; i < wf_storages_count(c->ck->storages); i++) {
		const struct wf_storage *s = wf_storage_get(c->ck->storages, i);
		const struct wf_record *record = wf_container_record(c->container, s->record);
		wf_ref copy[6];
		uint32_t n;
		const wf_ref *e = record && s->persid != WF_NIL ? wf_elements(g, wf_persid_id(g, s->persid), &n) : NULL;
		if (!e || n < 5 || n > WF_ARRAY_SIZE(copy) ||
		    strncmp(record->name, "storage/", strlen("storage/")) != 0)
			continue;
		memcpy(copy, e, n * sizeof *e);
		copy[2] = wf_str(g, record->name + strlen("storage/"));
		wf_ref id = copy[2] == WF_NIL ? WF_NIL : wf_tuple(g, copy, n);
		if (id != WF_NIL) /* without memory an attribute shows the old key */
			wf_persid_set_id(g, s->persid, id);
	}
	wf_shards_stay(c);
}

void wf_shards_stay(struct wf_commit_run *c)
{
	for (uint32_t k = 0; k < c->set->count; k++)
		wf_new_file_stay(&c->set->all[k].file);
}

/* ---- leftovers ---- */

/* The texts of the other indices in the directory, which may name the same files. -EFBIG: more than is looked through. */
static int read_others(int home, const char *own, struct wf_buffer *ret)
{
	int list = openat(home, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = list < 0 ? NULL : fdopendir(list);
	int r = d ? 0 : -errno;
	if (!d && list >= 0)
		close(list);
	for (const struct dirent *e; r == 0 && (e = readdir(d));) {
		struct stat st;
		if (!wf_index_is_name(e->d_name) || e->d_name[0] == '.' || !strcmp(e->d_name, own))
			continue;
		cleanup_fd int fd = openat(home, e->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (st.st_size > WF_INDEX_MAX_BYTES || ret->len > WF_INDEX_MAX_BYTES) {
			r = -EFBIG;
			break;
		}
		size_t got = 0;
		cleanup_free char *text = malloc((size_t)st.st_size + 1);
		r = text ? wf_pread_most(fd, text, (size_t)st.st_size, 0, &got) : -ENOMEM;
		if (r == 0)
			wf_buffer_append(ret, text, got);
	}
	if (d)
		closedir(d);
	return r < 0 ? r : wf_buffer_status(ret);
}

static bool names(const struct wf_buffer *text, const char *name)
{
	struct wf_buffer quoted = WF_BUFFER_INIT;
	wf_json_string(&quoted, name, strlen(name));
	bool found = quoted.failed || (text->len > 0 && memmem(text->data, text->len, quoted.data, quoted.len));
	wf_buffer_free(&quoted);
	return found;
}

bool wf_commit_belongs(const struct wf_container *c, const char *name)
{
	return wf_container_kind_of(c) == WF_CONTAINER_DCP
		       ? wf_dcp_has_file(c, name)
		       : wf_is_beside(name) || wf_huggingface_shard_named(c, name) != WF_NO_RECORD;
}

static int remove_file(struct wf_checkpoint *ck, int home, const char *name, const struct wf_buffer *others)
{
	if (!*name || strchr(name, '/') || !strcmp(name, strrchr(ck->place.main, '/') + 1) ||
	    wf_commit_belongs(ck->container, name))
		return 0;
	if (names(others, name)) {
		wf_log_line(&ck->log, "%s stays, for another index names it", name);
		return 0;
	}
	if (unlinkat(home, name, 0) == 0 || errno == ENOENT)
		return 0;
	int r = -errno;
	wf_log_line(&ck->log, "%s is no part of the checkpoint any more and cannot be removed: %s", name, strerror(-r));
	return r;
}

int wf_shards_remove_unnamed(struct wf_checkpoint *ck)
{
	struct wf_buffer noted = WF_BUFFER_INIT, others = WF_BUFFER_INIT;
	int r = wf_overlay_noted_files(ck->overlay, &noted);
	cleanup_fd int home = r == 0 ? wf_overlay_open_home(ck->overlay) : -1;
	if (r == 0)
		r = home < 0 ? home : read_others(home, strrchr(ck->place.main, '/') + 1, &others);
	int left = 0; /* what could not be removed is tried again by the next writer */
	for (const char *name = noted.data; r == 0 && name < noted.data + noted.len; name += strlen(name) + 1)
		left = WF_MIN(remove_file(ck, home, name, &others), left);
	if (r == 0 && left == 0)
		r = wf_overlay_forget_noted(ck->overlay);
	wf_buffer_free(&noted);
	wf_buffer_free(&others);
	return r == -ENOENT ? 0 : r;
}

void wf_shards_clear(struct wf_commit_run *c)
{
	int r = wf_shards_remove_unnamed(c->ck);
	if (r < 0)
		wf_log_line(&c->ck->log, "files that the checkpoint does not name any more may be left beside it: %s",
			    strerror(-r));
}

void wf_shards_free(struct wf_commit_run *c, bool failed)
{
	struct wf_shard_set *s = c->set;
	for (uint32_t k = 0; s->all && k < s->count; k++) {
		struct wf_shard_plan *p = &s->all[k];
		if (p->file.path) /* the index does not name it */
			unlinkat(s->home_fd, p->name, 0);
		wf_new_file_stay(&p->file);
		p->file.home = -1;
		wf_new_file_free(&p->file);
		if (p->planned && failed)
			wf_plan_undo(&p->plan);
		if (p->planned)
			wf_plan_free(&p->plan);
		free(p->records);
		free(p->name);
		free(p->asked);
	}
	if (failed && s->noted)
		wf_overlay_forget_noted(c->ck->overlay);
	if (s->home_fd >= 0)
		close(s->home_fd);
	wf_container_free(s->fresh);
	wf_buffer_free(&s->index);
	wf_key_map_free(&s->removed);
	free(s->all);
	free(s->live);
	free(s->shard_of);
	free(s->home);
	free(s);
	c->set = NULL;
}
