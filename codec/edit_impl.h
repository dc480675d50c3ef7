/* The inside of edits, shared by edit*.c and replay.c only.
 *
 * Each edit has one function that checks, one that changes (wf_apply_...), and a record; the log's replay calls the
 * same two. Records (strings: u32 length and bytes; paths from the root, names joined with '/'):
 *
 *   RENAME    u32 flags, path, path            BIND     path, u32 number: the data file of that tensor's storage
 *   UNLINK    path      RMDIR  path            WRITE    u32 number, u64 offset, u64 length
 *   MKDIR     path                             RESIZE   u32 number, u64 size
 *   CREATE    path, u32 number                 LOOSEN   path, u32 number, u8 in place
 *   LINK      path of the file, path           SETTLE   path, u8 how, u8 dtype, u8 dimensions, i64 sizes
 *   SYMLINK_TO path, target: a link to anywhere, which only a scratch name can be
 *   SYMLINK   path of the directory, path      VALUE    path, text
 *   ATTRIBUTE path, name, value                COMPACT  nothing: lists are numbered anew, for a commit that failed
 *
 * A record that follows a commit means the tree as it was then, and is replayed into one that is read from the new base:
 * there another place of a shared container may be the directory and this one the link, and a list that lost its last
 * tensor is a file of text. Replay takes the one for the other.
 *
 * and what a commit leaves of the scratch entries in the log that it begins (edit_scratch.c):
 *
 *   SCRATCH   nothing: scratch entries that earlier records made are gone
 *   PIECE     u64 offset, a part of the next pickle
 *   OBJECT    path, u64 length of the pieces before, rest of the pickle. In place of 'storage' and its key the id of a
 *             storage says "record" and its index in the checkpoint, or "data file" and its number.
 */
#pragma once

#include "checkpoint_impl.h"

enum wf_edit_record {
	EDIT_RENAME = 1,
	EDIT_UNLINK,
	EDIT_RMDIR,
	EDIT_MKDIR,
	EDIT_CREATE,
	EDIT_LINK,
	EDIT_SYMLINK,
	EDIT_BIND,
	EDIT_WRITE,
	EDIT_RESIZE,
	EDIT_LOOSEN,
	EDIT_SETTLE,
	EDIT_VALUE,
	EDIT_ATTRIBUTE,
	EDIT_COMPACT = 15,
	EDIT_SCRATCH,
	EDIT_PIECE,
	EDIT_OBJECT,
	EDIT_SYMLINK_TO = 22,
};

#define WF_NO_NUMBER UINT32_MAX

/* A dtype and a shape that the content of a file is to have, when its size fits. */
struct wf_form {
	enum wf_dtype dtype;
	uint32_t ndim;
	int64_t shape[WF_MAX_NDIM];
};

enum wf_loose { LOOSE_NOT, LOOSE_TENSOR, LOOSE_TEXT };

/* What is known of a file beside its node; only files that were opened or edited have one. */
struct wf_file {
	uint32_t openers, writers; /* changed exclusively, or with `lock` shared and open_lock */
	uint8_t loose;         /* enum wf_loose: where the content stands */
	bool is_new;           /* made since the last commit */
	bool untyped;          /* nobody has said its dtype, shape or class: it takes that of an entry it replaces */
	bool wanted;           /* `form` was set while the content did not fit; kept until it does */
	uint32_t storage;      /* of LOOSE_TENSOR */
	struct wf_form *form;  /* what the tensor was before this opening first resized it, or was told to become */
	struct wf_buffer text; /* of LOOSE_TEXT; kept after it was parsed while a writer goes on */
	char *klass;           /* user.torch.class said before there was content */
	struct wf_looks *looks; /* NULL: as the file's */
	struct wf_hidden *hidden; /* of a directory: entries that were removed, and are not gone (edit_hide.c) */
	wf_ino dir;            /* where the entry was last seen: a guess */
	uint32_t position;
};

struct wf_shadow {
	wf_ino dir, shadow;
};

