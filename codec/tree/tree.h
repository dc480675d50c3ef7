/* SPDX-License-Identifier: MIT */
/* The tree of names over the graph: which objects are directories, files and links, and their node numbers.
 *
 * Three identifiers, and what one can do with each:
 *   wf_ref    an object of the graph. One object may be seen at many places.
 *   wf_ino    a file: what stat calls an inode. WF_INO_ROOT is 1; numbers are given in the order of a walk from the root
 *             (depth first, in the mapping's order) and then in the order of creation, so that the same file and the same
 *             edits always give the same numbers: the overlay's log relies on it. Never reused while open.
 *   entry     a name in a directory: position in its entries. Positions stay while the checkpoint is open (removed ones
 *             become holes), so that a readdir cookie is a position + 1.
 *   ref -> ino: containers and tensors through wf_tree_ino_of; plain values have one ino for each place.
 *   ino -> ref: node->object.   ino -> name: not unique (hard links); directories know their parent and position.
 *
 * Ties: tensors with wf_tensor_tied data share one ino; nlink counts the entries. A container met again is a link node
 * whose target is the first place. Cycles therefore end, and a shared graph is never expanded.
 * nn.Module and TorchScript objects, sparse tensors and per-channel quantised ones are directories with a fixed set of
 * entries (WF_DIR_FIXED): data can be written, names cannot change.
 * The constants of TorchScript's code stand behind the entries of the root, where that is such a directory, as the directory
 * `constants`; in the unabridged tree always, and beside them what else wf_container_companion knows.
 *
 * Threads: readers beside each other or one writer, by the checkpoint's lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/map.h"
#include "codec/container/container.h"
#include "codec/bytes/err.h"
#include "codec/value/names.h"
#include "codec/object/object.h"
#include "codec/tensor/storage.h"
#include "codec/tensor/tensor.h"

typedef uint32_t wf_ino;
#define WF_INO_ROOT ((wf_ino)1)
#define WF_NO_INO ((wf_ino)0)
#define WF_INO_OBJECTS ((wf_ino)1 << 31) /* numbers with this bit are of the unabridged tree */

enum wf_node_type {
	WF_NODE_GONE,
	WF_NODE_DIR,
	WF_NODE_TENSOR,
	WF_NODE_VALUE,  /* text of a plain value, or raw str/bytes */
	WF_NODE_OPAQUE, /* read-only description of an object that has no other form */
	WF_NODE_LINK, /* symbolic link to a directory's first place; of a str: to what it says, for scratch names alone */
	WF_NODE_SCRATCH, /* a file (or directory) that never becomes a key */
};

struct wf_node {
	uint8_t type;  /* enum wf_node_type */
	bool detached; /* made by wf_tree_add_detached */
	bool linked; /* a directory that a link shows, or showed: another key of the checkpoint may hold the container */
	uint32_t nlink; /* entries that name it; a directory counts its one place */
	wf_ref object;  /* a tensor's: one of its tied objects; a link's: the container it points to */
	wf_ino parent;  /* directory of the first entry; the root's own for the root */
	uint32_t dir;   /* index of its struct wf_dir for directories */
};

enum wf_dir_kind {
	WF_DIR_MAPPING,  /* entries are the items of `container`, position by position */
	WF_DIR_SEQUENCE, /* elements of a list or tuple: names 0, 1, ... */
	WF_DIR_FIXED,    /* names that are not keys of one container: modules, components, the single "value" */
};

struct wf_entry {
	wf_ref key;   /* the key; for FIXED a string with the name; WF_NIL for a hole, and for SEQUENCE */
	wf_ref value; /* WF_NIL for a hole */
	wf_ino ino;
};

struct wf_odd_name {
	wf_ref key;
	uint32_t how;
};

struct wf_dir {
	uint8_t kind;         /* enum wf_dir_kind */
	bool read_only_names; /* FIXED, and containers inside a whole module: renames and the like give EPERM */
	bool companion;       /* of a pickle that no commit writes: nothing but the bytes of tensors can change */
	wf_ino ino;
	wf_ref object;    /* what the directory stands for (an OrderedDict call, a list, a module) */
	wf_ref container; /* the DICT or LIST or TUPLE inside it that holds the entries, WF_NIL for FIXED */
	struct wf_entry *entries;
	uint32_t count, capacity; /* positions, holes included */
	uint32_t live;            /* entries that are no holes */
	struct wf_map index;      /* name hash -> position; made at the first lookup */
	struct wf_odd_name *odd;  /* sorted by key: names that do not follow from their key alone (tree/names.c) */
	uint32_t odd_count;
};

