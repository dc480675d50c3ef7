/* SPDX-License-Identifier: MIT */
/* Values of the outline: what opcodes make, and what is put into what. */
#include <errno.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/util.h"
#include "codec/pickle/outline_inner.h"

#define NAME_LINE_MAX 4096u

/* ---- the stack ---- */

int wf_outline_push(struct outliner *m, wf_outlined v)
{
	if (m->depth == m->stack_capacity) {
		int r = wf_array_reserve(&m->stack, &m->stack_capacity, (uint64_t)m->depth + 1, sizeof *m->stack,
					 UINT32_MAX);
		if (r < 0)
			return r;
	}
	m->stack[m->depth++] = v;
	return 0;
}

bool wf_outline_has(const struct outliner *m, uint32_t n)
{
	for (uint32_t i = 1; i <= n; i++)
		if (m->depth < i || outline_kind(m->stack[m->depth - i]) == MARK)
			return false;
	return true;
}

/* ---- values ---- */

static int new_node(struct outliner *m, enum outline_kind kind, bool ordered)
{
	struct wf_outline *o = m->o;
	int r = wf_array_reserve(&o->nodes, &o->node_capacity, (uint64_t)o->node_count + 1, sizeof *o->nodes,
				 OUTLINE_INDEX_MAX);
	if (r < 0)
		return r;
	o->nodes[o->node_count] = (struct outlined){.ordered = ordered};
	return wf_outline_push(m, outline_make(kind, o->node_count++));
}

int wf_outline_container(struct outliner *m, enum outline_kind kind)
{
	return new_node(m, kind, false);
}

void wf_outline_place(struct outliner *m, wf_outlined v)
{
	struct outlined *n = outline_node(m->o, v);
	if (n)
		n->places++;
}

int wf_outline_fill(struct outliner *m, enum outline_kind kind, uint32_t start)
{
	uint32_t n = m->depth - start;
	struct outlined *to = outline_node(m->o, m->stack[start - 1]);
	for (uint32_t i = start; i < m->depth; i++)
		wf_outline_place(m, m->stack[i]);
	m->depth = start;
	if ((kind == DICT && n % 2 != 0) || (to && outline_kind(m->stack[start - 1]) != kind))
		return OUTLINE_NOT_KNOWN;
	if (!to)
		return outline_kind(m->stack[start - 1]) == UNKNOWN ? 0 : OUTLINE_NOT_KNOWN;
	if (n == 0) /* CPython writes an empty batch after 1000 items */
		return 0;
	int r = wf_array_reserve(&to->values, &to->capacity, (uint64_t)to->count + n, sizeof *to->values, UINT32_MAX);
	if (r < 0)
		return r;
	memcpy(to->values + to->count, m->stack + start, n * sizeof *to->values);
	to->count += n;
	return 0;
}

static enum outline_tuple tuple_of(const wf_outlined *v, uint32_t n)
{
	bool flat = n <= OUTLINE_SHORT_LIST, scalars = flat;
	if (n == 0)
		return TUPLE_EMPTY;
	if (outline_kind(v[0]) == STORAGE)
		return TUPLE_STORAGE;
	if (outline_kind(v[0]) == TENSOR)
		return TUPLE_TENSOR;
	for (uint32_t i = 0; i < n && flat; i++) {
		scalars &= outline_is_scalar(v[i]);
		flat &= outline_is_flat(v[i]);
	}
	return scalars ? TUPLE_PLAIN : flat ? TUPLE_NESTED : TUPLE_OTHER;
}

int wf_outline_tuple(struct outliner *m, uint32_t start)
{
	enum outline_tuple t = tuple_of(m->stack + start, m->depth - start);
	for (uint32_t i = start; i < m->depth; i++)
		wf_outline_place(m, m->stack[i]);
	m->depth = start;
	return wf_outline_push(m, outline_make(TUPLE, t));
}

/* One that is too long for a name is a plain value. */
int wf_outline_string(struct outliner *m, uint64_t len)
{
	struct wf_outline *o = m->o;
	if (len > OUTLINE_TEXT_MAX) {
		wf_cursor_skip(&m->in, len);
		return wf_outline_push(m, outline_make(PLAIN, 0));
	}
	const char *s = wf_cursor_view(&m->in, (size_t)len);
	if (!s)
		return OUTLINE_NOT_KNOWN;
	int r = wf_array_reserve(&o->texts, &o->text_capacity, (uint64_t)o->text_count + 1, sizeof *o->texts,
				 OUTLINE_INDEX_MAX);
	if (r < 0)
		return r;
	o->texts[o->text_count] = (struct outline_text){(uint32_t)o->bytes.len, (uint32_t)len};
	wf_buffer_append(&o->bytes, s, (size_t)len);
	r = wf_buffer_status(&o->bytes);
	return r < 0 ? r : wf_outline_push(m, outline_make(STR, o->text_count++));
}

