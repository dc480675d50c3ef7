/* SPDX-License-Identifier: MIT */
/* Hands descriptors to other processes: who connects to the socket and sends a handle of DEV_HANDLE_BYTES gets the descriptor
 * that was published under it. Handles are random, so that knowing one is the right to have the descriptor.
 *
 * The wire: a SOCK_SEQPACKET socket in the file system. One packet with the handle; one packet back: the size of what the
 * descriptor names, eight bytes in the machine's order, with the descriptor as SCM_RIGHTS; a size of 0 and none where nothing
 * is published under that handle. The file can be bind-mounted into a container with a PID namespace of its own.
 *
 * Calling sequence: dev_descriptors_new, _publish, _withdraw, _free. Threads: any; one of its own serves.
 */
#pragma once

#include <stdint.h>

#define DEV_HANDLE_BYTES 64

struct dev_descriptors;

/* Listens on a new socket in WEIGHTFS_SOCKET_DIR, XDG_RUNTIME_DIR, /run or /tmp, whichever is the first that can be written.
 * Returns 0 or a negative errno. */
int dev_descriptors_new(struct dev_descriptors **ret);
const char *dev_descriptors_socket(const struct dev_descriptors *d); /* its path */
/* Takes fd over on success and makes a handle for it. 0, -ENOMEM, or the system's error. */
int dev_descriptors_publish(struct dev_descriptors *d, int fd, uint64_t size_bytes,
			    unsigned char ret_handle[DEV_HANDLE_BYTES]);
/* Closes the descriptor; who has it keeps it. */
void dev_descriptors_withdraw(struct dev_descriptors *d, const unsigned char handle[DEV_HANDLE_BYTES]);
/* Ends the thread and removes the socket; what is still published is closed. Accepts NULL. */
void dev_descriptors_free(struct dev_descriptors *d);
