/* SPDX-License-Identifier: MIT */
/* A part of a tensor: what KEY[0:10,3] selects of elements that stand in row-major order. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define WFCTL_DIMENSIONS_MAX 64

struct wfctl_view {
	uint32_t ndim;
	int64_t start; /* in elements, as the strides */
	int64_t size[WFCTL_DIMENSIONS_MAX];
	int64_t stride[WFCTL_DIMENSIONS_MAX];
};

/* All of a tensor whose shape is a JSON list. false: it is none, or too large. */
bool wfctl_view_whole(const char *shape, struct wfctl_view *ret);
/* Where the slice of "KEY[...]" begins in a KEY; NULL: it has none. */
const char *wfctl_slice_of(const char *text);
/* Takes "[...]" of a view: numbers, start:stop:step and an ellipsis, as NumPy reads them. NULL, or what is wrong. */
const char *wfctl_view_slice(struct wfctl_view *v, const char *slice);
int64_t wfctl_view_elements(const struct wfctl_view *v);
/* Whether the elements stand behind each other. */
bool wfctl_view_is_contiguous(const struct wfctl_view *v);
