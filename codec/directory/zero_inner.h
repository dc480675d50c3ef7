/* SPDX-License-Identifier: MIT */
/* What directory/zero*.c share: the files of a DeepSpeed checkpoint, the flat vectors in them, and what is put together of these. Nobody
 * else includes it.
 *
 *   zero.c            the container
 *   zero_load.c       what all of these do
 *   zero_names.c      which files there are
 *   zero_files.c      each of them into the graph, its records into the container
 *   zero_vectors.c    the flat vectors of a rank or a group, and pieces of them
 *   zero_states.c     what the optimizer's files say, as vectors
 *   zero_params.c     the parameters and moments in them
 *   zero_model.c      `model` and `client`
 *   zero_universal.c  a universal checkpoint, whose parameters are whole already
 */
#pragma once

#include "codec/bytes/key_map.h"
#include "codec/container/records.h"
#include "codec/directory/problems.h"
#include "codec/directory/space.h"
#include "codec/tensor/tensor.h"

/* ---- zero_names.c ---- */

enum zero_kind {
	ZERO_MODEL, /* [zero_pp_rank_R_]mp_rank_M_model_states.pt */
	ZERO_OPTIM, /* [bf16_]zero_pp_rank_R_mp_rank_M_optim_states.pt */
	ZERO_PART,  /* zero/NAME/STATE.pt of a universal checkpoint, and zero/optimizer_state.pt */
	ZERO_EXPERT,
	ZERO_LAYER, /* of a pipeline */
};

struct zero_file {
	char *name; /* below the directory */
	enum zero_kind kind;
	uint32_t rank, mp;
	uint32_t member;
	uint64_t start, size_bytes; /* in the space */
	wf_ref root;                /* WF_NIL: it cannot be read */
	char *problem;              /* why */
};

struct zero_listing {
	struct zero_file *files; /* in natural order: rank 10 after rank 9 */
	uint32_t count, capacity;
	uint32_t of_kind[ZERO_LAYER + 1];
	uint32_t max_mp;
	bool universal;
};

/* The directory of the tag that path means: itself, or what `latest` in it names. 0; 1: no checkpoint of DeepSpeed; or a refusal. */
int zero_find(const char *path, char **ret_directory, struct wf_error *err);
int zero_list(const char *directory, struct zero_listing *ret, struct wf_error *err);
void zero_listing_free(struct zero_listing *l);
/* Where the bytes of a rank stand that cannot be had: "the file NAME is missing", or what is wrong with it. */
void zero_tell_lost(const struct zero_listing *l, enum zero_kind kind, uint64_t rank, char *ret, size_t size);
/* The file of a rank that can be read, for people. */
const char *zero_name_of(const struct zero_listing *l, enum zero_kind kind, uint32_t rank);

/* ---- the container; zero_load.c ---- */

struct zero {
	struct wf_container base;
	struct wf_space *space; /* lives as long as base.file */
	struct zero_listing list;
	struct wf_problems problems;
	uint32_t made;    /* tensors that were put together */
	bool space_taken; /* by base.file */
	bool loaded;
};

/* What one call of load_graph works with. */
struct zero_load {
	struct zero *z;
	struct wf_graph *g;
	struct wf_storages *storages; /* of the files alone */
	struct wf_error *err;
	struct wf_key_map params; /* names to indices of values */
	wf_ref *values;           /* fp32 tensors */
	uint32_t count, capacity;
	wf_ref model, optimizer, client; /* mappings; WF_NIL until they are made */
	wf_ref rest;                     /* what the optimizer's file says beside its tensors, or WF_NIL */
	uint64_t looked_at;              /* items that zero_get_near looked at */
	uint32_t left_out;               /* parameters of the model that no file has */
	char why[256];                   /* nothing is put together: the reason; else "" */
};

