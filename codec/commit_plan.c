/* The plan of a commit: which records the new file has, under which names, and what the pickle will say.
 *
 * The pickle is written once without a place to go: that tells which storages it names, in which order, and how long it
 * is, before the first byte of the file exists. Small ones are kept from that pass.
 */
#include "commit.h"

#include <errno.h>
#include <stdio.h>

#include "crc32.h"
#include "dtype.h"
#include "pickle.h"
#include "tensor.h"
#include "util.h"

#define KEPT_PICKLE_BYTES (8u << 20)
#define MAX_ALIGNMENT 32768u /* the padding field has 16 bits for its length */

/* ---- array data inside the pickle ---- */

/* The bytes of a storage inside the pickle as a new string of the kind of the old one. */
static int make_string(struct wf_plan *p, uint32_t i, wf_ref *ret, struct wf_error *err)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, i);
	enum wf_kind kind = wf_kind_of(p->in.graph, s->data);
	if (s->size_bytes > WF_GRAPH_MAX_BYTES / 4)
		return wf_fail(err, -E2BIG, "an array of %llu bytes inside the pickle is too large to be changed",
			       (unsigned long long)s->size_bytes);
	size_t n = (size_t)s->size_bytes, m = 0;
	cleanup_free unsigned char *bytes = malloc(n + 1), *text = NULL;
	if (!bytes)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_storage_read(p->in.storages, i, 0, bytes, n);
	if (r < 0)
		return wf_fail(err, r, "cannot read the changed bytes of an array: %s", strerror(-r));
	if (kind == WF_STR) { /* Latin-1 as UTF-8: what _codecs.encode(..., 'latin1') turns back */
		text = malloc(2 * n + 1);
		if (!text)
			return wf_fail(err, -ENOMEM, "out of memory");
		for (size_t k = 0; k < n; k++) {
			if (bytes[k] >= 0x80)
				text[m++] = (unsigned char)(0xc0 | bytes[k] >> 6);
			text[m++] = (unsigned char)(bytes[k] >= 0x80 ? 0x80 | (bytes[k] & 0x3f) : bytes[k]);
		}
	}
	wf_ref made = wf_string(p->in.graph, kind, text ? text : bytes, text ? m : n);
	if (made == WF_NIL)
		return wf_fail(err, -E2BIG, "the changed array does not fit the limit of the program's object table");
	*ret = made;
	return 0;
}

static bool is_encode(const struct wf_graph *g, wf_ref call)
{
	return wf_call_is(g, call, "_codecs", "encode");
}

/* A copy of a tuple with the strings of the map exchanged; the tuple itself when it holds none, WF_NIL out of memory.
 */
static wf_ref exchange(struct wf_graph *g, wf_ref tuple, const struct wf_key_map *map)
{
	uint32_t n;
	wf_ref copy[8];
	bool changed = false;
	const wf_ref *e = wf_elements(g, tuple, &n);
	if (!wf_is(g, tuple, WF_TUPLE) || n > WF_ARRAY_SIZE(copy))
		return tuple;
	for (uint32_t i = 0; i < n; i++) {
		const uint64_t *to = wf_key_map_get(map, &e[i], sizeof e[i]);
		copy[i] = to ? (wf_ref)*to : e[i];
		changed |= to != NULL;
	}
	return changed ? wf_tuple(g, copy, n) : tuple;
}

/* Puts other strings into the calls that hold array data. A str stands for bytes only in a call of encode; elsewhere
 * the same object may be a key. */
static int exchange_all(struct wf_graph *g, const struct wf_key_map *map)
{
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o)) {
		if (!wf_is(g, o, WF_CALL))
			continue;
		bool bytes = wf_numpy_data(g, o) != WF_NIL || wf_call_is(g, o, "__builtin__", "bytearray") ||
			     wf_call_is(g, o, "builtins", "bytearray");
		if (!bytes && !is_encode(g, o))
			continue;
		wf_ref args = wf_call_args(g, o), state = wf_call_state(g, o);
		wf_ref new_args = exchange(g, args, map), new_state = state ? exchange(g, state, map) : WF_NIL;
		if (new_args == WF_NIL || (state && new_state == WF_NIL))
			return wf_graph_failed(g) < 0 ? wf_graph_failed(g) : -ENOMEM;
		int r = new_args != args ? wf_call_set_args(g, o, new_args) : 0;
		if (r == 0 && new_state != state)
			r = wf_call_set_state(g, o, new_state);
		if (r < 0)
			return r;
	}
	return 0;
}

