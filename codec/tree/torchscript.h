/* SPDX-License-Identifier: MIT */
/* Which attributes of a TorchScript object are parameters and buffers. The pickle does not tell; the generated code
 * does:
 *
 *   code/__torch__/net.py:
 *     class Net(Module):
 *       __parameters__ = ["weight", "bias", ]
 *       __buffers__ = ["running_mean", ]
 *       weight : Tensor
 *
 * The code is read as text and never run. Source: torch/csrc/jit/serialization/python_print.cpp.
 * Threads: one owner; borrows graph and container.
 */
#pragma once

#include <stdbool.h>

#include "codec/container/container.h"
#include "codec/bytes/err.h"
#include "codec/object/object.h"

struct wf_torchscript;
struct wf_state_walk;

/* An object of a class below __torch__; and one whose state is a mapping of attributes. */
bool wf_torchscript_is_class(const struct wf_graph *g, wf_ref r);
bool wf_torchscript_is_object(const struct wf_graph *g, wf_ref r);
int wf_torchscript_new(struct wf_graph *g, const struct wf_container *c, struct wf_torchscript **ret,
		       struct wf_error *err);
void wf_torchscript_free(struct wf_torchscript *s); /* accepts NULL */
/* Gives the object's own parameters and then buffers (tree/module_inner.h). */
int wf_torchscript_tensors(struct wf_state_walk *w, wf_ref object);
