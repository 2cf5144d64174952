#!/usr/bin/env python3
"""Fails for operations of openapi.yaml that no integration test has called.

The tests note what they call below DIR/openapi-calls (see tests/it/contract.rs).
Usage: openapi_coverage.py openapi.yaml DIR
"""

import pathlib
import re
import sys


def operations(text):
    """All `verb path` of the file: paths stand two spaces deep, verbs four."""
    found, path, inside = set(), None, False
    for line in text.splitlines():
        if re.match(r"^\S", line):
            inside = line.startswith("paths:")
        elif inside and (match := re.match(r"^  (/[^:]*):", line)):
            path = match[1]
        elif inside and (match := re.match(r"^    (get|put|post|patch|delete):", line)):
            found.add(f"{match[1]} {path}")
    return found


def main():
    wanted = operations(pathlib.Path(sys.argv[1]).read_text())
    called = set()
    for file in pathlib.Path(sys.argv[2], "openapi-calls").glob("*"):
        called.update(file.read_text().splitlines())
    missing = sorted(wanted - called)
    for operation in missing:
        print(f"no test calls {operation}")
    print(f"{len(wanted) - len(missing)} passed, {len(missing)} failed")
    return 1 if missing or not wanted else 0


sys.exit(main())
