/* SPDX-License-Identifier: MIT */
/* The inside of edits, for the files of this folder. The records of the log are in edit/record_inner.h.
 *
 * Each edit has one function that checks, one that changes (wf_apply_...), and a record; the log's replay calls the same two.
 *
 * The files, from the bottom. Each uses those above it in this list, and none that follows:
 *
 *   state, base, locks, scratch_dirs      what is known of a file; the directories beside directories that hold scratch entries
 *   hide, places, times, refuse, format   where entries are, which are hidden, when they changed; what cannot be
 *   storages, objects, past, class        storages and their data files; objects of the graph and their types; what names remember
 *   payload, rewrite, touch, record, known    the log
 *   old, view, attribute_texts, home      what an entry was; what readers see of it (and report: what wf_status says)
 *   pending, declared, extents, undo, forget    content that waits to be judged; attributes that wait for content
 *   set, scratch, wanted, part, assembly  what content is to become, and the object that it becomes; who shares it with whom
 *   judge, names, removals, make, copy    judging; new and removed entries
 *   begin                                 locks and room for an edit
 *   finish, rename                        the end of writing; a file that takes an entry's name
 *   attributes, content, take, open, calls      the calls that edit
 *   replay_scratch, replay, ties, keep, life    the log read again; a commit; opening and closing (and revert)
 *
 * Words: content is *pending* when somebody wrote it and it is not *judged* yet, that is, not made an object or refused. An attribute is
 * *declared* when it says what content is to be that is still to come. A name's *past* is what stood there since the last commit. An
 * entry's *home* is where it stood before it went to a scratch name. A *stand-in* shows a backup's object until its own content fits.
 * Content is *settled* when a close judged all of it: readers see the entry from then on, and what the writer has in its hands stands
 * aside until it writes again. Whether it ever will nobody knows: the release comes some time after the last close, unasked.
 */
#pragma once

#include "codec/edit/format_inner.h"
#include "codec/edit/hide_inner.h"
#include "codec/edit/known_inner.h"
#include "codec/edit/record_inner.h"
#include "codec/edit/state.h"
#include "codec/edit/times_inner.h"

#define WF_REFUSED_MAX 64u

/* The type of a tensor, dtype and shape, that the content of a file is to have when its size fits. */
struct wf_tensor_type {
	enum wf_dtype dtype;
	uint32_t ndim;
	int64_t shape[WF_MAX_NDIM];
};

/* Where the content stands that readers see in place of what the node's object says: a data file of its own, or memory. */
enum wf_pending { PENDING_NOT, PENDING_BYTES, PENDING_TEXT };

struct wf_declared;
struct wf_twins;

/* What an entry was before the first of overlapping openings changed it. */
struct wf_old {
	wf_ref object;
	bool is_tensor;
	bool was_new, was_judged;
	bool shared; /* with the backup in whose place it stands */
	bool told;   /* a replay of the log remembers it, too */
	struct wf_tensor t;
	uint8_t element[16];
	uint32_t element_bytes; /* 0: the element of a 0-d tensor was not overwritten */
};

/* Where an entry of the checkpoint stood before it was moved to a scratch name. */
struct wf_home {
	wf_ino dir;
	uint32_t position;
	char name[];
};

