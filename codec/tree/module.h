/* SPDX-License-Identifier: MIT */
/* The state_dict of an nn.Module saved whole and of a TorchScript object, found without knowing their classes.
 *
 * nn.Module: an object whose state is a mapping with _parameters, _buffers and _modules; keys as Module.state_dict
 * gives them: own parameters, own persistent buffers (_non_persistent_buffers_set left out), then the children, names
 * joined with dots. Source: torch/nn/modules/module.py. A torch.fx.GraphModule is such a mapping given to a function,
 * an OptimizedModule of torch.compile a wrapper whose child is _orig_mod. TorchScript: attributes of the __torch__
 * objects; which of them are parameters and buffers stands in code/ (__parameters__, __buffers__). Source:
 * torch/csrc/jit/serialization. Both: packed weights of quantised modules (tree/module_quantised.c).
 *
 * Iterative. Shared submodules give their keys at each place, as in torch, where the number of places can be
 * exponential in the size of the file: struct wf_state_dicts bounds what all modules of a tree may give together.
 */
#pragma once

#include <stdbool.h>

#include "codec/container/container.h"
#include "codec/bytes/err.h"
#include "codec/object/object.h"

struct wf_torchscript;

/* What is shared by the modules of one tree: the code of a TorchScript archive, read once, and what may still be spent.
 */
struct wf_state_dicts {
	struct wf_graph *g;
	const struct wf_container *c; /* NULL: no archive */
	struct wf_torchscript *script;
	uint64_t keys, key_bytes, steps; /* left */
};

void wf_state_dicts_init(struct wf_state_dicts *s, struct wf_graph *g, const struct wf_container *c);
void wf_state_dicts_free(struct wf_state_dicts *s);

/* Whether r is such an object. */
bool wf_is_module(const struct wf_graph *g, const struct wf_container *c, wf_ref r);
/* Calls each(key, value) in state_dict order: tensors, and what quantised modules add. Returns 0, what each returned,
 * -ENOMEM; -E2BIG when it is too much (a cycle, submodules shared in submodules ...). */
int wf_module_state_dict(struct wf_state_dicts *s, wf_ref module,
			 int (*each)(void *ctx, const char *key, size_t key_len, wf_ref value), void *ctx);
