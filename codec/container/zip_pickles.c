/* SPDX-License-Identifier: MIT */
/* The pickles of an archive: data.pkl, and beside it those of TorchScript, which no commit writes.
 *
 *   data.pkl        the object; its storages are data/KEY
 *   constants.pkl   a tuple: what the code under code/ calls CONSTANTS.c0, .c1, ...; all weights of a frozen module. constants/KEY
 *   bytecode.pkl    of the mobile interpreter (.ptl): functions, with constants of their own. constants/KEY, too: one storage under
 *                   both; in the oldest files bytecode/KEY
 *
 * Keys are numbers in each of them, and data/0 has nothing to do with constants/0: the storages of the others get keys of a name space
 * of their own, which are the names of their records.
 *
 * traced_inputs.pkl is not read: torch writes its tensors without their bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/container/records.h"
#include "codec/pickle/pickle.h"

#define KEY_MAX_BYTES 255u
#define ID_MAX 6u /* parts of an id */

enum { CONSTANTS, BYTECODE };

static const struct wf_companion companions[WF_COMPANIONS] = {
	[CONSTANTS] = {.name = "constants"},
	[BYTECODE] = {.name = "bytecode"},
};

/* A stored pickle is read where it lies; a deflated one is inflated into memory first. */
static int open_pickle(const struct wf_container *c, uint32_t i, struct wf_source **ret, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *s = NULL;
	const struct wf_record *record = &c->records[i];
	int r = wf_container_open_record(c, i, &s, err);
	if (r < 0)
		return r;
	if (record->method != 0) {
		if (record->size_bytes > WF_CONTAINER_MAX_PICKLE_BYTES)
			return wf_fail_at(err, -E2BIG, record->name, WF_ERROR_NO_OFFSET,
					  "a deflated pickle of %" PRIu64 " bytes; at most %llu are supported",
					  record->size_bytes, WF_CONTAINER_MAX_PICKLE_BYTES);
		size_t size = (size_t)record->size_bytes;
		cleanup_free void *data = malloc(WF_MAX(size, (size_t)1));
		if (!data)
			return wf_fail(err, -ENOMEM, "out of memory");
		r = wf_source_read(s, 0, data, size);
		if (r < 0)
			return wf_fail_at(err, r, record->name, WF_ERROR_NO_OFFSET, "cannot inflate the record: %s",
					  r == -EUCLEAN ? "the deflated bytes are broken" : strerror(-r));
		wf_source_unref(steal_pointer(&s));
		r = wf_source_from_memory(data, size, true, &s);
		if (r < 0)
			return wf_fail(err, r, "out of memory");
		steal_pointer(&data);
	}
	*ret = steal_pointer(&s);
	return 0;
}

static int read_pickle(const struct wf_container *c, uint32_t i, struct wf_graph *g,
		       const struct wf_pickle_reader *reader, wf_ref *ret_root, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *s = NULL;
	uint64_t end = 0;
	int r = open_pickle(c, i, &s, err);
	if (r == 0)
		r = wf_pickle_read(g, s, 0, wf_source_size(s), reader, ret_root, &end, err);
	if (r < 0)
		wf_error_where(err, c->records[i].name);
	return r;
}

static bool check_id(const struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	if (!wf_is_storage_id(g, id))
		wf_fail(err, -EOPNOTSUPP, "a persistent id that is not ('storage', class, key, location, numel)");
	return wf_is_storage_id(g, id);
}

/* ---- data.pkl ---- */

static wf_ref storage_id(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	const struct wf_container *c = ctx;
	size_t len;
	if (!check_id(g, id, err))
		return WF_NIL;
	wf_ref in_id = wf_element(g, id, 2);
	const char *key = wf_is(g, in_id, WF_STR) || wf_is(g, in_id, WF_PYSTR) ? wf_bytes(g, in_id, &len) : NULL;
	if (key && wf_container_is_companion_key(c, key, len)) {
		wf_fail(err, -EUCLEAN, "a storage of the object has the key of a constant, \"%.*s\"",
			(int)WF_MIN(len, (size_t)80), key);
		return WF_NIL;
	}
	return wf_make_persid(g, id, err);
}

static bool is_plain_key(void *ctx, const char *key, size_t len)
{
	return !wf_container_is_companion_key(ctx, key, len);
}

/* ---- the others ---- */

struct companion_reader {
	const struct wf_container *c;
	uint32_t which;
	struct wf_map keys; /* key of the pickle -> that of the name space: shared as it is shared there */
};