/* What is known of a file beside its node; only files that were opened or edited have one. */
struct wf_file {
	uint32_t openers;   /* these four are changed exclusively, or with `lock` shared and open_lock */
	uint32_t writers;   /* openings for writing of this round */
	uint32_t newcomers; /* and of the next one */
	uint32_t in_hand;   /* of both, those of which no descriptor was closed yet: somebody has one for sure */
	uint8_t pending;    /* enum wf_pending */
	bool is_new;  /* made since the last commit, or None until then: each end of writing judges all of it anew */
	bool judged;  /* of a new one: it was, once; until then a commit leaves it out while somebody writes */
	bool anew;    /* the content began empty: text may stand for a number */
	bool touched; /* something was written, or a size set, since it was emptied or judged */
	bool sized;   /* a size was set without an opening; judged at `due` */
	bool aside;   /* while a commit writes: it is not in the graph */
	bool failed;  /* the last opening for writing had a write that failed */
	bool refused; /* what was written last: the old state stands, and shows when writing ends */
	bool declared_fits; /* the content has been what attributes declare: rows can be added to it */
	bool settled;       /* a close judged what was written, and nothing was written since */
	bool text_judged;   /* what is pending is the text of the object, as it was typed */
	_Atomic bool seen;  /* readers were shown the entry while what is pending stood aside */
	uint32_t round; /* of writing: another one begins with somebody else's first edit after content was settled */
	wf_ino twins;   /* of files that may show one tensor: the first of them; WF_NO_INO: none do (edit/part.c) */
	uint8_t known;  /* enum wf_known: as the log has it (edit/known.c) */
	bool class_refused; /* of a directory: the class that was set last, and that nobody was told of but by setxattr */
	bool stand_in;      /* in place of a backup, with the backup's object until its own content fits */
	int64_t due;        /* CLOCK_MONOTONIC, in ms */
	uint32_t storage;   /* of PENDING_BYTES */
	struct wf_buffer text; /* of PENDING_TEXT */
	/* the type at the last commit, where it has another one now; NULL: never changed */
	struct wf_tensor_type *was;
	struct wf_declared *declared; /* attributes that decide what the content is to be; NULL: none */
	char *shard;                  /* that it is to be moved to, by the next commit; NULL: it stays */
	struct wf_old *old;       /* the state before the first of overlapping openings; NULL: nothing changed since */
	struct wf_undo *undo;     /* what was overwritten since; NULL: nothing was (edit/undo.c) */
	struct wf_looks *looks;   /* NULL: as the file's */
	struct wf_home *home;     /* of an entry of the checkpoint under a scratch name: where it stood (edit/home.c) */
	struct wf_hidden *hidden; /* of a directory: entries that were removed, and are not gone (edit/hide.c) */
	wf_ino dir;               /* where the entry was last seen: a guess */
	uint32_t position;
};

struct wf_scratch_dir {
	wf_ino owner, dir; /* the directory that has the scratch entries, and the one that holds them */
};

struct wf_edits {
	_Atomic(struct wf_file *) *files; /* [ino - 1]; one is made with `lock` shared, too, and then with open_lock */
	uint32_t files_count;
	uint32_t pending_count;
	uint32_t *numbers; /* storage -> data file; WF_NO_NUMBER: none */
	uint32_t numbers_count;
	bool *unnamed;       /* storage -> its number is in no record (yet): the next write makes one */
	uint32_t *by_number; /* data file -> storage; WF_NO_STORAGE: none */
	uint32_t by_number_count;
	struct wf_scratch_dir *scratch_dirs;
	uint32_t scratch_dir_count;
	struct wf_dir_path {
		uint32_t generation;
		char *path; /* with a slash at its end */
	} * paths;          /* [ino - 1] */
	uint32_t paths_count;
	uint32_t generation; /* of directory names */
	uint64_t next_key;   /* for a new storage */
	struct wf_buffer payload;
	wf_ino writing;     /* the file that wf_storage_write is called for */
	wf_ino overwriting; /* a file whose bytes of before are kept, or WF_NO_INO */
	uint64_t *
		inside; /* marks of the nodes that a commit takes, as they were before the first edit; NULL: not looked for */
	uint32_t inside_count;
	wf_ino outside;     /* the first node that was edited and that it does not take (edit/outside.c); WF_NO_INO */
	bool types_changed; /* wf_edits_types_changed */
	bool structural;    /* wf_edits_structural */
	char **refused; /* paths of content that did not fit when nobody was there to hear it; WF_REFUSED_MAX of them */
	uint32_t refused_count;
	struct wf_pasts *pasts; /* edit/past.c; NULL: nothing to remember */
	bool replaying;
	uint32_t hiding_dirs;     /* files that have `hidden` */
	struct wf_place *put_off; /* removals, in their order (edit/hide.c); some are none any more */
	uint32_t put_off_count, put_off_room;
	bool quiet; /* what happens to a storage needs no record */
	struct wf_next_log {
		bool *unnamed;         /* as that of wf_edits; NULL: no log was begun */
		bool structural;       /* likewise */
		struct wf_place *lost; /* scratch entries that it cannot say */
		uint32_t lost_count;
	} next;                      /* what a running commit has put into the log that follows it */
	struct timespec replay_time; /* replay: when its edits were made, as far as is known */
	/* replay: the directory of the last path */
	char *last_path;
	struct wf_error *replay_error; /* replay: for wf_fail */
	wf_ino last_dir;
	uint32_t last_generation;
	struct wf_buffer pieces;     /* replay: of the next OBJECT */
	uint32_t *storage_of_record; /* replay: record of the container -> storage; NULL: not needed so far */
	/* files that view one storage, whose readers are notified of changes */
	uint32_t viewed, viewers_count;
	uint64_t viewed_at, changes;
	wf_ino *viewers;
	uint64_t *touched; /* bit by ino: the log has said what stood there (edit/touch.c) */
	uint32_t touched_words;
	struct wf_twins **twins; /* [first of them - 1] (edit/storages.c); NULL: none */
	uint32_t twins_count;
	bool *kept; /* storage -> the last commit left it out, and its bytes are all in its data file; [kept_count] */
	uint32_t kept_count;
};

