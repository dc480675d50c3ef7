/* SPDX-License-Identifier: MIT */
/* Writes the checkpoint in the format of its output, as a commit. */
#include "codec/compose/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/bytes/io.h"
#include "codec/bytes/util.h"
#include "codec/commit/output_set.h"
#include "codec/compose/inner.h"
#include "codec/compose/target.h"

#define NAMES_TOLD 20 /* in the log, of what has no place; the rest is counted */

/* ---- what has no place ---- */

/* A line of the list: its end. */
static const char *print_line(const char *line, struct wf_buffer *out)
{
	const char *tab = strchr(line, '\t'), *end = strchr(tab, '\n');
	wf_buffer_append(out, line, (size_t)(tab - line));
	wf_buffer_puts(out, " (");
	wf_buffer_append(out, tab + 1, (size_t)(end - tab - 1));
	wf_buffer_putc(out, ')');
	return end + 1;
}

static void print_list(const struct wf_skipped *skipped, uint32_t most, struct wf_buffer *out)
{
	const char *line = skipped->text.data, *end = line + skipped->text.len;
	for (uint32_t i = 0; line < end && i < most; i++) {
		wf_buffer_puts(out, i ? ", " : "");
		line = print_line(line, out);
	}
	uint32_t rest = 0;
	for (; line < end; line = strchr(line, '\n') + 1)
		rest++;
	if (rest > 0)
		wf_buffer_printf(out, " and %u more", rest);
	wf_buffer_puts(out, ""); /* there is a text */
}

static int read_all(struct wf_checkpoint *ck, const char *(*refuses)(const struct wf_named *n), struct wf_flat *flat,
		    struct wf_skipped *skipped, struct wf_error *err)
{
	const char *taken = refuses == wf_safetensors_refuses_tensor ? WF_SAFETENSORS_TAKEN : NULL;
	int r = wf_flat_read(ck, wf_whole_start(ck), refuses, taken, flat, skipped);
	return r < 0 ? wf_fail(err, r, "%s",
			       r == -EFBIG ? "there are more bytes of names than such a file holds" : strerror(-r))
		     : 0;
}

static int refuse(struct wf_checkpoint *ck, const char *target, const struct wf_skipped *skipped, struct wf_error *err)
{
	struct wf_buffer list = WF_BUFFER_INIT, most = WF_BUFFER_INIT;
	print_list(skipped, NAMES_TOLD, &list);
	print_list(skipped, 3, &most);
	wf_log_line(&ck->log, "no place in %s: %s", target, list.data ? list.data : "?");
	int r = wf_fail(err, -EOPNOTSUPP, "these have no place in %s: %s; remove them, or wfctl export leaves them out",
			target, most.data ? most.data : "?");
	wf_buffer_free(&list);
	wf_buffer_free(&most);
	return r;
}

static void tell_left_out(struct wf_checkpoint *ck, const char *target, const struct wf_skipped *skipped)
{
	struct wf_buffer list = WF_BUFFER_INIT;
	if (skipped->text.len == 0)
		return;
	print_list(skipped, NAMES_TOLD, &list);
	wf_log_line(&ck->log, "left out of %s: %s", target, list.data ? list.data : "?");
	wf_buffer_free(&list);
}

/* Edits of what is not written at all. */
static int refuse_outside(struct wf_checkpoint *ck, const char *target, struct wf_error *err)
{
	wf_ino ino = wf_edits_outside(ck);
	struct wf_buffer path = WF_BUFFER_INIT;
	if (ino == WF_NO_INO)
		return 0;
	wf_tree_path(ck->tree, ino, &path);
	int r = wf_fail(err, -EOPNOTSUPP,
			"%s takes what is in model/ alone, and %s was edited: wfctl discard drops these edits", target,
			path.data && path.len > 0 ? path.data : "the directory above it");
	wf_buffer_free(&path);
	return r;
}

