/* SPDX-License-Identifier: MIT */
/* Parses what stands in the brackets of a KEY, and gives the elements that it selects. */
#include "fs/wfctl/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool wfctl_view_whole(const char *shape, struct wfctl_view *ret)
{
	*ret = (struct wfctl_view){0};
	if (*shape++ != '[')
		return false;
	for (shape += strspn(shape, " "); *shape != ']'; shape += strspn(shape, " ,")) {
		char *end;
		errno = 0;
		long long n = strtoll(shape, &end, 10);
		if (end == shape || errno || n < 0 || ret->ndim == WFCTL_DIMENSIONS_MAX)
			return false;
		ret->size[ret->ndim++] = n;
		shape = end;
	}
	int64_t stride = 1;
	for (uint32_t d = ret->ndim; d-- > 0;) {
		ret->stride[d] = stride;
		if (__builtin_mul_overflow(stride, ret->size[d] > 0 ? ret->size[d] : 1, &stride))
			return false;
	}
	return true;
}

int64_t wfctl_view_elements(const struct wfctl_view *v)
{
	int64_t n = 1;
	for (uint32_t d = 0; d < v->ndim; d++)
		n *= v->size[d];
	return n;
}

bool wfctl_view_is_contiguous(const struct wfctl_view *v)
{
	int64_t stride = 1;
	for (uint32_t d = v->ndim; d-- > 0; stride *= v->size[d])
		if (v->size[d] > 1 && v->stride[d] != stride)
			return false;
	return true;
}

const char *wfctl_slice_of(const char *text)
{
	size_t len = strlen(text);
	const char *open = len > 2 && text[len - 1] == ']' ? strrchr(text, '[') : NULL;
	return open && open > text && open[1 + strspn(open + 1, "0123456789:,-. ")] == ']' ? open : NULL;
}

/* ---- slicing ---- */

struct index {
	enum { INDEX, RANGE, ELLIPSIS } kind;
	bool has_start, has_stop;
	int64_t start, stop, step;
};

static bool read_number(const char **at, int64_t *ret)
{
	char *end;
	errno = 0;
	long long n = strtoll(*at, &end, 10);
	if (end == *at || errno)
		return false;
	*ret = n;
	*at = end + strspn(end, " ");
	return true;
}

static bool read_part(const char **at, struct index *p)
{
	*p = (struct index){.kind = INDEX, .step = 1};
	*at += strspn(*at, " ");
	if (!strncmp(*at, "...", 3)) {
		p->kind = ELLIPSIS;
		*at += 3;
		*at += strspn(*at, " ");
		return true;
	}
	p->has_start = read_number(at, &p->start);
	if (**at != ':')
		return p->has_start;
	p->kind = RANGE;
	++*at;
	*at += strspn(*at, " ");
	p->has_stop = read_number(at, &p->stop);
	if (**at != ':')
		return true;
	++*at;
	*at += strspn(*at, " ");
	if (**at == ',' || **at == ']')
		return true;
	return read_number(at, &p->step) && p->step != 0;
}

static int64_t clamp(int64_t i, int64_t size, int64_t low, int64_t high)
{
	if (i < 0)
		i = i < -size ? low : i + size;
	return i < low ? low : i > high ? high : i;
}

static void take_range(struct wfctl_view *v, const struct wfctl_view *old, uint32_t d, const struct index *p)
{
	int64_t size = old->size[d], first, last, n;
	bool back = p->step < 0;
	first = p->has_start ? clamp(p->start, size, back ? -1 : 0, back ? size - 1 : size) : back ? size - 1 : 0;
	last = p->has_stop ? clamp(p->stop, size, back ? -1 : 0, back ? size - 1 : size) : back ? -1 : size;
	if (p->has_start && p->start < -size && back)
		first = -1;
	if (p->has_stop && p->stop < -size && back)
		last = -1;
	n = back ? first - last : last - first;
	int64_t step = back ? (p->step == INT64_MIN ? INT64_MAX : -p->step) : p->step;
	n = n > 0 ? (n - 1) / step + 1 : 0;
	if (n > 0)
		v->start += first * old->stride[d];
	v->size[v->ndim] = n;
	v->stride[v->ndim++] = n > 1 ? old->stride[d] * p->step : old->stride[d];
}

static bool take_part(struct wfctl_view *v, const struct wfctl_view *old, uint32_t d, const struct index *p)
{
	if (p->kind == RANGE) {
		take_range(v, old, d, p);
		return true;
	}
	if (p->start < -old->size[d] || p->start >= old->size[d])
		return false;
	v->start += (p->start < 0 ? p->start + old->size[d] : p->start) * old->stride[d];
	return true;
}

const char *wfctl_view_slice(struct wfctl_view *v, const char *slice)
{
	struct index parts[WFCTL_DIMENSIONS_MAX + 1], all = {.kind = RANGE, .step = 1};
	uint32_t n = 0, ellipses = 0, d = 0;
	const char *at = slice + 1;
	do {
		if (n == WFCTL_DIMENSIONS_MAX + 1 || !read_part(&at, &parts[n]))
			return "a slice is numbers, start:stop:step and ... with commas between them";
		ellipses += parts[n++].kind == ELLIPSIS;
	} while (*at++ == ',' && *at != ']');
	if (at[-1] != ']' && *at != ']')
		return "a slice is numbers, start:stop:step and ... with commas between them";
	if (ellipses > 1 || n - ellipses > v->ndim)
		return ellipses > 1 ? "more than one ellipsis" : "more indices than dimensions";
	struct wfctl_view old = *v;
	v->ndim = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (parts[i].kind == ELLIPSIS)
			for (uint32_t skip = old.ndim - (n - 1); skip > 0; skip--)
				take_part(v, &old, d++, &all);
		else if (!take_part(v, &old, d++, &parts[i]))
			return "an index is outside of its dimension";
	}
	while (d < old.ndim)
		take_part(v, &old, d++, &all);
	return NULL;
}
