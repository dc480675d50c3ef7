/* SPDX-License-Identifier: MIT */
/* What tree/state_dict.c, and above it tree/module_quantised.c, tree/torchscript.c and tree/module.c share. Nobody else includes it. */
#pragma once

#include "codec/bytes/buffer.h"
#include "codec/tree/module.h"

/* One walk. */
struct wf_state_walk {
	struct wf_state_dicts *shared;
	struct wf_graph *g;
	struct wf_buffer name; /* of the module that is visited, with a dot at its end */
	int (*each)(void *ctx, const char *key, size_t key_len, wf_ref value);
	void *ctx;
};

/* tree/state_dict.c */
/* Spends n steps of what the walks of a tree may take; -E2BIG when nothing is left. */
int wf_state_spend(struct wf_state_dicts *s, uint64_t n);
/* Gives the entry `own` of the module that is visited. */
int wf_state_emit(struct wf_state_walk *w, const char *own, size_t len, wf_ref value);

/* tree/module_quantised.c: what a quantised module's own _save_to_state_dict adds, told by the path of its class. state: the
 * mapping of its attributes, or the tuple that quantised convolutions have in its place. */
bool wf_is_quantised(const struct wf_graph *g, wf_ref module);
int wf_quantised_entries(struct wf_state_walk *w, wf_ref module, wf_ref state);
