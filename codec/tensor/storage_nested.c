/* SPDX-License-Identifier: MIT */
/* Reads torch storages whose bytes stand inside the pickle. */
#include "codec/container/safetensors_head.h"
#include "codec/tensor/storage_nested.h"

#include <errno.h>
#include <string.h>

#include "codec/bytes/buffer.h"
#include "codec/tensor/numpy_dtype.h"
#include "codec/pickle/pickle.h"
#include "codec/tensor/storage_inner.h"
#include "codec/tensor/tensor.h"
#include "codec/bytes/util.h"

#define HEAD_BYTES 8192u /* the five pickles take some 300 */
#define PARTS 5u         /* magic, protocol, sys_info, object, keys */
#define OBJECT 3u

static void graph_freep(struct wf_graph **g)
{
	wf_graph_free(*g);
}

bool wf_is_nested_storage(const struct wf_graph *g, wf_ref r)
{
	return wf_is(g, r, WF_CALL) && wf_call_is(g, r, "torch.storage", "_load_from_bytes");
}

bool wf_holds_nested_storage(const struct wf_graph *g)
{
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o))
		if (wf_is_nested_storage(g, o))
			return true;
	return false;
}

bool wf_container_holds(const struct wf_container *c, const struct wf_graph *g, enum wf_dtype dtype)
{
	const struct wf_dtype_info *info = wf_dtype_info(dtype);
	enum wf_container_kind kind = wf_container_kind_of(c);
	if (wf_container_is_flat(c))
		return dtype == WF_DTYPE_INVALID || !wf_safetensors_refuses(dtype, (const int64_t[]){0}, 1);
	if (dtype == WF_DTYPE_INVALID || (kind != WF_CONTAINER_LEGACY && kind != WF_CONTAINER_PICKLE))
		return true;
	bool torch = kind == WF_CONTAINER_LEGACY || wf_holds_nested_storage(g);
	return torch ? info->storage_class != NULL : info->numpy_descr != NULL && !info->quantised;
}

/* ---- reading ---- */

static int read_head(const struct wf_graph *g, wf_ref data, unsigned char *head, size_t *ret_len)
{
	uint64_t size = wf_string_size(g, data);
	if (wf_is(g, data, WF_STR))
		return wf_storage_text_head(g, data, head, HEAD_BYTES, ret_len);
	*ret_len = (size_t)WF_MIN(size, (uint64_t)HEAD_BYTES);
	return wf_string_read(g, data, 0, head, *ret_len);
}

/* What the stream's object says: an id of one storage. */
static int read_id(const struct wf_graph *g, wf_ref object, struct wf_nested *ret, struct wf_error *err)
{
	uint32_t n;
	const wf_ref *e = wf_elements(g, wf_persid_id(g, object), &n);
	int64_t numel = 0;
	if (n < 5 || !wf_str_equal(g, e[0], "storage") || !wf_int_value(g, e[4], &numel) || numel < 0)
		return wf_fail(err, -EUCLEAN, "the bytes of a storage in the pickle hold another object");
	ret->dtype = wf_dtype_from_storage_class(wf_global_name(g, wf_class_of(g, e[1])), &ret->untyped);
	if (ret->dtype == WF_DTYPE_INVALID)
		return wf_fail(err, -EOPNOTSUPP, "a storage in the pickle is of a class that torch does not know");
	if (wf_mul_u64((uint64_t)numel, wf_dtype_info(ret->dtype)->size_bytes, &ret->size_bytes) ||
	    ret->size_bytes > INT64_MAX)
		return wf_fail(err, -EUCLEAN, "a storage in the pickle has more elements than any file");
	return 0;
}

static int parse_head(struct wf_source *s, struct wf_nested *ret, struct wf_error *err)
{
	cleanup_with(graph_freep) struct wf_graph *g = NULL;
	wf_ref root, object = WF_NIL;
	uint64_t at = 0, size = wf_source_size(s), count;
	if (wf_graph_new(&g) < 0)
		return wf_fail(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < PARTS; i++) {
		int r = wf_pickle_read(g, s, at, size - at, NULL, &root, &at, err);
		if (r < 0)
			return r;
		if (i == OBJECT)
			object = root;
	}
	int r = read_id(g, object, ret, err);
	if (r == 0 && size - at < sizeof count)
		r = wf_fail(err, -EUCLEAN, "the bytes of a storage in the pickle end too early");
	if (r == 0)
		r = wf_source_read(s, at, &count, sizeof count);
	if (r < 0)
		return r;
	if (count * wf_dtype_info(ret->dtype)->size_bytes != ret->size_bytes)
		return wf_fail(err, -EUCLEAN, "a storage in the pickle has two sizes");
	ret->skip_bytes = (uint32_t)(at + sizeof count);
	return 0;
}

