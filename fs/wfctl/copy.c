/* SPDX-License-Identifier: MIT */
/* Copies an entry with all that is in it. */
#include "fs/wfctl/copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/keys.h"

#define DEPTH_MAX 1000 /* of mappings in mappings; a mount has no longer paths */
#define CHUNK_BYTES (4u << 20)

/* Where a file with several names was copied to first. */
struct wfctl_tie {
	uint64_t ino;
	char *to;
};

/* ---- ties ---- */

static const char *first_copy(const struct wfctl_copying *c, uint64_t ino)
{
	struct wf_map_probe p = wf_map_probe(&c->tie_of_ino, wf_map_hash_u64(&c->tie_of_ino, ino));
	uint32_t i;
	while (wf_map_next(&p, &i))
		if (c->ties[i].ino == ino)
			return c->ties[i].to;
	return NULL;
}

static int note_copy(struct wfctl_copying *c, uint64_t ino, const char *to)
{
	int r = wf_array_reserve(&c->ties, &c->tie_capacity, (uint64_t)c->tie_count + 1, sizeof *c->ties, UINT32_MAX);
	if (r == 0)
		r = wf_map_reserve(&c->tie_of_ino, 1);
	if (r < 0)
		return r;
	char *copy = strdup(to);
	if (!copy)
		return -ENOMEM;
	wf_map_add(&c->tie_of_ino, wf_map_hash_u64(&c->tie_of_ino, ino), c->tie_count);
	c->ties[c->tie_count++] = (struct wfctl_tie){ino, copy};
	return 0;
}

void wfctl_copying_end(struct wfctl_copying *c)
{
	wfctl_copy_tell_less(c);
	for (uint32_t i = 0; i < c->tie_count; i++)
		free(c->ties[i].to);
	free(c->ties);
	wf_map_free(&c->tie_of_ino);
}

/* ---- bytes ---- */

static int copy_piece(struct wfctl_copying *c, struct wfctl_file *in, struct wfctl_file *out, uint64_t at, char *chunk,
		      uint64_t left, uint64_t *ret_len)
{
	int fd;
	uint64_t offset, len;
	/* the kernel moves what stands in a file: nothing of it is looked at */
	if (out->fd >= 0 && c->from->calls->locate && c->from->calls->locate(in, at, &fd, &offset, &len) == 0) {
		off_t from = (off_t)offset, to = (off_t)at;
		ssize_t n = copy_file_range(fd, &from, out->fd, &to, len < left ? len : left, 0);
		if (n > 0) {
			*ret_len = (uint64_t)n;
			return 0;
		}
	}
	ssize_t n = c->from->calls->read(in, at, chunk, left < CHUNK_BYTES ? left : CHUNK_BYTES);
	if (n <= 0)
		return n < 0 ? (int)n : -EIO;
	*ret_len = (uint64_t)n;
	return c->to->calls->write(out, at, chunk, (size_t)n);
}

static void show(const char *path, uint64_t done, uint64_t total, time_t *shown)
{
	struct wf_buffer line = WF_BUFFER_INIT;
	if (time(NULL) == *shown)
		return;
	*shown = time(NULL);
	wf_buffer_puts(&line, "copying ");
	wf_buffer_printable(&line, path, strlen(path));
	wf_buffer_printf(&line, ": %llu of %llu MiB", (unsigned long long)done >> 20, (unsigned long long)total >> 20);
	wfctl_progress(line.data);
	wf_buffer_free(&line);
}

static int copy_bytes(struct wfctl_copying *c, const char *path, struct wfctl_file *in, struct wfctl_file *out,
		      uint64_t bytes)
{
	/* what another checkpoint's file holds as it is is read there by the commit */
	int taken = c->to->calls->take ? c->to->calls->take(out, in) : 1;
	if (taken <= 0)
		return taken;
	char *chunk = malloc(bytes < CHUNK_BYTES ? bytes + 1 : CHUNK_BYTES);
	time_t shown = time(NULL);
	uint64_t len = 0;
	int r = chunk ? 0 : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < bytes; at += len) {
		r = copy_piece(c, in, out, at, chunk, bytes - at, &len);
		show(path, at, bytes, &shown);
	}
	wfctl_progress(NULL);
	free(chunk);
	return r;
}

/* ---- content ---- */

/* What a store says of its last refusal, over calls that are made for something else. */
struct said {
	char reason[sizeof((struct wfctl_store *)NULL)->reason];
	int code;
};

