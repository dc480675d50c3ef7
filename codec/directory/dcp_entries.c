/* SPDX-License-Identifier: MIT */
/* Keeps which object each entry of a distributed checkpoint became. */
#include "codec/directory/dcp_entries.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/directory/dcp_inner.h"
#include "codec/pickle/pickle.h"

static struct dcp *dcp_of(const struct wf_container *c)
{
	return (struct dcp *)c;
}

uint32_t wf_dcp_entry_of(const struct wf_container *c, wf_ref object)
{
	uint32_t entry;
	return wf_map_get(&dcp_of(c)->by_object, object, &entry) ? entry : UINT32_MAX;
}

/* In place of a sum; sums are odd. */
#define EMPTY_MAPPING 2u

bool wf_dcp_is_empty_mapping(const struct wf_graph *g, wf_ref value)
{
	uint32_t n = 0;
	const struct wf_item *items = wf_items(g, value, &n);
	for (uint32_t i = 0; i < n; i++)
		if (items[i].key != WF_NIL)
			return false;
	return wf_is(g, value, WF_DICT);
}

wf_ref wf_dcp_mapping(const struct wf_graph *g, wf_ref object)
{
	if (wf_is(g, object, WF_DICT))
		return object;
	return wf_call_is(g, object, "collections", "OrderedDict") ? wf_call_dict(g, object) : WF_NIL;
}

bool wf_dcp_is_value(const struct wf_container *c, wf_ref object)
{
	uint32_t entry = wf_dcp_entry_of(c, object);
	return entry != UINT32_MAX && !wf_dcp_entry_is_tensor(c, entry) && wf_dcp_entry_sum(c, entry) != EMPTY_MAPPING;
}

const char *wf_dcp_entry_name(const struct wf_container *c, uint32_t entry, uint32_t *ret_len)
{
	const struct dcp *d = dcp_of(c);
	*ret_len = d->md.entries[entry].name_len;
	return wf_dcp_text(&d->md, d->md.entries[entry].name);
}

bool wf_dcp_entry_is_tensor(const struct wf_container *c, uint32_t entry)
{
	return dcp_of(c)->md.entries[entry].tensor;
}

bool wf_dcp_entry_has(const struct wf_container *c, uint32_t entry, enum wf_dtype dtype, const int64_t *sizes,
		      uint32_t ndim)
{
	const struct wf_dcp_metadata *m = &dcp_of(c)->md;
	const struct wf_dcp_entry *e = &m->entries[entry];
	bool same = e->tensor && e->dtype == dtype && e->ndim == ndim;
	for (uint32_t i = 0; same && i < ndim; i++)
		same = m->numbers[e->sizes + i] == (uint64_t)sizes[i];
	return same;
}

uint64_t wf_dcp_entry_sum(const struct wf_container *c, uint32_t entry)
{
	return dcp_of(c)->sums[entry];
}

uint64_t wf_dcp_value_sum(const struct wf_graph *g, wf_ref value)
{
	struct wf_buffer pickle = WF_BUFFER_INIT;
	uint64_t sum = 0;
	if (wf_dcp_is_empty_mapping(g, value))
		return EMPTY_MAPPING;
	int r = wf_pickle_write_buffer(g, value, NULL, NULL, &pickle, NULL);
	if (r == 0)
		sum = wf_hash_bytes(pickle.data, pickle.len, 0) | 1;
	wf_buffer_free(&pickle);
	return sum;
}

int wf_dcp_adopt(struct wf_container *c, uint32_t entry, wf_ref object, uint64_t sum)
{
	struct dcp *d = dcp_of(c);
	d->sums[entry] = sum;
	return wf_map_set(&d->by_object, object, entry);
}

int wf_dcp_record_after(const struct wf_container *c, uint32_t record, const struct wf_container *written,
			uint32_t entry, uint32_t *ret)
{
	/* named after the old entry and, of a storage in the value, its key there: 17 or 17.0 */
	const char *key = wf_container_record(c, record)->name + strlen(c->storage_folder), *rest = strchr(key, '.');
	cleanup_free char *now = NULL;
	int len = asprintf(&now, "%" PRIu32 "%s", entry, rest ? rest : "");
	if (len < 0)
		return -ENOMEM;
	*ret = wf_container_storage_record(written, now, (size_t)len);
	return 0;
}

bool wf_dcp_is_number(const char *text, size_t len)
{
	if (len == 0 || len > 18 || (len > 1 && text[0] == '0'))
		return false;
	for (size_t i = 0; i < len; i++)
		if (text[i] < '0' || text[i] > '9')
			return false;
	return true;
}

bool wf_dcp_has_numbers(const struct wf_graph *g, wf_ref own_key)
{
	return own_key != WF_NIL && wf_str_equal(g, own_key, "state");
}

const char *wf_dcp_refuses_keys(const struct wf_graph *g, wf_ref dict, wf_ref own_key)
{
	uint32_t n = 0;
	bool ints = false, texts = false, others = false;
	const struct wf_item *items = wf_items(g, dict, &n);
	for (uint32_t i = 0; i < n; i++) {
		int64_t number;
		size_t len = 0;
		const char *text = items[i].key != WF_NIL && wf_is(g, items[i].key, WF_STR)
					   ? wf_bytes(g, items[i].key, &len)
					   : NULL;
		if (items[i].key == WF_NIL)
			continue;
		ints |= !text;
		texts |= text && wf_dcp_is_number(text, len);
		others |= text && !wf_dcp_is_number(text, len);
		if (!text && (!wf_is(g, items[i].key, WF_INT) || !wf_int_value(g, items[i].key, &number)))
			return "a key in it is neither a text nor a number, which a distributed checkpoint cannot hold";
		others |= !text && number < 0;
	}
	bool numbers = wf_dcp_has_numbers(g, own_key) && !others;
	if (ints && !numbers)
		return "its keys are numbers, which a distributed checkpoint tells only of a mapping called \"state\" that has no others";
	if (texts && numbers)
		return "its keys are texts, and a distributed checkpoint has all digits for numbers in a mapping called \"state\"";
	return NULL;
}

const char *wf_dcp_directory(const struct wf_container *c)
{
	return wf_members_directory(wf_space_members(dcp_of(c)->space));
}

/* The first member is the metadata themselves. */
const char *wf_dcp_file(const struct wf_container *c, uint32_t k)
{
	return wf_members_name(wf_space_members(dcp_of(c)->space), k + 1);
}

int wf_dcp_open_file(const struct wf_container *c, const char *name, struct wf_source **ret, struct wf_error *err)
{
	struct wf_members *m = wf_space_members(dcp_of(c)->space);
	return wf_members_open(m, wf_members_find(m, name, strlen(name)), ret, err);
}

bool wf_dcp_has_file(const struct wf_container *c, const char *name)
{
	const struct wf_members *m = wf_space_members(dcp_of(c)->space);
	for (uint32_t i = 0; i < wf_members_count(m); i++)
		if (strcmp(wf_members_name(m, i), name) == 0)
			return true;
	return false;
}

int wf_dcp_metadata_source(const struct wf_container *c, struct wf_source **ret)
{
	return wf_source_slice(c->file, 0, dcp_of(c)->metadata_bytes, ret);
}
