#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the sources to the levels of the house (rules.py).

    checks.py SOURCE_DIR BUILD_DIR    every check; prints TAP
    checks.py --figures SOURCE_DIR [BUILD_DIR]    includes, storeys, circles, sizes
"""
import json
import os
import subprocess
import sys
import tempfile

import rules
import tree


def folder(path):
    """The level's folder of a file of codec/: codec/pickle/read.c is in pickle, codec/checkpoint.c in the door."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""


def forbidden(source, target):
    """Why the file must not include the header; None where it may."""
    top, aim = source.split("/")[0], target.split("/")[0]
    if top == "fs" and aim == "codec" and target not in rules.DOOR:
        return "fs includes the codec's door alone"
    if top == "codec" and aim == "devices" and target not in rules.DEVICES_DOOR:
        return "the codec includes devices/device.h alone"
    if aim == "fs" and top != "fs" or aim in ("contrib", "tests") or top == "devices" and aim == "codec":
        return "it points outwards"
    inside = source.startswith("fs/wfctl/"), target.startswith("fs/wfctl/")
    if top == aim == "fs" and inside[0] != inside[1] and target not in rules.WFCTL_DOOR:
        return "fs/wfctl/ is a program of its own"
    if top != "codec" or aim != "codec":
        return None
    here, there = folder(source), folder(target)
    for name in (here, there):
        if name not in rules.LEVELS:
            return f"codec/{name} is on no level"
    if here == there:
        return None
    if rules.LEVELS[there] >= rules.LEVELS[here]:
        return f"level {rules.LEVELS[here]} uses level {rules.LEVELS[there]}"
    if target.endswith("inner.h"):
        return "inner.h belongs to its folder"
    return None


def include_faults(pairs):
    return [f"{a} includes {b}: {why}" for a, b in pairs if (why := forbidden(a, b))]


def door_faults(pairs):
    """Whoever includes the door has all that fs/ may see of the codec."""
    door = "codec/checkpoint.h"
    return [f"{door} does not bring {header}" for header in sorted(rules.DOOR) if header != door and (door, header) not in pairs]


def circle_faults(graph, known=()):
    """known: sets of nodes; a circle within one of them is no fault."""
    return ["a circle of " + ", ".join(c) for c in tree.circles(graph) if not any(set(c) <= one for one in known)]


def call_faults(graph):
    """graph: {codec/edit/names: what it calls}. Calls against the levels: a header of a lower folder can promise what a higher one defines."""
    return [f"{a} calls {b}: {why}" for a in sorted(graph) for b in sorted(graph[a])
            if a.startswith("codec/") and b.startswith("codec/") and (why := forbidden(f"{a}.c", f"{b}.c"))]


def twice_defined(texts, known=()):
    """texts: {path: text}. A tag that two files define, or one file twice."""
    where, faults = {}, []
    for path, text in texts.items():
        for kind, name in tree.TAG.findall(text):
            if name in where and name not in known:
                faults.append(f"{kind} {name} in {where[name]} and {path}")
            where.setdefault(name, path)
    return faults


def unused_exports(defined, needed, product, known=()):
    """Symbols of the product's objects that no other object of the product needs."""
    used = {name for path in product for name in needed[path] if defined.get(name) != path}
    faults = [f"{name} of {path} is used nowhere else" for name, path in sorted(defined.items())
              if path in product and name not in used and name not in known and name != "main"]
    return faults + [f"{name} need not be known" for name in sorted(known) if name in used or name not in defined]


def size_faults(texts, known=()):
    """known: a dictionary of the files and functions that are longer."""
    sizes = [(path, text.count("\n"), rules.FILE_LINES) for path, text in texts.items()]
    sizes += [(name, lines, rules.FUNCTION_LINES) for path, text in texts.items() if path.endswith(".c") for name, lines in tree.functions(text)]
    return [f"{name} has {lines} lines" for name, lines, most in sizes if lines > max(most, dict(known).get(name, 0))]


def alone_faults(top, headers):
    """Headers that do not compile by themselves."""
    fuse = subprocess.run(["pkg-config", "--cflags", "fuse3"], stdout=subprocess.PIPE, text=True).stdout.split()
    faults = []
    for path in headers:
        with tempfile.NamedTemporaryFile("w", suffix=".c") as f:
            f.write(f'#include "{path}"\n')
            f.flush()
            tried = subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-DFUSE_USE_VERSION=314", "-Wall",
                                    "-Werror", "-I", top, *(fuse if path.startswith("fs/") else []), "-fsyntax-only", f.name],
                                   stderr=subprocess.PIPE, text=True)
        if tried.returncode:
            faults.append(f"{path}: {tried.stderr.splitlines()[0]}")
    return faults


