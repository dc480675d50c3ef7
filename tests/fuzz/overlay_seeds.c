/* SPDX-License-Identifier: MIT */
/* Makes inputs for the fuzz target `overlay` out of real overlays: edits of every kind at random places of a checkpoint, a commit in
 * between with something under a scratch name, the mark of a commit, a commit in place that was cut short. Usage: overlay-seeds OUT-DIRECTORY CHECKPOINT... */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "codec/bytes/buffer.h"
#include "codec/checkpoint.h"
#include "codec/overlay/overlay.h"
#include "overlay.h"

#define EDITS 40
#define SEEDS 6 /* of each checkpoint */
#define MAX_SEED_BYTES (200u << 10)

struct names {
	struct name {
		uint32_t dir, ino;
		enum wf_type type;
		char name[256];
	} all[512];
	unsigned int count;
	uint32_t dir;
};

static unsigned int state;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&state) % n;
}

static int note(void *ctx, const char *name, uint64_t next, const struct wf_stat *st)
{
	struct names *n = ctx;
	if (n->count == sizeof n->all / sizeof *n->all)
		return 1;
	struct name *e = &n->all[n->count++];
	*e = (struct name){.dir = n->dir, .ino = st->ino, .type = st->type};
	snprintf(e->name, sizeof e->name, "%s", name);
	return 0;
}

static void find_names(struct wf_checkpoint *ck, struct names *n)
{
	n->count = 0;
	n->dir = WF_ROOT;
	wf_readdir(ck, WF_ROOT, 0, note, n);
	for (unsigned int i = 0; i < n->count; i++)
		if (n->all[i].type == WF_DIRECTORY) {
			n->dir = n->all[i].ino;
			wf_readdir(ck, n->dir, 0, note, n);
		}
}

static void write_text(struct wf_checkpoint *ck, uint32_t ino, const char *text)
{
	struct wf_opening *o;
	if (wf_open_file(ck, ino, WF_WRITES, &o) < 0)
		return;
	wf_truncate(ck, ino, o, 0);
	wf_write(ck, ino, o, 0, text, strlen(text));
	wf_flush(ck, ino, o);
	wf_release(ck, ino, o);
}

static void make_file(struct wf_checkpoint *ck, uint32_t dir, const char *name, const char *content, size_t size)
{
	struct wf_stat st;
	struct wf_opening *o;
	if (wf_create(ck, dir, name, &st) < 0 || wf_open_file(ck, st.ino, WF_WRITES, &o) < 0)
		return;
	wf_write(ck, st.ino, o, 0, content, size);
	wf_flush(ck, st.ino, o);
	wf_release(ck, st.ino, o);
}

static void edit(struct wf_checkpoint *ck, struct names *names, unsigned int i)
{
	static const char *const texts[] = {"11\n", "0.5\n", "true\n", "[1, 2]\n", "text", "null\n", "\n"};
	static const char *const shapes[] = {"[-1]", "[8] ", "[]  ", "[ 4]"}, *const dtypes[] = {"int8", "half", "bool",
												 "int4"};
	const char *text;
	char fresh[32], raw[64];
	struct wf_stat st;
	find_names(ck, names);
	if (names->count == 0)
		return;
	struct name a = names->all[pick(names->count)], b = names->all[pick(names->count)];
	uint32_t dir = pick(2) ? WF_ROOT : b.type == WF_DIRECTORY ? b.ino : b.dir;
	snprintf(fresh, sizeof fresh, "n%u%s", i, pick(4) ? "" : "~");
	memset(raw, (int)i, sizeof raw);
	switch (pick(14)) {
	case 0:
	case 1:
		wf_rename(ck, a.dir, a.name, dir, fresh, 0);
		break;
	case 2:
		wf_rename(ck, a.dir, a.name, b.dir, b.name, pick(2) ? RENAME_EXCHANGE : 0);
		break;
	case 3:
		wf_unlink(ck, a.dir, a.name);
		break;
	case 4:
		wf_rmdir(ck, a.dir, a.name);
		break;
	case 5:
		wf_mkdir(ck, dir, fresh, &st);
		break;
	case 6:
		make_file(ck, dir, fresh, raw, pick(sizeof raw) + 1);
		break;
	case 7:
		text = texts[pick(7)];
		make_file(ck, dir, fresh, text, strlen(text));
		wf_rename(ck, dir, fresh, b.dir, b.name, 0);
		break;
	case 8:
		wf_link(ck, a.ino, dir, fresh, &st);
		break;
	case 9:
		wf_symlink(ck, b.name, WF_ROOT, fresh, &st);
		break;
	case 10:
		write_text(ck, a.ino, texts[pick(7)]);
		break;
	case 11:
		wf_write(ck, a.ino, NULL, pick(32), raw, pick(32) + 1);
		break;
	case 12:
		wf_truncate(ck, a.ino, NULL, pick(64));
		break;
	default:
		text = pick(2) ? "user.torch.shape" : "user.torch.dtype";
		wf_setxattr(ck, a.ino, text, text[11] == 's' ? shapes[pick(4)] : dtypes[pick(4)], 4, 0);
	}
}

