/* SPDX-License-Identifier: MIT */
/* A pickle machine whose values know where in the file they began. It goes through the file twice: first for what is taken from the memo, as
 * all else in it need not be remembered. */
#include "codec/directory/dcp_ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_metadata.h"
#include "codec/directory/dcp_object.h"
#include "codec/directory/dcp_ranges_inner.h"
#include "codec/pickle/opcodes.h"

/* ---- what is taken from the memo ---- */

static int grow_taken(struct dcp_ranges *r, uint64_t index)
{
	uint64_t words = WF_MAX(index / 64 + 1, r->words + r->words / 2 + 64);
	if (index / 64 < r->words)
		return 0;
	uint64_t *taken = realloc(r->taken, words * sizeof *taken);
	if (!taken)
		return -ENOMEM;
	memset(taken + r->words, 0, (words - r->words) * sizeof *taken);
	r->taken = taken;
	r->words = words;
	return 0;
}

static int count_taken(struct dcp_ranges *r)
{
	uint32_t count = 0;
	r->before = calloc(r->words + 1, sizeof *r->before);
	if (!r->before)
		return -ENOMEM;
	for (uint64_t i = 0; i < r->words; i++) {
		r->before[i] = count;
		count += (uint32_t)__builtin_popcountll(r->taken[i]);
	}
	r->defs = calloc((size_t)count + 1, sizeof *r->defs);
	r->def_count = count;
	return r->defs ? 0 : -ENOMEM;
}

/* Picklers count their indices, from 0 on or from 1, and either write them or leave it to the reader to count: MEMOIZE would count a PUT of an
 * index that there is already not at all. */
static int find_taken(struct dcp_machine *m)
{
	struct dcp_opcode o = {.op = OP_MARK};
	uint64_t puts = 0, counted = 0;
	int r = 0;
	while (r == 0 && o.op != OP_STOP) {
		r = dcp_cursor_next(&m->r->cursor, &o);
		if (r != 0)
			continue;
		puts += dcp_is_put(o.op);
		counted += o.op == OP_MEMOIZE;
		if (counted > 0 && counted < puts)
			r = DCP_NOT_KNOWN;
		if (!dcp_is_get(o.op))
			continue;
		r = o.number <= puts ? grow_taken(m->r, o.number) : DCP_NOT_KNOWN;
		if (r == 0)
			m->r->taken[o.number / 64] |= UINT64_C(1) << o.number % 64;
	}
	if (r == 0)
		r = count_taken(m->r);
	m->put = r == 0 ? calloc(m->r->words + 1, sizeof *m->put) : NULL;
	return r == 0 && !m->put ? -ENOMEM : r;
}

struct dcp_def *dcp_ranges_def(const struct dcp_ranges *r, uint64_t index)
{
	uint64_t bit = UINT64_C(1) << index % 64, word = index / 64;
	if (word >= r->words || !(r->taken[word] & bit))
		return NULL;
	return &r->defs[r->before[word] + (uint32_t)__builtin_popcountll(r->taken[word] & (bit - 1))];
}

/* ---- the stack ---- */

/* The values from `from` on are used, by an opcode at `at`: their ranges end. */
static void use_from(struct dcp_machine *m, uint32_t from, uint64_t at)
{
	for (uint32_t i = from; i < m->depth; i++)
		if (m->stack[i].kind != DCP_V_MARK && m->stack[i].def != DCP_NONE)
			m->r->defs[m->stack[i].def].end = i + 1 < m->depth ? m->stack[i + 1].start : (uint32_t)at;
}

static int push(struct dcp_machine *m, const struct dcp_opcode *o, enum dcp_value_kind kind, uint32_t tag)
{
	if (wf_array_reserve(&m->stack, &m->room, (uint64_t)m->depth + 1, sizeof *m->stack, MACHINE_MAX_STACK) < 0)
		return m->depth < MACHINE_MAX_STACK ? -ENOMEM : DCP_NOT_KNOWN;
	m->stack[m->depth++] = (struct dcp_operand){
		.start = (uint32_t)o->at, .memo = m->memo, .def = DCP_NONE, .tag = tag, .kind = kind};
	return 0;
}

