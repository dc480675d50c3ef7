/* SPDX-License-Identifier: MIT */
/* Names of entries: distinct in every directory, and the same for lookup, listing and edits.
 *
 * Nearly every name follows from its key alone. Those that do not are in the directory's table of odd names, by their
 * key: a str that reads like a number or a tuple, beside that key, is escaped; of keys with one text the later ones get
 * ~2, ~3, ... A key keeps its odd name while the checkpoint is open, whatever becomes of the others.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tree/inner.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

/* ---- of a whole directory, when it is made ---- */

enum sort { SORT_TEXT, SORT_NUMBER, SORT_OTHER };

/* Whether names made of such keys alone are distinct: texts that need not be cut, and ints. */
static enum sort sort_of(const struct wf_graph *g, wf_ref key)
{
	if (wf_is(g, key, WF_STR))
		return wf_string_size(g, key) <= WF_NAME_MAX / 3 ? SORT_TEXT : SORT_OTHER;
	return wf_is(g, key, WF_INT) || wf_is(g, key, WF_BOOL) || wf_is(g, key, WF_NONE) ? SORT_NUMBER : SORT_OTHER;
}

struct naming {
	struct wf_tree *t;
	struct wf_dir *d;
	struct wf_buffer text; /* the names, each with its NUL */
	struct plain {
		uint32_t at;  /* of the name in text */
		uint8_t kind; /* enum wf_key_kind */
		uint32_t how;
	} * plain;
	struct wf_map first; /* name -> position of the first that has it */
	uint32_t *next;      /* by position: the number to try next for its name */
};

static const char *plain_name(const struct naming *n, uint32_t position)
{
	return n->text.data + n->plain[position].at;
}

static bool find_first(const struct naming *n, const char *name, uint32_t *ret_position)
{
	struct wf_map_probe p = wf_map_probe(&n->first, wf_map_hash(&n->first, name, strlen(name)));
	while (wf_map_next(&p, ret_position))
		if (!strcmp(plain_name(n, *ret_position), name))
			return true;
	return false;
}

/* Enters the name of a position, where no other has it. */
static int enter(struct naming *n, uint32_t position)
{
	const char *name = plain_name(n, position);
	uint32_t other;
	int r = wf_map_reserve(&n->first, 1);
	if (r == 0 && !find_first(n, name, &other))
		wf_map_add(&n->first, wf_map_hash(&n->first, name, strlen(name)), position);
	return r;
}

static int note_plain_names(struct naming *n)
{
	char name[WF_NAME_MAX + 1];
	for (uint32_t i = 0; i < n->d->count; i++) {
		struct wf_buffer text = WF_BUFFER_INIT;
		wf_ref key = n->d->entries[i].key;
		bool is_text = wf_is(n->t->graph, key, WF_STR) || wf_is(n->t->graph, key, WF_PYSTR);
		n->plain[i] =
			(struct plain){.at = (uint32_t)n->text.len,
				       .kind = (uint8_t)(is_text ? WF_KEY_TEXT : wf_key_text(n->t->graph, key, &text))};
		wf_buffer_free(&text);
		wf_buffer_append(&n->text, name, wf_tree_name_as(n->t, key, 0, name));
		wf_buffer_putc(&n->text, '\0');
		if (n->text.len > UINT32_MAX / 2)
			return -E2BIG;
	}
	return wf_buffer_status(&n->text);
}

/* The texts that read like a number or a tuple of this mapping are escaped: their name is made anew. */
static int escape_texts(struct naming *n)
{
	char name[WF_NAME_MAX + 1];
	uint32_t other;
	int r = 0;
	for (uint32_t i = 0; i < n->d->count && r == 0; i++)
		if (n->plain[i].kind == WF_KEY_SCALAR || n->plain[i].kind == WF_KEY_JSON)
			r = enter(n, i);
	for (uint32_t i = 0; i < n->d->count && r == 0; i++) {
		if (n->plain[i].kind != WF_KEY_TEXT || !find_first(n, plain_name(n, i), &other))
			continue;
		n->plain[i].how = WF_NAME_ESCAPED;
		n->plain[i].at = (uint32_t)n->text.len;
		wf_buffer_append(&n->text, name, wf_tree_name_as(n->t, n->d->entries[i].key, WF_NAME_ESCAPED, name));
		wf_buffer_putc(&n->text, '\0');
		r = wf_buffer_status(&n->text);
	}
	return r;
}

/* The first with a name keeps it; the later ones get the lowest number that makes a name of nobody. */
static int number_the_later(struct naming *n)
{
	char name[WF_NAME_MAX + 1];
	uint32_t first, other;
	int r = 0;
	wf_map_free(&n->first);
	for (uint32_t i = 0; i < n->d->count && r == 0; i++)
		r = enter(n, i);
	for (uint32_t i = 0; i < n->d->count && r == 0; i++) {
		if (!find_first(n, plain_name(n, i), &first) || first == i)
			continue;
		uint32_t number = n->next[first] ? n->next[first] : 2;
		for (;; number++) {
			strcpy(name, plain_name(n, first));
			wf_name_number(name, strlen(name), number);
			if (!find_first(n, name, &other))
				break;
		}
		n->next[first] = number + 1;
		n->plain[i].how = number;
		n->plain[i].at = (uint32_t)n->text.len;
		wf_buffer_append(&n->text, name, strlen(name) + 1);
		r = wf_buffer_status(&n->text);
		if (r == 0)
			r = enter(n, i);
	}
	return r;
}

static int compare_odd(const void *a, const void *b)
{
	const struct wf_odd_name *x = a, *y = b;
	return x->key < y->key ? -1 : x->key > y->key;
}