static int exchange_moved(struct wf_plan *p, bool back)
{
	struct wf_key_map map = {.seed = wf_hash_seed(p)};
	int r = 0;
	for (uint32_t i = 0; i < p->moved_count && r == 0; i++) {
		const struct wf_moved_string *m = &p->moved[i];
		r = wf_key_map_put(&map, back ? &m->to : &m->from, sizeof m->to, back ? m->from : m->to);
	}
	if (r == 0 && p->moved_count)
		r = exchange_all(p->in.graph, &map);
	wf_key_map_free(&map);
	return r;
}

static int move_strings(struct wf_plan *p, struct wf_error *err)
{
	uint32_t n = wf_storages_count(p->in.storages);
	for (uint32_t i = 0; i < n; i++) {
		const struct wf_storage *s = wf_storage_get(p->in.storages, i);
		if (s->persid != WF_NIL || wf_extents_bytes(s->dirty) == 0)
			continue;
		struct wf_moved_string *moved = reallocarray(p->moved, p->moved_count + 1, sizeof *moved);
		if (!moved)
			return wf_fail(err, -ENOMEM, "out of memory");
		p->moved = moved;
		wf_ref to = WF_NIL;
		int r = make_string(p, i, &to, err);
		if (r < 0)
			return r;
		p->moved[p->moved_count++] = (struct wf_moved_string){.storage = i, .from = s->data, .to = to};
	}
	int r = exchange_moved(p, false);
	return r < 0 ? wf_fail(err, r, "cannot put changed arrays into the pickle: %s", strerror(-r)) : 0;
}

void wf_plan_undo(struct wf_plan *p)
{
	/* room for the tuples was there on the way forth; should it be gone, the arrays merely show their new bytes
	 * twice: in the string and in the extents */
	exchange_moved(p, true);
	p->moved_count = 0;
}

/* ---- the pickle ---- */

struct survey {
	struct wf_plan *plan;
	wf_ref *persids; /* met, in order */
	uint32_t count, capacity;
	int failed;
};

static wf_ref survey_persid(void *ctx, wf_ref persid, wf_ref id)
{
	struct survey *s = ctx;
	struct wf_plan *p = s->plan;
	uint32_t i = wf_storage_of(p->in.storages, persid);
	if (i == WF_NO_STORAGE)
		return id;
	if (!p->live[i]) {
		p->live[i] = true;
		p->order[p->order_count++] = i;
	}
	if (s->count == s->capacity) {
		uint32_t capacity = s->capacity ? 2 * s->capacity : 64;
		wf_ref *more = reallocarray(s->persids, capacity, sizeof *more);
		if (!more) {
			s->failed = -ENOMEM;
			return id;
		}
		s->persids = more;
		s->capacity = capacity;
	}
	s->persids[s->count++] = persid;
	return id;
}

static wf_ref planned_id(void *ctx, wf_ref persid, wf_ref id)
{
	const struct wf_plan *p = ctx;
	const uint64_t *to = p->ids.count ? wf_key_map_get(&p->ids, &persid, sizeof persid) : NULL;
	return to ? (wf_ref)*to : id;
}

static int measure(struct wf_plan *p, const void *data, size_t len)
{
	p->pickle_bytes += len;
	p->pickle_crc32 = wf_crc32(p->pickle_crc32, data, len);
	if (p->pickle_kept && p->pickle_bytes > KEPT_PICKLE_BYTES) {
		p->pickle_kept = false;
		wf_buffer_free(&p->pickle);
	}
	if (p->pickle_kept)
		wf_buffer_append(&p->pickle, data, len);
	return wf_buffer_status(&p->pickle);
}

static int measure_survey(void *ctx, const void *data, size_t len)
{
	struct survey *s = ctx;
	return s->failed ? s->failed : measure(s->plan, data, len);
}

static int measure_planned(void *ctx, const void *data, size_t len)
{
	return measure(ctx, data, len);
}

static int run_pickle(struct wf_plan *p, const struct wf_pickle_writer *hooks, struct wf_error *err)
{
	wf_buffer_free(&p->pickle);
	p->pickle_bytes = 0;
	p->pickle_crc32 = 0;
	p->pickle_kept = true;
	return wf_pickle_write(p->in.graph, p->in.root, hooks, err);
}

