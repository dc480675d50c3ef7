# SPDX-License-Identifier: MIT
"""The sources and object files of a checkout as graphs."""
import os
import re
import subprocess

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
TAG = re.compile(r"^(?:typedef\s+)?(struct|union|enum)\s+(\w+)\s*\{", re.M)


def sources(top, *folders):
    """Paths from the root of all .c and .h files below the folders, sorted."""
    found = []
    for folder in folders:
        for where, _, names in os.walk(os.path.join(top, folder)):
            found += [os.path.relpath(os.path.join(where, name), top) for name in names if name.endswith((".c", ".h"))]
    return sorted(found)


def read(top, path):
    with open(os.path.join(top, path), encoding="utf-8") as f:
        return f.read()


def includes(top, paths):
    """[(file, header from the root)] for each quoted include that names a file of the tree."""
    known, found = set(paths), []
    for path in paths:
        for name in INCLUDE.findall(read(top, path)):
            beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
            target = beside if beside in known else os.path.normpath(name)
            if target in known:
                found.append((path, target))
    return found


def file_graph(pairs):
    """{file: files that it includes}"""
    graph = {}
    for a, b in pairs:
        graph.setdefault(a, set()).add(b)
        graph.setdefault(b, set())
    return graph


def components(graph):
    """Strongly connected components, lower ones first (Tarjan, without recursion)."""
    index, low, stack, on, done = {}, {}, [], set(), []
    for root in sorted(graph):
        if root in index:
            continue
        work = [(root, iter(sorted(graph[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        while work:
            node, targets = work[-1]
            step = next((t for t in targets if t not in index or t in on), None)
            if step is not None and step not in index:
                index[step] = low[step] = len(index)
                stack.append(step)
                on.add(step)
                work.append((step, iter(sorted(graph.get(step, ())))))
            elif step is not None:
                low[node] = min(low[node], index[step])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    at = stack.index(node)
                    done.append(sorted(stack[at:]))
                    on.difference_update(stack[at:])
                    del stack[at:]
    return done


def circles(graph):
    return [c for c in components(graph) if len(c) > 1]


def storeys(graph):
    """{node: storey}: one above the highest of what it needs; the nodes of a circle share one."""
    of, home = {}, {}
    for component in components(graph):
        for node in component:
            home[node] = component[0]
        below = [of[t] for node in component for t in graph[node] if home.get(t) != component[0]]
        for node in component:
            of[node] = 1 + max(below, default=0)
    return of


def symbols(objects):
    """({symbol: object that defines it}, {object: symbols that it needs}) of object files, by nm -P."""
    defined, needed = {}, {}
    for path in objects:
        needed[path] = set()
        for line in subprocess.run(["nm", "-P", path], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
            name, kind = line.split()[:2]
            if name.startswith("__"):  # the sanitizers' own
                continue
            if kind in "Uw":
                needed[path].add(name)
            elif kind in "TDBRVWC":
                defined.setdefault(name, path)
    return defined, needed


def object_graph(defined, needed):
    return {path: {defined[name] for name in names if name in defined and defined[name] != path} for path, names in needed.items()}


def functions(text):
    """[(name, lines)]: a body opens with a brace in the first column and ends with one."""
    found, start, name = [], None, ""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if line == "{" and start is None:
            head = at - 1
            while head > 0 and "(" not in lines[head] and lines[head].strip():
                head -= 1
            while head > 0 and lines[head][:1] in "\t ":  # the head goes over several lines
                head -= 1
            match = re.search(r"(\w+)\(", lines[head])
            start, name = at, match[1] if match else "?"
        elif line.startswith("}") and start is not None:
            found.append((name, at - start + 1))
            start = None
    return found