/* The flat dictionary that is going to be written, whole or not at all. */
static int read_flat(struct wf_checkpoint *ck, const char *target, const char *(*refuses)(const struct wf_named *n),
		     struct wf_flat *ret, struct wf_error *err)
{
	struct wf_skipped skipped = {0};
	pthread_rwlock_rdlock(&ck->lock);
	int r = read_all(ck, refuses, ret, &skipped, err);
	if (r == 0)
		r = refuse_outside(ck, target, err);
	pthread_rwlock_unlock(&ck->lock);
	if (r == 0 && skipped.lost > 0)
		r = refuse(ck, target, &skipped, err);
	else if (r == 0)
		tell_left_out(ck, target, &skipped);
	wf_buffer_free(&skipped.text);
	return r;
}

/* ---- writing ---- */

static int start(struct wf_checkpoint *ck, int fd, struct wf_out *o, struct wf_error *err)
{
	int r = wf_out_init(o, fd, 0, &ck->progress.done_bytes);
	struct wf_file_run old;
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	if (wf_source_locate(wf_container_file(ck->container), 0, &old))
		wf_out_probe_clone(o, old.fd);
	wf_file_run_end(&old);
	return 0;
}

static int sync_all(struct wf_out *o, struct wf_error *err)
{
	int r = wf_out_finish(o);
	if (r == 0 && fsync(o->fd) < 0)
		r = -errno;
	return r < 0 ? wf_fail(err, r, "cannot make the written bytes durable: %s", strerror(-r)) : 0;
}

/* What is on disk begins as it was meant to, and has its length. */
static int check_head(int fd, const struct wf_composed *c, struct wf_error *err)
{
	struct stat st;
	cleanup_free char *head = malloc(c->text.len + 1);
	if (!head)
		return wf_fail(err, -ENOMEM, "out of memory");
	int r = wf_pread_all(fd, head, c->text.len, 0);
	if (r < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size != wf_composed_size(c) ||
	    memcmp(head, c->text.data, c->text.len) != 0)
		return wf_fail(err, -EUCLEAN, "the file just written is not what was to be written");
	return 0;
}

static int put_safetensors(struct wf_checkpoint *ck, const struct wf_composed *c, int fd, struct wf_error *err)
{
	struct wf_out o;
	uint64_t bytes = wf_composed_size(c);
	int r = start(ck, fd, &o, err);
	if (r < 0)
		return r;
	atomic_store(&ck->progress.total_bytes, bytes);
	r = wf_out_reserve(&o, bytes, o.clone_block == 0);
	if (r < 0)
		wf_fail(err, r, "there is no room for its %llu bytes: %s", (unsigned long long)bytes, strerror(-r));
	if (r == 0)
		r = wf_composed_copy(ck, c, &o, err);
	if (r == 0)
		r = sync_all(&o, err);
	wf_out_free(&o);
	return r < 0 ? r : check_head(fd, c, err);
}

static int write_safetensors(struct wf_checkpoint *ck, const char *target, int fd, struct wf_error *err)
{
	struct wf_flat flat;
	struct wf_composed *c = NULL;
	int r = read_flat(ck, target, wf_safetensors_refuses_tensor, &flat, err);
	if (r == 0 && (r = wf_safetensors_of(&flat, NULL, 0, &c)) < 0)
		wf_fail(err, r, "%s",
			r == -EFBIG ? "there are more names than a safetensors header holds" : strerror(-r));
	wf_flat_free(&flat);
	if (r == 0)
		r = put_safetensors(ck, c, fd, err);
	wf_composed_free(c);
	return r;
}