/* Values above the topmost mark. */
static uint32_t above_mark(const struct dcp_machine *m)
{
	return m->depth - (m->mark == DCP_NONE ? 0 : m->mark + 1);
}

/* The upper n values become one, which begins where they did. */
static int join(struct dcp_machine *m, uint32_t n, const struct dcp_opcode *o, enum dcp_value_kind kind, uint32_t tag)
{
	if (above_mark(m) < n)
		return DCP_NOT_KNOWN;
	uint32_t from = m->depth - n;
	use_from(m, from, o->at);
	struct dcp_operand *v = &m->stack[from];
	*v = (struct dcp_operand){.start = v->start, .memo = v->memo, .def = DCP_NONE, .tag = tag, .kind = kind};
	m->depth = from + 1;
	return 0;
}

static int push_mark(struct dcp_machine *m, const struct dcp_opcode *o)
{
	int r = push(m, o, DCP_V_MARK, DCP_W_NONE);
	if (r == 0) {
		m->stack[m->depth - 1].def = m->mark;
		m->mark = m->depth - 1;
	}
	return r;
}

/* What stands above the mark becomes one value in the mark's place. */
static int join_marked(struct dcp_machine *m, const struct dcp_opcode *o, enum dcp_value_kind kind)
{
	if (m->mark == DCP_NONE)
		return DCP_NOT_KNOWN;
	uint32_t at = m->mark;
	use_from(m, at + 1, o->at);
	m->mark = m->stack[at].def;
	m->stack[at].def = DCP_NONE;
	m->stack[at].kind = kind;
	m->depth = at + 1;
	return 0;
}

/* APPEND(S), ADDITEMS, SETITEM(S). */
static int fill(struct dcp_machine *m, const struct dcp_opcode *o)
{
	bool marked = o->op == OP_APPENDS || o->op == OP_ADDITEMS || o->op == OP_SETITEMS;
	bool pairs = o->op == OP_SETITEM || o->op == OP_SETITEMS;
	uint32_t from = marked ? m->mark + 1 : m->depth - (pairs ? 2 : 1);
	if (marked ? m->mark == DCP_NONE : above_mark(m) < (pairs ? 3u : 2u))
		return DCP_NOT_KNOWN;
	uint32_t into = from - (marked ? 2 : 1);
	if (marked && m->mark == 0)
		return DCP_NOT_KNOWN;
	if (marked)
		m->mark = m->stack[from - 1].def;
	enum dcp_value_kind kind = m->stack[into].kind;
	if ((kind != DCP_V_DICT && kind != DCP_V_FILLED) || (pairs && (m->depth - from) % 2))
		return DCP_NOT_KNOWN;
	int r = kind == DCP_V_DICT && pairs ? dcp_machine_fill(m, into, from, o->at) : 0;
	use_from(m, from, o->at);
	m->depth = into + 1;
	return r;
}

static int build(struct dcp_machine *m, const struct dcp_opcode *o)
{
	struct dcp_ranges *r = m->r;
	if (above_mark(m) < 2 || m->stack[m->depth - 2].kind != DCP_V_FILLED)
		return DCP_NOT_KNOWN;
	struct dcp_operand *object = &m->stack[m->depth - 2], *state = object + 1;
	if (state->kind == DCP_V_DICT && state->fqn_end) {
		object->tag = state->tag;
		object->fqn = state->fqn;
		object->fqn_end = state->fqn_end;
	}
	if (dcp_tag_word(object->tag) == DCP_W_PROPERTIES && state->kind == DCP_V_TUPLE && r->properties.end == 0)
		r->properties = (struct dcp_pair){
			.key = object->start, .value = object->start, .memo = object->memo, .end = (uint32_t)o->end};
	if (m->depth == 2) {
		if (m->built || state->kind != DCP_V_DICT || state->start != m->state)
			return DCP_NOT_KNOWN;
		m->built = o->end;
	}
	use_from(m, m->depth - 1, o->at);
	m->depth--;
	return 0;
}

/* ---- the memo ---- */