static struct said said_by(const struct wfctl_store *s)
{
	struct said said = {.code = s->reason_code};
	snprintf(said.reason, sizeof said.reason, "%s", s->reason);
	return said;
}

static void say_again(struct wfctl_store *s, const struct said *said)
{
	snprintf(s->reason, sizeof s->reason, "%s", said->reason);
	s->reason_code = said->code;
}

/* What was begun and cannot be ended is not left behind; why it cannot is what is told, and not what its removal says. f: still open, or
 * NULL. Returns what its close says. */
static int take_back(struct wfctl_store *s, struct wfctl_file *f, const char *path)
{
	struct said said = said_by(s);
	s->calls->unlink(s, path);
	int r = f ? s->calls->close(f) : 0;
	say_again(s, &said);
	return r;
}

/* Whether the copy says what its source does; of what its close refused the comparison may know better why. */
static int judge_copy(struct wfctl_copying *c, const char *from, const char *to, int closed)
{
	struct said said = said_by(c->to);
	int r = closed == 0 || closed == -EINVAL ? wfctl_copy_compare(c, from, to) : 0;
	if (r == 0 && closed < 0)
		say_again(c->to, &said);
	return r < 0 ? r : closed;
}

static int copy_content(struct wfctl_copying *c, const char *from, const char *to, bool there, uint64_t bytes)
{
	struct wfctl_file *in = NULL, *out = NULL;
	int r = c->from->calls->open(c->from, from, WFCTL_READ, &in);
	if (r == 0)
		r = c->to->calls->open(c->to, to, WFCTL_WRITE | (there ? WFCTL_EMPTY : WFCTL_NEW), &out);
	/* what stood there, and was emptied, may take no such line before it is told what comes; a new one takes anything */
	if (r == 0 && there)
		r = wfctl_copy_attributes(c, from, to);
	if (r == 0)
		r = copy_bytes(c, from, in, out, bytes);
	if (r == 0 && !there)
		r = wfctl_copy_attributes(c, from, to);
	int closed = !out ? 0 : r < 0 && !there ? take_back(c->to, out, to) : c->to->calls->close(out);
	if (in)
		c->from->calls->close(in);
	if (r == -ENODATA)
		wfctl_copy_note(c->from, r, "a meta tensor has no bytes");
	if (r < 0)
		return r;
	r = judge_copy(c, from, to, closed);
	if (r < 0 && !there)
		take_back(c->to, NULL, to);
	return r;
}

/* ---- keys that are no texts ---- */

/* What the copy's key has to be: of an entry that keeps its name, where that is a mapping's and no text. false: nothing. */
static bool asks_for_key(struct wfctl_copying *c, const char *from, const char *to, struct wf_buffer *ret)
{
	struct wfctl_entry e;
	return !strcmp(wfctl_key_name(from), wfctl_key_name(to)) && c->from->calls->key(c->from, from, ret) == 0 &&
	       wf_buffer_status(ret) == 0 && ret->len > 0 && ret->data[0] != '"' &&
	       c->to->calls->stat(c->to, WF_METADATA_NAME, false, &e) < 0;
}

/* Another name of the mapping, for a moment. */
static char *free_name(struct wfctl_copying *c, const char *to)
{
	struct wfctl_entry e;
	char name[32], *directory = wfctl_key_directory(to), *path = NULL;
	for (unsigned int i = 0; directory && i < UINT32_MAX; i++) {
		snprintf(name, sizeof name, "weightfs-copy-%u", i);
		path = wfctl_key_join(directory, name);
		if (!path || c->to->calls->stat(c->to, path, false, &e) == -ENOENT)
			break;
		free(path);
	}
	free(directory);
	return path;
}

/* An empty file that has a key which is no text. */
static int make_with_key(struct wfctl_store *s, const char *path, const char *key)
{
	struct wfctl_file *f;
	int r = s->calls->open(s, path, WFCTL_WRITE | WFCTL_NEW, &f);
	if (r < 0)
		return r;
	r = s->calls->set(s, path, "user.torch.key", key);
	int closed = s->calls->close(f);
	return r < 0 ? r : closed;
}

/* A second name of a file that was copied, or a link (target), in the place of what is there. An attribute belongs to a file and not to one of
 * its names: for a key that is no text an empty file is there first. */