/* edit/life.c */
struct wf_edits *wf_edits_new(void);                                   /* nothing edited; NULL: no memory */
void wf_edits_start(struct wf_checkpoint *ck, struct wf_storages *ss); /* what is written into ss goes to the overlay */

/* edit/begin.c */
int wf_edit_begin(struct wf_checkpoint *ck);         /* locks; on failure nothing is locked */
int wf_edit_begin_removal(struct wf_checkpoint *ck); /* of an edit that only removes: on a full disk, too */
void wf_edit_end(struct wf_checkpoint *ck);

/* edit/state.c */
/* Makes an array of *count elements one of `need` at least, the new ones filled with the byte. array: the address of the pointer to its
 * first element. 0 or -ENOMEM. */
int wf_edit_grow(void *array, uint32_t *count, uint32_t need, size_t size, int fill);
struct wf_file *wf_edit_file(struct wf_checkpoint *ck, wf_ino ino); /* made when missing; NULL: no memory */
int wf_edit_reserve_files(struct wf_edits *e, uint32_t nodes);      /* so many can be opened with the lock shared */
struct wf_file *wf_edit_known(const struct wf_checkpoint *ck, wf_ino ino); /* NULL when there is none */
void wf_edit_set_pending(struct wf_checkpoint *ck, struct wf_file *f, enum wf_pending pending);
void wf_edit_notify_changed(struct wf_checkpoint *ck, wf_ino ino);

/* edit/forget.c */
void wf_edit_free_file(struct wf_file *f);
void wf_edit_forget(struct wf_checkpoint *ck, wf_ino ino); /* nlink 0, and nobody has it open */
/* A directory that went is what was a link to it: what is known of it goes over. */
void wf_edit_renumber(struct wf_checkpoint *ck, wf_ino gone, wf_ino ino);

/* edit/storages.c */
int wf_edit_set_number(struct wf_checkpoint *ck, uint32_t storage, uint32_t number);
uint32_t wf_edit_number(const struct wf_checkpoint *ck, uint32_t storage);
uint32_t wf_edit_storage(const struct wf_checkpoint *ck, uint32_t number);
wf_ref wf_edit_fresh_key(struct wf_checkpoint *ck); /* a str; WF_NIL: no memory */
/* A new storage of zeroes with a fresh key, and its data file's number. */
int wf_edit_new_storage(struct wf_checkpoint *ck, uint64_t size, const char *location, uint32_t number, uint32_t *ret);
void wf_edits_free_twins(struct wf_edits *e);
void wf_edit_drop_storage(struct wf_checkpoint *ck, uint32_t storage);
int wf_edit_tensor(const struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *ret); /* decodes the node's object */
bool wf_edit_sole_view(const struct wf_checkpoint *ck, const struct wf_tensor *t);

