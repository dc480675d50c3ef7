/* Bytes of storages: from the file by offset, decoded into host memory, or from the overlay's extent file, merged. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage.h"
#include "storage_inner.h"
#include "util.h"

/* ---- decoded records ---- */

static void drop(struct wf_storages *ss, uint32_t k)
{
	struct wf_decoded *d = &ss->decoded[k];
	ss->decoded_bytes -= d->memory.size_bytes;
	ss->host->ops->free(ss->host, &d->memory);
	wf_source_unref(d->stream);
	*d = ss->decoded[--ss->decoded_count];
}

void wf_storage_forget_decoded(struct wf_storages *ss, uint32_t i)
{
	pthread_mutex_lock(&ss->cache_lock);
	for (uint32_t k = ss->decoded_count; k-- > 0;)
		if (i == WF_NO_STORAGE || ss->decoded[k].storage == i)
			drop(ss, k);
	pthread_mutex_unlock(&ss->cache_lock);
}

/* Makes room for `bytes` more by dropping what was not used for longest; false when readers hold too much of it. */
static bool make_room(struct wf_storages *ss, uint64_t bytes)
{
	while (ss->decoded_bytes + bytes > WF_STORAGE_CACHE_MAX) {
		uint32_t oldest = UINT32_MAX;
		for (uint32_t k = 0; k < ss->decoded_count; k++)
			if (!ss->decoded[k].readers && ss->decoded[k].memory.size_bytes &&
			    (oldest == UINT32_MAX || ss->decoded[k].used < ss->decoded[oldest].used))
				oldest = k;
		if (oldest == UINT32_MAX)
			return false;
		drop(ss, oldest);
	}
	return true;
}

/* Decodes UTF-8 of code points below 256 into latin-1, chunk by chunk. */
static int decode_latin1(const struct wf_storages *ss, wf_ref str, struct dev_memory *memory)
{
	unsigned char in[4096], out[4096];
	uint64_t size = wf_string_size(ss->graph, str), done = 0;
	unsigned int lead = 0; /* bits of a two-byte sequence whose second byte is still to come */
	for (uint64_t at = 0; at < size; at += sizeof in) {
		size_t n = WF_MIN(sizeof in, size - at), m = 0;
		int r = wf_string_read(ss->graph, str, at, in, n);
		if (r < 0)
			return r;
		for (size_t k = 0; k < n; k++) {
			if (lead && (in[k] & 0xc0) == 0x80) {
				out[m++] = (unsigned char)((lead & 3) << 6 | (in[k] & 0x3f));
				lead = 0;
			} else if (!lead && in[k] < 0x80) {
				out[m++] = in[k];
			} else if (!lead && (in[k] == 0xc2 || in[k] == 0xc3)) {
				lead = in[k];
			} else {
				return -EUCLEAN; /* a character that no byte stands for */
			}
		}
		r = ss->host->ops->copy_in(ss->host, memory, done, out, m);
		if (r < 0)
			return -EUCLEAN;
		done += m;
	}
	return lead || done != memory->size_bytes ? -EUCLEAN : 0;
}