int wf_nested_parse(const struct wf_graph *g, wf_ref r, struct wf_nested *ret, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *s = NULL;
	unsigned char head[HEAD_BYTES];
	size_t len = 0;
	wf_ref data = wf_is_nested_storage(g, r) ? wf_bytes_object(g, wf_element(g, wf_call_args(g, r), 0)) : WF_NIL;
	if (data == WF_NIL)
		return wf_fail(err, -EINVAL, "not a storage");
	*ret = (struct wf_nested){.data = data};
	int e = read_head(g, data, head, &len);
	if (e == 0)
		e = wf_source_from_memory(head, len, false, &s);
	if (e < 0)
		return wf_fail(err, e, "cannot read a storage in the pickle: %s", strerror(-e));
	return parse_head(s, ret, err);
}

/* ---- making ---- */

/* One more pickle of the stream. */
static int put_pickle(struct wf_graph *g, wf_ref root, struct wf_buffer *out)
{
	return root == WF_NIL ? -ENOMEM : wf_pickle_write_buffer(g, root, NULL, NULL, out, NULL);
}

static wf_ref make_sys_info(struct wf_graph *g)
{
	wf_ref info = wf_dict(g), sizes = wf_dict(g);
	if (wf_dict_append(g, sizes, wf_str(g, "short"), wf_int(g, 2)) < 0 ||
	    wf_dict_append(g, sizes, wf_str(g, "int"), wf_int(g, 4)) < 0 ||
	    wf_dict_append(g, sizes, wf_str(g, "long"), wf_int(g, 4)) < 0 ||
	    wf_dict_append(g, info, wf_str(g, "protocol_version"), wf_int(g, 1001)) < 0 ||
	    wf_dict_append(g, info, wf_str(g, "little_endian"), wf_bool(g, true)) < 0 ||
	    wf_dict_append(g, info, wf_str(g, "type_sizes"), sizes) < 0)
		return WF_NIL;
	return info;
}

static wf_ref make_id(struct wf_graph *g, enum wf_dtype dtype, uint64_t count)
{
	wf_ref e[6] = {wf_str(g, "storage"),
		       wf_global_named(g, "torch", wf_dtype_info(dtype)->storage_class),
		       wf_str(g, "0"),
		       wf_str(g, "cpu"),
		       wf_int(g, (int64_t)count),
		       wf_none(g)};
	for (size_t i = 0; i < WF_ARRAY_SIZE(e); i++)
		if (e[i] == WF_NIL)
			return WF_NIL;
	wf_ref id = wf_tuple(g, e, WF_ARRAY_SIZE(e));
	return id == WF_NIL ? WF_NIL : wf_persid(g, id);
}

static int put_head(enum wf_dtype dtype, uint64_t count, struct wf_buffer *out)
{
	static const unsigned char magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
	cleanup_with(graph_freep) struct wf_graph *g = NULL;
	if (wf_graph_new(&g) < 0)
		return -ENOMEM;
	wf_ref keys = wf_list(g);
	int r = keys == WF_NIL ? -ENOMEM : wf_list_append(g, keys, wf_str(g, "0"));
	if (r == 0)
		r = put_pickle(g, wf_long(g, magic, sizeof magic), out);
	if (r == 0)
		r = put_pickle(g, wf_int(g, 1001), out);
	if (r == 0)
		r = put_pickle(g, make_sys_info(g), out);
	if (r == 0)
		r = put_pickle(g, make_id(g, dtype, count), out);
	return r == 0 ? put_pickle(g, keys, out) : r;
}

int wf_nested_make(struct wf_graph *g, enum wf_dtype dtype, const void *elements, uint64_t size_bytes, wf_ref *ret)
{
	cleanup_with(wf_buffer_free) struct wf_buffer stream = WF_BUFFER_INIT;
	const struct wf_dtype_info *info = wf_dtype_info(dtype);
	if (!info->storage_class)
		return -EINVAL;
	uint64_t count = size_bytes / info->size_bytes;
	int r = put_head(dtype, count, &stream);
	wf_buffer_append(&stream, &count, sizeof count);
	wf_buffer_append(&stream, elements, (size_t)size_bytes);
	if (r == 0)
		r = wf_buffer_status(&stream);
	if (r < 0)
		return r;
	wf_ref data = wf_string(g, WF_BYTES, stream.data, stream.len);
	wf_ref func = wf_global_named(g, "torch.storage", "_load_from_bytes");
	wf_ref args = data == WF_NIL ? WF_NIL : wf_tuple(g, &data, 1);
	wf_ref call = func == WF_NIL || args == WF_NIL ? WF_NIL : wf_call(g, WF_CALL_REDUCE, func, args, WF_NIL);
	if (call == WF_NIL)
		return wf_graph_failed(g) < 0 ? wf_graph_failed(g) : -ENOMEM;
	*ret = call;
	return 0;
}
