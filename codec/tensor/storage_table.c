/* SPDX-License-Identifier: MIT */
/* Tells what the table of storages holds, and notes what is wrong with one of them. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "codec/tensor/storage_inner.h"

/* A file of nothing but broken ids could make more text than graph. */
#define MAX_PROBLEM_BYTES (64u << 20)

uint32_t wf_storages_count(const struct wf_storages *ss)
{
	return ss->count;
}

const struct wf_storage *wf_storage_get(const struct wf_storages *ss, uint32_t i)
{
	return i < ss->count ? &ss->all[i] : NULL;
}

uint32_t wf_storage_of(const struct wf_storages *ss, wf_ref object)
{
	uint32_t i, number = wf_persid_number(ss->graph, object);
	if (number > 0)
		return number - 1;
	return wf_map_get(&ss->by_object, object, &i) ? i : WF_NO_STORAGE;
}

struct wf_inside_bytes *wf_storage_inside(const struct wf_storages *ss, uint32_t i)
{
	uint32_t at;
	return i < ss->count && ss->all[i].inside && wf_map_get(&ss->inside_at, i, &at) ? &ss->insides[at] : NULL;
}

wf_ref wf_storage_array(const struct wf_storages *ss, uint32_t i)
{
	const struct wf_inside_bytes *inside = wf_storage_inside(ss, i);
	return inside ? inside->array : WF_NIL;
}

wf_ref wf_storage_data(const struct wf_storages *ss, uint32_t i, uint32_t *ret_skip_bytes)
{
	const struct wf_inside_bytes *inside = wf_storage_inside(ss, i);
	*ret_skip_bytes = inside ? inside->skip_bytes : 0;
	return inside ? inside->data : WF_NIL;
}

const char *wf_storage_problem(const struct wf_storages *ss, uint32_t i)
{
	uint32_t at;
	if (i >= ss->count || !ss->all[i].bad)
		return "";
	return wf_map_get(&ss->problem_at, i, &at) ? ss->problems.data + at : "the storage is broken";
}

const char *wf_storage_persid_text(const struct wf_storages *ss, wf_ref persid, uint32_t part)
{
	wf_ref r = wf_element(ss->graph, wf_persid_id(ss->graph, persid), part);
	size_t len;
	bool text = wf_is(ss->graph, r, WF_STR) || wf_is(ss->graph, r, WF_PYSTR);
	const char *s = text ? wf_bytes(ss->graph, r, &len) : NULL;
	return s ? s : "";
}

static const char *id_text(const struct wf_storages *ss, uint32_t i, uint32_t part)
{
	return i < ss->count && ss->all[i].persid != WF_NIL ? wf_storage_persid_text(ss, ss->all[i].persid, part) : "";
}

const char *wf_storage_key(const struct wf_storages *ss, uint32_t i)
{
	return id_text(ss, i, 2);
}

const char *wf_storage_location(const struct wf_storages *ss, uint32_t i)
{
	if (i < ss->count && ss->all[i].inside)
		return "cpu";
	return id_text(ss, i, 3);
}

void wf_storage_problem_is(struct wf_storages *ss, uint32_t i, int code, const char *fmt, ...)
{
	struct wf_storage *s = &ss->all[i];
	char text[256];
	va_list ap;

	if (s->bad)
		return;
	s->bad = (int16_t)code;
	if (ss->problems.len > MAX_PROBLEM_BYTES)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	size_t at = ss->problems.len;
	wf_buffer_append(&ss->problems, text, strlen(text) + 1);
	if (!ss->problems.failed)
		wf_map_set(&ss->problem_at, i, (uint32_t)at); /* without memory it has the general one */
}

struct wf_source *wf_storage_given(const struct wf_storages *ss, uint32_t i)
{
	uint32_t at;
	return ss->all[i].given && wf_map_get(&ss->given_at, i, &at) ? ss->given[at] : NULL;
}

void wf_storage_take_back(struct wf_storages *ss, uint32_t i)
{
	uint32_t at;
	if (!ss->all[i].given || !wf_map_get(&ss->given_at, i, &at))
		return;
	wf_source_unref(ss->given[at]);
	ss->given[at] = NULL;
	ss->all[i].given = false;
}
