/* SPDX-License-Identifier: MIT */
/* A checkpoint that this process has opened, as a store. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/busy.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/store.h"

#define LINKS_MAX 40 /* of one path, as in the kernel */

/* ---- paths ---- */

struct store_place {
	uint32_t dir;            /* in which the last name stands */
	char name[NAME_MAX + 1]; /* empty: the root */
};

struct walk {
	struct wfctl_store *s;
	int links;
};

static int step(struct walk *w, const char **path, bool follow_last, uint32_t *dir, struct store_place *ret_last,
		struct wf_stat *st);

static int go(struct walk *w, uint32_t dir, const char *path, bool follow_last, struct store_place *ret,
	      struct wf_stat *st)
{
	int r = wf_getattr(w->s->ck, dir, st);
	*ret = (struct store_place){.dir = dir};
	while (r == 0 && *path)
		r = step(w, &path, follow_last, &dir, ret, st);
	return r;
}

static int follow(struct walk *w, uint32_t dir, uint32_t link, struct store_place *ret, struct wf_stat *st)
{
	struct wf_buffer target = WF_BUFFER_INIT;
	int r = ++w->links > LINKS_MAX ? -ELOOP : wf_readlink(w->s->ck, link, &target);
	if (r == -ESTALE) { /* it is the directory now, and *ret names it */
		wf_buffer_free(&target);
		return wf_getattr(w->s->ck, link, st);
	}
	if (r == 0)
		r = wf_buffer_status(&target);
	if (r == 0)
		r = target.len > 0 && target.data[0] != '/' ? go(w, dir, target.data, true, ret, st) : -ENOENT;
	wf_buffer_free(&target);
	return r;
}

/* One name of a path. *ret_last and *st are of the last one. */
static int step(struct walk *w, const char **path, bool follow_last, uint32_t *dir, struct store_place *ret_last,
		struct wf_stat *st)
{
	struct store_place in;
	size_t len = strcspn(*path, "/");
	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	if (st->type != WF_DIRECTORY)
		return -ENOTDIR;
	*ret_last = (struct store_place){.dir = *dir};
	memcpy(ret_last->name, *path, len);
	ret_last->name[len] = '\0';
	*path += len + strspn(*path + len, "/");
	int r = 0;
	if (!strcmp(ret_last->name, "..")) /* of a link's target */
		r = wf_parent(w->s->ck, *dir, dir) < 0 ? -ENOENT : wf_getattr(w->s->ck, *dir, st);
	else if (strcmp(ret_last->name, ".") != 0)
		r = wf_lookup(w->s->ck, *dir, ret_last->name, st);
	if (r == 0 && st->type == WF_SYMLINK && (**path || follow_last))
		r = follow(w, *dir, st->ino, &in, st);
	if (r == 0 && st->type == WF_DIRECTORY)
		*dir = st->ino;
	if (r == -ENOENT && **path)
		ret_last->name[0] = '\0'; /* more than the last name is missing */
	return r;
}

/* What stands at a path. -ENOENT: *ret_place has a name where only the last one is missing. */
static int find(struct wfctl_store *s, const char *path, bool follow_last, struct store_place *ret_place,
		struct wf_stat *ret)
{
	struct walk w = {.s = s};
	size_t len = strlen(WF_METADATA_NAME);
	uint32_t dir = WF_ROOT;
	s->reason[0] = '\0';
	if (!strncmp(path, WF_METADATA_NAME, len) && (path[len] == '/' || !path[len]) && wf_metadata(s->ck, &dir) == 0)
		path += len + strspn(path + len, "/");
	return go(&w, dir, path, follow_last, ret_place, ret);
}

/* Where a new name goes; the name may be there. */
static int find_place(struct wfctl_store *s, const char *path, struct store_place *ret)
{
	struct wf_stat st;
	int r = find(s, path, false, ret, &st);
	return r < 0 && !(r == -ENOENT && ret->name[0]) ? r : ret->name[0] ? 0 : -EBUSY;
}

