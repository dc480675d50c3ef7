/* SPDX-License-Identifier: MIT */
/* Why bytes of entries cannot be read: of one, for whoever asks after a read has failed; and of all, in the log at the opening. */
#include <errno.h>

#include "codec/checkpoint.h"
#include "codec/edit/state.h"

int wf_why_unread(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret)
{
	struct wf_error err = {0};
	struct wf_tensor t;
	char text[512];
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	bool tensor = n && n->type == WF_NODE_TENSOR;
	int r = tensor ? wf_tensor_decode(ck->graph, ck->storages, n->object, &t, &err) : 0;
	const struct wf_storage *s = tensor && r == 0 ? wf_storage_get(ck->storages, t.storage) : NULL;
	if (s && s->record != WF_NO_RECORD)
		r = wf_container_why(ck->container, s->record, &err);
	pthread_rwlock_unlock(&ck->lock);
	if (r < 0 && err.code)
		wf_buffer_puts(ret, wf_error_format(&err, text, sizeof text));
	return r == 0 || !err.code ? -ENODATA : wf_buffer_status(ret);
}

void wf_unread_sentence(struct wf_buffer *out, size_t count, const char *first, size_t first_len, const char *why)
{
	if (count > 1)
		wf_buffer_printf(out, "%zu tensors cannot be read (", count);
	wf_buffer_append(out, first, first_len);
	wf_buffer_printf(out, count > 1 ? ": %s; and so on): wfctl verify lists them" : " cannot be read: %s", why);
}

void wf_log_unread(struct wf_checkpoint *ck)
{
	struct wf_buffer first = WF_BUFFER_INIT, line = WF_BUFFER_INIT;
	char why[512] = "";
	uint32_t bad = 0;
	struct wf_tensor t;
	if (!ck->log.line || !wf_tree_has_doubtful(ck->tree))
		return;
	for (wf_ino ino = 1; ino <= wf_tree_node_count(ck->tree); ino++) {
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		struct wf_error err = {0};
		if (!n || n->nlink == 0 || n->type != WF_NODE_TENSOR ||
		    wf_tensor_decode(ck->graph, ck->storages, n->object, &t, &err) == 0)
			continue;
		if (++bad > 1)
			continue;
		wf_tree_path(ck->tree, ino, &first);
		wf_error_format(&err, why, sizeof why);
	}
	if (bad > 0) {
		wf_unread_sentence(&line, bad, first.data ? first.data : "?", first.data ? first.len : 1, why);
		wf_log_line(&ck->log, "%s", line.data ? line.data : why);
	}
	wf_buffer_free(&first);
	wf_buffer_free(&line);
}