/* edit/scratch_dirs.c */
bool wf_edit_is_scratch(const struct wf_checkpoint *ck, wf_ino dir); /* a scratch directory, or one inside of it */
bool wf_edit_is_within(const struct wf_checkpoint *ck, wf_ino dir, wf_ino above);
/* The directory of dir's scratch entries, made when missing. */
int wf_edit_make_scratch_dir(struct wf_checkpoint *ck, wf_ino dir, wf_ino *ret);
wf_ino wf_edit_parent_of(const struct wf_checkpoint *ck,
			 wf_ino dir); /* of a scratch directory: its owner; above the root: the root */

/* edit/places.c */
/* -ENOENT, -ENOTDIR */
int wf_edit_find(struct wf_checkpoint *ck, wf_ino dir, const char *name, struct wf_place *ret);
/* Where ino has an entry; -ENOENT for an orphan. */
int wf_edit_place_of(struct wf_checkpoint *ck, wf_ino ino, struct wf_place *ret);
/* Whether it is a part of a sparse or nested tensor, or of one quantised per channel, whose sizes belong together. */
bool wf_edit_is_component(struct wf_checkpoint *ck, wf_ino ino);
/* All entries of the file: calls each(); a non-zero answer ends it. */
int wf_edit_each_entry(struct wf_checkpoint *ck, wf_ino ino, int (*each)(void *ctx, wf_ino dir, uint32_t position),
		       void *ctx);
/* The key of a file that was its name before the others, as far as that is known; false: it has scratch names alone. */
bool wf_edit_first_key(struct wf_checkpoint *ck, wf_ino ino, struct wf_place *ret);
/* The entry at a place, and the node that it shows; borrowed until the next edit. */
const struct wf_entry *wf_edit_entry(const struct wf_checkpoint *ck, const struct wf_place *p);
const struct wf_node *wf_edit_node(const struct wf_checkpoint *ck, const struct wf_place *p);
/* After something went to a scratch name, or came from one: a container that a key of the checkpoint shows, too, has its
 * place there, and is the link under the scratch name. Its edits are edits of the checkpoint. */
void wf_edit_keep_places(struct wf_checkpoint *ck);
/* Whether the file is, or the directory holds, a link that leads anywhere: no checkpoint can hold that. */
bool wf_edit_leads_away(const struct wf_checkpoint *ck, wf_ino ino);
/* The names of the inode stand for it though no edit named them. */
void wf_edit_notify_renamed(struct wf_checkpoint *ck, wf_ino ino);
bool wf_edit_pending(struct wf_checkpoint *ck, wf_ino ino); /* whether a commit would write what is done to the file */
bool wf_edit_is_scratch_file(struct wf_checkpoint *ck, wf_ino ino); /* it has names, and all of them are scratch */
/* A guess for the next wf_edit_place_of. */
void wf_edit_note_place(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, uint32_t position);

/* edit/home.c */
/* A rename is done: from where, and to which directory. */
int wf_edit_moved(struct wf_checkpoint *ck, wf_ino ino, const struct wf_place *from, const char *name, wf_ino to,
		  const char *new_name);
/* Whether the name was a key's a moment ago: it is one again, whatever it is called. */
bool wf_edit_was_key(const struct wf_checkpoint *ck, wf_ino dir, const char *name);
void wf_edit_forget_homes(struct wf_checkpoint *ck); /* the commit is done: what is under a scratch name is scratch */

/* edit/refuse.c */
/* Says why r is -EPERM, where names of one of the directories cannot change. */
void wf_edit_explain(const struct wf_checkpoint *ck, int r, wf_ino dir, wf_ino new_dir);

/* edit/view.c */
/* What a writer goes on from: pending content, or that of the object. */
uint64_t wf_edit_size(struct wf_checkpoint *ck, wf_ino ino);
/* Whether the text of a new value stays as it was typed until a commit. */
bool wf_edit_keeps_text(const struct wf_checkpoint *ck, wf_ino ino);
/* Whether there is pending content that readers do not see, since it was settled. */
bool wf_edit_stands_aside(const struct wf_checkpoint *ck, wf_ino ino);
int wf_edit_read(struct wf_checkpoint *ck, wf_ino ino, uint64_t at, void *buf, size_t len);