/* ---- packing ---- */

static void add_part(struct wf_buffer *out, enum overlay_part kind, uint32_t number, const char *path)
{
	static char bytes[MAX_SEED_BYTES];
	uint8_t k = (uint8_t)kind;
	FILE *f = fopen(path, "rb");
	if (!f)
		return;
	uint32_t len = (uint32_t)fread(bytes, 1, sizeof bytes, f);
	fclose(f);
	wf_buffer_append(out, &k, 1);
	wf_buffer_append(out, &number, 4);
	wf_buffer_append(out, &len, 4);
	wf_buffer_append(out, bytes, len);
}

static void pack(const char *file, uint8_t flags, const char *to)
{
	struct wf_buffer out = WF_BUFFER_INIT;
	char path[512];
	wf_buffer_append(&out, &flags, 1);
	add_part(&out, PART_CHECKPOINT, 0, file);
	snprintf(path, sizeof path, "%s.weightfs/log", file);
	add_part(&out, PART_LOG, 0, path);
	snprintf(path, sizeof path, "%s.weightfs/commit", file);
	add_part(&out, PART_COMMIT, 0, path);
	snprintf(path, sizeof path, "%s.weightfs/undo", file);
	add_part(&out, PART_UNDO, 0, path);
	for (uint32_t i = 0; i < 64; i++) {
		snprintf(path, sizeof path, "%s.weightfs/data/%u", file, i);
		add_part(&out, PART_DATA, i, path);
	}
	FILE *f = out.len <= MAX_SEED_BYTES ? fopen(to, "wb") : NULL;
	if (f && (fwrite(out.data, 1, out.len, f) != out.len || fclose(f) != 0))
		perror(to);
	wf_buffer_free(&out);
}

/* ---- one seed ---- */

static int ignore(void *ctx, uint8_t type, const void *payload, size_t len)
{
	return 0;
}

/* What a commit that was killed leaves: its mark, and of an append some bytes. */
static void pack_marked(const char *file, bool append, uint8_t flags, const char *to)
{
	const struct wf_overlay_options options = {.checkpoint = file, .writable = true};
	struct wf_overlay *ov;
	struct wf_overlay_base base;
	if (wf_overlay_open(&options, &ov, NULL) < 0)
		return;
	int fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC), r = wf_overlay_replay(ov, ignore, NULL, NULL);
	base = *wf_overlay_base(ov);
	base.size_bytes++;
	if (r == 0)
		r = wf_overlay_commit_begin(ov, append ? WF_OVERLAY_APPEND : WF_OVERLAY_REPLACE, append ? NULL : &base,
					    NULL);
	if (r == 0 && append && write(fd, "torn", 4) != 4)
		r = -EIO;
	if (r == 0)
		pack(file, flags, to);
	close(fd);
	wf_overlay_close(ov);
}

/* What a commit in place leaves that was killed when head and tail were written over and something stood behind the end (step 2: and all of it
 * is done but for the seal, with the end cut off), or nothing yet (step 0). */
