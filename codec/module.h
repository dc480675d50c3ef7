/* The state_dict of an nn.Module saved whole and of a TorchScript object, found without knowing their classes.
 *
 * nn.Module: an object whose state is a mapping with _parameters, _buffers and _modules; keys as Module.state_dict gives
 * them: own parameters, own persistent buffers (_non_persistent_buffers_set left out), then the children, names joined
 * with dots. Source: torch/nn/modules/module.py. TorchScript: attributes of the __torch__ objects; which of them are
 * parameters and buffers stands in code/ (__parameters__, __buffers__). Source: torch/csrc/jit/serialization.
 * Iterative; shared submodules give their keys at each place; a cycle ends with -EUCLEAN.
 */
#pragma once

#include <stdbool.h>

#include "container.h"
#include "err.h"
#include "object.h"

/* Whether r is such an object. */
bool wf_is_module(const struct wf_graph *g, const struct wf_container *c, wf_ref r);
/* Calls each(key, tensor) in state_dict order. Returns 0, what each returned, -EUCLEAN, -ENOMEM. */
int wf_module_state_dict(struct wf_graph *g, const struct wf_container *c, wf_ref module,
			 int (*each)(void *ctx, const char *key, size_t key_len, wf_ref value), void *ctx,
			 struct wf_error *err);
