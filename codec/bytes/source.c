/* SPDX-License-Identifier: MIT */
/* Sources of bytes. A file is read with pread and its state compared after every read: fstat costs about 0.2 us, and
 * a change noticed late would hand out bytes of two different files as one tensor. */
#include "codec/bytes/source.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <zlib.h>

#include "codec/bytes/edges.h"
#include "codec/bytes/io.h"
#include "codec/bytes/util.h"

#define INFLATE_INPUT_BYTES (64u << 10)
/* What was inflated last stays at hand, because the kernel's read-ahead asks slightly out of order. */
#define INFLATE_WINDOW_BYTES (512u << 10)

enum source_kind { SOURCE_FILE, SOURCE_SLICE, SOURCE_MEMORY, SOURCE_INFLATE };

/* A raw deflate stream being read: window holds the bytes [window_start, window_start + window_len) of the result,
 * and its end is where the stream stands. */
struct inflater {
	pthread_mutex_t lock; /* guards all below; nothing else is taken inside but the parent's own */
	z_stream z;
	bool started, at_end;
	uint64_t input_pos; /* next byte of the parent to feed */
	uint64_t window_start;
	size_t window_len;
	unsigned char *input, *window; /* NULL until the first read */
};

struct wf_source {
	atomic_uint refs;
	enum source_kind kind;
	uint64_t size_bytes;
	struct wf_source *parent; /* SLICE, INFLATE */
	union {
		struct {
			int fd;
			struct wf_fingerprint print;
			atomic_bool may_grow;
			bool has_edges;
			uint32_t edges_crc32;       /* as it was opened */
			_Atomic int64_t touched_ns; /* another mtime under which it was found unchanged; 0: none */
		} file;
		uint64_t slice_start;
		struct {
			unsigned char *data;
			bool owned;
		} memory;
		struct inflater inflate;
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

bool wf_fingerprint_equal(const struct wf_fingerprint *a, const struct wf_fingerprint *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size_bytes == b->size_bytes && a->mtime_sec == b->mtime_sec &&
	       a->mtime_nsec == b->mtime_nsec;
}

int wf_source_from_fd(int fd, struct wf_source **ret, struct wf_error *err)
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
	s->file.has_edges = S_ISREG(st.st_mode) && wf_edges_crc32(fd, (uint64_t)size, &s->file.edges_crc32) == 0;
	*ret = s;
	return 0;
}

int wf_source_open_file(const char *path, struct wf_source **ret, struct wf_error *err)
{
	/* O_NONBLOCK: a FIFO in this place must be refused, not waited for; regular files do not care */
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return wf_fail(err, -errno, "cannot open the file: %s", strerror(errno));
	int r = wf_source_from_fd(fd, ret, err);
	if (r < 0)
		return r;
	steal_fd(&fd);
	return 0;
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

int wf_source_inflate(struct wf_source *parent, uint64_t size_bytes, struct wf_source **ret)
{
	struct wf_source *s = source_new(SOURCE_INFLATE, size_bytes);
	if (!s)
		return -ENOMEM;
	if (pthread_mutex_init(&s->inflate.lock, NULL) != 0) {
		free(s);
		return -ENOMEM;
	}
	s->parent = wf_source_ref(parent);
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
			close(s->file.fd);
			break;
		case SOURCE_MEMORY:
			if (s->memory.owned)
				free(s->memory.data);
			break;
		case SOURCE_INFLATE:
			if (s->inflate.started)
				inflateEnd(&s->inflate.z);
			free(s->inflate.input);
			free(s->inflate.window);
			pthread_mutex_destroy(&s->inflate.lock);
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

/* touch, chmod and backup programs give a file other times. It counts as the same while size and edges are. */
static bool was_only_touched(struct wf_source *s, const struct wf_fingerprint *now)
{
	uint32_t edges;
	int64_t mtime_ns;
	if (!s->file.has_edges || now->size_bytes != s->file.print.size_bytes ||
	    __builtin_mul_overflow(now->mtime_sec, INT64_C(1000000000), &mtime_ns) ||
	    __builtin_add_overflow(mtime_ns, now->mtime_nsec, &mtime_ns))
		return false;
	if (mtime_ns != 0 && atomic_load_explicit(&s->file.touched_ns, memory_order_relaxed) == mtime_ns)
		return true;
	if (wf_edges_crc32(s->file.fd, now->size_bytes, &edges) < 0 || edges != s->file.edges_crc32)
		return false;
	atomic_store_explicit(&s->file.touched_ns, mtime_ns, memory_order_relaxed);
	return true;
}

static int read_file(struct wf_source *s, uint64_t offset, unsigned char *buf, size_t len)
{
	int r = wf_pread_all(s->file.fd, buf, len, offset);
	if (r < 0)
		return r;
	/* After the read, not before: what changed while the bytes were copied is noticed, too. */
	struct stat st;
	if (fstat(s->file.fd, &st) < 0)
		return -errno;
	struct wf_fingerprint now;
	fingerprint_from_stat(&st, &now);
	if (wf_fingerprint_equal(&now, &s->file.print) || was_only_touched(s, &now))
		return 0;
	bool grown = now.size_bytes >= s->file.print.size_bytes;
	return grown && atomic_load_explicit(&s->file.may_grow, memory_order_relaxed) ? 0 : -ESTALE;
}

static int inflater_start(struct inflater *f)
{
	if (!f->input)
		f->input = malloc(INFLATE_INPUT_BYTES);
	if (!f->window)
		f->window = malloc(INFLATE_WINDOW_BYTES);
	if (!f->input || !f->window)
		return -ENOMEM;
	if (f->started) {
		if (inflateReset(&f->z) != Z_OK)
			return -EUCLEAN;
	} else {
		if (inflateInit2(&f->z, -MAX_WBITS) != Z_OK)
			return -ENOMEM;
		f->started = true;
	}
	f->z.avail_in = 0;
	f->at_end = false;
	f->input_pos = 0;
	f->window_start = 0;
	f->window_len = 0;
	return 0;
}

/* Inflates up to len bytes to out; *ret_len is short only at the end of the stream. */
static int inflater_produce(struct wf_source *s, unsigned char *out, size_t len, size_t *ret_len)
{
	struct inflater *f = &s->inflate;
	f->z.next_out = out;
	f->z.avail_out = (uInt)len;
	while (f->z.avail_out > 0 && !f->at_end) {
		if (f->z.avail_in == 0) {
			uint64_t left = s->parent->size_bytes - f->input_pos;
			size_t n = (size_t)WF_MIN(left, INFLATE_INPUT_BYTES);
			if (n == 0)
				return -EUCLEAN; /* the stream does not end where its record does */
			int r = wf_source_read(s->parent, f->input_pos, f->input, n);
			if (r < 0)
				return r;
			f->input_pos += n;
			f->z.next_in = f->input;
			f->z.avail_in = (uInt)n;
		}
		int z = inflate(&f->z, Z_NO_FLUSH);
		if (z == Z_MEM_ERROR)
			return -ENOMEM;
		if (z == Z_STREAM_END)
			f->at_end = true;
		else if (z != Z_OK)
			return -EUCLEAN;
	}
	*ret_len = len - f->z.avail_out;
	return 0;
}

/* Moves the window on: the newer half stays, so that a read just behind the stream's end is still served. */
static int inflater_advance(struct wf_source *s)
{
	struct inflater *f = &s->inflate;
	if (f->window_len == INFLATE_WINDOW_BYTES) {
		size_t half = INFLATE_WINDOW_BYTES / 2;
		memcpy(f->window, f->window + half, half);
		f->window_start += half;
		f->window_len = half;
	}
	uint64_t end = f->window_start + f->window_len;
	size_t want = (size_t)WF_MIN(s->size_bytes - end, (uint64_t)(INFLATE_WINDOW_BYTES / 2));
	want = WF_MIN(want, INFLATE_WINDOW_BYTES - f->window_len);
	size_t n = 0;
	int r = inflater_produce(s, f->window + f->window_len, want, &n);
	if (r < 0)
		return r;
	if (n < want)
		return -EUCLEAN;
	f->window_len += n;
	if (f->window_start + f->window_len < s->size_bytes || f->at_end)
		return 0;
	/* all that was declared is there: the stream must end here */
	unsigned char more;
	r = inflater_produce(s, &more, 1, &n);
	if (r < 0)
		return r;
	return n == 0 && f->at_end ? 0 : -EUCLEAN;
}

static int read_inflated(struct wf_source *s, uint64_t offset, unsigned char *buf, size_t len)
{
	struct inflater *f = &s->inflate;
	int r = 0;
	pthread_mutex_lock(&f->lock);
	if (!f->started || offset < f->window_start)
		r = inflater_start(f);
	while (r == 0 && len > 0) {
		uint64_t end = f->window_start + f->window_len;
		if (offset >= end) {
			r = inflater_advance(s);
			continue;
		}
		size_t n = (size_t)WF_MIN(end - offset, (uint64_t)len);
		memcpy(buf, f->window + (offset - f->window_start), n);
		offset += n;
		buf += n;
		len -= n;
	}
	if (r < 0 && f->started) {
		/* a broken stream fails the same way again, from its start */
		f->window_len = 0;
		f->window_start = UINT64_MAX;
	}
	pthread_mutex_unlock(&f->lock);
	return r;
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
	case SOURCE_INFLATE:
		return read_inflated(s, offset, buf, len);
	}
	return -EINVAL;
}

bool wf_source_locate(struct wf_source *s, uint64_t offset, int *ret_fd, uint64_t *ret_offset)
{
	if (offset > s->size_bytes)
		return false;
	if (s->kind == SOURCE_SLICE) {
		offset += s->slice_start;
		s = s->parent;
	}
	if (s->kind != SOURCE_FILE)
		return false;
	*ret_fd = s->file.fd;
	*ret_offset = offset;
	return true;
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
}
