"""Runs a program with another aiohttp: `python renaming.py '{"pattern": "replacement"}' PROGRAM`.

Each regular expression is replaced in the source of every module of aiohttp.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from types import CodeType, ModuleType


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from its changed source."""

    changes: Mapping[str, str] = {}

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path).decode()
        for pattern, replacement in self.changes.items():
            source = re.sub(pattern, replacement, source)
        return compile(source, path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of aiohttp."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "aiohttp":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = Loader(fullname, spec.loader.path)
        return spec


def main() -> None:
    Loader.changes = json.loads(sys.argv[1])
    sys.argv = sys.argv[2:]
    sys.path[0] = ""  # not the directory of this file
    sys.meta_path.insert(0, Finder())
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
