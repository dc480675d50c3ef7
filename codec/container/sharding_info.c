/* SPDX-License-Identifier: MIT */
/* Reads and renews what torch.distributed.checkpoint says of the parts in a safetensors file. */
#include "codec/container/sharding_info.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/bytes/json.h"
#include "codec/bytes/util.h"

/* ---- the JSON ---- */

static bool read_numbers(struct wf_json *j, struct wf_sharding_offsets *ret)
{
	enum wf_json_kind kind = wf_json_next(j);
	ret->n = 0;
	if (kind != WF_JSON_ARRAY)
		return false;
	while ((kind = wf_json_next(j)) == WF_JSON_NUMBER) {
		char *end;
		errno = 0;
		if (ret->n == WF_MAX_NDIM || j->text[0] == '-')
			return false;
		ret->at[ret->n++] = strtoull(j->text, &end, 10);
		if (*end || errno)
			return false;
	}
	return kind == WF_JSON_ARRAY_END;
}

/* {"saved_offsets": [...]}; what else may stand there is passed over. */
static bool read_info(struct wf_json *j, struct wf_sharding_offsets *ret)
{
	enum wf_json_kind kind = wf_json_next(j);
	bool found = false;
	if (kind != WF_JSON_OBJECT)
		return false;
	while ((kind = wf_json_next(j)) == WF_JSON_KEY) {
		if (strcmp(j->text, "saved_offsets") != 0) {
			if (!wf_json_skip(j, WF_JSON_KEY))
				return false;
			continue;
		}
		if (!read_numbers(j, ret))
			return false;
		found = true;
	}
	return found && kind == WF_JSON_OBJECT_END;
}

bool wf_sharding_info_read(const char *text, size_t len, const struct wf_key_map *names,
			   struct wf_sharding_offsets *ret)
{
	struct wf_json j;
	enum wf_json_kind kind;
	wf_json_init_memory(&j, text, len, 0);
	bool good = wf_json_next(&j) == WF_JSON_OBJECT;
	while (good && (kind = wf_json_next(&j)) == WF_JSON_KEY) {
		const uint64_t *i = wf_key_map_get(names, j.text, j.text_len);
		struct wf_sharding_offsets passed;
		good = read_info(&j, i ? &ret[*i] : &passed);
		if (i)
			ret[*i].told = true;
	}
	good = good && wf_json_next(&j) == WF_JSON_END;
	wf_json_free(&j);
	return good;
}

/* ---- a new one ---- */

/* Whether it tells of a tensor, in the file or not, that does not begin at zero; its text is known to be sound. */
static bool tells_of_parts(const char *text, size_t len)
{
	struct wf_json j;
	struct wf_sharding_offsets o;
	bool found = false;
	wf_json_init_memory(&j, text, len, 0);
	wf_json_next(&j);
	while (!found && wf_json_next(&j) == WF_JSON_KEY && read_info(&j, &o))
		for (uint32_t i = 0; i < o.n; i++)
			found |= o.at[i] > 0;
	wf_json_free(&j);
	return found;
}

static void put_item(struct wf_buffer *out, const struct wf_safetensors_item *item, const struct wf_sharding_offsets *o)
{
	wf_buffer_puts(out, out->len > 1 ? ", " : "");
	wf_json_string(out, item->name, item->name_len);
	wf_buffer_puts(out, ": {\"saved_offsets\": [");
	for (uint32_t i = 0; i < item->ndim; i++)
		wf_buffer_printf(out, "%s%" PRIu64, i > 0 ? ", " : "", o->told && i < o->n ? o->at[i] : 0);
	wf_buffer_puts(out, "]}");
}

int wf_sharding_info_renew(const char *text, size_t len, const struct wf_safetensors_items *items,
			   struct wf_buffer *ret, size_t *ret_item)
{
	struct wf_key_map names = {0};
	struct wf_safetensors_item item;
	cleanup_free struct wf_sharding_offsets *offsets = calloc(items->count + 1, sizeof *offsets);
	int r = offsets ? 0 : -ENOMEM;
	for (size_t i = 0; i < items->count && r == 0; i++) {
		items->get(items->ctx, i, &item);
		r = wf_key_map_put(&names, item.name, item.name_len, i);
	}
	if (r == 0 && !wf_sharding_info_read(text, len, &names, offsets))
		r = 1;
	wf_key_map_free(&names);
	if (r != 0)
		return r;
	bool all = true, parts = tells_of_parts(text, len);
	for (size_t i = 0; i < items->count; i++) {
		items->get(items->ctx, i, &item);
		bool told = offsets[i].told && offsets[i].n == item.ndim;
		if (!told && parts) {
			*ret_item = i;
			return -EOPNOTSUPP;
		}
		all &= told;
	}
	if (all)
		return 1;
	wf_buffer_puts(ret, "{");
	for (size_t i = 0; i < items->count; i++) {
		items->get(items->ctx, i, &item);
		put_item(ret, &item, &offsets[i]);
	}
	wf_buffer_puts(ret, "}");
	return wf_buffer_status(ret);
}
