/* SPDX-License-Identifier: MIT */
/* Opens the files of a directory by number, and closes those that were not used for longest. */
#include "codec/directory/members.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "codec/bytes/array.h"
#include "codec/bytes/key_map.h"
#include "codec/bytes/util.h"

struct member_file {
	char *name;
	struct wf_source *source;   /* NULL: closed */
	bool opening;               /* by somebody, who will signal `opened` */
	uint64_t used;              /* clock of the last use */
	struct wf_file_state state; /* as it was first seen */
};

struct wf_members {
	atomic_uint refs;
	char *directory;
	int directory_fd;
	struct wf_key_map names;
	struct member_file *all;
	uint32_t count, capacity;
	pthread_mutex_t
		lock; /* guards the rest, and source, opening, used and state of each; nobody waits for a file with it */
	pthread_cond_t opened;
	uint32_t open[WF_MEMBERS_OPEN], open_count, open_most;
	uint64_t clock;
};

/* While a commit takes its new state over, two sets are open; and others need descriptors, too. */
static uint32_t most_open(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 8 >= WF_MEMBERS_OPEN)
		return WF_MEMBERS_OPEN;
	return WF_MAX((uint32_t)(limit.rlim_cur / 8), 4u);
}

static struct wf_members *members_make(const char *directory)
{
	struct wf_members *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->directory = strdup(directory);
	if (!m->directory) {
		free(m);
		return NULL;
	}
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->opened, NULL);
	m->open_most = most_open();
	atomic_init(&m->refs, 1);
	return m;
}

int wf_members_new(const char *directory, struct wf_members **ret, struct wf_error *err)
{
	cleanup_fd int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return wf_fail(err, -errno, "%s: %s", directory, strerror(errno));
	struct wf_members *m = members_make(directory);
	if (!m)
		return wf_fail(err, -ENOMEM, "out of memory");
	m->directory_fd = steal_fd(&fd);
	*ret = m;
	return 0;
}

struct wf_members *wf_members_ref(struct wf_members *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void wf_members_unref(struct wf_members *m)
{
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < m->open_count; i++)
		wf_source_unref(m->all[m->open[i]].source);
	for (uint32_t i = 0; i < m->count; i++)
		free(m->all[i].name);
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->opened);
	wf_key_map_free(&m->names);
	close(m->directory_fd);
	free(m->all);
	free(m->directory);
	free(m);
}

/* ---- names ---- */

static bool is_path_below(const char *name, size_t len)
{
	if (len == 0 || memchr(name, '\0', len))
		return false;
	for (size_t start = 0; start <= len;) {
		const char *slash = memchr(name + start, '/', len - start);
		size_t end = slash ? (size_t)(slash - name) : len, n = end - start;
		if (n == 0 || (n == 1 && name[start] == '.') || (n == 2 && !memcmp(name + start, "..", 2)))
			return false;
		start = end + 1;
	}
	return true;
}

int wf_members_add(struct wf_members *m, const char *name, size_t len, uint32_t *ret, struct wf_error *err)
{
	const uint64_t *known = wf_key_map_get(&m->names, name, len);
	if (known) {
		*ret = (uint32_t)*known;
		return 0;
	}
	if (!is_path_below(name, len))
		return wf_fail(err, -EUCLEAN, "the file name '%.*s' does not lead to a file below the directory",
			       (int)WF_MIN(len, (size_t)200), name);
	cleanup_free char *copy = strndup(name, len);
	int r = copy ? wf_array_reserve(&m->all, &m->capacity, (uint64_t)m->count + 1, sizeof *m->all, WF_MEMBERS_MAX)
		     : -ENOMEM;
	if (r == 0)
		r = wf_key_map_put(&m->names, name, len, m->count);
	if (r < 0)
		return wf_fail(err, r, r == -E2BIG ? "more than %u files" : "out of memory", WF_MEMBERS_MAX);
	*ret = m->count;
	m->all[m->count++] = (struct member_file){.name = steal_pointer(&copy)};
	return 0;
}

uint32_t wf_members_find(const struct wf_members *m, const char *name, size_t len)
{
	const uint64_t *i = wf_key_map_get(&m->names, name, len);
	return i ? (uint32_t)*i : UINT32_MAX;
}

uint32_t wf_members_count(const struct wf_members *m)
{
	return m->count;
}

const char *wf_members_name(const struct wf_members *m, uint32_t i)
{
	return i < m->count ? m->all[i].name : NULL;
}

const char *wf_members_directory(const struct wf_members *m)
{
	return m->directory;
}

/* ---- files ---- */

/* Said as an error of input: the checkpoint is there, and a part of it is not. */
static int missing(const struct member_file *f, int code, struct wf_error *err)
{
	if (code == -ENOENT || code == -ENOTDIR)
		return wf_fail(err, -EIO, "the file %s is missing", f->name);
	if (code == -EINVAL)
		return wf_fail(err, -EIO, "%s is no regular file", f->name);
	return wf_fail(err, code == -ELOOP ? -EIO : code, "cannot open the file %s: %s", f->name, strerror(-code));
}

static int changed(const struct member_file *f, struct wf_error *err)
{
	return wf_fail(err, -ESTALE, "%s was changed by someone else", f->name);
}

/* Whoever has let go of the lock lets go of it. */
static struct wf_source *take_longest_unused(struct wf_members *m)
{
	uint32_t oldest = 0;
	for (uint32_t i = 1; i < m->open_count; i++)
		if (m->all[m->open[i]].used < m->all[m->open[oldest]].used)
			oldest = i;
	struct wf_source *source = steal_pointer(&m->all[m->open[oldest]].source);
	m->open[oldest] = m->open[--m->open_count];
	return source;
}

