/* SPDX-License-Identifier: MIT */
/* Where the bytes of arrays, and of storages that a pickle holds whole, stand in that pickle: for one that is copied but for them.
 *
 * A pickle depends on the place of nothing in it: memo indices are numbers or an order, and a string can become longer. Only a FRAME tells how
 * many bytes follow. So bytes can be written anew where they stand, unless the string object has another use, too: then the
 * other one would change with it.
 *
 * Calling sequence: wf_insides_find, which reads the pickle once more; look at all[storage]; wf_insides_free. Threads: as of the storages.
 */
#pragma once

#include "codec/pickle/pickle.h"
#include "codec/tensor/storage.h"

struct wf_inside {
	uint64_t start,
		end; /* of the opcode that pushes the bytes, from the pickle's first byte on; 0 and 0: of no storage inside */
	uint8_t op;
	bool shared; /* the string object is used elsewhere, too */
};

struct wf_insides {
	struct wf_inside *all;          /* by storage of the base */
	uint32_t count;                 /* storages that were made later are none of its */
	struct wf_pickle_place *frames; /* in their order */
	uint32_t frame_count;
};

/* The main pickle of a container as a source that begins with it. */
int wf_open_pickle(const struct wf_container *c, struct wf_source **ret, struct wf_error *err);
/* ss: the storages of the same pickle, maybe of an earlier copy of it. Returns 0; -EUCLEAN the two differ; -E2BIG; -ENOMEM; or the
 * source's error. */
int wf_insides_find(const struct wf_container *c, const struct wf_storages *ss, struct wf_insides *ret,
		    struct wf_error *err);
void wf_insides_free(struct wf_insides *t);
