/* SPDX-License-Identifier: MIT */
/* Keys and values that come into a dict: attributes of the metadata, entries, slices, and the state of an index, which has the name of an
 * entry. */
#include <errno.h>
#include <string.h>

#include "codec/bytes/array.h"
#include "codec/bytes/buffer.h"
#include "codec/bytes/util.h"
#include "codec/directory/dcp_metadata.h"
#include "codec/directory/dcp_ranges_inner.h"
#include "codec/pickle/opcodes.h"

#define STATE_AT 1u         /* on the stack: the state of the metadata, above their object */
#define MAX_NAME (1u << 20) /* bytes */

static struct dcp_pair pair_at(const struct dcp_machine *m, uint32_t key, uint64_t at)
{
	const struct dcp_operand *v = &m->stack[key];
	return (struct dcp_pair){.key = v->start,
				 .value = v[1].start,
				 .end = key + 2 < m->depth ? v[2].start : (uint32_t)at,
				 .memo = v->memo};
}

/* ---- texts ---- */

static bool is_text(const struct dcp_operand *v)
{
	return v->kind == DCP_V_TEXT || (v->kind == DCP_V_TAKEN && v->tag & DCP_TAG_TEXT);
}

static bool is_word(const struct dcp_operand *v, enum dcp_word word)
{
	return is_text(v) && dcp_tag_word(v->tag) == word;
}

/* The role of what stands under a key in the state of the metadata. */
static enum dcp_role role_under(const struct dcp_operand *key)
{
	return is_word(key, DCP_W_ENTRIES)  ? DCP_ENTRIES
	       : is_word(key, DCP_W_PLACES) ? DCP_PLACES
	       : is_word(key, DCP_W_SLICES) ? DCP_SLICES
					    : DCP_OTHER;
}

/* The bytes of a text; DCP_NOT_KNOWN: they are more than names have. */
static int read_text(struct dcp_machine *m, const struct dcp_operand *v, struct wf_buffer *ret)
{
	unsigned char head[9];
	char piece[256];
	uint64_t at = v->kind == DCP_V_TAKEN ? m->r->defs[v->taken].start : v->start;
	int r = m->r->cursor.size - at < sizeof head ? DCP_NOT_KNOWN
						     : dcp_cursor_read(&m->r->cursor, at, head, sizeof head);
	if (r != 0)
		return r;
	uint8_t width = head[0] == OP_SHORT_BINUNICODE ? 1 : head[0] == OP_BINUNICODE ? 4 : 8;
	uint64_t len = width == 1 ? head[1] : width == 4 ? wf_le32(head + 1) : wf_le64(head + 1);
	if (len > MAX_NAME)
		return DCP_NOT_KNOWN;
	ret->len = 0;
	wf_buffer_puts(ret, "");
	for (uint64_t i = 0; i < len && r == 0; i += sizeof piece) {
		size_t n = (size_t)WF_MIN(len - i, (uint64_t)sizeof piece);
		r = dcp_cursor_read(&m->r->cursor, at + 1 + width + i, piece, n);
		wf_buffer_append(ret, piece, n);
	}
	return r < 0 ? r : wf_buffer_status(ret);
}

static void set_entry(struct dcp_machine *m, struct dcp_operand *v, uint32_t entry)
{
	uint32_t def = v->kind == DCP_V_TAKEN ? v->taken : v->def;
	v->tag = (v->tag & ((1u << DCP_TAG_ENTRY_SHIFT) - 1)) | dcp_tag_of_entry(entry);
	if (def != DCP_NONE)
		m->r->defs[def].tag = v->tag | DCP_TAG_TEXT;
}

/* ---- what they mean ---- */

static int add_attribute(struct dcp_machine *m, uint32_t key, uint64_t at)
{
	struct dcp_ranges *r = m->r;
	const struct dcp_operand *state = &m->stack[STATE_AT], *v = &m->stack[key + 1];
	enum dcp_role role = role_under(&m->stack[key]);
	if (r->attribute_count == 0) {
		m->state = state->start;
		r->state = state[1].start;
	}
	if (r->attribute_count == DCP_MAX_ATTRIBUTES || m->built || m->state != state->start ||
	    (role != DCP_OTHER && (dcp_ranges_attribute(r, role) || v->kind == DCP_V_TAKEN)))
		return DCP_NOT_KNOWN;
	/* the other two have names of entries */
	if ((role == DCP_PLACES || role == DCP_SLICES) && !dcp_ranges_attribute(r, DCP_ENTRIES))
		return DCP_NOT_KNOWN;
	r->attributes[r->attribute_count++] = (struct dcp_attribute_range){
		.at = pair_at(m, key, at), .role = role, .dict = v->kind == DCP_V_DICT, .def = v->def};
	return 0;
}

