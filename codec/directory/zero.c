/* SPDX-License-Identifier: MIT */
/* A DeepSpeed checkpoint: the directory of a tag, in which every rank left what it had.
 *
 *   model      the fp32 parameters, put together, and the buffers
 *   optimizer  NAME/exp_avg and other moments, put together the same way
 *   client     epoch and what else the model's file says
 *   files      each file as it is
 *
 * A parameter is a list of runs of bytes in the files of the ranks (directory/space.h): nothing is read, nothing copied. Where the ranks'
 * files are not those of one plain data-parallel run, there is `files` alone, and the container's note says why.
 */
#include <errno.h>
#include <stdio.h>

#include "codec/bytes/util.h"
#include "codec/directory/zero_inner.h"
#include "codec/directory/directory.h"

/* ---- putting together ---- */

/* What this program does not put together, by the files' names. */
static int check_kinds(struct zero_load *l)
{
	const struct zero_listing *list = &l->z->list;
	if (list->of_kind[ZERO_EXPERT] > 0)
		return zero_leave(l, "the experts of a mixture");
	if (list->of_kind[ZERO_LAYER] > 0)
		return zero_leave(l, "the layers of a pipeline");
	if (list->max_mp > 0 && !list->universal)
		return zero_leave(l, "the parts of %u tensor-parallel ranks", list->max_mp + 1);
	return 0;
}

/* The model file of the first rank. */
static wf_ref model_states(const struct zero_load *l)
{
	const struct zero_listing *list = &l->z->list;
	for (uint32_t i = 0; i < list->count; i++)
		if (list->files[i].kind == ZERO_MODEL && list->files[i].mp == 0 && list->files[i].root &&
		    zero_is_mapping(l->g, list->files[i].root))
			return list->files[i].root;
	return WF_NIL;
}

static int read_stages(struct zero_load *l, wf_ref states)
{
	struct zero_states s = {0};
	int r = zero_states_read(l, &s);
	l->rest = s.first;
	if (r == 0 && !l->why[0])
		r = zero_make_params(&s, states);
	if (r == 0 && !l->why[0])
		r = zero_make_frozen(&s, states);
	zero_states_free(&s);
	return r;
}

static int put_together(struct zero_load *l)
{
	wf_ref states = model_states(l), optimizer;
	int r = check_kinds(l);
	if (l->why[0])
		return 0;
	if (states == WF_NIL)
		return zero_leave(l, "no model file can be read");
	if (zero_get(l->g, states, "ds_autoep_layers") || zero_get(l->g, states, "autoep_layers"))
		return zero_leave(l, "the experts of a mixture");
	l->optimizer = wf_dict(l->g);
	if (l->optimizer == WF_NIL)
		return zero_full(l);
	if (l->z->list.universal) {
		r = zero_read_universal(l, states);
	} else if (l->z->list.of_kind[ZERO_OPTIM] > 0) {
		r = read_stages(l, states);
	} else if ((optimizer = zero_get(l->g, states, "optimizer")) && !wf_is(l->g, optimizer, WF_NONE)) {
		l->optimizer = optimizer; /* no ZeRO: it is whole */
	}
	if (r == 0 && !l->why[0])
		r = zero_make_model(l, states);
	if (r == 0 && !l->why[0])
		r = zero_make_client(l, states);
	return r;
}

static int make_root(struct zero_load *l, wf_ref files, wf_ref *ret)
{
	const struct {
		const char *name;
		wf_ref value;
		bool together;
	} entries[] = {{"model", l->model, true},
		       {"optimizer", l->optimizer, true},
		       {"client", l->client, true},
		       {"files", files, false}};
	*ret = wf_dict(l->g);
	if (*ret == WF_NIL)
		return zero_full(l);
	for (size_t i = 0; i < WF_ARRAY_SIZE(entries); i++) {
		if (entries[i].value == WF_NIL || (entries[i].together && l->why[0]))
			continue;
		wf_ref key = wf_str(l->g, entries[i].name);
		if (!key || wf_dict_append(l->g, *ret, key, entries[i].value) < 0)
			return zero_full(l);
	}
	return 0;
}

