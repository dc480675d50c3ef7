/* SPDX-License-Identifier: MIT */
/* .weightfs/columns.json: what .weightfs/entries.json says, where lines of many tensors that say nearly the same are columns. A program
 * that makes 100,000 tensors takes longer to read their lines than to make them.
 *
 *   {"form": {"class": ..., "dtype": ..., ...}}        members that lines of tensors have in common: number 0, the next 1, ...
 *   {"run": PATH, "key": [...], "form": [...], "storage": [...], "file_offset": [...]}
 *                                                      as many lines of entries.json, which stand one after the other in the container
 *                                                      at PATH ("": the root): their members are those of the form, and these; the path
 *                                                      is PATH, a slash and the key. `form` is one number where all have the same
 *   {"leases": true}                                   the first line, where storages have a place on a device: who opens tensors.json holds
 *                                                      them there, and its lines say where. Then there are no runs
 *   any other line                                     is that of entries.json
 *
 * A form stands before the first run that uses it. Lines are in the order of entries.json.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/bytes/json.h"
#include "codec/bytes/key_map.h"
#include "codec/checkpoint.h"
#include "codec/lines.h"

struct column_text {
	struct wf_buffer *out;
	struct wf_buffer signature; /* of the tensor at hand: what its form says */
	struct wf_key_map forms;    /* by their signatures */
	/* the run that is being gathered */
	wf_ino dir;            /* WF_NO_INO: there is none */
	struct wf_buffer path; /* of dir */
	struct wf_buffer key, form, storage, offset;
	uint64_t first_form;
	bool mixed;             /* not all have the first form */
	struct wf_buffer texts; /* forms that the run is the first to use */
};

static void put_column(struct wf_buffer *out, const char *name, struct wf_buffer *column)
{
	wf_buffer_puts(out, name);
	wf_buffer_append(out, column->data, column->len);
	wf_buffer_putc(out, ']');
	column->len = 0;
}

static void end_run(struct column_text *c)
{
	struct wf_buffer *out = c->out;
	if (c->dir == WF_NO_INO)
		return;
	wf_buffer_append(out, c->texts.data, c->texts.len);
	wf_buffer_puts(out, "{\"run\": ");
	wf_json_string(out, c->path.data, c->path.len);
	put_column(out, ", \"key\": [", &c->key);
	if (c->mixed) {
		put_column(out, ", \"form\": [", &c->form);
	} else {
		wf_buffer_puts(out, ", \"form\": ");
		wf_buffer_put_int(out, (int64_t)c->first_form);
		c->form.len = 0;
	}
	put_column(out, ", \"storage\": [", &c->storage);
	put_column(out, ", \"file_offset\": [", &c->offset);
	wf_buffer_puts(out, "}\n");
	c->texts.len = 0;
	c->mixed = false;
	c->dir = WF_NO_INO;
}

static void sign(struct wf_buffer *out, const void *data, size_t len)
{
	wf_buffer_append(out, data, len);
}

/* The number of its form, which is told when it is new. */
static int find_form(struct column_text *c, const struct wf_tensor_row *row, const struct wf_file_run *run,
		     uint64_t *ret)
{
	const struct wf_line *l = row->line;
	const struct wf_tensor *t = l->tensor;
	const char *texts[] = {row->dtype, row->location, row->klass, wf_line_file_path(l, run)};
	struct wf_buffer *s = &c->signature;
	uint64_t numbers[] = {t->offset_elems, wf_storage_get(l->ck->storages, t->storage)->size_bytes, row->size_bytes,
			      t->requires_grad, t->ndim};
	s->len = 0;
	sign(s, numbers, sizeof numbers);
	sign(s, t->shape, t->ndim * sizeof t->shape[0]);
	sign(s, t->stride, t->ndim * sizeof t->stride[0]);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		sign(s, texts[i], strlen(texts[i]) + 1);
	int r = wf_buffer_status(s);
	const uint64_t *known = r == 0 ? wf_key_map_get(&c->forms, s->data, s->len) : NULL;
	*ret = known ? *known : c->forms.count;
	if (r < 0 || known)
		return r;
	wf_buffer_puts(&c->texts, "{\"form\": ");
	wf_row_form_json(row, run, &c->texts);
	wf_buffer_puts(&c->texts, "}\n");
	r = wf_key_map_put(&c->forms, s->data, s->len, *ret);
	return r < 0 ? r : wf_buffer_status(&c->texts);
}

