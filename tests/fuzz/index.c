/* SPDX-License-Identifier: MIT */
/* The index of a Hugging Face checkpoint: what is read is written as a commit does it, and reads as the same. */
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/json.h"
#include "codec/directory/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_index(const void *data, size_t size, struct wf_members *m, struct wf_index *x)
{
	struct wf_source *s = NULL;
	struct wf_error err = {0};
	*x = (struct wf_index){0};
	if (wf_source_from_memory((void *)(uintptr_t)data, size, false, &s) < 0)
		return -1;
	int r = wf_index_read(s, m, x, &err);
	if (r < 0 && (err.code != r || err.text[0] == '\0'))
		abort(); /* every refusal has a reason that a person can read */
	wf_source_unref(s);
	return r;
}

static const char *file_of(const struct wf_members *m, const struct wf_key *k)
{
	const char *name = k->value <= UINT32_MAX ? wf_members_name(m, (uint32_t)k->value) : NULL;
	if (!name || !*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		abort(); /* a file that is not in the directory */
	return name;
}

static void put(struct wf_buffer *out, const struct wf_buffer *members)
{
	if (members->len == 0)
		return;
	wf_buffer_append(out, members->data, members->len);
	wf_buffer_puts(out, ", ");
}

static void write_again(const struct wf_index *x, const struct wf_members *m, struct wf_buffer *out)
{
	wf_buffer_puts(out, "{\"metadata\": {");
	put(out, &x->metadata);
	put(out, &x->parameters);
	wf_buffer_printf(out, "\"total_size\": %" PRIu64 "}, ", x->total_size);
	put(out, &x->others);
	wf_buffer_puts(out, "\"weight_map\": {");
	for (uint32_t i = 0; i < x->keys.count; i++) {
		const char *file = file_of(m, &x->keys.keys[i]);
		wf_buffer_puts(out, i > 0 ? ", " : "");
		wf_json_string(out, x->keys.keys[i].bytes, x->keys.keys[i].len);
		wf_buffer_puts(out, ": ");
		wf_json_string(out, file, strlen(file));
	}
	wf_buffer_puts(out, "}}\n");
}

static bool same_text(const struct wf_buffer *a, const struct wf_buffer *b)
{
	return a->len == b->len && (a->len == 0 || !memcmp(a->data, b->data, a->len));
}

static void check_same(const struct wf_index *a, const struct wf_index *b)
{
	if (a->keys.count != b->keys.count || a->total_size != b->total_size ||
	    !same_text(&a->metadata, &b->metadata) || !same_text(&a->parameters, &b->parameters) ||
	    !same_text(&a->others, &b->others))
		abort();
	for (uint32_t i = 0; i < a->keys.count; i++) {
		const struct wf_key *x = &a->keys.keys[i], *y = &b->keys.keys[i];
		if (x->len != y->len || memcmp(x->bytes, y->bytes, x->len) != 0 || x->value != y->value)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wf_members *m = NULL;
	struct wf_index x, again;
	struct wf_error err = {0};
	if (wf_members_new("/", &m, &err) < 0)
		return 0;
	if (read_index(data, size, m, &x) == 0) {
		struct wf_buffer text = WF_BUFFER_INIT;
		write_again(&x, m, &text);
		if (wf_buffer_status(&text) == 0) {
			if (read_index(text.data, text.len, m, &again) < 0)
				abort();
			check_same(&x, &again);
			wf_index_free(&again);
		}
		wf_buffer_free(&text);
	}
	wf_index_free(&x);
	wf_members_unref(m);
	return 0;
}
