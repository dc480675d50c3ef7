/* SPDX-License-Identifier: MIT */
/* Objects of torch's classes: each is made (NEWOBJ), then given its state (BUILD), once. */
#include "codec/bytes/util.h"
#include "codec/directory/dcp_stream_inner.h"

/* ---- making ---- */

static int new_tensor(struct dcp_stream *s, stream_value *ret)
{
	int r = stream_reserve(s, &s->tensors, &s->tensor_room, (uint64_t)s->tensor_count + 1, sizeof *s->tensors);
	if (r < 0)
		return r;
	s->tensors[s->tensor_count] = (struct stream_tensor){.built = false};
	*ret = stream_make(S_TENSOR, s->tensor_count++);
	return 0;
}

static int new_properties(struct dcp_stream *s, stream_value *ret)
{
	int r = stream_reserve(s, &s->properties, &s->property_room, (uint64_t)s->property_count + 1,
			       sizeof *s->properties);
	if (r < 0)
		return r;
	s->properties[s->property_count] = (struct stream_properties){.built = false};
	*ret = stream_make(S_PROPERTIES, s->property_count++);
	return 0;
}

int stream_new(struct dcp_stream *s, stream_value class, stream_value args, stream_value *ret)
{
	if (stream_kind(class) != S_GLOBAL || stream_kind(args) != S_NO_TUPLE)
		return STREAM_NOT_KNOWN;
	switch (s->globals[stream_number(class)].is) {
	case G_OTHER:
		*ret = stream_make(S_OBJECT, 0);
		return 0;
	case G_PROPERTIES:
		return new_properties(s, ret);
	case G_CLASS + WF_DCP_METADATA:
		*ret = stream_make(S_METADATA, 0);
		return s->metadata_count++ == 0 ? 0 : STREAM_NOT_KNOWN;
	case G_CLASS + WF_DCP_TENSOR:
		return new_tensor(s, ret);
	case G_CLASS + WF_DCP_BYTES:
		return stream_new_chunk(s, S_BYTES, (struct wf_dcp_chunk){.entry = STREAM_UNOWNED}, ret);
	case G_CLASS + WF_DCP_CHUNK:
		return stream_new_chunk(s, S_CHUNK, (struct wf_dcp_chunk){.entry = STREAM_UNBUILT}, ret);
	case G_CLASS + WF_DCP_INDEX:
		*ret = stream_make(S_INDEX, s->index_count++);
		return 0;
	case G_CLASS + WF_DCP_INFO:
		*ret = stream_make(S_INFO, s->info_count++);
		return 0;
	default:
		return STREAM_NOT_KNOWN;
	}
}

/* ---- states ---- */

/* Whether the attributes in fields are those that a state has. */
static bool are_fields(const struct dcp_stream *s, stream_value state)
{
	return stream_kind(state) == S_FIELDS && stream_number(state) == s->fields_number;
}

/* A bit for each attribute that an object must have. */
static bool has_fields(const struct dcp_stream *s, uint32_t wanted)
{
	return (s->fields_set & wanted) == wanted;
}

static stream_value field(const struct dcp_stream *s, uint32_t which)
{
	return s->fields_set & 1u << which ? s->fields[which] : stream_make(S_NONE, 0);
}

/* Where the numbers of a size are. */
static bool read_size(const struct dcp_stream *s, stream_value v, uint32_t *ret)
{
	enum stream_kind kind = stream_kind(v);
	*ret = kind == S_NO_TUPLE ? s->no_numbers : (uint32_t)stream_number(v);
	return kind == S_SIZE || kind == S_NUMBERS || kind == S_NO_TUPLE;
}

/* The chunk that the attributes in fields are of. */
static bool read_chunk(const struct dcp_stream *s, struct wf_dcp_chunk *ret)
{
	uint32_t offsets, sizes;
	if (!has_fields(s, 1u << WF_DCP_OFFSETS | 1u << WF_DCP_SIZES) ||
	    !read_size(s, s->fields[WF_DCP_OFFSETS], &offsets) || !read_size(s, s->fields[WF_DCP_SIZES], &sizes))
		return false;
	*ret = (struct wf_dcp_chunk){.offsets = offsets + 1, .sizes = sizes + 1, .entry = STREAM_UNOWNED};
	return true;
}

