#!/usr/bin/env python3
"""Adds up meson's test logs: totals.py LOG_DIR... prints what failed and was skipped, then `N passed, N failed, N skipped`.

A case is a subtest of a TAP test, or a test that has none. A test that printed no TAP, crashed or ran too long counts as one failure
beside the cases it did report. Exit status 0 when nothing failed and something passed.
"""
import sys
import xml.etree.ElementTree as ElementTree

passed = failed = skipped = 0
for path in sys.argv[1:]:
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        cases = list(suite.iter("testcase"))
        bad_here = 0
        for case in cases:
            name = f"{suite.get('name')}: {case.get('name')}"
            if case.find("skipped") is not None:
                skipped += 1
                print(f"skipped: {name}")
            elif case.find("failure") is not None or case.find("error") is not None:
                failed += 1
                bad_here += 1
                print(f"failed: {name}")
            else:
                passed += 1
        reported = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        if reported > bad_here:
            failed += reported - bad_here
            print(f"failed: {suite.get('name')}: ended badly")
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or not passed else 0)
