/* SPDX-License-Identifier: MIT */
/* Bytes of storages: of the base, or from the overlay's extent file, merged. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/array.h"
#include "codec/bytes/io.h"
#include "codec/tensor/storage.h"
#include "codec/tensor/storage_inner.h"
#include "codec/bytes/util.h"

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

	uint32_t skip;
	wf_ref data = s->inside ? wf_storage_data(ss, i, &skip) : WF_NIL;
	if (s->inside)
		offset += skip;
	if (s->inside && !wf_is(ss->graph, data, WF_STR))
		return wf_string_read(ss->graph, data, offset, buf, len);
	if (s->inside || wf_container_record(ss->container, s->record)->method != 0)
		return wf_storage_read_decoded(ss, i, offset, buf, len);
	return read_stored(ss, s, offset, buf, len);
}

int wf_storage_read_head(struct wf_storages *ss, uint32_t i, void *buf)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	size_t len = 0;

	if (!s || !s->inside || s->bad)
		return s && s->bad ? s->bad : -EINVAL;
	uint32_t skip;
	wf_ref data = wf_storage_data(ss, i, &skip);
	if (!wf_is(ss->graph, data, WF_STR))
		return wf_string_read(ss->graph, data, 0, buf, skip);
	int r = wf_storage_text_head(ss->graph, data, buf, skip, &len);
	return r == 0 && len < skip ? -EUCLEAN : r;
}

/* The size of the elements that stand reversed in this storage's record; 1 for none. */
static unsigned int swap_unit(const struct wf_storages *ss, const struct wf_storage *s)
{
	bool swapped = !s->inside && !s->untyped && wf_container_big_endian(ss->container);

	return swapped ? wf_dtype_info(s->dtype)->swap_bytes : 1;
}

const struct wf_record *wf_storage_record(const struct wf_storages *ss, uint32_t i)
{
	return i < ss->count ? wf_container_record(ss->container, ss->all[i].record) : NULL;
}

bool wf_storage_swapped(const struct wf_storages *ss, uint32_t i)
{
	return i < ss->count && swap_unit(ss, &ss->all[i]) != 1;
}

static void reverse(unsigned char *p, size_t len, unsigned int unit)
{
	for (size_t at = 0; at < len; at += unit)
		for (unsigned int k = 0; k < unit / 2; k++) {
			unsigned char c = p[at + k];
			p[at + k] = p[at + unit - 1 - k];
			p[at + unit - 1 - k] = c;
		}
}

/* Whole elements go straight to their place; only the ones that the range begins or ends inside are read aside. */
static int read_swapped(struct wf_storages *ss, uint32_t i, uint64_t offset, unsigned char *buf, size_t len,
			unsigned int unit)
{
	unsigned char element[8];

	while (len > 0) {
		size_t skip = offset % unit, n = len - len % unit;
		bool whole = skip == 0 && n > 0;
		int r = whole ? read_base(ss, i, offset, buf, n) : read_base(ss, i, offset - skip, element, unit);
		if (r < 0)
			return r;
		if (whole) {
			reverse(buf, n, unit);
		} else {
			n = WF_MIN(len, unit - skip);
			reverse(element, unit, unit);
			memcpy(buf, element + skip, n);
		}
		buf += n;
		offset += n;
		len -= n;
	}
	return 0;
}

/* Clean bytes: the base, and zeroes past its end. */
static int read_clean(struct wf_storages *ss, uint32_t i, uint64_t offset, unsigned char *buf, size_t len)
{
	const struct wf_storage *s = &ss->all[i];
	size_t base = offset < s->base_bytes ? WF_MIN(len, s->base_bytes - offset) : 0;
	unsigned int unit = swap_unit(ss, s);
	int r = 0;

	if (base > 0)
		r = unit == 1 ? read_base(ss, i, offset, buf, base) : read_swapped(ss, i, offset, buf, base, unit);
	if (r == 0)
		memset(buf + base, 0, len - base);
	return r;
}

static int read_extent(struct wf_storages *ss, uint32_t i, uint64_t offset, unsigned char *buf, size_t len)
{
	int fd;
	if (ss->all[i].given)
		return wf_source_read(wf_storage_given(ss, i), offset, buf, len);
	int r = ss->files.open ? ss->files.open(ss->files.ctx, i, &fd) : -EIO;
	return r < 0 ? r : wf_pread_all(fd, buf, len, offset); /* -EIO: the extent file is shorter than the log says */
}

int wf_storage_read(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	unsigned char *out = buf;

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

int wf_storage_read_clean(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	if (!s || offset > s->size_bytes || len > s->size_bytes - offset)
		return s && s->bad ? s->bad : -EUCLEAN;
	return s->bad ? s->bad : read_clean(ss, i, offset, buf, len);
}

static bool locate(const struct wf_storages *ss, uint32_t i, uint64_t offset,
		   bool (*find)(struct wf_source *, uint64_t, struct wf_file_run *), struct wf_file_run *ret)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	uint64_t at, end;

	*ret = (struct wf_file_run)WF_FILE_RUN_INIT;
	if (!s || s->bad || s->record == WF_NO_RECORD || offset >= WF_MIN(s->size_bytes, s->base_bytes) ||
	    swap_unit(ss, s) != 1)
		return false;
	if (wf_container_record(ss->container, s->record)->method != 0 || wf_extents_find(s->dirty, offset, &end) ||
	    wf_container_locate(ss->container, s->record, &at, NULL) < 0 ||
	    !find(wf_container_file(ss->container), at + offset, ret))
		return false;
	ret->len = WF_MIN(ret->len, WF_MIN(end, WF_MIN(s->size_bytes, s->base_bytes)) - offset);
	return true;
}

