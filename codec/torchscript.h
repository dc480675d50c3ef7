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

#include "buffer.h"
#include "container.h"
#include "err.h"
#include "object.h"

struct wf_torchscript;

/* An object of a class below __torch__. */
bool wf_torchscript_is_object(const struct wf_graph *g, wf_ref r);
int wf_torchscript_new(struct wf_graph *g, const struct wf_container *c, struct wf_torchscript **ret,
		       struct wf_error *err);
void wf_torchscript_free(struct wf_torchscript *s); /* accepts NULL */
/* Calls each(prefix + name, tensor) for the object's own parameters and then buffers. `prefix` is left as it was. */
int wf_torchscript_tensors(struct wf_torchscript *s, wf_ref object,
			   int (*each)(void *ctx, const char *key, size_t key_len, wf_ref value), void *ctx,
			   struct wf_buffer *prefix);
/* The next attribute from *next on that is an object of a module class; WF_NIL after the last. */
wf_ref wf_torchscript_child(struct wf_torchscript *s, wf_ref object, uint32_t *next, const char **ret_name);
