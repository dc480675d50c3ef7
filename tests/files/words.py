#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What wfctl says, without a mount: tables of command, exit status and words; no control character of a checkpoint gets out.

Usage: words.py BUILD_DIR. Prints TAP.
"""
import json
import os
import subprocess
import sys
import tempfile
from collections import OrderedDict

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import done, floats, ok, run, same  # noqa: E402
from minicheckpoint import Storage, Tensor, save  # noqa: E402

WFCTL = os.path.join(sys.argv[1], "fs", "wfctl")
KEY = " \t torch.Size"
HOSTILE = {  # key: how it is printed, and given as a KEY
    "a\nb": "a%0Ab", "esc\x1b[31mred\x1b[0m": "esc%1B[31mred%1B[0m", "tab\tkey": "tab%09key", "cr\rkey": "cr%0Dkey", "bell\a": "bell%07",
    "del\x7f": "del%7F", "c1\x9b31m": "c1%C2%9B31m", "nel\x85": "nel%C2%85", "rtl\u202egpj": "rtl%E2%80%AEgpj",
    "isolate\u2066": "isolate%E2%81%A6", "line\u2028": "line%E2%80%A8", "lone\ud83d": "lone%ED%A0%BD", "bom\ufeff": "bom%EF%BB%BF",
    "percent%0A": "percent%250A", "sl/ash": "sl%2Fash", "NUL\0": "NUL%00", "wörter": "wörter", "🙂": "🙂", "a b": "a b", "C:\\path": "C:\\path",
    "": "%", ".": "%2E",
}


def tensor(n):
    return Tensor("float32", (n,), floats(n))


def wfctl(*arguments, **options):
    return run(WFCTL, *arguments, **options)


def said(r, status, *words):
    """One line, on standard error, with the words."""
    return r.returncode == status and not r.stdout and r.stderr.count("\n") == 1 and all(w in r.stderr for w in words)


def printable(text):
    return all(c.isprintable() or c in "\n\t" or ord(c) > 0x9f for c in text) and not set(text) & set("\u202e\u2066\u2028\ufeff")


def hostile_names():
    save("hostile.pt", OrderedDict((key, tensor(i + 1)) for i, key in enumerate(HOSTILE)))
    r = wfctl("ls", "hostile.pt")
    same(r.stdout, "".join(f"{shown}{KEY}([{i + 1}])\n" for i, shown in enumerate(HOSTILE.values())), "names are printed with %XX, one a line")
    ok(printable(r.stdout), "and nothing that moves a cursor")
    for i, (key, shown) in enumerate(HOSTILE.items()):
        r = wfctl("ls", "hostile.pt", shown)
        same(r.stdout, f"{shown}{KEY}([{i + 1}])\n", f"{shown!r} is a KEY as it is printed")
    r = wfctl("ls", "hostile.pt", "a\nb")
    same(r.stdout, f"a%0Ab{KEY}([1])\n", "a name as it is in a mount is a KEY, too")
    for form in (["-l"], ["--json"], ["-a"], ["-al"], ["-a", "--json"]):
        r = wfctl("ls", *form, "hostile.pt")
        ok(r.returncode == 0 and printable(r.stdout) and len(r.stdout.splitlines()) == len(HOSTILE) + (form[0] in ("-l", "-al")),
           f"ls {' '.join(form)} has one line for each, without control characters", r)
    rows = [json.loads(line) for line in wfctl("ls", "--json", "hostile.pt").stdout.splitlines()]
    same([row["shape"] for row in rows], [[i + 1] for i in range(len(HOSTILE))], "JSON Lines, in order")
    same([row["path"].encode("utf-8", "surrogatepass") for row in rows[:9]], [k.encode() for k in list(HOSTILE)[:9]], "whose paths say the names")


def hostile_texts():
    odd = "\x1b]0;title\a\n\x9b2J\u202e"
    storage = Storage("float32", floats(2))
    save("texts.pt", OrderedDict([("t", Tensor("float32", (2,), b"", storage=storage)), ("s", odd), ("l", [odd, 1]), ("b", odd.encode()),
                                  ("d", {odd: odd})]))
    r = wfctl("ls", "-a", "texts.pt")
    ok(r.returncode == 0 and printable(r.stdout), "values are printed without control characters", r)
    lines = dict(line.split(" \t ", 1) for line in r.stdout.splitlines())
    same((json.loads(lines["s"]), json.loads(lines["l"]), eval(lines["b"])), (odd, [odd, 1], odd.encode()), "and say what they are")
    # the text of an error: a record's name
    with open("hostile.pt", "rb") as f:
        content = f.read()
    with open("\x1b[1m.pt", "wb") as f:
        f.write(content[:-10])
    for verb in ("ls", "verify", "status", "commit", "repack"):
        r = wfctl(verb, "\x1b[1m.pt")
        ok(r.returncode == 1 and r.stderr.count("\n") == 1 and printable(r.stderr) and "%1B[1m.pt" in r.stderr, f"{verb}: in an error's text", r)
    r = wfctl("ls", "hostile.pt", "\x1b[2J")
    ok(said(r, 1, "%1B[2J") and printable(r.stderr), "what the command line had, too", r)


def keys_and_patterns():
    save("model.pt", OrderedDict([(k, tensor(i + 1)) for i, k in enumerate(("fc1.weight", "fc1.bias", "fc2.weight", "fc*", "a[0]", "é", ".hidden"))] +
                                 [("opt", {"fc1.m": tensor(8), "lr": 0.1, "deep": {"fc1.v": tensor(9)}}), ("fc", tensor(10)), ("epoch", 3)]))
    for what, keys, wanted in (
            ("an exact key goes before a pattern", ["fc*"], [4]),
            ("and before what begins with it", ["fc"], [10]),
            ("a pattern", ["fc?.*"], [1, 2, 3]), ("of one part does not go into directories", ["*fc1*"], [1, 2]),
            ("of two parts", ["*/fc1*"], [8]), ("of three", ["opt/*/*"], [9]), ("? is a character, not a byte", ["?"], [6]),
            ("a set", ["fc[12].weight"], [1, 3]), ("a key with brackets is itself", ["a[0]"], [5]),
            ("* takes everything below a directory with it", ["o*"], [8, 9]), ("a dot at the beginning is no exception", ["*hidden"], [7]),
            ("a directory", ["opt"], [8, 9]), ("with a slash", ["opt/"], [8, 9]), ("and one before it", ["/opt/deep"], [9]),
            ("what keys begin with", ["fc1."], [1, 2]), ("inside a directory", ["opt/de"], [9]),
            ("several", ["fc2.weight", "opt/deep"], [3, 9]), ("several that meet", ["fc1*", "fc1.bias"], [1, 2])):
        r = wfctl("ls", "--json", "model.pt", *keys)
        same((r.returncode, [row["shape"][0] for row in map(json.loads, r.stdout.splitlines())]), (0, wanted), f"{what}: {keys}")
    for keys in (["nothing"], ["x*"], ["fc1.weight/x"], ["opt/nothing"], ["fc", "nothing"]):
        ok(said(wfctl("ls", "model.pt", *keys), 1, "no key is, fits or begins with"), f"no such key: {keys}", wfctl("ls", "model.pt", *keys))
    same(wfctl("ls", "-a", "model.pt", "epoch", "opt/lr").stdout, "opt/lr \t 0.1\nepoch \t 3\n", "values by their keys")
    same(wfctl("ls", "model.pt", "epoch").stdout, "no tensors; 1 value (-a shows it)\n", "a value without -a")


def values():
    save("values.pt", OrderedDict([("i", 10), ("f", 1e-3), ("t", True), ("n", None), ("s", 'say "hi"'), ("b", b"\0'\xff"), ("l", [1, "two", None]),
                                   ("state", {}), ("void", []), ("long", "x" * 3000)]))
    r = wfctl("ls", "values.pt")
    same((r.returncode, r.stdout), (0, "no tensors; 8 values (-a shows them)\n"), "ls of values says that there are some")
    same(wfctl("ls", "-l", "values.pt").stdout, "no tensors; 8 values (-a shows them)\n", "ls -l, too")
    same((wfctl("ls", "--json", "values.pt").returncode, wfctl("ls", "--json", "values.pt").stdout), (0, ""), "ls --json has no line")
    r = wfctl("ls", "-a", "values.pt")
    lines = r.stdout.splitlines()
    same(lines[:-1], ["i \t 10", "f \t 0.001", "t \t true", "n \t null", 's \t "say \\"hi\\""', "b \t b'\\x00\\'\\xff'", 'l \t [1, "two", null]',
                      "state \t {}", "void \t []"], "ls -a shows them")
    ok(lines[-1].startswith('long \t "xxx') and lines[-1].endswith('x"... (3000 bytes)') and len(lines[-1]) < 1100, "a long one is cut", lines[-1])
    rows = {row["path"]: row["value"] for row in map(json.loads, wfctl("ls", "-a", "--json", "values.pt").stdout.splitlines())}
    same([rows[k] for k in "iftnslb"], [10, 0.001, True, None, 'say "hi"', [1, "two", None], "b'\\x00\\'\\xff'"], "ls -a --json")
    save("empty.pt", OrderedDict())
    same([wfctl("ls", *options, "empty.pt").stdout for options in ((), ("-a",))], ["no tensors, no values\n"] * 2, "ls of nothing")
    r = wfctl("ls", "-al", "model.pt")
    ok(r.returncode == 0 and "\nepoch           3\n" in r.stdout and r.stdout.startswith("key             shape  dtype    bytes  storage"), "ls -al", r)


def command_line():
    usage = "usage: wfctl"
    for what, status, words, arguments in (
            ("no verb", 2, None, []), ("a verb that does not exist", 2, ["no verb frob"], ["frob"]), ("help for it", 2, ["no verb frob"], ["help", "frob"]),
            ("an option that does not exist", 2, ["option -x", usage], ["ls", "-x", "values.pt"]),
            ("a long one", 2, ["option --nonsense", usage], ["verify", "--nonsense", "values.pt"]),
            ("one of another verb", 2, ["option --trim", usage], ["verify", "--trim", "values.pt"]),
            ("no argument", 2, [usage], ["ls"]), ("none for verify", 2, [usage], ["verify"]), ("two for status", 2, [usage], ["status", "a", "b"]),
            ("none for repack", 2, [usage], ["repack", "--trim"]),
            ("-", 1, ["-: a checkpoint cannot come through a pipe"], ["ls", "-"]), ("- for verify", 1, ["pipe"], ["verify", "-"]),
            ("- for repack", 1, ["pipe"], ["repack", "-"]), ("- for status", 1, ["pipe"], ["status", "-"]),
            ("a pipe", 1, ["fifo: this is a pipe", "read at random"], ["ls", "fifo"]), ("for commit", 1, ["this is a pipe"], ["commit", "fifo"]),
            ("for repack", 1, ["this is a pipe"], ["repack", "fifo"]),
            ("a device", 1, ["neither a regular file"], ["ls", "/dev/null"]), ("a file that is not there", 1, ["No such file"], ["ls", "nowhere.pt"]),
            ("status of a directory", 1, ["a directory, not a checkpoint"], ["status", "dir"]),
            ("commit of one", 1, ["a directory, not a checkpoint"], ["commit", "dir"]), ("discard of one", 1, ["no edits"], ["discard", "dir"]),
            ("umount of one", 1, ["nothing is mounted"], ["umount", "dir"]), ("umount of a file", 1, ["a file, which is mounted nowhere"], ["umount", "values.pt"]),
            ("umount of nothing", 1, ["No such file"], ["umount", "nowhere"]), ("status of another file system", 1, ["of type proc"], ["status", "/proc"])):
        r = wfctl(*arguments)
        ok(said(r, status, *words) if words else r.returncode == status and r.stderr.startswith(usage), f"wfctl {' '.join(arguments)}: {what}", r)
    with open("values.pt", "rb") as f:
        r = subprocess.run(["sh", "-c", "cat | exec \"$0\" ls /dev/stdin", WFCTL], stdin=f, capture_output=True, text=True)
    ok(said(r, 1, "this is a pipe"), "what stands behind /dev/stdin, where it is a pipe", r)
    os.link("values.pt", "-")
    os.link("values.pt", "-l")
    same(wfctl("ls", "./-").stdout + wfctl("ls", "--", "-l").stdout, "no tensors; 8 values (-a shows them)\n" * 2, "names that look like options")
    for flag in ("-V", "--version"):
        ok(wfctl(flag).stdout.startswith("wfctl ") and wfctl(flag).returncode == 0, f"wfctl {flag}")
    same({wfctl(*a).stdout for a in (["-h"], ["--help"], ["help"])}, {wfctl("--help").stdout}, "wfctl -h, --help and help")
    with open("/dev/full", "w") as full:
        r = subprocess.run([WFCTL, "ls", "model.pt"], stdout=full, stderr=subprocess.PIPE, text=True)
    ok(r.returncode == 1 and "standard output" in r.stderr, "a full disk behind standard output", r)


with tempfile.TemporaryDirectory(prefix="weightfs-words-") as directory:
    os.chdir(directory)
    os.mkfifo("fifo")
    os.mkdir("dir")
    for case in (hostile_names, hostile_texts, keys_and_patterns, values, command_line):
        print(f"# {case.__name__}")
        case()
done()