static int put(struct dcp_machine *m, const struct dcp_opcode *o)
{
	uint64_t index = o->op == OP_MEMOIZE ? m->memo : o->number;
	if (above_mark(m) == 0)
		return DCP_NOT_KNOWN;
	struct dcp_operand *v = &m->stack[m->depth - 1];
	struct dcp_def *def = dcp_ranges_def(m->r, index);
	m->memo++;
	if (!def)
		return 0;
	/* what is another value later has no range, and what has two indices none of its own */
	if (m->put[index / 64] >> index % 64 & 1 || v->def != DCP_NONE || v->kind == DCP_V_TAKEN)
		return DCP_NOT_KNOWN;
	m->put[index / 64] |= UINT64_C(1) << index % 64;
	v->def = (uint32_t)(def - m->r->defs);
	def->start = v->start;
	def->memo = v->memo;
	def->tag = v->tag | (v->kind == DCP_V_TEXT ? DCP_TAG_TEXT : 0);
	return 0;
}

static int get(struct dcp_machine *m, const struct dcp_opcode *o)
{
	const struct dcp_def *def = dcp_ranges_def(m->r, o->number);
	if (!def || !(m->put[o->number / 64] >> o->number % 64 & 1))
		return DCP_NOT_KNOWN;
	int r = push(m, o, DCP_V_TAKEN, def->tag);
	if (r == 0)
		m->stack[m->depth - 1].taken = (uint32_t)(def - m->r->defs);
	return r;
}

/* ---- opcodes ---- */

static uint32_t tag_of(const char *text, uint64_t len)
{
	static const struct {
		enum wf_dcp_attribute attribute;
		enum dcp_word tag;
	} known[] = {
		{WF_DCP_STATE_DICT_METADATA, DCP_W_ENTRIES},
		{WF_DCP_PLANNER_DATA, DCP_W_PLACES},
		{WF_DCP_STORAGE_DATA, DCP_W_SLICES},
		{WF_DCP_FQN, DCP_W_FQN},
	};
	for (size_t i = 0; i < WF_ARRAY_SIZE(known); i++) {
		const char *name = wf_dcp_attribute_name(known[i].attribute);
		if (strlen(name) == len && memcmp(text, name, len) == 0)
			return known[i].tag;
	}
	return len == strlen("TensorProperties") && memcmp(text, "TensorProperties", len) == 0 ? DCP_W_PROPERTIES
											       : DCP_W_NONE;
}

static int push_text(struct dcp_machine *m, const struct dcp_opcode *o)
{
	bool global = o->op == OP_GLOBAL;
	uint32_t tag = DCP_W_NONE;
	if (global) {
		const char *lines = (const char *)o->bytes + 1, *name = strchr(lines, '\n') + 1; /* there are two */
		tag = tag_of(name, (size_t)((const char *)o->bytes + (o->end - o->at) - 1 - name));
		tag = tag == DCP_W_PROPERTIES ? tag : DCP_W_NONE;
	} else if (o->bytes) {
		tag = tag_of((const char *)o->bytes + o->text, o->number);
	}
	return push(m, o, global ? DCP_V_OTHER : DCP_V_TEXT, tag);
}

/* A function or class and its arguments. */
static int call(struct dcp_machine *m, const struct dcp_opcode *o, uint32_t n)
{
	if (above_mark(m) < n)
		return DCP_NOT_KNOWN;
	uint32_t tag = m->stack[m->depth - n].tag;
	bool named = o->op == OP_STACK_GLOBAL;
	if (named)
		tag = m->stack[m->depth - 1].tag;
	tag = dcp_tag_word(tag) == DCP_W_PROPERTIES ? DCP_W_PROPERTIES : DCP_W_NONE;
	return join(m, n, o, named ? DCP_V_OTHER : DCP_V_FILLED, tag);
}

