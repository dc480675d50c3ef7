/* SPDX-License-Identifier: MIT */
/* Structure, bounds and check sums of everything, read once from front to back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>
#include <zlib.h>

#include "codec/checkpoint.h"
#include "codec/edit/state.h"
#include "codec/bytes/util.h"

#define CHUNK (1u << 20)

struct verify {
	struct wf_checkpoint *ck;
	void (*problem)(void *ctx, bool fault, const char *line);
	void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	void *ctx;
	uint64_t done, total;
	uint32_t faults;
	uint32_t untold, bad_tensors; /* bad records of a directory, of which its tensors tell, and how many did */
	unsigned char *chunk;
};

static void report(struct verify *v, bool fault, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void report(struct verify *v, bool fault, const char *fmt, ...)
{
	char line[700];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	v->faults += fault;
	if (v->problem)
		v->problem(v->ctx, fault, line);
}

static bool is_zip(const struct wf_container *c)
{
	return wf_container_kind_of(c) == WF_CONTAINER_ZIP || wf_container_kind_of(c) == WF_CONTAINER_TORCHSCRIPT;
}

static int sum_record(struct verify *v, struct wf_source *source, const struct wf_record *record, uint32_t *ret_crc,
		      struct wf_error *err)
{
	uLong crc = crc32(0, NULL, 0);
	for (uint64_t at = 0; at < record->size_bytes; at += CHUNK) {
		size_t n = WF_MIN((uint64_t)CHUNK, record->size_bytes - at);
		int r = wf_source_read(source, at, v->chunk, n);
		const struct wf_container *c = v->ck->container;
		if (r < 0 && wf_container_why(c, (uint32_t)(record - wf_container_record(c, 0)), err) < 0)
			return r;
		if (r < 0)
			return wf_fail_at(err, r, record->name, at, "%s",
					  r == -EUCLEAN ? "the compressed data is broken or not of the size declared"
							: strerror(-r));
		crc = crc32(crc, v->chunk, (uInt)n);
		v->done += n;
		if (v->progress)
			v->progress(v->ctx, v->done, v->total);
	}
	*ret_crc = (uint32_t)crc;
	return 0;
}

static void check_record(struct verify *v, uint32_t i)
{
	const struct wf_container *c = v->ck->container;
	const struct wf_record *record = wf_container_record(c, i);
	struct wf_source *source = NULL;
	struct wf_error err = {0};
	char text[512];
	uint64_t at;
	uint32_t crc = 0;
	int r = wf_container_locate(c, i, &at, &err);
	if (r == 0)
		r = wf_container_open_record(c, i, &source, &err);
	if (r == 0)
		r = sum_record(v, source, record, &crc, &err);
	wf_source_unref(source);
	if (record->twice && wf_container_find(c, record->name) == i)
		report(v, true, "%s: two records have this name, and which one is read depends on the reader",
		       record->name);
	wf_error_where(&err, record->name);
	if (r < 0)
		report(v, true, "%s", wf_error_format(&err, text, sizeof text));
	else if ((is_zip(c) || record->has_crc) && record->crc32 == 0 && crc != 0)
		/* torch.serialization.set_crc32_options(False) and skip_data write this on purpose */
		report(v, false,
		       "%s: its CRC field is zero: written without check sums, so its bytes cannot be checked",
		       record->name);
	else if ((is_zip(c) || record->has_crc) && record->crc32 != crc)
		report(v, true, "%s: CRC is %08x, the directory says %08x", record->name, crc, record->crc32);
}

static int check_tensor(void *ctx, const struct wf_tensor_row *row)
{
	struct verify *v = ctx;
	v->bad_tensors += row->error != 0;
	if (row->error)
		report(v, true, "%s: %s", row->path, row->error_text);
	return 0;
}

/* libzip reads the archive by rules of its own: what it finds wrong may trip other tools, though torch reads it. */
static void second_opinion(struct verify *v)
{
	int code = 0;
	zip_t *z = zip_open(v->ck->path, ZIP_RDONLY | ZIP_CHECKCONS, &code);
	if (z) {
		zip_discard(z);
		return;
	}
	zip_error_t error;
	zip_error_init_with_code(&error, code);
	report(v, false, "libzip finds the archive inconsistent: %s", zip_error_strerror(&error));
	zip_error_fini(&error);
}

/* A file that is missing costs all its tensors: each has one line, with its key and the file. */
static bool is_told_later(const struct wf_container *c, uint32_t record)
{
	return wf_container_is_directory(c) && wf_container_record(c, record)->bad != 0;
}

int wf_verify(struct wf_checkpoint *ck, void (*problem)(void *ctx, bool fault, const char *line),
	      void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes), void *ctx)
{
	struct verify v = {.ck = ck, .problem = problem, .progress = progress, .ctx = ctx, .chunk = malloc(CHUNK)};
	if (!v.chunk)
		return -ENOMEM;
	pthread_rwlock_rdlock(&ck->lock);
	uint32_t n = wf_container_count(ck->container);
	for (uint32_t i = 0; i < n; i++)
		v.total += wf_container_record(ck->container, i)->size_bytes;
	for (uint32_t i = 0; i < n; i++)
		if (is_told_later(ck->container, i))
			v.untold++;
		else
			check_record(&v, i);
	for (uint32_t i = 0; i < wf_storages_count(ck->storages); i++) {
		const struct wf_storage *s = wf_storage_get(ck->storages, i);
		/* one without a record is of a pickle that broke off, or its tensors tell */
		bool told = s->record == WF_NO_RECORD ? wf_container_is_directory(ck->container)
						      : is_told_later(ck->container, s->record);
		if (s->bad && !told)
			report(&v, true, "storage %s: %s", wf_storage_key(ck->storages, i),
			       wf_storage_problem(ck->storages, i));
	}
	bool fault = false;
	const char *note = wf_container_note(ck->container, &fault);
	if (note)
		report(&v, fault, "%s", note);
	const struct wf_companion *companion;
	for (uint32_t i = 0; (companion = wf_container_companion(ck->container, i)); i++)
		if (companion->problem[0])
			report(&v, true, "%s", companion->problem);
	if (is_zip(ck->container))
		second_opinion(&v);
	pthread_rwlock_unlock(&ck->lock);
	wf_each_tensor(ck, check_tensor, &v);
	for (uint32_t i = 0; v.untold > v.bad_tensors && i < n; i++)
		if (is_told_later(ck->container, i))
			check_record(&v, i);
	free(v.chunk);
	return v.faults ? -EUCLEAN : 0;
}
