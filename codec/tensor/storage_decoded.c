/* SPDX-License-Identifier: MIT */
/* Bytes that do not stand in the file as they are: deflated records, and the text that protocol 2 makes of bytes
 * (_codecs.encode(str, 'latin1'): each byte is one character, and those from 0x80 on take two bytes of UTF-8).
 *
 * A deflated record is inflated whole into host memory, up to WF_STORAGE_CACHE_MAX for all together; one that is larger
 * is read through its stream. Text is never copied: a table says where each step of it starts, so that any range costs
 * at most one step more than itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tensor/storage_inner.h"
#include "codec/bytes/util.h"

#define TEXT_STEP (64u << 10) /* bytes of the array from one entry of the table to the next */
#define MAX_DECODED 256u      /* records and texts held; a stream costs some 50 KiB, and they are searched one by one */
#define INFLATE_CHUNK (1u << 18)

/* ---- text ---- */

/* Goes through the UTF-8 of a text from any character on. */
struct encoded_text {
	const struct wf_graph *g;
	wf_ref str;
	uint64_t at, end; /* in the UTF-8 */
	size_t have, next;
	unsigned char chunk[4096];
};

/* The next byte that the text stands for; -ENODATA at its end, -EUCLEAN for a character above 0xff. */
static int next_byte(struct encoded_text *t)
{
	unsigned char c[2];

	for (int k = 0; k < 2; k++) {
		if (t->next == t->have) {
			if (t->at == t->end)
				return k ? -EUCLEAN : -ENODATA;
			t->next = 0;
			t->have = WF_MIN(sizeof t->chunk, t->end - t->at);
			int r = wf_string_read(t->g, t->str, t->at, t->chunk, t->have);
			if (r < 0)
				return r;
			t->at += t->have;
		}
		c[k] = t->chunk[t->next++];
		if (k == 0 && c[0] < 0x80)
			return c[0];
	}
	if ((c[0] != 0xc2 && c[0] != 0xc3) || (c[1] & 0xc0) != 0x80)
		return -EUCLEAN;
	return (c[0] & 3) << 6 | (c[1] & 0x3f);
}

static void text_init(struct encoded_text *t, const struct wf_graph *g, wf_ref str, uint64_t at)
{
	t->g = g;
	t->str = str;
	t->at = at;
	t->end = wf_string_size(g, str);
	t->have = t->next = 0;
}

int wf_storage_measure_text(const struct wf_graph *g, wf_ref str, uint64_t *ret_bytes)
{
	struct encoded_text t;
	uint64_t n = 0;
	int c;

	text_init(&t, g, str, 0);
	while ((c = next_byte(&t)) >= 0)
		n++;
	if (c != -ENODATA)
		return c;
	*ret_bytes = n;
	return 0;
}

int wf_storage_text_head(const struct wf_graph *g, wf_ref str, unsigned char *buf, size_t max, size_t *ret_len)
{
	struct encoded_text t;
	size_t n = 0;

	text_init(&t, g, str, 0);
	while (n < max) {
		int c = next_byte(&t);
		if (c < 0 && c != -ENODATA)
			return c;
		if (c < 0)
			break;
		buf[n++] = (unsigned char)c;
	}
	*ret_len = n;
	return 0;
}

static int find_steps(const struct wf_graph *g, wf_ref str, uint64_t size_bytes, uint64_t **ret)
{
	cleanup_free uint64_t *steps = calloc(size_bytes / TEXT_STEP + 1, sizeof *steps);
	struct encoded_text t;

	if (!steps)
		return -ENOMEM;
	text_init(&t, g, str, 0);
	for (uint64_t i = 0; i < size_bytes; i++) {
		if (i % TEXT_STEP == 0)
			steps[i / TEXT_STEP] = t.at - (t.have - t.next);
		int c = next_byte(&t);
		if (c < 0)
			return c == -ENODATA ? -EUCLEAN : c;
	}
	*ret = steal_pointer(&steps);
	return 0;
}

static int read_text(const struct wf_graph *g, wf_ref str, const uint64_t *steps, uint64_t offset, unsigned char *buf,
		     size_t len)
{
	struct encoded_text t;
	uint64_t skip = offset % TEXT_STEP;

	text_init(&t, g, str, steps[offset / TEXT_STEP]);
	for (uint64_t i = 0; i < skip + len; i++) {
		int c = next_byte(&t);
		if (c < 0)
			return c == -ENODATA ? -EUCLEAN : c;
		if (i >= skip)
			buf[i - skip] = (unsigned char)c;
	}
	return 0;
}

/* ---- what is held ---- */

static void release_parts(struct wf_storages *ss, struct wf_decoded *d)
{
	ss->host->ops->free(ss->host, &d->memory);
	wf_source_unref(d->stream);
	free(d->steps);
}

static void drop(struct wf_storages *ss, uint32_t k)
{
	ss->decoded_bytes -= ss->decoded[k].memory.size_bytes;
	release_parts(ss, &ss->decoded[k]);
	ss->decoded[k] = ss->decoded[--ss->decoded_count];
}

