/* SPDX-License-Identifier: MIT */
/* A source over a raw deflate stream: inflated as it is read, through one window. */
#include "codec/bytes/source.h"

#include <errno.h>
#include <pthread.h>
#include <zlib.h>

#include "codec/bytes/util.h"

#define INFLATE_INPUT_BYTES (64u << 10)
/* What was inflated last stays at hand, because the kernel's read-ahead asks slightly out of order. */
#define INFLATE_WINDOW_BYTES (512u << 10)

/* A raw deflate stream being read: window holds the bytes [window_start, window_start + window_len) of the result,
 * and its end is where the stream stands. */
struct inflater {
	struct wf_source *parent; /* own reference */
	uint64_t size_bytes;
	pthread_mutex_t lock; /* guards all below; nothing else is taken inside but the parent's own */
	z_stream z;
	bool started, at_end;
	uint64_t input_pos; /* next byte of the parent to feed */
	uint64_t window_start;
	size_t window_len;
	unsigned char *input, *window; /* NULL until the first read */
};

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
static int inflater_produce(struct inflater *f, unsigned char *out, size_t len, size_t *ret_len)
{
	f->z.next_out = out;
	f->z.avail_out = (uInt)len;
	while (f->z.avail_out > 0 && !f->at_end) {
		if (f->z.avail_in == 0) {
			uint64_t left = wf_source_size(f->parent) - f->input_pos;
			size_t n = (size_t)WF_MIN(left, INFLATE_INPUT_BYTES);
			if (n == 0)
				return -EUCLEAN; /* the stream does not end where its record does */
			int r = wf_source_read(f->parent, f->input_pos, f->input, n);
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
static int inflater_advance(struct inflater *f)
{
	if (f->window_len == INFLATE_WINDOW_BYTES) {
		size_t half = INFLATE_WINDOW_BYTES / 2;
		memcpy(f->window, f->window + half, half);
		f->window_start += half;
		f->window_len = half;
	}
	uint64_t end = f->window_start + f->window_len;
	size_t want = (size_t)WF_MIN(f->size_bytes - end, (uint64_t)(INFLATE_WINDOW_BYTES / 2));
	want = WF_MIN(want, INFLATE_WINDOW_BYTES - f->window_len);
	size_t n = 0;
	int r = inflater_produce(f, f->window + f->window_len, want, &n);
	if (r < 0)
		return r;
	if (n < want)
		return -EUCLEAN;
	f->window_len += n;
	if (f->window_start + f->window_len < f->size_bytes || f->at_end)
		return 0;
	/* all that was declared is there: the stream must end here */
	unsigned char more;
	r = inflater_produce(f, &more, 1, &n);
	if (r < 0)
		return r;
	return n == 0 && f->at_end ? 0 : -EUCLEAN;
}

static int read_inflated(void *ctx, uint64_t offset, void *data, size_t len)
{
	struct inflater *f = ctx;
	unsigned char *buf = data;
	int r = 0;
	pthread_mutex_lock(&f->lock);
	if (!f->started || offset < f->window_start)
		r = inflater_start(f);
	while (r == 0 && len > 0) {
		uint64_t end = f->window_start + f->window_len;
		if (offset >= end) {
			r = inflater_advance(f);
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

static void inflater_free(void *ctx)
{
	struct inflater *f = ctx;
	if (f->started)
		inflateEnd(&f->z);
	free(f->input);
	free(f->window);
	pthread_mutex_destroy(&f->lock);
	wf_source_unref(f->parent);
	free(f);
}

static const struct wf_source_ops ops = {.read = read_inflated, .free = inflater_free};

int wf_source_inflate(struct wf_source *parent, uint64_t size_bytes, struct wf_source **ret)
{
	struct inflater *f = calloc(1, sizeof *f);
	if (!f)
		return -ENOMEM;
	if (pthread_mutex_init(&f->lock, NULL) != 0) {
		free(f);
		return -ENOMEM;
	}
	f->parent = wf_source_ref(parent);
	f->size_bytes = size_bytes;
	int r = wf_source_from_ops(&ops, f, size_bytes, ret);
	if (r < 0)
		inflater_free(f);
	return r;
}
