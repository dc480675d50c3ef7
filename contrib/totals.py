#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Adds up meson's test logs: totals.py [--skipped=REASON...] LOG... prints what failed and why, what was skipped, then the total.

A case is a subtest of a TAP test, or a test that has none. A test that printed no TAP, crashed or ran too long counts as one failure
beside the cases it did report. Under each failure stand the lines of its test that say why: the `#` lines that follow a `not ok`, and
the end of its standard error. Each --skipped is something that was not even tried. The last line is `N passed, N failed, N skipped`; exit
status 0 when nothing failed and something passed.
"""
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

LINES = 20  # of one failure

passed = failed = skipped = 0


def show(lines):
    for line in lines[:LINES]:
        print(f"    {line[:300]}")
    if len(lines) > LINES:
        print(f"    ... {len(lines) - LINES} more lines")


def reasons(out):
    """The `#` lines behind each `not ok N`, by N, and those that no case claims."""
    found, number = {}, None
    for line in out.splitlines():
        case = re.match(r"(not )?ok (\d+)", line)
        if case:
            number = int(case[2]) if case[1] else None
            if number is not None:
                found[number] = []
        elif line.startswith("#") and number is not None:
            found[number].append(line)
    return found


def text(suite, tag):
    return "\n".join(e.text or "" for e in suite.iter(tag))


def died(xml):
    """Names of the tests that failed: one that ends before its plan has no failure in the XML, only in the JSON beside it."""
    log = xml.replace(".junit.xml", ".json")
    if log == xml or not os.path.exists(log):
        return set()
    with open(log, encoding="utf-8") as f:
        return {test["name"] for test in map(json.loads, f) if test["result"] in ("ERROR", "FAIL", "TIMEOUT", "INTERRUPT")}


def judge(suite, dead):
    global passed, failed, skipped
    why, bad_here = reasons(text(suite, "system-out")), 0
    for case in suite.iter("testcase"):
        name = f"{suite.get('name')}: {case.get('name')}"
        if case.find("skipped") is not None:
            skipped += 1
            print(f"skipped: {name}")
        elif case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            bad_here += 1
            print(f"failed: {name}")
            number = re.match(r"\d+", case.get("name") or "")
            show(why.get(int(number[0]), []) if number else [])
        else:
            passed += 1
    reported = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    if not reported and (suite.get("name") or "").partition(".")[2] in dead:
        reported = 1
    if reported > bad_here:
        failed += reported - bad_here
        print(f"failed: {suite.get('name')}: ended badly")
        if not bad_here:
            show(["what it printed last:", *text(suite, "system-out").strip().splitlines()[-5:]])
    if bad_here or reported:
        errors = text(suite, "system-err").strip().splitlines()
        if errors:
            show(["its standard error ends with:", *errors[-LINES + 1:]])


for argument in sys.argv[1:]:
    if argument.startswith("--skipped="):
        skipped += 1
        print(f"skipped: {argument.split('=', 1)[1]}")
        continue
    dead = died(argument)
    for one in ElementTree.parse(argument).getroot().iter("testsuite"):
        judge(one, dead)
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or not passed else 0)