struct replay {
	const struct wf_plan *plan;
	struct wf_out *out;
	uint64_t bytes;
	uint32_t crc32;
};

static wf_ref replay_id(void *ctx, wf_ref persid, wf_ref id)
{
	const struct replay *w = ctx;
	return planned_id((void *)w->plan, persid, id);
}

static int replay_write(void *ctx, const void *data, size_t len)
{
	struct replay *w = ctx;
	w->bytes += len;
	w->crc32 = wf_crc32(w->crc32, data, len);
	return wf_out_write(w->out, data, len);
}

int wf_plan_write_pickle(const struct wf_plan *p, struct wf_out *o, struct wf_error *err)
{
	if (p->pickle_kept)
		return wf_out_write(o, p->pickle.data, p->pickle.len);
	struct replay w = {.plan = p, .out = o};
	const struct wf_pickle_writer hooks = {.persid = replay_id, .write = replay_write, .ctx = &w};
	int r = wf_pickle_write(p->in.graph, p->in.root, &hooks, err);
	if (r == 0 && (w.bytes != p->pickle_bytes || w.crc32 != p->pickle_crc32))
		r = wf_fail(err, -ESTALE, "the pickle changed while it was written");
	return r;
}

/* ---- keys and ids ---- */

static char *own_name(struct wf_plan *p, char *name)
{
	char **names = name ? reallocarray(p->names, p->name_count + 1, sizeof *names) : NULL;
	if (!names) {
		free(name);
		return NULL;
	}
	p->names = names;
	return p->names[p->name_count++] = name;
}

static const char *storage_folder(const struct wf_plan *p)
{
	return p->legacy ? "storage/" : "data/";
}

/* What is known of a storage while names are given. */
struct naming {
	uint32_t *owner;        /* by record: the storage it is the base of, + 1 */
	const char **name;      /* by storage: full record name, NULL until given */
	struct wf_key_map used; /* names of the new file in lower case: torch looks up without regard to case */
	uint64_t next;
};

