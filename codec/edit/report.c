/* SPDX-License-Identifier: MIT */
/* What wf_status tells of the edits: types that changed since the last commit, and content that was refused. */
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/value/text.h"

static void report_shape(struct wf_checkpoint *ck, wf_ino ino, const struct wf_tensor_type *was, bool *first,
			 struct wf_buffer *out)
{
	struct wf_buffer path = WF_BUFFER_INIT;
	struct wf_tensor t;
	if (wf_edit_tensor(ck, ino, &t) < 0 ||
	    (was->ndim == t.ndim && !memcmp(was->shape, t.shape, t.ndim * sizeof *t.shape)))
		return;
	wf_tree_path(ck->tree, ino, &path);
	wf_buffer_puts(out, *first ? "{\"path\": " : ", {\"path\": ");
	wf_json_string(out, path.data ? path.data : "", path.len);
	wf_buffer_puts(out, ", \"from\": ");
	wf_json_ints(out, was->shape, was->ndim);
	wf_buffer_puts(out, ", \"to\": ");
	wf_json_ints(out, t.shape, t.ndim);
	wf_buffer_putc(out, '}');
	wf_buffer_free(&path);
	*first = false;
}

void wf_edits_report(struct wf_checkpoint *ck, struct wf_buffer *out)
{
	const struct wf_edits *e = ck->edits;
	bool first = true;
	wf_buffer_puts(out, "  \"shapes\": [");
	for (wf_ino ino = 1; ino <= e->files_count; ino++) {
		const struct wf_file *f = e->files[ino - 1];
		const struct wf_node *n = f ? wf_tree_node(ck->tree, ino) : NULL;
		if (!n || n->nlink == 0 || n->type != WF_NODE_TENSOR)
			continue;
		if (f->was)
			report_shape(ck, ino, f->was, &first, out);
	}
	wf_buffer_puts(out, "],\n  \"refused\": [");
	for (uint32_t i = 0; i < e->refused_count; i++) {
		wf_buffer_puts(out, i ? ", " : "");
		wf_json_string(out, e->refused[i], strlen(e->refused[i]));
	}
	wf_buffer_puts(out, "],\n");
}
