/* SPDX-License-Identifier: MIT */
/* Parses the dictionary of Python that stands in the head of an .npy file. */
#include "codec/compose/npy_head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"

#define DESCR_MAX 64u

/* The text of the dictionary. */
struct text {
	const char *at, *end;
	const char *why;
};

static int refuse(struct text *t, const char *why)
{
	t->why = why;
	return -EINVAL;
}

static void skip_spaces(struct text *t)
{
	while (t->at < t->end && strchr(" \t\n\r\f\v", *t->at) && *t->at)
		t->at++;
}

static bool take(struct text *t, char c)
{
	skip_spaces(t);
	if (t->at >= t->end || *t->at != c)
		return false;
	t->at++;
	return true;
}

static bool take_word(struct text *t, const char *word)
{
	size_t len = strlen(word);
	skip_spaces(t);
	if ((size_t)(t->end - t->at) < len || memcmp(t->at, word, len) != 0)
		return false;
	t->at += len;
	return true;
}

static int parse_string(struct text *t, char buf[DESCR_MAX])
{
	skip_spaces(t);
	char quote = t->at < t->end ? *t->at : '\0';
	const char *start = t->at + 1,
		   *end = quote == '\'' || quote == '"' ? memchr(start, quote, (size_t)(t->end - start)) : NULL;
	if (!end || (size_t)(end - start) >= DESCR_MAX || memchr(start, '\\', (size_t)(end - start)))
		return refuse(t, "its head is no dictionary of descr, fortran_order and shape");
	memcpy(buf, start, (size_t)(end - start));
	buf[end - start] = '\0';
	t->at = end + 1;
	return 0;
}

static int parse_descr(struct text *t, struct wf_npy_head *h)
{
	char descr[DESCR_MAX];
	skip_spaces(t);
	if (t->at < t->end && *t->at == '[')
		return refuse(t, "arrays of records have no dtype in torch");
	int r = parse_string(t, descr);
	if (r < 0)
		return r;
	const char *kind = descr + (descr[0] && strchr("<>|=", descr[0]) ? 1 : 0);
	if (*kind == 'O')
		return refuse(t, "arrays of objects are pickles, which are never run");
	h->dtype = !strcmp(kind, "?") ? WF_BOOL8 : wf_dtype_from_numpy(descr, &h->big_endian);
	return h->dtype == WF_DTYPE_INVALID ? refuse(t, "torch has no such dtype") : 0;
}

static int parse_order(struct text *t, struct wf_npy_head *h)
{
	h->by_columns = take_word(t, "True");
	return h->by_columns || take_word(t, "False") ? 0 : refuse(t, "its fortran_order is neither True nor False");
}

static int parse_number(struct text *t, int64_t *ret)
{
	uint64_t n = 0;
	skip_spaces(t);
	if (t->at >= t->end || *t->at < '0' || *t->at > '9')
		return refuse(t, "its shape is no tuple of sizes");
	for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++)
		if (wf_mul_u64(n, 10, &n) || wf_add_u64(n, (uint64_t)(*t->at - '0'), &n) || n > INT64_MAX)
			return refuse(t, "its shape is too large");
	if (t->at < t->end && *t->at == 'L') /* as Python 2 printed them */
		t->at++;
	*ret = (int64_t)n;
	return 0;
}

static int parse_shape(struct text *t, struct wf_npy_head *h)
{
	h->ndim = 0;
	if (!take(t, '('))
		return refuse(t, "its shape is no tuple of sizes");
	while (!take(t, ')')) {
		if (h->ndim == WF_MAX_NDIM)
			return refuse(t, "it has more dimensions than torch");
		int r = parse_number(t, &h->shape[h->ndim++]);
		if (r < 0)
			return r;
		bool comma = take(t, ',');
		skip_spaces(t);
		if (!comma && (t->at >= t->end || *t->at != ')' || h->ndim == 1)) /* (3) is no tuple */
			return refuse(t, "its shape is no tuple of sizes");
	}
	return 0;
}

static int parse_dictionary(struct text *t, struct wf_npy_head *h)
{
	static const struct {
		const char *name;
		int (*parse)(struct text *t, struct wf_npy_head *h);
	} members[] = {{"descr", parse_descr}, {"fortran_order", parse_order}, {"shape", parse_shape}};
	unsigned int seen = 0;
	char name[DESCR_MAX];
	if (!take(t, '{'))
		return refuse(t, "its head is no dictionary of descr, fortran_order and shape");
	while (!take(t, '}')) {
		unsigned int i = 0;
		int r = parse_string(t, name);
		while (r == 0 && i < WF_ARRAY_SIZE(members) && strcmp(name, members[i].name) != 0)
			i++;
		if (r == 0 && (i == WF_ARRAY_SIZE(members) || !take(t, ':')))
			r = refuse(t, "its head is no dictionary of descr, fortran_order and shape");
		if (r == 0)
			r = members[i].parse(t, h);
		if (r < 0)
			return r;
		seen |= 1u << i;
		take(t, ',');
	}
	skip_spaces(t);
	return seen == 7 && t->at == t->end ? 0
					    : refuse(t, "its head is no dictionary of descr, fortran_order and shape");
}

static int count(struct text *t, struct wf_npy_head *h)
{
	h->size_bytes = wf_dtype_info(h->dtype)->size_bytes;
	bool empty = false, over = false;
	for (uint32_t i = 0; i < h->ndim; i++) {
		empty |= h->shape[i] == 0;
		over |= h->shape[i] > 0 && wf_mul_u64(h->size_bytes, (uint64_t)h->shape[i], &h->size_bytes);
	}
	if (over || h->size_bytes > INT64_MAX - WF_NPY_HEAD_MAX)
		return refuse(t, "its shape is too large");
	h->size_bytes = empty ? 0 : h->size_bytes;
	return 0;
}

int wf_npy_head_parse(const void *data, size_t len, struct wf_npy_head *ret, const char **ret_why)
{
	const unsigned char *p = data;
	struct text t = {.why = "it is no .npy file"};
	*ret_why = t.why;
	if (memcmp(p, "\x93NUMPY", WF_MIN(len, (size_t)6)) != 0)
		return -EINVAL;
	if (len < 12)
		return -ENODATA;
	if (p[6] < 1 || p[6] > 3 || p[7] != 0) {
		*ret_why = "it is of a version after 3";
		return -EINVAL;
	}
	size_t start = p[6] == 1 ? 10 : 12;
	uint64_t size = p[6] == 1 ? wf_le16(p + 8) : wf_le32(p + 8);
	if (size > WF_NPY_HEAD_MAX - start) {
		*ret_why = "its head is too long";
		return -EINVAL;
	}
	if (size > len - start)
		return -ENODATA;
	*ret = (struct wf_npy_head){.data_offset = start + size};
	t.at = (const char *)p + start;
	t.end = t.at + size;
	int r = parse_dictionary(&t, ret);
	if (r == 0)
		r = count(&t, ret);
	*ret_why = t.why;
	return r;
}
