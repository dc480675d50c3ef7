/* SPDX-License-Identifier: MIT */
/* A second name where the format has no ties: the entry's content once more, in a storage of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/edit/finish_inner.h"
#include "codec/edit/inner.h"
#include "codec/tensor/layout.h"

#define CHUNK (1u << 20)

/* The bytes of a tensor from `at` on, as many as go in one step: moved by the kernel where they stand in a file as they are shown. */
static int copy_piece(struct wf_checkpoint *ck, const struct wf_tensor *from, uint64_t at, int fd, char *buf,
		      uint64_t *ret_len)
{
	cleanup_with(wf_file_run_end) struct wf_file_run run = WF_FILE_RUN_INIT;
	bool written = false;
	pthread_rwlock_rdlock(&ck->lock);
	bool found = wf_tensor_find_run(ck->storages, from, at, &run, &written) && !written;
	pthread_rwlock_unlock(&ck->lock);
	off_t source = (off_t)run.offset, target = (off_t)at;
	ssize_t n = found ? copy_file_range(run.fd, &source, fd, &target, run.len, 0) : 0;
	if (n > 0) {
		*ret_len = (uint64_t)n;
		return 0;
	}
	*ret_len = WF_MIN(from->size_bytes - at, (uint64_t)CHUNK);
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_tensor_read(ck->storages, from, at, buf, *ret_len);
	pthread_rwlock_unlock(&ck->lock);
	return r < 0 ? r : wf_pwrite_all(fd, buf, *ret_len, at);
}

/* The bytes of a tensor in a new data file of the overlay, which nothing tells of yet. `lock` is let go meanwhile: commit_lock keeps edits
 * away, and readers need not wait for gigabytes. */
static int copy_aside(struct wf_checkpoint *ck, const struct wf_tensor *from, uint32_t number)
{
	cleanup_free char *buf = malloc(CHUNK);
	uint64_t len = 0;
	int fd, r = buf ? wf_overlay_file(ck->overlay, number, &fd) : -ENOMEM;
	if (r < 0)
		return r;
	/* the overlay closes its own when there are many */
	cleanup_fd int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return -errno;
	pthread_rwlock_unlock(&ck->lock);
	for (uint64_t at = 0; r == 0 && at < from->size_bytes; at += len)
		r = copy_piece(ck, from, at, own, buf, &len);
	pthread_rwlock_wrlock(&ck->lock);
	if (r < 0)
		wf_overlay_drop_file(ck->overlay, number);
	return r;
}

/* The entry that was made with that data file is the tensor whose bytes it has. */
static int become_tensor(struct wf_checkpoint *ck, const struct wf_tensor *from, wf_ino to)
{
	wf_ref object;
	const struct wf_file *f = wf_edit_known(ck, to);
	struct wf_tensor t = {.kind = WF_TENSOR_DENSE};
	int r = wf_edit_tensor(ck, to, &t);
	if (r < 0)
		return r;
	/* where it stands in for a backup, it shows that one's storage */
	uint32_t storage = f->pending == PENDING_BYTES ? f->storage : t.storage;
	const struct wf_tensor_type type = wf_tensor_type_of(from);
	ck->edits->writing = to;
	r = wf_storage_resize(ck->storages, storage, from->size_bytes);
	if (r == 0 && from->size_bytes > 0 && (r = wf_storage_mark(ck->storages, storage, 0, from->size_bytes)) == 0)
		wf_edit_written(ck, storage, 0, from->size_bytes);
	wf_tensor_set_type(&t, &type, storage);
	if (r == 0)
		r = wf_storage_set_form(ck->storages, storage, type.dtype, "cpu");
	if (r == 0)
		r = wf_edit_make_object(ck, &t, &object);
	if (r == 0)
		r = wf_edit_become(ck, to, object, 0);
	/* it has the type that it was copied with, whatever is written into it next */
	return r < 0 || !f->is_new ? r : wf_edit_declare_type(ck, to);
}

/* Before gigabytes are copied. */
static int check_name(struct wf_checkpoint *ck, wf_ino dir, const char *name)
{
	struct wf_place p;
	wf_ref key;
	int r = wf_edit_find(ck, dir, name, &p);
	return r == -ENOENT ? wf_edit_room_for(ck, dir, name, WF_NIL, &dir, &key) : r < 0 ? r : -EEXIST;
}

static int make(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name, wf_ino *ret)
{
	struct wf_tensor from;
	uint32_t number = wf_overlay_new_number(ck->overlay);
	wf_ref object = wf_tree_node(ck->tree, ino)->object;
	bool tensor = wf_is_tensor(ck->graph, object);
	int r = check_name(ck, dir, name);
	if (r == 0 && tensor)
		r = wf_tensor_decode(ck->graph, ck->storages, object, &from, NULL);
	if (r == 0 && tensor && from.size_bytes > 0)
		r = copy_aside(ck, &from, number);
	if (r < 0)
		return r;
	r = wf_apply_create(ck, dir, name, number, ret);
	if (r < 0) {
		wf_overlay_drop_file(ck->overlay, number);
		return r;
	}
	r = tensor ? become_tensor(ck, &from, *ret) : wf_edit_become(ck, *ret, object, 0);
	if (r < 0)
		wf_apply_unlink(ck, dir, name);
	return r;
}

int wf_edit_copy(struct wf_checkpoint *ck, wf_ino ino, wf_ino dir, const char *name, wf_ino *ret)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_buffer path = WF_BUFFER_INIT;
	wf_ino to;
	if (!n || n->nlink == 0)
		return -ENOENT;
	int r = f && f->pending != PENDING_NOT && f->writers == 0 ? wf_edit_end_writing(ck, ino) : 0;
	if (r == 0 && f && f->pending != PENDING_NOT && !wf_edit_stands_aside(ck, ino) && !wf_edit_keeps_text(ck, ino))
		r = wf_refuse(ck, -EBUSY, "somebody writes it, and a safetensors file has no ties that could follow");
	if (r < 0)
		return r;
	n = wf_tree_node(ck->tree, ino);
	if (n->type != WF_NODE_TENSOR && n->type != WF_NODE_VALUE)
		return -EPERM;
	r = make(ck, ino, dir, name, &to);
	if (r < 0)
		return r;
	wf_tree_path(ck->tree, ino, &path);
	wf_log_line(&ck->log, "%s is a copy of %s: a safetensors file has no ties", name, path.data ? path.data : "?");
	wf_buffer_free(&path);
	*ret = to;
	return 0;
}
