/* What value.c, value_json.c and value_parse.c share. Nobody else includes it. */
#pragma once

#include "value.h"

/* Calls that stand for a value Python would print. */
enum wf_meaning {
	WF_MEANS_ITSELF,
	WF_MEANS_SET,          /* set([...]), frozenset([...]): inner is the list, WF_NIL for an empty one */
	WF_MEANS_SIZE,         /* torch.Size((...)) */
	WF_MEANS_COMPLEX,      /* complex(re, im) */
	WF_MEANS_LATIN1,       /* _codecs.encode(str, 'latin1'): inner is the str */
	WF_MEANS_EMPTY_BYTES,  /* bytes() */
	WF_MEANS_BYTEARRAY,    /* bytearray(bytes-form) */
	WF_MEANS_DEVICE,       /* torch.device('cuda', 1) */
	WF_MEANS_DTYPE,        /* torch.float32 */
	WF_MEANS_NUMPY_SCALAR, /* scalar(dtype, bytes) */
};

enum wf_meaning wf_value_meaning(const struct wf_graph *g, wf_ref r, wf_ref *ret_inner);
/* null, true, 3, 0.1, "text": one scalar as JSON. */
int wf_value_scalar(const struct wf_graph *g, wf_ref r, struct wf_buffer *out);
