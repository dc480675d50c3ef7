/* SPDX-License-Identifier: MIT */
/* Opens slices of `.distcp` files with the ordinary readers, and keeps a few open that cannot be read without. */
#include "codec/directory/dcp_slice.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>

#include "codec/bytes/util.h"
#include "codec/tensor/layout.h"

#define KEPT 8u

struct kept {
	struct wf_dcp_slice slice;
	struct wf_tensor tensor;
	uint64_t offset;
	uint32_t member;
	unsigned int users;
	uint64_t used; /* when; 0: nothing is kept here */
};

struct wf_dcp_slices {
	pthread_mutex_t lock;
	uint64_t clock;
	struct kept kept[KEPT];
};

static int open_graph(struct wf_source *source, struct wf_dcp_slice *s, struct wf_error *err)
{
	int r = wf_container_open(source, &s->c, err);
	if (r == 0)
		r = wf_graph_new(&s->g);
	if (r == 0)
		r = wf_container_load_graph(s->c, s->g, &s->root, err);
	if (r == 0)
		r = wf_storages_new(s->g, s->c, &s->storages, err);
	return r;
}

int wf_dcp_slice_open(struct wf_members *m, uint32_t member, uint64_t offset, uint64_t length, struct wf_dcp_slice *ret,
		      struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *file = NULL, *source = NULL;
	int r = wf_members_open(m, member, &file, err);
	*ret = (struct wf_dcp_slice){0};
	if (r < 0)
		return r;
	if (offset > wf_source_size(file) || length > wf_source_size(file) - offset)
		return wf_fail_at(err, -EUCLEAN, wf_members_name(m, member), offset,
				  "the file ends before a slice of %" PRIu64 " bytes does", length);
	r = wf_source_slice(file, offset, length, &source);
	if (r == 0)
		r = open_graph(source, ret, err);
	if (r < 0) {
		wf_dcp_slice_close(ret);
		wf_error_where(err, wf_members_name(m, member));
	}
	return r == -EMEDIUMTYPE ? -EUCLEAN : r;
}

void wf_dcp_slice_close(struct wf_dcp_slice *s)
{
	wf_storages_free(s->storages);
	wf_graph_free(s->g);
	wf_container_free(s->c);
	*s = (struct wf_dcp_slice){0};
}

int wf_dcp_slice_tensor(const struct wf_dcp_slice *s, struct wf_tensor *ret, struct wf_error *err)
{
	int r = wf_tensor_decode(s->g, s->storages, s->root, ret, err);
	if (r == 0 && ret->kind != WF_TENSOR_DENSE)
		r = -EINVAL;
	return r == -EINVAL ? wf_fail(err, -EUCLEAN, "a slice that is to hold a tensor holds something else") : r;
}

bool wf_dcp_slice_locate(const struct wf_dcp_slice *s, const struct wf_tensor *t, uint64_t *ret_at)
{
	const struct wf_storage *storage = wf_storage_get(s->storages, t->storage);
	const struct wf_record *record = wf_storage_record(s->storages, t->storage);
	uint64_t at;
	if (!t->contiguous || t->conj || t->neg || !storage || storage->inside || !record || record->method != 0 ||
	    wf_storage_swapped(s->storages, t->storage) || wf_container_locate(s->c, storage->record, &at, NULL) < 0)
		return false;
	*ret_at = at + t->offset_elems * wf_dtype_info(t->dtype)->size_bytes;
	return true;
}

/* ---- those that stay open ---- */

int wf_dcp_slices_new(struct wf_dcp_slices **ret)
{
	struct wf_dcp_slices *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	*ret = s;
	return 0;
}

void wf_dcp_slices_free(struct wf_dcp_slices *s)
{
	if (!s)
		return;
	for (unsigned int i = 0; i < KEPT; i++)
		wf_dcp_slice_close(&s->kept[i].slice);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* With the lock held. */
static struct kept *find(struct wf_dcp_slices *s, uint32_t member, uint64_t offset)
{
	for (unsigned int i = 0; i < KEPT; i++)
		if (s->kept[i].used && s->kept[i].member == member && s->kept[i].offset == offset)
			return &s->kept[i];
	return NULL;
}

/* The place of the one unused for longest; NULL while all are in use. */
static struct kept *place_for_another(struct wf_dcp_slices *s)
{
	struct kept *best = NULL;
	for (unsigned int i = 0; i < KEPT; i++)
		if (s->kept[i].users == 0 && (!best || s->kept[i].used < best->used))
			best = &s->kept[i];
	return best;
}

static int open_one(struct wf_members *m, uint32_t member, uint64_t offset, uint64_t length, struct kept *ret,
		    struct wf_error *err)
{
	*ret = (struct kept){.member = member, .offset = offset};
	int r = wf_dcp_slice_open(m, member, offset, length, &ret->slice, err);
	if (r == 0)
		r = wf_dcp_slice_tensor(&ret->slice, &ret->tensor, err);
	if (r < 0)
		wf_dcp_slice_close(&ret->slice);
	return r;
}

static int read_one(const struct kept *k, uint64_t at, void *buf, size_t len, struct wf_error *err)
{
	if (at > k->tensor.size_bytes || len > k->tensor.size_bytes - at)
		return wf_fail(err, -EUCLEAN, "the tensor in a slice is smaller than its chunk");
	return wf_tensor_read(k->slice.storages, &k->tensor, at, buf, len);
}

int wf_dcp_slices_read(struct wf_dcp_slices *s, struct wf_members *m, uint32_t member, uint64_t offset, uint64_t length,
		       uint64_t at, void *buf, size_t len, struct wf_error *err)
{
	struct kept own;
	pthread_mutex_lock(&s->lock);
	struct kept *k = find(s, member, offset);
	if (k) {
		k->users++;
		k->used = ++s->clock;
	}
	pthread_mutex_unlock(&s->lock);
	if (!k) {
		int r = open_one(m, member, offset, length, &own, err);
		if (r < 0)
			return r;
		pthread_mutex_lock(&s->lock);
		struct kept *place = find(s, member, offset) ? NULL : place_for_another(s);
		if (place) {
			wf_dcp_slice_close(&place->slice);
			*place = own;
			place->users = 1;
			place->used = ++s->clock;
			k = place;
		}
		pthread_mutex_unlock(&s->lock);
	}
	int r = read_one(k ? k : &own, at, buf, len, err);
	if (!k)
		wf_dcp_slice_close(&own.slice);
	pthread_mutex_lock(&s->lock);
	if (k)
		k->users--;
	pthread_mutex_unlock(&s->lock);
	return r;
}
