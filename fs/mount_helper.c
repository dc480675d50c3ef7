/* SPDX-License-Identifier: MIT */
/* Takes what mount(8) says to every helper out of the command line: -f and -s mean something else to weightfs. */
#include "mount_helper.h"

#include <string.h>

#include "say.h"

static bool is_helper(const char *program)
{
	const char *slash = strrchr(program, '/');
	return !strncmp(slash ? slash + 1 : program, "mount.", 6);
}

/* mount(8) says rw where nobody said ro: the checkpoint's own mode is to decide, as without it. */
static void drop_rw(char *options)
{
	char *out = options;
	for (char *at = options; *at;) {
		size_t len = strcspn(at, ","), whole = len + (at[len] == ',');
		if (len != 2 || strncmp(at, "rw", 2) != 0) {
			memmove(out, at, whole);
			out += whole;
		}
		at += whole;
	}
	if (out > options && out[-1] == ',')
		out--;
	*out = '\0';
}

int fs_mount_helper(int *argc, char **argv, bool *ret_fake)
{
	int kept = 1;
	*ret_fake = false;
	if (*argc < 1 || !is_helper(argv[0]))
		return 0;
	for (int i = 1; i < *argc; i++) {
		char *word = argv[i];
		if (!strcmp(word, "-t") && i + 1 < *argc) {
			i++; /* the type, by which mount(8) found this program */
		} else if (!strcmp(word, "-N") && i + 1 < *argc) {
			fs_say("weightfs", argv[i + 1], "mounting in another namespace needs nsenter(1)");
			return 1;
		} else if (!strcmp(word, "-o") && i + 1 < *argc) {
			drop_rw(argv[++i]);
			if (argv[i][0]) {
				argv[kept++] = word;
				argv[kept++] = argv[i];
			}
		} else if (word[0] == '-' && word[1] && strspn(word + 1, "sfnv") == strlen(word + 1)) {
			*ret_fake |= strchr(word, 'f') != NULL;
		} else {
			argv[kept++] = word;
		}
	}
	argv[kept] = NULL;
	*argc = kept;
	return 0;
}
