/* SPDX-License-Identifier: MIT */
/* Opens the checkpoint, mounts, serves, and commits at the end; in the background with a parent that waits. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "beside.h"
#include "busy.h"
#include "changed.h"
#include "control.h"
#include "errors.h"
#include "invalidate.h"
#include "log.h"
#include "mounting.h"
#include "ops.h"
#include "places.h"
#include "releases.h"
#include "say.h"
#include "signals.h"
#include "waiting.h"
#include "was_link.h"
#include "write_behind.h"

#define THREADS_MAX 64
#define THREADS_IDLE 8 /* that wait for the next burst */

/* Where the serving process tells its parent how the start went. */
struct start {
	int pipe; /* -1 in the foreground, and once it was told */
};

static int fail(const char *what, const char *why)
{
	fs_say("weightfs", what, "%s", why);
	return 1;
}

static void log_line(void *ctx, const char *line)
{
	fs_log(ctx, LOG_WARNING, "%s", line);
}

/* ---- opened ---- */

/* On a terminal a long preload shows how far it is. From several threads. */
static void show_preload(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct fs *fs = ctx;
	uint64_t last = atomic_load(&fs->preload_shown);
	if (!fs->on_terminal || done_bytes - last < total_bytes / 100 + (64 << 20) ||
	    !atomic_compare_exchange_strong(&fs->preload_shown, &last, done_bytes))
		return;
	fprintf(stderr, "\rloading: %llu of %llu MiB", (unsigned long long)(done_bytes >> 20),
		(unsigned long long)(total_bytes >> 20));
}

static void entry_changed(void *ctx, uint32_t dir, const char *name)
{
	if (((struct fs *)ctx)->invalidator)
		fs_invalidate_entry(ctx, dir, name);
}

struct opening {
	struct fs *fs;
	const struct wf_open_options *options;
	struct wf_error *err;
};

static int try_open(void *ctx)
{
	struct opening *o = ctx;
	return wf_open(o->fs->options.checkpoint, o->options, &o->fs->checkpoint, o->err);
}

static int open_waiting(struct fs *fs, const struct wf_open_options *options, struct wf_error *err)
{
	return fs_when_free(fs->options.checkpoint, try_open, &(struct opening){fs, options, err});
}

/* A mount that was not told which of the two it is becomes read-only where edits could not be written: why, it says later. */
static int choose_writable(struct fs *fs, bool *ret)
{
	const struct fs_options *o = &fs->options;
	char *why = NULL;
	*ret = false;
	if (o->read_only)
		return 0;
	int r = fs_beside_open(o->checkpoint, o->output, &fs->beside, &why), status = 0;
	bool forbidden = r == -EACCES || r == -EPERM || r == -EROFS;
	*ret = !forbidden; /* what else is wrong with the file is told by who opens it */
	if ((r < 0 && o->output) || (forbidden && o->read_write))
		status = fail(o->checkpoint, why ? why : strerror(-r));
	else if (forbidden)
		fs->why_read_only = strdup(why ? why : strerror(-r));
	free(why);
	return status;
}

static int check_hidden(const struct fs *fs)
{
	const struct fs_options *o = &fs->options;
	const char *file = fs->writable ? fs_beside_hidden_by(o->mountpoint, wf_path(fs->checkpoint), o->output) : NULL;
	if (!file)
		return 0;
	fs_say("weightfs", o->mountpoint,
	       "a mount there hides %s and the place where edits of it are kept: mount elsewhere, or with -o ro", file);
	return 1;
}

static int fail_open(const char *checkpoint, const struct wf_error *err)
{
	char text[700], mount[PATH_MAX];
	wf_error_format(err, text, sizeof text);
	const char *path = text[0] == '/' ? NULL : checkpoint; /* it names the file itself */
	if (err->code != -EBUSY || !fs_mount_of(checkpoint, mount, sizeof mount))
		return fail(path, text);
	fs_say("weightfs", path, "%s, and mounted on %s (wfctl umount it first, or mount with -o ro)", text, mount);
	return 1;
}

static int open_checkpoint(struct fs *fs)
{
	struct fs_options *o = &fs->options;
	struct wf_error err = {0};
	bool writable;
	if (choose_writable(fs, &writable))
		return 1;
	struct wf_open_options options = {.writable = writable,
					  .output = o->output,
					  .commit_mode = o->commit_mode,
					  .changed = fs_changed,
					  .renamed = entry_changed,
					  .became_directory = fs_became_directory,
					  .changed_ctx = fs,
					  .map_location = o->map_location,
					  .preload = o->preload,
					  .verify = o->verify,
					  .preloaded = show_preload,
					  .preloaded_ctx = fs,
					  .open_device = fs->open_device,
					  .log = log_line,
					  .log_ctx = fs,
					  .refused = fs_note_reason};
	int r = open_waiting(fs, &options, &err);
	if (r == -EPERM && options.writable && !o->read_write) {
		/* somebody else's directory stands where edits would go */
		options.writable = false;
		fs_log(fs, LOG_WARNING, "%s; the mount is read-only", err.text);
		r = open_waiting(fs, &options, &err);
	}
	if (fs->preload_shown)
		fputs("\r\033[K", stderr);
	if (r < 0)
		return fail_open(o->checkpoint, &err);
	fs->writable = options.writable;
	fs->generation = wf_generation(fs->checkpoint);
	return check_hidden(fs);
}