/* ---- looking ---- */

static struct wfctl_entry entry_of(const struct wf_stat *st)
{
	return (struct wfctl_entry){.type = st->type,
				    .ino = st->ino,
				    .links = st->nlink,
				    .bytes = st->size_bytes,
				    .writable = st->writable};
}

static int c_stat(struct wfctl_store *s, const char *path, bool follow_last, struct wfctl_entry *ret)
{
	struct store_place p;
	struct wf_stat st;
	int r = find(s, path, follow_last, &p, &st);
	if (r == 0)
		*ret = entry_of(&st);
	return r;
}

struct listing_ctx {
	int (*each)(void *ctx, const char *name, const struct wfctl_entry *e);
	void *ctx;
	int result;
};

static int list_one(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	struct listing_ctx *l = ctx;
	struct wfctl_entry e = entry_of(st);
	l->result = l->each(l->ctx, name, &e);
	return l->result != 0;
}

static int c_list(struct wfctl_store *s, const char *path,
		  int (*each)(void *, const char *, const struct wfctl_entry *), void *ctx)
{
	struct listing_ctx l = {.each = each, .ctx = ctx};
	struct store_place p;
	struct wf_stat st;
	int r = find(s, path, true, &p, &st);
	if (r == 0)
		r = wf_readdir(s->ck, st.ino, 0, list_one, &l);
	return r < 0 ? r : l.result;
}

static int c_resolve(struct wfctl_store *s, const char *path, struct wf_buffer *ret)
{
	struct store_place p;
	struct wf_stat st;
	int r = find(s, path, true, &p, &st);
	wf_buffer_puts(ret, "");
	if (r == 0 && st.type == WF_DIRECTORY)
		wf_path_of(s->ck, st.ino, ret);
	return r < 0 ? r : st.type != WF_DIRECTORY ? -ENOTDIR : wf_buffer_status(ret);
}

static int c_readlink(struct wfctl_store *s, const char *path, struct wf_buffer *ret)
{
	struct store_place p;
	struct wf_stat st;
	int r = find(s, path, false, &p, &st);
	return r < 0 ? r : wf_readlink(s->ck, st.ino, ret);
}

/* What a call on an entry came to: where its bytes cannot be read, and nobody has said why, the reason is looked for. */
static int explained(struct wfctl_store *s, uint32_t ino, int code)
{
	struct wf_buffer why = WF_BUFFER_INIT;
	bool known = s->reason[0] && s->reason_code == code;
	bool refused = code == -ENODATA || code == -EINVAL || code == -EPERM; /* by a rule, whatever its bytes are */
	if (code < 0 && !refused && !known && wf_why_unread(s->ck, ino, &why) == 0) {
		snprintf(s->reason, sizeof s->reason, "%s", why.data);
		s->reason_code = code;
	}
	wf_buffer_free(&why);
	return code;
}

static int c_get(struct wfctl_store *s, const char *path, const char *name, struct wf_buffer *ret)
{
	struct store_place p;
	struct wf_stat st;
	int r = find(s, path, true, &p, &st);
	return r < 0 ? r : explained(s, st.ino, wf_getxattr(s->ck, st.ino, name, ret));
}

static int ask_key(struct wfctl_store *s, const char *path,
		   int (*ask)(struct wf_checkpoint *, uint32_t, const char *, struct wf_buffer *),
		   struct wf_buffer *ret)
{
	struct store_place p;
	struct wf_stat st;
	int r = find(s, path, false, &p, &st);
	if (r < 0)
		return r;
	r = p.name[0] ? ask(s->ck, p.dir, p.name, ret) : -ENODATA;
	return r == -ENOENT ? -ENODATA : r; /* a scratch entry is a name and no key */
}

static int c_key(struct wfctl_store *s, const char *path, struct wf_buffer *ret)
{
	return ask_key(s, path, wf_key, ret);
}