int zero_full(const struct zero_load *l);
/* Nothing of this checkpoint is put together. Returns 0. */
int zero_leave(struct zero_load *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The last record's bytes cannot be had. 0 or -ENOMEM. */
int zero_record_is_bad(struct zero *z, int code, const char *text);
/* The parameter of this name is value. */
int zero_set_param(struct zero_load *l, wf_ref name, wf_ref value);
wf_ref zero_param(const struct zero_load *l, wf_ref name); /* WF_NIL: there is none */
/* Sets NAME's state (exp_avg, ...) in `optimizer`, whose last entry it is, or becomes. */
int zero_set_moment(struct zero_load *l, wf_ref name, wf_ref *moments, wf_ref state, wf_ref value);

/* Items of a dict, of an OrderedDict and of what else behaves as one. */
const struct wf_item *zero_items(const struct wf_graph *g, wf_ref r, uint32_t *ret_n);
wf_ref zero_get(const struct wf_graph *g, wf_ref r, const char *key);
/* The value of a key, first looked for at position `near`. Files agree on the order, and where one does not no more than a fixed number
 * of items is looked at in all: WF_NIL then, as for a key that is not there. */
wf_ref zero_get_near(struct zero_load *l, wf_ref r, wf_ref key, uint32_t near);
bool zero_text(const struct wf_graph *g, wf_ref r, const char **ret, size_t *ret_len);
bool zero_is_mapping(const struct wf_graph *g, wf_ref r);

/* ---- zero_files.c ---- */

/* Reads every file's pickle into the graph, and adds its records. A file that cannot be read has its problem told and costs what stands in
 * it; other errors end the opening. */
int zero_load_files(struct zero_load *l);
/* The mapping `files`. */
int zero_make_files(struct zero_load *l, wf_ref *ret);

/* ---- zero_vectors.c ---- */

/* Elements one after the other in a file. */
struct zero_piece {
	uint32_t file;       /* index; UINT32_MAX: it is missing or cannot be read */
	enum zero_kind lost; /* then: which file of the rank */
	uint64_t at;         /* in the file, in bytes; of a missing one its rank */
	uint64_t numel;
};

/* Pieces one after the other. */
struct zero_vector {
	struct zero_piece *pieces;
	uint64_t *ends; /* number of elements up to the end of each piece */
	uint32_t count, capacity;
	enum wf_dtype dtype; /* WF_DTYPE_INVALID while it is empty */
	char problem[320];   /* "": it is whole */
};

struct zero_shape {
	int64_t sizes[WF_MAX_NDIM];
	uint32_t ndim;
	uint64_t numel;
};

/* A 1-d tensor as a piece. max_ndim: it may be of more dimensions, contiguous. false: why says what is wrong with it. */
bool zero_piece_of(const struct zero_load *l, wf_ref tensor, struct zero_piece *ret, enum wf_dtype *ret_dtype,
		   char *why, size_t why_size);
int zero_vector_add(struct zero_vector *v, const struct zero_piece *piece, enum wf_dtype dtype);
uint64_t zero_vector_numel(const struct zero_vector *v);
void zero_vector_free(struct zero_vector *v);
/* Appends [from, from + numel) of v to another vector. 0, -ENOMEM; where they are not there its problem is set. */
int zero_vector_cut(struct zero_vector *to, const struct zero_vector *v, uint64_t from, uint64_t numel);

/* torch.Size or a list of ints. */
bool zero_shape_of(const struct wf_graph *g, wf_ref r, struct zero_shape *ret);
/* A tensor of that shape over the vector, whose problem makes it one that cannot be read. */
int zero_make_tensor(struct zero_load *l, const struct zero_vector *v, const struct zero_shape *shape, wf_ref *ret);
/* One that cannot be read for that reason. */
int zero_make_lost(struct zero_load *l, const struct zero_shape *shape, const char *why, wf_ref *ret);

/* ---- zero_states.c, zero_params.c: stages 1 to 3 ---- */

#define ZERO_MAX_FIELDS 32u

/* A kind of state: the parameter itself, or one of its moments. */
struct zero_field {
	wf_ref name;               /* WF_NIL: the parameter itself */
	struct zero_vector *parts; /* [groups] of stage 1, 2; [ranks] of stage 3 */
};

struct zero_states {
	struct zero_load *l;
	wf_ref *ranks;  /* each one's optimizer_state_dict; WF_NIL: its file is missing or cannot be read */
	wf_ref *models; /* each one's model_states; of stage 1, 2 that of rank 0 alone */
	wf_ref first;   /* of `ranks`, the first one that is there */
	uint32_t world, groups, stage;
	struct zero_field fields[ZERO_MAX_FIELDS];
	uint32_t field_count;
};

/* What the optimizer's files say. 0, or an error; l->why is set where they do not agree. */
int zero_states_read(struct zero_load *l, struct zero_states *ret);
void zero_states_free(struct zero_states *s);
/* The state of flat group i by the torch optimizer of a rank; WF_NIL. */
wf_ref zero_state_of(struct zero_states *s, wf_ref optimizer, uint32_t i);
wf_ref zero_state_tensor(struct zero_states *s, const struct zero_field *f, wf_ref optimizer, uint32_t group);
/* Makes the parameters and their moments. */
int zero_make_params(struct zero_states *s, wf_ref model_states);
/* Those that no optimizer has: stage 3 has parts of them, too. */
int zero_make_frozen(struct zero_states *s, wf_ref model_states);

/* ---- the whole ---- */

/* zero_universal.c: parameters and moments of a universal checkpoint. */
int zero_read_universal(struct zero_load *l, wf_ref model_states);
/* zero_model.c: `model`, when the parameters are known; `client`. */
int zero_make_model(struct zero_load *l, wf_ref model_states);
int zero_make_client(struct zero_load *l, wf_ref model_states);