int wf_outline_skipped(struct outliner *m, uint64_t len)
{
	wf_cursor_skip(&m->in, len);
	return wf_outline_push(m, outline_make(PLAIN, 0));
}

int wf_outline_int(struct outliner *m, uint32_t n)
{
	return wf_outline_push(m, n <= OUTLINE_INDEX_MAX ? outline_make(INT, n) : outline_make(PLAIN, 0));
}

/* ---- calls ---- */

static enum outline_global global_of(const char *module, size_t module_len, const char *name, size_t len)
{
	static const struct {
		const char *module, *name;
		enum outline_global is;
	} known[] = {{"collections", "OrderedDict", GLOBAL_ORDERED_DICT},
		     {"torch._utils", "_rebuild_tensor_v2", GLOBAL_REBUILD_TENSOR},
		     {"torch._utils", "_rebuild_parameter", GLOBAL_REBUILD_PARAMETER}};
	for (size_t i = 0; i < WF_ARRAY_SIZE(known); i++)
		if (strlen(known[i].module) == module_len && !memcmp(known[i].module, module, module_len) &&
		    strlen(known[i].name) == len && !memcmp(known[i].name, name, len))
			return known[i].is;
	return GLOBAL_OTHER;
}

int wf_outline_global(struct outliner *m)
{
	char module[64];
	size_t module_len, len;
	const char *line = wf_cursor_line(&m->in, NAME_LINE_MAX, &module_len);
	if (!line)
		return OUTLINE_NOT_KNOWN;
	size_t kept = WF_MIN(module_len, sizeof module);
	memcpy(module, line, kept);
	line = wf_cursor_line(&m->in, NAME_LINE_MAX, &len);
	if (!line)
		return OUTLINE_NOT_KNOWN;
	return wf_outline_push(
		m, outline_make(GLOBAL, kept < module_len ? GLOBAL_OTHER : global_of(module, module_len, line, len)));
}

int wf_outline_stack_global(struct outliner *m)
{
	size_t module_len = 0, len = 0;
	if (!wf_outline_has(m, 2))
		return OUTLINE_NOT_KNOWN;
	const char *module = wf_outline_text(m->o, m->stack[m->depth - 2], &module_len),
		   *name = wf_outline_text(m->o, m->stack[m->depth - 1], &len);
	m->depth -= 2;
	return wf_outline_push(
		m, outline_make(GLOBAL, module && name ? global_of(module, module_len, name, len) : GLOBAL_OTHER));
}

int wf_outline_call(struct outliner *m)
{
	if (!wf_outline_has(m, 2))
		return OUTLINE_NOT_KNOWN;
	wf_outlined func = m->stack[m->depth - 2], args = m->stack[m->depth - 1];
	m->depth -= 2;
	if (outline_kind(func) != GLOBAL || outline_kind(args) != TUPLE)
		return OUTLINE_NOT_KNOWN;
	if (outline_is(func, GLOBAL, GLOBAL_ORDERED_DICT) && outline_is(args, TUPLE, TUPLE_EMPTY))
		return new_node(m, DICT, true);
	bool tensor = (outline_is(func, GLOBAL, GLOBAL_REBUILD_TENSOR) && outline_is(args, TUPLE, TUPLE_STORAGE)) ||
		      (outline_is(func, GLOBAL, GLOBAL_REBUILD_PARAMETER) && outline_is(args, TUPLE, TUPLE_TENSOR));
	return wf_outline_push(m, outline_make(tensor ? TENSOR : UNKNOWN, 1));
}

/* The state of a state_dict is its _metadata; another one may be a module's. */
int wf_outline_build(struct outliner *m)
{
	size_t len = 0;
	if (!wf_outline_has(m, 2))
		return OUTLINE_NOT_KNOWN;
	wf_outlined state = m->stack[--m->depth], object = m->stack[m->depth - 1];
	wf_outline_place(m, state);
	if (outline_kind(object) == UNKNOWN)
		return 0;
	struct outlined *n = outline_node(m->o, object), *s = outline_node(m->o, state);
	if (!n || !n->ordered)
		return OUTLINE_NOT_KNOWN;
	const char *key =
		s && outline_kind(state) == DICT && s->count == 2 ? wf_outline_text(m->o, s->values[0], &len) : NULL;
	n->odd |= !key || len != 9 || memcmp(key, "_metadata", 9) != 0;
	return 0;
}

int wf_outline_storage(struct outliner *m)
{
	if (!wf_outline_has(m, 1) || outline_kind(m->stack[m->depth - 1]) != TUPLE)
		return OUTLINE_NOT_KNOWN;
	m->stack[m->depth - 1] = outline_make(STORAGE, 0);
	return 0;
}

/* NEWOBJ: a class and its arguments. */
int wf_outline_instance(struct outliner *m)
{
	if (!wf_outline_has(m, 2))
		return OUTLINE_NOT_KNOWN;
	m->depth -= 2;
	return wf_outline_push(m, outline_make(UNKNOWN, 1));
}
