# SPDX-License-Identifier: MIT
"""Random edits with the tools that people use, and with programs that write in halves: each changes the mount and the model."""
import errno
import os
import shutil
import subprocess

import numpy
import torch

from random_model import Elements, Fixed, Mismatch, from_raw, is_dir, raw
from replacing import WAYS

IN_PLACE = {"shell >", "shell >, a child writes", "cp", "cp -a", "cp -f", "dd", "tee", "sponge-like", "tar x --overwrite", "busybox cp"}
# fast ones, that give the whole new content
WHOLE = [w for w in WAYS if "$FROM" not in w.command and not w.text and "python" not in w.command and not w.name.startswith("emacs")
         and w.name not in ("rsync --inplace", "rsync --delay-updates", "dd bs=1", "dd conv=notrunc", "ln as a backup, then cp", "shell >>, after emptying")
         and all(shutil.which(x) for x in w.needs.split())]


class ToolEdits:
    def new_content(self, old):
        """Another value of the same type, and its file."""
        if isinstance(old, (torch.Tensor, numpy.ndarray)):
            data = bytes(self.rng.randrange(2) for _ in range(len(raw(old))))
            if isinstance(old, numpy.ndarray):
                return numpy.frombuffer(data, old.dtype).reshape(old.shape).copy(), data
            new = from_raw(data, old.dtype, old.shape) if data else torch.zeros_like(old.detach())
            return (torch.nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, torch.nn.Parameter) else new), data
        new = self.rng.randrange(1 << 20) if isinstance(old, int) else self.rng.random() if isinstance(old, float) else f"text {self.rng.random()}"
        return new, (new if isinstance(new, str) else f"{new!r}\n").encode()

    def pick_key(self, kinds):
        """A file in a mapping, which a tool can put another one beside."""
        choices = [(w, m, k) for w, m in self.mappings() if not isinstance(m, (Elements, Fixed)) for k, v in m.items()
                   if isinstance(v, kinds) and not is_dir(v)]
        return self.rng.choice(choices) if choices else None

    def edit_tool(self):
        p = self.pick_key((int, float, str, torch.Tensor, numpy.ndarray))
        if not p or isinstance(p[1][p[2]], bool):
            return
        where, m, k = p
        way = self.rng.choice(WHOLE)
        old = m[k]
        new, data = self.new_content(old)
        if not data:
            return  # an opening that only empties changes nothing, and in place of a backup the old tensor stands
        folder = os.path.join(self.dir, "new")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        path = self.path(where, k)
        with open(os.path.join(folder, "content"), "wb") as f:
            f.write(data)
        os.utime(f.name, (10 ** 9 + len(self.trace), 10 ** 9 + len(self.trace)))
        env = {**os.environ, "K": path, "N": f.name, "D": folder, "M": os.path.dirname(path), "B": str(k)}
        leaves = way.leaves.format(k) if way.leaves else None
        if leaves in m:
            return
        in_place = way.name in IN_PLACE and not (way.name == "cp -a" and os.stat(path).st_nlink > 1)
        r = subprocess.run(["bash", "-c", way.command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if r.returncode:
            raise Mismatch(f"{way.name} {where} {k}: {r.stdout}")
        for name in (f"{path}~", f"{path}.~1~"):
            if os.path.lexists(name) and os.path.relpath(name, self.mnt) not in self.aside:
                os.unlink(name)
        if not in_place:
            m[k] = new
        elif isinstance(old, torch.Tensor):
            with torch.no_grad():
                old.copy_(new)
        elif isinstance(old, numpy.ndarray):
            old[...] = new
        else:
            m[k] = new
        if leaves:
            m[leaves] = old
        self.trace.append(f"tool {way.name} {where} {k}")

    def edit_text(self):
        """A number over a 0-d tensor; words over any."""
        p = self.pick(torch.Tensor, names=False)
        if not p or (p[1][p[2]].element_size() == 1 and p[1][p[2]].dim() > 0):
            return
        where, m, k = p
        t = m[k]
        number = self.rng.choice(["true", "false"] if t.dtype == torch.bool else ["0", "7", "99"] if not t.is_floating_point() else ["0.5", "-2", "1e2", "0.1"])
        good = t.dim() == 0 and self.rng.random() < 0.7
        try:
            with open(self.path(where, k), "w") as f:
                f.write(f"{number if good else 'some words'}\n")
        except OSError as e:
            if good or e.errno != errno.EINVAL:
                raise
            self.trace.append(f"text {where} {k} refused")
            return
        if not good:
            raise Mismatch(f"{where} {k}: words were accepted")
        with torch.no_grad():
            t.fill_({"true": 1, "false": 0}.get(number) if t.dtype == torch.bool else float(number) if t.is_floating_point() else int(number))
        self.trace.append(f"text {where} {k} = {number}")

    def edit_half(self):
        """Text in two halves, with others at the file between them."""
        p = self.pick((int, float, str, list), names=False)
        if not p or isinstance(p[1][p[2]], bool):
            return
        where, m, k = p
        new = [self.rng.randrange(100) for _ in range(self.rng.randrange(1, 40))] if isinstance(m[k], list) else self.new_content(m[k])[0]
        text = (new if isinstance(new, str) else f"{new!r}\n").encode()
        cut, good = self.rng.randrange(1, len(text)), isinstance(new, str) or self.rng.random() < 0.8
        path = self.path(where, k)
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, text[:cut])
            for _ in range(self.rng.randrange(3)):
                between = self.rng.choice(["read", "stat", "copy", "sync", "second"])
                try:
                    if between == "read":
                        with open(path, "rb") as f:
                            f.read()
                    elif between == "stat":
                        os.stat(path)
                    elif between == "copy":
                        os.close(os.dup(fd))
                    elif between == "second":
                        os.close(os.open(path, os.O_WRONLY))
                    else:
                        d = os.open(self.mnt, os.O_RDONLY)
                        os.fsync(d)
                        os.close(d)
                except OSError as e:
                    if e.errno != errno.EINVAL:
                        raise
            os.write(fd, text[cut:] if good else b"!x")
        finally:
            try:
                os.close(fd)
                refused = False
            except OSError:
                refused = True
        if refused == good:
            raise Mismatch(f"half {where} {k} {text[:cut]} {text[cut:]}: {'refused' if refused else 'accepted'}")
        if good:
            m[k] = new
        self.trace.append(f"half {where} {k} {text[:20]} at {cut}{'' if good else ' refused'}")

    def edit_copy(self):
        """cp -a of an entry over one of any other type, or to a new name."""
        source = self.pick_key((int, float, str, list, type(None), torch.Tensor, numpy.ndarray))
        target = self.pick_key((int, float, str, list, type(None), torch.Tensor, numpy.ndarray))
        if not source or not target:
            return
        (there, n, j), (where, m, k) = source, target
        if self.rng.random() < 0.2:
            k = self.fresh(m)
        a, b = self.path(there, j), self.path(where, k)
        value = n[j]
        if os.path.lexists(b) and os.path.samefile(a, b):
            return
        unlinks = os.path.lexists(b) and os.stat(b).st_nlink > 1  # cp that preserves links makes a file with several names anew
        r = subprocess.run(["cp", "-a", a, b], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if r.returncode:
            # a whole line that the value cannot be is refused before any attribute is seen, as a shell's is
            data = raw(value) if isinstance(value, (torch.Tensor, numpy.ndarray)) else b""
            if not (isinstance(m.get(k), (int, float, list)) and data.endswith(b"\n") and data.count(b"\n") == 1 and b"Invalid argument" in r.stdout):
                raise Mismatch(f"cp -a {there} {j} -> {where} {k}: {r.stdout}")
            self.trace.append(f"cp -a {there} {j} -> {where} {k} refused")
            return
        if isinstance(value, torch.Tensor):
            new = value.detach().clone().contiguous()
            new = torch.nn.Parameter(new, requires_grad=value.requires_grad) if isinstance(value, torch.nn.Parameter) else new
        else:
            new = value.copy() if isinstance(value, numpy.ndarray) else list(value) if isinstance(value, list) else value
        old = m.get(k)
        empty = not len(raw(value)) if isinstance(value, (torch.Tensor, numpy.ndarray)) else value == ""
        like = isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor) and type(old) is type(new) and \
            (old.dtype, old.shape, old.requires_grad) == (new.dtype, new.shape, new.requires_grad)
        if k not in m or unlinks:
            m[k] = new
        elif like:
            with torch.no_grad():
                old.copy_(new)
        elif isinstance(old, torch.Tensor):
            self.becomes(old, new)
        else:
            m[k] = new
        self.trace.append(f"cp -a {there} {j} -> {where} {k}{' (empty)' if empty else ''}")
