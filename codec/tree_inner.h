/* What tree.c, tree_shape.c, tree_walk.c, tree_names.c and tree_edit.c share. Nobody else includes it. */
#pragma once

#include <pthread.h>

#include "module.h"
#include "tree.h"

struct wf_text_size {
	wf_ref object;
	uint64_t bytes;
};

struct wf_tree {
	wf_ref root; /* what the checkpoint is: another object when it cannot be changed itself */
	struct wf_graph *graph;
	struct wf_storages *storages;
	struct wf_container *container; /* for TorchScript's code; borrowed */
	struct wf_node *nodes;          /* nodes[ino - 1] */
	uint32_t node_count, node_capacity;
	struct wf_dir *dirs;
	uint32_t dir_count, dir_capacity;
	/* container or tensor object -> ino; open addressing, WF_NIL is free */
	struct {
		wf_ref object;
		wf_ino ino;
	} * by_object;
	uint32_t by_object_size, by_object_used;
	/* tie hash of a tensor -> ino; open addressing, WF_NO_INO is free */
	struct {
		uint32_t hash;
		wf_ino ino;
	} * ties;
	uint32_t ties_size, ties_used;
	/* of long lists that stand as text: one may be shown at many places; under index_lock */
	struct wf_text_size *text_sizes;
	uint32_t text_sizes_size, text_sizes_used;
	uint64_t seed;              /* of hashes of names */
	bool unabridged;            /* every object as its parts, modules too */
	uint64_t looks;             /* left for asking what objects hold */
	struct wf_state_dicts state_dicts; /* while the tree is made */
	uint32_t links;             /* nodes of type WF_NODE_LINK */
	bool doubtful;              /* for wf_tree_has_doubtful */
	pthread_mutex_t index_lock; /* readers make an index at their first lookup */
};

/* In by_object: a long list that was found to be text, which need not be found out at its next place. */
#define WF_INO_PLAIN UINT32_MAX
/* A sequence that takes time to be looked through. */
bool wf_tree_is_long(const struct wf_graph *g, wf_ref r);
bool wf_tree_is_known_plain(const struct wf_tree *t, wf_ref object);

/* What an object is shown as. */
enum wf_shape {
	WF_SHAPE_MODULE,
	WF_SHAPE_COMPONENTS,
	WF_SHAPE_OBJECT,     /* a fixed directory of its parts */
	WF_SHAPE_TENSOR,
	WF_SHAPE_MAPPING,
	WF_SHAPE_SEQUENCE,
	WF_SHAPE_VALUE,
	WF_SHAPE_OPAQUE,
};

/* *ret_container: the DICT, LIST, TUPLE or SET that holds a mapping's items or a sequence's elements. */
enum wf_shape wf_tree_shape(struct wf_tree *t, wf_ref object, wf_ref *ret_container);

/* Enters the parts of such an object. */
int wf_tree_push_parts(struct wf_tree *t, wf_ino dir, wf_ref object);

int wf_tree_new_node(struct wf_tree *t, enum wf_node_type type, wf_ref object, wf_ino parent, wf_ino *ret);
int wf_tree_new_dir(struct wf_tree *t, enum wf_dir_kind kind, wf_ref object, wf_ref container, wf_ino ino);
struct wf_dir *wf_tree_mutable_dir(struct wf_tree *t, wf_ino ino); /* NULL when it is none */
int wf_tree_push(struct wf_tree *t, wf_ino dir, wf_ref key, wf_ref value, wf_ino ino);
int wf_tree_map_object(struct wf_tree *t, wf_ref object, wf_ino ino);
/* tree_names.c: the odd names of a directory whose entries were just made, and of one entry with a new key. */
int wf_tree_name_entries(struct wf_tree *t, struct wf_dir *d);
int wf_tree_name_entry(struct wf_tree *t, struct wf_dir *d, uint32_t position);
/* The entry with this name, not counting the position `except`; -ENOENT, -ENOMEM. */
int wf_tree_find(struct wf_tree *t, struct wf_dir *d, const char *name, uint32_t except, uint32_t *ret_position);
/* Enters a name of an entry into the index, if there is one. */
int wf_tree_index_add(struct wf_tree *t, struct wf_dir *d, uint32_t position);
void wf_tree_index_drop(struct wf_dir *d);
/* The node for an entry's value below `parent`: an existing one (ties, links) or new ones, subtrees included. */
int wf_tree_grow(struct wf_tree *t, wf_ino parent, wf_ref value, wf_ino *ret);
