/* SPDX-License-Identifier: MIT */
/* Reads the fields of a structured dtype, and writes its elements. */
#include "fs/wfctl/array_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/wfctl/array_elements.h"

#define DEPTH_MAX 8 /* records in records */
#define DIMENSIONS_MAX 8
#define DATA_MAX (64u << 20)

struct field {
	struct wfctl_dtype dtype;
	char *descr;                  /* that dtype is made of */
	struct wfctl_record *record;  /* instead of elements */
	struct wfctl_elements values; /* of all records, one after the other */
	unsigned char *data;
	size_t shape[DIMENSIONS_MAX], each; /* each: how many values one record has */
	int ndim;
};

struct wfctl_record {
	struct field *fields;
	size_t count;
};

/* ---- the descr ---- */

struct field_reading {
	const char *at;
	const unsigned char *data;
	size_t count, bytes, offset; /* of records; offset: of the field */
	int depth;
};

static bool take(struct field_reading *in, char c)
{
	in->at += strspn(in->at, " ");
	if (*in->at != c)
		return false;
	in->at++;
	return true;
}

/* A Python string as repr() has it; *ret borrowed from the text, escapes and all. */
static bool take_string(struct field_reading *in, const char **ret, size_t *ret_len)
{
	in->at += strspn(in->at, " ");
	char quote = *in->at;
	if (quote != '\'' && quote != '"')
		return false;
	const char *start = ++in->at;
	for (; *in->at && *in->at != quote; in->at++)
		in->at += *in->at == '\\' && in->at[1];
	*ret = start;
	*ret_len = (size_t)(in->at - start);
	return take(in, quote);
}

/* (2, 2) */
static bool take_shape(struct field_reading *in, struct field *f)
{
	char *end;
	while (!take(in, ')')) {
		if (f->ndim == DIMENSIONS_MAX)
			return false;
		f->shape[f->ndim] = strtoull(in->at, &end, 10);
		if (end == in->at || __builtin_mul_overflow(f->each, f->shape[f->ndim], &f->each))
			return false;
		f->ndim++;
		in->at = end;
		take(in, ',');
	}
	return true;
}

/* The values of one field, of all records, `each * size` bytes of each. */
static int collect(struct field_reading *in, struct field *f, size_t size)
{
	size_t run, total;
	if (__builtin_mul_overflow(f->each, size, &run) || run > in->bytes - in->offset ||
	    __builtin_mul_overflow(run, in->count, &total) || total > DATA_MAX)
		return -EOPNOTSUPP;
	f->data = malloc(total + 1);
	if (!f->data)
		return -ENOMEM;
	for (size_t i = 0; i < in->count; i++)
		memcpy(f->data + i * run, in->data + i * in->bytes + in->offset, run);
	in->offset += run;
	return 0;
}

static int read_fields(struct field_reading *in, struct wfctl_record *r);

/* How many bytes the fields of a list have: what is read of them without data. */
static int size_of(struct field_reading *in, size_t *ret)
{
	struct wfctl_record none = {0}, *r = &none;
	struct field_reading look = {.at = in->at, .bytes = in->bytes - in->offset, .depth = in->depth + 1};
	int failed = read_fields(&look, r);
	*ret = look.offset;
	in->at = look.at;
	for (size_t i = 0; i < none.count; i++) {
		free(none.fields[i].descr);
		free(none.fields[i].data);
		wfctl_record_free(none.fields[i].record);
	}
	free(none.fields);
	return failed;
}

static int read_inner(struct field_reading *in, struct field *f)
{
	const char *list = in->at;
	size_t size;
	int r = in->depth == DEPTH_MAX ? -EOPNOTSUPP : size_of(in, &size);
	if (r == 0 && take(in, ',') && !(take(in, '(') && take_shape(in, f)))
		r = -EOPNOTSUPP;
	if (r == 0)
		r = collect(in, f, size);
	if (r == 0 && !(f->record = calloc(1, sizeof *f->record)))
		r = -ENOMEM;
	struct field_reading inner = {
		.at = list, .data = f->data, .count = in->count * f->each, .bytes = size, .depth = in->depth + 1};
	return r < 0 ? r : read_fields(&inner, f->record);
}

static int read_plain(struct field_reading *in, struct field *f)
{
	const char *text;
	size_t len;
	if (!take_string(in, &text, &len) || !(f->descr = strndup(text, len)))
		return -EOPNOTSUPP;
	char little[8] = "";
	if (f->descr[0] == '>' && len < sizeof little) {
		memcpy(little, f->descr, len);
		little[0] = '<';
	}
	const struct wfctl_dtype *known = wfctl_dtype_of_descr(f->descr[0] == '>' ? little : f->descr);
	if (known)
		f->dtype = *known, f->dtype.swapped = f->descr[0] == '>';
	else if (!wfctl_dtype_make(f->descr, 0, &f->dtype) || f->dtype.kind == WFCTL_RECORD)
		return -EOPNOTSUPP;
	if (take(in, ',') && !(take(in, '(') && take_shape(in, f)))
		return -EOPNOTSUPP;
	int r = collect(in, f, f->dtype.bytes);
	if (r == 0)
		wfctl_elements_init(&f->dtype, f->data, in->count * f->each, &f->values);
	return r;
}

