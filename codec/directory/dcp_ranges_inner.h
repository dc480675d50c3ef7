/* SPDX-License-Identifier: MIT */
/* The machine that finds ranges, between its two files. Nobody else includes it. */
#pragma once

#include "codec/directory/dcp_ranges.h"

#define MACHINE_MAX_STACK (1u << 20)

enum dcp_value_kind {
	DCP_V_MARK,
	DCP_V_TEXT,
	DCP_V_DICT,
	DCP_V_FILLED, /* another container that was made there, or an object */
	DCP_V_TUPLE,
	DCP_V_TAKEN, /* from the memo: nothing is put into it any more */
	DCP_V_OTHER,
};

/* What a value is that is asked for. An entry may have the name of an attribute, so a tag has a word, whether it is a text, and the number of an
 * entry + 1: the value is its name, or an index of it. */
enum dcp_word { DCP_W_NONE, DCP_W_ENTRIES, DCP_W_PLACES, DCP_W_SLICES, DCP_W_FQN, DCP_W_PROPERTIES };

#define DCP_TAG_TEXT 8u
#define DCP_TAG_ENTRY_SHIFT 4

static inline enum dcp_word dcp_tag_word(uint32_t tag)
{
	return (enum dcp_word)(tag & 7);
}

static inline uint32_t dcp_tag_entry(uint32_t tag)
{
	return (tag >> DCP_TAG_ENTRY_SHIFT) - 1; /* DCP_NONE for none */
}

static inline uint32_t dcp_tag_of_entry(uint32_t entry)
{
	return (entry + 1) << DCP_TAG_ENTRY_SHIFT;
}

/* On the stack. */
struct dcp_operand {
	uint32_t start, memo; /* where its range begins, and PUTs before that */
	uint32_t def;         /* DCP_NONE; of a mark: where the mark below it is */
	uint32_t tag;
	union {
		uint32_t taken; /* of what is taken from the memo: its def */
		uint32_t fqn;   /* of an index and its state: where the name is */
	};
	uint32_t fqn_end; /* 0: it has none */
	enum dcp_value_kind kind;
};

struct dcp_machine {
	struct dcp_ranges *r;
	uint64_t *put; /* a bit for each index of the memo that has a value */
	struct dcp_operand *stack;
	uint32_t depth, room;
	uint32_t mark;  /* the topmost; DCP_NONE */
	uint32_t memo;  /* PUTs so far */
	uint32_t state; /* where the state of the metadata begins, once something came into it */
	uint64_t built; /* where the opcode ends that gave it to them; 0 */
	bool named;
};

/* dcp_ranges_pairs.c: key and value in turn, from `from` on, come into the dict at `dict`. 0, DCP_NOT_KNOWN, or an errno. */
int dcp_machine_fill(struct dcp_machine *m, uint32_t dict, uint32_t from, uint64_t at);
