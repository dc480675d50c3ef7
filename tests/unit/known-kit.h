/* SPDX-License-Identifier: MIT */
/* What a checkpoint knows of its entries, in words, and the same of a copy whose log is replayed: what a kill at this moment would leave. */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec/bytes/buffer.h"
#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/checkpoint.h"
#include "codec/edit/inner.h"
#include "codec/value/text.h"

static const char *base_file; /* tests/overlay/model.pt */
static char dir[64], base[96], file[96], copy[96];
static struct wf_checkpoint *ck;
/* After a commit keys and types of before are of no account. */
static bool committed;
static bool cut; /* a replay left out a part of its log */

/* ---- words ---- */

static void put_attributes(struct wf_checkpoint *c, wf_ino ino, struct wf_buffer *out)
{
	static const char *const names[] = {"class", "dtype", "shape", "stride", "location", "requires_grad", "key"};
	char full[64];
	/* of several names any may be told */
	bool no_key = committed || wf_tree_node(c->tree, ino)->nlink > 1;
	for (size_t i = 0; i < WF_ARRAY_SIZE(names) - no_key; i++) {
		struct wf_buffer v = WF_BUFFER_INIT;
		snprintf(full, sizeof full, "user.torch.%s", names[i]);
		if (wf_attribute_text(c, ino, full, &v) == 0)
			wf_buffer_printf(out, " %s=%s", names[i], v.data ? v.data : "");
		wf_buffer_free(&v);
	}
}

static void put_content(struct wf_checkpoint *c, wf_ino ino, struct wf_buffer *out)
{
	unsigned char bytes[64];
	ssize_t n = wf_checkpoint_read(c, ino, 0, bytes, sizeof bytes);
	wf_buffer_printf(out, " content %zd:", n);
	for (ssize_t i = 0; i < n; i++)
		wf_buffer_printf(out, bytes[i] > ' ' && bytes[i] < 127 ? "%c" : "\\%02x", bytes[i]);
}

/* Entries before the position that are no holes: a commit closes those. */
static int rank(const struct wf_dir *d, uint32_t position)
{
	int n = 0;
	if (!d || position > d->count)
		return -1;
	for (uint32_t i = 0; i < position; i++)
		n += d->entries[i].ino != WF_NO_INO;
	return n;
}

static void put_type(const char *what, const struct wf_tensor_type *type, struct wf_buffer *out)
{
	if (!type)
		return;
	wf_buffer_printf(out, " %s %s", what, wf_dtype_info(type->dtype)->name);
	wf_json_ints(out, type->shape, type->ndim);
}

static void put_known(struct wf_checkpoint *c, wf_ino ino, struct wf_buffer *out)
{
	static const struct wf_file nothing;
	const struct wf_file *f = wf_edit_known(c, ino);
	f = f ? f : &nothing;
	const struct {
		bool is;
		const char *word;
	} words[] = {{f->pending != PENDING_NOT, "pending"},
		     {f->is_new, "new"},
		     {f->is_new && f->judged, "judged"},
		     {f->stand_in, "stand-in"},
		     {f->declared_fits, "came-true"},
		     {f->anew, "anew"},
		     {f->touched, "touched"},
		     {f->sized, "sized"},
		     {f->failed, "failed"},
		     {f->refused, "refused"},
		     {f->settled, "settled"},
		     {f->old != NULL, "old"}};
	wf_buffer_puts(out, " |");
	for (size_t i = 0; i < WF_ARRAY_SIZE(words); i++)
		if (words[i].is)
			wf_buffer_printf(out, " %s", words[i].word);
	for (int i = 0; i < DECLARED_COUNT; i++)
		if (wf_declared(f, (enum wf_declared_name)i))
			wf_buffer_printf(out, " declared %d=%s", i, wf_declared(f, (enum wf_declared_name)i));
	if (!committed)
		put_type("was", f->was, out);
	if (f->home)
		wf_buffer_printf(out, " home %s at %d", f->home->name,
				 rank(wf_tree_dir(c->tree, f->home->dir), f->home->position));
}