struct wf_tree;

/* Walks the graph from root once. Iterative; O(objects). c: what it knows of companions is of this graph; may be NULL. All nodes but the root get numbers above `after`: 0, or the
 * node count of the tree that this one replaces, whose numbers somebody may still hold. */
int wf_tree_new(struct wf_graph *g, struct wf_storages *ss, struct wf_container *c, wf_ref root, uint32_t after,
		struct wf_tree **ret, struct wf_error *err);
void wf_tree_free(struct wf_tree *t);
/* For an export, the last that is done with a checkpoint: memory goes back as soon as nothing needs it. Without objects no node is found by
 * its object or by its data; without entries there are nodes alone. */
void wf_tree_forget_objects(struct wf_tree *t);
void wf_tree_forget_entries(struct wf_tree *t);
/* A mapping of texts that is no part of the root and stands beside it, as WF_METADATA_PATH: the __metadata__ of a safetensors file. Its
 * directory is one as any other, but that nothing above names it. Once, before any edit. 0 or -ENOMEM. */
#define WF_METADATA_PATH ".weightfs/metadata"
int wf_tree_add_metadata(struct wf_tree *t, wf_ref mapping);
wf_ino wf_tree_metadata(const struct wf_tree *t); /* WF_NO_INO: there is none */
/* The root object: the one given, or what an edit put in the place of a tuple or a plain value. */
wf_ref wf_tree_root(const struct wf_tree *t);
bool wf_tree_has_companions(const struct wf_tree *t); /* whether the directory of any is `companion` */
/* After a commit: the container that the names belong to now. */
void wf_tree_set_container(struct wf_tree *t, struct wf_container *c);

/* The unabridged tree: the whole graph of objects, each as its parts (modules, too), with numbers of its own that everything
 * below takes for reading; edits do not. Made at the first call and again after edits of names and values; then the old numbers
 * are gone. *after: the last number used for it, 0 at first. Makes objects in the graph. Returns 0, -ENOMEM, -E2BIG. */
int wf_tree_objects(struct wf_tree *t, uint32_t *after, wf_ino *ret_root);
/* Whether it is there and up to date. */
bool wf_tree_has_objects(const struct wf_tree *t, wf_ino *ret_root);
/* The tensors of the unabridged tree that stand in no other place, and their bytes. */
void wf_tree_count_unseen(const struct wf_tree *t, uint64_t *ret_tensors, uint64_t *ret_bytes);
void wf_tree_drop_objects(struct wf_tree *t);
uint32_t wf_tree_changes(const struct wf_tree *t); /* a number that edits of names and values change */

const struct wf_node *wf_tree_node(const struct wf_tree *t, wf_ino ino); /* NULL for unknown and GONE ones */
/* false: every tensor could be decoded when its node was made, and need not be asked again. */
bool wf_tree_has_doubtful(const struct wf_tree *t);
uint32_t wf_tree_node_count(const struct wf_tree *t);                  /* inos are 1 .. count */
const struct wf_dir *wf_tree_dir(const struct wf_tree *t, wf_ino ino); /* NULL when it is no directory */
/* Position of a name; -ENOENT, -ENOTDIR, -ENOMEM. Takes a lock of its own to make the index at the first lookup. */
int wf_tree_lookup(struct wf_tree *t, wf_ino dir, const char *name, uint32_t *ret_position);
/* Name of the entry at a position into buf (WF_NAME_MAX + 1); false for a hole. */
bool wf_tree_name(const struct wf_tree *t, const struct wf_dir *d, uint32_t position, char *buf);
/* The key for a new name in a mapping, by the rule of value/names.h. -EINVAL: another name is that key's; and wf_key_from_name's. */
int wf_tree_new_key(struct wf_tree *t, wf_ino dir, const char *name, wf_ref *ret);
/* Whether an entry that moves to this name keeps its key: one that no name stands for, under its own name. */
bool wf_tree_keeps_key(const struct wf_tree *t, wf_ref key, const char *name);
/* Relative target of a link node, from the directory that holds it. */
int wf_tree_link_target(const struct wf_tree *t, wf_ino link, struct wf_buffer *out);
/* The ino that shows a container or tensor object; WF_NO_INO when it is not in the tree. */
wf_ino wf_tree_ino_of(const struct wf_tree *t, wf_ref object);
/* wf_value_size, told again without the text being made again. Any thread. */
int wf_tree_text_size(struct wf_tree *t, wf_ref object, uint64_t *ret);
/* Path of a directory or of a file's first place from the root, without a leading slash. For messages. */
void wf_tree_path(const struct wf_tree *t, wf_ino ino, struct wf_buffer *out);

