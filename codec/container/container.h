/* SPDX-License-Identifier: MIT */
/* The outer formats of a checkpoint behind one interface: which records there are, where the pickle is, and where the
 * bytes of each storage lie.
 *
 *   zip      torch >= 1.6 and TorchScript: records data.pkl, data/KEY, ... under one prefix (container/zip_read.c draws it)
 *   legacy   0.1.10 to 1.5: magic, protocol, sys_info, object, keys, storages in one stream (container/legacy_read.c)
 *   tar      0.1.1 to 0.1.9: members storages, tensors, pickle (container/tar_read.c)
 *   pickle   what pickle.dump wrote: one object with all its bytes (container/plain_read.c)
 *   safetensors  a header of JSON, then the bytes of all tensors (container/safetensors_head.h)
 *
 * A directory is one more (codec/directory/directory.h), whose records lie in several files.
 *
 * The bytes decide which, never the extension. A container is immutable once open, so that readers need no lock.
 * Calling sequence: wf_container_open, wf_container_load_graph once, then look up and read; wf_container_free.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/err.h"
#include "codec/object/object.h"
#include "codec/bytes/source.h"

enum wf_container_kind {
	WF_CONTAINER_ZIP,
	WF_CONTAINER_TORCHSCRIPT,
	WF_CONTAINER_LEGACY,
	WF_CONTAINER_TAR,
	WF_CONTAINER_PICKLE,
	WF_CONTAINER_SAFETENSORS,
	/* checkpoints in several files: codec/directory/ opens them */
	WF_CONTAINER_HUGGINGFACE,
	WF_CONTAINER_DCP,
	WF_CONTAINER_ZERO,
};

/* A named piece of the container: a zip record, a tar member, or a part of the legacy stream ("magic", "object",
 * "keys", "storage/KEY" ...). */
struct wf_record {
	const char *name; /* after the prefix; valid until wf_container_free */
	/* zip: local header; else of the bytes themselves. Where data starts: wf_container_locate */
	uint64_t header_offset;
	uint64_t stored_bytes; /* maybe deflated */
	uint64_t size_bytes;   /* after inflating */
	uint32_t crc32;        /* zip: of the inflated bytes as the directory says */
	uint16_t method;       /* 0 stored, 8 deflated */
	/* 0, or the negative errno why its bytes cannot be had (encrypted, overlapping, outside); wf_container_locate and
	 * wf_container_open_record tell the reason */
	int bad : 10;
	unsigned int problem : 4; /* which rule `bad` stands for: for the readers of the formats */
	bool has_crc : 1;
	bool twice : 1; /* zip: another record that no tensor needs has this name, too */
};

_Static_assert(sizeof(struct wf_record) == 40, "there can be 100,000");

#define WF_NO_RECORD UINT32_MAX

struct wf_container;

/* Recognises and opens the file. Costs the directory, never the data.
 * Returns: 0; -EMEDIUMTYPE not a checkpoint (the text names what it is: an HTML page, a git-lfs pointer, ...);
 * -EUCLEAN, -EOPNOTSUPP, -E2BIG; or the system's error. Takes its own reference on file. */
int wf_container_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err);
void wf_container_free(struct wf_container *c);

enum wf_container_kind wf_container_kind_of(const struct wf_container *c);
/* "zip", "torchscript", "legacy", "tar", "pickle", "safetensors", "huggingface", "dcp", "zero". */
const char *wf_container_kind_name(const struct wf_container *c);
/* Whether it is in several files. Its file (wf_container_file) is then a space of offsets that they are laid out in. */
bool wf_container_is_directory(const struct wf_container *c);
/* Whether it holds a flat mapping of plain tensors and can hold nothing else: safetensors, and a directory of such files. */
bool wf_container_is_flat(const struct wf_container *c);
/* Whether a commit writes where storages were: a pickle's ids say it, of a file by itself or of a shard. */
bool wf_container_keeps_locations(const struct wf_container *c);
/* Of one in several files: the name, below the directory, of the k-th member file that holds bytes of record i, in the order of the bytes;
 * NULL past the last one, and in every other container. Valid as long as c is. */
const char *wf_container_shard(const struct wf_container *c, uint32_t i, uint32_t k);
/* Of one in several files, once the graph is loaded: what of the directory is not shown, in one line without a final newline; NULL.
 * *ret_fault: because something is wrong with it, and not because it is of a kind that is not put together. */
