/* SPDX-License-Identifier: MIT */
/* Asks the machine and the environment how many threads load, and with how much memory. */
#include "cuda_settings.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)
#define MAX_THREADS 32u
#define MAX_PINNED_BYTES (384 * MIB)

static bool read_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	bool got = f && fgets(buf, (int)size, f);
	if (f)
		fclose(f);
	return got;
}

/* ---- cores ---- */

/* What the control groups of this process and above leave it: "50000 100000" is half a core. */
static unsigned int quota_of_groups(unsigned int cores)
{
	char line[512], path[600], max[64];
	unsigned long quota, period;
	if (!read_line("/proc/self/cgroup", line, sizeof line) || strncmp(line, "0::", 3) != 0)
		return cores;
	line[strcspn(line, "\n")] = '\0';
	for (char *group = line + 3;;) {
		snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
		if (read_line(path, max, sizeof max) && sscanf(max, "%lu %lu", &quota, &period) == 2 && period > 0) {
			unsigned long n = (quota + period - 1) / period;
			cores = n < 1 ? 1 : n < cores ? (unsigned int)n : cores;
		}
		char *slash = strrchr(group, '/');
		if (!slash || !group[1])
			return cores;
		slash[slash == group] = '\0';
	}
}

static unsigned int usable_cores(cpu_set_t *ret)
{
	CPU_ZERO(ret);
	unsigned int n = sched_getaffinity(0, sizeof *ret, ret) == 0 ? (unsigned int)CPU_COUNT(ret) : 1;
	return quota_of_groups(n < 1 ? 1 : n);
}

/* "0-7,16-23" */
static void parse_cpus(const char *list, cpu_set_t *ret)
{
	CPU_ZERO(ret);
	for (const char *at = list; isdigit((unsigned char)*at);) {
		char *end;
		unsigned long first = strtoul(at, &end, 10), last = first;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (unsigned long cpu = first; cpu <= last && cpu < CPU_SETSIZE; cpu++)
			CPU_SET(cpu, ret);
		at = *end == ',' ? end + 1 : end;
	}
}

/* The node that the device hangs on, where there is more than one. */
static void find_node(struct cuda_settings *s, const char *pci, const cpu_set_t *allowed)
{
	char path[128], line[1024], lower[32] = "";
	s->numa_node = -1;
	for (size_t i = 0; pci[i] && i + 1 < sizeof lower; i++)
		lower[i] = (char)tolower((unsigned char)pci[i]);
	snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", lower);
	if (!lower[0] || !read_line("/sys/devices/system/node/online", line, sizeof line) || !strpbrk(line, ",-") ||
	    !read_line(path, line, sizeof line))
		return;
	int node = atoi(line);
	snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
	if (node < 0 || !read_line(path, line, sizeof line))
		return;
	parse_cpus(line, &s->cpus);
	CPU_AND(&s->cpus, &s->cpus, allowed);
	if (CPU_COUNT(&s->cpus) > 0)
		s->numa_node = node;
}

/* ---- the environment ---- */

/* A number with K or M behind it where it is a size. What is none, or outside, is told and not used. */
static uint64_t setting(const char *name, uint64_t usual, uint64_t least, uint64_t most, char *problem, size_t size)
{
	const char *text = getenv(name);
	if (!text || !text[0])
		return usual;
	char *end;
	uint64_t value = strtoull(text, &end, 10);
	if (end != text && (*end == 'K' || *end == 'M'))
		value = value > most ? most + 1 : value * (*end == 'K' ? 1024 : MIB), end++;
	if (isdigit((unsigned char)text[0]) && !*end && value >= least && value <= most)
		return value;
	snprintf(problem, size, "; %s=%.20s is none from %llu to %llu", name, text, (unsigned long long)least,
		 (unsigned long long)most);
	return usual;
}

void cuda_settings_init(struct cuda_settings *s, const char *pci)
{
	char problem[120] = "", node[32] = "";
	cpu_set_t allowed;
	unsigned int cores = usable_cores(&allowed);
	find_node(s, pci, &allowed);
	if (s->numa_node >= 0) {
		unsigned int near = (unsigned int)CPU_COUNT(&s->cpus);
		cores = near < cores ? near : cores;
		snprintf(node, sizeof node, ", NUMA node %d", s->numa_node);
	}
	s->threads = (unsigned int)setting("WEIGHTFS_LOAD_THREADS", cores < MAX_THREADS ? cores : MAX_THREADS, 1, 64,
					   problem, sizeof problem);
	s->window_bytes =
		setting("WEIGHTFS_LOAD_WINDOW", 3 * MIB, MIB / 4, 64 * MIB, problem, sizeof problem) & ~4095ull;
	s->depth = (unsigned int)setting("WEIGHTFS_LOAD_DEPTH", 2, 1, 16, problem, sizeof problem);
	s->direct = setting("WEIGHTFS_LOAD_DIRECT", 1, 0, 1, problem, sizeof problem) != 0;
	/* page-locked memory is taken from everybody: less of it where all that was asked for is too much */
	while (s->depth > 1 && s->threads * s->depth * s->window_bytes > MAX_PINNED_BYTES)
		s->depth--;
	while (s->window_bytes > MIB / 4 && s->threads * s->window_bytes > MAX_PINNED_BYTES)
		s->window_bytes = (s->window_bytes / 2) & ~4095ull;
	snprintf(s->text, sizeof s->text, "%u threads, %u windows of %llu KiB each%s%s%s", s->threads, s->depth,
		 (unsigned long long)(s->window_bytes >> 10), s->direct ? ", direct reads" : "", node, problem);
}