static int keep_odd_names(struct naming *n)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < n->d->count; i++)
		count += n->plain[i].how != 0;
	if (count == 0)
		return 0;
	n->d->odd = calloc(count, sizeof *n->d->odd);
	if (!n->d->odd)
		return -ENOMEM;
	for (uint32_t i = 0; i < n->d->count; i++)
		if (n->plain[i].how)
			n->d->odd[n->d->odd_count++] = (struct wf_odd_name){n->d->entries[i].key, n->plain[i].how};
	qsort(n->d->odd, count, sizeof *n->d->odd, compare_odd);
	return 0;
}

int wf_tree_name_entries(struct wf_tree *t, struct wf_dir *d)
{
	bool sorts[3] = {false, false, false};
	for (uint32_t i = 0; i < d->count; i++)
		sorts[sort_of(t->graph, d->entries[i].key)] = true;
	if (d->count < 2 ||
	    (d->kind == WF_DIR_MAPPING && !sorts[SORT_OTHER] && !(sorts[SORT_TEXT] && sorts[SORT_NUMBER])))
		return 0;
	struct naming n = {
		.t = t, .d = d, .plain = calloc(d->count, sizeof *n.plain), .next = calloc(d->count, sizeof *n.next)};
	int r = n.plain && n.next ? note_plain_names(&n) : -ENOMEM;
	if (r == 0)
		r = escape_texts(&n);
	if (r == 0)
		r = number_the_later(&n);
	if (r == 0)
		r = keep_odd_names(&n);
	free(n.plain);
	wf_map_free(&n.first);
	free(n.next);
	wf_buffer_free(&n.text);
	return r;
}

/* ---- of one entry, when an edit makes it ---- */

int wf_tree_name_entry(struct wf_tree *t, struct wf_dir *d, uint32_t position)
{
	char name[WF_NAME_MAX + 1];
	wf_ref key = d->entries[position].key;
	uint32_t other, how = 0;
	if (d->kind == WF_DIR_SEQUENCE || key == WF_NIL || wf_tree_odd_name(d, key))
		return 0;
	for (;;) {
		wf_tree_name_as(t, key, how, name);
		int r = wf_tree_find(t, d, name, position, &other);
		if (r == -ENOENT || (r == 0 && d->entries[other].key == key))
			return how ? wf_tree_set_odd_name(d, key, how) : 0;
		if (r < 0)
			return r;
		bool number = !wf_is(t->graph, d->entries[other].key, WF_STR) && wf_name_may_have_twin(t->graph, key);
		how = how == 0 && number ? WF_NAME_ESCAPED : how < 2 ? 2 : how + 1;
	}
}

/* ---- the key of a new name ---- */

static bool is_int_key(const struct wf_graph *g, wf_ref key)
{
	char class[64];
	if (wf_is(g, key, WF_INT))
		return true;
	if (!wf_is(g, key, WF_CALL))
		return false;
	wf_class_name(g, key, class, sizeof class);
	return !strncmp(class, "numpy.int", 9) || !strncmp(class, "numpy.uint", 10);
}

static bool all_keys_int(const struct wf_tree *t, const struct wf_dir *d)
{
	for (uint32_t i = 0; i < d->count; i++)
		if (d->entries[i].ino != WF_NO_INO && !is_int_key(t->graph, d->entries[i].key))
			return false;
	return d->live > 0;
}

/* Whether an entry without a str for its key has this name. */
static bool is_number_of(struct wf_tree *t, struct wf_dir *d, const char *name)
{
	uint32_t position;
	return wf_tree_find(t, d, name, UINT32_MAX, &position) == 0 &&
	       !wf_is(t->graph, d->entries[position].key, WF_STR) &&
	       !wf_is(t->graph, d->entries[position].key, WF_PYSTR);
}

int wf_tree_new_key(struct wf_tree *t, wf_ino dir, const char *name, wf_ref *ret)
{
	char back[WF_NAME_MAX + 1], plain[WF_NAME_MAX + 1];
	struct wf_dir *d = wf_tree_mutable_dir(t, dir);
	if (!d || d->kind != WF_DIR_MAPPING)
		return -EPERM;
	bool digits = name[0] && strspn(name, "0123456789") == strlen(name);
	wf_ref key;
	int r = wf_key_from_name(t->graph, name, digits && all_keys_int(t, d), &key);
	if (r < 0)
		return r;
	/* a name that another spelling of the same key has would not be found again */
	wf_name_from_key(t->graph, key, false, plain);
	if (strcmp(plain, name) != 0) {
		wf_name_from_key(t->graph, key, true, back);
		if (strcmp(back, name) != 0 || !wf_name_may_have_twin(t->graph, key) || !is_number_of(t, d, plain))
			return -EINVAL;
	}
	/* a number has no identity: an entry that is gone may have had it, and another name */
	if (wf_is_constant(t->graph, key))
		wf_tree_forget_odd_name(d, key);
	*ret = key;
	return 0;
}

bool wf_tree_keeps_key(const struct wf_tree *t, wf_ref key, const char *name)
{
	char plain[WF_NAME_MAX + 1];
	struct wf_buffer text = WF_BUFFER_INIT;
	if (key == WF_NIL)
		return false;
	size_t len = wf_name_from_key(t->graph, key, false, plain);
	enum wf_key_kind kind = wf_key_text(t->graph, key, &text);
	wf_buffer_free(&text);
	return (kind == WF_KEY_OBJECT || kind == WF_KEY_CLASS || kind == WF_KEY_JSON ||
		(len > 2 && strstr(plain, "%~"))) &&
	       !strcmp(plain, name);
}
