/* SPDX-License-Identifier: MIT */
/* .weightfs/objects: the whole graph of objects as directories, made when somebody looks. */
#include <errno.h>

#include "codec/checkpoint.h"
#include "codec/edit/state.h"

/* Making it makes objects in the graph, which is therefore nobody's meanwhile: no reader's, no editor's, no commit's.
 */
int wf_objects(struct wf_checkpoint *ck, uint32_t *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	bool there = wf_tree_has_objects(ck->tree, ret);
	pthread_rwlock_unlock(&ck->lock);
	if (there)
		return 0;
	pthread_mutex_lock(&ck->commit_lock);
	pthread_rwlock_wrlock(&ck->lock);
	int r = wf_tree_objects(ck->tree, &ck->objects_after, ret);
	pthread_rwlock_unlock(&ck->lock);
	pthread_mutex_unlock(&ck->commit_lock);
	return r;
}

int wf_count_unseen(struct wf_checkpoint *ck, struct wf_unseen *ret)
{
	wf_ino root;
	/* during a commit it is what it was at the last time */
	if (pthread_mutex_trylock(&ck->commit_lock) == 0) {
		pthread_rwlock_wrlock(&ck->lock);
		bool there = wf_tree_has_objects(ck->tree, &root);
		uint32_t now = wf_tree_changes(ck->tree);
		int r = ck->unseen_known && ck->unseen_of == now ? 0
								 : wf_tree_objects(ck->tree, &ck->objects_after, &root);
		if (r == 0 && !(ck->unseen_known && ck->unseen_of == now)) {
			wf_tree_count_unseen(ck->tree, &ck->unseen.tensors, &ck->unseen.bytes);
			ck->unseen_known = true;
			ck->unseen_of = now;
			if (!there)
				wf_tree_drop_objects(ck->tree);
		}
		pthread_rwlock_unlock(&ck->lock);
		pthread_mutex_unlock(&ck->commit_lock);
		if (r < 0)
			return r;
	}
	pthread_rwlock_rdlock(&ck->lock);
	*ret = ck->unseen;
	int r = ck->unseen_known ? 0 : -EBUSY;
	pthread_rwlock_unlock(&ck->lock);
	return r;
}
