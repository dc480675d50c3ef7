/* SPDX-License-Identifier: MIT */
/* wfctl rename: sed expressions over the keys of mappings. All new names are known, and distinct, before the first is given. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "fs/wfctl/call.h"
#include "fs/wfctl/fail.h"
#include "fs/wfctl/json.h"
#include "fs/wfctl/keys.h"
#include "fs/wfctl/run.h"
#include "fs/wfctl/sed.h"
#include "fs/wfctl/session.h"

#define DEPTH_MAX 1000
#define NAME_BYTES_MAX 255
#define SHOWN_MAX 100 /* bytes of a key, in a line */

/* A key that gets another one. */
struct new_key {
	char *directory, *from, *to; /* names in the directory */
	char *from_key, *to_key;     /* unescaped */
	size_t next;                 /* the change of what has the new name now; SIZE_MAX: none */
	enum { WAITS, BEGUN, DONE } state;
};

struct renaming {
	struct wfctl_store *s;
	struct wfctl_sed sed;
	struct new_key *all;
	size_t count;
	uint32_t capacity;
	/* of the mapping that is looked at */
	const char *directory, *prefix; /* prefix: what its names begin with; NULL: anything */
	bool whole;                     /* it was named: mappings in it have keys as others do */
	struct wfctl_keys names;        /* what its names will be */
	struct wfctl_keys inner;
	struct wf_buffer left; /* a key of no mapping of tensors that would change, and to what */
};

/* ---- names of keys ---- */

/* The rule of weightfs(1), NAMES. */
static void put_name(const char *key, size_t len, struct wf_buffer *out)
{
	bool first = (len == 1 && key[0] == '.') || (len == 2 && !memcmp(key, "..", 2)) ||
		     (len == 9 && !memcmp(key, ".weightfs", 9));
	if (len == 0)
		wf_buffer_putc(out, '%');
	for (size_t i = 0; i < len; i++)
		if (key[i] == '/' || key[i] == '%' || (first && i == 0))
			wf_buffer_printf(out, "%%%02X", (unsigned char)key[i]);
		else
			wf_buffer_putc(out, key[i]);
}

/* The str key of an entry. *ret_is: false where it is none, or holds a NUL, which no expression can. 0, or a negative errno. */
static int str_key(struct wfctl_store *s, const char *path, struct wf_buffer *ret, bool *ret_is)
{
	struct wf_buffer json = WF_BUFFER_INIT, class = WF_BUFFER_INIT;
	int r = s->calls->key(s, path, &json);
	/* what stands for bytes or a member of an Enum would become a text */
	bool other = s->calls->key_class && s->calls->key_class(s, path, &class) == 0;
	*ret_is = r == 0 && !other && wfctl_json_string(json.data ? json.data : "", json.len, ret) == 0;
	wf_buffer_free(&class);
	wf_buffer_puts(ret, "");
	wf_buffer_free(&json);
	*ret_is = *ret_is && !memchr(ret->data, '\0', ret->len);
	return r == -ENODATA ? 0 : r;
}

/* ---- what changes ---- */

static int add_change(struct renaming *r, const char *name, const struct wf_buffer *key,
		      const struct wf_buffer *new_key)
{
	struct wf_buffer new_name = WF_BUFFER_INIT;
	int room = wf_array_reserve(&r->all, &r->capacity, r->count + 1, sizeof *r->all, UINT32_MAX);
	if (room < 0)
		return room;
	put_name(new_key->data ? new_key->data : "", new_key->len, &new_name);
	struct new_key c = {.directory = strdup(r->directory),
			    .from = strdup(name),
			    .to = wf_buffer_steal(&new_name),
			    .from_key = strndup(key->data, key->len),
			    .to_key = strndup(new_key->data ? new_key->data : "", new_key->len),
			    .next = SIZE_MAX};
	r->all[r->count++] = c;
	return c.directory && c.from && c.to && c.from_key && c.to_key ? wfctl_keys_add(&r->names, c.to) : -ENOMEM;
}

static int look_at(struct renaming *r, const char *name)
{
	char *path = wfctl_key_join(r->directory, name);
	struct wf_buffer key = WF_BUFFER_INIT, new_key = WF_BUFFER_INIT;
	bool asked = !r->prefix || !strncmp(name, r->prefix, strlen(r->prefix));
	int result = !path ? -ENOMEM : asked ? str_key(r->s, path, &key, &asked) : 0;
	if (result == 0 && asked)
		result = wfctl_sed_apply(&r->sed, key.data, key.len, &new_key);
	bool changed = asked && result == 0 &&
		       (key.len != new_key.len || memcmp(key.data, new_key.data ? new_key.data : "", key.len));
	if (result == 0)
		result = changed ? add_change(r, name, &key, &new_key) : wfctl_keys_add(&r->names, name);
	wf_buffer_free(&key);
	wf_buffer_free(&new_key);
	free(path);
	return result;
}