static int place_name(struct wfctl_copying *c, const char *from, const char *to, const char *first, const char *target,
		      bool there)
{
	struct wfctl_store *s = c->to;
	struct wf_buffer key = WF_BUFFER_INIT;
	struct wfctl_entry old, new;
	if (there && target && s->calls->readlink(s, to, &key) == 0 && !strcmp(key.data, target)) {
		wf_buffer_free(&key);
		return 0;
	}
	wf_buffer_free(&key);
	if (there && first && s->calls->stat(s, to, false, &old) == 0 && s->calls->stat(s, first, false, &new) == 0 &&
	    old.ino == new.ino)
		return 0;
	bool keyed = !there && asks_for_key(c, from, to, &key);
	int r = keyed ? make_with_key(s, to, key.data) : 0;
	there |= keyed;
	wf_buffer_free(&key);
	char *path = r == 0 && there ? free_name(c, to) : NULL;
	const char *at = there ? path : to;
	if (r == 0)
		r = !at ? -ENOMEM : first ? s->calls->link(s, first, at) : s->calls->symlink(s, target, at);
	/* what changes places keeps its key, and the mapping its order */
	if (r == 0 && there)
		r = s->calls->rename(s, path, to, RENAME_EXCHANGE);
	if (path && s->calls->stat(s, path, false, &old) == 0) {
		int gone = s->calls->unlink(s, path);
		r = r < 0 ? r : gone;
	}
	free(path);
	return r;
}

/* Refused where the copy has a text for a key, and the source something else: to Python these are two. */
static int check_key(struct wfctl_copying *c, const char *from, const char *to)
{
	struct wf_buffer asked = WF_BUFFER_INIT, got = WF_BUFFER_INIT;
	const char *what = NULL;
	if (c->from->calls->key_class && !strcmp(wfctl_key_name(from), wfctl_key_name(to)) &&
	    c->from->calls->key_class(c->from, from, &got) == 0)
		what = got.data;
	else if (asks_for_key(c, from, to, &asked) &&
		 (c->to->calls->key(c->to, to, &got) < 0 || strcmp(got.data, asked.data) != 0))
		what = asked.data;
	if (what) {
		wfctl_fail(c->from->path,
			   "%s: not copied: its key is no text (%s), and the copy's would be one: give the copy a name",
			   from, what);
		c->said = true;
	}
	wf_buffer_free(&asked);
	wf_buffer_free(&got);
	return what ? -EINVAL : 0;
}

/* ---- entries ---- */

static int copy_file(struct wfctl_copying *c, const char *from, const char *to, const struct wfctl_entry *e, bool there)
{
	if (e->links < 2)
		return copy_content(c, from, to, there, e->bytes);
	const char *first = first_copy(c, e->ino);
	if (first)
		return place_name(c, from, to, first, NULL, there);
	int r = copy_content(c, from, to, there, e->bytes);
	return r < 0 ? r : note_copy(c, e->ino, to);
}

static int copy_any(struct wfctl_copying *c, const char *from, const char *to, int depth);

static int collect_name(void *ctx, const char *name, const struct wfctl_entry *e)
{
	return wfctl_keys_add(ctx, name);
}

/* What has no class stands for a plain mapping. */
static bool same_class(struct wfctl_copying *c, const char *from, const char *to)
{
	struct wf_buffer a = WF_BUFFER_INIT, b = WF_BUFFER_INIT;
	bool has = c->from->calls->get(c->from, from, "user.torch.class", &a) == 0,
	     same = !has || (c->to->calls->get(c->to, to, "user.torch.class", &b) == 0 && !strcmp(a.data, b.data));
	wf_buffer_free(&a);
	wf_buffer_free(&b);
	return same;
}

/* Refused before anything of it is copied: an object would become a mapping of what it shows. */
static int make_directory(struct wfctl_copying *c, const char *from, const char *to)
{
	static const char *const made[] = {"dict", "collections.OrderedDict", "list", "tuple"};
	struct wf_buffer class = WF_BUFFER_INIT, assembly = WF_BUFFER_INIT;
	int r = c->to->calls->mkdir(c->to, to);
	bool has = r == 0 && c->from->calls->get(c->from, from, "user.torch.class", &class) == 0, can = !has;
	for (size_t i = 0; has && i < sizeof made / sizeof *made; i++)
		can |= !strcmp(class.data, made[i]);
	/* a tensor that is a directory of its parts becomes one again of these; of a class of its own it does not */
	if (has && !can)
		can = c->from->calls->get(c->from, from, "user.torch.assembly", &assembly) == 0;
	if (r == 0 && !can && !same_class(c, from, to)) {
		c->to->calls->rmdir(c->to, to);
		wfctl_fail(
			c->from->path,
			"%s: not copied: an object of class %s, whose copy would be a mapping: wfctl mkdir one, and copy %s/. into it",
			from, class.data, from);
		c->said = true;
		r = -EPERM;
	}
	wf_buffer_free(&class);
	wf_buffer_free(&assembly);
	return r;
}

