/* SPDX-License-Identifier: MIT */
/* The checkpoint's locks; edit/state.h tells who takes which. */
#include <errno.h>

#include "codec/edit/state.h"
#include "codec/bytes/util.h"

void wf_checkpoint_make_locks(struct wf_checkpoint *ck)
{
	pthread_rwlockattr_t writers_first;
	pthread_rwlockattr_init(&writers_first);
	pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&ck->lock, &writers_first);
	pthread_rwlockattr_destroy(&writers_first);
	pthread_rwlock_init(&ck->overlay_lock, NULL);
	pthread_mutex_init(&ck->commit_lock, NULL);
	pthread_mutex_init(&ck->open_lock, NULL);
	pthread_mutex_init(&ck->archive_lock, NULL);
}

void wf_checkpoint_free_locks(struct wf_checkpoint *ck)
{
	pthread_mutex_destroy(&ck->archive_lock);
	pthread_mutex_destroy(&ck->open_lock);
	pthread_mutex_destroy(&ck->commit_lock);
	pthread_rwlock_destroy(&ck->overlay_lock);
	pthread_rwlock_destroy(&ck->lock);
}

void wf_checkpoint_usage(struct wf_checkpoint *ck, struct wf_overlay_usage *ret)
{
	if (pthread_rwlock_tryrdlock(&ck->overlay_lock) != 0) {
		*ret = ck->usage_before;
		return;
	}
	wf_overlay_usage(ck->overlay, ret);
	pthread_rwlock_unlock(&ck->overlay_lock);
}

int wf_checkpoint_flush(struct wf_checkpoint *ck)
{
	uint32_t number = 0;
	for (;;) {
		int raw_fd;
		pthread_rwlock_rdlock(&ck->lock);
		bool more = wf_overlay_next_unsynced(ck->overlay, &number, &raw_fd);
		pthread_rwlock_unlock(&ck->lock);
		if (!more)
			return 0;
		cleanup_fd int fd = raw_fd;
		if (fdatasync(fd) == 0)
			continue;
		int r = -errno;
		pthread_rwlock_rdlock(&ck->lock);
		wf_overlay_sync_failed(ck->overlay, number - 1);
		pthread_rwlock_unlock(&ck->lock);
		return r;
	}
}
