/* SPDX-License-Identifier: MIT */
/* The cleanup kit, overflow checks and little-endian access shared by the codec. No state, no I/O. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/bytes/ends.h"

static inline void wf_cleanup_freep(void *p)
{
	free(*(void **)p);
}

static inline void wf_cleanup_closep(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define cleanup_free __attribute__((cleanup(wf_cleanup_freep)))
#define cleanup_fd __attribute__((cleanup(wf_cleanup_closep)))
#define cleanup_with(fn) __attribute__((cleanup(fn)))

/* Hands the pointer on and leaves NULL behind, so that its cleanup does nothing. */
#define steal_pointer(pp)                     \
	({                                    \
		__typeof__(*(pp)) p_ = *(pp); \
		*(pp) = NULL;                 \
		p_;                           \
	})

static inline int steal_fd(int *fd)
{
	int f = *fd;
	*fd = -1;
	return f;
}

#define WF_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define WF_MIN(a, b) ((a) < (b) ? (a) : (b))
#define WF_MAX(a, b) ((a) > (b) ? (a) : (b))

/* The first i below n that is not `before`: a condition in i that holds up to some place and from there on no more. n: it holds everywhere. */
#define wf_first_not(i, n, before)                                         \
	({                                                                 \
		__typeof__((n) + 0) low_ = 0, high_ = (n);                 \
		while (low_ < high_) {                                     \
			__typeof__((n) + 0) i = low_ + (high_ - low_) / 2; \
			if (before)                                        \
				low_ = i + 1;                              \
			else                                               \
				high_ = i;                                 \
		}                                                          \
		low_;                                                      \
	})

/* true when the result overflowed; *ret is then unspecified */
static inline bool wf_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_add_overflow(a, b, ret);
}

static inline bool wf_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_mul_overflow(a, b, ret);
}

static inline uint16_t wf_le16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof v);
	return v; /* the program supports little-endian hosts only; meson.build refuses others */
}

static inline uint32_t wf_le32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint64_t wf_le64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

/* FNV-1a: the same in every process, and no secret. For hash tables there is bytes/map.h. */
static inline uint64_t wf_hash_bytes(const void *data, size_t len, uint64_t seed)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325u ^ seed;
	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h ^ (h >> 29);
}