static void pack_rewritten(const char *file, unsigned int step, uint8_t flags, const char *to)
{
	const struct wf_overlay_options options = {.checkpoint = file, .writable = true};
	unsigned char head[32], tail[16];
	struct wf_overlay *ov;
	if (wf_overlay_open(&options, &ov, NULL) < 0)
		return;
	int fd = open(file, O_WRONLY | O_CLOEXEC), r = wf_overlay_replay(ov, ignore, NULL, NULL);
	uint64_t size = r == 0 ? wf_overlay_base(ov)->size_bytes : 0;
	const struct wf_overlay_piece pieces[] = {{0, sizeof head}, {size - sizeof tail, sizeof tail}};
	memset(head, 'h', sizeof head);
	memset(tail, 't', sizeof tail);
	struct wf_overlay_rewrite w = {.pieces = pieces,
				       .count = 2,
				       .grown_bytes = size + sizeof tail,
				       .final_bytes = step == 2 ? size - sizeof tail : size + sizeof tail,
				       .head_bytes = sizeof head,
				       .head_crc32 = (uint32_t)crc32(0, head, sizeof head)};
	if (size >= 2 * (sizeof head + sizeof tail) && wf_overlay_save(ov, &w, NULL) == 0 &&
	    wf_overlay_commit_begin(ov, WF_OVERLAY_IN_PLACE, NULL, NULL) == 0) {
		for (int i = 0; step > 0 && i < 2; i++)
			if (pwrite(fd, tail, sizeof tail, (off_t)(pieces[1].offset + (uint64_t)i * sizeof tail)) < 0)
				perror(file);
		if (step > 0 && pwrite(fd, head, step == 2 ? sizeof head : 20, 0) < 0)
			perror(file);
		if (step == 2 && ftruncate(fd, (off_t)w.final_bytes) < 0)
			perror(file);
		pack(file, flags, to);
	}
	close(fd);
	wf_overlay_close(ov);
}

static void make_seed(const char *file, unsigned int seed, const char *to)
{
	static struct names names;
	const struct wf_open_options options = {.writable = true};
	struct wf_checkpoint *ck;
	char marked[600];
	state = seed + 1;
	if (wf_open(file, &options, &ck, NULL) < 0)
		return;
	for (unsigned int i = 0; i < EDITS; i++) {
		edit(ck, &names, i);
		if (i == EDITS / 2 && seed % 2)
			wf_commit(ck, NULL);
	}
	int r = wf_sync(ck);
	if (r == 0)
		pack(file, (uint8_t)(FIX_LOG | (seed % 3 ? WRITABLE : ONTO)), to);
	wf_close(ck);
	snprintf(marked, sizeof marked, "%s-mark", to);
	if (r == 0 && seed < 2)
		pack_marked(file, seed == 0, FIX_LOG | FIX_COMMIT | WRITABLE, marked);
	snprintf(marked, sizeof marked, "%s-undo", to);
	if (r == 0 && seed >= 2 && seed < 5)
		pack_rewritten(file, seed - 2, WRITABLE | (seed % 2 ? FIX_UNDO : 0), marked);
	wf_discard(file, NULL);
}

static int copy(const char *from, const char *to)
{
	static char bytes[MAX_SEED_BYTES];
	FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
	size_t n = in ? fread(bytes, 1, sizeof bytes, in) : 0;
	int r = in && out && n < sizeof bytes && fwrite(bytes, 1, n, out) == n ? 0 : -1;
	if (in)
		fclose(in);
	if (out && fclose(out) != 0)
		r = -1;
	return r;
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/weightfs-seeds-XXXXXX", file[64], to[512];
	if (argc < 3 || !mkdtemp(dir)) {
		fprintf(stderr, "usage: %s OUT-DIRECTORY CHECKPOINT...\n", argv[0]);
		return 2;
	}
	snprintf(file, sizeof file, "%s/m.pt", dir);
	for (int i = 2; i < argc; i++)
		for (unsigned int seed = 0; seed < SEEDS; seed++) {
			const char *slash = strrchr(argv[i], '/');
			snprintf(to, sizeof to, "%s/%s-%u", argv[1], slash ? slash + 1 : argv[i], seed);
			if (copy(argv[i], file) == 0)
				make_seed(file, seed, to);
			unlink(file);
		}
	rmdir(dir);
	return 0;
}
