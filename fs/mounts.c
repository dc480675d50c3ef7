/* SPDX-License-Identifier: MIT */
/* Reads mountinfo, the kernel's table of mounts:
 *
 *     36 35 98:0 /below /point rw,noatime master:1 - fuse.weightfs /the/source rw,user_id=1000,group_id=1000
 *     id parent dev root point options [tags...]   - type          source      options of the file system
 */
#include "mounts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

enum { ID, PARENT, DEVICE, ROOT, POINT, OPTIONS, FIELDS };

/* A path of the table has \040 for a blank, and the like. */
static void unescape(char *path)
{
	char *out = path;
	for (const char *in = path; *in; out++) {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] && in[3]) {
			*out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 4;
		} else {
			*out = *in++;
		}
	}
	*out = '\0';
}

/* Between commas. */
static const char *find_option(const char *options, const char *name)
{
	size_t len = strlen(name);
	for (const char *at = options; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
		if (!strncmp(at, name, len) && (name[len - 1] == '=' || at[len] == ',' || at[len] == '\0'))
			return at + len;
	return NULL;
}

/* Takes the line apart. A field can be empty: a source that is "". */
static bool parse(char *line, struct fs_mount *ret)
{
	char *field[FIELDS], *type, *source, *super;
	unsigned int major_no, minor_no;
	line[strcspn(line, "\n")] = '\0';
	for (int i = 0; i < FIELDS; i++)
		if (!(field[i] = strsep(&line, " ")))
			return false;
	do
		type = strsep(&line, " "); /* tags, up to the dash */
	while (type && strcmp(type, "-") != 0);
	type = strsep(&line, " ");
	source = strsep(&line, " ");
	super = strsep(&line, " ");
	if (!super || sscanf(field[DEVICE], "%u:%u", &major_no, &minor_no) != 2)
		return false;
	unescape(field[POINT]);
	unescape(type);
	unescape(source);
	const char *owner = find_option(super, "user_id=");
	*ret = (struct fs_mount){.id = atoi(field[ID]),
				 .parent = atoi(field[PARENT]),
				 .dev = makedev(major_no, minor_no),
				 .point = field[POINT],
				 .type = type,
				 .source = source,
				 .writable = find_option(field[OPTIONS], "rw") && find_option(super, "rw"),
				 .weightfs = !strcmp(type, "fuse.weightfs"),
				 .owner = owner ? (uid_t)strtoul(owner, NULL, 10) : 0};
	return true;
}

bool fs_each_mount(FILE *table, bool (*each)(void *ctx, const struct fs_mount *m), void *ctx)
{
	char *line = NULL;
	size_t size = 0;
	struct fs_mount m;
	bool done = false;
	if (!table && !(table = fopen("/proc/self/mountinfo", "re")))
		return false;
	while (!done && getline(&line, &size, table) > 0)
		done = parse(line, &m) && each(ctx, &m);
	free(line);
	fclose(table);
	return true;
}