/* Numbers of files in the order in which a walk meets them: a replay may give others. */
static void number_files(struct wf_checkpoint *c, wf_ino at, uint32_t *numbers, uint32_t *last)
{
	const struct wf_dir *d = wf_tree_dir(c->tree, at);
	wf_ino scratch = wf_edits_scratch_dir(c, at);
	for (uint32_t i = 0; i < d->count; i++) {
		wf_ino ino = d->entries[i].ino;
		if (ino == WF_NO_INO)
			continue;
		if (!numbers[ino])
			numbers[ino] = ++*last;
		if (wf_tree_dir(c->tree, ino))
			number_files(c, ino, numbers, last);
	}
	if (scratch != WF_NO_INO)
		number_files(c, scratch, numbers, last);
}

static void put_past(struct wf_checkpoint *c, const char *path, wf_ino at, const char *name, const uint32_t *numbers,
		     struct wf_buffer *out)
{
	char class[128];
	const struct wf_past *p = wf_past_of(c, at, name);
	if (!p)
		return;
	wf_class_name(c->graph, p->object, class, sizeof class);
	wf_buffer_printf(out, "%s/%s remembers %s, %s, at %d%s, file %u", path, name, class,
			 p->key == WF_NIL ? "no key" : "key", rank(wf_tree_dir(c->tree, at), p->position),
			 p->scratch ? ", a backup" : "", numbers[p->ino]);
	put_type("type", p->type, out);
	wf_buffer_putc(out, '\n');
}

static void put_directory(struct wf_checkpoint *c, const char *path, wf_ino at, const char *const *names,
			  const uint32_t *numbers, struct wf_buffer *out)
{
	char name[WF_NAME_MAX + 1], full[4 * WF_NAME_MAX];
	const struct wf_dir *d = wf_tree_dir(c->tree, at);
	wf_ino scratch = wf_edits_scratch_dir(c, at);
	for (uint32_t i = 0; i < d->count; i++) {
		wf_ino ino = d->entries[i].ino;
		if (ino == WF_NO_INO || !wf_tree_name(c->tree, d, i, name))
			continue;
		const struct wf_node *n = wf_tree_node(c->tree, ino);
		snprintf(full, sizeof full, "%s/%s", path, name);
		wf_buffer_printf(out, "%s: type %d", full, n->type);
		wf_buffer_printf(out, " file %u of %u names", numbers[ino], n->nlink);
		put_attributes(c, ino, out);
		if (n->type == WF_NODE_TENSOR || n->type == WF_NODE_VALUE)
			put_content(c, ino, out);
		put_known(c, ino, out);
		wf_buffer_putc(out, '\n');
		if (wf_tree_dir(c->tree, ino))
			put_directory(c, full, ino, names, numbers, out);
	}
	for (; *names; names++)
		put_past(c, path, at, *names, numbers, out);
	snprintf(full, sizeof full, "%s/(scratch)", path);
	if (scratch != WF_NO_INO)
		put_directory(c, full, scratch, names, numbers, out);
}

/* names: those that may remember something. */
static char *known_of(struct wf_checkpoint *c, const char *const *names)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	uint32_t last = 0, *numbers = calloc(wf_tree_node_count(c->tree) + 1, sizeof *numbers);
	assert_non_null(numbers);
	number_files(c, WF_INO_ROOT, numbers, &last);
	put_directory(c, "", WF_INO_ROOT, names, numbers, &out);
	free(numbers);
	wf_buffer_printf(&out, "a commit writes a new pickle: %d %d\n", c->edits->structural, c->edits->types_changed);
	assert_int_equal(wf_buffer_status(&out), 0);
	return wf_buffer_steal(&out);
}

/* ---- a copy ---- */

static void copy_file(const char *from, const char *to)
{
	char bytes[65536];
	struct stat st;
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(in >= 0 && out >= 0 && fstat(in, &st) == 0);
	for (ssize_t n; (n = read(in, bytes, sizeof bytes)) > 0;)
		assert_int_equal(write(out, bytes, (size_t)n), n);
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	assert_int_equal(futimens(out, times), 0);
	close(in);
	close(out);
}

