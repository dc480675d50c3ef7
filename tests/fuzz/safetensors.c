/* SPDX-License-Identifier: MIT */
/* The header of a safetensors file: what is read is written again by the writer of such headers, and reads as the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/container/safetensors_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_header(const void *data, size_t size, struct wf_safetensors_header *h)
{
	struct wf_source *s = NULL;
	struct wf_error err = {0};
	*h = (struct wf_safetensors_header){0};
	if (wf_source_from_memory((void *)(uintptr_t)data, size, false, &s) < 0)
		return -1;
	int r = wf_safetensors_header_read(s, h, &err);
	if (r < 0 && (err.code != r || err.text[0] == '\0'))
		abort(); /* every refusal has a reason that a person can read */
	wf_source_unref(s);
	return r;
}

static void fill(const struct wf_safetensors_header *h, struct wf_safetensors_item *items,
		 struct wf_safetensors_note *notes)
{
	for (uint32_t i = 0; i < h->tensor_count; i++) {
		const struct wf_safetensors_tensor *t = &h->tensors[i];
		items[i] = (struct wf_safetensors_item){.name = h->text.data + t->name,
							.name_len = t->name_len,
							.dtype = t->dtype,
							.shape = h->sizes + t->shape,
							.ndim = t->ndim,
							.size_bytes = t->end - t->begin,
							.id = i};
	}
	for (uint32_t i = 0; i < h->pair_count; i++) {
		const struct wf_safetensors_pair *p = &h->pairs[i];
		notes[i] = (struct wf_safetensors_note){h->text.data + p->key, h->text.data + p->value, p->key_len,
							p->value_len};
	}
}

static void check_same(const struct wf_safetensors_header *a, const struct wf_safetensors_header *b)
{
	if (a->tensor_count != b->tensor_count || a->pair_count != b->pair_count)
		abort();
	for (uint32_t i = 0; i < a->tensor_count; i++) {
		const struct wf_safetensors_tensor *x = &a->tensors[i], *y = &b->tensors[i];
		if (x->name_len != y->name_len || x->dtype != y->dtype || x->ndim != y->ndim ||
		    x->end - x->begin != y->end - y->begin ||
		    memcmp(a->text.data + x->name, b->text.data + y->name, x->name_len) != 0 ||
		    (x->ndim && memcmp(a->sizes + x->shape, b->sizes + y->shape, x->ndim * sizeof *a->sizes) != 0))
			abort();
	}
}

/* As a commit does it: in the order found, each tensor aligned. */
static void write_again(const struct wf_safetensors_header *h)
{
	struct wf_safetensors_header again;
	struct wf_buffer head = WF_BUFFER_INIT;
	struct wf_safetensors_item *items = calloc((size_t)h->tensor_count + 1, sizeof *items);
	struct wf_safetensors_note *notes = calloc((size_t)h->pair_count + 1, sizeof *notes);
	uint64_t bytes = 0;
	if (items && notes) {
		fill(h, items, notes);
		if (wf_safetensors_align(items, h->tensor_count, &bytes) < 0 ||
		    wf_safetensors_head(items, h->tensor_count, h->has_metadata ? notes : NULL, h->pair_count, &head) <
			    0)
			abort();
		char *file = calloc(1, head.len + (size_t)bytes); /* the input had these bytes */
		if (file) {
			memcpy(file, head.data, head.len);
			if (read_header(file, head.len + (size_t)bytes, &again) < 0)
				abort();
			check_same(h, &again);
			wf_safetensors_header_free(&again);
		}
		free(file);
	}
	wf_buffer_free(&head);
	free(items);
	free(notes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wf_safetensors_header h;
	/* an input is the JSON, and zeroes enough for the data: a length before it would nearly always be wrong */
	size_t room = size + 256;
	uint64_t n = size;
	char *file = calloc(1, 8 + room);
	if (!file)
		return 0;
	memcpy(file, &n, sizeof n);
	if (size)
		memcpy(file + 8, data, size);
	for (size_t more = 0; more <= 256; more += 8) {
		if (read_header(file, 8 + size + more, &h) == 0)
			write_again(&h);
		wf_safetensors_header_free(&h);
	}
	free(file);
	return 0;
}