static int copy_directory(struct wfctl_copying *c, const char *from, const char *to, bool there, int depth)
{
	struct wfctl_keys names = {0};
	int r = depth > DEPTH_MAX ? -ENAMETOOLONG : 0;
	if (r == 0)
		r = c->from->calls->list(c->from, from, collect_name, &names);
	if (r == 0 && !there)
		r = make_directory(c, from, to);
	if (r < 0) {
		wfctl_keys_free(&names);
		return r;
	}
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		char *in = wfctl_key_join(from, names.key[i]), *out = wfctl_key_join(to, names.key[i]);
		r = in && out ? copy_any(c, in, out, depth + 1) : -ENOMEM;
		free(in);
		free(out);
	}
	wfctl_keys_free(&names);
	if (r == 0 && !there && *to)
		r = wfctl_copy_attributes(c, from, to);
	struct said said = said_by(c->to);
	if (r == -EPERM && same_class(c, from, to))
		r = 0;
	if (r < 0)
		say_again(c->to, &said);
	return r == 0 && !there && *to && !same_class(c, from, to) ? -EINVAL : r;
}

static int copy_link(struct wfctl_copying *c, const char *from, const char *to, bool there, int depth)
{
	struct wf_buffer target = WF_BUFFER_INIT;
	struct wfctl_entry e;
	int r = c->from->calls->readlink(c->from, from, &target);
	if (r == 0)
		r = place_name(c, from, to, NULL, target.data, there);
	wf_buffer_free(&target);
	if (r != -EPERM && r != -ENOENT)
		return r;
	/* it leads out of what is copied */
	r = c->from->calls->stat(c->from, from, true, &e);
	return r < 0 ? r : e.type == WF_DIRECTORY ? copy_directory(c, from, to, false, depth) : -ELOOP;
}

static int say(struct wfctl_copying *c, const struct wfctl_store *s, const char *key, int code)
{
	if (!c->said)
		wfctl_store_fail(s, key, code, "not copied");
	c->said = true;
	return code;
}

static int copy_any(struct wfctl_copying *c, const char *from, const char *to, int depth)
{
	struct wfctl_entry e, old;
	int r = c->from->calls->stat(c->from, from, false, &e);
	if (r < 0)
		return say(c, c->from, from, r);
	r = c->to->calls->stat(c->to, to, false, &old);
	if (r < 0 && r != -ENOENT)
		return say(c, c->to, to, r);
	bool there = r == 0;
	if (there && old.type == WF_SYMLINK && e.type == WF_DIRECTORY)
		c->to->calls->stat(c->to, to, true, &old);
	if (there && (e.type == WF_DIRECTORY) != (old.type == WF_DIRECTORY))
		return say(c, c->to, to, e.type == WF_DIRECTORY ? -ENOTDIR : -EISDIR);
	if (there && c->keep && e.type != WF_DIRECTORY)
		return 0;
	if (there && c->from == c->to && old.ino == e.ino)
		return 0; /* they are tied already */
	r = e.type == WF_DIRECTORY ? copy_directory(c, from, to, there, depth)
	    : e.type == WF_SYMLINK ? copy_link(c, from, to, there, depth)
				   : copy_file(c, from, to, &e, there);
	if (r == 0 && !there)
		r = check_key(c, from, to);
	return r < 0 ? say(c, c->to->reason[0] ? c->to : c->from, from, r) : 0;
}

int wfctl_copy(struct wfctl_copying *c, const char *from, const char *to)
{
	size_t len = strlen(from);
	c->said = false;
	c->from->reason[0] = c->to->reason[0] = '\0';
	if (c->from == c->to && !strncmp(from, to, len) && (!to[len] || to[len] == '/' || len == 0))
		return wfctl_fail(c->from->path, "%s: %s", from,
				  to[len] ? "a mapping cannot be copied into itself" : "the same key twice");
	return copy_any(c, from, to, 0) < 0 ? WFCTL_FAILED : WFCTL_OK;
}
