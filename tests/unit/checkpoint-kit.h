/* SPDX-License-Identifier: MIT */
/* What the tests of an open checkpoint begin with: a copy of a real one, in a directory of its own. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/checkpoint.h"

static const char *files; /* the folder of real checkpoints, which main() is given */
static char dir[64], file[96];
static struct wf_checkpoint *ck;

static void copy_checkpoint(const char *test)
{
	char command[4400];
	snprintf(dir, sizeof dir, "/tmp/test-%s-XXXXXX", test);
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/m.pt", dir);
	snprintf(command, sizeof command, "cp %s/torch-2.15.pt %s", files, file);
	assert_int_equal(system(command), 0);
}

static int teardown(void **state)
{
	char command[160];
	wf_close(ck);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}
