/* The table of storages, shared by storage.c (which storages there are) and storage_bytes.c (their bytes). Nobody else
 * includes it. */
#pragma once

#include <pthread.h>

#include "devices/device.h"
#include "storage.h"

struct wf_storage_problem {
	uint32_t storage;
	char text[160];
};

/* A record that is not read from the file by offset: deflated, or text inside the pickle. */
struct wf_decoded {
	uint32_t storage;
	struct dev_memory memory; /* all of its bytes, or ... */
	struct wf_source *stream; /* ... the inflating stream where they are too many to hold */
	uint64_t used;            /* clock of the last use */
	uint32_t readers;         /* while > 0 it is not dropped */
};

struct wf_storages {
	struct wf_graph *graph;
	struct wf_container *container; /* borrowed */
	struct wf_storage *all;
	uint32_t count, capacity;
	/* PERSID object or string inside the pickle -> storage; open addressing, a power of two, WF_NIL is free */
	struct {
		wf_ref object;
		uint32_t storage;
	} * by_object;
	uint32_t by_object_size, by_object_used;
	uint32_t *by_key; /* storage + 1 by the hash of its key; open addressing */
	uint32_t by_key_size;
	struct wf_storage_problem *problems;
	uint32_t problem_count;
	struct wf_extent_files files;
	struct device *host;
	pthread_mutex_t cache_lock;
	struct wf_decoded *decoded;
	uint32_t decoded_count;
	uint64_t decoded_bytes, clock;
};

/* Drops the decoded bytes of a storage (WF_NO_STORAGE: of all). No reader may be inside. */
void wf_storage_forget_decoded(struct wf_storages *ss, uint32_t i);