struct wf_edits {
	_Atomic(struct wf_file *) *files; /* [ino - 1]; one is made with `lock` shared, too, and then with open_lock */
	uint32_t files_count;
	uint32_t loose_count;
	uint32_t *numbers; /* storage -> data file; WF_NO_NUMBER: none */
	uint32_t numbers_count;
	bool *unnamed;       /* storage -> its number is in no record (yet): the next write makes one */
	uint32_t *by_number; /* data file -> storage; WF_NO_STORAGE: none */
	uint32_t by_number_count;
	struct wf_shadow *shadows;
	uint32_t shadow_count;
	struct wf_dir_path {
		uint32_t generation;
		char *path; /* with a slash at its end */
	} * paths;          /* [ino - 1] */
	uint32_t paths_count;
	uint32_t generation; /* of directory names */
	uint64_t next_key;   /* for a new storage */
	struct wf_buffer payload;
	wf_ino writing; /* the file that wf_storage_write is called for */
	bool reformed; /* wf_edits_reformed */
	bool replaying;
	uint32_t hiding_dirs; /* files that have `hidden` */
	bool quiet;            /* what happens to a storage needs no record */
	bool scratch_unlogged; /* a commit dropped the records that made the scratch files */
	struct timespec replay_time; /* replay: when its edits were made, as far as is known */
	/* replay: the directory of the last path */
	char *last_path;
	wf_ino last_dir;
	uint32_t last_generation;
	struct wf_buffer pieces;     /* replay: of the next OBJECT */
	uint32_t *storage_of_record; /* replay: record of the container -> storage; NULL: not needed so far */
	/* files that view one storage, for telling them of changes */
	uint32_t viewed, viewers_count;
	uint64_t viewed_at, changes;
	wf_ino *viewers;
	bool *kept; /* storage -> the last commit left it out, and its bytes are all in its data file; [kept_count] */
	uint32_t kept_count;
};

/* edit.c */
struct wf_edits *wf_edits_new(void); /* nothing edited; NULL: no memory */
void wf_edits_start(struct wf_checkpoint *ck, struct wf_storages *ss); /* what is written into ss goes to the overlay */
int wf_edit_begin(struct wf_checkpoint *ck); /* locks; on failure nothing is locked */
int wf_edit_begin_removal(struct wf_checkpoint *ck); /* of an edit that only removes: on a full disk, too */
void wf_edit_end(struct wf_checkpoint *ck);
struct wf_file *wf_edit_file(struct wf_checkpoint *ck, wf_ino ino);        /* made when missing; NULL: no memory */
int wf_edit_reserve_files(struct wf_edits *e, uint32_t nodes); /* so many can be opened with the lock shared */
struct wf_file *wf_edit_known(const struct wf_checkpoint *ck, wf_ino ino); /* NULL when there is none */
void wf_edit_set_loose(struct wf_checkpoint *ck, struct wf_file *f, enum wf_loose loose);
void wf_edit_forget(struct wf_checkpoint *ck, wf_ino ino); /* nlink 0, and nobody has it open */
void wf_edit_changed(struct wf_checkpoint *ck, wf_ino ino);
int wf_edit_set_number(struct wf_checkpoint *ck, uint32_t storage, uint32_t number);
uint32_t wf_edit_number(const struct wf_checkpoint *ck, uint32_t storage);
uint32_t wf_edit_storage(const struct wf_checkpoint *ck, uint32_t number);
wf_ref wf_edit_fresh_key(struct wf_checkpoint *ck); /* a str; WF_NIL: no memory */
/* A new storage of zeroes with a fresh key, and its data file's number. */
int wf_edit_new_storage(struct wf_checkpoint *ck, uint64_t size, const char *location, uint32_t number, uint32_t *ret);
void wf_edit_drop_storage(struct wf_checkpoint *ck, uint32_t storage);

/* edit_places.c */
struct wf_place {
	wf_ino dir; /* the one that holds the entry: a shadow for scratch names */
	uint32_t position;
};
/* -ENOENT, -ENOTDIR */
int wf_edit_find(struct wf_checkpoint *ck, wf_ino dir, const char *name, struct wf_place *ret);
/* Where ino has an entry; -ENOENT for an orphan. */
int wf_edit_place_of(struct wf_checkpoint *ck, wf_ino ino, struct wf_place *ret);
bool wf_edit_is_scratch(const struct wf_checkpoint *ck, wf_ino dir); /* a directory in a shadow */
/* All entries of the file: calls each(); a non-zero answer ends it. */
int wf_edit_each_entry(struct wf_checkpoint *ck, wf_ino ino, int (*each)(void *ctx, wf_ino dir, uint32_t position),
		       void *ctx);
/* The entry at a place, and the node that it shows; borrowed until the next edit. */
const struct wf_entry *wf_edit_entry(const struct wf_checkpoint *ck, const struct wf_place *p);
const struct wf_node *wf_edit_node(const struct wf_checkpoint *ck, const struct wf_place *p);
/* After something went to a scratch name, or came from one: a container that a key of the checkpoint shows, too, has its
 * place there, and is the link under the scratch name. Its edits are edits of the checkpoint. */
