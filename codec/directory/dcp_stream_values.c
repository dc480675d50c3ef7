/* SPDX-License-Identifier: MIT */
/* Values of the stream reader: texts, names of classes, tuples, and the calls of functions. */
#include <errno.h>

#include "codec/bytes/utf8.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_stream_inner.h"

/* ---- texts ---- */

static bool is_text(const struct dcp_stream *s, uint32_t text, const void *bytes, size_t len)
{
	return s->texts[text].len == len && memcmp(s->bytes.data + s->texts[text].at, bytes, len) == 0;
}

static int add_text(struct dcp_stream *s, const void *bytes, size_t len, uint32_t *ret)
{
	if (!wf_utf8_valid(bytes, len, true))
		return STREAM_NOT_KNOWN;
	int r = stream_reserve(s, &s->texts, &s->text_room, (uint64_t)s->text_count + 1, sizeof *s->texts);
	if (r < 0)
		return r;
	s->held += len + 1;
	const struct stream_text text = {
		.at = s->bytes.len, .len = (uint32_t)len, .entry = STREAM_NONE, .file = STREAM_NONE};
	wf_buffer_append(&s->bytes, bytes, len);
	wf_buffer_putc(&s->bytes, '\0');
	if (wf_buffer_status(&s->bytes) < 0 || wf_map_reserve(&s->text_index, 1) < 0)
		return dcp_fill_no_memory(&s->fill);
	wf_map_add(&s->text_index, wf_map_hash(&s->text_index, bytes, len), s->text_count);
	s->texts[s->text_count] = text;
	*ret = s->text_count++;
	return 0;
}

/* Indices mostly come in the order of the entries: then nothing is looked up. */
int stream_text(struct dcp_stream *s, const void *bytes, size_t len, uint32_t *ret)
{
	uint32_t i;
	if (s->expected < s->entry_count && is_text(s, s->entries[s->expected].text, bytes, len)) {
		*ret = s->entries[s->expected].text;
		return 0;
	}
	struct wf_map_probe p =
		wf_map_probe(&s->text_index, s->text_index.size ? wf_map_hash(&s->text_index, bytes, len) : 0);
	while (wf_map_next(&p, &i))
		if (is_text(s, i, bytes, len)) {
			*ret = i;
			return 0;
		}
	return add_text(s, bytes, len, ret);
}

int stream_begin_texts(struct dcp_stream *s)
{
	uint32_t text, none = 0;
	int r = 0;
	s->expected = STREAM_NONE;
	for (uint32_t i = 0; i < WF_DCP_ATTRIBUTE_COUNT && r == 0; i++)
		r = stream_text(s, wf_dcp_attribute_name(i), strlen(wf_dcp_attribute_name(i)), &text);
	if (r == 0)
		r = stream_text(s, "index", strlen("index"), &text);
	if (r == 0)
		r = stream_text(s, "torch.strided", strlen("torch.strided"), &s->strided);
	if (r == 0)
		r = stream_text(s, "torch", strlen("torch"), &s->torch);
	if (r == 0 && wf_dcp_add_numbers(s->fill.m, (const uint64_t[]){0}, 1, &none) < 0)
		r = dcp_fill_no_memory(&s->fill);
	s->no_numbers = none;
	for (uint32_t i = 0; i < STREAM_RECENT; i++)
		s->recent[i] = none;
	return r;
}

static const char *text_of(const struct dcp_stream *s, uint32_t text)
{
	return s->bytes.data + s->texts[text].at;
}

/* ---- classes and functions ---- */

static uint32_t what_is(const char *module, const char *name)
{
	enum wf_dcp_class class;
	if (wf_dcp_class_of(module, name, &class))
		return G_CLASS + class;
	if (!strcmp(module, "torch"))
		return !strcmp(name, "Size") ? G_SIZE : G_OTHER;
	if (!strcmp(module, "torch.serialization"))
		return !strcmp(name, "_get_layout") ? G_LAYOUT : G_OTHER;
	return !strcmp(name, "TensorProperties") ? G_PROPERTIES : G_OTHER;
}

int stream_global(struct dcp_stream *s, uint32_t module, uint32_t name, stream_value *ret)
{
	if (s->global_count == STREAM_MAX_GLOBALS)
		return STREAM_NOT_KNOWN;
	for (int i = 0; i < 2; i++) {
		const struct stream_text *t = &s->texts[i ? name : module];
		if (memchr(s->bytes.data + t->at, '\0', t->len) || memchr(s->bytes.data + t->at, '\n', t->len))
			return STREAM_NOT_KNOWN;
	}
	int r = stream_reserve(s, &s->globals, &s->global_room, (uint64_t)s->global_count + 1, sizeof *s->globals);
	if (r < 0)
		return r;
	s->globals[s->global_count] = (struct stream_global_name){
		.module = module, .name = name, .is = what_is(text_of(s, module), text_of(s, name))};
	*ret = stream_make(S_GLOBAL, s->global_count++);
	return 0;
}

