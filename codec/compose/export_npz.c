/* SPDX-License-Identifier: MIT */
/* An .npz: a zip of KEY.npy, stored. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/compose/target.h"

#define HEAD_BYTES 512u /* of a record beside its elements, and its entry in the directory: for the room on the disk */

const char *wf_npz_refuses(const struct wf_named *n)
{
	const struct wf_dtype_info *info = wf_dtype_info(n->tensor->dtype);
	if (n->tensor->record == WF_NIL && (!info->numpy_descr || info->quantised))
		return "NumPy has no such dtype";
	if (memchr(n->name, '\0', n->name_len))
		return "no name in a zip holds a NUL";
	return n->name_len + strlen(".npy") > UINT16_MAX ? "the name is too long for a zip" : NULL;
}

static int put(struct wf_checkpoint *ck, struct wf_zip_writer *zip, const struct wf_flat *f,
	       const struct wf_flat_tensor *t, struct wf_buffer *name, struct wf_error *err)
{
	struct wf_composed *c;
	name->len = 0;
	wf_buffer_append(name, wf_flat_name(f, t), t->name_len);
	wf_buffer_puts(name, ".npy");
	int r = wf_npy_of(ck, t->ino, &c);
	if (r < 0)
		return wf_fail(err, r, "%.200s: %s", wf_flat_name(f, t), strerror(-r));
	r = wf_put_composed(ck, zip, name->data, name->len, c, err);
	wf_composed_free(c);
	return r;
}

int wf_export_npz(struct wf_checkpoint *ck, const struct wf_flat *f, const struct wf_export *x, const char *path,
		  struct wf_error *err)
{
	struct wf_target t;
	struct wf_zip_writer zip;
	struct wf_buffer name = WF_BUFFER_INIT;
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < f->count; i++)
		bytes += wf_flat_bytes(f, &f->tensors[i]) + HEAD_BYTES + 2 * (uint64_t)f->tensors[i].name_len;
	int r = wf_target_open(&t, path, bytes, x, -1, err);
	wf_zip_writer_init(&zip, &t.out, WF_ZIP_ALIGNMENT);
	for (uint32_t i = 0; i < f->count && r == 0; i++)
		if (!f->tensors[i].is_double)
			r = put(ck, &zip, f, &f->tensors[i], &name, err);
	if (r == 0 && (r = wf_zip_finish(&zip)) < 0)
		wf_fail(err, r, "cannot write the new file: %s", strerror(-r));
	if (r == 0)
		r = wf_target_finish(&t, x, err);
	wf_zip_writer_free(&zip);
	wf_target_free(&t);
	wf_buffer_free(&name);
	return r;
}
