/* SPDX-License-Identifier: MIT */
/* Waits for signals in a thread of its own, and ends the mount when nobody maps its device memory any more. */
#include "signals.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "handles.h"
#include "log.h"

struct fs_signals {
	pthread_t thread, main;
	sigset_t set;
	int signals, wake;
	atomic_bool serving, stop;
};

/* Only interrupts the wait of the thread that it is sent to: libfuse's loop looks at the session then. */
static void interrupt(int signal)
{
}

/* Again and again, for the loop may have looked at the session just before. */
static void end_session(struct fs *fs)
{
	struct fs_signals *s = fs->signals;
	struct pollfd wait = {.fd = s->wake, .events = POLLIN};
	fuse_session_exit(fs->session);
	do
		pthread_kill(s->main, SIGUSR1);
	while (!atomic_load(&s->stop) && poll(&wait, 1, 50) <= 0);
}

static void end_process(const struct fs_signals *s, int number)
{
	signal(number, SIG_DFL);
	pthread_sigmask(SIG_UNBLOCK, &s->set, NULL);
	raise(number);
}

/* A signal has come, or a lease has ended: whether the mount is to end now. */
static bool is_over(struct fs *fs, unsigned int *count, int number)
{
	char holders[128];
	if (!wf_is_leased(fs->checkpoint) || *count > 1)
		return *count > 0;
	if (number) {
		fs_handles_lease_holders(fs, holders, sizeof holders);
		fs_log(fs, LOG_WARNING,
		       "%s: ends when its device memory is leased no more (process %s); a second signal ends it now",
		       strsignal(number), holders);
	}
	return false;
}

static void *watch(void *arg)
{
	struct fs *fs = arg;
	struct fs_signals *s = fs->signals;
	struct pollfd wait[] = {{.fd = s->signals, .events = POLLIN}, {.fd = s->wake, .events = POLLIN}};
	struct signalfd_siginfo info;
	unsigned int count = 0;
	uint64_t ignored;
	while (poll(wait, 2, -1) > 0 || errno == EINTR) {
		int number = 0;
		if (wait[1].revents && read(s->wake, &ignored, sizeof ignored) < 0)
			continue;
		if (wait[0].revents && read(s->signals, &info, sizeof info) == sizeof info) {
			number = (int)info.ssi_signo;
			count++;
		}
		if (atomic_load(&s->stop))
			break;
		if (count > 0 && !atomic_load(&s->serving))
			end_process(s, number);
		else if (is_over(fs, &count, number)) {
			end_session(fs);
			break;
		}
	}
	return NULL;
}

int fs_signals_start(struct fs *fs)
{
	struct fs_signals *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	sigemptyset(&s->set);
	sigaddset(&s->set, SIGTERM);
	sigaddset(&s->set, SIGINT);
	s->main = pthread_self();
	s->signals = signalfd(-1, &s->set, SFD_CLOEXEC);
	s->wake = eventfd(0, EFD_CLOEXEC);
	fs->signals = s;
	/* every thread that comes after has them blocked as well */
	int r = s->signals < 0 || s->wake < 0 ? -errno : -pthread_sigmask(SIG_BLOCK, &s->set, NULL);
	if (r == 0)
		r = -pthread_create(&s->thread, NULL, watch, fs);
	if (r < 0) {
		free(s);
		fs->signals = NULL;
	}
	return r;
}

void fs_signals_serve(struct fs *fs)
{
	struct sigaction action = {.sa_handler = interrupt};
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGUSR1, &action, NULL); /* no SA_RESTART */
	atomic_store(&fs->signals->serving, true);
}

static void wake(struct fs_signals *s)
{
	uint64_t one = 1;
	if (write(s->wake, &one, sizeof one) < 0)
		return; /* it is awake */
}

void fs_signals_lease_ended(struct fs *fs)
{
	if (fs->signals)
		wake(fs->signals);
}

void fs_signals_stop(struct fs *fs)
{
	struct fs_signals *s = fs->signals;
	if (!s)
		return;
	atomic_store(&s->stop, true);
	wake(s);
	pthread_join(s->thread, NULL);
	close(s->signals);
	close(s->wake);
	free(s);
	fs->signals = NULL;
}
