# SPDX-License-Identifier: MIT
"""The ways in which people and tools replace a file, as shell commands. $K is the file in the mount, $N one elsewhere with its new
content, $D the folder of $N, $M that of $K, $B the file's name; $FROM and $TO are what to replace in it, as text or as \\x.. escapes.

A way is (name, command, needs, what it does to a content that does not fit). "refused": the old value stands. "new": the name
was free, so it is new content. `leaves`: the name under which the old file is kept, as a key. `text`: for text alone.
"""
from collections import namedtuple

Way = namedtuple("Way", "name command needs misfit leaves text", defaults=("", "refused", None, False))

VIM = 'vim -N -u NONE -i NONE -es -c "set backupskip= {}" -c "%s/$FROM/$TO/" -c wq "$K" < /dev/null'
VIM_HEX = 'vim -N -b -u NONE -i NONE -es -c "set backupskip= {}" -c "%!xxd" -c "1s/0000 803f/0000 0040/" -c "%!xxd -r" -c wq "$K" < /dev/null'


def vim(settings, program="vim", flags="-N -u NONE -i NONE"):
    text, hexadecimal = (x.format(settings).replace("vim -N", f"{program} -N", 1).replace("-N -u NONE -i NONE", flags).replace("-N -b -u NONE -i NONE", flags + " -b")
                         for x in (VIM, VIM_HEX))
    return f'case $FROM in *x80*) {hexadecimal};; *) {text};; esac; true'


EMACS = '''TMPDIR=/var/tmp emacs -Q --batch --eval '(let ((make-backup-files t) (backup-inhibited nil) {}) (find-file-literally (getenv "K"))
  (erase-buffer) (insert-file-contents-literally (getenv "N")) (save-buffer))' '''