static bool take_name(struct naming *n, const char *name, bool *ret_new)
{
	char low[512];
	size_t len = strlen(name);
	*ret_new = false;
	if (len >= sizeof low)
		return true; /* longer than any key that is given here */
	for (size_t i = 0; i <= len; i++)
		low[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
	if (wf_key_map_get(&n->used, low, len))
		return true;
	*ret_new = true;
	return wf_key_map_put(&n->used, low, len, 1) == 0;
}

/* An unused decimal key. */
static const char *fresh_name(struct wf_plan *p, struct naming *n)
{
	for (;;) {
		char *name = NULL;
		bool is_new = false;
		if (asprintf(&name, "%s%llu", storage_folder(p), (unsigned long long)n->next++) < 0)
			return NULL;
		if (!take_name(n, name, &is_new) || is_new)
			return is_new ? own_name(p, name) : NULL;
		free(name);
	}
}

/* The name that a storage's own key asks for, NULL when another record has it. */
static const char *wanted_name(struct wf_plan *p, struct naming *n, const char *key)
{
	char *name = NULL;
	bool is_new = false;
	if (asprintf(&name, "%s%s", storage_folder(p), key) < 0)
		return NULL;
	if (!take_name(n, name, &is_new) || !is_new) {
		free(name);
		return NULL;
	}
	return own_name(p, name);
}

static uint32_t own_record(const struct wf_plan *p, const struct naming *n, uint32_t i)
{
	uint32_t record = wf_storage_get(p->in.storages, i)->record;
	return record != WF_NO_RECORD && n->owner[record] == i + 1 ? record : WF_NO_RECORD;
}

static const char *key_of(const struct wf_plan *p, const char *name)
{
	return name + strlen(storage_folder(p));
}

/* torch computes offsets only when the first storage that the pickle names has the key "0". */
static int name_first(struct wf_plan *p, struct naming *n)
{
	uint32_t first = p->order[0];
	if (strcmp(key_of(p, n->name[first]), "0") == 0)
		return 0;
	for (uint32_t k = 1; k < p->order_count; k++)
		if (strcmp(key_of(p, n->name[p->order[k]]), "0") == 0) {
			n->name[p->order[k]] = fresh_name(p, n);
			if (!n->name[p->order[k]])
				return -ENOMEM;
		}
	n->name[first] = own_name(p, strdup("data/0"));
	return n->name[first] ? 0 : -ENOMEM;
}

/* Every record that stays keeps its name; then come the new storages. */
static int name_storages(struct wf_plan *p, struct naming *n)
{
	const struct wf_container *c = p->in.container;
	bool is_new, same_folder = wf_container_kind_of(c) != WF_CONTAINER_TAR;
	for (uint32_t i = 0; i < wf_container_count(c) && same_folder; i++) {
		bool dropped = n->owner[i] && !p->live[n->owner[i] - 1];
		if (!dropped && !take_name(n, wf_container_record(c, i)->name, &is_new))
			return -ENOMEM;
		if (n->owner[i] && !dropped)
			n->name[n->owner[i] - 1] = wf_container_record(c, i)->name;
	}
	n->next = p->order_count;
	for (uint32_t k = 0; k < p->order_count; k++) {
		uint32_t i = p->order[k];
		const struct wf_storage *s = wf_storage_get(p->in.storages, i);
		if (n->name[i] || (s->bad && s->record == WF_NO_RECORD))
			continue; /* a storage that never had bytes does not get any */
		n->name[i] = wanted_name(p, n, wf_storage_key(p->in.storages, i));
		if (!n->name[i])
			n->name[i] = fresh_name(p, n);
		if (!n->name[i])
			return -ENOMEM;
	}
	return p->exact && p->order_count ? name_first(p, n) : 0;
}

/* The id to write for a PERSID: with another key where the storage got one, and with a view slot in the legacy format,
 * without one in a zip. */
static int plan_id(struct wf_plan *p, const struct naming *n, wf_ref persid, struct wf_error *err)
{
	struct wf_graph *g = p->in.graph;
	uint32_t i = wf_storage_of(p->in.storages, persid), len;
	const struct wf_storage *s = wf_storage_get(p->in.storages, i);
	const wf_ref *e = wf_elements(g, wf_persid_id(g, persid), &len);
	wf_ref copy[6];
	if (s->bad || len < 5 || len > 6 || !n->name[i])
		return 0;
	const char *class = wf_global_name(g, wf_class_of(g, e[1]));
	bool untyped;
	int64_t numel;
	uint64_t item = wf_dtype_info(wf_dtype_from_storage_class(class, &untyped))->size_bytes;
	uint64_t size = wf_plan_window(p, i).size_bytes;
	if (!wf_int_value(g, e[4], &numel) || (uint64_t)numel * item != s->size_bytes)
		return wf_fail_at(err, -EUCLEAN, n->name[i], WF_ERROR_NO_OFFSET,
				  "the storage has %llu bytes and its id says otherwise",
				  (unsigned long long)s->size_bytes);
	if (p->legacy && untyped)
		return wf_fail_at(err, -EOPNOTSUPP, n->name[i], WF_ERROR_NO_OFFSET,
				  "PyTorch cannot load this element type (%s) from a file of the legacy format", class);
	if (!p->legacy && len == 6 && !wf_is(g, e[5], WF_NONE))
		return wf_fail_at(err, -EOPNOTSUPP, n->name[i], WF_ERROR_NO_OFFSET,
				  "a zip archive cannot hold a storage that is a view of another one");
	const char *key = key_of(p, n->name[i]);
	bool same_key = strcmp(wf_storage_key(p->in.storages, i), key) == 0 || wf_is(g, e[2], WF_INT);
	if (same_key && len == (p->legacy ? 6 : 5) && size == s->size_bytes)
		return 0;
	memcpy(copy, e, len * sizeof *e);
	if (!same_key)
		copy[2] = wf_str(g, key);
	if (len == 5)
		copy[5] = wf_none(g);
	if (size != s->size_bytes)
		copy[4] = wf_int(g, (int64_t)(size / item));
	wf_ref id = copy[2] == WF_NIL || copy[4] == WF_NIL ? WF_NIL : wf_tuple(g, copy, p->legacy ? 6 : 5);
	if (id == WF_NIL)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_key_map_put(&p->ids, &persid, sizeof persid, id);
	return r < 0 ? wf_fail(err, r, "out of memory") : 0;
}

/* ---- records ---- */

static int add_part(struct wf_plan *p, struct wf_part part)
{
	if (p->count == p->capacity) {
		uint32_t capacity = p->capacity ? 2 * p->capacity : 64;
		struct wf_part *parts = reallocarray(p->parts, capacity, sizeof *parts);
		if (!parts)
			return -ENOMEM;
		p->parts = parts;
		p->capacity = capacity;
	}
	p->parts[p->count++] = part;
	return 0;
}

static int add_keep(struct wf_plan *p, uint32_t record)
{
	return add_part(p, (struct wf_part){.kind = WF_PART_KEEP,
					    .record = record,
					    .storage = WF_NO_STORAGE,
					    .name = wf_container_record(p->in.container, record)->name});
}

static int add_text(struct wf_plan *p, const char *name, const char *text)
{
	return add_part(p, (struct wf_part){.kind = WF_PART_TEXT,
					    .record = WF_NO_RECORD,
					    .storage = WF_NO_STORAGE,
					    .name = name,
					    .text = text});
}

static int add_pickle(struct wf_plan *p)
{
	return add_part(p, (struct wf_part){.kind = WF_PART_PICKLE,
					    .record = WF_NO_RECORD,
					    .storage = WF_NO_STORAGE,
					    .name = "data.pkl"});
}

static bool storage_changed(const struct wf_plan *p, const struct naming *n, uint32_t i)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, i);
	uint32_t record = own_record(p, n, i);
	if (record == WF_NO_RECORD)
		return true;
	if (s->bad)
		return false;
	uint64_t size = wf_container_record(p->in.container, record)->size_bytes;
	return wf_plan_window(p, i).size_bytes != size || s->size_bytes != size || s->base_bytes != size ||
	       wf_extents_bytes(s->dirty) > 0;
}

