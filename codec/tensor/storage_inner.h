/* SPDX-License-Identifier: MIT */
/* The table of storages, shared by tensor/storage.c (which storages there are), tensor/storage_table.c (what the
 * table holds), tensor/storage_change.c (what edits and commits make
 * of them), tensor/storage_bytes.c (their bytes) and tensor/storage_decoded.c (bytes that do not stand in the file as they are). Nobody
 * else includes it but their unit test. */
#pragma once

#include <pthread.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/map.h"
#include "devices/device.h"
#include "codec/tensor/storage.h"

/* The base bytes of one storage where they cannot be read from the file by offset. */
struct wf_decoded {
	uint32_t storage;
	uint32_t readers;         /* while > 0 it is not dropped */
	uint64_t used;            /* clock of the last use */
	struct dev_memory memory; /* all of its bytes, or ... */
	struct wf_source *stream; /* ... the inflating stream where they are too many to hold, or ... */
	uint64_t *steps;          /* ... of a text inside the pickle: where each 64 KiB of bytes start in it */
};

/* A storage inside the pickle. */
struct wf_inside_bytes {
	wf_ref array, data;
	uint32_t skip_bytes;
};

struct wf_storages {
	struct wf_graph *graph;
	struct wf_container *container; /* borrowed */
	struct wf_storage *all;
	uint32_t count, capacity;
	/* Of an ndarray, or of the call of a storage. A PERSID has the storage + 1 for its number. */
	struct wf_map by_object;
	/* While the table is built, what finds a key again: the first storage + 1 that a record belongs to, and for a key
	 * without a record, or with another spelling of one, a table. */
	uint32_t *by_record;
	uint32_t last_record; /* that of the storage before, since torch writes them in the order of the pickle */
	struct wf_map by_key;
	struct wf_inside_bytes *insides;
	uint32_t inside_count, inside_capacity;
	struct wf_map inside_at;   /* storage -> place in insides */
	struct wf_buffer problems; /* sentences, each with its NUL */
	struct wf_map problem_at;  /* storage -> place in problems */
	struct wf_extent_files files;
	const struct wf_storage_mirror *mirror; /* may be NULL */
	/* of those that are `given` */
	struct wf_map given_at; /* storage -> place in given */
	struct wf_source **given;
	uint32_t given_count, given_capacity;
	struct device *host;
	pthread_mutex_t cache_lock; /* guards the four below */
	struct wf_decoded *decoded;
	uint32_t decoded_count;
	uint64_t decoded_bytes, clock;
	uint64_t decoded_max_bytes; /* WF_STORAGE_CACHE_MAX */
};

/* Reads base bytes of a storage whose record is deflated or whose bytes are text inside the pickle. The range lies
 * inside the base. */
int wf_storage_read_decoded(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len);
/* Of one that is inside the pickle. */
struct wf_inside_bytes *wf_storage_inside(const struct wf_storages *ss, uint32_t i);
/* Of one that is given. */
struct wf_source *wf_storage_given(const struct wf_storages *ss, uint32_t i);
/* It is given no more. */
void wf_storage_take_back(struct wf_storages *ss, uint32_t i);
/* Drops the decoded bytes of all storages. No reader may be inside. */
void wf_storages_forget_decoded(struct wf_storages *ss);
/* How many bytes the text of a latin-1 encoded array stands for. -EUCLEAN where it holds a character that is none. */
int wf_storage_measure_text(const struct wf_graph *g, wf_ref str, uint64_t *ret_bytes);
/* The first bytes that such a text stands for, at most max. */
int wf_storage_text_head(const struct wf_graph *g, wf_ref str, unsigned char *buf, size_t max, size_t *ret_len);
/* Makes the storage bad, unless it is already, with a sentence for wf_storage_problem. */
void wf_storage_problem_is(struct wf_storages *ss, uint32_t i, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* A text of the id that a PERSID object has: 2 the key, 3 the location. "" where it is none. */
const char *wf_storage_persid_text(const struct wf_storages *ss, wf_ref persid, uint32_t part);
