/* SPDX-License-Identifier: MIT */
/* Reads the command line and the mount options. */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "places.h"
#include "say.h"

#define OPTION(text, member)                                 \
	{                                                    \
		text, offsetof(struct fs_options, member), 1 \
	}

enum { KEY_IGNORE };

static const struct fuse_opt specification[] = {
	OPTION("ro", read_only),
	OPTION("rw", read_write),
	OPTION("preload", preload),
	OPTION("verify", verify),
	OPTION("direct_io", direct_io),
	OPTION("output=%s", output),
	OPTION("commit=%s", commit),
	OPTION("map_location=%s", map_location),
	OPTION("uid=%u", uid),
	OPTION("uid=", set_uid),
	OPTION("gid=%u", gid),
	OPTION("gid=", set_gid),
	OPTION("umask=%o", umask),
	OPTION("umask=", set_umask),
	OPTION("allow_other", allow_other),
	OPTION("default_permissions", default_permissions),
	OPTION("-f", foreground),
	OPTION("-d", debug),
	OPTION("debug", debug),
	OPTION("-s", single_threaded),
	OPTION("-h", show_help),
	OPTION("--help", show_help),
	OPTION("-V", show_version),
	OPTION("--version", show_version),
	/* what mount(8) and fstab add, and what is always so here */
	FUSE_OPT_KEY("nofail", KEY_IGNORE),
	FUSE_OPT_KEY("auto", KEY_IGNORE),
	FUSE_OPT_KEY("noauto", KEY_IGNORE),
	FUSE_OPT_KEY("user", KEY_IGNORE),
	FUSE_OPT_KEY("nouser", KEY_IGNORE),
	FUSE_OPT_KEY("users", KEY_IGNORE),
	FUSE_OPT_KEY("_netdev", KEY_IGNORE),
	FUSE_OPT_KEY("x-", KEY_IGNORE),
	FUSE_OPT_KEY("dev", KEY_IGNORE),
	FUSE_OPT_KEY("nodev", KEY_IGNORE),
	FUSE_OPT_KEY("suid", KEY_IGNORE),
	FUSE_OPT_KEY("nosuid", KEY_IGNORE),
	FUSE_OPT_KEY("exec", KEY_IGNORE),
	FUSE_OPT_KEY("noexec", KEY_IGNORE),
	FUSE_OPT_END,
};

void fs_options_help(void)
{
	puts("usage: weightfs [options] CHECKPOINT MOUNTPOINT\n"
	     "\n"
	     "Shows a PyTorch checkpoint as a directory; nothing in it is executed.\n"
	     "\n"
	     "options:\n"
	     "  -f                     stay in the foreground\n"
	     "  -d                     trace requests (implies -f)\n"
	     "  -s                     one thread\n"
	     "  -h, --help             this text\n"
	     "  -V, --version          the version\n"
	     "  -o OPT[,OPT...]        mount options:\n"
	     "\n"
	     "  ro, rw                 read only, or writable (default: as the checkpoint is)\n"
	     "  map_location=LOC       place storages: cpu, cuda, cuda:N, or FROM=TO joined by ;\n"
	     "  preload                load every storage at mount rather than at first use\n"
	     "  verify                 hold what map_location loads against its CRC\n"
	     "  output=FILE            commits go to FILE (x.safetensors: in that format; of several files a new\n"
	     "                         directory); the checkpoint is never touched\n"
	     "  commit=MODE            auto, replace or append\n"
	     "  direct_io              tensor files past the page cache: no second copy of what the checkpoint's has\n"
	     "  allow_other            let other users in (brings default_permissions)\n"
	     "  default_permissions    the kernel checks permissions\n"
	     "  uid=N, gid=N, umask=M  owner and mode of what is shown\n"
	     "\n"
	     "Exit status: 0 the mount is ready; 1 it failed, and one line says why; 2 used wrongly.");
}

static int fail(const char *what, const char *why)
{
	fs_say("weightfs", what, "%s", why);
	return 2;
}

