/* SPDX-License-Identifier: MIT */
/* Which key goes into which shard, and which shards have to be written.
 *
 * A key stays in the shard that holds its bytes, whatever it is called, unless a user named another; what has no bytes in a shard stays where its name was, and else
 * goes to the shard of the key before it. A shard changed when its keys, in their order, and what the pickle would say of their values are
 * not what a fresh look at the checkpoint finds, or when bytes of its storages were written.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/json.h"
#include "codec/bytes/util.h"
#include "codec/commit/shards_inner.h"
#include "codec/pickle/pickle.h"
#include "codec/tensor/tensor.h"

/* ---- which shard ---- */

static uint32_t storage_of(const struct wf_checkpoint *ck, wf_ref value)
{
	return wf_tensor_storage(ck->graph, ck->storages, value);
}

struct assignment {
	struct wf_commit_run *c;
	const struct wf_item *items;
	uint32_t n;
	uint32_t *by_storage; /* the shard of a storage, + 1 */
};

static uint32_t shard_by_bytes(const struct assignment *a, uint32_t storage)
{
	const struct wf_checkpoint *ck = a->c->ck;
	if (storage == WF_NO_STORAGE)
		return WF_NO_RECORD;
	if (a->by_storage[storage])
		return a->by_storage[storage] - 1;
	uint32_t record = wf_storage_get(ck->storages, storage)->record;
	return record == WF_NO_RECORD ? WF_NO_RECORD : wf_huggingface_shard_of(ck->container, record);
}

static uint32_t shard_by_name(const struct assignment *a, wf_ref key)
{
	size_t len;
	const struct wf_checkpoint *ck = a->c->ck;
	const char *name = wf_is(ck->graph, key, WF_STR) ? wf_bytes(ck->graph, key, &len) : NULL;
	const uint64_t *file = name ? wf_key_map_get(&wf_huggingface_index(ck->container)->keys, name, len) : NULL;
	/* what stands under the name of a tensor of a shard that cannot be read, and has its bytes elsewhere, is new */
	return file && !wf_huggingface_shard(ck->container, (uint32_t)*file)->bad ? (uint32_t)*file : WF_NO_RECORD;
}

static void assign(const struct assignment *a, uint32_t i, uint32_t shard)
{
	uint32_t storage = storage_of(a->c->ck, a->items[i].value);
	a->c->set->shard_of[i] = shard;
	if (storage != WF_NO_STORAGE && !a->by_storage[storage])
		a->by_storage[storage] = shard + 1;
}

static bool takes_more(const struct wf_shard_set *s, uint32_t shard)
{
	return shard < s->count && !(s->all[shard].old && s->all[shard].old->bad);
}

/* A value that the bytes of a missing shard do not stand for stays as unknown as it was: its storage is that shard's. */
static void assign_all(const struct assignment *a)
{
	struct wf_shard_set *s = a->c->set;
	uint32_t before = WF_NO_RECORD, first = WF_NO_RECORD;
	for (uint32_t i = 0; i < a->n; i++) {
		s->shard_of[i] = WF_NO_RECORD;
		if (a->items[i].key == WF_NIL)
			continue;
		uint32_t shard = shard_by_bytes(a, storage_of(a->c->ck, a->items[i].value));
		if (shard == WF_NO_RECORD)
			shard = shard_by_name(a, a->items[i].key);
		if (shard == WF_NO_RECORD)
			continue;
		assign(a, i, shard);
		if (first == WF_NO_RECORD && takes_more(s, shard))
			first = shard;
	}
	for (uint32_t i = 0; i < a->n; i++) {
		if (a->items[i].key == WF_NIL)
			continue;
		if (s->shard_of[i] == WF_NO_RECORD) {
			uint32_t shard = shard_by_bytes(a, storage_of(a->c->ck, a->items[i].value));
			/* the last one is new: where no old one takes it */
			assign(a, i,
			       shard != WF_NO_RECORD    ? shard
			       : before != WF_NO_RECORD ? before
			       : first != WF_NO_RECORD  ? first
							: s->unnamed);
		}
		if (takes_more(s, s->shard_of[i]))
			before = s->shard_of[i];
	}
}

static int fill(const struct assignment *a)
{
	struct wf_graph *g = a->c->ck->graph;
	struct wf_shard_set *s = a->c->set;
	/* making a dict may move the items of the root */
	wf_ref root = wf_tree_root(a->c->ck->tree);
	for (uint32_t i = 0; i < a->n; i++) {
		uint32_t ignored;
		struct wf_item item = wf_items(g, root, &ignored)[i];
		if (item.key == WF_NIL)
			continue;
		struct wf_shard_plan *p = &s->all[s->shard_of[i]];
		if (p->keys == WF_NIL)
			p->keys = wf_dict(g);
		if (p->keys == WF_NIL || wf_dict_append(g, p->keys, item.key, item.value) < 0)
			return wf_commit_no_memory(a->c);
	}
	return 0;
}

