#include "codec/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "codec/edit/state.h"
#include "codec/tensor/layout.h"
#include "codec/container/lookalike.h"
#include "codec/bytes/util.h"
#include "codec/value/text.h"

#define BAD_TENSORS_TOLD 20 /* lines in the log at open; the rest is counted */

void wf_checkpoint_log(const struct wf_checkpoint *ck, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	if (!ck->log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	ck->log(ck->log_ctx, line);
}

int wf_refuse(const struct wf_checkpoint *ck, int code, const char *fmt, ...)
{
	char reason[512];
	va_list ap;
	if (!ck->refused)
		return code;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof reason, fmt, ap);
	va_end(ap);
	ck->refused(ck->refused_ctx, code, reason);
	return code;
}

/* ---- opening ---- */

static int resolve_paths(struct wf_checkpoint *ck, const char *path, const struct wf_open_options *o,
			 struct wf_error *err)
{
	struct stat st;
	/* before anything opens it, which would wait for somebody at the other end */
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))
		return wf_fail(err, -EINVAL, S_ISFIFO(st.st_mode) ? "this is a pipe, which cannot be read at random: save it to a file "
								     "first"
								   : "this is neither a regular file nor a block device");
	ck->path = realpath(path, NULL);
	if (!ck->path)
		return wf_fail(err, -errno, "%s", strerror(errno));
	if (stat(ck->path, &st) == 0 && S_ISDIR(st.st_mode))
		return wf_lookalike_directory(ck->path, err);
	if (o->output) {
		/* the output need not exist yet; a link that does is followed, so that a commit replaces what it points
		 * to */
		ck->output = realpath(o->output, NULL);
		if (!ck->output && o->output[0] != '/') {
			char cwd[PATH_MAX];
			if (!getcwd(cwd, sizeof cwd) || asprintf(&ck->output, "%s/%s", cwd, o->output) < 0)
				return wf_fail(err, -ENOMEM, "out of memory");
		} else if (!ck->output) {
			ck->output = strdup(o->output);
		}
		if (!ck->output)
			return wf_fail(err, -ENOMEM, "out of memory");
	}
	return 0;
}

/* The file, or the part of it that counts: a crash in the middle of an append leaves bytes behind the base. */
static int open_source(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_source *file;
	int r = wf_source_open_file(ck->path, &file, err);
	if (r < 0)
		return r;
	uint64_t size = ck->overlay ? wf_overlay_base(ck->overlay)->size_bytes : wf_source_size(file);
	if (size >= wf_source_size(file)) {
		ck->file = file;
		return 0;
	}
	r = wf_source_slice(file, 0, size, &ck->file);
	wf_source_unref(file);
	return r < 0 ? wf_fail(err, r, "%s", strerror(-r)) : 0;
}

static int open_overlay(struct wf_checkpoint *ck, const char *edits_of, struct wf_error *err)
{
	struct wf_overlay_options o = {.checkpoint = ck->path,
				       .output = ck->output,
				       .edits_of = edits_of,
				       .writable = ck->writable,
				       .log = ck->log,
				       .log_ctx = ck->log_ctx};
	return wf_overlay_open(&o, &ck->overlay, err);
}

int wf_base_read(struct wf_source *file, uint32_t after, struct wf_base *ret, struct wf_error *err)
{
	wf_ref root;
	int r = wf_container_open(file, &ret->container, err);
	if (r == 0 && (r = wf_graph_new(&ret->graph)) < 0)
		wf_fail(err, r, "out of memory");
	if (r == 0)
		r = wf_container_load_graph(ret->container, ret->graph, &root, err);
	if (r == 0)
		r = wf_storages_new(ret->graph, ret->container, &ret->storages, err);
	if (r == 0)
		r = wf_tree_new(ret->graph, ret->storages, ret->container, root, after, &ret->tree, err);
	return r;
}

void wf_base_free(struct wf_base *b)
{
	wf_tree_free(b->tree);
	wf_storages_free(b->storages);
	wf_graph_free(b->graph);
	wf_container_free(b->container);
}

void wf_base_swap(struct wf_checkpoint *ck, struct wf_base *b)
{
	struct wf_base old = {ck->container, ck->graph, ck->storages, ck->tree};
	ck->container = b->container;
	ck->graph = b->graph;
	ck->storages = b->storages;
	ck->tree = b->tree;
	*b = old;
}