void wf_storages_forget_decoded(struct wf_storages *ss)
{
	pthread_mutex_lock(&ss->cache_lock);
	while (ss->decoded_count > 0)
		drop(ss, ss->decoded_count - 1);
	pthread_mutex_unlock(&ss->cache_lock);
}

/* Drops the one unused for longest; false when all are being read. memory: only one that holds memory helps. */
static bool drop_oldest(struct wf_storages *ss, bool memory)
{
	uint32_t oldest = UINT32_MAX;

	for (uint32_t k = 0; k < ss->decoded_count; k++) {
		const struct wf_decoded *d = &ss->decoded[k];
		if (!d->readers && (!memory || d->memory.size_bytes) &&
		    (oldest == UINT32_MAX || d->used < ss->decoded[oldest].used))
			oldest = k;
	}
	if (oldest == UINT32_MAX)
		return false;
	drop(ss, oldest);
	return true;
}

/* Whether `bytes` more may be held, after dropping what is in their way. */
static bool make_room(struct wf_storages *ss, uint64_t bytes)
{
	if (bytes > ss->decoded_max_bytes)
		return false;
	while (ss->decoded_bytes > ss->decoded_max_bytes - bytes)
		if (!drop_oldest(ss, true))
			return false;
	return true;
}

static int inflate_into(const struct wf_storages *ss, struct wf_source *stream, struct dev_memory *memory)
{
	cleanup_free unsigned char *chunk = malloc(INFLATE_CHUNK);

	if (!chunk)
		return -ENOMEM;
	for (uint64_t at = 0; at < memory->size_bytes; at += INFLATE_CHUNK) {
		size_t n = WF_MIN((uint64_t)INFLATE_CHUNK, memory->size_bytes - at);
		int r = wf_source_read(stream, at, chunk, n);
		if (r == 0)
			r = ss->host->ops->copy_in(ss->host, memory, at, chunk, n);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode(struct wf_storages *ss, uint32_t i, struct wf_decoded *d)
{
	const struct wf_storage *s = &ss->all[i];

	if (s->inside) {
		uint32_t skip;
		wf_ref data = wf_storage_data(ss, i, &skip);
		return find_steps(ss->graph, data, skip + s->base_bytes, &d->steps);
	}
	/* the whole record, also where the storage was cut since: an element that the cut goes through is swapped whole
	 */
	uint64_t bytes = wf_container_record(ss->container, s->record)->size_bytes;
	int r = wf_container_open_record(ss->container, s->record, &d->stream, NULL);
	if (r < 0 || !make_room(ss, bytes) || ss->host->ops->alloc(ss->host, bytes, &d->memory) < 0)
		return r;
	r = inflate_into(ss, d->stream, &d->memory);
	wf_source_unref(d->stream);
	d->stream = NULL;
	return r;
}

/* Finds or makes the decoded form of storage i, held until let_go. */
static int hold(struct wf_storages *ss, uint32_t i, struct wf_decoded *ret)
{
	struct wf_decoded d = {.storage = i};
	uint32_t k = 0;

	while (k < ss->decoded_count && ss->decoded[k].storage != i)
		k++;
	if (k == ss->decoded_count) {
		int r = decode(ss, i, &d);
		if (r == 0 && ss->decoded_count >= MAX_DECODED)
			drop_oldest(ss, false);
		struct wf_decoded *all = r == 0 ? reallocarray(ss->decoded, ss->decoded_count + 1, sizeof *all) : NULL;
		if (!all) {
			release_parts(ss, &d);
			return r < 0 ? r : -ENOMEM;
		}
		ss->decoded = all;
		k = ss->decoded_count++; /* decoding may have dropped others */
		ss->decoded[k] = d;
		ss->decoded_bytes += d.memory.size_bytes;
	}
	ss->decoded[k].used = ++ss->clock;
	ss->decoded[k].readers++;
	*ret = ss->decoded[k];
	return 0;
}

static void let_go(struct wf_storages *ss, uint32_t i)
{
	pthread_mutex_lock(&ss->cache_lock);
	for (uint32_t k = 0; k < ss->decoded_count; k++)
		if (ss->decoded[k].storage == i)
			ss->decoded[k].readers--;
	pthread_mutex_unlock(&ss->cache_lock);
}

int wf_storage_read_decoded(struct wf_storages *ss, uint32_t i, uint64_t offset, void *buf, size_t len)
{
	const struct wf_storage *s = &ss->all[i];
	struct wf_decoded d;
	uint32_t skip;
	wf_ref data = wf_storage_data(ss, i, &skip);

	/* shorter than a step: no table needed, and there may be a hundred thousand of them */
	if (s->inside && offset + len <= TEXT_STEP)
		return read_text(ss->graph, data, &(uint64_t){0}, offset, buf, len);
	pthread_mutex_lock(&ss->cache_lock);
	int r = hold(ss, i, &d);
	pthread_mutex_unlock(&ss->cache_lock);
	if (r < 0)
		return r;
	if (d.steps)
		r = read_text(ss->graph, data, d.steps, offset, buf, len);
	else if (d.stream)
		r = wf_source_read(d.stream, offset, buf, len);
	else
		r = ss->host->ops->copy_out(ss->host, &d.memory, offset, buf, len);
	let_go(ss, i);
	return r;
}