/* edit/names.c, edit/rename.c, edit/make.c: what a call and the replay of its record do */
/* The directory that a new name goes into, and its key. old: the key that the entry has, which one that no name stands for
 * keeps when it moves under the same name. */
int wf_edit_room_for(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref old, wf_ino *ret_dir,
		     wf_ref *ret_key);
/* A new entry: at the end, or in a list where its name says. */
int wf_edit_add_entry(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref key, wf_ref value, wf_ino ino,
		      struct wf_place *ret);
bool wf_edit_pending_at(const struct wf_checkpoint *ck,
			wf_ino dir); /* whether a commit would write what is done there */
/* Takes an entry away. A file that somebody has open lives on without a name. */
int wf_edit_take_entry(struct wf_checkpoint *ck, const struct wf_place *p);
bool wf_edit_removable(const struct wf_checkpoint *ck, const struct wf_place *p);
bool wf_edit_is_empty(const struct wf_checkpoint *ck, wf_ino dir);
int wf_apply_rename(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino new_dir, const char *new_name,
		    unsigned int flags, const bool *heir);
int wf_apply_unlink(struct wf_checkpoint *ck, wf_ino dir, const char *name);
int wf_edit_remove_now(struct wf_checkpoint *ck, const struct wf_place *p,
		       const char *name);                                               /* a directory: as it is */
int wf_edit_compact(struct wf_checkpoint *ck);                                          /* closes the holes of lists */
int wf_apply_rmdir(struct wf_checkpoint *ck, wf_ino dir, const char *name, bool whole); /* whole: empty or not */
int wf_apply_mkdir(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino *ret);
int wf_apply_create(struct wf_checkpoint *ck, wf_ino dir, const char *name, uint32_t number, wf_ino *ret);
int wf_apply_object(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref object);
int wf_apply_symlink(struct wf_checkpoint *ck, wf_ino target, wf_ino dir, const char *name, wf_ino *ret);
/* target is text that leads anywhere. -EPERM but for scratch names. */
int wf_apply_symlink_to(struct wf_checkpoint *ck, const char *target, wf_ino dir, const char *name, wf_ino *ret);

/* edit/scratch.c */
/* Pickles the scratch entries for nobody: each() is called for every PERSID that they name, with its id, and gives the
 * id back. What no pickle can express is passed over. */
int wf_edit_scratch_persids(struct wf_checkpoint *ck, wf_ref (*each)(void *ctx, wf_ref persid, wf_ref id), void *ctx);
void wf_edits_drop_next(struct wf_edits *e); /* what a commit noted of the log that it began */

/* edit/extents.c */
void wf_edit_written(void *ck, uint32_t storage, uint64_t offset, uint64_t len);
int wf_edit_open_extents(void *ck, uint32_t storage, int *ret_fd);
/* The content of a tensor, and with it that of every other view of its storage. */
void wf_edit_stamp_views(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage);

/* edit/objects.c: types of tensors, and the objects that have them */
bool wf_tensor_type_fits(const struct wf_tensor_type *type, uint64_t size);
/* A whole number of rows as wide as those of the type: dimension 0 follows. false where the size is none. */
bool wf_tensor_type_rows(struct wf_tensor_type *type, uint64_t size);
struct wf_tensor_type wf_tensor_type_of(const struct wf_tensor *t);
void wf_tensor_set_type(struct wf_tensor *t, const struct wf_tensor_type *type,
			uint32_t storage); /* contiguous over the storage */
bool wf_tensor_has_type(const struct wf_tensor_type *type, const struct wf_tensor *t);
/* A tensor takes another type in all its entries; rest of *t as decoded but for storage, dtype, offset, shape and
 * stride. */
int wf_edit_change_type(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t);
/* Another object in all entries of the file. */
int wf_edit_set_object(struct wf_checkpoint *ck, wf_ino ino, wf_ref object);
/* An object for a tensor, with the type, storage, parameter and requires_grad that t has. */
int wf_edit_make_object(struct wf_checkpoint *ck, const struct wf_tensor *t, wf_ref *ret);

