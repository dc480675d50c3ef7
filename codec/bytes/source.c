/* SPDX-License-Identifier: MIT */
/* Sources of bytes. A file is read with pread and its state compared after every read: fstat costs about 0.2 us, and
 * a change noticed late would hand out bytes of two different files as one tensor. */
#include "codec/bytes/source.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "codec/bytes/edges.h"
#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

enum source_kind { SOURCE_FILE, SOURCE_SLICE, SOURCE_MEMORY, SOURCE_OPS };

struct wf_source {
	atomic_uint refs;
	enum source_kind kind;
	uint64_t size_bytes;
	struct wf_source *parent; /* SLICE */
	union {
		struct {
			int fd;
			char *path; /* NULL: it was given as a descriptor */
			struct wf_fingerprint print;
			atomic_bool may_grow;
			void *_Atomic map; /* all of it, for wf_source_lend; NULL: not yet; MAP_FAILED: it cannot be */
			bool is_regular, has_edges, small_edges;
			uint32_t edges_crc32;       /* as it was opened */
			_Atomic int64_t touched_ns; /* another mtime under which it was found unchanged; 0: none */
		} file;
		uint64_t slice_start;
		struct {
			unsigned char *data;
			bool owned;
		} memory;
		struct {
			const struct wf_source_ops *ops;
			void *ctx;
		} other;
	};
};

static struct wf_source *source_new(enum source_kind kind, uint64_t size_bytes)
{
	struct wf_source *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->kind = kind;
	s->size_bytes = size_bytes;
	return s;
}

static void fingerprint_from_stat(const struct stat *st, struct wf_fingerprint *ret)
{
	*ret = (struct wf_fingerprint){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size_bytes = (uint64_t)st->st_size,
		.mtime_sec = st->st_mtim.tv_sec,
		.mtime_nsec = st->st_mtim.tv_nsec,
	};
}

static bool fingerprint_equal(const struct wf_fingerprint *a, const struct wf_fingerprint *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size_bytes == b->size_bytes && a->mtime_sec == b->mtime_sec &&
	       a->mtime_nsec == b->mtime_nsec;
}

static int take_edges(const struct wf_source *s, uint32_t *ret)
{
	return s->file.small_edges ? wf_small_edges_crc32(s->file.fd, s->size_bytes, ret)
				   : wf_edges_crc32(s->file.fd, s->size_bytes, ret);
}

/* touch, chmod and backup programs give a file other times. It counts as the same while size and edges are. */
static bool was_only_touched(struct wf_source *s, const struct wf_fingerprint *now)
{
	uint32_t edges;
	int64_t mtime_ns;
	if (!s->file.has_edges || now->dev != s->file.print.dev || now->ino != s->file.print.ino ||
	    now->size_bytes != s->file.print.size_bytes ||
	    __builtin_mul_overflow(now->mtime_sec, INT64_C(1000000000), &mtime_ns) ||
	    __builtin_add_overflow(mtime_ns, now->mtime_nsec, &mtime_ns))
		return false;
	if (mtime_ns != 0 && atomic_load_explicit(&s->file.touched_ns, memory_order_relaxed) == mtime_ns)
		return true;
	if (take_edges(s, &edges) < 0 || edges != s->file.edges_crc32)
		return false;
	atomic_store_explicit(&s->file.touched_ns, mtime_ns, memory_order_relaxed);
	return true;
}

/* state: NULL, or of a file that may have been open before. */
static int compare_state(struct wf_source *s, struct wf_file_state *state)
{
	struct wf_fingerprint now = s->file.print;
	s->file.small_edges = state != NULL;
	if (!state || !state->known) {
		s->file.has_edges = s->file.is_regular && take_edges(s, &s->file.edges_crc32) == 0;
		if (state)
			*state = (struct wf_file_state){true, s->file.has_edges, now, s->file.edges_crc32};
		return 0;
	}
	s->file.print = state->print;
	s->file.has_edges = state->has_edges;
	s->file.edges_crc32 = state->edges_crc32;
	return fingerprint_equal(&now, &state->print) || was_only_touched(s, &now) ? 0 : -ESTALE;
}

