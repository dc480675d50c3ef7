/* SPDX-License-Identifier: MIT */
/* What the verbs do, a function for each; verbs.c puts them into its table. All return an exit status. */
#pragma once

struct wfctl_call;

int wfctl_ls(const struct wfctl_call *call);
int wfctl_verify(const struct wfctl_call *call);
int wfctl_status(const struct wfctl_call *call);
int wfctl_commit(const struct wfctl_call *call);
int wfctl_discard(const struct wfctl_call *call);
int wfctl_umount(const struct wfctl_call *call);
int wfctl_export(const struct wfctl_call *call);
int wfctl_repack(const struct wfctl_call *call);
int wfctl_cat(const struct wfctl_call *call);
int wfctl_set(const struct wfctl_call *call);
int wfctl_mv(const struct wfctl_call *call);
int wfctl_rm(const struct wfctl_call *call);
int wfctl_cp(const struct wfctl_call *call);
int wfctl_ln(const struct wfctl_call *call);
int wfctl_mkdir(const struct wfctl_call *call);
int wfctl_rename(const struct wfctl_call *call);
int wfctl_attr(const struct wfctl_call *call);
int wfctl_new(const struct wfctl_call *call);
int wfctl_mount(const struct wfctl_call *call);