void wf_edit_keep_places(struct wf_checkpoint *ck);
/* Whether the file is, or the directory holds, a link that leads anywhere: no checkpoint can hold that. */
bool wf_edit_leads_away(const struct wf_checkpoint *ck, wf_ino ino);
/* The names of the inode stand for it though no edit named them. */
void wf_edit_tell_renamed(struct wf_checkpoint *ck, wf_ino ino);
/* A guess for the next wf_edit_place_of. */
void wf_edit_note_place(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, uint32_t position);
bool wf_edit_is_within(const struct wf_checkpoint *ck, wf_ino dir, wf_ino above);
/* The directory of dir's scratch entries, made when missing. */
int wf_edit_make_shadow(struct wf_checkpoint *ck, wf_ino dir, wf_ino *ret);
wf_ino wf_edit_root_of(const struct wf_checkpoint *ck, wf_ino dir); /* parent, shadows looked through */

/* edit_refuse.c */
/* Says why r is -EPERM, where names of one of the directories cannot change. */
void wf_edit_explain(const struct wf_checkpoint *ck, int r, wf_ino dir, wf_ino new_dir);

/* edit_hide.c */
/* Whether an object around the directory, or the directory itself, can be removed whole. */
bool wf_edit_can_go(const struct wf_checkpoint *ck, wf_ino dir);
/* Hides an entry of a directory whose entries cannot go one by one. -EPERM: what is around it cannot be removed either. */
int wf_edit_hide(struct wf_checkpoint *ck, const struct wf_place *p);
/* Something was removed there: whoever removes an object around it is still at work. */
void wf_edit_removed_in(struct wf_checkpoint *ck, wf_ino dir);
void wf_edit_forget_hidden(struct wf_checkpoint *ck, struct wf_file *f);
/* Takes an entry away, with all that it holds. */
int wf_edit_remove_entry(struct wf_checkpoint *ck, const struct wf_place *p);

/* edit_times.c */
/* The entry was edited now. content: what reading it gives (a directory: its names), so that mtime follows, too. */
void wf_edit_stamp(struct wf_checkpoint *ck, wf_ino ino, bool content);
void wf_edit_stamp_made(struct wf_checkpoint *ck, wf_ino dir, wf_ino ino); /* a new entry of the directory */
/* An edit of one or two names: the directories, and the files that stood there before it. */
struct wf_names_edit {
	wf_ino dir, new_dir, file, replaced; /* WF_NO_INO: none */
};
struct wf_names_edit wf_edit_before(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino new_dir,
				    const char *new_name); /* new_name may be NULL */
void wf_edit_stamp_names(struct wf_checkpoint *ck, const struct wf_names_edit *e); /* it is done */
void wf_edit_replay_time(struct wf_checkpoint *ck); /* before a replay */

/* edit_names.c: what a call and the replay of its record do */
int wf_apply_rename(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino new_dir, const char *new_name,
		    unsigned int flags);
int wf_apply_unlink(struct wf_checkpoint *ck, wf_ino dir, const char *name);
int wf_edit_compact(struct wf_checkpoint *ck); /* closes the holes of lists */
int wf_apply_rmdir(struct wf_checkpoint *ck, wf_ino dir, const char *name);
int wf_apply_mkdir(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ino *ret);
int wf_apply_create(struct wf_checkpoint *ck, wf_ino dir, const char *name, uint32_t number, wf_ino *ret);
int wf_apply_object(struct wf_checkpoint *ck, wf_ino dir, const char *name, wf_ref object);
int wf_apply_link(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name);
int wf_apply_symlink(struct wf_checkpoint *ck, wf_ino target, wf_ino dir, const char *name, wf_ino *ret);
/* target is text that leads anywhere. -EPERM but for scratch names. */
int wf_apply_symlink_to(struct wf_checkpoint *ck, const char *target, wf_ino dir, const char *name, wf_ino *ret);

/* edit_record.c */
struct wf_buffer *wf_edit_payload(struct wf_checkpoint *ck); /* empty */
void wf_put_u8(struct wf_buffer *b, uint8_t v);
void wf_put_u32(struct wf_buffer *b, uint32_t v);
void wf_put_u64(struct wf_buffer *b, uint64_t v);
void wf_put_text(struct wf_buffer *b, const void *text, size_t len);
int wf_put_path(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir, const char *name);
int wf_put_file(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino ino); /* -ENOENT for an orphan */
int wf_put_dir(struct wf_checkpoint *ck, struct wf_buffer *b, wf_ino dir);
/* Appends the payload as a record; nothing during a replay. */
int wf_edit_record(struct wf_checkpoint *ck, enum wf_edit_record type, bool pending);
int wf_edit_record_write(struct wf_checkpoint *ck, uint32_t number, uint64_t offset, uint64_t len, bool pending);