/* ---- tuples ---- */

int stream_numbers(struct dcp_stream *s, const uint64_t *v, size_t n, enum stream_kind kind, stream_value *ret)
{
	struct wf_dcp_metadata *m = s->fill.m;
	uint64_t hash = n;
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ v[i]) * UINT64_C(0x9e3779b97f4a7c15);
	uint32_t *recent = &s->recent[hash >> 32 & (STREAM_RECENT - 1)];
	const uint64_t *was = m->numbers + *recent;
	size_t same = 0;
	while (was[0] == n && same < n && was[1 + same] == v[same])
		same++;
	if (was[0] != n || same < n) {
		if (m->number_count + n >= m->number_room) {
			int r = stream_reserve(s, &m->numbers, &m->number_room, (uint64_t)m->number_count + 1 + n,
					       sizeof *m->numbers);
			if (r < 0)
				return r;
		}
		*recent = m->number_count;
		m->numbers[m->number_count++] = n;
		for (size_t i = 0; i < n; i++)
			m->numbers[m->number_count++] = v[i];
	}
	*ret = stream_make(kind, *recent);
	return 0;
}

static bool are_numbers(const stream_value *from, size_t n, uint64_t *ret)
{
	for (size_t i = 0; i < n && i < WF_MAX_NDIM; i++) {
		if (stream_kind(from[i]) != S_INT)
			return false;
		ret[i] = stream_number(from[i]);
	}
	return n > 0 && n <= WF_MAX_NDIM;
}

int stream_tuple(struct dcp_stream *s, const stream_value *from, size_t n, stream_value *ret)
{
	uint64_t numbers[WF_MAX_NDIM];
	if (are_numbers(from, n, numbers))
		return stream_numbers(s, numbers, n, S_NUMBERS, ret);
	if (n == 1 && (stream_kind(from[0]) == S_NUMBERS || stream_kind(from[0]) == S_NO_TUPLE)) {
		*ret = stream_make(S_ONE_NUMBERS,
				   stream_kind(from[0]) == S_NUMBERS ? stream_number(from[0]) : s->no_numbers);
		return 0;
	}
	int r = n > UINT32_MAX / 2 ? STREAM_NOT_KNOWN
				   : stream_reserve(s, &s->tuples, &s->tuple_room, (uint64_t)s->tuple_count + 1 + n,
						    sizeof *s->tuples);
	if (r != 0)
		return r;
	s->tuples[s->tuple_count] = n;
	if (n > 0)
		memcpy(s->tuples + s->tuple_count + 1, from, n * sizeof *from);
	*ret = n > 0 ? stream_make(S_TUPLE, s->tuple_count) : stream_make(S_NO_TUPLE, 0);
	s->tuple_count += 1 + (uint32_t)n;
	return 0;
}

/* ---- calls of functions ---- */

static bool is_tuple(stream_value v)
{
	enum stream_kind kind = stream_kind(v);
	return kind == S_NO_TUPLE || kind == S_NUMBERS || kind == S_ONE_NUMBERS || kind == S_TUPLE;
}

static int call_layout(const struct dcp_stream *s, stream_value args, stream_value *ret)
{
	const stream_value *t = s->tuples + stream_number(args);
	if (stream_kind(args) != S_TUPLE || t[0] != 1 || stream_kind(t[1]) != S_TEXT)
		return STREAM_NOT_KNOWN;
	*ret = stream_make(stream_number(t[1]) == s->strided ? S_STRIDED : S_OBJECT, 0);
	return 0;
}

int stream_reduce(struct dcp_stream *s, stream_value func, stream_value args, stream_value *ret)
{
	if (stream_kind(func) != S_GLOBAL)
		return STREAM_NOT_KNOWN;
	switch (s->globals[stream_number(func)].is) {
	case G_SIZE:
		if (stream_kind(args) != S_ONE_NUMBERS)
			return STREAM_NOT_KNOWN;
		*ret = stream_make(S_SIZE, stream_number(args));
		return 0;
	case G_LAYOUT:
		return call_layout(s, args, ret);
	case G_OTHER:
		*ret = stream_make(S_OBJECT, 0);
		return is_tuple(args) ? 0 : STREAM_NOT_KNOWN;
	default:
		return STREAM_NOT_KNOWN;
	}
}

/* ---- chunks ---- */

int stream_reserve_chunk(struct dcp_stream *s)
{
	struct wf_dcp_metadata *m = s->fill.m;
	return m->chunk_count >= WF_DCP_MAX_CHUNKS
		       ? STREAM_NOT_KNOWN
		       : stream_reserve(s, &m->chunks, &m->chunk_room, (uint64_t)m->chunk_count + 1, sizeof *m->chunks);
}