static wf_ref key_in_folder(struct companion_reader *reader, struct wf_graph *g, wf_ref key, struct wf_error *err)
{
	char name[sizeof WF_CONSTANTS_FOLDER + KEY_MAX_BYTES];
	uint32_t known;
	size_t len = 0;
	if (wf_map_get(&reader->keys, key, &known))
		return known;
	const char *text = wf_is(g, key, WF_STR) ? wf_bytes(g, key, &len) : NULL;
	if (!text || len == 0 || len > KEY_MAX_BYTES || memchr(text, '\0', len)) {
		wf_fail(err, -EUCLEAN, "the key of a storage is no short text");
		return WF_NIL;
	}
	snprintf(name, sizeof name, "%s%s", WF_CONSTANTS_FOLDER, text);
	if (reader->which == BYTECODE && wf_container_find(reader->c, name) == WF_NO_RECORD) {
		char old[sizeof name];
		snprintf(old, sizeof old, "%s%s", WF_BYTECODE_FOLDER, text);
		if (wf_container_find(reader->c, old) != WF_NO_RECORD)
			memcpy(name, old, sizeof name);
	}
	wf_ref made = wf_str(g, name);
	if (made == WF_NIL || wf_map_set(&reader->keys, key, made) < 0) {
		wf_fail(err, -ENOMEM, "out of memory");
		return WF_NIL;
	}
	return made;
}

static wf_ref companion_id(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	wf_ref copy[ID_MAX];
	uint32_t n = 0;
	if (!check_id(g, id, err))
		return WF_NIL;
	const wf_ref *e = wf_elements(g, id, &n);
	if (n > ID_MAX) {
		wf_fail(err, -EUCLEAN, "the id of a storage has more than %u parts", ID_MAX);
		return WF_NIL;
	}
	memcpy(copy, e, n * sizeof *e);
	copy[2] = key_in_folder(ctx, g, copy[2], err);
	if (copy[2] == WF_NIL)
		return WF_NIL;
	wf_ref made = wf_tuple(g, copy, n);
	if (made == WF_NIL) {
		wf_fail(err, wf_graph_failed(g), "out of memory");
		return WF_NIL;
	}
	return wf_make_persid(g, made, err);
}

static bool is_sequence(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_TUPLE) || wf_is(g, r, WF_LIST);
}

/* One that is damaged costs what it holds, and not the object. */
static int load_companion(struct wf_container *c, uint32_t which, struct wf_graph *g, struct wf_error *err)
{
	char name[32];
	struct wf_error why = {0};
	struct wf_companion *companion = &c->companions[which];
	struct companion_reader ctx = {.c = c, .which = which};
	const struct wf_pickle_reader reader = {.persid = companion_id, .ctx = &ctx};
	*companion = companions[which];
	snprintf(name, sizeof name, "%s.pkl", companion->name);
	uint32_t i = wf_container_find(c, name);
	if (i == WF_NO_RECORD)
		return 0;
	wf_ref root = WF_NIL;
	int r = read_pickle(c, i, g, &reader, &root, &why);
	wf_map_free(&ctx.keys);
	if (r == 0 && which == CONSTANTS && !is_sequence(g, root))
		r = wf_fail_at(&why, -EUCLEAN, name, WF_ERROR_NO_OFFSET, "it holds no tuple of constants");
	if (r == 0)
		companion->object = root;
	if (r < 0)
		wf_error_format(&why, companion->problem, sizeof companion->problem);
	if (r == -ENOMEM || wf_graph_failed(g)) { /* nothing can be made in the graph any more */
		if (err)
			*err = why;
		return r < 0 ? r : wf_graph_failed(g);
	}
	return 0;
}

/* What is known of the pickle that was read last is to be known of data.pkl, which is written again. */
static int load_companions(struct wf_container *c, struct wf_graph *g, struct wf_error *err)
{
	uint8_t protocol = wf_graph_protocol(g);
	uint64_t trace = wf_graph_trace(g);
	const char *lossy = wf_graph_lossy(g);
	int r = 0;
	for (uint32_t i = 0; i < WF_COMPANIONS && r == 0; i++)
		r = load_companion(c, i, g, err);
	wf_graph_set_protocol(g, protocol);
	wf_graph_set_trace(g, trace);
	wf_graph_set_lossy(g, lossy);
	return r;
}

/* Constants of which nobody can tell what they are. */
static void note_missing_constants(struct wf_container *c)
{
	struct wf_companion *companion = &c->companions[CONSTANTS];
	for (uint32_t i = 0; i < c->count && !companion->name; i++) {
		if (strncmp(c->records[i].name, WF_CONSTANTS_FOLDER, strlen(WF_CONSTANTS_FOLDER)) != 0)
			continue;
		*companion = companions[CONSTANTS];
		snprintf(companion->problem, sizeof companion->problem,
			 "constants.pkl: it is missing, and torch.jit.load refuses an archive without it");
	}
}

int wf_zip_load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	const struct wf_pickle_reader reader = {.persid = storage_id, .is_plain = is_plain_key, .ctx = c};
	/* is there: wf_zip_open has seen it */
	int r = read_pickle(c, wf_container_find(c, "data.pkl"), g, &reader, ret_root, err);
	if (r == 0 && c->kind == WF_CONTAINER_TORCHSCRIPT)
		return load_companions(c, g, err);
	if (r == 0)
		note_missing_constants(c);
	return r;
}