/* The line about what is not there. */
static int make_note(struct zero_load *l)
{
	const struct zero_listing *list = &l->z->list;
	const struct zero_file *broken = NULL;
	uint32_t n = 0;
	char **note = &l->z->base.note;
	int r = 0;
	for (uint32_t i = 0; i < list->count; i++)
		if (list->files[i].problem) {
			n++;
			broken = broken ? broken : &list->files[i];
		}
	if (l->why[0])
		r = asprintf(note, "only the single files are shown, for %s %s not put together%s%s", l->why,
			     strncmp(l->why, "the ", 4) == 0 ? "are" : "is", broken ? "; cannot be read: " : "",
			     broken ? broken->problem : "");
	else if (broken)
		r = asprintf(note, "%u of its files cannot be read, as %s: %s", n, broken->name, broken->problem);
	else if (l->left_out > 0)
		r = asprintf(note, "%u parameters stand in none of the files", l->left_out);
	l->z->base.note_is_fault = n > 0 || l->left_out > 0;
	if (r < 0)
		*note = NULL;
	return r < 0 ? wf_fail(l->err, -ENOMEM, "out of memory") : 0;
}

/* ---- the container ---- */

static int load(struct zero_load *l, wf_ref *ret_root)
{
	struct zero *z = l->z;
	wf_ref files = WF_NIL;
	struct wf_source *source = NULL;
	int r = zero_load_files(l);
	if (r == 0)
		r = wf_container_index(&z->base, l->err);
	if (r == 0)
		r = wf_storages_new(l->g, &z->base, &l->storages, l->err);
	if (r == 0)
		r = put_together(l);
	wf_storages_free(l->storages);
	if (r == 0)
		r = wf_container_index(&z->base, l->err);
	if (r == 0)
		r = zero_make_files(l, &files);
	if (r == 0)
		r = make_root(l, files, ret_root);
	if (r == 0)
		r = make_note(l);
	if (r == 0 && (r = wf_space_source(z->space, &source)) < 0)
		wf_fail(l->err, r, "out of memory");
	if (r == 0) {
		wf_container_set_file(&z->base, source);
		z->space_taken = true;
	}
	return r;
}

static int load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	struct zero *z = (struct zero *)c;
	struct zero_load l = {.z = z, .g = g, .err = err};
	if (z->loaded)
		return wf_fail(err, -EINVAL, "the files were read before");
	z->loaded = true;
	int r = load(&l, ret_root);
	wf_key_map_free(&l.params);
	free(l.values);
	return r;
}

static int explain(const struct wf_container *c, const struct wf_record *record, struct wf_error *err)
{
	const struct zero *z = (const struct zero *)c;
	const char *text = wf_problems_get(&z->problems, (uint32_t)(record - c->records));
	return wf_fail(err, record->bad, "%s", text ? text : "broken");
}

static int why(const struct wf_container *c, uint32_t i, struct wf_error *err)
{
	const struct zero *z = (const struct zero *)c;
	return wf_space_why(z->space, c->records[i].header_offset, c->records[i].stored_bytes, err);
}

static const char *shard(const struct wf_container *c, uint32_t i, uint32_t k)
{
	const struct zero *z = (const struct zero *)c;
	const struct wf_record *record = &c->records[i];
	if (record->bad || record->stored_bytes == 0)
		return NULL;
	uint32_t member = wf_space_member_of(z->space, record->header_offset, record->stored_bytes, k);
	return member == UINT32_MAX ? NULL : wf_members_name(wf_space_members(z->space), member);
}

static void free_zero(struct wf_container *c)
{
	struct zero *z = (struct zero *)c;
	if (!z->space_taken)
		wf_space_free(z->space);
	wf_problems_free(&z->problems);
	zero_listing_free(&z->list);
}

