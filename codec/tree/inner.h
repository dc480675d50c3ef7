/* SPDX-License-Identifier: MIT */
/* What the files of a tree share, lower ones first: tree/tree.c (nodes, directories, objects by their refs), tree/nodes.c,
 * tree/odd_names.c, tree/lookup.c, tree/names.c, tree/parts.c, tree/shape.c, tree/walk.c,
 * tree/objects.c, tree/change.c, tree/remove.c. Nobody else includes it. */
#pragma once

#include <pthread.h>

#include "codec/tree/module.h"
#include "codec/tree/tree.h"

struct wf_tree {
	uint32_t base;           /* numbers of nodes begin above it */
	uint32_t changes;        /* of names and values, so far */
	struct wf_tree *objects; /* the unabridged tree, NULL until somebody looks; only the tree itself has one */
	uint32_t objects_of;     /* `changes` when it was made */
	wf_ino metadata;         /* wf_tree_add_metadata */
	wf_ref root;             /* what the checkpoint is: another object when it cannot be changed itself */
	/* what wf_container_companion knew when the tree was made; WF_NIL for one that has nothing to show */
	struct wf_tree_companion {
		const char *name;
		wf_ref object; /* a tuple or list of something */
	} companions[WF_COMPANIONS];
	struct wf_graph *graph;
	struct wf_storages *storages;
	struct wf_container *container; /* for TorchScript's code; borrowed */
	struct wf_node *nodes;          /* nodes[ino - base - 1] */
	uint32_t node_count, node_capacity;
	struct wf_dir *dirs;
	uint32_t dir_count, dir_capacity;
	struct wf_map by_object; /* object of a container or a tensor -> ino, or one of the two below */
	struct wf_map ties;      /* tie hash of a tensor -> ino */
	/* Of long lists that stand as text: one may be shown at many places. Under index_lock. */
	struct wf_map text_sizes; /* object -> text_bytes */
	uint64_t *text_bytes;
	uint32_t text_count, text_capacity;
	bool unabridged;                   /* every object as its parts, modules too */
	uint64_t looks;                    /* left for asking what objects hold */
	struct wf_state_dicts state_dicts; /* while the tree is made */
	uint32_t links;                    /* nodes of type WF_NODE_LINK */
	bool doubtful;                     /* for wf_tree_has_doubtful */
	pthread_mutex_t index_lock;        /* readers make an index at their first lookup */
};

/* In by_object: a long list that was found to be text, which need not be found out at its next place. */
#define WF_INO_PLAIN (UINT32_MAX - 1)
#define WF_INO_EMPTY_HANDED (UINT32_MAX - 2) /* one that holds no tensor, mapping or object, though it is no text */
bool wf_tree_holds_nothing(const struct wf_tree *t, wf_ref object); /* known to be one of both */
/* A sequence that takes time to be looked through. */
bool wf_tree_is_long(const struct wf_graph *g, wf_ref r);
bool wf_tree_is_known_plain(const struct wf_tree *t, wf_ref object);

/* The tree that a number belongs to. */
static inline const struct wf_tree *wf_tree_of(const struct wf_tree *t, wf_ino ino)
{
	return ino & WF_INO_OBJECTS && !(t->base & WF_INO_OBJECTS) ? t->objects : t;
}

/* What an object is shown as. */
enum wf_shape {
	WF_SHAPE_MODULE,
	WF_SHAPE_COMPONENTS,
	WF_SHAPE_OBJECT, /* a fixed directory of its parts */
	WF_SHAPE_TENSOR,
	WF_SHAPE_MAPPING,
	WF_SHAPE_SEQUENCE,
	WF_SHAPE_VALUE,
	WF_SHAPE_OPAQUE,
};

/* *ret_container: the DICT, LIST, TUPLE or SET that holds a mapping's items or a sequence's elements. */
enum wf_shape wf_tree_shape(struct wf_tree *t, wf_ref object, wf_ref *ret_container);

/* tree/parts.c: whether r is, or holds, a tensor, a mapping or an object; a class that is a mapping of its own. */
bool wf_tree_holds(struct wf_tree *t, wf_ref r);
bool wf_tree_is_mapping_class(const struct wf_graph *g, wf_ref r);
/* What the directory of an object would have: fixed entries, mappings whose items are entries, the last of these. */
struct wf_part_count {
	uint32_t named, mappings;
	wf_ref mapping;
};
void wf_tree_count_parts(struct wf_tree *t, wf_ref object, struct wf_part_count *ret);
/* Enters them. */
int wf_tree_push_parts(struct wf_tree *t, wf_ino dir, wf_ref object);

/* tree/walk.c: a tree of nothing; and its nodes, from the root on. */
struct wf_tree *wf_tree_blank(struct wf_graph *g, struct wf_storages *ss, struct wf_container *c, wf_ref root);
int wf_tree_make_nodes(struct wf_tree *t, uint32_t after);
/* The node that shows the same data as this tensor, or WF_NO_INO. */
wf_ino wf_tree_find_tie(const struct wf_tree *t, const struct wf_tensor *a);
/* tree/nodes.c: new ones, and an entry at the end. */
int wf_tree_new_node(struct wf_tree *t, enum wf_node_type type, wf_ref object, wf_ino parent, wf_ino *ret);
int wf_tree_new_dir(struct wf_tree *t, enum wf_dir_kind kind, wf_ref object, wf_ref container, wf_ino ino);
int wf_tree_push(struct wf_tree *t, wf_ino dir, wf_ref key, wf_ref value, wf_ino ino);
/* tree/tree.c */
struct wf_dir *wf_tree_mutable_dir(struct wf_tree *t, wf_ino ino); /* NULL when it is none */
int wf_tree_map_object(struct wf_tree *t, wf_ref object, wf_ino ino);
/* tree/odd_names.c: how the name of a key differs from its plain one: 0 not at all, WF_NAME_ESCAPED, or the number behind it. */
#define WF_NAME_ESCAPED 1u
uint32_t wf_tree_odd_name(const struct wf_dir *d, wf_ref key);
int wf_tree_set_odd_name(struct wf_dir *d, wf_ref key, uint32_t how);
void wf_tree_forget_odd_name(struct wf_dir *d, wf_ref key); /* it has its plain one again */
size_t wf_tree_name_as(const struct wf_tree *t, wf_ref key, uint32_t how, char *buf);
/* tree/names.c: the odd names of a directory whose entries were just made, and of one entry with a new key. */
int wf_tree_name_entries(struct wf_tree *t, struct wf_dir *d);
int wf_tree_name_entry(struct wf_tree *t, struct wf_dir *d, uint32_t position);
/* tree/lookup.c */
/* The entry with this name, not counting the position `except`; -ENOENT, -ENOMEM. */
int wf_tree_find(struct wf_tree *t, struct wf_dir *d, const char *name, uint32_t except, uint32_t *ret_position);
/* Enters a name of an entry into the index, if there is one. */
int wf_tree_index_add(struct wf_tree *t, struct wf_dir *d, uint32_t position);
void wf_tree_index_drop(struct wf_dir *d);
/* tree/walk.c */
/* The node for an entry's value below `parent`: an existing one (ties, links) or new ones, subtrees included. */
int wf_tree_grow(struct wf_tree *t, wf_ino parent, wf_ref value, wf_ino *ret);