static int add_storage(struct wf_plan *p, const struct naming *n, uint32_t i)
{
	if (!n->name[i])
		return 0;
	bool changed = storage_changed(p, n, i);
	return add_part(p, (struct wf_part){.kind = changed ? WF_PART_STORAGE : WF_PART_KEEP,
					    .record = changed ? WF_NO_RECORD : own_record(p, n, i),
					    .storage = i,
					    .name = n->name[i]});
}

/* Storages that have no record of their own, in pickle order. */
static int add_new_storages(struct wf_plan *p, const struct naming *n)
{
	int r = 0;
	for (uint32_t k = 0; k < p->order_count && r == 0; k++)
		if (own_record(p, n, p->order[k]) == WF_NO_RECORD)
			r = add_storage(p, n, p->order[k]);
	return r;
}

static int add_all_storages(struct wf_plan *p, const struct naming *n)
{
	int r = 0;
	for (uint32_t k = 0; k < p->order_count && r == 0; k++)
		r = add_storage(p, n, p->order[k]);
	return r;
}

static bool is_layout_record(const char *name)
{
	return strcmp(name, ".format_version") == 0 || strcmp(name, ".storage_alignment") == 0;
}

static bool is_version_record(const char *name)
{
	return strcmp(name, "version") == 0 || strcmp(name, ".data/version") == 0;
}

/* In the order found; the storages where the first of them was (exact) or each in its place with new ones after the
 * last. */
static int zip_parts(struct wf_plan *p, const struct naming *n)
{
	const struct wf_container *c = p->in.container;
	uint32_t count = wf_container_count(c), last = WF_NO_RECORD;
	bool storages_done = false;
	int r = 0;
	for (uint32_t i = 0; i < count; i++)
		if (n->owner[i])
			last = i;
	for (uint32_t i = 0; i < count && r == 0; i++) {
		const char *name = wf_container_record(c, i)->name;
		bool here = last == WF_NO_RECORD ? is_version_record(name) && i > 0 : p->exact && n->owner[i];
		if (here && !storages_done) {
			r = add_all_storages(p, n);
			storages_done = true;
		}
		if (r < 0)
			return r;
		if (n->owner[i]) {
			if (!p->exact && p->live[n->owner[i] - 1])
				r = add_storage(p, n, n->owner[i] - 1);
		} else if (strcmp(name, "data.pkl") == 0 && !p->keep_pickle) {
			r = add_pickle(p);
		} else if (!is_layout_record(name) || p->keep_layout) {
			r = add_keep(p, i);
		}
		if (r == 0 && i == last && !p->exact) {
			r = add_new_storages(p, n);
			storages_done = true;
		}
	}
	return r == 0 && !storages_done ? add_all_storages(p, n) : r;
}

/* What torch 2.1 writes, for the tar of 2016. */
static int tar_parts(struct wf_plan *p, const struct naming *n)
{
	int r = add_pickle(p);
	if (r == 0)
		r = add_text(p, "byteorder", "little");
	if (r == 0)
		r = add_all_storages(p, n);
	return r == 0 ? add_text(p, "version", "3\n") : r;
}