static int build_chunk(struct dcp_stream *s, uint32_t chunk)
{
	struct wf_dcp_chunk *c = &s->fill.m->chunks[chunk];
	return c->entry == STREAM_UNBUILT && read_chunk(s, c) ? 0 : STREAM_NOT_KNOWN;
}

static int build_tensor(struct dcp_stream *s, struct stream_tensor *t)
{
	if (!has_fields(s, 1u << WF_DCP_PROPERTIES | 1u << WF_DCP_SIZE | 1u << WF_DCP_CHUNKS) || t->built)
		return STREAM_NOT_KNOWN;
	stream_value chunks = s->fields[WF_DCP_CHUNKS];
	t->properties = s->fields[WF_DCP_PROPERTIES];
	t->first = (uint32_t)stream_first(chunks);
	t->count = (uint32_t)stream_count(chunks);
	t->built = true;
	return stream_kind(t->properties) == S_PROPERTIES && read_size(s, s->fields[WF_DCP_SIZE], &t->size) &&
			       (stream_kind(chunks) == S_CHUNKS || stream_kind(chunks) == S_NO_LIST)
		       ? 0
		       : STREAM_NOT_KNOWN;
}

/* What is no index of a batch that is not over yet is not known. */
static bool is_at_hand(uint64_t number, uint64_t count, uint64_t built)
{
	return number + STREAM_BATCH >= count && built != number;
}

static int build_index(struct dcp_stream *s, uint64_t number)
{
	struct stream_index *i = &s->indices[number % STREAM_BATCH];
	if (!is_at_hand(number, s->index_count, i->number) || !has_fields(s, 1u << WF_DCP_FQN))
		return STREAM_NOT_KNOWN;
	stream_value fqn = s->fields[WF_DCP_FQN], offsets = field(s, WF_DCP_OFFSET), hint = field(s, STREAM_INDEX);
	*i = (struct stream_index){.number = number,
				   .hint = stream_kind(hint) == S_INT ? stream_number(hint) : UINT64_MAX,
				   .fqn = (uint32_t)stream_number(fqn),
				   .offsets = STREAM_NONE};
	if (stream_kind(fqn) != S_TEXT || (stream_kind(offsets) != S_NONE && !read_size(s, offsets, &i->offsets)))
		return STREAM_NOT_KNOWN;
	uint32_t entry = s->texts[i->fqn].entry;
	s->expected = entry == STREAM_NONE ? STREAM_NONE : entry + 1;
	/* chunks of one rank lie far from each other: until the batch is over they are in the processor's cache */
	if (entry != STREAM_NONE && i->hint < s->entries[entry].count)
		__builtin_prefetch(&s->fill.m->chunks[s->entries[entry].first + i->hint], 1);
	return 0;
}

/* Transforms: an empty list, or none at all. */
static int build_info(struct dcp_stream *s, uint64_t number)
{
	struct stream_info *i = &s->infos[number % STREAM_BATCH];
	if (!is_at_hand(number, s->info_count, i->number) ||
	    !has_fields(s, 1u << WF_DCP_RELATIVE_PATH | 1u << WF_DCP_OFFSET | 1u << WF_DCP_LENGTH))
		return STREAM_NOT_KNOWN;
	stream_value path = s->fields[WF_DCP_RELATIVE_PATH], offset = s->fields[WF_DCP_OFFSET],
		     length = s->fields[WF_DCP_LENGTH];
	enum stream_kind transforms = stream_kind(field(s, WF_DCP_TRANSFORMS));
	if (stream_kind(path) != S_TEXT || stream_kind(offset) != S_INT || stream_kind(length) != S_INT)
		return STREAM_NOT_KNOWN;
	i->number = number;
	i->path = (uint32_t)stream_number(path);
	i->slice = (struct dcp_stored){.plain = transforms == S_NONE || transforms == S_NO_LIST ||
						transforms == S_NO_TUPLE,
				       .offset = stream_number(offset),
				       .length = stream_number(length)};
	return 0;
}

