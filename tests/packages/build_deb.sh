#!/bin/sh
# SPDX-License-Identifier: MIT
# In a bare tree, by root: the packages, from nothing, as contrib/quickstart makes them; and what lintian says. They are left in /out.
set -u
. /in/tests/packages/common.sh
cp -r /in /tmp/tree
cd /tmp/tree || exit 1
useradd -m user
said=$(as user "cd /tmp/tree && contrib/quickstart --package" 2>&1)
[ $? = 1 ] && verdict 0 "quickstart --package as an ordinary user says that it cannot write here" || verdict 1 "quickstart as an ordinary user" "$said"
chown -R user /tmp/tree
said=$(as user "cd /tmp/tree && contrib/quickstart --package" 2>&1)
case $said in *"which root does"*--wheel*) verdict 0 "and in a tree of its own, who installs packages" ;; *) verdict 1 "quickstart --package as an ordinary user" "$said" ;; esac
chown -R root /tmp/tree
shows "quickstart --package" root "contrib/quickstart --package"
cp build-quickstart/packages/* /out/
install lintian || exit 1
check "lintian has no error and no warning" lintian --allow-root --fail-on error,warning /out/*.changes
lintian --allow-root --display-info /out/*.changes 2>&1 | sed 's/^/# /'