/* Copies what is in a directory, or removes it where there is no `to`. */
static void each_file(const char *from, const char *to)
{
	char a[400], b[400];
	DIR *d = opendir(from);
	if (!d)
		return;
	if (to)
		mkdir(to, 0700);
	for (struct dirent *e; (e = readdir(d));) {
		snprintf(a, sizeof a, "%s/%s", from, e->d_name);
		snprintf(b, sizeof b, "%s/%s", to ? to : "", e->d_name);
		if (e->d_name[0] == '.')
			continue;
		if (e->d_type == DT_DIR)
			each_file(a, to ? b : NULL);
		else if (to)
			copy_file(a, b);
		else
			unlink(a);
	}
	closedir(d);
	if (!to)
		rmdir(from);
}

static void copy_checkpoint(const char *from, const char *to)
{
	char a[128], b[128];
	snprintf(a, sizeof a, "%s.weightfs", from);
	snprintf(b, sizeof b, "%s.weightfs", to);
	each_file(b, NULL);
	copy_file(from, to);
	each_file(a, b);
}

static void note_cut(void *ctx, const char *line)
{
	cut |= strstr(line, "left out") != NULL;
}

static struct wf_checkpoint *open_checkpoint(const char *path, bool writable)
{
	struct wf_checkpoint *c = NULL;
	struct wf_error err = {0};
	const struct wf_open_options o = {.writable = writable, .log = note_cut};
	int r = wf_open(path, &o, &c, &err);
	if (r < 0)
		fail_msg("%s: %d: %s", path, r, err.text);
	return c;
}

/* The lines of one that the other has not. */
static void put_missing(const char *who, const char *lines, const char *others, struct wf_buffer *out)
{
	for (const char *end; *lines; lines = end + 1) {
		end = strchr(lines, '\n');
		size_t len = (size_t)(end - lines) + 1;
		const char *at = others;
		while ((at = memmem(at, strlen(at), lines, len)) && at != others && at[-1] != '\n')
			at++;
		if (!at)
			wf_buffer_printf(out, "%s%.*s", who, (int)len, lines);
	}
}

/* How a replay of what ck has made durable differs from ck, which nobody writes: NULL, or the caller's text. ret: the copy, open for
 * writing, or NULL where nobody needs it. */
__attribute__((unused)) static char *difference(const char *const *names, struct wf_checkpoint **ret)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	cut = false;
	assert_int_equal(wf_sync(ck), 0);
	copy_checkpoint(file, copy);
	char *live = known_of(ck, names);
	for (int writes = 0; writes < 2; writes++) {
		struct wf_checkpoint *c = open_checkpoint(copy, writes);
		char *replayed = known_of(c, names);
		/* the order of scratch entries is none of a checkpoint's */
		put_missing("live:     ", live, replayed, &out);
		put_missing(writes ? "a writer: " : "a reader: ", replayed, live, &out);
		free(replayed);
		if (writes && ret)
			*ret = c;
		else
			wf_close(c);
	}
	free(live);
	if (cut)
		wf_buffer_puts(&out, "a part of the log was left out\n");
	return out.len ? wf_buffer_steal(&out) : NULL;
}

/* ---- the file that everything begins with ---- */

static void make_directory(const char *name)
{
	/* every step is synced: in memory where that can be */
	snprintf(dir, sizeof dir, "%s/%s-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", name);
	assert_non_null(mkdtemp(dir));
	snprintf(base, sizeof base, "%s/base.pt", dir);
	snprintf(file, sizeof file, "%s/m.pt", dir);
	snprintf(copy, sizeof copy, "%s/copy.pt", dir);
	copy_file(base_file, base);
}

static void begin(void)
{
	copy_checkpoint(base, file);
	ck = open_checkpoint(file, true);
	committed = false;
}

static void end(void)
{
	wf_close(ck);
	ck = NULL;
}