/* The first key that the expressions would change and that is left alone, for whoever meant that one. */
static int note_left(struct renaming *r, const char *directory, const char *name)
{
	char *path = wfctl_key_join(directory, name);
	struct wf_buffer key = WF_BUFFER_INIT, new_key = WF_BUFFER_INIT;
	bool is = false;
	int result = path ? str_key(r->s, path, &key, &is) : -ENOMEM;
	if (result == 0 && is)
		result = wfctl_sed_apply(&r->sed, key.data, key.len, &new_key);
	wf_buffer_puts(&new_key, "");
	if (result == 0 && is && (key.len != new_key.len || memcmp(key.data, new_key.data, key.len) != 0)) {
		wf_buffer_printable(&r->left, key.data, key.len < SHOWN_MAX ? key.len : SHOWN_MAX);
		wf_buffer_puts(&r->left, " → ");
		wf_buffer_printable(&r->left, new_key.data, new_key.len < SHOWN_MAX ? new_key.len : SHOWN_MAX);
		wf_buffer_puts(&r->left, " would, with the mapping that it stands in as KEY-PREFIX: ");
		wf_buffer_printable(&r->left, *directory ? directory : "/", *directory ? strlen(directory) : 1);
	}
	wf_buffer_free(&key);
	wf_buffer_free(&new_key);
	free(path);
	return result;
}

/* ---- mappings ---- */

struct entries {
	struct wfctl_keys names, directories, links; /* links: to mappings */
};

static int collect(void *ctx, const char *name, const struct wfctl_entry *e)
{
	struct entries *all = ctx;
	int r = wfctl_keys_add(&all->names, name);
	if (r == 0 && e->type != WF_FILE)
		r = wfctl_keys_add(e->type == WF_DIRECTORY ? &all->directories : &all->links, name);
	return r;
}

static bool has(struct wfctl_store *s, const char *directory, const char *name, const char *attribute,
		const char *beginning)
{
	struct wf_buffer value = WF_BUFFER_INIT;
	char *path = wfctl_key_join(directory, name);
	bool is = path && s->calls->get(s, path, attribute, &value) == 0 &&
		  (!beginning || !strncmp(value.data, beginning, strlen(beginning)));
	wf_buffer_free(&value);
	free(path);
	return is;
}

