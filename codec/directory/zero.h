/* SPDX-License-Identifier: MIT */
/* DeepSpeed's ZeRO checkpoints as a container: read only. Threads: as a container. */
#pragma once

#include "codec/container/container.h"

/* path: the directory of a tag, or the one whose `latest` names it. 0; 1: it is something else; or a refusal with a text. */
int wf_zero_open(const char *path, struct wf_container **ret, struct wf_error *err);