static const struct wf_container_ops ops = {
	.explain = explain, .why = why, .load_graph = load_graph, .shard = shard, .free = free_zero};

static int add_file(struct zero *z, struct zero_file *f, struct wf_error *err)
{
	struct wf_error why = {0};
	f->start = wf_space_size(z->space); /* of one that cannot be opened, too: the starts go up */
	int r = wf_space_add_file(z->space, f->member, &f->start, &why);
	if (r == 0)
		r = wf_members_size(wf_space_members(z->space), f->member, &f->size_bytes, &why);
	if (r == 0)
		return 0;
	if (r == -ENOMEM || r == -E2BIG) {
		*err = why;
		return r;
	}
	f->problem = strdup(why.text);
	return f->problem ? 0 : wf_fail(err, -ENOMEM, "out of memory");
}

/* The file whose state is that of the whole. */
static uint32_t main_file(const struct zero_listing *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (list->files[i].kind == ZERO_MODEL)
			return i;
	return 0;
}

static int open_files(struct zero *z, const char *directory, struct wf_error *err)
{
	struct wf_members *members;
	struct zero_listing *list = &z->list;
	uint64_t start;
	int r = wf_members_new(directory, &members, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < list->count && r == 0; i++)
		r = wf_members_add(members, list->files[i].name, strlen(list->files[i].name), &list->files[i].member,
				   err);
	if (r == 0)
		r = wf_space_new(members, NULL, NULL, &z->space, err);
	if (r < 0) {
		wf_members_unref(members);
		return r;
	}
	r = wf_space_add_file(z->space, list->files[main_file(list)].member, &start, err);
	for (uint32_t i = 0; i < list->count && r == 0; i++)
		r = add_file(z, &list->files[i], err);
	return r;
}

static int open_zero(struct zero *z, const char *directory, struct wf_source *main, struct wf_error *err)
{
	int r = zero_list(directory, &z->list, err);
	if (r == 0 && z->list.count == 0)
		r = wf_fail(err, -ESTALE, "its files are gone");
	if (r == 0)
		r = open_files(z, directory, err);
	if (r == 0 && (r = wf_container_init(&z->base, &ops, WF_CONTAINER_ZERO, main)) < 0)
		wf_fail(err, r, "out of memory");
	return r;
}

static int open_directory(const struct wf_directory *d, struct wf_source *main, struct wf_container **ret,
			  struct wf_error *err)
{
	cleanup_free char *directory = strndup(d->main, (size_t)(strrchr(d->main, '/') - d->main));
	struct zero *z = calloc(1, sizeof *z);
	if (!z || !directory) {
		free(z);
		return wf_fail(err, -ENOMEM, "out of memory");
	}
	z->base.ops = &ops;
	int r = open_zero(z, directory, main, err);
	if (r < 0) {
		wf_container_free(&z->base);
		return r;
	}
	*ret = &z->base;
	return 0;
}

static int find(const char *path, bool is_directory, char **ret_main, char **ret_name, struct wf_error *err)
{
	struct zero_listing list = {0};
	cleanup_free char *directory = NULL;
	(void)ret_name;
	if (!is_directory)
		return 1;
	int r = zero_find(path, &directory, err);
	if (r != 0)
		return r;
	r = zero_list(directory, &list, err);
	if (r == 0 && list.count == 0)
		r = 1;
	if (r == 0 && asprintf(ret_main, "%s/%s", directory, list.files[main_file(&list)].name) < 0) {
		*ret_main = NULL;
		r = wf_fail(err, -ENOMEM, "out of memory");
	}
	zero_listing_free(&list);
	return r;
}

const struct wf_directory_reader wf_zero_reader = {
	.find = find,
	.open = open_directory,
	.read_only =
		"a checkpoint of DeepSpeed is read-only, for its parameters stand in pieces: commit to a new file with -o "
		"output=FILE, or use wfctl export",
};