static int c_key_class(struct wfctl_store *s, const char *path, struct wf_buffer *ret)
{
	return ask_key(s, path, wf_key_class, ret);
}

static int c_names(struct wfctl_store *s, const char *path, int (*each)(void *, const char *), void *ctx)
{
	struct store_place p;
	struct wf_stat st;
	int r = find(s, path, true, &p, &st);
	return r < 0 ? r : wf_listxattr(s->ck, st.ino, each, ctx);
}

/* ---- files ---- */

static int c_open(struct wfctl_store *s, const char *path, int flags, struct wfctl_file **ret)
{
	struct store_place p;
	struct wf_stat st;
	struct wfctl_file *f = calloc(1, sizeof *f);
	int r = find(s, path, true, &p, &st);
	if (!f)
		return -ENOMEM;
	if (flags & WFCTL_NEW)
		r = r == 0 ? -EEXIST : r == -ENOENT && p.name[0] ? wf_create(s->ck, p.dir, p.name, &st) : r;
	if (r == 0 && st.type != WF_FILE)
		r = st.type == WF_DIRECTORY ? -EISDIR : -ELOOP;
	if (r == 0)
		r = explained(s, st.ino,
			      wf_open_file(s->ck, st.ino, flags & WFCTL_WRITE ? WF_WRITES : WF_READS, &f->opening));
	f->store = s;
	f->ino = st.ino;
	f->fd = -1;
	if (r == 0 && (flags & WFCTL_EMPTY) &&
	    (r = explained(s, f->ino, wf_truncate(s->ck, f->ino, f->opening, 0))) < 0)
		wf_release(s->ck, f->ino, f->opening);
	if (r < 0)
		free(f);
	else
		*ret = f;
	return r;
}

static ssize_t c_read(struct wfctl_file *f, uint64_t offset, void *buf, size_t len)
{
	ssize_t n = wf_read(f->store->ck, f->ino, offset, buf, len);
	return n < 0 ? explained(f->store, f->ino, (int)n) : n;
}

static int c_write(struct wfctl_file *f, uint64_t offset, const void *buf, size_t len)
{
	ssize_t n = wf_write(f->store->ck, f->ino, f->opening, offset, buf, len);
	return n < 0 ? explained(f->store, f->ino, (int)n) : 0;
}

static int c_take(struct wfctl_file *f, struct wfctl_file *from)
{
	struct wf_checkpoint *source = from->store->ck;
	return source ? wf_write_from(f->store->ck, f->ino, f->opening, source, from->ino) : 1;
}

static int c_close(struct wfctl_file *f)
{
	int r = f->opening ? explained(f->store, f->ino, wf_flush(f->store->ck, f->ino, f->opening)) : 0;
	wf_release(f->store->ck, f->ino, f->opening);
	free(f);
	return r;
}

/* ---- edits ---- */

static int c_set(struct wfctl_store *s, const char *path, const char *name, const char *value)
{
	struct store_place p;
	struct wf_stat st;
	int r = find(s, path, true, &p, &st);
	return r < 0 ? r : explained(s, st.ino, wf_setxattr(s->ck, st.ino, name, value, strlen(value), 0));
}

static int c_mkdir(struct wfctl_store *s, const char *path)
{
	struct store_place p;
	struct wf_stat st;
	int r = find_place(s, path, &p);
	return r < 0 ? r : wf_mkdir(s->ck, p.dir, p.name, &st);
}

static int c_unlink(struct wfctl_store *s, const char *path)
{
	struct store_place p;
	int r = find_place(s, path, &p);
	return r < 0 ? r : wf_unlink(s->ck, p.dir, p.name);
}

static int c_rmdir(struct wfctl_store *s, const char *path)
{
	struct store_place p;
	int r = find_place(s, path, &p);
	return r < 0 ? r : wf_rmdir(s->ck, p.dir, p.name);
}

static int c_remove(struct wfctl_store *s, const char *path)
{
	struct store_place p;
	int r = find_place(s, path, &p);
	return r < 0 ? r : wf_remove_whole(s->ck, p.dir, p.name);
}