static int find_shards(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	struct assignment a = {.c = c};
	wf_ref root = wf_tree_root(ck->tree);
	if (!wf_is(ck->graph, root, WF_DICT))
		return wf_fail(c->err, -EOPNOTSUPP, "a checkpoint in several files is a mapping from names to tensors");
	a.items = wf_items(ck->graph, root, &a.n);
	cleanup_free uint32_t *by_storage = calloc((size_t)wf_storages_count(ck->storages) + 1, sizeof *by_storage);
	c->set->shard_of = calloc((size_t)a.n + 1, sizeof *c->set->shard_of);
	if (!by_storage || !c->set->shard_of)
		return wf_commit_no_memory(c);
	a.by_storage = by_storage;
	int r = wf_shards_ask(c, by_storage);
	if (r < 0)
		return r;
	assign_all(&a);
	return fill(&a);
}

/* ---- which of them changed ---- */

/* Ids of storages by their records, so that they are the same whichever keys a commit has left in the graph. */
struct look {
	struct wf_graph *graph;
	const struct wf_storages *storages;
	const struct wf_container *container;
	bool *live;       /* NULL: not wanted */
	bool safetensors; /* the shard that is looked at, which says of no storage where it was */
	wf_ref cpu;       /* what its reader says of all; WF_NIL: not made yet */
	bool dirty;
	uint64_t hash;
};

static wf_ref stable_id(void *ctx, wf_ref persid, wf_ref id)
{
	struct look *l = ctx;
	uint32_t i = wf_storage_of(l->storages, persid), n;
	const struct wf_storage *s = wf_storage_get(l->storages, i);
	const wf_ref *e = wf_elements(l->graph, id, &n);
	wf_ref copy[6];
	if (!s)
		return id;
	if (l->live)
		l->live[i] = true;
	const struct wf_record *record = wf_container_record(l->container, s->record);
	l->dirty |= !record || s->resized || wf_extents_bytes(s->dirty) > 0;
	if (!record || n < 5 || n > WF_ARRAY_SIZE(copy))
		return id;
	bool moved = l->safetensors && !wf_str_equal(l->graph, e[3], "cpu"); /* by map_location */
	if (!moved && wf_str_equal(l->graph, e[2], record->name + strlen("storage/")))
		return id;
	memcpy(copy, e, n * sizeof *e);
	copy[2] = wf_str(l->graph, record->name + strlen("storage/"));
	if (moved && l->cpu == WF_NIL)
		l->cpu = wf_str(l->graph, "cpu");
	if (moved)
		copy[3] = l->cpu;
	wf_ref own = copy[2] != WF_NIL && copy[3] != WF_NIL ? wf_tuple(l->graph, copy, n) : WF_NIL;
	return own != WF_NIL ? own : id;
}

static int add_to_hash(void *ctx, const void *data, size_t len)
{
	struct look *l = ctx;
	l->hash = wf_hash_bytes(data, len, l->hash) + len;
	return 0;
}

static int look_at(struct look *l, wf_ref keys, struct wf_error *err)
{
	const struct wf_pickle_writer hooks = {.persid = stable_id, .write = add_to_hash, .ctx = l};
	l->hash = 0;
	l->dirty = false;
	return keys == WF_NIL ? 0 : wf_pickle_write(l->graph, keys, &hooks, err);
}

static int look_at_live(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	struct wf_shard_set *s = c->set;
	struct look l = {ck->graph, ck->storages, ck->container, s->live};
	int r = 0;
	for (uint32_t k = 0; k < s->count && r == 0; k++) {
		l.safetensors = s->all[k].old && s->all[k].old->safetensors;
		r = look_at(&l, s->all[k].keys, c->err);
		s->all[k].hash = l.hash;
		s->all[k].dirty = l.dirty;
	}
	return r;
}

/* Nothing of a shard that cannot be read can be written to another file: keys of it can go, for which the index is enough. */
static int check_unread(struct wf_commit_run *c, struct look *l, struct wf_shard_plan *p, wf_ref base)
{
	wf_ref left;
	if (!p->touched || !p->old || !p->old->bad || p->keys == WF_NIL)
		return 0;
	int r = wf_shards_leave_out(c, p, l->graph, base, &left);
	if (r == 0)
		r = look_at(l, left, c->err);
	p->touched = r < 0 || p->dirty || c->whole || p->hash != l->hash;
	return r < 0 || !p->touched
		       ? r
		       : wf_fail(c->err, -EIO,
				 "%.250s, and would have to be written again: what it holds can be removed, and not renamed or changed",
				 p->old->why);
}

