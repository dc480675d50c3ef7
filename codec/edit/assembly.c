/* SPDX-License-Identifier: MIT */
/* Sparse, nested and quantised tensors are directories of their parts. Who copies one makes a directory and its files; the attribute
 * user.torch.assembly tells which tensor these are, before they come (rsync) or when they are there (cp -a, tar). */
#include <errno.h>
#include <string.h>

#include "codec/edit/inner.h"
#include "codec/bytes/util.h"
#include "codec/tensor/assembly.h"
#include "codec/value/text.h"

/* The entries of the directory, whose names they have in `names`. */
struct parts {
	char names[WF_ASSEMBLY_PARTS][WF_NAME_MAX + 1];
	const char *name[WF_ASSEMBLY_PARTS];
	struct wf_entry entries[WF_ASSEMBLY_PARTS];
	wf_ref objects[WF_ASSEMBLY_PARTS];
	uint32_t count;
};

static int take_parts(struct wf_checkpoint *ck, const struct wf_dir *d, struct parts *ret)
{
	ret->count = 0;
	if (d->live > WF_ASSEMBLY_PARTS)
		return wf_refuse(ck, -EINVAL, "it has not the parts of such a tensor, and these alone");
	for (uint32_t i = 0; i < d->count; i++) {
		uint32_t k = ret->count;
		if (!wf_tree_name(ck->tree, d, i, ret->names[k]))
			continue;
		const struct wf_file *f = wf_edit_known(ck, d->entries[i].ino);
		const struct wf_node *n = wf_tree_node(ck->tree, d->entries[i].ino);
		if (n->type != WF_NODE_TENSOR || (f && f->pending != PENDING_NOT && !f->settled))
			return wf_refuse(ck, -EINVAL, "%s is no tensor, or still being written", ret->names[k]);
		/* it is the whole tensor's object from then on */
		if (!strcmp(ret->names[k], "int_repr") && n->nlink > 1)
			return wf_refuse(ck, -EINVAL,
					 "int_repr has another name, under which it is a tensor by itself");
		ret->name[k] = ret->names[k];
		ret->entries[k] = d->entries[i];
		ret->objects[k] = d->entries[i].value;
		ret->count++;
	}
	return 0;
}

/* The entries as those of the tensor, in its order. */
static int order_parts(struct wf_checkpoint *ck, wf_ref tensor, const struct parts *parts, struct wf_entry *ret)
{
	const char *names[WF_ASSEMBLY_PARTS];
	wf_ref objects[WF_ASSEMBLY_PARTS];
	wf_tensor_components(ck->graph, tensor, names, objects);
	for (uint32_t i = 0; i < parts->count; i++) {
		uint32_t k = 0;
		while (strcmp(parts->names[k], names[i]) != 0)
			k++;
		ret[i] = (struct wf_entry){wf_str(ck->graph, names[i]), objects[i], parts->entries[k].ino};
		if (ret[i].key == WF_NIL)
			return -ENOMEM;
	}
	return 0;
}

static bool takes_tensors(struct wf_checkpoint *ck, const struct wf_dir *d)
{
	return d->kind == WF_DIR_MAPPING && !d->read_only_names && !wf_edit_is_flat(ck) &&
	       !wf_edit_names_entries(ck, d->ino) && !wf_edit_is_scratch(ck, d->ino);
}

static int apply_assembly(struct wf_checkpoint *ck, wf_ino ino, const char *text)
{
	struct parts parts;
	struct wf_entry entries[WF_ASSEMBLY_PARTS];
	wf_ref what, tensor;
	const char *why = NULL;
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
	if (!takes_tensors(ck, d))
		return wf_refuse(ck, -EPERM, "this directory cannot become a tensor");
	int r = wf_value_parse_json(ck->graph, text, strlen(text), &what);
	if (r == 0)
		r = take_parts(ck, d, &parts);
	if (r == 0)
		r = wf_assembly_make(ck->graph, ck->storages, what, parts.name, parts.objects, parts.count, &tensor,
				     &why);
	if (r < 0)
		return why ? wf_refuse(ck, r, "%s", why) : r;
	r = order_parts(ck, tensor, &parts, entries);
	if (r == 0)
		r = wf_tree_recast(ck->tree, ino, WF_DIR_FIXED, tensor, WF_NIL, entries, parts.count);
	if (r < 0)
		return r;
	wf_pasts_moved(ck, ino);
	wf_declared_clear(wf_edit_known(ck, ino));
	ck->edits->types_changed = true;
	for (uint32_t i = 0; i < parts.count; i++) {
		struct wf_file *f = wf_edit_known(ck, entries[i].ino);
		wf_edit_note_place(ck, entries[i].ino, ino, i);
		if (!f)
			continue;
		/* what is written now is written into a part, which keeps its dtype and shape */
		f->is_new = false;
		wf_declared_clear(f);
		wf_edit_knows(f);
	}
	wf_edit_reordered(ck, ino);
	return 0;
}

