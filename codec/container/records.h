/* SPDX-License-Identifier: MIT */
/* A container as its reader fills it and a commit finds it: the records by index and name, and which storages they hold.
 *
 * A reader's own struct starts with struct wf_container. It calls wf_container_init, adds its records, and then
 * wf_container_index; wf_container_free frees what it added and calls ops->free for the rest.
 */
#pragma once

#include "codec/bytes/key_map.h"
#include "codec/container/container.h"
#include "codec/pickle/pickle.h"

/* At most this many records: a directory that claims more is refused before anything is allocated. */
#define WF_CONTAINER_MAX_RECORDS (1u << 24)
/* A deflated pickle is inflated into memory, because its reader goes back to long strings. */
#define WF_CONTAINER_MAX_PICKLE_BYTES (1ull << 30)
/* Deflate makes at most 258 bytes out of two bits. */
#define WF_DEFLATE_MAX_RATIO 1032u

/* Of the storages that a companion names (container/zip_pickles.c). */
#define WF_CONSTANTS_FOLDER "constants/"
#define WF_BYTECODE_FOLDER "bytecode/"

struct wf_container_ops {
	/* As wf_container_locate for a record that exists and is not bad. NULL: data starts at header_offset. */
	int (*locate)(const struct wf_container *c, uint32_t i, uint64_t *ret_offset, struct wf_error *err);
	/* The reason of a bad record, as an error. NULL where no record is ever bad. */
	int (*explain)(const struct wf_container *c, const struct wf_record *record, struct wf_error *err);
	/* As wf_container_load_graph. */
	int (*load_graph)(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err);
	/* As wf_container_why of a record that is not bad. NULL: nothing is known. */
	int (*why)(const struct wf_container *c, uint32_t i, struct wf_error *err);
	/* As wf_container_shard. NULL: it is one file. */
	const char *(*shard)(const struct wf_container *c, uint32_t i, uint32_t k);
	/* Frees the reader's own members, not c. NULL: there are none. */
	void (*free)(struct wf_container *c);
};

struct wf_name_chunk;

struct wf_container {
	const struct wf_container_ops *ops;
	enum wf_container_kind kind;
	bool big_endian;
	bool flat;                  /* wf_container_is_flat, of a directory */
	bool note_is_fault;         /* see wf_container_note */
	bool fold_case;             /* names that differ in the case of ASCII letters only are one name */
	struct wf_source *file;     /* own reference */
	char *prefix;               /* owned; never NULL */
	const char *storage_folder; /* "data/" or "storage/" */
	struct wf_record *records;
	uint32_t count, capacity, indexed;
	char *note;                                    /* owned; see wf_container_note */
	struct wf_name_chunk *names;                   /* the records' names, in chunks that never move */
	struct wf_map index;                           /* of records, by name */
	wf_ref metadata;                               /* safetensors */
	bool metadata_is_empty;                        /* it is there, with nothing in it */
	struct wf_companion companions[WF_COMPANIONS]; /* TorchScript; without a name where they were not looked for */
	uint32_t *storage_order;                       /* legacy, tar */
	uint32_t storage_count;
};

int wf_container_init(struct wf_container *c, const struct wf_container_ops *ops, enum wf_container_kind kind,
		      struct wf_source *file);
/* For a directory, whose records lie in a space that is known only when all files were looked at: takes over the reference. */
void wf_container_set_file(struct wf_container *c, struct wf_source *file);
/* Room for n records in all: -ENOMEM. */
int wf_container_reserve(struct wf_container *c, uint32_t n);
/* A record with this name and nothing else; the name is copied. The pointer is valid until the next one is added.
 * -ENOMEM, -E2BIG. */
int wf_container_add(struct wf_container *c, const char *name, size_t len, struct wf_record **ret);
/* The same for FOLDER + key. A NUL in the key: -EUCLEAN. */
int wf_container_add_storage(struct wf_container *c, const char *key, size_t len, struct wf_record **ret,
			     struct wf_error *err);
/* Makes the name index, or adds to it what came since. -EUCLEAN for two records of one name. */
int wf_container_index(struct wf_container *c, struct wf_error *err);

void wf_container_freep(struct wf_container **c);

/* As wf_pickle_read for a pickle somewhere in [start, start + len) of the file; *at is an offset in the file and moves
 * behind the pickle, errors name offsets from start on. */
int wf_read_part(struct wf_graph *g, struct wf_source *file, uint64_t start, uint64_t len, uint64_t *at, uint64_t max,
		 const struct wf_pickle_reader *reader, wf_ref *ret_root, struct wf_error *err);

/* A PERSID with that id, for the readers of persistent ids; WF_NIL with a text when the graph is full. */
wf_ref wf_make_persid(struct wf_graph *g, wf_ref id, struct wf_error *err);
/* true for a tuple ('storage', class, key, location, numel, ...). */
bool wf_is_storage_id(const struct wf_graph *g, wf_ref id);

/* What the end records of a zip archive say, checked against the file's size. */
struct wf_zip_directory {
	uint64_t offset, size_bytes, entries;
	uint64_t limit; /* where the end records start: the directory ends before */
};
int wf_zip_find_directory(struct wf_source *file, struct wf_zip_directory *ret, struct wf_error *err);

/* The records version and byteorder: -EUCLEAN without them or with other texts, -EOPNOTSUPP a version that is not known. */
int wf_zip_check_marks(struct wf_container *c, struct wf_error *err);

/* The load_graph of an archive (container/zip_pickles.c). */
int wf_zip_load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err);

int wf_zip_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err);
/* The four below return 1 when the file is something else. */
int wf_safetensors_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err);
int wf_legacy_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err);
int wf_tar_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err);
int wf_plain_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err);

/* Says in err what a file is that is no checkpoint. Returns the code: -EMEDIUMTYPE, -EOPNOTSUPP for a relative of ours
 * that the program does not read, or the error of reading. */
int wf_lookalike(struct wf_source *file, struct wf_error *err);
/* The same for a pickle that could not be read (code, and err says why) as far as g has it. */
int wf_lookalike_pickle(struct wf_source *file, const struct wf_graph *g, int code, struct wf_error *err);
/* The same for a zip archive, from the names in its directory. 0 when they tell nothing. */
int wf_lookalike_zip(struct wf_source *file, const struct wf_zip_directory *directory, struct wf_error *err);
