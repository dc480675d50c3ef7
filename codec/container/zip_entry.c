/* SPDX-License-Identifier: MIT */
/* Parses the entries of a zip archive's directory.
 *
 *   0   "PK\1\2"       10  method       24  size             34  disk
 *   4   made by        12  time, date   28  name length      36  internal (u16), external (u32) attributes
 *   6   needed         16  crc          30  extra length     42  offset of the local header
 *   8   flags          20  stored       32  comment length   46  name, extra fields, comment
 *
 *   extra field  u16 id, u16 length, bytes. Id 1, ZIP64: u64 for each of size, stored and offset, in this order, that is
 *                2^32 - 1 above, and for no other
 */
#include "codec/container/zip_entry.h"

#include <errno.h>

/* Replaces the 32-bit fields that overflow by those of the ZIP64 field. */
static bool widen(struct wf_zip_entry *e, const unsigned char *extra, size_t len)
{
	uint64_t *const fields[] = {&e->size_bytes, &e->stored_bytes, &e->header_offset};
	if (e->size_bytes != UINT32_MAX && e->stored_bytes != UINT32_MAX && e->header_offset != UINT32_MAX)
		return true;
	while (len >= 4) {
		size_t n = wf_le16(extra + 2);
		if (n > len - 4)
			return false;
		if (wf_le16(extra) != 1) {
			extra += 4 + n;
			len -= 4 + n;
			continue;
		}
		const unsigned char *p = extra + 4;
		for (size_t i = 0; i < WF_ARRAY_SIZE(fields); i++) {
			if (*fields[i] != UINT32_MAX)
				continue;
			if (n < 8)
				return false;
			*fields[i] = wf_le64(p);
			p += 8;
			n -= 8;
		}
		return true;
	}
	/* No such field: then the size may truly be 2^32 - 1, which torch's reader allows. An offset may not. */
	return e->header_offset != UINT32_MAX;
}

int wf_zip_entry_read(struct wf_cursor *c, struct wf_zip_entry *ret)
{
	unsigned char fixed[WF_ZIP_ENTRY_BYTES];
	wf_cursor_copy(c, fixed, sizeof fixed);
	if (!c->ok || wf_le32(fixed) != 0x02014b50)
		return c->ok ? -EUCLEAN : c->error;
	size_t name_len = wf_le16(fixed + 28), extra_len = wf_le16(fixed + 30), comment_len = wf_le16(fixed + 32);
	_Static_assert(3 * UINT16_MAX <= WF_CURSOR_WINDOW, "the longest entry fits the window");
	const char *name = wf_cursor_view(c, name_len + extra_len + comment_len);
	if (!name)
		return c->error;
	*ret = (struct wf_zip_entry){
		.name = name,
		.name_len = (uint16_t)name_len,
		.made_by = wf_le16(fixed + 4),
		.needed = wf_le16(fixed + 6),
		.flags = wf_le16(fixed + 8),
		.method = wf_le16(fixed + 10),
		.time = wf_le16(fixed + 12),
		.date = wf_le16(fixed + 14),
		.crc32 = wf_le32(fixed + 16),
		.stored_bytes = wf_le32(fixed + 20),
		.size_bytes = wf_le32(fixed + 24),
		.disk = wf_le16(fixed + 34),
		.internal = wf_le16(fixed + 36),
		.external = wf_le32(fixed + 38),
		.header_offset = wf_le32(fixed + 42),
	};
	ret->broken_zip64 = !widen(ret, (const unsigned char *)name + name_len, extra_len);
	return 0;
}

size_t wf_zip_entry_parse(struct wf_zip_entry *e, const unsigned char *p, size_t len)
{
	struct wf_cursor c;
	wf_cursor_init_memory(&c, p, len);
	return wf_zip_entry_read(&c, e) == 0 && !e->broken_zip64 ? (size_t)c.pos : 0;
}