/* The state is (dtype, layout, requires_grad, ...). */
static int build_properties(struct dcp_stream *s, struct stream_properties *p, stream_value state)
{
	if (stream_kind(state) != S_TUPLE || p->built)
		return STREAM_NOT_KNOWN;
	const stream_value *t = s->tuples + stream_number(state);
	stream_value layout = t[0] > 1 ? t[2] : stream_make(S_NONE, 0);
	const struct stream_global_name *g =
		stream_kind(layout) == S_GLOBAL ? &s->globals[stream_number(layout)] : NULL;
	p->dtype = t[1];
	p->strided = stream_kind(layout) == S_STRIDED || stream_kind(layout) == S_NONE ||
		     (g && g->module == s->torch && !strcmp(s->bytes.data + s->texts[g->name].at, "strided"));
	p->built = true;
	return stream_kind(p->dtype) == S_GLOBAL ? 0 : STREAM_NOT_KNOWN;
}

static int build_metadata(struct dcp_stream *s)
{
	if (s->built || !has_fields(s, 1u << WF_DCP_STATE_DICT_METADATA | 1u << WF_DCP_STORAGE_DATA))
		return STREAM_NOT_KNOWN;
	s->built = true;
	return stream_finish(s, s->fields[WF_DCP_STATE_DICT_METADATA], s->fields[WF_DCP_STORAGE_DATA],
			     field(s, WF_DCP_PLANNER_DATA));
}

/* With the attributes in fields. */
static int build(struct dcp_stream *s, stream_value object)
{
	uint64_t i = stream_number(object);
	switch (stream_kind(object)) {
	case S_CHUNK:
		return build_chunk(s, (uint32_t)i);
	case S_TENSOR:
		return build_tensor(s, &s->tensors[i]);
	case S_INDEX:
		return build_index(s, i);
	case S_INFO:
		return build_info(s, i);
	case S_METADATA:
		return build_metadata(s);
	default:
		return STREAM_NOT_KNOWN;
	}
}

int stream_build(struct dcp_stream *s, stream_value object, stream_value state)
{
	switch (stream_kind(object)) {
	case S_OBJECT:
	case S_BYTES:
		return 0;
	case S_PROPERTIES:
		return build_properties(s, &s->properties[stream_number(object)], state);
	default:
		return are_fields(s, state) ? build(s, object) : STREAM_NOT_KNOWN;
	}
}

int stream_make_object(struct dcp_stream *s, stream_value class, stream_value *ret)
{
	struct wf_dcp_chunk chunk;
	int r;
	switch (s->globals[stream_number(class)].is) {
	case G_CLASS + WF_DCP_CHUNK:
		return read_chunk(s, &chunk) ? stream_new_chunk(s, S_CHUNK, chunk, ret) : STREAM_NOT_KNOWN;
	case G_CLASS + WF_DCP_INDEX:
		*ret = stream_make(S_INDEX, s->index_count);
		return build_index(s, s->index_count++);
	case G_CLASS + WF_DCP_INFO:
		*ret = stream_make(S_INFO, s->info_count);
		return build_info(s, s->info_count++);
	default:
		r = stream_new(s, class, stream_make(S_NO_TUPLE, 0), ret);
		return r != 0 || stream_kind(*ret) == S_BYTES ? r : build(s, *ret);
	}
}

/* ---- lists ---- */

/* Chunks that follow those in the list, if it is one of chunks. */
int stream_append(struct dcp_stream *s, stream_value *list, const stream_value *from, size_t n)
{
	enum stream_kind kind = stream_kind(*list);
	uint64_t first = stream_first(*list), count = stream_count(*list);
	bool chunks = stream_kind(from[0]) == S_CHUNK;
	if ((kind != S_NO_LIST && kind != S_CHUNKS && kind != S_LIST) || (kind == S_LIST && chunks) ||
	    (kind == S_CHUNKS && !chunks))
		return STREAM_NOT_KNOWN;
	if (!chunks) {
		*list = stream_make(S_LIST, 0);
		for (size_t i = 0; i < n; i++)
			if (stream_kind(from[i]) == S_CHUNK)
				return STREAM_NOT_KNOWN;
		return 0;
	}
	if (kind == S_NO_LIST)
		first = stream_number(from[0]);
	for (size_t i = 0; i < n; i++)
		if (from[i] != stream_make(S_CHUNK, first + count + i) ||
		    s->fill.m->chunks[first + count + i].entry != STREAM_UNOWNED)
			return STREAM_NOT_KNOWN;
	*list = stream_run(S_CHUNKS, first, count + n);
	return 0;
}