int wf_apply_to_directory(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	return !strcmp(name, WF_ASSEMBLY)         ? apply_assembly(ck, ino, value)
	       : strcmp(name, "user.torch.class") ? 0
						  : wf_edit_set_class_of_dir(ck, ino, value);
}

/* With its record. Where it fails nothing has changed. */
static int assemble(struct wf_checkpoint *ck, wf_ino ino, const char *text)
{
	int r = apply_assembly(ck, ino, text);
	return r < 0 ? r : wf_edit_record_setting(ck, EDIT_ATTRIBUTE, ino, WF_ASSEMBLY, text);
}

static int set_assembly(struct wf_checkpoint *ck, wf_ino ino, const char *text)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
	if (!f || !f->is_new)
		return wf_refuse(ck, -EPERM, "only a directory that was made since the last commit becomes a tensor");
	if (!takes_tensors(ck, d))
		return wf_refuse(ck, -EPERM, "this directory cannot become a tensor");
	return d->live == 0 ? wf_edit_declare(ck, ino, WF_ASSEMBLY, text) : assemble(ck, ino, text);
}

/* Whether it can be of that class when its parts or the attribute come. */
static bool awaits_parts_as(struct wf_checkpoint *ck, wf_ino ino, const char *klass)
{
	const struct wf_file *f = wf_edit_known(ck, ino);
	const struct wf_dir *d = wf_tree_dir(ck->tree, ino);
	return f && f->is_new && takes_tensors(ck, d) && (d->live == 0 || wf_declared(f, DECLARED_ASSEMBLY)) &&
	       (!strcmp(klass, "torch.Tensor") || !strcmp(klass, "torch.nn.parameter.Parameter"));
}

int wf_edit_set_of_directory(struct wf_checkpoint *ck, wf_ino ino, const char *name, const char *value)
{
	struct wf_file *f = wf_edit_file(ck, ino);
	int r;
	if (!f)
		return -ENOMEM;
	if (!strcmp(name, WF_ASSEMBLY))
		r = set_assembly(ck, ino, value);
	else if (strcmp(name, "user.torch.class") != 0)
		return 0;
	else if (awaits_parts_as(ck, ino, value))
		r = wf_edit_declare(ck, ino, name, value);
	else if ((r = wf_edit_set_class_of_dir(ck, ino, value)) == 0)
		r = wf_edit_record_setting(ck, EDIT_ATTRIBUTE, ino, name, value);
	f->class_refused = r == -EINVAL || r == -EPERM;
	return r;
}

static bool awaits_parts(const struct wf_checkpoint *ck, wf_ino ino)
{
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	const struct wf_file *f = wf_edit_known(ck, ino);
	return n && n->type == WF_NODE_DIR && (wf_declared(f, DECLARED_ASSEMBLY) || wf_declared(f, DECLARED_CLASS));
}

static int try_again(struct wf_checkpoint *ck, wf_ino ino)
{
	const char *text = wf_declared(wf_edit_known(ck, ino), DECLARED_ASSEMBLY);
	if (!text)
		return -EINVAL;
	cleanup_free char *copy = strdup(text); /* what is declared goes with the success */
	return copy ? assemble(ck, ino, copy) : -ENOMEM;
}

/* ---- when the parts are there ---- */

int wf_directory_is_dressed(struct wf_checkpoint *ck, uint32_t ino, bool mode)
{
	pthread_rwlock_rdlock(&ck->lock);
	const struct wf_node *n = wf_tree_node(ck->tree, ino);
	const struct wf_file *known = n && n->type == WF_NODE_DIR ? wf_edit_known(ck, ino) : NULL;
	bool nothing = !known || (!(known->class_refused && mode) && !awaits_parts(ck, ino));
	pthread_rwlock_unlock(&ck->lock);
	int r = nothing ? 0 : wf_edit_begin(ck);
	if (nothing || r < 0)
		return r;
	struct wf_file *f = wf_edit_known(ck, ino);
	if (awaits_parts(ck, ino) && wf_tree_dir(ck->tree, ino)->live > 0)
		try_again(ck, ino); /* else it goes on to wait: a commit tells */
	if (f && f->class_refused && mode) {
		f->class_refused = false;
		r = wf_refuse(ck, -EINVAL, "its attributes make another object of it than the mapping that it is");
	}
	wf_edit_end(ck);
	return r;
}

uint32_t wf_edits_assemble_all(struct wf_checkpoint *ck, struct wf_buffer *ret_names)
{
	struct wf_edits *e = ck->edits;
	uint32_t left = 0;
	for (wf_ino ino = 1; e && ino <= e->files_count; ino++) {
		struct wf_file *f = wf_edit_known(ck, ino);
		if (!f || !f->declared || !awaits_parts(ck, ino))
			continue;
		if (wf_tree_node(ck->tree, ino)->nlink > 0 && !wf_edit_is_scratch(ck, ino) && try_again(ck, ino) < 0) {
			wf_buffer_puts(ret_names, left++ ? ", " : "");
			wf_tree_path(ck->tree, ino, ret_names);
		}
		wf_declared_clear(f);
	}
	return left;
}