bool wf_storage_locate(const struct wf_storages *ss, uint32_t i, uint64_t offset, struct wf_file_run *ret)
{
	return locate(ss, i, offset, wf_source_locate, ret);
}

bool wf_storage_find_run(const struct wf_storages *ss, uint32_t i, uint64_t offset, struct wf_file_run *ret,
			 bool *ret_written)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	uint64_t end;

	*ret = (struct wf_file_run)WF_FILE_RUN_INIT;
	if (!s || s->bad || s->given || offset >= s->size_bytes)
		return false;
	*ret_written = wf_extents_find(s->dirty, offset, &end);
	if (!*ret_written)
		return locate(ss, i, offset, wf_source_find_run, ret);
	ret->offset = offset;
	ret->len = WF_MIN(end, s->size_bytes) - offset;
	return ss->files.open && ss->files.open(ss->files.ctx, i, &ret->fd) == 0;
}

/* ---- writing ---- */

#define TAKE_BYTES (1u << 20)

static const char zeroes[64 << 10];

void wf_storages_set_extent_files(struct wf_storages *ss, const struct wf_extent_files *files)
{
	ss->files = *files;
}

void wf_storages_set_mirror(struct wf_storages *ss, const struct wf_storage_mirror *mirror)
{
	ss->mirror = mirror;
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

/* The bytes of [offset, end) that the file has become a hole; the file is at least that long afterwards. */
static int punch(int fd, uint64_t offset, uint64_t end)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	uint64_t size = (uint64_t)st.st_size;
	if (size < end && ftruncate(fd, (off_t)end) < 0)
		return -errno;
	if (offset >= size)
		return 0;
	uint64_t part = WF_MIN(size, end) - offset;
	int r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)part) < 0 ? -errno : 0;
	while (r == -EOPNOTSUPP && part > 0) {
		size_t n = WF_MIN(part, sizeof zeroes);
		int w = wf_pwrite_all(fd, zeroes, n, offset);
		if (w < 0)
			return w;
		offset += n;
		part -= n;
	}
	return r == -EOPNOTSUPP ? 0 : r;
}

int wf_storage_give(struct wf_storages *ss, uint32_t i, struct wf_source *source)
{
	struct wf_storage *s = i < ss->count ? &ss->all[i] : NULL;
	uint64_t size = wf_source_size(source);
	if (!s || s->bad || s->given || s->size_bytes > 0 || s->inside || ss->mirror)
		return -EINVAL;
	int r = wf_array_reserve(&ss->given, &ss->given_capacity, (uint64_t)ss->given_count + 1, sizeof *ss->given,
				 UINT32_MAX);
	if (r == 0)
		r = wf_map_set(&ss->given_at, i, ss->given_count);
	if (r == 0 && !s->dirty)
		r = wf_extents_new(&s->dirty);
	if (r == 0)
		r = wf_extents_add(s->dirty, 0, size);
	if (r < 0)
		return r;
	ss->given[ss->given_count++] = wf_source_ref(source);
	s->given = true;
	s->size_bytes = size;
	s->resized = true;
	return 0;
}

/* What was given stands in the extent file from now on. */
static int take_in(struct wf_storages *ss, uint32_t i)
{
	struct wf_storage *s = &ss->all[i];
	cleanup_free char *piece = malloc(TAKE_BYTES);
	int fd, r = piece ? ss->files.open(ss->files.ctx, i, &fd) : -ENOMEM;
	struct wf_source *given = wf_storage_given(ss, i);
	uint64_t size = WF_MIN(s->size_bytes, wf_source_size(given));
	for (uint64_t at = 0; r == 0 && at < size; at += TAKE_BYTES) {
		size_t n = (size_t)WF_MIN(size - at, (uint64_t)TAKE_BYTES);
		r = wf_source_read(given, at, piece, n);
		if (r == 0)
			r = wf_pwrite_all(fd, piece, n, at);
	}
	if (r == 0)
		wf_storage_take_back(ss, i);
	return r;
}

/* buf: NULL for zeroes. */
static int change(struct wf_storages *ss, uint32_t i, uint64_t offset, const void *buf, size_t len)
{
	const struct wf_storage *s = wf_storage_get(ss, i);
	int fd;

	if (!ss->files.open)
		return -EROFS;
	if (!s || offset > s->size_bytes || len > s->size_bytes - offset)
		return s && s->bad ? s->bad : -EUCLEAN;
	if (s->bad || len == 0)
		return s->bad;
	int r = ss->files.before ? ss->files.before(ss->files.ctx, i, offset, len) : 0;
	if (r == 0 && s->given)
		r = take_in(ss, i);
	if (r == 0)
		r = ss->files.open(ss->files.ctx, i, &fd);
	if (r == 0)
		r = buf ? wf_pwrite_all(fd, buf, len, offset) : punch(fd, offset, offset + len);
	if (r == 0)
		r = wf_storage_mark(ss, i, offset, len);
	if (r == 0 && ss->files.written)
		ss->files.written(ss->files.ctx, i, offset, len);
	if (r == 0 && ss->mirror)
		ss->mirror->written(ss->mirror->ctx, i, offset, buf, len);
	return r;
}

int wf_storage_write(struct wf_storages *ss, uint32_t i, uint64_t offset, const void *buf, size_t len)
{
	return change(ss, i, offset, buf, len);
}

int wf_storage_zero(struct wf_storages *ss, uint32_t i, uint64_t offset, uint64_t len)
{
	return change(ss, i, offset, NULL, len);
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
	s->resized |= s->size_bytes != size_bytes;
	s->size_bytes = size_bytes;
	if (ss->files.written)
		ss->files.written(ss->files.ctx, i, size_bytes, 0);
	if (ss->mirror)
		ss->mirror->resized(ss->mirror->ctx, i);
	return 0;
}
