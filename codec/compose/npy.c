/* SPDX-License-Identifier: MIT */
/* A tensor as np.save writes it:
 *
 *   0      "\x93NUMPY" 1 0, u16le length of the rest of the head (version 2: u32le; 3: the same, and the text is UTF-8, not latin-1)
 *   10     {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, then spaces and a newline up to a multiple of 64
 *   ...    the elements: by rows; by columns where the array lies so and not by rows
 *
 * The spaces include room for the first dimension to grow to 21 digits (the last, by columns), as numpy.lib.format leaves it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/compose/inner.h"
#include "codec/tensor/numpy_dtype.h"
#include "codec/value/text.h"

#define ALIGN 64u
#define GROWTH_DIGITS 21

/* The dtype as numpy.lib.format.dtype_to_descr gives it, as Python prints that. 0, or -EOPNOTSUPP. */
static int put_descr(const struct wf_checkpoint *ck, const struct wf_tensor *t, struct wf_buffer *out)
{
	const struct wf_dtype_info *info = wf_dtype_info(t->dtype);
	if (t->record != WF_NIL) {
		struct wf_buffer text = WF_BUFFER_INIT;
		wf_numpy_dtype_descr(ck->graph, t->record, &text);
		bool listed = text.len > 0 && text.data[0] == '[';
		if (text.len == 0 || wf_buffer_status(&text) < 0)
			return wf_buffer_free(&text), -EOPNOTSUPP;
		wf_buffer_printf(out, listed ? "%s" : "'%s'", text.data);
		wf_buffer_free(&text);
		return 0;
	}
	if (!info->numpy_descr || info->quantised)
		return -EOPNOTSUPP;
	wf_buffer_printf(out, "'%c%s'", t->swap && info->size_bytes > 1 ? '>' : info->numpy_descr[0],
			 info->numpy_descr + 1);
	return 0;
}

static void put_shape(const struct wf_tensor *t, uint32_t ndim, struct wf_buffer *out)
{
	for (uint32_t i = 0; i < ndim; i++) {
		if (i > 0)
			wf_buffer_puts(out, ", ");
		wf_buffer_put_int(out, t->shape[i]);
	}
	wf_buffer_puts(out, ndim == 1 ? ",)" : ")");
}

/* UTF-8 becomes latin-1 where that has all of it. */
static bool make_latin1(struct wf_buffer *text)
{
	size_t n = 0;
	for (size_t i = 0; i < text->len; i++)
		if ((unsigned char)text->data[i] >= 0xc4)
			return false;
	for (size_t i = 0; i < text->len; i++, n++) {
		unsigned char c = (unsigned char)text->data[i];
		text->data[n] = (char)(c < 0x80 ? c : (c & 3) << 6 | (text->data[++i] & 0x3f));
	}
	text->len = n;
	return true;
}

/* The first version that can say it, as NumPy takes it. */
static void wrap(struct wf_buffer *dict, struct wf_buffer *out)
{
	bool latin1 = make_latin1(dict);
	size_t pad = ALIGN - (10 + dict->len + 1) % ALIGN;
	bool wide = !latin1 || dict->len + pad + 1 > UINT16_MAX;
	if (wide)
		pad = ALIGN - (12 + dict->len + 1) % ALIGN;
	uint32_t len = (uint32_t)(dict->len + pad + 1);
	wf_buffer_append(out, "\x93NUMPY", 6);
	wf_buffer_append(out, (const char[]){!latin1 ? 3 : wide ? 2 : 1, 0}, 2);
	wf_buffer_append(out, &len, wide ? 4 : 2);
	wf_buffer_append(out, dict->data, dict->len);
	for (size_t i = 0; i < pad; i++)
		wf_buffer_putc(out, ' ');
	wf_buffer_putc(out, '\n');
}

static int put_head(const struct wf_checkpoint *ck, const struct wf_tensor *t, struct wf_buffer *out)
{
	char digits[24];
	uint32_t ndim = wf_tensor_shown_ndim(t);
	bool columns = wf_piece_by_columns(t);
	struct wf_buffer dict = WF_BUFFER_INIT;
	wf_buffer_puts(&dict, "{'descr': ");
	int r = put_descr(ck, t, &dict);
	wf_buffer_printf(&dict, ", 'fortran_order': %s, 'shape': (", columns ? "True" : "False");
	put_shape(t, ndim, &dict);
	wf_buffer_puts(&dict, ", }");
	if (ndim > 0) {
		int n = snprintf(digits, sizeof digits, "%lld", (long long)t->shape[columns ? ndim - 1 : 0]);
		for (int i = n; i < GROWTH_DIGITS; i++)
			wf_buffer_putc(&dict, ' ');
	}
	if (r == 0 && (r = wf_buffer_status(&dict)) == 0)
		wrap(&dict, out);
	wf_buffer_free(&dict);
	return r < 0 ? r : wf_buffer_status(out);
}

/* The tensor of a node, where np.save can say it. */
static int tensor_of(const struct wf_checkpoint *ck, wf_ino ino, struct wf_tensor *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (!n || n->type != WF_NODE_TENSOR)
		return -ENOENT;
	int r = wf_tensor_decode(ck->graph, ck->storages, n->object, ret, NULL);
	return r == 0 && ret->kind == WF_TENSOR_META ? -ENODATA : r;
}

int wf_npy_of(const struct wf_checkpoint *ck, wf_ino ino, struct wf_composed **ret)
{
	struct wf_composed *c;
	struct wf_tensor t;
	int r = wf_composed_new(&c);
	if (r < 0)
		return r;
	r = tensor_of(ck, ino, &t);
	if (r == 0)
		r = put_head(ck, &t, wf_composed_text(c));
	if (r == 0)
		r = wf_composed_tensor(c, ino, WF_PIECE_AS_NUMPY, t.size_bytes);
	if (r == 0)
		r = wf_composed_finish(c);
	if (r < 0)
		wf_composed_free(c);
	else
		*ret = c;
	return r;
}

int wf_compose_npy(struct wf_checkpoint *ck, uint32_t ino, struct wf_composed **ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_npy_of(ck, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}