/* The keys of each shard as the index and the files have them now. */
static int compare(struct wf_commit_run *c, struct look *l, wf_ref root)
{
	struct wf_shard_set *s = c->set;
	const struct wf_index *x = wf_huggingface_index(s->fresh);
	uint32_t n;
	wf_items(l->graph, root, &n);
	cleanup_free wf_ref *dicts = calloc(s->count, sizeof *dicts);
	if (!dicts || n != x->keys.count)
		return wf_commit_no_memory(c);
	for (uint32_t i = 0; i < n; i++) {
		struct wf_item item = wf_items(l->graph, root, &n)[i];
		wf_ref *dict = &dicts[x->keys.keys[i].value];
		if (*dict == WF_NIL)
			*dict = wf_dict(l->graph);
		if (*dict == WF_NIL || wf_dict_append(l->graph, *dict, item.key, item.value) < 0)
			return wf_commit_no_memory(c);
	}
	for (uint32_t k = 0; k < s->count; k++) {
		struct wf_shard_plan *p = &s->all[k];
		l->safetensors = p->old && p->old->safetensors;
		int r = look_at(l, dicts[k], c->err);
		if (r < 0)
			return r;
		p->touched = (p->keys != WF_NIL || dicts[k] != WF_NIL) && (p->dirty || p->hash != l->hash || c->whole);
		r = check_unread(c, l, p, dicts[k]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int look_at_base(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	struct wf_graph *g = NULL;
	struct wf_storages *ss = NULL;
	wf_ref root;
	int r = wf_directory_open(&ck->place, ck->file, &c->set->fresh, c->err);
	if (r == 0 && (r = wf_graph_new(&g)) < 0)
		wf_commit_no_memory(c);
	if (r == 0)
		r = wf_container_load_graph(c->set->fresh, g, &root, c->err);
	if (r == 0)
		r = wf_storages_new(g, c->set->fresh, &ss, c->err);
	cleanup_free bool *live = r == 0 ? calloc((size_t)wf_storages_count(ss) + 1, sizeof *live) : NULL;
	struct look l = {g, ss, c->set->fresh, live};
	if (r == 0 && !live)
		r = wf_commit_no_memory(c);
	if (r == 0)
		r = compare(c, &l, root);
	if (r == 0)
		r = wf_shards_count(c, g, ss, root, live);
	wf_storages_free(ss);
	wf_graph_free(g);
	return r;
}

/* ---- names and plans ---- */

static bool is_taken(const struct wf_commit_run *c, const char *name)
{
	const struct wf_shard_set *s = c->set;
	cleanup_free char *path = NULL;
	for (uint32_t i = 0; i < s->count; i++)
		if ((s->all[i].name && !strcmp(s->all[i].name, name)) ||
		    (s->all[i].asked && !strcmp(s->all[i].asked, name)))
			return true;
	return wf_huggingface_shard_named(c->ck->container, name) != WF_NO_RECORD ||
	       asprintf(&path, "%s/%s", s->home, name) < 0 || access(path, F_OK) == 0 || errno != ENOENT;
}

/* STEM.wN.EXT, with a larger number than the old name has, the first that no file has and no other shard gets: who reads the old index
 * meanwhile never meets another file under a name in it. */
static char *new_name(const struct wf_commit_run *c, const char *old)
{
	const char *end;
	size_t stem = wf_huggingface_stem(old, &end);
	uint64_t number = old + stem < end && end - old - stem < 12 ? strtoull(old + stem + 2, NULL, 10) : 0;
	for (uint64_t n = number + 1; n < number + 1000000; n++) {
		char *name = NULL;
		if (asprintf(&name, "%.*s.w%" PRIu64 "%s", (int)stem, old, n, end) < 0)
			return NULL;
		if (!is_taken(c, name))
			return name;
		free(name);
	}
	return NULL;
}

/* The root of a file of torch.save is the object that it was, an OrderedDict with its _metadata, with other items. */
static wf_ref root_of(struct wf_commit_run *c, const struct wf_shard_plan *p)
{
	struct wf_graph *g = c->ck->graph;
	wf_ref root = p->old ? p->old->root : WF_NIL, dict = wf_is(g, root, WF_DICT) ? root : wf_call_dict(g, root);
	uint32_t n;
	if (root == WF_NIL)
		return p->keys;
	if (dict == WF_NIL)
		dict = wf_dict_target(g, root);
	wf_items(g, dict, &n);
	for (uint32_t i = 0; i < n; i++)
		wf_dict_set_at(g, dict, i, WF_NIL, WF_NIL);
	wf_dict_compact(g, dict);
	wf_items(g, p->keys, &n);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t ignored;
		struct wf_item item = wf_items(g, p->keys, &ignored)[i];
		if (wf_dict_append(g, dict, item.key, item.value) < 0)
			return WF_NIL;
	}
	return root;
}

/* A new one has what the first of the others has ({"format": "pt"}, without which some readers refuse a file). */
wf_ref wf_shards_metadata(const struct wf_shard_set *s, const struct wf_shard_plan *p)
{
	if (p->old)
		return p->old->metadata;
	for (uint32_t i = 0; i < s->unnamed; i++)
		if (s->all[i].old->metadata != WF_NIL)
			return s->all[i].old->metadata;
	return WF_NIL;
}

static int plan_shard(struct wf_commit_run *c, struct wf_shard_plan *p)
{
	struct wf_checkpoint *ck = c->ck;
	const char *index = strrchr(ck->place.main, '/') + 1;
	bool safetensors = p->old     ? p->old->safetensors
			   : p->asked ? wf_before_end(p->asked, ".safetensors") > 0
				      : wf_index_is_safetensors_name(index);
	struct wf_commit_input in = {.graph = ck->graph,
				     .storages = ck->storages,
				     .container = ck->container,
				     .root = safetensors ? p->keys : root_of(c, p),
				     .metadata = safetensors ? wf_shards_metadata(c->set, p) : WF_NIL,
				     .shard = safetensors ? WF_SHARD_SAFETENSORS : WF_SHARD_ARCHIVE,
				     .shard_header_bytes = p->old ? p->old->header_bytes : 0,
				     .canonical = c->whole,
				     .alignment = c->alignment,
				     .types_changed = true};
	if (in.root == WF_NIL)
		return wf_commit_no_memory(c);
	p->name = p->asked ? strdup(p->asked)
			   : new_name(c, p->old        ? p->old->name
					 : safetensors ? "model.safetensors"
						       : "pytorch_model.bin");
	if (!p->name)
		return wf_commit_no_memory(c);
	int r = wf_plan_make(&p->plan, &in, false, c->err);
	p->planned = r == 0;
	if (r < 0) {
		wf_error_where(c->err, p->old ? p->old->name : p->name);
		return r;
	}
	/* tables by storage, of which there is one a shard: what is needed of them goes on */
	free(steal_pointer(&p->plan.live));
	uint32_t *order = reallocarray(p->plan.order, WF_MAX(p->plan.order_count, 1u), sizeof *order);
	p->plan.order = order ? order : p->plan.order;
	return 0;
}

/* ---- the whole ---- */

static int make_set(struct wf_commit_run *c)
{
	struct wf_checkpoint *ck = c->ck;
	uint32_t shards = wf_huggingface_shards(ck->container);
	c->set = calloc(1, sizeof *c->set);
	if (!c->set)
		return wf_commit_no_memory(c);
	c->set->home_fd = -1;
	c->set->all = calloc((size_t)shards + 1, sizeof *c->set->all);
	c->set->live = calloc((size_t)wf_storages_count(ck->storages) + 1, sizeof *c->set->live);
	const char *to = wf_commit_place(ck)->main;
	c->set->home = strndup(to, (size_t)(strrchr(to, '/') - to));
	if (!c->set->all || !c->set->live || !c->set->home)
		return wf_commit_no_memory(c);
	c->set->count = shards + 1;
	c->set->unnamed = shards;
	for (uint32_t i = 0; i <= shards; i++) {
		c->set->all[i].file = (struct wf_new_file)WF_NEW_FILE_INIT;
		c->set->all[i].number = i < shards ? i : WF_NO_RECORD;
		c->set->all[i].old = i < shards ? wf_huggingface_shard(ck->container, i) : NULL;
	}
	return 0;
}

int wf_shards_plan(struct wf_commit_run *c)
{
	int r = c->windows
			? wf_fail(c->err, -EOPNOTSUPP,
				  "of a checkpoint in several files storages are not cut: --trim is for one file, which wfctl "
				  "export writes")
			: make_set(c);
	if (r == 0)
		r = find_shards(c);
	if (r == 0)
		r = look_at_live(c);
	if (r == 0)
		r = look_at_base(c);
	for (uint32_t i = 0; r == 0 && i < c->set->count; i++)
		if (c->set->all[i].touched && c->set->all[i].keys != WF_NIL)
			r = plan_shard(c, &c->set->all[i]);
	return r == 0 ? wf_shards_make_index(c) : r;
}