/* What is on disk opens, and its pickle reads. */
static int check_archive(int fd, struct wf_error *err)
{
	struct wf_source *source = NULL;
	struct wf_container *c = NULL;
	struct wf_graph *g = NULL;
	wf_ref root;
	cleanup_fd int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int r = own < 0 ? wf_fail(err, -errno, "%s", strerror(errno)) : wf_source_from_fd(own, &source, err);
	if (r == 0) {
		steal_fd(&own);
		r = wf_container_open(source, &c, err);
	}
	if (r == 0 && (r = wf_graph_new(&g)) < 0)
		wf_fail(err, r, "out of memory");
	if (r == 0)
		r = wf_container_load_graph(c, g, &root, err);
	wf_graph_free(g);
	wf_container_free(c);
	wf_source_unref(source);
	return r;
}

/* Texts beside the tensors, but for the one that every file has. */
static int refuse_metadata(const struct wf_flat *flat, const char *target, struct wf_error *err)
{
	struct wf_buffer names = WF_BUFFER_INIT;
	uint32_t n = 0, told = 0;
	const struct wf_item *items = flat->metadata == WF_NIL ? NULL : wf_items(flat->graph, flat->metadata, &n);
	for (uint32_t i = 0; i < n; i++) {
		size_t len;
		const char *key = items[i].key == WF_NIL ? NULL : wf_bytes(flat->graph, items[i].key, &len);
		if (!key || (len == 6 && !memcmp(key, "format", len)))
			continue;
		if (told++ < 3) {
			wf_buffer_puts(&names, names.len ? ", " : "");
			wf_buffer_printable(&names, key, len);
		}
	}
	int r = told == 0
			? 0
			: wf_fail(err, -EOPNOTSUPP,
				  "%u texts of .weightfs/metadata have no place in %s, as %s; remove them, or wfctl export leaves them out",
				  told, target, names.data ? names.data : "?");
	wf_buffer_free(&names);
	return r;
}

static int write_pt(struct wf_checkpoint *ck, const char *target, int fd, struct wf_error *err)
{
	struct wf_flat flat;
	struct wf_out o;
	int r = read_flat(ck, target, wf_pt_refuses, &flat, err);
	if (r == 0)
		r = refuse_metadata(&flat, target, err);
	if (r == 0 && (r = start(ck, fd, &o, err)) == 0) {
		r = wf_put_pt(ck, &flat, target, &o, err);
		if (r == 0)
			r = sync_all(&o, err);
		wf_out_free(&o);
	}
	wf_flat_free(&flat);
	return r < 0 ? r : check_archive(fd, err);
}

/* ---- which ---- */

static bool ends_in(const char *path, const char *suffix)
{
	size_t n = strlen(path), k = strlen(suffix);
	return n > k && !strcasecmp(path + n - k, suffix);
}

static const char *unwritten_suffix(const char *path)
{
	static const char *const all[] = {".npz", ".npy", ".gguf", ".onnx", ".h5", ".json"};
	for (size_t i = 0; i < WF_ARRAY_SIZE(all); i++)
		if (ends_in(path, all[i]))
			return all[i];
	return NULL;
}

static bool is_torch_name(const char *path)
{
	return ends_in(path, ".pt") || ends_in(path, ".pth") || ends_in(path, ".ckpt") || ends_in(path, ".bin");
}