static int c_rename(struct wfctl_store *s, const char *from, const char *to, unsigned int flags)
{
	struct store_place old, new;
	int r = find_place(s, from, &old);
	if (r == 0)
		r = find_place(s, to, &new);
	return r < 0 ? r : wf_rename(s->ck, old.dir, old.name, new.dir, new.name, flags);
}

static int c_link(struct wfctl_store *s, const char *from, const char *to)
{
	struct store_place p;
	struct wf_stat st;
	int r = find(s, from, false, &p, &st);
	if (r == 0)
		r = find_place(s, to, &p);
	uint32_t ino = r == 0 ? st.ino : 0;
	return r < 0 ? r : explained(s, ino, wf_link(s->ck, ino, p.dir, p.name, &st));
}

static int c_symlink(struct wfctl_store *s, const char *target, const char *path)
{
	struct store_place p;
	struct wf_stat st;
	int r = find_place(s, path, &p);
	return r < 0 ? r : wf_symlink(s->ck, target, p.dir, p.name, &st);
}

/* ---- opening ---- */

static void c_free(struct wfctl_store *s)
{
	wf_close(s->ck);
}

static const struct wfctl_store_calls calls = {.stat = c_stat,
					       .list = c_list,
					       .resolve = c_resolve,
					       .readlink = c_readlink,
					       .open = c_open,
					       .read = c_read,
					       .write = c_write,
					       .take = c_take,
					       .close = c_close,
					       .get = c_get,
					       .key = c_key,
					       .key_class = c_key_class,
					       .names = c_names,
					       .set = c_set,
					       .mkdir = c_mkdir,
					       .unlink = c_unlink,
					       .rmdir = c_rmdir,
					       .remove = c_remove,
					       .rename = c_rename,
					       .link = c_link,
					       .symlink = c_symlink,
					       .free = c_free};

static void note_reason(void *ctx, int code, const char *reason)
{
	struct wfctl_store *s = ctx;
	s->reason_code = code;
	snprintf(s->reason, sizeof s->reason, "%s", reason);
}

static int refuse_pending(struct wfctl_store *s)
{
	return wfctl_fail(s->path, WF_EDITS_WAIT);
}

struct store_opening {
	const struct wf_open_options *options;
	struct wfctl_store *store;
	struct wf_error err;
};

static int try_open(void *ctx)
{
	struct store_opening *a = ctx;
	a->err = (struct wf_error){0};
	int r = wf_open(a->store->path, a->options, &a->store->ck, &a->err);
	if (r < 0)
		a->store->ck = NULL;
	return r;
}

struct wfctl_store *wfctl_open_checkpoint(const char *path, const struct wfctl_open_how *how)
{
	struct wfctl_store *s = calloc(1, sizeof *s);
	struct wf_open_options options = {.writable = how->edit,
					  .at_once = how->edit,
					  .commit_mode = how->commit_mode,
					  .tells_unread = true,
					  .log = wfctl_note,
					  .refused = note_reason,
					  .refused_ctx = s};
	struct store_opening a = {.options = &options, .store = s};
	if (!s || !(s->path = strdup(path))) {
		wfctl_fail_error(path, -ENOMEM, NULL);
		free(s);
		return NULL;
	}
	s->calls = &calls;
	s->editable = how->edit;
	/* a commit only needs the directory, as sed -i does; but whoever takes the right to write from a file means what is in it, and a
	 * mount of it is read-only */
	int r = how->edit && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0 ? -errno
									     : fs_when_free(path, try_open, &a);
	if (r < 0) {
		wfctl_fail_error(path, r, &a.err);
	} else if (how->edit && !how->with_pending && wf_is_dirty(s->ck)) {
		refuse_pending(s);
		r = -EBUSY;
	}
	if (r < 0) {
		wfctl_store_free(s);
		return NULL;
	}
	return s;
}