/* The list has names in the order in which they are asked for. */
static bool is_among(const struct wfctl_keys *k, const char *name, size_t *at)
{
	bool is = *at < k->count && !strcmp(k->key[*at], name);
	*at += is;
	return is;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Two keys with one name are refused here, before anything has changed. */
static int check_names(struct renaming *r)
{
	if (r->names.count > 1)
		qsort(r->names.key, r->names.count, sizeof *r->names.key, by_name);
	for (size_t i = 1; i < r->names.count; i++)
		if (!strcmp(r->names.key[i - 1], r->names.key[i]))
			return wfctl_fail(r->s->path, "%s%s%s: two keys would have this name", r->directory,
					  *r->directory ? "/" : "", r->names.key[i]);
	for (size_t i = 0; i < r->count; i++)
		if (wf_is_scratch_name(r->all[i].to))
			return wfctl_fail(r->s->path,
					  "%s: %s is a name that editors leave behind, which never becomes a key",
					  r->all[i].from, r->all[i].to);
	for (size_t i = 0; i < r->count; i++)
		if (strlen(r->all[i].to) > NAME_BYTES_MAX)
			return wfctl_fail(r->s->path, "%s: the new key's name would be longer than %d bytes",
					  r->all[i].from, NAME_BYTES_MAX);
	return WFCTL_OK;
}

/* all: the entries of the mapping in their order. */
static int rename_in(struct renaming *r, const char *directory, const struct entries *all)
{
	size_t inner = 0, linked = 0;
	int failed = 0;
	r->directory = directory;
	wfctl_keys_free(&r->names);
	for (size_t i = 0; failed == 0 && i < all->names.count; i++) {
		const char *name = all->names.key[i];
		/* a tensor of several parts is a tensor; a mapping in a mapping that nobody named is none */
		bool mapping = (is_among(&all->directories, name, &inner) || is_among(&all->links, name, &linked)) &&
			       !has(r->s, directory, name, "user.torch.class", "torch.");
		failed = mapping && !r->whole ? wfctl_keys_add(&r->names, name) : look_at(r, name);
	}
	return failed < 0 ? wfctl_store_fail(r->s, directory, failed, NULL) : check_names(r);
}

static int list(struct renaming *r, const char *directory, struct entries *all)
{
	int failed = r->s->calls->list(r->s, directory, collect, all);
	return failed < 0 ? wfctl_store_fail(r->s, directory, failed, NULL) : WFCTL_OK;
}

static void free_entries(struct entries *all)
{
	wfctl_keys_free(&all->names);
	wfctl_keys_free(&all->directories);
	wfctl_keys_free(&all->links);
}

/* Every mapping below that has a tensor among its entries. */
static int find_mappings(struct renaming *r, const char *directory, int depth)
{
	struct entries all = {0};
	bool tensors = false;
	if (depth > DEPTH_MAX)
		return wfctl_fail(r->s->path, "%s: more than %d mappings in each other", directory, DEPTH_MAX);
	int result = list(r, directory, &all);
	for (size_t i = 0; result == WFCTL_OK && !tensors && i < all.names.count; i++)
		tensors = has(r->s, directory, all.names.key[i], "user.torch.dtype", NULL) ||
			  has(r->s, directory, all.names.key[i], "user.torch.class", "torch.Tensor");
	if (result == WFCTL_OK && tensors)
		result = rename_in(r, directory, &all);
	const struct wfctl_keys *left = tensors ? &all.directories : &all.names;
	for (size_t i = 0; result == WFCTL_OK && r->count == 0 && r->left.len == 0 && i < left->count; i++)
		if (!has(r->s, directory, left->key[i], "user.torch.class", "torch.") &&
		    note_left(r, directory, left->key[i]) < 0)
			result = wfctl_fail(NULL, "out of memory");
	for (size_t i = 0; result == WFCTL_OK && i < all.directories.count; i++) {
		char *inner = wfctl_key_join(directory, all.directories.key[i]);
		result = inner ? find_mappings(r, inner, depth + 1) : wfctl_fail(NULL, "out of memory");
		free(inner);
	}
	free_entries(&all);
	return result;
}

/* The keys of a mapping, or those that begin so. */
static int find_prefixed(struct renaming *r, const char *text)
{
	struct wfctl_entry e;
	struct entries all = {0};
	char *path = wfctl_key_path(r->s, text), *directory = NULL;
	if (!path)
		return WFCTL_FAILED;
	r->whole = true;
	if (r->s->calls->stat(r->s, path, true, &e) != 0 || e.type != WF_DIRECTORY) {
		directory = wfctl_key_directory(path);
		r->prefix = wfctl_key_name(path);
	}
	const char *in = directory ? directory : path;
	int result = list(r, in, &all);
	if (result == WFCTL_OK)
		result = rename_in(r, in, &all);
	bool any = !r->prefix;
	for (size_t i = 0; r->prefix && i < all.names.count; i++)
		any |= !strncmp(all.names.key[i], r->prefix, strlen(r->prefix));
	if (result == WFCTL_OK && !any)
		result = wfctl_fail(r->s->path, "no key is or begins with %s", text);
	r->prefix = NULL;
	free_entries(&all);
	free(directory);
	free(path);
	return result;
}

/* ---- doing it ---- */

static int by_place(const void *a, const void *b)
{
	const struct new_key *x = *(struct new_key *const *)a, *y = *(struct new_key *const *)b;
	int r = strcmp(x->directory, y->directory);
	return r ? r : strcmp(x->from, y->from);
}

/* Whose new name is another's old one has to wait for that. */
static int find_order(struct renaming *r)
{
	struct new_key **sorted = calloc(r->count + 1, sizeof *sorted);
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < r->count; i++)
		sorted[i] = &r->all[i];
	qsort(sorted, r->count, sizeof *sorted, by_place);
	for (size_t i = 0; i < r->count; i++) {
		struct new_key wanted = {.directory = r->all[i].directory, .from = r->all[i].to}, *key = &wanted;
		struct new_key **there = bsearch(&key, sorted, r->count, sizeof *sorted, by_place);
		r->all[i].next = there ? (size_t)(*there - r->all) : SIZE_MAX;
	}
	free(sorted);
	return 0;
}

static int give_name(struct renaming *r, const struct new_key *c, const char *from, const char *to)
{
	char *old = wfctl_key_join(c->directory, from), *new = wfctl_key_join(c->directory, to);
	int failed = old && new ? r->s->calls->rename(r->s, old, new, RENAME_NOREPLACE) : -ENOMEM;
	if (failed < 0)
		wfctl_store_fail(r->s, old, failed, "not renamed");
	free(old);
	free(new);
	return failed;
}