static bool is_directory(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Absolute; of what is there, the path that it leads to, so that a commit replaces what a link points to. */
static char *absolute(const char *path)
{
	char cwd[PATH_MAX], *ret = realpath(path, NULL);
	if (ret || path[0] == '/')
		return ret ? ret : strdup(path);
	return getcwd(cwd, sizeof cwd) && asprintf(&ret, "%s/%s", cwd, path) >= 0 ? ret : NULL;
}

static int make_directory(struct wf_checkpoint *ck, struct wf_error *err)
{
	if (!ck->writable || is_directory(ck->output))
		return 0;
	if (mkdir(ck->output, 0777) < 0)
		return wf_fail(
			err, errno == EEXIST ? -ENOTDIR : -errno, "output=%s: %s", ck->output,
			errno == EEXIST
				? "this is a file, and a checkpoint in several files is written into a directory (or as "
				  "one .safetensors or .pt file)"
				: strerror(errno));
	ck->made_output = true;
	return 0;
}

/* The set goes where its main file is called as that of the checkpoint is. */
static int find_set(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_directory *set = &ck->output_set;
	size_t len = strlen(ck->output);
	while (len > 1 && ck->output[len - 1] == '/')
		ck->output[--len] = '\0';
	if (wf_directory_read_only(&ck->place))
		return wf_fail(err, -EOPNOTSUPP,
			       "output=%s: this checkpoint is written as one .safetensors or .pt file", ck->output);
	set->reader = ck->place.reader;
	set->path = strdup(ck->output);
	if (!set->path || asprintf(&set->main, "%s/%s", ck->output, strrchr(ck->place.main, '/') + 1) < 0) {
		set->main = NULL;
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	return make_directory(ck, err);
}

int wf_output_find(struct wf_checkpoint *ck, const char *output, struct wf_error *err)
{
	ck->output = absolute(output);
	if (!ck->output)
		return wf_fail(err, -ENOMEM, "out of memory");
	if (wf_is_named_by_digest(ck->output))
		return wf_fail(err, -EINVAL,
			       "output=%s: this leads to %s, which is named by the digest of its content and is not "
			       "written: remove the link first",
			       output, ck->output);
	bool one_file =
		ends_in(ck->output, ".safetensors") || is_torch_name(ck->output) || unwritten_suffix(ck->output);
	return ck->place.reader && (!one_file || is_directory(ck->output)) ? find_set(ck, err) : 0;
}

void wf_output_end(struct wf_checkpoint *ck)
{
	if (ck->output_set.main && ck->writable)
		wf_output_set_leave(ck);
}

/* Who makes such a mount hears at once what has to go before a commit. */
static int tell(struct wf_checkpoint *ck, const char *(*refuses)(const struct wf_named *n), struct wf_error *err)
{
	struct wf_flat flat;
	struct wf_skipped skipped = {0};
	struct wf_buffer list = WF_BUFFER_INIT;
	struct wf_error why = {0};
	int r = read_all(ck, refuses, &flat, &skipped, err);
	if (r == 0 && skipped.lost > 0) {
		print_list(&skipped, 3, &list);
		wf_log_line(
			&ck->log,
			"a commit to %s is refused until these are removed, which have no place there: %s (.weightfs/"
			"model.skipped lists all)",
			ck->output, list.data ? list.data : "?");
	}
	if (r == 0 && refuses == wf_pt_refuses && refuse_metadata(&flat, ck->output, &why) < 0)
		wf_log_line(&ck->log, "a commit is refused as things are: %s", why.text);
	wf_buffer_free(&list);
	wf_buffer_free(&skipped.text);
	wf_flat_free(&flat);
	return r == -EFBIG ? 0 : r;
}

static int choose_pt(struct wf_checkpoint *ck, struct wf_error *err)
{
	ck->write_other = write_pt;
	return tell(ck, wf_pt_refuses, err);
}

int wf_output_choose(struct wf_checkpoint *ck, struct wf_error *err)
{
	if (!ck->output || !ck->writable)
		return 0;
	if (ck->output_set.main)
		return wf_output_set_settle(ck, err);
	const char *suffix = unwritten_suffix(ck->output);
	if (suffix)
		return wf_fail(err, -EOPNOTSUPP, "output=%s: a commit writes no %s file (wfctl export may)", ck->output,
			       suffix);
	bool torch_name = is_torch_name(ck->output);
	if (torch_name && (wf_container_kind_of(ck->container) == WF_CONTAINER_SAFETENSORS ||
			   wf_container_is_directory(ck->container)))
		return choose_pt(ck, err);
	if (wf_container_kind_of(ck->container) == WF_CONTAINER_SAFETENSORS)
		return 0;
	ck->output_as_zip = torch_name;
	if (!ends_in(ck->output, ".safetensors"))
		return 0;
	ck->write_other = write_safetensors;
	return tell(ck, wf_safetensors_refuses_tensor, err);
}