/* ('name', ...) or (('title', 'name'), ...). A field without a name is a gap. */
static int read_field(struct field_reading *in, struct wfctl_record *r)
{
	const char *name;
	size_t len;
	bool titled = take(in, '(');
	bool named = take_string(in, &name, &len) &&
		     (!titled || (take(in, ',') && take_string(in, &name, &len) && take(in, ')')));
	if (!named || !take(in, ','))
		return -EOPNOTSUPP;
	struct field *more = reallocarray(r->fields, r->count + 1, sizeof *more), *f;
	if (!more)
		return -ENOMEM;
	r->fields = more;
	f = &r->fields[r->count++];
	*f = (struct field){.each = 1};
	int failed = take(in, '[') ? read_inner(in, f) : read_plain(in, f);
	if (failed == 0 && len == 0) {
		free(f->descr);
		free(f->data);
		r->count--;
	}
	return failed < 0 ? failed : take(in, ')') ? 0 : -EOPNOTSUPP;
}

/* Behind the bracket that opens them. */
static int read_fields(struct field_reading *in, struct wfctl_record *r)
{
	int failed = 0;
	while (failed == 0 && !take(in, ']')) {
		failed = take(in, '(') ? read_field(in, r) : -EOPNOTSUPP;
		take(in, ',');
	}
	for (size_t i = 0; i < r->count; i++) /* they may have moved */
		r->fields[i].values.dtype = &r->fields[i].dtype;
	return failed;
}

int wfctl_record_new(const char *descr, const void *data, size_t count, size_t bytes, struct wfctl_record **ret)
{
	struct field_reading in = {.at = descr + 1, .data = data, .count = count, .bytes = bytes};
	struct wfctl_record *r = calloc(1, sizeof *r);
	int failed = !r ? -ENOMEM : descr[0] == '[' ? read_fields(&in, r) : -EOPNOTSUPP;
	if (failed == 0)
		*ret = r;
	else
		wfctl_record_free(r);
	return failed;
}

void wfctl_record_free(struct wfctl_record *r)
{
	for (size_t i = 0; r && i < r->count; i++) {
		wfctl_record_free(r->fields[i].record);
		free(r->fields[i].descr);
		free(r->fields[i].data);
	}
	if (r)
		free(r->fields);
	free(r);
}

/* ---- one of them ---- */

static void put_value(const struct field *f, size_t i, enum wfctl_record_form form, struct wf_buffer *out)
{
	bool python = form != WFCTL_RECORD_IN_ARRAY && f->dtype.kind == WFCTL_FLOAT;
	python |= form == WFCTL_RECORD_ALONE && f->ndim == 0 && f->dtype.kind <= WFCTL_UINT;
	if (f->record)
		wfctl_record_put(f->record, i, form == WFCTL_RECORD_ALONE && f->ndim > 0 ? WFCTL_RECORD_LISTED : form,
				 out);
	else if (python)
		wfctl_element_put_scalar(&f->values, i, out);
	else
		wfctl_element_put(&f->values, i, out);
}

/* A field of several dimensions: brackets in one line. first: of its values. */
static void put_values(const struct field *f, int d, size_t first, size_t count, enum wfctl_record_form form,
		       struct wf_buffer *out)
{
	size_t inner = d < f->ndim && f->shape[d] ? count / f->shape[d] : 0;
	if (d == f->ndim) {
		put_value(f, first, form, out);
		return;
	}
	wf_buffer_putc(out, '[');
	for (size_t i = 0; i < f->shape[d]; i++) {
		wf_buffer_puts(out, i > 0 ? ", " : "");
		put_values(f, d + 1, first + i * inner, inner, form, out);
	}
	wf_buffer_putc(out, ']');
}

void wfctl_record_put(const struct wfctl_record *r, size_t i, enum wfctl_record_form form, struct wf_buffer *out)
{
	wf_buffer_putc(out, '(');
	for (size_t k = 0; k < r->count; k++) {
		const struct field *f = &r->fields[k];
		wf_buffer_puts(out, k > 0 ? ", " : "");
		put_values(f, 0, i * f->each, f->each, form, out);
	}
	wf_buffer_puts(out, r->count == 1 ? ",)" : ")");
}
