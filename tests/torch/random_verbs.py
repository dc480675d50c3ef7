# SPDX-License-Identifier: MIT
"""Random edits by the verbs of wfctl: on the mount, on the file while it is not mounted, and over edits that a killed mount left; one at
a time, or a script of them. Each changes the place and the model."""
import json
import os
import re
import shlex
import subprocess

import numpy
import torch

from random_model import OF_ITS_SIZE, Elements, Fixed, Mismatch, Opaque, containers, dtype_name, from_raw, is_dir, raw, stays, tied

FILES = (int, float, str, list, type(None), torch.Tensor, numpy.ndarray)
ODD = ["odd {} key", "odd {} [0]", "odd * {}", "odd ? {}", "odd \\ {}", "odd ' \" {}", "odd # {}", "odd é {}", "odd : {}", "[odd]{}"]


def new_key(path):
    """A key as it is given where it is new: nothing in it is a pattern."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)


class VerbEdits:
    # ---- how verbs are run ----
    def run_verbs(self, place, options, count):
        """So many random verbs on a mount point or a file; several are a script, which is one commit. Returns whether any was run."""
        lines, edits = [], [self.verb_mv, self.verb_mv_over, self.verb_mv_into, self.verb_rm, self.verb_cp, self.verb_cp_over, self.verb_ln, self.verb_ln_s,
                            self.verb_mkdir, self.verb_set, self.verb_set_new, self.verb_set_number, self.verb_set_file, self.verb_attr, self.verb_rename]
        self.settled = place == self.file and count == 1 and "--with-pending" not in options
        for i in range(8 * count):
            words = self.rng.choice(edits)(i)
            if words:
                self.trace.append(f"wfctl on {'mount' if place == self.mnt else 'file'} {options} {words}")
                lines.append(words)
            if len(lines) == count:
                break
        if not lines:
            return False
        if count == 1:
            self.wfctl_run(lines[0][0], *options, place, *lines[0][1:])
        else:
            text = "".join(shlex.join([verb, place, *words]) + "\n" for verb, *words in lines)
            self.wfctl_run("-f", "-", *options, input=text.encode())
        return True

    def wfctl_run(self, *words, input=b"", status=0):
        r = subprocess.run([self.wfctl, *words], input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if r.returncode != status or (r.stderr and not status and r.stderr.count(b"no key changes") != r.stderr.count(b"\n")):
            raise Mismatch(f"wfctl {words} {input}: exit {r.returncode} {r.stdout} {r.stderr}")
        return r

    def edit_verb(self):
        self.run_verbs(self.mnt, [], 1)

    def edit_script(self):
        self.run_verbs(self.mnt, [], self.rng.randrange(2, 6))

    def commit_options(self):
        mode = self.rng.choice(["", "auto", "replace"] + ([] if self.legacy else ["append"]))
        return [f"--commit={mode}"] if mode else []

    def verbs_on_file(self):
        """Without a mount each run is a commit."""
        self.umount()
        self.compare_file()
        for _ in range(self.rng.randrange(1, 5)):
            if self.run_verbs(self.file, self.commit_options(), self.rng.choice([1, 1, 1, 4])):
                self.is_committed()
                self.compare_file()
        if os.path.exists(f"{self.file}.weightfs"):
            raise Mismatch("verbs have left an overlay")
        self.mount()
        self.compare_mount()

    def verbs_with_pending(self):
        """What a killed mount left goes along, or is a reason to refuse."""
        self.sync()
        self.kill_daemon()
        for _, m in self.everywhere():
            if isinstance(m, Elements):
                m.unsure = True
        with open(self.file, "rb") as f:
            before = f.read()
        dirty = json.loads(self.wfctl_run("status", self.file).stdout)["dirty"]
        if dirty:
            self.wfctl_run("set", self.file, "epoch", "7", status=1)
        with open(self.file, "rb") as f:
            if f.read() != before:
                raise Mismatch("a refused verb has changed the file")
        self.trace.append(f"kill, verbs over edits that wait: {dirty}")
        if self.run_verbs(self.file, ["--with-pending", *self.commit_options()], self.rng.choice([1, 3])):
            with open(self.file, "rb") as f:
                if f.read() != before:  # a verb that finds nothing to change commits nothing, and what was put aside stays
                    self.aside.clear()
            self.is_committed()
            self.compare_file()
        self.mount()

    # ---- what is picked ----
    def verb_pick(self, kinds, names=True):
        choices = [(w, m, k) for w, m in self.mappings() if not getattr(m, "unsure", False) for k, v in m.items()
                   if isinstance(v, kinds) and not isinstance(v, bool) and not (names and stays(m, k))]
        return self.rng.choice(choices) if choices else None

    def verb_place(self, elements=True):
        return self.rng.choice([x for x in self.mappings() if not isinstance(x[1], Fixed) and not getattr(x[1], "unsure", False)
                                and (elements or not isinstance(x[1], Elements))])

    def verb_fresh(self, m):
        k = self.fresh(m)
        return self.rng.choice(ODD).format(self.counter) if isinstance(k, str) and self.rng.random() < 0.4 else k

    @staticmethod
    def key(where, name):
        return "/".join(map(str, (*where, name)))

    def new(self, where, name):
        return new_key(self.key(where, name))

    def whole(self, v):
        """A container that stands in one place, and all in it, which can go as one or be copied."""
        return not self.holds_shared(v) and not any(getattr(x, "unsure", False) for _, x in containers(v))

    # ---- names ----
    def verb_mv(self, n):
        p = self.verb_pick((dict, Opaque, *FILES))
        if not p or isinstance(p[1], Elements):
            return None
        where, m, k = p
        new = self.verb_fresh(m)
        items = [(new if x == k else x, v) for x, v in m.items()]
        m.clear()
        m.update(items)
        return ["mv", self.key(where, k), self.new(where, new)]

    def verb_mv_over(self, n):
        """Onto a name of another mapping: what comes stands at the end, or in place of an element. Not of what is new, which takes the
        place of what it replaces."""
        p, q = self.verb_pick(FILES), self.verb_pick(FILES, names=False)
        if not self.settled or not p or not q or p[1] is q[1] or isinstance(p[1], Elements) or len(p[1]) < 2:
            return None
        (where, m, k), (there, t, j) = p, q
        if m[k] is t[j] or tied(m[k], t[j]) or (isinstance(t, Elements) and stays(t, j)):
            return None
        v = m.pop(k)
        if not isinstance(t, (Elements, Fixed)):
            del t[j]
        t[j] = v
        return ["mv", "-T", self.key(where, k), self.key(there, j)]

    def verb_mv_into(self, n):
        p, q = self.verb_pick((dict, Opaque, *FILES)), self.verb_place(elements=False)
        if not p or p[1] is q[1] or isinstance(p[1], Elements) or len(p[1]) < 2:
            return None
        (where, m, k), (there, t) = p, q
        if str(k) in map(str, t) or isinstance(k, int) or (t and all(isinstance(x, int) for x in t)) or any(x is t for _, x in containers(m[k])) or \
                (is_dir(m[k]) and not self.whole(m[k])):
            return None
        if not self.settled:  # the name may have stood there since the last commit, and has a place then
            new = self.verb_fresh(t)
            t[new] = m.pop(k)
            return ["mv", self.key(where, k), self.new(there, new)]
        t[k] = m.pop(k)
        return ["mv", self.key(where, k), "/".join(map(str, there)) or "/"]

    def verb_rm(self, n):
        p = self.verb_pick((dict, Opaque, *FILES))
        if not p or len(p[1]) < 2 or (is_dir(p[1][p[2]]) and not self.whole(p[1][p[2]])):
            return None
        where, m, k = p
        v = m.pop(k)
        return ["rm", *(["-r"] if is_dir(v) else []), self.key(where, k)]

    def verb_mkdir(self, n):
        where, m = self.verb_place()
        k = self.verb_fresh(m)
        m[k] = {} if isinstance(m, Elements) else type(m)()
        return ["mkdir", self.new(where, k)]

    def verb_ln(self, n):
        p, (there, t) = self.verb_pick(torch.Tensor, names=False), self.verb_place()
        if not p:
            return None
        k = self.verb_fresh(t)
        t[k] = p[1][p[2]]
        return ["ln", self.key(p[0], p[2]), self.new(there, k)]

    def verb_ln_s(self, n):
        (there, target), (where, m) = self.rng.choice(self.mappings()), self.verb_place()
        if target is self.model or any(x is m for _, x in containers(target)) or self.holds_shared(m) or self.holds_shared(target) or \
                any(getattr(x, "unsure", False) for _, x in containers(self.model)):
            return None
        k = self.verb_fresh(m)
        m[k] = target
        return ["ln", "-s", "/".join(map(str, there)), self.new(where, k)]

    def verb_rename(self, n):
        where, m = self.verb_place(elements=False)
        if not m:
            return None
        items = [(re.sub(r"([a-z])\.", rf"\1_{n}_", k, count=1) if isinstance(k, str) else k, v) for k, v in m.items()]
        if len(dict(items)) < len(items):
            return None
        m.clear()
        m.update(items)
        return ["rename", f"s/([a-z])\\./\\1_{n}_/", "--prefix=" + ("/".join(map(str, where)) or "/")]

    # ---- content ----
    def copied(self, v, copies):
        """As wfctl cp copies: contiguous, in a storage of its own, with the ties among what is copied."""
        if isinstance(v, torch.Tensor):
            for old, new in copies:
                if old is v or tied(old, v):
                    return new
            new = v.detach().clone(memory_format=torch.contiguous_format)
            new = torch.nn.Parameter(new, requires_grad=v.requires_grad) if isinstance(v, torch.nn.Parameter) else new
            copies.append((v, new))
            return new
        if isinstance(v, Elements):
            return Elements(self.copied(x, copies) for x in v.values())
        if isinstance(v, Fixed):
            return Fixed([self.copied(x, copies) for x in v.values()])
        if isinstance(v, dict):
            return type(v)((k, self.copied(x, copies)) for k, x in v.items())
        return v.copy() if isinstance(v, numpy.ndarray) else list(v) if isinstance(v, list) else v

    def verb_cp(self, n):
        p, (there, t) = self.verb_pick((dict, *FILES), names=False), self.verb_place()
        if not p:
            return None
        where, m, k = p
        v = m[k]
        inside = containers(v)
        if inside and (not self.whole(v) or any(x is t for _, x in inside) or any(isinstance(y, Opaque) for _, x in inside for y in x.values())
                       or any(isinstance(x, Elements) and list(x) != list(range(len(x))) for _, x in inside)):
            return None
        new = self.verb_fresh(t)
        t[new] = self.copied(v, [])
        return ["cp", self.key(where, k), self.new(there, new)]

    def verb_cp_over(self, n):
        p, q = self.verb_pick(FILES, names=False), self.verb_pick(FILES, names=False)
        if not p or not q:
            return None
        (where, m, k), (there, t, j) = p, q
        v, old = m[k], t[j]
        if v is old and m is t and k == j or tied(v, old) or v is old and isinstance(v, torch.Tensor):
            return None
        data = raw(v) if isinstance(v, (torch.Tensor, numpy.ndarray)) else b"" if v == "" else b"x"
        if not data or (data.endswith(b"\n") and data.count(b"\n") == 1) or isinstance(old, (torch.Tensor, numpy.ndarray)) and (isinstance(t, Fixed) or isinstance(t, Elements) and stays(t, j)):
            return None
        if isinstance(old, torch.Tensor) and not isinstance(v, torch.Tensor) and \
                sum(x is old or tied(x, old) for _, y in self.everywhere() for x in y.values()) > 1:
            return None  # one file with several names, until it is read anew, is what no Python has
        new = self.copied(v, [])
        like = isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor) and type(old) is type(new) and \
            (old.dtype, old.shape, old.requires_grad) == (new.dtype, new.shape, new.requires_grad)
        if like:
            with torch.no_grad():
                old.copy_(new)
        elif isinstance(old, torch.Tensor):
            self.becomes(old, new)
        else:
            t[j] = new
        return ["cp", self.key(where, k), self.key(there, j)]

    def verb_set(self, n):
        p = self.verb_pick((int, float, str, type(None)), names=False)
        if not p:
            return None
        where, m, k = p
        old, number = m[k], self.rng.choice([self.rng.randrange(-9, 1 << 20), self.rng.random(), -1e-3])
        text = self.rng.choice(["words", "-5", "", "true", "two\tparts"]) if isinstance(old, str) else repr(number)
        if isinstance(old, float):  # what is new reads back as it was written until a commit
            number = float(number)
            text = repr(number)
        m[k] = text if isinstance(old, str) else number
        return ["set", self.key(where, k), text]

    def verb_set_new(self, n):
        where, m = self.verb_place()
        k = self.verb_fresh(m)
        text, m[k] = self.rng.choice([("5", 5), ("-0.5", -0.5), ("true", True), ("null", None), ("[1, 2.5]", [1, 2.5]), ("word", "word"), ('"7"', "7"), ("1000.0", 1e3)])
        return ["set", self.new(where, k), text]

    def verb_set_number(self, n):
        p = self.verb_pick(torch.Tensor, names=False)
        if not p or p[1][p[2]].dim() > 0:
            return None
        where, m, k = p
        t = m[k]
        text = self.rng.choice(["true", "false"] if t.dtype == torch.bool else ["0", "7", "99"] if not t.is_floating_point() else ["0.5", "-2", "1e2", "0.1"])
        with torch.no_grad():
            t.fill_({"true": 1, "false": 0}.get(text) if t.dtype == torch.bool else float(text) if t.is_floating_point() else int(text))
        return ["set", self.key(where, k), text]

    def verb_set_file(self, n):
        p = self.pick_alone()
        if not p or getattr(p[1], "unsure", False) or p[1][p[2]].dtype == torch.bfloat16:
            return None
        where, m, k = p
        old, new, file = m[k], self.tensor(), os.path.join(self.dir, f"content.{n}")
        if new.dtype == torch.bfloat16 or self.rng.random() < 0.5:  # bytes: of the same size
            data = bytes(self.rng.randrange(2) for _ in range(len(raw(old))))
            if not data:
                return None
            new = from_raw(data, old.dtype, old.shape)
            with open(file, "wb") as f:
                f.write(data)
        else:
            numpy.save(file, new.numpy(), allow_pickle=False)
            file += ".npy"
        self.becomes(old, new)
        return ["set", "--file", file, self.key(where, k)]

    def verb_attr(self, n):
        p = self.pick_alone()
        if not p or getattr(p[1], "unsure", False):
            return None
        where, m, k = p
        old = m[k]
        if old.dtype in OF_ITS_SIZE and self.rng.random() < 0.5:
            new = old.view(OF_ITS_SIZE[old.dtype])
            word = f"dtype={dtype_name(new)}"
        else:
            new, word = old.reshape(-1), "shape=[-1]"
        self.becomes(old, new)
        return ["attr", self.key(where, k), word]