/* Its name is its key: a str that needs no escape. NULL: it is not. */
static const char *plain_key(const struct wf_tensor_row *row, size_t *ret_len)
{
	const struct wf_line *l = row->line;
	const char *slash = strrchr(row->path, '/'), *name = slash ? slash + 1 : row->path;
	wf_ref key = l->dir->kind == WF_DIR_SEQUENCE ? WF_NIL : l->dir->entries[l->position].key;
	const char *text = wf_is(l->ck->graph, key, WF_STR) ? wf_bytes(l->ck->graph, key, ret_len) : NULL;
	return text && strlen(name) == *ret_len && !memcmp(name, text, *ret_len) ? text : NULL;
}

static void begin_run(struct column_text *c, const struct wf_tensor_row *row, size_t key_len)
{
	size_t len = strlen(row->path), parent = len - key_len;
	c->dir = row->line->dir->ino;
	c->path.len = 0;
	wf_buffer_append(&c->path, row->path, parent > 0 ? parent - 1 : 0);
}

static int add(struct column_text *c, const struct wf_tensor_row *row, const struct wf_file_run *run, const char *key,
	       size_t key_len)
{
	uint64_t form;
	int r = find_form(c, row, run, &form);
	if (r < 0)
		return r;
	bool first = c->dir == WF_NO_INO;
	if (first) {
		begin_run(c, row, key_len);
		c->first_form = form;
	}
	const char *comma = first ? "" : ",";
	c->mixed |= form != c->first_form;
	wf_buffer_puts(&c->key, comma);
	wf_json_string(&c->key, key, key_len);
	wf_buffer_puts(&c->form, comma);
	wf_buffer_put_int(&c->form, (int64_t)form);
	wf_buffer_puts(&c->storage, comma);
	wf_json_string(&c->storage, row->storage, strlen(row->storage));
	wf_buffer_puts(&c->offset, comma);
	wf_buffer_put_int(&c->offset, (int64_t)run->offset);
	return 0;
}

static int tensor_line(void *ctx, const struct wf_tensor_row *row)
{
	struct column_text *c = ctx;
	struct wf_file_run run;
	size_t key_len;
	const char *key = plain_key(row, &key_len);
	bool in_file = key && wf_row_in_file(row, &run);
	if (!in_file || c->dir != row->line->dir->ino)
		end_run(c);
	if (!in_file)
		return wf_row_json(row, c->out);
	int r = add(c, row, &run, key, key_len);
	wf_file_run_end(&run);
	return r;
}

static int other_line(void *ctx, const char *path, const struct wf_line *l)
{
	struct column_text *c = ctx;
	end_run(c);
	if (!l->dir && l->file->devices) /* the root, before everything else */
		wf_buffer_puts(c->out, "{\"leases\": true}\n");
	return wf_other_line(c->out, path, l);
}

int wf_columns_json(struct wf_checkpoint *ck, struct wf_buffer *ret)
{
	struct column_text c = {.out = ret};
	struct wf_buffer *const all[] = {&c.signature, &c.path, &c.key, &c.form, &c.storage, &c.offset, &c.texts};
	struct wf_walk w = {.tensor = tensor_line, .other = other_line, .containers = true, .ctx = &c};
	int r = wf_walk(ck, &w);
	if (r == 0)
		end_run(&c);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		if (r == 0)
			r = wf_buffer_status(all[i]);
		wf_buffer_free(all[i]);
	}
	wf_key_map_free(&c.forms);
	return r < 0 ? r : wf_buffer_status(ret);
}