static int read_base(struct wf_checkpoint *ck, struct wf_error *err)
{
	struct wf_base base = {0};
	int r = open_source(ck, err);
	if (r == 0)
		r = wf_base_read(ck->file, 0, &base, err);
	if (r == 0)
		wf_base_swap(ck, &base);
	wf_base_free(&base);
	return r;
}

static int open_placement(struct wf_checkpoint *ck, const struct wf_open_options *o, struct wf_error *err)
{
	struct wf_placement_options options = {.map_location = o->map_location,
					       .verify = o->verify,
					       .open_device = o->open_device,
					       .device_ctx = o->device_ctx,
					       .log = ck->log,
					       .log_ctx = ck->log_ctx};
	int r = wf_placement_new(&options, ck->storages, &ck->placement, err);
	ck->relocated = r == 0 && wf_placement_relocated(ck->placement) > 0;
	return r;
}

/* Tells the log which tensors cannot be read: their names stay, their reads fail. */
static void tell_bad_tensors(struct wf_checkpoint *ck)
{
	uint32_t bad = 0;
	struct wf_tensor t;
	for (wf_ino ino = 1; ino <= wf_tree_node_count(ck->tree); ino++) {
		const struct wf_node *n = wf_tree_node(ck->tree, ino);
		struct wf_error err = {0};
		if (!n || n->nlink == 0 || n->type != WF_NODE_TENSOR ||
		    wf_tensor_decode(ck->graph, ck->storages, n->object, &t, &err) == 0)
			continue;
		if (++bad > BAD_TENSORS_TOLD)
			continue;
		struct wf_buffer path = WF_BUFFER_INIT;
		char text[512];
		wf_tree_path(ck->tree, ino, &path);
		wf_checkpoint_log(ck, "%s cannot be read: %s", path.data ? path.data : "?",
				  wf_error_format(&err, text, sizeof text));
		wf_buffer_free(&path);
	}
	if (bad > BAD_TENSORS_TOLD)
		wf_checkpoint_log(ck, "%u more tensors cannot be read", bad - BAD_TENSORS_TOLD);
}

/* Edits of a log give numbers in their order, which a file does not have. */
static uint32_t make_generation(const struct wf_checkpoint *ck)
{
	struct wf_overlay_usage usage = {0};
	if (ck->overlay)
		wf_overlay_usage(ck->overlay, &usage);
	uint64_t of[] = {ck->opened.st_ino, (uint64_t)ck->opened.st_size, (uint64_t)ck->opened.st_mtim.tv_sec,
			 (uint64_t)ck->opened.st_mtim.tv_nsec, usage.log_bytes};
	uint32_t hash = (uint32_t)wf_hash_bytes(of, sizeof of, 0) & INT32_MAX;
	return hash ? hash : 1;
}

/* A commit that failed when nobody was there to be told. */
static void tell_failure(struct wf_checkpoint *ck)
{
	char when[32];
	int64_t seconds;
	const char *why = wf_overlay_failure(ck->overlay, &seconds);
	time_t t = seconds;
	struct tm tm;
	if (!why)
		return;
	snprintf(ck->last_error, sizeof ck->last_error, "%s", why);
	if (!localtime_r(&t, &tm) || !strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm))
		when[0] = '\0';
	wf_checkpoint_log(ck, "edits in %s wait since a commit failed (%s): %s", wf_overlay_directory(ck->overlay), when,
			  why);
}

