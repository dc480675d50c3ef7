/* SPDX-License-Identifier: MIT */
/* Serves the descriptors of published memory on a socket. */
#include "descriptors.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENT_TIMEOUT_USEC 500000 /* who connects has its packet ready */

struct published {
	unsigned char handle[DEV_HANDLE_BYTES];
	int fd;
	uint64_t size_bytes;
	struct published *next;
};

struct dev_descriptors {
	pthread_mutex_t lock; /* the list */
	struct published *list;
	pthread_t thread;
	int listener, stop;
	struct sockaddr_un address;
};

/* ---- serving ---- */

static void reply(int client, const struct published *p)
{
	uint64_t size = p ? p->size_bytes : 0;
	struct iovec data = {&size, sizeof size};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
	if (p) {
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof p->fd);
		memcpy(CMSG_DATA(header), &p->fd, sizeof p->fd);
	}
	sendmsg(client, &message, MSG_NOSIGNAL); /* who has gone away misses it */
}

static void serve_client(struct dev_descriptors *d, int client)
{
	unsigned char handle[DEV_HANDLE_BYTES + 1];
	struct timeval limit = {.tv_usec = CLIENT_TIMEOUT_USEC};
	setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (recv(client, handle, sizeof handle, 0) != DEV_HANDLE_BYTES)
		return;
	pthread_mutex_lock(&d->lock);
	const struct published *p = d->list;
	while (p && memcmp(p->handle, handle, DEV_HANDLE_BYTES) != 0)
		p = p->next;
	reply(client, p);
	pthread_mutex_unlock(&d->lock);
}

static void *serve(void *arg)
{
	struct dev_descriptors *d = arg;
	struct pollfd wait[] = {{.fd = d->listener, .events = POLLIN}, {.fd = d->stop, .events = POLLIN}};
	while (poll(wait, 2, -1) > 0 || errno == EINTR) {
		if (wait[1].revents)
			break;
		int client = wait[0].revents ? accept4(d->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (client < 0) {
			poll(&wait[1], 1, 50); /* no descriptor is free, say: the caller stays in the queue */
			continue;
		}
		serve_client(d, client);
		close(client);
	}
	return NULL;
}

/* ---- the socket ---- */

static int listen_in(struct dev_descriptors *d, const char *directory)
{
	unsigned int salt;
	if (!directory || directory[0] != '/' || getrandom(&salt, sizeof salt, 0) != sizeof salt)
		return -ENOENT;
	d->address.sun_family = AF_UNIX;
	int n = snprintf(d->address.sun_path, sizeof d->address.sun_path, "%s/weightfs-%d-%08x.sock", directory,
			 (int)getpid(), salt);
	if (n < 0 || (size_t)n >= sizeof d->address.sun_path)
		return -ENAMETOOLONG;
	if (bind(d->listener, (const struct sockaddr *)&d->address, sizeof d->address) < 0)
		return -errno;
	/* the handle is the secret; its reader may be somebody else than who mounts (allow_other) */
	if (chmod(d->address.sun_path, 0666) < 0 || listen(d->listener, 64) < 0) {
		int r = -errno;
		unlink(d->address.sun_path);
		return r;
	}
	return 0;
}

static int listen_somewhere(struct dev_descriptors *d)
{
	const char *const directories[] = {getenv("WEIGHTFS_SOCKET_DIR"), getenv("XDG_RUNTIME_DIR"), "/run", "/tmp"};
	int r = -ENOENT;
	d->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	d->stop = eventfd(0, EFD_CLOEXEC);
	if (d->listener < 0 || d->stop < 0)
		return -errno;
	for (size_t i = 0; r < 0 && i < sizeof directories / sizeof directories[0]; i++)
		r = listen_in(d, directories[i]);
	if (r == 0 && (r = -pthread_create(&d->thread, NULL, serve, d)) < 0)
		unlink(d->address.sun_path);
	return r;
}

int dev_descriptors_new(struct dev_descriptors **ret)
{
	struct dev_descriptors *d = calloc(1, sizeof *d);
	if (!d)
		return -ENOMEM;
	pthread_mutex_init(&d->lock, NULL);
	int r = listen_somewhere(d);
	if (r < 0) {
		pthread_mutex_destroy(&d->lock);
		if (d->listener >= 0)
			close(d->listener);
		if (d->stop >= 0)
			close(d->stop);
		free(d);
		return r;
	}
	*ret = d;
	return 0;
}

const char *dev_descriptors_socket(const struct dev_descriptors *d)
{
	return d->address.sun_path;
}

/* ---- what is published ---- */

int dev_descriptors_publish(struct dev_descriptors *d, int fd, uint64_t size_bytes,
			    unsigned char ret_handle[DEV_HANDLE_BYTES])
{
	struct published *p = malloc(sizeof *p);
	if (!p)
		return -ENOMEM;
	*p = (struct published){.fd = fd, .size_bytes = size_bytes};
	if (getrandom(p->handle, sizeof p->handle, 0) != sizeof p->handle) {
		free(p);
		return -EIO;
	}
	memcpy(ret_handle, p->handle, sizeof p->handle);
	pthread_mutex_lock(&d->lock);
	p->next = d->list;
	d->list = p;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static void drop(struct published *p)
{
	close(p->fd);
	free(p);
}

void dev_descriptors_withdraw(struct dev_descriptors *d, const unsigned char handle[DEV_HANDLE_BYTES])
{
	pthread_mutex_lock(&d->lock);
	for (struct published **at = &d->list; *at; at = &(*at)->next)
		if (!memcmp((*at)->handle, handle, DEV_HANDLE_BYTES)) {
			struct published *p = *at;
			*at = p->next;
			drop(p);
			break;
		}
	pthread_mutex_unlock(&d->lock);
}

void dev_descriptors_free(struct dev_descriptors *d)
{
	uint64_t one = 1;
	if (!d)
		return;
	if (write(d->stop, &one, sizeof one) == sizeof one)
		pthread_join(d->thread, NULL);
	unlink(d->address.sun_path);
	close(d->listener);
	close(d->stop);
	for (struct published *p = d->list, *next; p; p = next) {
		next = p->next;
		drop(p);
	}
	pthread_mutex_destroy(&d->lock);
	free(d);
}