def foreign_faults(needed, objects):
    """Calls of FUSE or CUDA from the codec, of FUSE or the codec from devices/."""
    outside = {"codec": ("fuse_", "cuda", "fs_"), "devices": ("fuse_", "fs_", "wf_")}
    return [f"{path} calls {name}" for path in objects for name in sorted(needed[path])
            for ring, prefixes in outside.items() if f"/{ring}/" in path and name.startswith(prefixes)]


def linked_faults(needed, unlinked):
    """needed: {program: names of the libraries that the linker put into it}."""
    return [f"{program} is linked with {library}" for program, libraries in needed.items() for library in libraries
            for word in unlinked.get(program, ()) if word in library]


def libraries_of(program):
    shown = subprocess.run(["readelf", "-d", program], stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout
    return [line.split("[")[1].split("]")[0] for line in shown.splitlines() if "(NEEDED)" in line]


def short(path):
    """codec/edit/names for the object file of codec/edit/names.c, under whatever folder meson made it."""
    parts = path.split("/")
    at = next(i for i, part in enumerate(parts) if part.endswith(".p"))
    return parts[at - 1] + "/" + parts[-1][:-4].replace("_", "/", 1) if parts[at - 1] == "codec" else parts[at - 1] + "/" + parts[-1][:-4]


def objects_of(build):
    """(objects of the programs, of tests and benchmarks): those that the build makes now, not what an older one left behind."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        made = sorted({entry["output"] for entry in json.load(f) if entry["output"].endswith(".o")})
    made = [path for path in made if os.path.exists(os.path.join(build, path))]
    product = [os.path.join(build, path) for path in made if path.split("/")[0] in ("codec", "devices", "fs")]
    return product, [os.path.join(build, path) for path in made if os.path.join(build, path) not in product]


def figures(top, build=None):
    paths = tree.sources(top, "codec")
    pairs = tree.includes(top, paths)
    graph = tree.file_graph(pairs)
    lengths = sorted(n for path in paths if path.endswith(".c") for _, n in tree.functions(tree.read(top, path)))
    print(f"codec: {len(paths)} files, {len(pairs)} includes on {max(tree.storeys(graph).values())} storeys")
    print(f"includes against the levels: {len(include_faults(pairs))}; circles of files: {len(tree.circles(graph))}")
    print(f"functions: {len(lengths)}, median {lengths[len(lengths) // 2]} lines, longest {lengths[-1]}")
    if build:
        objects = [path for path in objects_of(build)[0] if "/codec/" in path]
        loops = tree.circles(graph := tree.object_graph(*tree.symbols(objects)))
        print(f"objects: {len(objects)} on {max(tree.storeys(graph).values())} storeys; loops: {', '.join(str(len(c)) for c in loops) or 'none'}")
    print(f"files over {rules.FILE_LINES} lines: {sum(tree.read(top, p).count(chr(10)) > rules.FILE_LINES for p in paths)}")


def main(top, build):
    paths = tree.sources(top, "codec", "devices", "fs")
    texts = {path: tree.read(top, path) for path in paths}
    pairs = tree.includes(top, paths)
    product, others = objects_of(build)
    defined, needed = tree.symbols(product + others)
    ours = {path: needed[path] for path in product}
    named = {short(path): {short(target) for target in targets} for path, targets in tree.object_graph(defined, ours).items()}
    checks = [
        ("includes follow the levels", include_faults(pairs) + door_faults(pairs)),
        ("no circle of files", circle_faults(tree.file_graph(pairs))),
        ("calls follow the levels", call_faults(named)),
        ("no loop among object files", circle_faults(named, rules.KNOWN_LOOPS)),
        ("every exported symbol is used outside of its file", unused_exports(defined, needed, set(product), rules.KNOWN_EXPORTS)),
        ("the codec calls neither FUSE nor CUDA, devices/ no codec", foreign_faults(needed, product)),
        ("a program that needs no FUSE is not linked with it",
         linked_faults({program: libraries_of(os.path.join(build, program)) for program in rules.UNLINKED}, rules.UNLINKED)),
        ("no tag is defined twice", twice_defined(texts, rules.KNOWN_TAGS)),
        ("every header compiles alone", alone_faults(top, [path for path in paths if path.endswith(".h")])),
        ("files and functions have their size", size_faults(texts, rules.KNOWN_LENGTHS)),
    ]
    print(f"1..{len(checks)}")
    for n, (what, faults) in enumerate(checks, 1):
        print(f"{'not ' if faults else ''}ok {n} - {what}")
        for fault in faults:
            print("#", fault.replace(build + "/", "").replace(top + "/", ""))
    sys.exit(any(faults for _, faults in checks))


if __name__ == "__main__":
    if sys.argv[1] == "--figures":
        figures(*map(os.path.realpath, sys.argv[2:]))
    else:
        main(os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2]))