const char *wf_container_note(const struct wf_container *c, bool *ret_fault);
struct wf_source *wf_container_file(const struct wf_container *c); /* borrowed */
const char *wf_container_prefix(const struct wf_container *c);     /* zip: without the slash; "" otherwise */
bool wf_container_big_endian(const struct wf_container *c);        /* byteorder record says big */

/* The records in the order of the file's directory. */
uint32_t wf_container_count(const struct wf_container *c);
const struct wf_record *wf_container_record(const struct wf_container *c, uint32_t i); /* NULL past the end */
/* By name after the prefix (in a zip without regard to the case of ASCII letters, as torch looks up); WF_NO_RECORD when
 * there is none. */
uint32_t wf_container_find(const struct wf_container *c, const char *name);
/* Frees what finds a record by its name: there is none with any name from then on. */
void wf_container_forget_names(struct wf_container *c);
/* Where the stored bytes of record i start in the file. A zip's local header is read at the first call for each record:
 * opening 100,000 records must not cost as many reads. Any thread.
 * Returns: 0; the record's `bad` with the reason; -EUCLEAN no local header there, or it pushes the bytes into the next
 * record; or the source's error. */
int wf_container_locate(const struct wf_container *c, uint32_t i, uint64_t *ret_offset, struct wf_error *err);
/* Asked after a read of the record's bytes has failed: whether its files can be opened and hold what they should. 0: nothing is wrong with
 * that; or the error, with a text that names the file. Any thread. */
int wf_container_why(const struct wf_container *c, uint32_t i, struct wf_error *err);
/* A source over the record's inflated bytes (a slice of the file where it is stored). */
int wf_container_open_record(const struct wf_container *c, uint32_t i, struct wf_source **ret, struct wf_error *err);

/* Reads the main pickle (zip: data.pkl) into g. Persistent ids of storages become WF_PERSID objects whose id is
 * ('storage', class, key, location, numel[, view]) in every format; the legacy format's ('module', class, file, source)
 * stays a WF_PERSID, too (wf_class_of sees through it), so that it can be written again; the tar format's ids, which no
 * other format has, become what they stand for: a _rebuild_tensor_v2 call or the class's WF_GLOBAL. *ret_root: the object. */
int wf_container_load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err);

/* safetensors, once the graph is loaded: the mapping of its __metadata__, texts to texts, which is no part of the root; empty where
 * there is none. WF_NIL in every other format. */
wf_ref wf_container_metadata(const struct wf_container *c);
/* The file has that mapping, and nothing in it: it stays so. Some programs tell {} from none. */
bool wf_container_metadata_is_empty(const struct wf_container *c);

/* TorchScript, once the graph is loaded: what other pickles of the archive hold, which is no part of the root and which no commit
 * writes: constants.pkl (a tuple or a list) and bytecode.pkl. */
#define WF_COMPANIONS 2u
struct wf_companion {
	const char *name;  /* "constants", "bytecode" */
	wf_ref object;     /* WF_NIL: there is none, or it cannot be read */
	char problem[256]; /* why it cannot, a sentence; "" */
};
/* NULL past the end, and in every other format. Valid until wf_container_free. */
const struct wf_companion *wf_container_companion(const struct wf_container *c, uint32_t i);
/* Whether the key is that of a storage that one of them names: the name of its record, "constants/0". Those of the object have no such
 * keys: an archive in which one has is refused. */
bool wf_container_is_companion_key(const struct wf_container *c, const char *key, size_t len);

/* The record that holds the storage with this key (bytes of the key string): zip data/KEY, legacy and tar storage/KEY; of a companion
 * what the key says. WF_NO_RECORD when the container has none. */
uint32_t wf_container_storage_record(const struct wf_container *c, const char *key, size_t key_len);
/* The same, looking first at the record `guess`: cheap when that is the one. */
uint32_t wf_container_guess_storage_record(const struct wf_container *c, uint32_t guess, const char *key,
					   size_t key_len);

/* Legacy and tar: the storages in the order of the stream (record indices), for a faithful rewrite; NULL and 0 for a
 * zip. Valid until wf_container_free. */
const uint32_t *wf_container_storage_order(const struct wf_container *c, uint32_t *ret_n);