/* ---- changes; each keeps graph, entries, index, ties and link counts in step. All check first, then change.
 * Return 0 or a negative errno (-EPERM for read_only_names, -ENOMEM, -E2BIG). Names are looked up by the caller. ---- */
int wf_tree_set_key(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref new_key); /* rename in place */
/* What a removal did beside taking the entry away. NULL functions are not called. */
struct wf_tree_watcher {
	void (*gone)(void *ctx, wf_ino ino); /* a node that has no entry any more */
	void (*directory)(void *ctx, wf_ino gone,
			  wf_ino ino); /* what was a link to that directory is the directory now */
	void *ctx;
};
/* A directory goes with all that it holds, but for containers that are linked to from what is left: these have their place
 * there from now on. watcher may be NULL. */
int wf_tree_remove(struct wf_tree *t, wf_ino dir, uint32_t position, const struct wf_tree_watcher *watcher);
/* The entry of a mapping or a sequence shows another file, which gets one more link; its name and its place stay. -EPERM: what is
 * around it cannot change. */
int wf_tree_replace(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref value, wf_ino ino);
/* Two positions of a mapping change places in its order; either may be a hole. */
int wf_tree_exchange(struct wf_tree *t, wf_ino dir, uint32_t a, uint32_t b);
/* A value into a hole of a list; ino as below. */
int wf_tree_fill(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref value, wf_ino ino, wf_ino *ret);
/* Appends an entry. ino: an existing node that gets one more link, or WF_NO_INO to make the node for value (a whole
 * subtree for a container). SEQUENCE: key is WF_NIL. */
int wf_tree_add(struct wf_tree *t, wf_ino dir, wf_ref key, wf_ref value, wf_ino ino, wf_ino *ret);
/* A symbolic link to what the str says, without an entry yet. */
int wf_tree_new_link(struct wf_tree *t, wf_ino parent, wf_ref target, wf_ino *ret);
/* A directory that no entry names: for what stands beside the checkpoint. */
int wf_tree_add_detached(struct wf_tree *t, wf_ino parent, wf_ref container, wf_ino *ret);
/* For a node whose first entry went: the directory of one that is left. */
void wf_tree_set_parent(struct wf_tree *t, wf_ino ino, wf_ino parent);
bool wf_tree_has_links(const struct wf_tree *t);
uint32_t wf_tree_dir_count(const struct wf_tree *t);
const struct wf_dir *wf_tree_dir_at(const struct wf_tree *t, uint32_t i); /* all directories, in no order */
/* Two entries that show one container, as its directory and as a link to it: the directory is at the link's place from now
 * on, and the other way round. */
void wf_tree_swap_places(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ino link_dir, uint32_t link_position);
/* The entry, with the object that it has, shows another file: ino, which shows the same data, or WF_NO_INO for one of its own. For names
 * that are, or are not, one file in what a commit wrote. 0, -ENOENT, -ENOMEM. */
int wf_tree_retie(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ino ino, wf_ino *ret);
/* Another object for the same name and ino (a value of text, a tensor that changed its form). */
int wf_tree_set_value(struct wf_tree *t, wf_ino dir, uint32_t position, wf_ref value);
/* A directory of a mapping stands for another object from now on, with the same files: the entries given. Those of FIXED may show
 * other objects than before, with the same data. */
int wf_tree_recast(struct wf_tree *t, wf_ino ino, enum wf_dir_kind kind, wf_ref object, wf_ref container,
		   const struct wf_entry *entries, uint32_t count);
/* A list or tuple of plain values, which is one file of text, becomes the directory that it would be if it held a tensor.
 * -ENOTDIR: it is something else. */
int wf_tree_expand(struct wf_tree *t, wf_ino ino);
bool wf_tree_has_holes(const struct wf_tree *t); /* whether wf_tree_compact would change anything */
/* Closes the holes of lists in the graph and renumbers their names. Called before a commit writes the graph; mappings keep
 * their holes, which the pickle writer leaves out. */
int wf_tree_compact(struct wf_tree *t);
/* What cat shows of an opaque object: its class and, where they are plain, its arguments. */
int wf_tree_describe(const struct wf_graph *g, wf_ref object, struct wf_buffer *out);
