/* SPDX-License-Identifier: MIT */
/* Edits as lines of text, for tables of them: a verb and its arguments, with '|' between them. '@' stands for a path that is given. */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/checkpoint.h"
#include "codec/value/names.h"
#include "known-kit.h"

/* The directory of a path; *ret_name: its last name. 0: there is none. */
static uint32_t dir_of(struct wf_checkpoint *c, const char *path, const char **ret_name)
{
	uint32_t ino = WF_ROOT;
	struct wf_stat st;
	char name[WF_NAME_MAX + 1];
	for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
		snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
		if (wf_lookup(c, ino, name, &st) < 0)
			return 0;
		ino = st.ino;
	}
	*ret_name = path;
	return ino;
}

static int find(struct wf_checkpoint *c, const char *path, struct wf_stat *ret)
{
	const char *name;
	uint32_t parent = dir_of(c, path, &name);
	return parent ? wf_lookup(c, parent, name, ret) : -ENOENT;
}

/* One round of writing: what is there is emptied first, or (at >= 0) written from there on. Each of the texts is followed by a close. */
static int write_texts(struct wf_checkpoint *c, const char *path, int at, const char *const *texts, int count)
{
	struct wf_opening *o;
	struct wf_stat st;
	const char *name;
	uint32_t parent = dir_of(c, path, &name);
	int r = parent ? wf_lookup(c, parent, name, &st) : -ENOENT;
	bool made = r == -ENOENT && parent;
	if (made)
		r = wf_create(c, parent, name, &st);
	if (r == 0)
		r = wf_open_file(c, st.ino, WF_WRITES, &o);
	if (r < 0)
		return r;
	if (!made && at < 0)
		r = wf_truncate(c, st.ino, NULL, 0);
	uint64_t offset = at < 0 ? 0 : (uint64_t)at;
	for (int i = 0; i < count && texts[i]; i++) {
		ssize_t n = texts[i][0] ? wf_write(c, st.ino, o, offset, texts[i], strlen(texts[i])) : 0;
		offset += n > 0 ? (uint64_t)n : 0;
		int closed = wf_flush(c, st.ino, o);
		r = n < 0 ? (int)n : closed;
	}
	wf_release(c, st.ino, o);
	return r;
}

static int two_names(struct wf_checkpoint *c, const char *verb, const char *from, const char *to)
{
	struct wf_stat st, made;
	const char *a, *b;
	uint32_t x = dir_of(c, from, &a), y = dir_of(c, to, &b);
	if (!x || !y)
		return -ENOENT;
	if (!strcmp(verb, "link"))
		return wf_lookup(c, x, a, &st) < 0 ? -ENOENT : wf_link(c, st.ino, y, b, &made);
	return wf_rename(c, x, a, y, b, !strcmp(verb, "exchange") ? 2 : 0);
}

static int one_name(struct wf_checkpoint *c, const char *verb, const char *path)
{
	struct wf_stat st;
	const char *name;
	uint32_t parent = dir_of(c, path, &name);
	if (!parent)
		return -ENOENT;
	if (!strcmp(verb, "mkdir"))
		return wf_mkdir(c, parent, name, &st);
	return !strcmp(verb, "rmdir") ? wf_rmdir(c, parent, name) : wf_unlink(c, parent, name);
}

/* The words of a line that stand in buf from now on; those behind the last are NULL. */
static void split(const char *step, const char *path, char *buf, size_t size, char *words[6])
{
	int n = 1;
	size_t len = 0;
	words[0] = buf;
	for (; *step; step++) {
		bool ends = *step == '|' && n < 6;
		assert_true(len + strlen(path) + 1 < size);
		if (*step == '@')
			len += (size_t)snprintf(buf + len, size - len, "%s", path);
		else
			buf[len++] = *step;
		if (ends) {
			buf[len - 1] = '\0';
			words[n++] = buf + len;
		}
	}
	buf[len] = '\0';
}

/* What the call came to. */
static int make_step(struct wf_checkpoint *c, const char *step, const char *path)
{
	char line[256], full[64], *word[6] = {NULL};
	struct wf_error err = {0};
	struct wf_stat st;
	split(step, path, line, sizeof line, word);
	if (!strcmp(word[0], "put")) /* path, and a text for each close */
		return write_texts(c, word[1], -1, (const char *const *)word + 2, 4);
	if (!strcmp(word[0], "write")) /* path, offset, texts */
		return write_texts(c, word[1], atoi(word[2]), (const char *const *)word + 3, 3);
	if (!strcmp(word[0], "set")) { /* path, attribute, value */
		snprintf(full, sizeof full, "user.torch.%s", word[2]);
		return find(c, word[1], &st) < 0 ? -ENOENT : wf_setxattr(c, st.ino, full, word[3], strlen(word[3]), 0);
	}
	if (!strcmp(word[0], "size"))
		return find(c, word[1], &st) < 0 ? -ENOENT : wf_truncate(c, st.ino, NULL, (uint64_t)atoi(word[2]));
	if (!strcmp(word[0], "commit"))
		return wf_commit(c, &err);
	return word[2] ? two_names(c, word[0], word[1], word[2]) : one_name(c, word[0], word[1]);
}

/* ---- a group of tests that begins with what steps make of the file ---- */

static void make_fixture(const char *name, const char *const *steps, size_t count)
{
	make_directory(name);
	begin();
	for (size_t i = 0; i < count; i++)
		assert_int_equal(make_step(ck, steps[i], ""), 0);
	end();
	copy_file(file, base);
}

static int tear_down(void **state)
{
	each_file(dir, NULL);
	return 0;
}