/* edit/undo.c: what was overwritten in place since the first of overlapping openings. While e->overwriting is a file, what is written
 * into the storage of its tensor can be undone. */
int wf_edit_before_write(void *ck, uint32_t storage, uint64_t offset,
			 uint64_t len); /* for wf_storages_set_extent_files */
int wf_edit_undo(struct wf_checkpoint *ck, wf_ino ino);
void wf_edit_free_undo(struct wf_file *f); /* it stays as it is */

/* edit/old.c */
/* Remembers what stands, once until wf_edit_forget_old. */
int wf_edit_keep_old(struct wf_checkpoint *ck, wf_ino ino);
void wf_edit_forget_old(struct wf_checkpoint *ck, wf_ino ino);         /* it is not needed any more */
const struct wf_tensor *wf_edit_old_tensor(const struct wf_file *f);   /* NULL: it was none */
wf_ref wf_edit_old_object(const struct wf_checkpoint *ck, wf_ino ino); /* what stood before the openings that go on */
void wf_edit_keep_element(struct wf_file *f, const void *bytes,
			  size_t len); /* of a 0-d tensor, before it is overwritten */
/* Whether the entry is as it was then. */
bool wf_edit_is_old(const struct wf_checkpoint *ck, wf_ino ino, const struct wf_old *old);
int wf_edit_restore_object(struct wf_checkpoint *ck, wf_ino ino,
			   const struct wf_old *old); /* the object; pending content stays */

/* edit/pending.c: content that waits to be judged, and the way back */
/* The file's content from now on stands in memory (a value) or in a data file, which keeps its first `keep` bytes. */
int wf_edit_hold(struct wf_checkpoint *ck, wf_ino ino, uint64_t keep);
int wf_apply_hold(struct wf_checkpoint *ck, wf_ino ino, uint32_t number, uint8_t flags);
/* The text in memory goes to a data file: it grew long, or is to be a tensor. */
int wf_edit_hold_bytes(struct wf_checkpoint *ck, wf_ino ino);
/* What is pending is forgotten: readers see what the object says. */
int wf_edit_drop_pending(struct wf_checkpoint *ck, wf_ino ino);
bool wf_edit_is_unjudged(struct wf_checkpoint *ck, wf_ino ino); /* new, and never judged: no commit writes it */
int wf_edit_log_pending(struct wf_checkpoint *ck, wf_ino ino);  /* for a log that a commit began */
int wf_apply_settle(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how, const struct wf_tensor_type *type);
int wf_edit_settle_as(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how,
		      const struct wf_tensor_type *type); /* with its record */

/* edit/set.c: an object for content that was judged, and its record */
/* The entry is the old one again; pending content stays. Nothing when nothing changed. */
int wf_edit_restore(struct wf_checkpoint *ck, wf_ino ino);
int wf_edit_become(struct wf_checkpoint *ck, wf_ino ino, wf_ref object, uint8_t how);     /* enum wf_set */
int wf_edit_record_set(struct wf_checkpoint *ck, wf_ino ino, wf_ref object, uint8_t how); /* its record alone */
int wf_apply_set(struct wf_checkpoint *ck, wf_ino ino, wf_ref object, uint8_t how);
/* A new file has the type that its name remembers, and its place: it is that entry from now on. */
int wf_edit_take_place(struct wf_checkpoint *ck, wf_ino ino);
wf_ref wf_edit_set_id(void *ctx, struct wf_graph *g, wf_ref id,
		      struct wf_error *err); /* replay: a storage by its data file */