/* The storages of a legacy stream, in the order of its list of keys. */
static int legacy_parts(struct wf_plan *p, const struct naming *n)
{
	uint32_t count = 0;
	const uint32_t *stream = wf_container_storage_order(p->in.container, &count);
	int r = 0;
	for (uint32_t k = 0; k < count && r == 0; k++) {
		uint32_t owner = n->owner[stream[k]];
		if (owner && p->live[owner - 1])
			r = add_storage(p, n, owner - 1);
	}
	return r == 0 ? add_new_storages(p, n) : r;
}

/* Whether the names of the new file are those of the old one: the left half of .data/serialization_id is made of them.
 */
static bool same_names(const struct wf_plan *p, const struct naming *n)
{
	if (p->count != wf_container_count(p->in.container))
		return false;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct wf_part *part = &p->parts[i];
		if (part->storage != WF_NO_STORAGE && own_record(p, n, part->storage) == WF_NO_RECORD)
			return false;
		if (part->storage != WF_NO_STORAGE &&
		    part->name != wf_container_record(p->in.container, own_record(p, n, part->storage))->name)
			return false;
	}
	return true;
}

/* The id of the content is never checked by anybody, but an old one on new content would be a lie: the half that stands
 * for names stays where they stay, the other one is computed while the records are written. */
static int plan_serialization_id(struct wf_plan *p, const struct naming *n, struct wf_error *err)
{
	for (uint32_t i = 0; i < p->count; i++) {
		struct wf_part *part = &p->parts[i];
		if (part->kind != WF_PART_KEEP || strcmp(part->name, ".data/serialization_id") != 0)
			continue;
		char text[41] = "";
		struct wf_source *s = NULL;
		const struct wf_record *record = wf_container_record(p->in.container, part->record);
		int r = record->size_bytes == 40 ? wf_container_open_record(p->in.container, part->record, &s, NULL)
						 : -EUCLEAN;
		if (r == 0)
			r = wf_source_read(s, 0, text, 40);
		wf_source_unref(s);
		if (r == 0 && strspn(text, "0123456789") == 40 && same_names(p, n)) {
			char *left = own_name(p, strndup(text, 20));
			if (!left)
				return wf_fail(err, -ENOMEM, "out of memory");
			*part = (struct wf_part){.kind = WF_PART_TEXT,
						 .record = WF_NO_RECORD,
						 .storage = WF_NO_STORAGE,
						 .name = part->name,
						 .text = left};
			return 0;
		}
		memmove(part, part + 1, (p->count - i - 1) * sizeof *part);
		p->count--;
		return 0;
	}
	return 0;
}

/* ---- the whole ---- */

/* Reads a short record as text; false when there is none. */
static bool record_text(const struct wf_container *c, const char *name, char *buf, size_t size)
{
	uint32_t i = wf_container_find(c, name);
	struct wf_source *s = NULL;
	if (i == WF_NO_RECORD || wf_container_open_record(c, i, &s, NULL) < 0)
		return false;
	size_t n = (size_t)WF_MIN(wf_source_size(s), (uint64_t)size - 1);
	bool ok = wf_source_read(s, 0, buf, n) == 0;
	buf[n] = '\0';
	wf_source_unref(s);
	return ok;
}

/* Whether torch computes the places of this file's storages; and their alignment. */
static void read_layout(struct wf_plan *p)
{
	char text[24];
	p->alignment = WF_ZIP_ALIGNMENT;
	p->exact = !p->keep_pickle && record_text(p->in.container, ".format_version", text, sizeof text);
	if (!record_text(p->in.container, ".storage_alignment", text, sizeof text))
		return;
	unsigned long v = strtoul(text, NULL, 10);
	if (v > 0 && v <= MAX_ALIGNMENT && (v & (v - 1)) == 0)
		p->alignment = (uint32_t)v;
	else
		p->exact = false;
}

/* A record among the storages that is none, or one that is deflated, would not lie where torch computes. */
static bool can_be_exact(const struct wf_plan *p, const struct naming *n)
{
	const struct wf_container *c = p->in.container;
	for (uint32_t i = 0; i < wf_container_count(c); i++) {
		const struct wf_record *record = wf_container_record(c, i);
		bool live = n->owner[i] && p->live[n->owner[i] - 1];
		if (!n->owner[i] && strncmp(record->name, "data/", 5) == 0)
			return false;
		if (live && (record->method != 0 || wf_storage_get(p->in.storages, n->owner[i] - 1)->bad))
			return false;
	}
	for (uint32_t k = 0; k < p->order_count; k++)
		if (wf_storage_get(p->in.storages, p->order[k])->bad)
			return false;
	return true;
}

