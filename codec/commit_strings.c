/* Array data that changed inside the pickle: it is written as a new string of the graph, in the place of the old one.
 */
#include "commit_inner.h"

#include <errno.h>

#include "tensor.h"
#include "util.h"

/* The bytes of a storage inside the pickle as a new string of the kind of the old one. */
static int make_string(struct wf_plan *p, uint32_t i, wf_ref *ret, struct wf_error *err)
{
	const struct wf_storage *s = wf_storage_get(p->in.storages, i);
	enum wf_kind kind = wf_kind_of(p->in.graph, s->data);
	if (s->size_bytes > WF_GRAPH_MAX_BYTES / 4)
		return wf_fail(err, -E2BIG, "an array of %llu bytes inside the pickle is too large to be changed",
			       (unsigned long long)s->size_bytes);
	size_t n = (size_t)s->size_bytes, m = 0;
	cleanup_free unsigned char *bytes = malloc(n + 1), *text = NULL;
	if (!bytes)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_storage_read(p->in.storages, i, 0, bytes, n);
	if (r < 0)
		return wf_fail(err, r, "cannot read the changed bytes of an array: %s", strerror(-r));
	if (kind == WF_STR) { /* Latin-1 as UTF-8: what _codecs.encode(..., 'latin1') turns back */
		text = malloc(2 * n + 1);
		if (!text)
			return wf_fail(err, -ENOMEM, "out of memory");
		for (size_t k = 0; k < n; k++) {
			if (bytes[k] >= 0x80)
				text[m++] = (unsigned char)(0xc0 | bytes[k] >> 6);
			text[m++] = (unsigned char)(bytes[k] >= 0x80 ? 0x80 | (bytes[k] & 0x3f) : bytes[k]);
		}
	}
	wf_ref made = wf_string(p->in.graph, kind, text ? text : bytes, text ? m : n);
	if (made == WF_NIL)
		return wf_fail(err, -E2BIG, "the changed array does not fit the limit of the program's object table");
	*ret = made;
	return 0;
}

static bool is_encode(const struct wf_graph *g, wf_ref call)
{
	return wf_call_is(g, call, "_codecs", "encode");
}

/* A copy of a tuple with the strings of the map exchanged; the tuple itself when it holds none, WF_NIL out of memory.
 */
static wf_ref exchange(struct wf_graph *g, wf_ref tuple, const struct wf_key_map *map)
{
	uint32_t n;
	wf_ref copy[8];
	bool changed = false;
	const wf_ref *e = wf_elements(g, tuple, &n);
	if (!wf_is(g, tuple, WF_TUPLE) || n > WF_ARRAY_SIZE(copy))
		return tuple;
	for (uint32_t i = 0; i < n; i++) {
		const uint64_t *to = wf_key_map_get(map, &e[i], sizeof e[i]);
		copy[i] = to ? (wf_ref)*to : e[i];
		changed |= to != NULL;
	}
	return changed ? wf_tuple(g, copy, n) : tuple;
}

/* Puts other strings into the calls that hold array data. A str stands for bytes only in a call of encode; elsewhere
 * the same object may be a key. */
static int exchange_all(struct wf_graph *g, const struct wf_key_map *map)
{
	for (wf_ref o = wf_graph_next(g, WF_NIL); o != WF_NIL; o = wf_graph_next(g, o)) {
		if (!wf_is(g, o, WF_CALL))
			continue;
		bool bytes = wf_numpy_data(g, o) != WF_NIL || wf_call_is(g, o, "__builtin__", "bytearray") ||
			     wf_call_is(g, o, "builtins", "bytearray");
		if (!bytes && !is_encode(g, o))
			continue;
		wf_ref args = wf_call_args(g, o), state = wf_call_state(g, o);
		wf_ref new_args = exchange(g, args, map), new_state = state ? exchange(g, state, map) : WF_NIL;
		if (new_args == WF_NIL || (state && new_state == WF_NIL))
			return wf_graph_failed(g) < 0 ? wf_graph_failed(g) : -ENOMEM;
		int r = new_args != args ? wf_call_set_args(g, o, new_args) : 0;
		if (r == 0 && new_state != state)
			r = wf_call_set_state(g, o, new_state);
		if (r < 0)
			return r;
	}
	return 0;
}

static int exchange_moved(struct wf_plan *p, bool back)
{
	struct wf_key_map map = {.seed = wf_hash_seed(p)};
	int r = 0;
	for (uint32_t i = 0; i < p->moved_count && r == 0; i++) {
		const struct wf_moved_string *m = &p->moved[i];
		r = wf_key_map_put(&map, back ? &m->to : &m->from, sizeof m->to, back ? m->from : m->to);
	}
	if (r == 0 && p->moved_count)
		r = exchange_all(p->in.graph, &map);
	wf_key_map_free(&map);
	return r;
}

int wf_plan_move_strings(struct wf_plan *p, struct wf_error *err)
{
	uint32_t n = wf_storages_count(p->in.storages);
	for (uint32_t i = 0; i < n; i++) {
		const struct wf_storage *s = wf_storage_get(p->in.storages, i);
		if (s->persid != WF_NIL || wf_extents_bytes(s->dirty) == 0)
			continue;
		struct wf_moved_string *moved = reallocarray(p->moved, p->moved_count + 1, sizeof *moved);
		if (!moved)
			return wf_fail(err, -ENOMEM, "out of memory");
		p->moved = moved;
		wf_ref to = WF_NIL;
		int r = make_string(p, i, &to, err);
		if (r < 0)
			return r;
		p->moved[p->moved_count++] = (struct wf_moved_string){.storage = i, .from = s->data, .to = to};
	}
	int r = exchange_moved(p, false);
	return r < 0 ? wf_fail(err, r, "cannot put changed arrays into the pickle: %s", strerror(-r)) : 0;
}

void wf_plan_undo(struct wf_plan *p)
{
	/* room for the tuples was there on the way forth; should it be gone, the arrays merely show their new bytes
	 * twice: in the string and in the extents */
	exchange_moved(p, true);
	p->moved_count = 0;
}
