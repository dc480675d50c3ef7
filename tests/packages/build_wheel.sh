#!/bin/sh
# SPDX-License-Identifier: MIT
# In a bare tree, by root: the wheel, from nothing, as contrib/quickstart makes it. It is left in /out.
set -u
. /in/tests/packages/common.sh
cp -r /in /tmp/tree
cd /tmp/tree || exit 1
useradd -m user
chown -R user /tmp/tree
said=$(as user "cd /tmp/tree && contrib/quickstart --wheel" 2>&1)
case $said in *missing:*libfuse3-dev*"as root: apt-get install"*) verdict 0 "quickstart --wheel as an ordinary user names what is missing" ;; *) verdict 1 "quickstart --wheel as an ordinary user" "$said" ;; esac
chown -R root /tmp/tree
shows "quickstart --wheel" root "contrib/quickstart --wheel"
cp build-quickstart/packages/*.whl /out/