/* ---- mounted ---- */

static void make_ops(struct fs *fs, struct fuse_lowlevel_ops *ops);

static int add_mount_options(struct fs *fs)
{
	struct fuse_args *args = &fs->options.fuse;
	char *fsname = NULL, *escaped = NULL;
	/* commas separate options: libfuse takes a backslash before one that belongs to a name */
	size_t n = strlen(wf_path(fs->checkpoint));
	escaped = malloc(2 * n + 1);
	if (!escaped)
		return -ENOMEM;
	char *out = escaped;
	for (const char *p = wf_path(fs->checkpoint); *p; p++) {
		if (*p == ',' || *p == '\\')
			*out++ = '\\';
		*out++ = *p;
	}
	*out = '\0';
	int r = asprintf(&fsname, "-ofsname=%s,subtype=weightfs,nosuid,nodev,noexec", escaped) < 0 ? -ENOMEM : 0;
	if (r == 0)
		r = fuse_opt_add_arg(args, fsname);
	if (r == 0)
		r = fuse_opt_add_arg(args, fs->writable ? "-orw" : "-oro");
	if (r == 0 && fs->options.allow_other)
		r = fuse_opt_add_arg(args, "-oallow_other");
	if (r == 0 && fs->options.default_permissions)
		r = fuse_opt_add_arg(args, "-odefault_permissions");
	if (r == 0 && fs->options.debug)
		r = fuse_opt_add_arg(args, "-odebug");
	free(fsname);
	free(escaped);
	return r < 0 ? -ENOMEM : 0;
}

/* ---- ready ---- */

/* The child says lines for people (an append that was cut back, a tensor that cannot be read) and, last of all, a zero
 * byte when it serves. The parent then asks the mount a question itself: when that is answered, the mount is ready for
 * everybody. */
static int wait_for_child(int pipe, pid_t child, const char *mountpoint)
{
	char line[1024];
	bool said = false, ready = false;
	ssize_t got;
	struct stat st;
	/* not up to the end of the pipe: fusermount3 keeps its standard error while -o auto_unmount makes it wait */
	while (!ready && (got = read(pipe, line, sizeof line)) != 0) {
		if (got < 0 && errno != EINTR)
			break;
		if (got <= 0)
			continue;
		ready = line[got - 1] == '\0';
		size_t n = (size_t)got - ready;
		said |= n > 0;
		fwrite(line, 1, n, stderr);
	}
	if (ready)
		return stat(mountpoint, &st) == 0 || errno == EACCES ? 0 : fail(mountpoint, strerror(errno));
	int status = 0;
	waitpid(child, &status, 0);
	if (!said)
		fprintf(stderr, "weightfs: the daemon ended before the mount was ready\n");
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

/* ---- serving ---- */

static int serve(struct fs *fs, struct start *start)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r = config ? fs_invalidator_start(fs) : -ENOMEM;
	if (r == 0 && fs->writable)
		r = fs_write_behind_start(fs);
	if (r == 0 && fs->writable)
		r = fs_waiting_start(fs);
	if (r == 0) {
		fs_answer_first(fs->session, fs->options.mountpoint);
		if (start->pipe >= 0) {
			char ok = '\0';
			if (write(start->pipe, &ok, 1) != 1)
				r = -EPIPE;
			dup2(STDOUT_FILENO, STDERR_FILENO);
			close(start->pipe);
			start->pipe = -1;
			fs->to_syslog = true;
		}
		fuse_loop_cfg_set_clone_fd(config, 0);
		/* edits wait for a commit, and reads for a slow disk or server, each with its thread; one is made only when all
		 * others are at work */
		fuse_loop_cfg_set_max_threads(config, THREADS_MAX);
		fuse_loop_cfg_set_idle_threads(config, THREADS_IDLE);
		if (r == 0)
			r = fs->options.single_threaded ? fuse_session_loop(fs->session)
							: fuse_session_loop_mt(fs->session, config);
	}
	if (config)
		fuse_loop_cfg_destroy(config);
	return r < 0 ? r : 0; /* a signal's number is a proper end */
}

static const char *target(const struct fs *fs)
{
	return fs->options.output ? fs->options.output : wf_path(fs->checkpoint);
}

