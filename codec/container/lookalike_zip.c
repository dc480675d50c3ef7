/* SPDX-License-Identifier: MIT */
/* What a zip archive is that is no checkpoint, by the names in its directory. */
#include "codec/container/lookalike.h"

#include <errno.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/container/zip_entry.h"

#define MAX_NAMES 10000u /* what tells stands early */

enum name_match { WHOLE, BASENAME, SUFFIX };

struct zip_marker {
	enum name_match match;
	const char *name;
	int code;
	const char *before, *after; /* of the record's name in the sentence */
};

#define CONTAINS(suffix)                                                              \
	{                                                                             \
		SUFFIX, suffix, -EMEDIUMTYPE, "this is a zip archive that contains ", \
			", not a checkpoint itself (unpack it first)"                 \
	}

/* In the order of what they tell: the first that any record fits is taken. */
static const struct zip_marker zip_markers[] = {
	{WHOLE, "MAR-INF/MANIFEST.json", -EMEDIUMTYPE, "this is a TorchServe model archive (",
	 " is there), not a checkpoint (unpack it; the checkpoint is inside)"},
	{BASENAME, "serialized_exported_program.json", -EOPNOTSUPP, "this is a torch.export program (",
	 " is there), which is not supported"},
	{BASENAME, "archive_format", -EOPNOTSUPP, "this is a torch.export archive (",
	 " is there), which is not supported"},
	{SUFFIX, ".data/extern_modules", -EOPNOTSUPP, "this is a torch.package archive (",
	 " is there), which is not supported"},
	{BASENAME, "model.json", -EOPNOTSUPP, "this is a TorchScript archive of PyTorch 1.0 (",
	 " is there), which is not supported"},
	{BASENAME, "model.weights.h5", -EMEDIUMTYPE, "this is a Keras model (", " is there), not a PyTorch checkpoint"},
	{SUFFIX, ".npy", -EMEDIUMTYPE, "this is a NumPy archive (.npz with ", "), not a PyTorch checkpoint"},
	CONTAINS(".pth"),
	CONTAINS(".pt"),
	CONTAINS(".ckpt"),
	CONTAINS(".pth.tar"),
	CONTAINS(".bin"),
	CONTAINS(".safetensors"),
	{WHOLE, "META-INF/MANIFEST.MF", -EMEDIUMTYPE, "this is a Java archive (", " is there), not a checkpoint"},
	{WHOLE, "[Content_Types].xml", -EMEDIUMTYPE, "this is an office document (", " is there), not a checkpoint"},
};

static bool marks(const struct zip_marker *m, const char *name, size_t len)
{
	size_t n = strlen(m->name);
	if (len < n || memcmp(name + len - n, m->name, n) != 0)
		return false;
	return len == n || m->match == SUFFIX || (m->match == BASENAME && name[len - n - 1] == '/');
}

int wf_lookalike_zip(struct wf_source *file, const struct wf_zip_directory *directory, struct wf_error *err)
{
	struct wf_cursor c;
	size_t best = WF_ARRAY_SIZE(zip_markers);
	char found[128] = "";
	if (wf_cursor_init_source(&c, file, directory->offset, directory->size_bytes) < 0)
		return 0;
	for (uint64_t i = 0; i < directory->entries && i < MAX_NAMES && best > 0; i++) {
		struct wf_zip_entry e;
		if (wf_zip_entry_read(&c, &e) < 0)
			break;
		for (size_t m = 0; m < best; m++)
			if (marks(&zip_markers[m], e.name, e.name_len)) {
				best = m;
				snprintf(found, sizeof found, "%.*s", (int)WF_MIN(e.name_len, sizeof found - 1),
					 e.name);
			}
	}
	wf_cursor_free(&c);
	if (best == WF_ARRAY_SIZE(zip_markers))
		return 0;
	const struct zip_marker *m = &zip_markers[best];
	return wf_fail(err, m->code, "%s%s%s", m->before, found, m->after);
}