static int decode_source(const struct wf_storages *ss, struct wf_source *stream, struct dev_memory *memory)
{
	enum { CHUNK = 1 << 18 };
	cleanup_free unsigned char *chunk = malloc(CHUNK);
	if (!chunk)
		return -ENOMEM;
	for (uint64_t at = 0; at < memory->size_bytes; at += CHUNK) {
		size_t n = WF_MIN((uint64_t)CHUNK, memory->size_bytes - at);
		int r = wf_source_read(stream, at, chunk, n);
		if (r == 0)
			r = ss->host->ops->copy_in(ss->host, memory, at, chunk, n);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Opens the decoded form of storage i: all of it in memory where that fits the budget. The cache is locked. */
static int decode(struct wf_storages *ss, uint32_t i, struct wf_decoded *ret)
{
	const struct wf_storage *s = &ss->all[i];
	struct wf_decoded d = {.storage = i};
	int r = 0;
	if (s->persid != WF_NIL)
		r = wf_container_open_record(ss->container, s->record, &d.stream, NULL);
	if (r < 0)
		return r;
	if (make_room(ss, s->base_bytes)) {
		r = ss->host->ops->alloc(ss->host, s->base_bytes, &d.memory);
		if (r == 0)
			r = d.stream ? decode_source(ss, d.stream, &d.memory) : decode_latin1(ss, s->data, &d.memory);
		wf_source_unref(d.stream);
		d.stream = NULL;
	} else if (!d.stream) {
		r = -ENOMEM; /* text inside the pickle has no stream to fall back to */
	}
	struct wf_decoded *all = r == 0 ? reallocarray(ss->decoded, ss->decoded_count + 1, sizeof *all) : NULL;
	if (!all) {
		ss->host->ops->free(ss->host, &d.memory);
		wf_source_unref(d.stream);
		return r < 0 ? r : -ENOMEM;
	}
	ss->decoded = all;
	ss->decoded[ss->decoded_count++] = d;
	ss->decoded_bytes += d.memory.size_bytes;
	*ret = d;
	return 0;
}

static void release(struct wf_storages *ss, uint32_t i)
{
	pthread_mutex_lock(&ss->cache_lock);
	for (uint32_t k = 0; k < ss->decoded_count; k++)
		if (ss->decoded[k].storage == i)
			ss->decoded[k].readers--;
	pthread_mutex_unlock(&ss->cache_lock);
}

static int read_decoded(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len)
{
	struct wf_decoded d;
	uint32_t k = 0;
	int r = 0;
	pthread_mutex_lock(&ss->cache_lock);
	while (k < ss->decoded_count && ss->decoded[k].storage != i)
		k++;
	if (k == ss->decoded_count)
		r = decode(ss, i, &d);
	if (r == 0) {
		ss->decoded[k].used = ++ss->clock;
		ss->decoded[k].readers++;
		d = ss->decoded[k];
	}
	pthread_mutex_unlock(&ss->cache_lock);
	if (r < 0)
		return r;
	r = d.stream ? wf_source_read(d.stream, offset, buf, len)
		     : ss->host->ops->copy_out(ss->host, &d.memory, offset, buf, len);
	release(ss, i);
	return r;
}

/* ---- base bytes ---- */

static int read_stored(struct wf_storages *ss, const struct wf_storage *s, uint64_t offset, void *buf, size_t len)
{
	uint64_t at;
	int r = wf_container_locate(ss->container, s->record, &at, NULL);
	return r < 0 ? r : wf_source_read(wf_container_file(ss->container), at + offset, buf, len);
}

static int read_base(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len)
{
	const struct wf_storage *s = &ss->all[i];
	if (s->persid == WF_NIL && !wf_is(ss->graph, s->data, WF_STR))
		return wf_string_read(ss->graph, s->data, offset, buf, len);
	if (s->persid == WF_NIL || wf_container_record(ss->container, s->record)->method != 0)
		return read_decoded(ss, i, offset, buf, len);
	return read_stored(ss, s, offset, buf, len);
}

/* The size of the elements that stand reversed in this storage's record; 1 for none. */
static unsigned int swap_unit(const struct wf_storages *ss, const struct wf_storage *s)
{
	return s->persid != WF_NIL && !s->untyped && wf_container_big_endian(ss->container)
		       ? wf_dtype_info(s->dtype)->swap_bytes
		       : 1;
}

static int read_swapped(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len, unsigned int unit)
{
	uint64_t start = offset / unit * unit, end = (offset + len + unit - 1) / unit * unit;
	cleanup_free unsigned char *wide = malloc(end - start);
	if (!wide)
		return -ENOMEM;
	int r = read_base(ss, i, start, wide, end - start);
	if (r < 0)
		return r;
	for (uint64_t at = 0; at < end - start; at += unit)
		for (unsigned int k = 0; k < unit / 2; k++) {
			unsigned char c = wide[at + k];
			wide[at + k] = wide[at + unit - 1 - k];
			wide[at + unit - 1 - k] = c;
		}
	memcpy(buf, wide + (offset - start), len);
	return 0;
}

/* Clean bytes: the base, and zeroes past its end. */
static int read_clean(struct wf_storages *ss, uint32_t i, uint64_t offset, char *buf, size_t len)
{
	const struct wf_storage *s = &ss->all[i];
	size_t base = offset < s->base_bytes ? WF_MIN(len, s->base_bytes - offset) : 0;
	unsigned int unit = swap_unit(ss, s);
	int r = base == 0   ? 0
		: unit == 1 ? read_base(ss, i, offset, buf, base)
			    : read_swapped(ss, i, offset, buf, base, unit);
	if (r == 0)
		memset(buf + base, 0, len - base);
	return r;
}

static int read_extent(struct wf_storages *ss, uint32_t i, uint64_t offset, char *buf, size_t len)
{
	int fd;
	int r = ss->files.open ? ss->files.open(ss->files.ctx, i, &fd) : -EIO;
	while (r == 0 && len > 0) {
		ssize_t n = pread(fd, buf, len, (off_t)offset);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO; /* the extent file is shorter than the log says */
		if (n > 0) {
			buf += n;
			offset += (uint64_t)n;
			len -= (size_t)n;
		}
	}
	return r;
}

int wf_storage_read(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	char *out = buf;
	if (!s || offset > s->size_bytes || len > s->size_bytes - offset)
		return s && s->bad ? s->bad : -EUCLEAN;
	if (s->bad)
		return s->bad;
	while (len > 0) {
		uint64_t end;
		bool dirty = wf_extents_find(s->dirty, offset, &end);
		size_t n = WF_MIN(len, end - offset);
		int r = dirty ? read_extent(ss, i, offset, out, n) : read_clean(ss, i, offset, out, n);
		if (r < 0)
			return r;
		out += n;
		offset += n;
		len -= n;
	}
	return 0;
}

bool wf_storage_locate(const struct wf_storages *ss, uint32_t i, uint64_t offset, int *ret_fd,
		       uint64_t *ret_file_offset, uint64_t *ret_len)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	uint64_t at, end;
	if (!s || s->bad || s->record == WF_NO_RECORD || offset >= WF_MIN(s->size_bytes, s->base_bytes) ||
	    swap_unit(ss, s) != 1)
		return false;
	if (wf_container_record(ss->container, s->record)->method != 0 || wf_extents_find(s->dirty, offset, &end) ||
	    wf_container_locate(ss->container, s->record, &at, NULL) < 0 ||
	    !wf_source_locate(wf_container_file(ss->container), at + offset, ret_fd, ret_file_offset))
		return false;
	*ret_len = WF_MIN(end, WF_MIN(s->size_bytes, s->base_bytes)) - offset;
	return true;
}

/* ---- writing ---- */

void wf_storages_set_extent_files(struct wf_storages *ss, const struct wf_extent_files *files)
{
	ss->files = *files;
}

static int write_fully(int fd, uint64_t offset, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			p += n;
			offset += (uint64_t)n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int wf_storage_mark(struct wf_storages *ss, uint32_t i, uint64_t offset, uint64_t len)
{
	uint64_t end;
	if (i >= ss->count || wf_add_u64(offset, len, &end) || end > ss->all[i].size_bytes)
		return -EUCLEAN;
	struct wf_storage *s = &ss->all[i];
	int r = s->dirty ? 0 : wf_extents_new(&s->dirty);
	return r < 0 ? r : wf_extents_add(s->dirty, offset, end);
}

int wf_storage_write(struct wf_storages *ss, uint32_t i, uint64_t offset, const void *buf, size_t len)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	int fd;
	if (!ss->files.open)
		return -EROFS;
	if (!s || offset > s->size_bytes || len > s->size_bytes - offset)
		return s && s->bad ? s->bad : -EUCLEAN;
	if (s->bad || len == 0)
		return s->bad;
	int r = ss->files.open(ss->files.ctx, i, &fd);
	if (r == 0)
		r = write_fully(fd, offset, buf, len);
	if (r == 0)
		r = wf_storage_mark(ss, i, offset, len);
	if (r == 0 && ss->files.written)
		ss->files.written(ss->files.ctx, i, offset, len);
	return r;
}

int wf_storage_resize(struct wf_storages *ss, uint32_t i, uint64_t size_bytes)
{
	if (i >= ss->count)
		return -EINVAL;
	struct wf_storage *s = &ss->all[i];
	if (s->dirty)
		wf_extents_truncate(s->dirty, size_bytes);
	/* what was cut off does not come back when the storage grows again: those bytes are zeroes then */
	s->base_bytes = WF_MIN(s->base_bytes, size_bytes);
	s->size_bytes = size_bytes;
	return 0;
}