/* The mount is gone: what was edited goes into the checkpoint now. */
static int commit_at_end(struct fs *fs)
{
	struct wf_error err = {0};
	char text[700];
	if (!fs->writable || !wf_is_dirty(fs->checkpoint))
		return 0;
	wf_release_closed(fs->checkpoint); /* the kernel has dropped the releases that were on their way */
	int r = wf_commit(fs->checkpoint, &err);
	if (r > 0)
		fs_log(fs, LOG_WARNING, "%s: committed, but %s", target(fs), err.text);
	if (r >= 0)
		return r;
	wf_error_format(&err, text, sizeof text);
	int kept = wf_sync(fs->checkpoint);
	if (kept == 0)
		fs_log(fs, LOG_ERR, "%s: not committed, the edits are kept beside it: %s", target(fs), text);
	else
		fs_log(fs, LOG_ERR, "%s: not committed, and the last edits could not be kept beside it (%s): %s",
		       target(fs), strerror(-kept), text);
	return r;
}

static int mount_and_serve(struct fs *fs, struct start *start)
{
	struct fuse_lowlevel_ops ops = {0};
	make_ops(fs, &ops);
	fs->session = fuse_session_new(&fs->options.fuse, &ops, sizeof ops, fs);
	if (!fs->session)
		return 2; /* libfuse has named the option that it does not know */
	int status = 1;
	fs_signals_serve(fs);
	signal(SIGXFSZ, SIG_IGN); /* a size limit is an error like a full disk */
	fs_detach_dead_mount(fs->options.mountpoint);
	if (fs_mount(fs->session, fs->options.mountpoint) == 0) {
		if (fs->why_read_only)
			fs_log(fs, LOG_WARNING, "%s: mounted read-only: %s", fs->options.checkpoint, fs->why_read_only);
		int r = serve(fs, start);
		fs_signals_stop(fs);
		fuse_session_unmount(fs->session);
		fs_write_behind_stop(fs);
		fs_waiting_stop(fs);
		fs_invalidator_stop(fs);
		int committed = commit_at_end(fs);
		status = r < 0 || committed < 0;
	}
	fuse_session_destroy(fs->session);
	return status;
}

static void make_ops(struct fs *fs, struct fuse_lowlevel_ops *ops)
{
	fs_ops_start(ops);
	fs_ops_names(ops);
	fs_ops_data(ops, fs->writable);
	fs_ops_attributes(ops);
	if (fs->writable)
		fs_ops_edit(ops);
}

/* ---- the background ---- */

/* What goes wrong until the mount is ready reaches the parent's terminal through the pipe; after that syslog has it. */
static int detach(struct start *start, int pipe)
{
	int null = open("/dev/null", O_RDWR);
	if (setsid() < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(pipe, STDERR_FILENO) < 0)
		return fail("daemon", strerror(errno));
	close(null);
	openlog("weightfs", LOG_PID, LOG_DAEMON);
	start->pipe = pipe;
	return 0;
}

static void raise_file_limit(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max; /* one file for each storage that is written */
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int run(struct fs *fs, struct start *start)
{
	raise_file_limit();
	int r = fs_signals_start(fs);
	if (r < 0)
		return fail("signals", strerror(-r));
	fs->log = fs_log_new();
	int status = fs->log ? open_checkpoint(fs) : fail(fs->options.checkpoint, strerror(ENOMEM));
	if (status == 0 && (add_mount_options(fs) < 0 || fs_control_start(fs) < 0 || fs_releases_start(fs) < 0 ||
			    (fs->writable && !(fs->was_links = fs_was_links_new()))))
		status = fail(fs->options.checkpoint, strerror(ENOMEM));
	/* paths are absolute by now; the directory that the daemon was started in can be unmounted */
	if (status == 0 && start->pipe >= 0 && chdir("/") < 0)
		status = fail("/", strerror(errno));
	if (status == 0)
		status = mount_and_serve(fs, start);
	fs_signals_stop(fs);
	fs_control_free(fs);
	fs_releases_free(fs);
	fs_was_links_free(fs->was_links);
	wf_close(fs->checkpoint);
	free(fs->why_read_only);
	if (fs->beside >= 0)
		close(fs->beside);
	fs_log_free(fs->log);
	return status;
}

int fs_session_run(struct fs *fs)
{
	struct start start = {.pipe = -1};
	int pipes[2];
	fs->on_terminal = isatty(STDERR_FILENO);
	if (fs_check_mountpoint(fs->options.mountpoint) != 0)
		return 1;
	if (fs->options.foreground)
		return run(fs, &start);
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return fail("pipe", strerror(errno));
	/* before the checkpoint is opened: its lock names the process that holds it, and threads do not survive a fork
	 */
	pid_t child = fork();
	if (child < 0)
		return fail("fork", strerror(errno));
	if (child > 0) {
		close(pipes[1]);
		return wait_for_child(pipes[0], child, fs->options.mountpoint);
	}
	close(pipes[0]);
	return detach(&start, pipes[1]) ? 1 : run(fs, &start);
}
