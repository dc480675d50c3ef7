/* SPDX-License-Identifier: MIT */
/* Names of records, keys of storages, and the ids that the pickle says them with. */
#include "codec/commit/inner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/object/dtype.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

char *wf_plan_own_name(struct wf_plan *p, char *name)
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
	return p->legacy || p->safetensors ? "storage/" : "data/";
}

static bool take_name(struct wf_naming *n, const char *name, bool *ret_new)
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
static const char *fresh_name(struct wf_plan *p, struct wf_naming *n)
{
	for (;;) {
		char *name = NULL;
		bool is_new = false;
		if (asprintf(&name, "%s%llu", storage_folder(p), (unsigned long long)n->next++) < 0)
			return NULL;
		if (!take_name(n, name, &is_new) || is_new)
			return is_new ? wf_plan_own_name(p, name) : NULL;
		free(name);
	}
}

/* The name that a storage's own key asks for, NULL when another record has it. */
static const char *wanted_name(struct wf_plan *p, struct wf_naming *n, const char *key)
{
	char *name = NULL;
	bool is_new = false;
	if (asprintf(&name, "%s%s", storage_folder(p), key) < 0)
		return NULL;
	if (!take_name(n, name, &is_new) || !is_new) {
		free(name);
		return NULL;
	}
	return wf_plan_own_name(p, name);
}

uint32_t wf_plan_own_record(const struct wf_plan *p, const struct wf_naming *n, uint32_t i)
{
	uint32_t record = wf_storage_get(p->in.storages, i)->record;
	return record != WF_NO_RECORD && n->owner[record] == i + 1 ? record : WF_NO_RECORD;
}

/* A companion's key is all of the name. */
static const char *key_of(const struct wf_plan *p, const char *name)
{
	size_t folder = strlen(storage_folder(p));
	return strncmp(name, storage_folder(p), folder) == 0 ? name + folder : name;
}

/* torch computes offsets only when the first storage that the pickle names has the key "0". */
static int name_first(struct wf_plan *p, struct wf_naming *n)
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
	n->name[first] = wf_plan_own_name(p, strdup("data/0"));
	return n->name[first] ? 0 : -ENOMEM;
}

/* Every record that stays keeps its name; then come the new storages. */
int wf_plan_name_storages(struct wf_plan *p, struct wf_naming *n)
{
	const struct wf_container *c = p->in.container;
	bool is_new, same_folder = !p->anew;
	for (uint32_t i = 0; i < wf_container_count(c) && same_folder; i++) {
		bool dropped = n->owner[i] && !p->live[n->owner[i] - 1];
		if (!dropped && !take_name(n, wf_container_record(c, i)->name, &is_new))
			return -ENOMEM;
		if (n->owner[i] && !dropped)
			n->name[n->owner[i] - 1] = wf_container_record(c, i)->name;
	}
	n->next = p->in.shard ? 0 : p->order_count;
	for (uint32_t k = 0; k < p->order_count; k++) {
		uint32_t i = p->order[k];
		const struct wf_storage *s = wf_storage_get(p->in.storages, i);
		if (n->name[i] || (s->bad && s->record == WF_NO_RECORD))
			continue; /* a storage that never had bytes does not get any */
		/* those of all shards have the shard's number before them */
		const char *key = p->in.shard ? "" : wf_storage_key(p->in.storages, i);
		n->name[i] = *key ? wanted_name(p, n, key) : NULL; /* an int in the id has no text */
		if (!n->name[i])
			n->name[i] = fresh_name(p, n);
		if (!n->name[i])
			return -ENOMEM;
	}
	return p->exact && p->order_count ? name_first(p, n) : 0;
}

static bool says_key(const struct wf_graph *g, wf_ref in_id, const char *key)
{
	char digits[24];
	int64_t v;
	if (!wf_is(g, in_id, WF_INT) || !wf_int_value(g, in_id, &v))
		return wf_str_equal(g, in_id, key);
	snprintf(digits, sizeof digits, "%" PRId64, v);
	return strcmp(digits, key) == 0;
}

/* The id to write for a PERSID: with another key where the storage got one, and with a view slot in the legacy format,
 * without one in a zip. */
int wf_plan_id(struct wf_plan *p, const struct wf_naming *n, wf_ref persid, struct wf_error *err)
{
	struct wf_graph *g = p->in.graph;
	uint32_t i = wf_storage_of(p->in.storages, persid), len;
	const struct wf_storage *s = wf_storage_get(p->in.storages, i);
	const wf_ref *e = wf_elements(g, wf_persid_id(g, persid), &len);
	wf_ref copy[6];
	if (s->bad == -ESTALE)
		return wf_fail_at(err, -ESTALE, wf_storage_key(p->in.storages, i), WF_ERROR_NO_OFFSET,
				  "%s: remove what names it", wf_storage_problem(p->in.storages, i));
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
	/* ids of one storage may differ: an earlier commit changed only those that it wrote */
	bool same_key = says_key(g, e[2], key);
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

void wf_plan_adopt_keys(struct wf_plan *p)
{
	struct wf_graph *g = p->in.graph;
	for (uint32_t k = 0; k < p->count; k++) {
		wf_ref copy[6], persid;
		uint32_t n;
		size_t folder = strlen(storage_folder(p));
		if (p->parts[k].storage == WF_NO_STORAGE || strncmp(p->parts[k].name, storage_folder(p), folder) != 0)
			continue;
		const char *key = key_of(p, p->parts[k].name);
		persid = wf_storage_get(p->in.storages, p->parts[k].storage)->persid;
		const wf_ref *e = wf_elements(g, wf_persid_id(g, persid), &n);
		if (n < 5 || n > WF_ARRAY_SIZE(copy) || says_key(g, e[2], key))
			continue;
		memcpy(copy, e, n * sizeof *e);
		copy[2] = wf_str(g, key);
		wf_ref id = copy[2] == WF_NIL ? WF_NIL : wf_tuple(g, copy, n);
		if (id != WF_NIL) /* without memory an attribute shows the old key */
			wf_persid_set_id(g, persid, id);
	}
}

bool wf_plan_storage_changed(const struct wf_plan *p, const struct wf_naming *n, uint32_t i)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, i);
	uint32_t record = wf_plan_own_record(p, n, i);
	if (record == WF_NO_RECORD)
		return true;
	if (s->bad)
		return false;
	if (p->anew && wf_container_record(p->in.container, record)->method != 0)
		return true; /* it is inflated */
	uint64_t size = wf_container_record(p->in.container, record)->size_bytes;
	return wf_plan_window(p, i).size_bytes != size || s->size_bytes != size || s->base_bytes != size ||
	       wf_extents_bytes(s->dirty) > 0;
}

void wf_plan_find_owners(struct wf_plan *p, struct wf_naming *n)
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
int wf_plan_flatten_views(struct wf_plan *p, struct wf_error *err)
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