/* Whether torch would find every storage that it computes the place of, in a file that only grows. */
static bool layout_holds(const struct wf_plan *p, const struct naming *n)
{
	const struct wf_container *c = p->in.container;
	struct wf_zip_layout l = {0};
	for (uint32_t k = 0; k < p->order_count; k++) {
		uint32_t record = own_record(p, n, p->order[k]);
		uint64_t data = 0;
		char name[1024];
		struct wf_zip_entry e;
		if (storage_changed(p, n, p->order[k]) || record == WF_NO_RECORD)
			return false;
		const struct wf_record *r = wf_container_record(c, record);
		int len = snprintf(name, sizeof name, "%s/%s", p->prefix, r->name);
		if (r->method != 0 || len >= (int)sizeof name || wf_container_locate(c, record, &data, NULL) < 0)
			return false;
		wf_zip_entry_init(&e, name, (size_t)len, r->stored_bytes);
		if (k == 0 && strcmp(r->name, "data/0") != 0)
			return false;
		if (k > 0 && l.end != r->header_offset)
			return false;
		wf_zip_layout(&e, r->header_offset, p->alignment, 0, 0, &l);
		if (k > 0 && l.data != data)
			return false;
		/* the first one's place is read, not computed */
		l.end += data - l.data;
	}
	return true;
}

static void find_owners(struct wf_plan *p, struct naming *n)
{
	uint32_t count = wf_storages_count(p->in.storages);
	/* a storage that is named wins over one that is not, should two keys fold to one record */
	for (int named = 1; named >= 0; named--)
		for (uint32_t i = 0; i < count; i++) {
			const struct wf_storage *s = wf_storage_get(p->in.storages, i);
			if (s->record != WF_NO_RECORD && p->live[i] == named && !n->owner[s->record])
				n->owner[s->record] = i + 1;
		}
}

/* Offsets of tensors become absolute where the tar had views of storages. */
static int flatten_views(struct wf_plan *p, struct wf_error *err)
{
	struct wf_graph *g = p->in.graph;
	uint32_t limit = wf_graph_limit(g);
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL && o < limit; o = wf_graph_next(g, o)) {
		struct wf_tensor t;
		uint32_t n;
		if (!wf_is(g, o, WF_CALL) || !wf_is_tensor(g, o) ||
		    wf_tensor_decode(g, p->in.storages, o, &t, NULL) < 0 || t.kind != WF_TENSOR_DENSE)
			continue;
		wf_ref persid = wf_element(g, wf_call_args(g, t.rebuild), 0);
		const wf_ref *e = wf_elements(g, wf_persid_id(g, persid), &n);
		if (n != 6 || wf_is(g, e[5], WF_NONE))
			continue;
		wf_ref id = wf_tuple(g, e, 5), plain = id == WF_NIL ? WF_NIL : wf_persid(g, id);
		int r = plain == WF_NIL ? -ENOMEM : wf_storage_adopt(p->in.storages, t.storage, plain);
		if (r == 0)
			r = wf_tensor_update(g, &t, plain);
		if (r < 0)
			return wf_fail(err, r, "cannot turn a view of a storage into a tensor: %s", strerror(-r));
	}
	return 0;
}

static int plan_names(struct wf_plan *p, struct naming *n, struct survey *s, bool append, struct wf_error *err)
{
	find_owners(p, n);
	bool wanted = p->exact;
	p->exact = wanted && !append && can_be_exact(p, n);
	p->keep_layout = p->keep_pickle || p->exact || (append && wanted && layout_holds(p, n));
	int r = name_storages(p, n);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	for (uint32_t k = 0; k < s->count; k++) {
		r = plan_id(p, n, s->persids[k], err);
		if (r < 0)
			return r;
	}
	if (p->ids.count) {
		const struct wf_pickle_writer hooks = {.persid = planned_id, .write = measure_planned, .ctx = p};
		r = run_pickle(p, &hooks, err);
		if (r < 0)
			return r;
	}
	enum wf_container_kind kind = wf_container_kind_of(p->in.container);
	r = p->legacy ? legacy_parts(p, n) : kind == WF_CONTAINER_TAR ? tar_parts(p, n) : zip_parts(p, n);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	return p->legacy ? 0 : plan_serialization_id(p, n, err);
}