int wf_open(const char *path, const struct wf_open_options *options, struct wf_checkpoint **ret, struct wf_error *err)
{
	struct wf_checkpoint *ck = calloc(1, sizeof *ck);
	if (!ck)
		return wf_fail(err, -ENOMEM, "out of memory");
	ck->writable = options->writable;
	ck->commit_mode = options->commit_mode;
	ck->onto = options->edits_of != NULL;
	ck->log = options->log;
	ck->log_ctx = options->log_ctx;
	ck->changed = options->changed;
	ck->renamed = options->renamed;
	ck->became_directory = options->became_directory;
	ck->changed_ctx = options->changed_ctx;
	wf_checkpoint_make_locks(ck);
	int r = resolve_paths(ck, path, options, err);
	/* before the file is read: a crash may have left an append half done, and the overlay knows how much of it
	 * counts */
	if (r == 0 && !options->ignore_overlay)
		r = open_overlay(ck, options->edits_of, err);
	if (r == 0 && stat(ck->path, &ck->opened) < 0)
		r = wf_fail(err, -errno, "%s", strerror(errno));
	if (r == 0)
		r = read_base(ck, err);
	/* before the edits: a location that was set by hand is newer than what map_location makes of the file's */
	if (r == 0 && options->open_device)
		r = open_placement(ck, options, err);
	if (r == 0 && ck->overlay)
		r = wf_edits_open(ck, err);
	if (r == 0 && ck->overlay)
		tell_failure(ck);
	if (r == 0 && options->preload && ck->placement)
		r = wf_placement_preload(ck->placement, options->preloaded, options->preloaded_ctx, err);
	if (r < 0) {
		wf_close(ck);
		return r;
	}
	ck->generation = make_generation(ck);
	ck->refused = options->refused;
	ck->refused_ctx = options->refused_ctx;
	if (ck->log && wf_tree_has_doubtful(ck->tree))
		tell_bad_tensors(ck);
	*ret = ck;
	return 0;
}

void wf_close(struct wf_checkpoint *ck)
{
	if (!ck)
		return;
	if (ck->edits)
		wf_edits_close(ck);
	wf_placement_free(ck->placement);
	struct wf_base base = {0};
	wf_base_swap(ck, &base);
	wf_base_free(&base);
	wf_source_unref(ck->file);
	wf_overlay_close(ck->overlay);
	wf_archive_free(ck->archive);
	wf_checkpoint_free_locks(ck);
	free(ck->output);
	free(ck->path);
	free(ck);
}

bool wf_is_writable(const struct wf_checkpoint *ck)
{
	return ck->writable;
}

uint32_t wf_generation(const struct wf_checkpoint *ck)
{
	return ck->generation;
}

const char *wf_path(const struct wf_checkpoint *ck)
{
	return ck->path;
}

/* ---- stat ---- */

/* The size shown of what cannot be read and tells no size: of an empty file the kernel asks nothing, so that nobody would
 * see the error. */
#define UNREADABLE_BYTES 1

static uint64_t value_size(struct wf_checkpoint *ck, const struct wf_node *n)
{
	struct wf_buffer text = WF_BUFFER_INIT;
	uint64_t size = 0;
	if (n->type == WF_NODE_VALUE)
		return wf_tree_text_size(ck->tree, n->object, &size) < 0 ? UNREADABLE_BYTES : size;
	size = wf_tree_describe(ck->graph, n->object, &text) == 0 ? text.len : UNREADABLE_BYTES;
	wf_buffer_free(&text);
	return size;
}

int wf_checkpoint_stat(struct wf_checkpoint *ck, wf_ino ino, struct wf_stat *ret)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	struct wf_tensor t;
	if (!n)
		return -ENOENT;
	*ret = (struct wf_stat){.ino = ino,
				.nlink = n->nlink,
				.type = WF_FILE,
				.writable = ck->writable,
				.immutable_bytes = !ck->writable};
	wf_edits_looks(ck, ino, &ret->looks);
	if (ck->edits && wf_edits_holds(ck, ino)) {
		ret->size_bytes = ret->storage_bytes = wf_edits_size(ck, ino);
		return 0;
	}
	switch (n->type) {
	case WF_NODE_DIR:
		ret->type = WF_DIRECTORY;
		ret->size_bytes = wf_edits_shown(ck, ino);
		return 0;
	case WF_NODE_LINK: {
		struct wf_buffer target = WF_BUFFER_INIT;
		ret->type = WF_SYMLINK;
		wf_tree_link_target(ck->tree, ino, &target);
		ret->size_bytes = target.len;
		wf_buffer_free(&target);
		return 0;
	}
	case WF_NODE_TENSOR:
		if (wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL) < 0 && t.kind != WF_TENSOR_META) {
			ret->writable = false;
			ret->size_bytes = t.size_bytes ? t.size_bytes : UNREADABLE_BYTES;
			return 0;
		}
		ret->size_bytes = t.size_bytes;
		ret->storage_bytes = t.kind == WF_TENSOR_META ? 0 : ret->size_bytes;
		return 0;
	default:
		ret->size_bytes = ret->storage_bytes = value_size(ck, n);
		ret->writable &= n->type == WF_NODE_VALUE;
		return 0;
	}
}