WAYS = [
    Way("shell >", 'cat "$N" > "$K"'),
    Way("shell >, a child writes", '( cat "$N" ) > "$K"'),
    Way("shell >>, after emptying", ': > "$K"; cat "$N" > "$K"'),
    Way("cp", 'cp "$N" "$K"'),
    Way("cp -a", 'cp -a "$N" "$K"'),
    Way("cp -f", 'cp -f "$N" "$K"'),
    Way("cp -b", 'cp -b "$N" "$K"'),
    Way("cp --backup=numbered", 'cp --backup=numbered "$N" "$K"'),
    Way("cp -b -S .bak", 'cp -b -S .bak "$N" "$K"', misfit="new", leaves="{}.bak"),
    Way("cp --remove-destination", 'cp --remove-destination "$N" "$K"', misfit="new"),
    Way("cp through a temporary name, mv", 'cp "$N" "$M/incoming.tmp" && mv "$M/incoming.tmp" "$K"'),
    Way("mv from another file system", 'mv "$N" "$K"', misfit="new"),
    Way("mv -b", 'mv -b "$N" "$K"'),
    Way("mv -b from a new name", 'cp "$N" "$M/incoming.tmp" && mv -b "$M/incoming.tmp" "$K"'),
    Way("rm, then cp", 'rm "$K"; cp "$N" "$K"', misfit="new"),
    Way("mv away, then cp", 'mv "$K" "$K.orig"; cp "$N" "$K"', misfit="new", leaves="{}.orig"),
    Way("mv to a backup, then cp", 'mv "$K" "$K~"; cp "$N" "$K"'),
    Way("ln as a backup, then cp", 'ln "$K" "$K~"; cp --remove-destination "$N" "$K"', misfit="new"),
    Way("install", 'install "$N" "$K"', misfit="new"),
    Way("install -b", 'install -b "$N" "$K"'),
    Way("dd", 'dd if="$N" of="$K" status=none'),
    Way("dd bs=1", 'dd if="$N" of="$K" bs=1 status=none'),
    Way("dd conv=notrunc", 'test $(wc -c < "$N") = $(wc -c < "$K") && dd if="$N" of="$K" conv=notrunc status=none || dd if="$N" of="$K" status=none'),
    Way("tee", 'tee "$K" < "$N" > /dev/null'),
    Way("sponge-like", 'x=$(base64 -w0 "$N"); echo $x | base64 -d > "$K"'),
    Way("tar x", 'cp "$N" "$D/$B"; tar -C "$D" -cf - "$B" | tar -C "$M" -xf -', misfit="new"),
    Way("tar x --overwrite", 'cp "$N" "$D/$B"; tar -C "$D" -cf - "$B" | tar -C "$M" --overwrite -xf -'),
    Way("tar x --unlink-first", 'cp "$N" "$D/$B"; tar -C "$D" -cf - "$B" | tar -C "$M" -U -xf -', misfit="new"),
    Way("bsdtar x", 'cp "$N" "$D/$B"; bsdtar -C "$D" -cf - "$B" | bsdtar -C "$M" -xf -', "bsdtar", misfit="new"),
    Way("unzip -o", 'cp "$N" "$D/$B"; (cd "$D"; zip -q a.zip "$B"); unzip -qo "$D/a.zip" -d "$M"', "zip", misfit="new"),
    Way("rsync", 'rsync "$N" "$K"', "rsync"),
    Way("rsync -a", 'rsync -a "$N" "$K"', "rsync"),
    Way("rsync --inplace", 'rsync --inplace -I "$N" "$K"', "rsync"),
    Way("rsync -b", 'rsync -b "$N" "$K"', "rsync"),
    Way("rsync --delay-updates", 'rsync --delay-updates "$N" "$K"', "rsync"),
    Way("sed -i", 'LC_ALL=C sed -i "s/$FROM/$TO/" "$K"'),
    Way("sed -i~", 'LC_ALL=C sed -i~ "s/$FROM/$TO/" "$K"'),
    Way("sed -i.bak", 'LC_ALL=C sed -i.bak "s/$FROM/$TO/" "$K"', misfit="new", leaves="{}.bak"),
    Way("sed -c -i", 'cp "$K" "$D/x"; LC_ALL=C sed "s/$FROM/$TO/" "$D/x" > "$K"'),
    Way("perl -i", 'perl -pi -e "s/$FROM/$TO/" "$K"', "perl"),
    Way("perl -i~", 'perl -pi~ -e "s/$FROM/$TO/" "$K"', "perl"),
    Way("perl -i.bak", 'perl -pi.bak -e "s/$FROM/$TO/" "$K"', "perl", leaves="{}.bak"),
    Way("ed", 'printf ",s/%s/%s/\\nw\\nq\\n" "$FROM" "$TO" | ed -s "$K"', "ed", text=True),
    Way("patch", '(diff -u --label a/"$B" --label b/"$B" "$K" "$N" | patch -s -d "$M" -p1)', "patch", text=True),
    Way("patch -b", '(diff -u --label a/"$B" --label b/"$B" "$K" "$N" | patch -s -b -z "~" -d "$M" -p1)', "patch", text=True),
    Way("patch -b, stock", '(diff -u --label a/"$B" --label b/"$B" "$K" "$N" | patch -s -b -d "$M" -p1)', "patch", misfit="new", leaves="{}.orig", text=True),
    Way("vim, stock", vim(""), "vim"),
    Way("vim, backupcopy=no", vim("backupcopy=no"), "vim"),
    Way("vim, backupcopy=yes", vim("backupcopy=yes"), "vim"),
    Way("vim, no backups", vim("nowritebackup"), "vim"),
    Way("vim, backup kept", vim("backup"), "vim"),
    Way("ex", 'ex -u NONE -i NONE -c "set backupskip=" -c "%s/$FROM/$TO/" -c wq -es "$K" < /dev/null; true', "vim", text=True),
    Way("neovim", vim("", "nvim", "--clean -i NONE"), "nvim"),
    Way("neovim, backupcopy=no", vim("backupcopy=no", "nvim", "--clean -i NONE"), "nvim"),
    Way("emacs, stock", EMACS.format(""), "emacs"),
    Way("emacs, backup by copying", EMACS.format("(backup-by-copying t)"), "emacs"),
    Way("emacs, no backups", EMACS.format("(backup-inhibited t)").replace("(backup-inhibited nil) ", ""), "emacs"),
    Way("busybox cp", 'busybox cp "$N" "$K"', "busybox"),
    Way("busybox mv", 'busybox mv "$N" "$K"', "busybox", misfit="new"),
    Way("busybox sed -i", 'busybox sed -i "s/$FROM/$TO/" "$K"', "busybox", text=True),
    Way("python open", '''python3 -c 'import os
with open(os.environ["K"], "wb") as f: f.write(open(os.environ["N"], "rb").read())' '''),
    Way("python os.replace", '''python3 -c 'import os; k = os.environ["K"]; open(k + ".new", "wb").write(open(os.environ["N"], "rb").read()); os.replace(k + ".new", k)' '''),
    Way("python, unbuffered in pieces", '''python3 -c 'import os
f = os.open(os.environ["K"], os.O_WRONLY | os.O_TRUNC)
for b in open(os.environ["N"], "rb").read(): os.write(f, bytes([b]))
os.close(f)' '''),
    Way("python, shutil.copy2", '''python3 -c 'import os, shutil; shutil.copy2(os.environ["N"], os.environ["K"])' '''),
    Way("python, fsync and rename", '''python3 -c 'import os; k = os.environ["K"]; f = os.open(k + ".part", os.O_WRONLY | os.O_CREAT); os.write(f, open(os.environ["N"], "rb").read())
os.fsync(f); os.close(f); os.rename(k + ".part", k)' '''),
]