/* A change and those that it waits for; where they wait for each other in a circle, one goes another way. */
static int do_chain(struct renaming *r, size_t first, size_t *chain)
{
	size_t n = 0;
	int failed = 0;
	char aside[64];
	const char *from = NULL; /* of the last one, when that went aside */
	for (size_t i = first; i != SIZE_MAX && r->all[i].state == WAITS; i = r->all[i].next) {
		r->all[i].state = BEGUN;
		chain[n++] = i;
	}
	size_t next = r->all[chain[n - 1]].next;
	if (next != SIZE_MAX && r->all[next].state == BEGUN) {
		snprintf(aside, sizeof aside, "wfctl rename %zu", first);
		failed = give_name(r, &r->all[next], r->all[next].from, aside);
		from = aside;
	}
	while (failed == 0 && n-- > 0) {
		struct new_key *c = &r->all[chain[n]];
		bool is_aside = from && chain[n] == next;
		failed = give_name(r, c, is_aside ? from : c->from, c->to);
		c->state = DONE;
	}
	return failed;
}

static int do_all(struct renaming *r)
{
	size_t *chain = calloc(r->count + 1, sizeof *chain);
	int failed = chain ? find_order(r) : -ENOMEM;
	if (failed < 0)
		wfctl_fail(NULL, "out of memory");
	for (size_t i = 0; failed == 0 && i < r->count; i++)
		if (r->all[i].state == WAITS)
			failed = do_chain(r, i, chain);
	free(chain);
	return failed < 0 ? WFCTL_FAILED : WFCTL_OK;
}

/* ---- the verb ---- */

static void put_text(struct wf_buffer *out, const char *text, bool json)
{
	if (json)
		wfctl_json_put(out, text, strlen(text));
	else
		wf_buffer_printable(out, text, strlen(text));
}

static void show(const struct renaming *r, bool json)
{
	struct wf_buffer line = WF_BUFFER_INIT;
	for (size_t i = 0; i < r->count; i++) {
		const struct new_key *c = &r->all[i];
		line.len = 0;
		wf_buffer_puts(&line, json ? "{\"in\": " : "");
		if (json)
			put_text(&line, c->directory, json);
		else if (*c->directory)
			put_text(&line, c->directory, json), wf_buffer_putc(&line, '/');
		wf_buffer_puts(&line, json ? ", \"old\": " : "");
		put_text(&line, c->from_key, json);
		wf_buffer_puts(&line, json ? ", \"new\": " : " → ");
		put_text(&line, c->to_key, json);
		wf_buffer_puts(&line, json ? "}\n" : "\n");
		fwrite(line.data, 1, line.len, stdout);
	}
	wf_buffer_free(&line);
}

static void free_all(struct renaming *r)
{
	for (size_t i = 0; i < r->count; i++) {
		free(r->all[i].directory);
		free(r->all[i].from);
		free(r->all[i].to);
		free(r->all[i].from_key);
		free(r->all[i].to_key);
	}
	free(r->all);
	wfctl_keys_free(&r->names);
	wf_buffer_free(&r->left);
	wfctl_sed_free(&r->sed);
}

int wfctl_rename(const struct wfctl_call *call)
{
	const char *prefix = wfctl_given(call, "prefix");
	bool dry = wfctl_given(call, "dry-run"), json = wfctl_given(call, "json");
	struct renaming r = {0};
	int last = call->count, result = WFCTL_OK;
	if (!prefix && last > 2 && !wfctl_is_sed(call->arguments[last - 1]))
		prefix = call->arguments[--last];
	for (int i = 1; result == WFCTL_OK && i < last; i++)
		result = wfctl_sed_add(&r.sed, call->arguments[i]);
	if (result == WFCTL_OK)
		r.s = dry ? wfctl_session_read(call->session, call->arguments[0])
			  : wfctl_session_edit(call->session, call->arguments[0]);
	if (!r.s)
		result = WFCTL_FAILED;
	if (result == WFCTL_OK)
		result = prefix ? find_prefixed(&r, prefix) : find_mappings(&r, "", 0);
	if (result == WFCTL_OK && dry)
		show(&r, json);
	else if (result == WFCTL_OK)
		result = do_all(&r);
	if (result == WFCTL_OK && r.count == 0 && r.left.len > 0)
		result = wfctl_fail(call->arguments[0], "no key changes in a mapping that holds tensors; %s",
				    r.left.data);
	else if (result == WFCTL_OK && r.count == 0 && !json)
		wfctl_fail(call->arguments[0], "no key changes");
	free_all(&r);
	return result;
}
