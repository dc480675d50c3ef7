/* SPDX-License-Identifier: MIT */
/* Reads what an archive of torch says of itself: its version, and the order of its bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/util.h"
#include "codec/container/records.h"

#define MIN_VERSION 1
#define MAX_VERSION 10

/* The start of a small record as text. */
static int read_text(const struct wf_container *c, uint32_t i, char *buf, size_t size, struct wf_error *err)
{
	cleanup_with(wf_source_unrefp) struct wf_source *s = NULL;
	int r = wf_container_open_record(c, i, &s, err);
	if (r < 0)
		return r;
	size_t n = (size_t)WF_MIN(wf_source_size(s), (uint64_t)size - 1);
	r = wf_source_read(s, 0, buf, n);
	if (r < 0)
		return wf_fail_at(err, r, c->records[i].name, 0, "cannot read the record: %s", strerror(-r));
	buf[n] = '\0';
	return 0;
}

/* As torch does: the number at the start counts, whatever follows. */
static int check_version(const struct wf_container *c, struct wf_error *err)
{
	char text[64], *end;
	uint32_t i = wf_container_find(c, ".data/version");
	if (i == WF_NO_RECORD)
		i = wf_container_find(c, "version");
	if (i == WF_NO_RECORD)
		return wf_fail(err, -EUCLEAN, "it has no record \"version\", without which PyTorch refuses an archive");
	int r = read_text(c, i, text, sizeof text, err);
	if (r < 0)
		return r;
	errno = 0;
	unsigned long long version = strtoull(text, &end, 10);
	if (end == text || errno != 0)
		return wf_fail_at(err, -EUCLEAN, c->records[i].name, 0, "the record does not start with a number");
	if (version < MIN_VERSION || version > MAX_VERSION)
		return wf_fail_at(err, -EOPNOTSUPP, c->records[i].name, 0, "archive version %llu; %d to %d are known",
				  version, MIN_VERSION, MAX_VERSION);
	return 0;
}

static int check_byteorder(struct wf_container *c, struct wf_error *err)
{
	char text[8];
	uint32_t i = wf_container_find(c, "byteorder");
	if (i == WF_NO_RECORD)
		return 0;
	int r = read_text(c, i, text, sizeof text, err);
	if (r < 0)
		return r;
	if (strcmp(text, "little") != 0 && strcmp(text, "big") != 0)
		return wf_fail_at(err, -EUCLEAN, "byteorder", 0, "\"%s\" is neither \"little\" nor \"big\"", text);
	c->big_endian = text[0] == 'b';
	return 0;
}

int wf_zip_check_marks(struct wf_container *c, struct wf_error *err)
{
	int r = check_version(c, err);
	return r < 0 ? r : check_byteorder(c, err);
}
