/* SPDX-License-Identifier: MIT */
/* Reads the headers of a tar archive.
 *
 *   member   header (512), bytes, zeroes up to a multiple of 512
 *   header   0 name (100)   124 size (12)   148 checksum (8)   156 type   257 "ustar"   345 prefix (not used here)
 *   number   octal digits; or GNU's: 0x80, then big endian
 *   types    '0', NUL, '7' a file; 'x' PAX lines "LENGTH KEY=VALUE\n" about the next member
 *            'g', 'L', 'K' other extensions
 */
#include "codec/container/tar_members.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/bytes/util.h"

#define BLOCK_BYTES 512u
#define MAX_MEMBERS 1024u
#define MAX_PAX_BYTES (64u << 10)

static bool octal(const unsigned char *p, size_t len, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;
	if (p[0] == 0x80) { /* GNU: big endian, for what octal cannot hold */
		for (i = 1; i < len; i++) {
			if (v >> 56)
				return false;
			v = v << 8 | p[i];
		}
		*ret = v;
		return true;
	}
	while (i < len && p[i] == ' ')
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (p[i] - '0'); /* 12 digits at most */
	*ret = v;
	return i == len || p[i] == ' ' || p[i] == '\0';
}

static bool is_header(const unsigned char *block)
{
	uint64_t want;
	uint32_t sum = 0;
	int32_t signed_sum = 0; /* as some old programs have it */
	if (block[0] == '\0' || !octal(block + 148, 8, &want))
		return false;
	for (size_t i = 0; i < BLOCK_BYTES; i++) {
		unsigned char b = i >= 148 && i < 156 ? ' ' : block[i];
		sum += b;
		signed_sum += (signed char)b;
	}
	return want == sum || (int64_t)want == signed_sum;
}

/* Lines "LENGTH KEY=VALUE\n"; LENGTH counts the whole line. Unknown ones are passed over, broken ones end it. */
static void read_pax(const char *p, size_t len, struct wf_tar_pax *pax)
{
	while (len > 0) {
		size_t n = 0, digits = 0;
		for (; digits < len && digits < 6 && p[digits] >= '0' && p[digits] <= '9'; digits++)
			n = n * 10 + (size_t)(p[digits] - '0');
		if (digits == 0 || n <= digits + 1 || n > len || p[digits] != ' ' || p[n - 1] != '\n')
			return;
		const char *key = p + digits + 1, *end = p + n - 1;
		size_t left = (size_t)(end - key);
		if (left > 5 && memcmp(key, "size=", 5) == 0) {
			char text[24];
			snprintf(text, sizeof text, "%.*s", (int)WF_MIN(left - 5, sizeof text - 1), key + 5);
			pax->size_bytes = strtoull(text, NULL, 10);
			pax->has_size = true;
		} else if (left > 5 && memcmp(key, "path=", 5) == 0) {
			snprintf(pax->path, sizeof pax->path, "%.*s", (int)WF_MIN(left - 5, sizeof pax->path - 1),
				 key + 5);
			pax->has_path = true;
		}
		p += n;
		len -= n;
	}
}

static int read_pax_member(struct wf_source *file, uint64_t offset, uint64_t size, struct wf_tar_pax *ret)
{
	if (size > MAX_PAX_BYTES)
		return -E2BIG;
	cleanup_free char *text = malloc((size_t)size + 1);
	if (!text)
		return -ENOMEM;
	int r = wf_source_read(file, offset, text, (size_t)size);
	if (r == 0)
		read_pax(text, (size_t)size, ret);
	return r;
}

int wf_tar_begins(struct wf_source *file, struct wf_error *err)
{
	unsigned char block[BLOCK_BYTES];
	if (wf_source_size(file) < sizeof block)
		return 0;
	int r = wf_source_read(file, 0, block, sizeof block);
	if (r < 0)
		return wf_fail(err, r, "cannot read the file: %s", strerror(-r));
	return is_header(block);
}

/* One header. Returns its type, 0 where there is none; *ret: what it is of. */
static int read_header(struct wf_tar_reader *t, struct wf_tar_member *ret, struct wf_error *err)
{
	unsigned char block[BLOCK_BYTES];
	uint64_t end = wf_source_size(t->file), size = 0;
	if (t->headers++ == MAX_MEMBERS || end - t->at < BLOCK_BYTES)
		return 0;
	int r = wf_source_read(t->file, t->at, block, sizeof block);
	if (r < 0)
		return wf_fail_at(err, r, NULL, t->at, "cannot read the file: %s", strerror(-r));
	if (!is_header(block) || !octal(block + 124, 12, &size))
		return 0;
	snprintf(ret->name, sizeof ret->name, "%.100s", t->pax.has_path ? t->pax.path : (const char *)block);
	int type = block[156] ? block[156] : '0';
	if (t->pax.has_size && !strchr("xgLK", type))
		size = t->pax.size_bytes;
	t->at += BLOCK_BYTES;
	if (size > end - t->at)
		return wf_fail_at(err, -EUCLEAN, ret->name, WF_ERROR_NO_OFFSET,
				  "truncated or incomplete: %" PRIu64 " bytes at %" PRIu64
				  ", but the file ends at %" PRIu64,
				  size, t->at, end);
	ret->offset = t->at;
	ret->size_bytes = size;
	t->at = WF_MIN(end, t->at + (size + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES);
	return type;
}

int wf_tar_next(struct wf_tar_reader *t, struct wf_tar_member *ret, struct wf_error *err)
{
	int type;
	while ((type = read_header(t, ret, err)) > 0) {
		if (type == 'x') {
			int r = read_pax_member(t->file, ret->offset, ret->size_bytes, &t->pax);
			if (r < 0)
				return wf_fail_at(err, r, NULL, ret->offset, "cannot read a header of the tar: %s",
						  strerror(-r));
		} else if (!strchr("gLK", type)) {
			t->pax = (struct wf_tar_pax){0};
			if (type == '0' || type == '7')
				return 1;
		}
	}
	return type;
}
