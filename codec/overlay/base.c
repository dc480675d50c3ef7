/* SPDX-License-Identifier: MIT */
/* Which state of which file edits belong to. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "codec/bytes/edges.h"
#include "codec/overlay/inner.h"
#include "codec/bytes/util.h"

int wf_overlay_base_look(int fd, uint64_t size_bytes, struct wf_overlay_base *ret)
{
	struct stat st;
	uint32_t edges;
	if (fstat(fd, &st) < 0)
		return -errno;
	uint64_t size = WF_MIN(size_bytes, (uint64_t)st.st_size);
	if (size_bytes != UINT64_MAX && size < size_bytes)
		return -EIO;
	int r = wf_edges_crc32(fd, size, &edges);
	if (r < 0)
		return r;
	*ret = (struct wf_overlay_base){.dev = st.st_dev,
					.ino = st.st_ino,
					.size_bytes = size,
					.mtime_sec = st.st_mtim.tv_sec,
					.mtime_nsec = st.st_mtim.tv_nsec,
					.edges_crc32 = edges};
	return 0;
}

int wf_overlay_base_of(int fd, uint64_t size_bytes, struct wf_overlay_base *ret)
{
	struct wf_overlay_base base;
	int r = wf_overlay_base_look(fd, size_bytes, &base);
	if (r == 0)
		r = wf_content_crc32(fd, base.size_bytes, &base.content_crc32);
	if (r < 0)
		return r;
	base.has_content = true;
	*ret = base;
	return 0;
}

void wf_overlay_put_base(unsigned char *at, const struct wf_overlay_base *base)
{
	memcpy(at, &base->dev, 8);
	memcpy(at + 8, &base->ino, 8);
	memcpy(at + 16, &base->size_bytes, 8);
	memcpy(at + 24, &base->mtime_sec, 8);
	memcpy(at + 32, &base->mtime_nsec, 8);
	memcpy(at + 40, &base->edges_crc32, 4);
}

struct wf_overlay_base wf_overlay_get_base(const unsigned char *at, bool has_content, uint32_t content_crc32)
{
	return (struct wf_overlay_base){.dev = wf_le64(at),
					.ino = wf_le64(at + 8),
					.size_bytes = wf_le64(at + 16),
					.mtime_sec = (int64_t)wf_le64(at + 24),
					.mtime_nsec = (int64_t)wf_le64(at + 32),
					.edges_crc32 = wf_le32(at + 40),
					.has_content = has_content,
					.content_crc32 = content_crc32};
}

static bool same_times(const struct wf_overlay_base *a, const struct wf_overlay_base *b)
{
	return a->mtime_sec == b->mtime_sec && a->mtime_nsec == b->mtime_nsec;
}

bool wf_overlay_base_equal(const struct wf_overlay_base *a, const struct wf_overlay_base *b)
{
	if (a->size_bytes != b->size_bytes || a->edges_crc32 != b->edges_crc32)
		return false;
	return a->has_content && b->has_content ? a->content_crc32 == b->content_crc32 : same_times(a, b);
}

void wf_overlay_know_content(struct wf_overlay *ov)
{
	struct wf_overlay_base now;
	if (ov->base.has_content || wf_overlay_base_of(ov->file_fd, ov->base.size_bytes, &now) < 0)
		return;
	/* what has changed since it was opened is known by its time alone, which is safe: it will not be found again */
	if (same_times(&now, &ov->base) && now.edges_crc32 == ov->base.edges_crc32)
		ov->base = now;
}

int wf_overlay_check_base(struct wf_overlay *ov, struct wf_error *err)
{
	struct wf_overlay_base now;
	cleanup_fd int fd = wf_overlay_open_checkpoint(ov, O_RDONLY);
	int r = fd < 0 ? fd : wf_overlay_base_look(fd, UINT64_MAX, &now);
	if (r == 0 && now.dev == ov->base.dev && now.ino == ov->base.ino && same_times(&now, &ov->base) &&
	    now.size_bytes == ov->base.size_bytes && now.edges_crc32 == ov->base.edges_crc32)
		return 0;
	/* it may have been touched only; another file in its place is somebody's work, be it the same */
	bool same_file = r == 0 && now.dev == ov->base.dev && now.ino == ov->base.ino;
	if (same_file)
		r = wf_overlay_base_of(fd, UINT64_MAX, &now);
	if (r < 0 && r != -ENOENT)
		return wf_fail(err, r, "%s: %s", ov->checkpoint, strerror(-r));
	if (!same_file || !ov->base.has_content || !wf_overlay_base_equal(&now, &ov->base))
		return wf_fail(err, -ESTALE,
			       "%s was changed by someone else since it was opened: the edits stay in %s; wfctl commit "
			       "--onto FILE %s writes them into a file that has what they touch",
			       ov->checkpoint, ov->directory, ov->target);
	ov->base = now;
	return 0;
}
