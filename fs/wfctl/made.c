/* SPDX-License-Identifier: MIT */
/* Marks and recognises the mounts that wfctl made. */
#include "fs/wfctl/made.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VARIABLE "WFCTL_MADE_DIRECTORY"

void wfctl_mark_made(const char *path)
{
	setenv(VARIABLE, path, 1);
}

bool wfctl_was_made(pid_t daemon, const char *path)
{
	char name[64], *line = NULL;
	size_t size = 0;
	bool made = false;
	snprintf(name, sizeof name, "/proc/%d/environ", (int)daemon);
	FILE *f = fopen(name, "re");
	while (f && !made && getdelim(&line, &size, '\0', f) > 0)
		made = !strncmp(line, VARIABLE "=", sizeof VARIABLE) && !strcmp(line + sizeof VARIABLE, path);
	free(line);
	if (f)
		fclose(f);
	return made;
}