static void close_all(struct wf_members *m)
{
	struct wf_source *taken[WF_MEMBERS_OPEN];
	uint32_t n = 0;
	pthread_mutex_lock(&m->lock);
	while (m->open_count > 0)
		taken[n++] = take_longest_unused(m);
	pthread_mutex_unlock(&m->lock);
	while (n > 0)
		wf_source_unref(taken[--n]);
}

/* Without the lock: one file that is far away keeps nobody from the others. */
static int open_file(struct wf_members *m, const struct member_file *f, struct wf_file_state *state,
		     struct wf_source **ret, struct wf_error *err)
{
	cleanup_free char *path = NULL;
	if (asprintf(&path, "%s/%s", m->directory, f->name) < 0) {
		path = NULL;
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	int r = wf_source_open_member(m->directory_fd, f->name, path, state, ret, NULL);
	if (r == -EMFILE || r == -ENFILE) { /* others need descriptors, too */
		close_all(m);
		r = wf_source_open_member(m->directory_fd, f->name, path, state, ret, NULL);
	}
	return r == -ESTALE ? changed(f, err) : r < 0 ? missing(f, r, err) : 0;
}

void wf_members_give(struct wf_members *m, uint32_t i, struct wf_source *file)
{
	struct member_file *f = &m->all[i];
	if (f->source || m->open_count == m->open_most)
		return; /* it is opened by its name */
	f->source = wf_source_ref(file);
	f->used = ++m->clock;
	m->open[m->open_count++] = i;
}

int wf_members_open(struct wf_members *m, uint32_t i, struct wf_source **ret, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *unused = NULL;
	int r = 0;
	if (i >= m->count)
		return wf_fail(err, -EINVAL, "there is no such file");
	struct member_file *f = &m->all[i];
	pthread_mutex_lock(&m->lock);
	while (!f->source && f->opening)
		pthread_cond_wait(&m->opened, &m->lock);
	if (!f->source) {
		struct wf_file_state state = f->state;
		struct wf_source *source = NULL;
		f->opening = true;
		pthread_mutex_unlock(&m->lock);
		r = open_file(m, f, &state, &source, err);
		pthread_mutex_lock(&m->lock);
		f->opening = false;
		pthread_cond_broadcast(&m->opened);
		if (r == 0 && m->open_count == m->open_most)
			unused = take_longest_unused(m);
		if (r == 0) {
			m->open[m->open_count++] = i;
			f->source = source;
			f->state = state;
		}
	}
	if (r == 0) {
		f->used = ++m->clock;
		*ret = wf_source_ref(f->source);
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

int wf_members_check(struct wf_members *m, uint32_t i, struct wf_error *err)
{
	struct wf_source *file;
	char last;
	int r = wf_members_open(m, i, &file, err);
	if (r < 0)
		return r;
	uint64_t size = wf_source_size(file);
	r = size > 0 ? wf_source_read(file, size - 1, &last, 1) : 0; /* which compares its state */
	wf_source_unref(file);
	if (r == -ESTALE)
		return changed(&m->all[i], err);
	return r < 0 ? wf_fail(err, r, "%s: %s", m->all[i].name, strerror(-r)) : 0;
}

int wf_members_size(struct wf_members *m, uint32_t i, uint64_t *ret, struct wf_error *err)
{
	struct wf_source *source;
	int r = wf_members_open(m, i, &source, err);
	if (r < 0)
		return r;
	*ret = wf_source_size(source);
	wf_source_unref(source);
	return 0;
}

/* ---- a file as a source ---- */

struct member_source {
	struct wf_members *members; /* a reference */
	uint32_t member;
	struct wf_fingerprint print;
};

static int read_member(void *ctx, uint64_t offset, void *buf, size_t len)
{
	const struct member_source *m = ctx;
	struct wf_source *file;
	int r = wf_members_open(m->members, m->member, &file, NULL);
	if (r < 0)
		return r;
	r = wf_source_read(file, offset, buf, len);
	wf_source_unref(file);
	return r;
}

static bool locate_member(void *ctx, uint64_t offset, struct wf_file_run *ret)
{
	const struct member_source *m = ctx;
	struct wf_source *file;
	if (wf_members_open(m->members, m->member, &file, NULL) < 0)
		return false;
	bool found = wf_source_locate(file, offset, ret);
	wf_source_unref(file);
	return found;
}

static void print_member(void *ctx, struct wf_fingerprint *ret)
{
	*ret = ((struct member_source *)ctx)->print;
}

static void free_member(void *ctx)
{
	struct member_source *m = ctx;
	wf_members_unref(m->members);
	free(m);
}

int wf_members_source(struct wf_members *m, uint32_t i, struct wf_source **ret, struct wf_error *err)
{
	static const struct wf_source_ops ops = {
		.read = read_member, .locate = locate_member, .fingerprint = print_member, .free = free_member};
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL;
	int r = wf_members_open(m, i, &file, err);
	if (r < 0)
		return r;
	struct member_source *s = calloc(1, sizeof *s);
	if (!s)
		return wf_fail(err, -ENOMEM, "out of memory");
	s->members = wf_members_ref(m);
	s->member = i;
	wf_source_fingerprint(file, &s->print);
	r = wf_source_from_ops(&ops, s, wf_source_size(file), ret);
	if (r < 0)
		free_member(s);
	return r < 0 ? wf_fail(err, r, "out of memory") : 0;
}