/* edit/past.c: until the next commit a name remembers what stood there */
struct wf_past {
	wf_ref key, object; /* what stood there; key: WF_NIL in a list */
	/* of a tensor, which others may have changed since; no longer than its shape. NULL: none */
	struct wf_tensor_type *type;
	uint32_t storage;  /* of a tensor, or WF_NO_STORAGE */
	uint32_t position; /* in the order of the mapping, or the list */
	wf_ino ino;        /* the file, which may come back */
	bool scratch;      /* it was moved to a scratch name, as a backup: what comes next replaces it */
};
int wf_past_keep(struct wf_checkpoint *ck, const struct wf_place *p, const char *name, bool scratch);
struct wf_past *wf_past_of(const struct wf_checkpoint *ck, wf_ino dir, const char *name); /* NULL: nothing */
void wf_pasts_moved(struct wf_checkpoint *ck, wf_ino dir); /* the order of its entries is another: no place is known */
void wf_past_forget(struct wf_checkpoint *ck, wf_ino dir, const char *name); /* another entry has it */
void wf_pasts_clear(struct wf_edits *e);
/* Whether a file in place of a backup may show the object, or another one over the storage. */
bool wf_past_holds(const struct wf_checkpoint *ck, wf_ref object, uint32_t storage);

/* edit/declared.c: attributes for content that is still to come */
enum wf_declared_name {
	DECLARED_CLASS,
	DECLARED_DTYPE,
	DECLARED_SHAPE,
	DECLARED_LOCATION,
	DECLARED_GRAD,
	DECLARED_QSCHEME,
	DECLARED_SCALE,
	DECLARED_ZERO,
	DECLARED_DESCR,
	DECLARED_ASSEMBLY,
	DECLARED_COUNT
};
/* -EINVAL: no such value; -ENODATA: not one of these. */
int wf_declared_check(const char *name, const char *value);
int wf_apply_declared(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value);
int wf_edit_declare(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value); /* with its record */
int wf_edit_declare_type(struct wf_checkpoint *ck, wf_ino ino); /* dtype and shape of what is there, which they fit */
const char *wf_declared(const struct wf_file *f, enum wf_declared_name name); /* NULL: not declared */
void wf_declared_clear(struct wf_file *f);
/* It says what an array of texts, dates or records is. */
bool wf_declares_record(const struct wf_file *f, const char *name, const char *value);
int wf_shape_parse(const char *s, int64_t shape[WF_MAX_NDIM], uint32_t *ret_ndim, int *ret_free);
int wf_shape_fit(int64_t *shape, uint32_t ndim, int free_dim, uint64_t numel);
bool wf_is_location(const char *s);
/* A value of the class that user.torch.class names, for wf_value_parse; WF_NIL for one that no text stands for. */
wf_ref wf_class_example(struct wf_graph *g, const char *klass);
int wf_edit_log_declared(struct wf_checkpoint *ck, wf_ino ino); /* for a log that a commit began */

/* edit/attributes.c */
int wf_apply_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value);
/* edit/class.c: what cp -a sets on a new directory, and keys that are no texts. What cannot be taken over stays as it is. */
int wf_edit_set_class_of_dir(struct wf_checkpoint *ck, wf_ino ino, const char *klass);
int wf_edit_set_key(struct wf_checkpoint *ck, wf_ino ino, const char *json);
/* edit/assembly.c: what a copy sets on a directory last: its class, and which tensor its parts make. That waits where they are still to
 * come. -EINVAL, -EPERM: it cannot be that. */
#define WF_ASSEMBLY "user.torch.assembly"
int wf_edit_set_of_directory(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value);
int wf_apply_to_directory(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value);

/* edit/ties.c: a commit is done. types_changed: views may show the same by now. */
void wf_edits_settle_ties(struct wf_checkpoint *ck, bool types_changed);

/* edit/replay.c */
int wf_edit_replay(struct wf_checkpoint *ck, struct wf_error *err);

/* edit/replay_scratch.c: the records SCRATCH, PIECE and OBJECT; and the pickle of a record */
int wf_replay_pickle(struct wf_checkpoint *ck, wf_ref (*persid)(void *, struct wf_graph *, wf_ref, struct wf_error *),
		     const void *data, size_t len, wf_ref *ret);
int wf_replay_scratch(struct wf_checkpoint *ck);
int wf_replay_piece(struct wf_checkpoint *ck, uint64_t at, const void *data, size_t len);
int wf_replay_object(struct wf_checkpoint *ck, wf_ino dir, const char *name, uint64_t before, const void *data,
		     size_t len);