/* The two arguments; everything else that is not ours stays for libfuse. */
static int collect(void *data, const char *arg, int key, struct fuse_args *rest)
{
	struct fs_options *o = data;
	if (key == KEY_IGNORE || (key == FUSE_OPT_KEY_OPT && !strncmp(arg, "x-", 2)))
		return 0;
	if (key != FUSE_OPT_KEY_NONOPT && strcmp(arg, "-") != 0)
		return 1;
	char **target = !o->checkpoint ? &o->checkpoint : !o->mountpoint ? &o->mountpoint : NULL;
	if (!target) {
		fail(arg, "one argument too many: weightfs [options] CHECKPOINT MOUNTPOINT");
		return -1;
	}
	*target = strdup(arg);
	return *target ? 0 : -1;
}

static int check_commit_mode(struct fs_options *o)
{
	static const char *const names[] = {
		[WF_COMMIT_AUTO] = "auto", [WF_COMMIT_REPLACE] = "replace", [WF_COMMIT_APPEND] = "append"};
	for (int i = 0; o->commit && i < 3; i++)
		if (!strcmp(names[i], o->commit)) {
			o->commit_mode = (enum wf_commit_mode)i;
			return 0;
		}
	return o->commit ? fail("commit", "is auto, replace or append") : 0;
}

/* A checkpoint that cannot be one, before anything is opened. Returns an exit status. */
static int check_arguments(const struct fs_options *o)
{
	struct stat first, second;
	const char *dash = fs_refuse_dash(o->checkpoint);
	/* as of a variable that is not set: made absolute, they are the working directory */
	if (o->mountpoint[0] == '\0')
		return fail("MOUNTPOINT", "is an empty name");
	if (o->output && o->output[0] == '\0')
		return fail("output", "is an empty name");
	if (dash) {
		fail(o->checkpoint, dash);
		return 1;
	}
	if (stat(o->checkpoint, &first) == 0 && S_ISDIR(first.st_mode) && stat(o->mountpoint, &second) == 0 &&
	    S_ISREG(second.st_mode)) {
		fs_say("weightfs", o->checkpoint,
		       "a directory, and %s is a file: the checkpoint comes first (weightfs %s %s)", o->mountpoint,
		       o->mountpoint, o->checkpoint);
		return 2;
	}
	return 0;
}

/* The daemon changes its directory: the mount point must stay what it is. Without links, as the table of mounts has it;
 * what cannot be resolved fails later, with its own name in the message. */
static int absolute_mountpoint(struct fs_options *o)
{
	char cwd[PATH_MAX], *path;
	if (strncmp(o->mountpoint, "/dev/fd/", 8) != 0 && (path = realpath(o->mountpoint, NULL))) {
		free(o->mountpoint);
		o->mountpoint = path;
		return 0;
	}
	if (o->mountpoint[0] == '/')
		return 0;
	if (!getcwd(cwd, sizeof cwd) || asprintf(&path, "%s/%s", cwd, o->mountpoint) < 0) {
		fail(o->mountpoint, strerror(errno));
		return 1;
	}
	free(o->mountpoint);
	o->mountpoint = path;
	return 0;
}

int fs_options_parse(int argc, char **argv, struct fs_options *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->fuse = (struct fuse_args)FUSE_ARGS_INIT(argc, argv);
	if (fuse_opt_parse(&ret->fuse, ret, specification, collect) < 0)
		return 2;
	if (ret->show_help || ret->show_version)
		return 0;
	if (!ret->checkpoint || !ret->mountpoint) {
		fprintf(stderr, "usage: weightfs [options] CHECKPOINT MOUNTPOINT (weightfs --help tells more)\n");
		return 2;
	}
	ret->foreground |= ret->debug;
	ret->default_permissions |=
		ret->allow_other; /* without it, what one user may see leaks to others through the cache */
	if (ret->preload && !ret->map_location)
		return fail("preload", "needs map_location");
	if (ret->verify && !ret->map_location)
		return fail("verify", "needs map_location (wfctl verify checks a file)");
	if (ret->read_only && ret->read_write)
		return fail("ro and rw", "are opposites");
	int r = check_commit_mode(ret);
	if (r == 0)
		r = check_arguments(ret);
	return r ? r : absolute_mountpoint(ret);
}

void fs_options_free(struct fs_options *o)
{
	fuse_opt_free_args(&o->fuse);
	free(o->checkpoint);
	free(o->mountpoint);
	free(o->output);
	free(o->commit);
	free(o->map_location);
}