/* edit_scratch.c */
#define WF_RECORD_ID "record"
#define WF_DATA_FILE_ID "data file"
/* Pickles the scratch entries for nobody: each() is called for every PERSID that they name, with its id, and gives the
 * id back. What no pickle can express is passed over. */
int wf_edit_scratch_persids(struct wf_checkpoint *ck, wf_ref (*each)(void *ctx, wf_ref persid, wf_ref id), void *ctx);

/* edit_data.c */
bool wf_edit_pending(struct wf_checkpoint *ck, wf_ino ino); /* whether a commit would write what is done to the file */
void wf_edit_written(void *ck, uint32_t storage, uint64_t offset, uint64_t len);
int wf_edit_open_extents(void *ck, uint32_t storage, int *ret_fd);
/* The content of a tensor, and with it that of every other view of its storage. */
void wf_edit_stamp_views(struct wf_checkpoint *ck, wf_ino ino, uint32_t storage);
/* Moves the content of a tensor file out of the graph, keeping its first `keep` bytes. */
int wf_edit_loosen(struct wf_checkpoint *ck, wf_ino ino, uint64_t keep);
int wf_apply_loosen(struct wf_checkpoint *ck, wf_ino ino, uint32_t number, bool in_place);
int wf_edit_tensor(const struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *ret); /* decodes the node's object */
bool wf_edit_sole_view(const struct wf_checkpoint *ck, const struct wf_tensor *t);

/* edit_settle.c */
enum wf_settle { SETTLE_SWITCH, SETTLE_WRITE_BACK, SETTLE_ABANDON };
/* Gives the content of a loose file its meaning. Not final: content that does not fit yet, and whose meaning would part
 * views of one storage, waits. -EINVAL: text that does not parse; the old value is back. */
int wf_edit_settle(struct wf_checkpoint *ck, wf_ino ino, bool final);
int wf_edit_abandon(struct wf_checkpoint *ck, wf_ino ino); /* the file is what it was before it was loosened */
int wf_apply_settle(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how, const struct wf_form *form);
int wf_edit_settle_as(struct wf_checkpoint *ck, wf_ino ino, enum wf_settle how,
		      const struct wf_form *form); /* with its record */
int wf_apply_value(struct wf_checkpoint *ck, wf_ino ino, const char *text, size_t len);
/* A tensor takes another form in all its entries; rest of *t as decoded but for storage, dtype, offset, shape and
 * stride. */
int wf_edit_reform(struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *t);
/* Another object in all entries of the file. */
int wf_edit_set_object(struct wf_checkpoint *ck, wf_ino ino, wf_ref object);
bool wf_form_fits(const struct wf_form *form, uint64_t size);
int wf_edit_remember_form(struct wf_file *f, const struct wf_tensor *t);
/* An object for a tensor, with the form, storage, parameter and requires_grad that t has. */
int wf_edit_make_object(struct wf_checkpoint *ck, const struct wf_tensor *t, wf_ref *ret);
/* A new file takes the type of what stands at a place, when its content fits. */
int wf_edit_take_type(struct wf_checkpoint *ck, wf_ino ino, wf_ref object);
/* The text that a new file holds becomes a value like that one. -EINVAL when it does not parse. */
int wf_edit_become_value(struct wf_checkpoint *ck, wf_ino ino, wf_ref like);
int wf_edit_settle_all(struct wf_checkpoint *ck, bool final);

/* edit_attributes.c */
int wf_apply_attribute(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value);
/* What cp -a sets on a new entry: a class for the content of a file or the mapping of a directory, an int for a key that
 * reads as one. What cannot be taken over is left as it is, without an error. */
int wf_edit_set_class(struct wf_checkpoint *ck, wf_ino ino, const char *klass);
int wf_edit_set_key(struct wf_checkpoint *ck, wf_ino ino, const char *json);
int wf_edit_become(struct wf_checkpoint *ck, wf_ino ino,
		   const char *klass); /* a new file becomes a value of that class */

/* replay.c */
int wf_edit_replay(struct wf_checkpoint *ck, struct wf_error *err);

/* replay_scratch.c: the records SCRATCH, PIECE and OBJECT */
int wf_replay_scratch(struct wf_checkpoint *ck);
int wf_replay_piece(struct wf_checkpoint *ck, uint64_t at, const void *data, size_t len);
int wf_replay_object(struct wf_checkpoint *ck, wf_ino dir, const char *name, uint64_t before, const void *data,
		     size_t len);
