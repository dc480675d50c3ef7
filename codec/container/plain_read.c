/* SPDX-License-Identifier: MIT */
/* A pickle by itself, as pickle.dump writes it: arrays and values, in any protocol.
 *
 *   pickle     the object; the bytes of its arrays stand inside
 *   (anything: pickle.load stops here, and another pickle may follow)
 *
 * Protocols 2 to 5 begin with 0x80 and their number. Protocols 0 and 1 have no mark of their own: a file is one when all
 * of it reads as one, up to a container. Persistent ids have no meaning here.
 */
#include "codec/container/records.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"

#define PROTO 0x80
#define LAST_PROTOCOL 5

struct plain {
	struct wf_container base;
	bool loaded;
};

static void graph_freep(struct wf_graph **g)
{
	wf_graph_free(*g);
}

static wf_ref no_id(void *ctx, struct wf_graph *g, wf_ref id, struct wf_error *err)
{
	if (wf_is_storage_id(g, id))
		wf_fail(err, -EMEDIUMTYPE,
			"this is the data.pkl of a checkpoint, taken out of its archive: the tensors' bytes are not in it "
			"(open the archive; an unpacked one becomes one again with `zip -0 -r model.pt FOLDER`)");
	else
		wf_fail(err, -EOPNOTSUPP,
			"this is a Python pickle with persistent ids, which only the program that wrote it understands");
	return WF_NIL;
}

static int read_object(struct wf_source *file, struct wf_graph *g, wf_ref *ret_root, uint64_t *ret_end,
		       struct wf_error *err)
{
	const struct wf_pickle_reader reader = {.persid = no_id};
	*ret_end = 0;
	return wf_read_part(g, file, 0, wf_source_size(file), ret_end, UINT64_MAX, &reader, ret_root, err);
}

static int load_graph(struct wf_container *c, struct wf_graph *g, wf_ref *ret_root, struct wf_error *err)
{
	struct plain *p = (struct plain *)c;
	struct wf_record *object = NULL;
	struct wf_error own = {0};
	uint64_t end;
	if (p->loaded)
		return wf_fail(err, -EINVAL, "the object was read before");
	p->loaded = true;
	int r = read_object(c->file, g, ret_root, &end, err ? err : &own);
	if (r < 0)
		return wf_lookalike_pickle(c->file, g, r, err);
	r = wf_container_add(c, "object", strlen("object"), &object);
	if (r < 0)
		return wf_fail(err, r, "out of memory");
	object->stored_bytes = object->size_bytes = end;
	return wf_container_index(c, err);
}

static const struct wf_container_ops ops = {.load_graph = load_graph};

static bool is_container(const struct wf_graph *g, wf_ref r)
{
	enum wf_kind kind = wf_kind_of(g, r);
	return kind == WF_TUPLE || kind == WF_LIST || kind == WF_DICT || kind == WF_CALL;
}

/* Whether the file is a pickle without a mark. Any text fails within a few bytes. */
static bool is_early_protocol(struct wf_source *file)
{
	cleanup_with(graph_freep) struct wf_graph *g = NULL;
	wf_ref root;
	uint64_t end;
	return wf_graph_new(&g) == 0 && read_object(file, g, &root, &end, NULL) == 0 && is_container(g, root);
}

int wf_plain_open(struct wf_source *file, struct wf_container **ret, struct wf_error *err)
{
	unsigned char head[2];
	if (wf_source_size(file) < sizeof head)
		return 1;
	int r = wf_source_read(file, 0, head, sizeof head);
	if (r < 0)
		return wf_fail(err, r, "cannot read the file: %s", strerror(-r));
	if (head[0] == PROTO ? head[1] < 2 || head[1] > LAST_PROTOCOL : !is_early_protocol(file))
		return 1;
	struct plain *p = calloc(1, sizeof *p);
	if (!p)
		return wf_fail(err, -ENOMEM, "out of memory");
	r = wf_container_init(&p->base, &ops, WF_CONTAINER_PICKLE, file);
	if (r < 0) {
		wf_container_free(&p->base);
		return wf_fail(err, r, "out of memory");
	}
	*ret = &p->base;
	return 0;
}
