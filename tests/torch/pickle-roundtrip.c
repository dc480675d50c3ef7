/* SPDX-License-Identifier: MIT */
/* Reads the pickle in a file and writes it to standard output:  pickle-roundtrip [-r] FILE [OFFSET [LENGTH]]
 *
 * With -r in the protocol in which it was read, otherwise in protocol 2. Without LENGTH the pickle may end anywhere; the offset after its STOP goes to standard error, and behind it "faithful",
 * or why what is written does not do what was read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/pickle/pickle.h"
#include "codec/bytes/util.h"

static int put(void *ctx, const void *data, size_t len)
{
	return fwrite(data, 1, len, ctx) == len ? 0 : -1;
}

int main(int argc, char **argv)
{
	cleanup_with(wf_source_unrefp) struct wf_source *source = NULL;
	const bool as_read = argc > 1 && strcmp(argv[1], "-r") == 0;
	const struct wf_pickle_writer writer = {.write = put, .ctx = stdout, .as_read = as_read};
	struct wf_error err = {0};
	struct wf_graph *g = NULL;
	char text[1024];
	uint64_t end = 0;
	wf_ref root;

	argc -= as_read;
	argv += as_read;
	if (argc < 2)
		return 2;
	int rc = wf_source_open_file(argv[1], &source, &err);
	if (rc == 0)
		rc = wf_graph_new(&g);
	if (rc == 0) {
		uint64_t offset = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
		uint64_t len = argc > 3 ? strtoull(argv[3], NULL, 10) : wf_source_size(source) - offset;
		rc = wf_pickle_read(g, source, offset, len, NULL, &root, &end, &err);
	}
	const char *why = "";
	int faithful = rc == 0 ? wf_pickle_faithful(g, root, &why) : 0;
	if (rc == 0)
		rc = wf_pickle_write(g, root, &writer, &err);
	if (rc == 0)
		fprintf(stderr, "%" PRIu64 " %s\n", end, faithful == 1 ? "faithful" : why);
	else
		fprintf(stderr, "%s\n", wf_error_format(&err, text, sizeof text));
	wf_graph_free(g);
	return rc == 0 && fflush(stdout) == 0 ? 0 : 1;
}