static int from_fd(int fd, struct wf_file_state *state, struct wf_source **ret, struct wf_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return wf_fail(err, -errno, "cannot look at the file: %s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return wf_fail(err, -EINVAL, "this is a directory, not a checkpoint file");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return wf_fail(err, -EINVAL, "this is neither a regular file nor a block device");

	/* st_size is 0 for a block device */
	off_t size = S_ISREG(st.st_mode) ? st.st_size : lseek(fd, 0, SEEK_END);
	if (size < 0)
		return wf_fail(err, -errno, "cannot find the size of the device: %s", strerror(errno));
	struct wf_source *s = source_new(SOURCE_FILE, (uint64_t)size);
	if (!s)
		return wf_fail(err, -ENOMEM, "out of memory");
	s->file.fd = fd;
	fingerprint_from_stat(&st, &s->file.print);
	s->file.is_regular = S_ISREG(st.st_mode);
	if (compare_state(s, state) < 0) {
		free(s);
		return wf_fail(err, -ESTALE, "it was changed by someone else");
	}
	*ret = s;
	return 0;
}

int wf_source_from_fd(int fd, struct wf_source **ret, struct wf_error *err)
{
	return from_fd(fd, NULL, ret, err);
}

static int open_path(int directory, const char *name, const char *path, struct wf_file_state *state,
		     struct wf_source **ret, struct wf_error *err)
{
	/* O_NONBLOCK: a FIFO in this place must be refused, not waited for; regular files do not care */
	cleanup_fd int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return wf_fail(err, -errno, "cannot open the file: %s", strerror(errno));
	int r = from_fd(fd, state, ret, err);
	if (r < 0)
		return r;
	steal_fd(&fd);
	(*ret)->file.path = strdup(path);
	if ((*ret)->file.path)
		return 0;
	wf_source_unref(steal_pointer(ret));
	return wf_fail(err, -ENOMEM, "out of memory");
}

int wf_source_open_file(const char *path, struct wf_source **ret, struct wf_error *err)
{
	return open_path(AT_FDCWD, path, path, NULL, ret, err);
}

int wf_source_open_member(int directory, const char *name, const char *path, struct wf_file_state *state,
			  struct wf_source **ret, struct wf_error *err)
{
	return open_path(directory, name, path, state, ret, err);
}

int wf_source_from_memory(void *data, size_t len, bool owned, struct wf_source **ret)
{
	struct wf_source *s = source_new(SOURCE_MEMORY, len);
	if (!s)
		return -ENOMEM;
	s->memory.data = data;
	s->memory.owned = owned;
	*ret = s;
	return 0;
}

int wf_source_slice(struct wf_source *parent, uint64_t offset, uint64_t len, struct wf_source **ret)
{
	if (offset > parent->size_bytes || len > parent->size_bytes - offset)
		return -EUCLEAN;
	struct wf_source *s = source_new(SOURCE_SLICE, len);
	if (!s)
		return -ENOMEM;
	if (parent->kind == SOURCE_SLICE) {
		offset += parent->slice_start;
		parent = parent->parent;
	}
	s->slice_start = offset;
	s->parent = wf_source_ref(parent);
	*ret = s;
	return 0;
}

int wf_source_from_ops(const struct wf_source_ops *ops, void *ctx, uint64_t size_bytes, struct wf_source **ret)
{
	struct wf_source *s = source_new(SOURCE_OPS, size_bytes);
	if (!s)
		return -ENOMEM;
	s->other.ops = ops;
	s->other.ctx = ctx;
	*ret = s;
	return 0;
}

struct wf_source *wf_source_ref(struct wf_source *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void wf_source_unref(struct wf_source *s)
{
	while (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
		struct wf_source *parent = s->parent;
		switch (s->kind) {
		case SOURCE_FILE:
			if (s->file.map && s->file.map != MAP_FAILED)
				munmap(s->file.map, s->size_bytes);
			close(s->file.fd);
			free(s->file.path);
			break;
		case SOURCE_MEMORY:
			if (s->memory.owned)
				free(s->memory.data);
			break;
		case SOURCE_OPS:
			if (s->other.ops->free)
				s->other.ops->free(s->other.ctx);
			break;
		case SOURCE_SLICE:
			break;
		}
		free(s);
		s = parent;
	}
}

void wf_source_unrefp(struct wf_source **s)
{
	wf_source_unref(*s);
}

uint64_t wf_source_size(const struct wf_source *s)
{
	return s->size_bytes;
}

/* Whether it is in the state in which it was opened. */
static int check_state(struct wf_source *s)
{
	struct stat st;
	if (fstat(s->file.fd, &st) < 0)
		return -errno;
	struct wf_fingerprint now;
	fingerprint_from_stat(&st, &now);
	if (fingerprint_equal(&now, &s->file.print) || was_only_touched(s, &now))
		return 0;
	bool grown = now.size_bytes >= s->file.print.size_bytes;
	return grown && atomic_load_explicit(&s->file.may_grow, memory_order_relaxed) ? 0 : -ESTALE;
}

static int read_file(struct wf_source *s, uint64_t offset, unsigned char *buf, size_t len)
{
	int r = wf_pread_all(s->file.fd, buf, len, offset);
	/* After the read, not before: what changed while the bytes were copied is noticed, too. */
	return r < 0 ? r : check_state(s);
}

int wf_source_read(struct wf_source *s, uint64_t offset, void *buf, size_t len)
{
	if (offset > s->size_bytes || len > s->size_bytes - offset)
		return -EUCLEAN;
	if (len == 0)
		return 0;
	switch (s->kind) {
	case SOURCE_FILE:
		return read_file(s, offset, buf, len);
	case SOURCE_SLICE:
		return wf_source_read(s->parent, s->slice_start + offset, buf, len); /* never a slice again */
	case SOURCE_MEMORY:
		memcpy(buf, s->memory.data + offset, len);
		return 0;
	case SOURCE_OPS:
		return s->other.ops->read(s->other.ctx, offset, buf, len);
	}
	return -EINVAL;
}

static void *mapped(struct wf_source *s)
{
	void *map = atomic_load(&s->file.map), *other = NULL;
	if (map || s->size_bytes == 0)
		return map ? map : MAP_FAILED;
	map = mmap(NULL, s->size_bytes, PROT_READ, MAP_SHARED, s->file.fd, 0);
	if (atomic_compare_exchange_strong(&s->file.map, &other, map))
		return map;
	if (map != MAP_FAILED)
		munmap(map, s->size_bytes);
	return other; /* another thread was faster */
}

int wf_source_lend(struct wf_source *s, uint64_t offset, size_t len, const void **ret)
{
	if (offset > s->size_bytes || len > s->size_bytes - offset)
		return -EUCLEAN;
	if (s->kind == SOURCE_SLICE) {
		offset += s->slice_start;
		s = s->parent;
	}
	const unsigned char *map = s->kind == SOURCE_FILE ? mapped(s) : MAP_FAILED;
	if (map == MAP_FAILED)
		return -EOPNOTSUPP;
	int r = check_state(s);
	if (r == 0)
		*ret = map + offset;
	return r;
}

const char *wf_source_path(const struct wf_source *s)
{
	if (s->kind == SOURCE_SLICE)
		s = s->parent;
	return s->kind == SOURCE_FILE && s->file.path ? s->file.path : "";
}

static bool find_run(struct wf_source *s, uint64_t offset, bool any, struct wf_file_run *ret)
{
	*ret = (struct wf_file_run)WF_FILE_RUN_INIT;
	if (offset > s->size_bytes)
		return false;
	uint64_t len = s->size_bytes - offset;
	if (s->kind == SOURCE_SLICE) {
		offset += s->slice_start;
		s = s->parent;
	}
	if (s->kind == SOURCE_OPS) {
		const struct wf_source_ops *ops = s->other.ops;
		bool (*find)(void *, uint64_t, struct wf_file_run *) =
			any && ops->find_run ? ops->find_run : ops->locate;
		if (!find || offset >= s->size_bytes || !find(s->other.ctx, offset, ret))
			return false;
		ret->len = WF_MIN(ret->len, len);
		return true;
	}
	if (s->kind != SOURCE_FILE)
		return false;
	*ret = (struct wf_file_run){s->file.fd, offset, len, wf_source_ref(s)};
	return true;
}

bool wf_source_locate(struct wf_source *s, uint64_t offset, struct wf_file_run *ret)
{
	return find_run(s, offset, false, ret);
}

bool wf_source_find_run(struct wf_source *s, uint64_t offset, struct wf_file_run *ret)
{
	return find_run(s, offset, true, ret);
}

void wf_file_run_end(struct wf_file_run *run)
{
	wf_source_unref(run->file);
	*run = (struct wf_file_run)WF_FILE_RUN_INIT;
}

void wf_source_allow_growth(struct wf_source *s, bool on)
{
	if (s->kind == SOURCE_SLICE)
		s = s->parent;
	if (s->kind == SOURCE_FILE)
		atomic_store_explicit(&s->file.may_grow, on, memory_order_relaxed);
}

void wf_source_fingerprint(const struct wf_source *s, struct wf_fingerprint *ret)
{
	if (s->kind == SOURCE_SLICE)
		s = s->parent;
	*ret = s->kind == SOURCE_FILE ? s->file.print : (struct wf_fingerprint){0};
	if (s->kind == SOURCE_OPS && s->other.ops->fingerprint)
		s->other.ops->fingerprint(s->other.ctx, ret);
}