static void count_bytes(struct wf_plan *p)
{
	p->new_bytes = p->legacy ? p->pickle_bytes : 0;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct wf_part *part = &p->parts[i];
		if (part->kind == WF_PART_KEEP)
			p->kept_bytes += wf_container_record(p->in.container, part->record)->stored_bytes;
		else if (part->kind == WF_PART_STORAGE)
			p->new_bytes += wf_plan_window(p, part->storage).size_bytes;
		else
			p->new_bytes += part->kind == WF_PART_PICKLE ? p->pickle_bytes : 40;
	}
}

static int make(struct wf_plan *p, struct naming *n, struct survey *s, bool append, struct wf_error *err)
{
	uint32_t count = wf_storages_count(p->in.storages);
	p->live = calloc(WF_MAX(count, 1u), sizeof *p->live);
	p->order = calloc(WF_MAX(count, 1u), sizeof *p->order);
	n->owner = calloc(WF_MAX(wf_container_count(p->in.container), 1u), sizeof *n->owner);
	n->name = calloc(WF_MAX(count, 1u), sizeof *n->name);
	if (!p->live || !p->order || !n->owner || !n->name)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_container_kind_of(p->in.container) == WF_CONTAINER_TAR ? flatten_views(p, err) : 0;
	if (r == 0)
		r = move_strings(p, err);
	if (r < 0)
		return r;
	if (p->keep_pickle) {
		if (p->moved_count)
			return wf_fail(err, -EOPNOTSUPP,
				       "array data inside the pickle of a TorchScript archive cannot be "
				       "changed");
		for (uint32_t i = 0; i < count; i++) {
			p->live[i] = wf_storage_get(p->in.storages, i)->persid != WF_NIL;
			if (p->live[i])
				p->order[p->order_count++] = i;
		}
	} else {
		const struct wf_pickle_writer hooks = {.persid = survey_persid, .write = measure_survey, .ctx = s};
		r = run_pickle(p, &hooks, err);
		if (r < 0)
			return r;
	}
	r = plan_names(p, n, s, append, err);
	if (r == 0)
		count_bytes(p);
	return r;
}

int wf_plan_make(struct wf_plan *plan, const struct wf_commit_input *in, bool append, struct wf_error *err)
{
	enum wf_container_kind kind = wf_container_kind_of(in->container);
	*plan = (struct wf_plan){
		.in = *in,
		.legacy = kind == WF_CONTAINER_LEGACY,
		.keep_pickle = kind == WF_CONTAINER_TORCHSCRIPT,
		.prefix = kind == WF_CONTAINER_TAR ? "archive" : wf_container_prefix(in->container),
		.alignment = WF_ZIP_ALIGNMENT,
		.ids = {.seed = wf_hash_seed(plan)},
	};
	struct naming n = {.used = {.seed = wf_hash_seed(&n)}};
	struct survey s = {.plan = plan};
	if (kind == WF_CONTAINER_ZIP || kind == WF_CONTAINER_TORCHSCRIPT)
		read_layout(plan);
	int r = make(plan, &n, &s, append, err);
	free(n.owner);
	free(n.name);
	wf_key_map_free(&n.used);
	free(s.persids);
	if (r < 0) {
		wf_plan_undo(plan);
		wf_plan_free(plan);
	}
	return r;
}

void wf_plan_adopt(struct wf_plan *p)
{
	for (uint32_t k = 0; k < p->ids.count; k++) {
		wf_ref persid;
		memcpy(&persid, p->ids.keys[k].bytes, sizeof persid);
		wf_persid_set_id(p->in.graph, persid, (wf_ref)p->ids.keys[k].value);
	}
	for (uint32_t k = 0; k < p->moved_count; k++)
		wf_storage_set_data(p->in.storages, p->moved[k].storage, p->moved[k].to);
	p->moved_count = 0;
}

void wf_plan_free(struct wf_plan *p)
{
	for (uint32_t i = 0; i < p->name_count; i++)
		free(p->names[i]);
	free(p->names);
	free(p->parts);
	free(p->order);
	free(p->live);
	free(p->moved);
	wf_key_map_free(&p->ids);
	wf_buffer_free(&p->pickle);
	*p = (struct wf_plan){0};
}