static int run_one(struct dcp_machine *m, const struct dcp_opcode *o)
{
	if (dcp_is_put(o->op))
		return put(m, o);
	if (dcp_is_get(o->op))
		return get(m, o);
	if (dcp_is_text(o->op) || o->op == OP_GLOBAL)
		return push_text(m, o);
	switch (o->op) {
	case OP_PROTO:
		m->r->protocol = (uint8_t)o->number;
		return o->at == 0 && o->number >= 2 && o->number <= 5 ? 0 : DCP_NOT_KNOWN;
	case OP_FRAME:
	case OP_STOP:
		return 0;
	case OP_MARK:
		return push_mark(m, o);
	case OP_TUPLE:
		return join_marked(m, o, DCP_V_TUPLE);
	case OP_LIST:
	case OP_DICT:
	case OP_FROZENSET:
		return join_marked(m, o, DCP_V_FILLED);
	case OP_TUPLE1:
	case OP_TUPLE2:
	case OP_TUPLE3:
		return join(m, o->op - OP_TUPLE1 + 1u, o, DCP_V_TUPLE, DCP_W_NONE);
	case OP_STACK_GLOBAL:
	case OP_REDUCE:
	case OP_NEWOBJ:
		return call(m, o, 2);
	case OP_NEWOBJ_EX:
		return call(m, o, 3);
	case OP_BUILD:
		return build(m, o);
	case OP_APPEND:
	case OP_APPENDS:
	case OP_ADDITEMS:
	case OP_SETITEM:
	case OP_SETITEMS:
		return fill(m, o);
	case OP_EMPTY_DICT:
		return push(m, o, DCP_V_DICT, DCP_W_NONE);
	case OP_EMPTY_LIST:
	case OP_EMPTY_SET:
		return push(m, o, DCP_V_FILLED, DCP_W_NONE);
	default:
		return push(m, o, DCP_V_OTHER, DCP_W_NONE);
	}
}

/* ---- all of it ---- */

/* One object whose state is a dict that has what is looked for. */
static int find_ranges(struct dcp_machine *m)
{
	const struct dcp_ranges *r = m->r;
	struct dcp_opcode o = {.op = OP_MARK};
	int code = 0;
	dcp_cursor_seek(&m->r->cursor, 0);
	while (code == 0 && o.op != OP_STOP) {
		code = dcp_cursor_next(&m->r->cursor, &o);
		if (code == 0)
			code = run_one(m, &o);
	}
	if (code != 0)
		return code;
	use_from(m, 0, o.at);
	const struct dcp_attribute_range *entries = dcp_ranges_attribute(r, DCP_ENTRIES);
	const struct dcp_attribute_range *slices = dcp_ranges_attribute(r, DCP_SLICES);
	bool good = m->depth == 1 && m->built == o.at && r->protocol > 0 && entries && entries->dict && slices;
	return good ? 0 : DCP_NOT_KNOWN;
}

int dcp_ranges_read(struct wf_source *file, bool named, struct dcp_ranges *ret, struct wf_error *err)
{
	struct dcp_machine m = {.r = ret, .mark = DCP_NONE, .named = named};
	*ret = (struct dcp_ranges){.file = wf_source_ref(file)};
	int r = wf_source_size(file) > WF_DCP_MAX_METADATA_BYTES - 1 ? DCP_NOT_KNOWN
								     : dcp_cursor_open(&ret->cursor, file);
	if (r == 0)
		r = find_taken(&m);
	if (r == 0)
		r = find_ranges(&m);
	free(m.put);
	free(m.stack);
	if (r == 0)
		return 0;
	dcp_ranges_free(ret);
	if (r == DCP_NOT_KNOWN)
		return wf_fail(
			err, -EOPNOTSUPP,
			"its .metadata has more than %llu MiB and is not written as picklers write them: output=FILE "
			"and wfctl export write one file",
			WF_DCP_MAX_GRAPH_BYTES >> 20);
	return wf_fail(err, r, "cannot read the metadata: %s", strerror(-r));
}

void dcp_ranges_free(struct dcp_ranges *r)
{
	dcp_cursor_close(&r->cursor);
	wf_source_unref(r->file);
	free(r->entries);
	free(r->slices);
	wf_key_map_free(&r->names);
	free(r->taken);
	free(r->before);
	free(r->defs);
	*r = (struct dcp_ranges){0};
}