int wf_getattr(struct wf_checkpoint *ck, uint32_t ino, struct wf_stat *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_checkpoint_stat(ck, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

/* ---- names ---- */

/* Finds a name among a directory's keys, or among its scratch entries. */
static int find(struct wf_checkpoint *ck, uint32_t dir, const char *name, wf_ino *ret)
{
	uint32_t position;
	int r = wf_tree_lookup(ck->tree, dir, name, &position);
	if (r == 0 && wf_edits_hides(ck, dir, position))
		r = -ENOENT;
	wf_ino shadow = r == -ENOENT && ck->edits ? wf_edits_shadow(ck, dir) : WF_NO_INO;
	if (shadow != WF_NO_INO) {
		dir = shadow;
		r = wf_tree_lookup(ck->tree, dir, name, &position);
	}
	if (r == 0)
		*ret = wf_tree_dir(ck->tree, dir)->entries[position].ino;
	return r;
}

int wf_lookup(struct wf_checkpoint *ck, uint32_t dir, const char *name, struct wf_stat *ret)
{
	wf_ino ino;
	pthread_rwlock_rdlock(&ck->lock);
	int r = find(ck, dir, name, &ino);
	if (r == 0)
		r = wf_checkpoint_stat(ck, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

#define SHADOW_COOKIE (1ull << 40) /* cookies of scratch entries follow those of the keys */

static int list(struct wf_checkpoint *ck, wf_ino dir, uint64_t position, uint64_t base,
		int (*each)(void *, const char *, uint64_t, const struct wf_stat *), void *ctx)
{
	char name[WF_NAME_MAX + 1];
	struct wf_stat st;
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	for (; d && position < d->count; position++) {
		if (!wf_tree_name(ck->tree, d, (uint32_t)position, name) || wf_edits_hides(ck, dir, (uint32_t)position))
			continue;
		int r = wf_checkpoint_stat(ck, d->entries[position].ino, &st);
		if (r == 0)
			r = each(ctx, name, base + position + 1, &st);
		if (r != 0)
			return r;
	}
	return 0;
}

int wf_readdir(struct wf_checkpoint *ck, uint32_t dir, uint64_t cookie,
	       int (*each)(void *ctx, const char *name, uint64_t next, const struct wf_stat *st), void *ctx)
{
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_tree_dir(ck->tree, dir) ? 0 : -ENOTDIR;
	if (r == 0 && cookie < SHADOW_COOKIE)
		r = list(ck, dir, cookie, 0, each, ctx);
	wf_ino shadow = r == 0 && ck->edits ? wf_edits_shadow(ck, dir) : WF_NO_INO;
	if (shadow != WF_NO_INO)
		r = list(ck, shadow, cookie < SHADOW_COOKIE ? 0 : cookie - SHADOW_COOKIE, SHADOW_COOKIE, each, ctx);
	pthread_rwlock_unlock(&ck->lock);
	return r < 0 ? r : 0;
}

int wf_parent(struct wf_checkpoint *ck, uint32_t dir, uint32_t *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_node *n = wf_tree_node(ck->tree, dir);
	int r = n && n->type == WF_NODE_DIR ? 0 : -ENOTDIR;
	if (r == 0) {
		wf_ino shadowed = ck->edits ? wf_edits_shadowed(ck, n->parent) : WF_NO_INO;
		*ret = shadowed != WF_NO_INO ? shadowed : n->parent;
	}
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

void wf_path_of(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	if (wf_tree_node(ck->tree, ino))
		wf_tree_path(ck->tree, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
}

bool wf_names_stay(struct wf_checkpoint *ck, uint32_t dir)
{
	if (!ck->writable)
		return true;
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_dir *d = wf_tree_dir(ck->tree, dir);
	bool stay = !d || d->kind != WF_DIR_SEQUENCE || !wf_is(ck->graph, d->container, WF_LIST);
	pthread_rwlock_unlock(&ck->lock);
	return stay;
}

bool wf_names_return(struct wf_checkpoint *ck, uint32_t dir)
{
	if (!ck->writable)
		return false;
	pthread_rwlock_rdlock(&ck->lock);
	bool may = wf_tree_dir(ck->tree, dir) && !wf_edits_one_by_one(ck, dir);
	pthread_rwlock_unlock(&ck->lock);
	return may;
}

bool wf_types_stay(struct wf_checkpoint *ck)
{
	if (!ck->writable)
		return true;
	pthread_rwlock_rdlock(&ck->lock);
	bool stay = !wf_tree_has_links(ck->tree);
	pthread_rwlock_unlock(&ck->lock);
	return stay;
}

int wf_readlink(struct wf_checkpoint *ck, uint32_t ino, struct wf_buffer *ret)
{
	pthread_rwlock_rdlock(&ck->lock);
	int r = wf_tree_link_target(ck->tree, ino, ret);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

/* ---- content ---- */

static ssize_t read_text(const struct wf_checkpoint *ck, const struct wf_node *n, uint64_t offset, void *buf,
			 size_t len)
{
	enum wf_kind kind = wf_kind_of(ck->graph, n->object);
	if (n->type == WF_NODE_VALUE &&
	    (kind == WF_STR || kind == WF_PYSTR || kind == WF_BYTES || kind == WF_BYTEARRAY)) {
		uint64_t size = wf_string_size(ck->graph, n->object);
		size_t part = offset < size ? WF_MIN(len, size - offset) : 0;
		int r = part ? wf_string_read(ck->graph, n->object, offset, buf, part) : 0;
		return r < 0 ? r : (ssize_t)part;
	}
	struct wf_buffer text = WF_BUFFER_INIT;
	int r = n->type == WF_NODE_VALUE ? wf_value_text(ck->graph, n->object, &text)
					 : wf_tree_describe(ck->graph, n->object, &text);
	size_t part = r == 0 && offset < text.len ? WF_MIN(len, text.len - offset) : 0;
	if (part)
		memcpy(buf, text.data + offset, part);
	wf_buffer_free(&text);
	return r < 0 ? r : (ssize_t)part;
}

static ssize_t read_tensor(struct wf_checkpoint *ck, const struct wf_node *n, uint64_t offset, void *buf, size_t len)
{
	struct wf_tensor t;
	int r = wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL);
	if (r < 0)
		return r;
	size_t part = offset < t.size_bytes ? WF_MIN(len, t.size_bytes - offset) : 0;
	r = part ? wf_placement_read(ck->placement, &t, offset, buf, part) : 0;
	if (part && r == 0)
		r = wf_tensor_read(ck->storages, &t, offset, buf, part);
	return r < 0 ? r : (ssize_t)part;
}

ssize_t wf_checkpoint_read(struct wf_checkpoint *ck, wf_ino ino, uint64_t offset, void *buf, size_t len)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	if (ck->edits && wf_edits_holds(ck, ino))
		return wf_edits_read(ck, ino, offset, buf, len);
	if (!n)
		return -ENOENT;
	if (n->type == WF_NODE_TENSOR)
		return read_tensor(ck, n, offset, buf, len);
	if (n->type == WF_NODE_VALUE || n->type == WF_NODE_OPAQUE)
		return read_text(ck, n, offset, buf, len);
	return n->type == WF_NODE_DIR ? -EISDIR : -EINVAL;
}

ssize_t wf_read(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, void *buf, size_t len)
{
	pthread_rwlock_rdlock(&ck->lock);
	ssize_t r = wf_checkpoint_read(ck, ino, offset, buf, len);
	pthread_rwlock_unlock(&ck->lock);
	return r;
}

int wf_locate(struct wf_checkpoint *ck, uint32_t ino, uint64_t offset, int *ret_fd, uint64_t *ret_file_offset,
	      uint64_t *ret_len)
{
	struct wf_tensor t;
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	bool there =
		n && n->type == WF_NODE_TENSOR && !(ck->edits && wf_edits_holds(ck, ino)) &&
		wf_tensor_decode(ck->graph, ck->storages, n->object, &t, NULL) == 0 && t.contiguous && !t.conj &&
		!t.neg && !t.swap && t.kind != WF_TENSOR_META && offset < t.size_bytes &&
		!wf_placement_has(ck->placement, t.storage) &&
		wf_storage_locate(ck->storages, t.storage, wf_layout_start(&t) + offset,
				  ret_fd, ret_file_offset, ret_len);
	if (there && *ret_len > t.size_bytes - offset)
		*ret_len = t.size_bytes - offset;
	pthread_rwlock_unlock(&ck->lock);
	return there ? 0 : -ENOENT;
}