static int add_entry(struct dcp_machine *m, uint32_t key, uint64_t at, struct wf_buffer *text)
{
	struct dcp_ranges *r = m->r;
	struct dcp_operand *k = &m->stack[key];
	int code = is_text(k) ? read_text(m, k, text) : DCP_NOT_KNOWN;
	if (code == 0 && m->named && wf_key_map_get(&r->names, text->data, text->len))
		code = DCP_NOT_KNOWN;
	if (code == 0 && m->named)
		code = wf_key_map_put(&r->names, text->data, text->len, r->entry_count);
	if (code == 0)
		code = wf_array_reserve(&r->entries, &r->entry_room, (uint64_t)r->entry_count + 1, sizeof *r->entries,
					WF_DCP_MAX_ENTRIES);
	if (code != 0)
		return code;
	if (m->named)
		set_entry(m, k, r->entry_count);
	r->entries[r->entry_count++] =
		(struct dcp_named){.at = pair_at(m, key, at), .def = k->kind == DCP_V_TAKEN ? DCP_NONE : k->def};
	return 0;
}

static int add_slice(struct dcp_machine *m, uint32_t key, uint64_t at)
{
	struct dcp_ranges *r = m->r;
	const struct dcp_operand *k = &m->stack[key];
	uint32_t length = k->fqn_end - k->fqn;
	if (k->kind != DCP_V_FILLED || k->fqn_end == 0 || k->fqn - k->start > UINT16_MAX || length > UINT16_MAX)
		return DCP_NOT_KNOWN;
	int code = wf_array_reserve(&r->slices, &r->slice_room, (uint64_t)r->slice_count + 1, sizeof *r->slices,
				    WF_DCP_MAX_CHUNKS);
	if (code == 0)
		r->slices[r->slice_count++] = (struct dcp_stored_slice){.at = pair_at(m, key, at),
									.entry = dcp_tag_entry(k->tag),
									.fqn = (uint16_t)(k->fqn - k->start),
									.fqn_length = (uint16_t)length};
	return code;
}

/* The name in an index's state. The entries have been read by then. */
static int add_fqn(struct dcp_machine *m, uint32_t dict, uint32_t key, uint64_t at, struct wf_buffer *text)
{
	struct dcp_operand *d = &m->stack[dict], *v = &m->stack[key + 1];
	const struct dcp_pair pair = pair_at(m, key, at);
	if (d->fqn_end)
		return DCP_NOT_KNOWN;
	d->fqn = pair.value;
	d->fqn_end = pair.end;
	if (dcp_tag_entry(v->tag) == DCP_NONE && is_text(v) && m->named) {
		int r = read_text(m, v, text);
		const uint64_t *entry = r == 0 ? wf_key_map_get(&m->r->names, text->data, text->len) : NULL;
		if (r != 0)
			return r;
		if (entry)
			set_entry(m, v, (uint32_t)*entry);
	}
	d->tag = is_text(v) && dcp_tag_entry(v->tag) != DCP_NONE ? dcp_tag_of_entry(dcp_tag_entry(v->tag)) : 0;
	return 0;
}

/* What a dict on the stack is going to be: its key is below it, in the state of the metadata. */
static enum dcp_role role_of(const struct dcp_machine *m, uint32_t dict)
{
	uint32_t first = STATE_AT + 1;
	if (dict < first + 1 || dict > first + 1 + 2 * DCP_MAX_ATTRIBUTES || m->built ||
	    m->stack[0].kind != DCP_V_FILLED || m->stack[STATE_AT].kind != DCP_V_DICT)
		return DCP_OTHER;
	first += m->stack[first].kind == DCP_V_MARK;
	if (dict <= first || (dict - first) % 2 != 1)
		return DCP_OTHER;
	for (uint32_t i = first; i < dict; i++)
		if (m->stack[i].kind == DCP_V_MARK)
			return DCP_OTHER;
	return role_under(&m->stack[dict - 1]);
}

int dcp_machine_fill(struct dcp_machine *m, uint32_t dict, uint32_t from, uint64_t at)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	enum dcp_role role = role_of(m, dict);
	bool state = dict == STATE_AT && m->stack[0].kind == DCP_V_FILLED;
	int r = 0;
	for (uint32_t key = from; key < m->depth && r == 0; key += 2) {
		if (state)
			r = add_attribute(m, key, at);
		else if (role == DCP_ENTRIES)
			r = add_entry(m, key, at, &text);
		else if (role == DCP_SLICES)
			r = add_slice(m, key, at);
		else if (is_word(&m->stack[key], DCP_W_FQN))
			r = add_fqn(m, dict, key, at, &text);
	}
	wf_buffer_free(&text);
	return r;
}
