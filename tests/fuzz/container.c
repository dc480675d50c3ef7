/* SPDX-License-Identifier: MIT */
/* A file of any bytes: opened as a container, its graph loaded, every record and storage read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/container/container.h"
#include "codec/tensor/inside.h"
#include "codec/tensor/storage.h"

#define MAX_RECORDS 64u
#define MAX_RECORD_BYTES (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_record(const struct wf_container *c, uint32_t i)
{
	static char buf[4096];
	struct wf_source *s = NULL;
	if (wf_container_open_record(c, i, &s, NULL) < 0)
		return;
	uint64_t len = wf_source_size(s);
	size_t n = len < sizeof buf ? (size_t)len : sizeof buf;
	if (len <= MAX_RECORD_BYTES) /* inflating a bomb is slow, not wrong */
		wf_source_read(s, len - n, buf, n);
	wf_source_read(s, 0, buf, n);
	wf_source_unref(s);
}

/* Where arrays stand inside the pickle. (A frame that goes on behind the pickle is one that is not read again.) */
static void find_insides(struct wf_container *c, const struct wf_storages *ss)
{
	struct wf_insides in;
	struct wf_error err = {0};
	int r = wf_insides_find(c, ss, &in, &err);
	if (r < 0 && (err.code != r || err.text[0] == '\0'))
		abort();
	if (r < 0)
		return;
	for (uint32_t i = 0; i < in.count; i++)
		if (in.all[i].start > in.all[i].end || (in.all[i].end && !wf_storage_get(ss, i)->inside))
			abort();
	wf_insides_free(&in);
}

/* Storages of the container, and those that stand inside a pickle. */
static void read_storages(struct wf_container *c, struct wf_graph *g)
{
	static char buf[4096];
	struct wf_storages *ss = NULL;
	if (wf_storages_new(g, c, &ss, NULL) < 0)
		return;
	for (uint32_t i = 0; i < wf_storages_count(ss) && i < MAX_RECORDS; i++) {
		uint64_t len = wf_storage_get(ss, i)->size_bytes;
		size_t n = len < sizeof buf ? (size_t)len : sizeof buf;
		if (len <= MAX_RECORD_BYTES)
			wf_storage_read(ss, i, len - n, buf, n);
		wf_storage_read(ss, i, 0, buf, n);
	}
	find_insides(c, ss);
	wf_storages_free(ss);
}

static void load(struct wf_container *c)
{
	struct wf_graph *g = NULL;
	wf_ref root = WF_NIL;
	if (wf_graph_new(&g) < 0)
		return;
	int r = wf_container_load_graph(c, g, &root, NULL);
	for (wf_ref p = r == 0 ? wf_graph_next(g, WF_NIL) : WF_NIL; p != WF_NIL; p = wf_graph_next(g, p)) {
		size_t len = 0;
		const char *key = wf_bytes(g, wf_element(g, wf_persid_id(g, p), 2), &len);
		if (key)
			wf_container_storage_record(c, key, len);
	}
	if (r == 0)
		read_storages(c, g);
	wf_graph_free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wf_source *s = NULL;
	struct wf_container *c = NULL;
	struct wf_error err = {0};
	if (wf_source_from_memory((void *)(uintptr_t)data, size, false, &s) < 0)
		return 0;
	int r = wf_container_open(s, &c, &err);
	wf_source_unref(s);
	if (r < 0) {
		if (err.code != r || err.text[0] == '\0')
			abort(); /* every refusal has a reason that a person can read */
		return 0;
	}
	load(c);
	for (uint32_t i = 0; i < wf_container_count(c) && i < MAX_RECORDS; i++) {
		if (strlen(wf_container_record(c, i)->name) > size)
			abort();
		read_record(c, i);
	}
	wf_container_free(c);
	return 0;
}
