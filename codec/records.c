/* SPDX-License-Identifier: MIT */
/* The front door's view of the container's records. */
#include <errno.h>

#include "codec/checkpoint.h"
#include "codec/edit/state.h"
#include "codec/bytes/util.h"

/* Locks, and makes the tree at the first call. Unlock in every case. */
static int begin(struct wf_checkpoint *ck)
{
	pthread_rwlock_rdlock(&ck->lock);
	pthread_mutex_lock(&ck->archive_lock);
	int r = ck->archive ? 0 : wf_archive_new(ck->container, &ck->archive);
	pthread_mutex_unlock(&ck->archive_lock);
	return r;
}

static void fill(const struct wf_checkpoint *ck, uint32_t node, struct wf_record_stat *ret)
{
	const struct wf_record *record = wf_container_record(ck->container, wf_archive_record(ck->archive, node));
	*ret = (struct wf_record_stat){
		.node = node, .directory = !record, .stored_bytes = record ? record->stored_bytes : 0};
}

int wf_record_stat(struct wf_checkpoint *ck, uint32_t node, struct wf_record_stat *ret)
{
	int r = begin(ck);
	if (r == 0 && node >= wf_archive_count(ck->archive))
		r = -ENOENT;
	if (r == 0)
		fill(ck, node, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_record_lookup(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_record_stat *ret)
{
	int r = begin(ck);
	uint32_t node = r == 0 && dir < wf_archive_count(ck->archive) ? wf_archive_find(ck->archive, dir, name) : 0;
	if (r == 0 && node == 0)
		r = -ENOENT;
	if (r == 0)
		fill(ck, node, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_record_list(struct wf_checkpoint *ck, uint32_t dir, uint64_t cookie,
		   int (*each)(void *ctx, const char *name, uint64_t next, const struct wf_record_stat *st), void *ctx)
{
	struct wf_record_stat st;
	int r = begin(ck);
	if (r == 0 && (dir >= wf_archive_count(ck->archive) || cookie >= wf_archive_count(ck->archive)))
		r = -ENOENT;
	/* a cookie is the node that was last given */
	uint32_t node = r < 0    ? 0
			: cookie ? wf_archive_next(ck->archive, (uint32_t)cookie)
				 : wf_archive_first(ck->archive, dir);
	for (; r == 0 && node; node = wf_archive_next(ck->archive, node)) {
		fill(ck, node, &st);
		r = each(ctx, wf_archive_name(ck->archive, node), node, &st);
	}
	pthread_rwlock_unlock(&ck->lock);
	return r < 0 ? r : 0;
}

ssize_t wf_record_read(struct wf_checkpoint *ck, uint32_t node, uint64_t offset, void *buf, size_t len)
{
	uint64_t at;
	int r = begin(ck);
	uint32_t i =
		r == 0 && node < wf_archive_count(ck->archive) ? wf_archive_record(ck->archive, node) : WF_NO_RECORD;
	const struct wf_record *record = wf_container_record(ck->container, i);
	if (r == 0)
		r = record ? wf_container_locate(ck->container, i, &at, NULL) : -ENOENT;
	size_t part = r == 0 && offset < record->stored_bytes ? WF_MIN(len, record->stored_bytes - offset) : 0;
	if (part)
		r = wf_source_read(wf_container_file(ck->container), at + offset, buf, part);
	pthread_rwlock_unlock(&ck->lock);
	return r < 0 ? r : (ssize_t)part;
}
