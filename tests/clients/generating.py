"""Runs generators of clients, and imports what they have made."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-clients"
"""The directory in which `make test-clients` installs the generators that few tests need."""

SECONDS = 600
"""The timeout of a generator; only a failing test reaches it."""


def needs(*paths: Path) -> pytest.MarkDecorator:
    """Skip the tests if a tool is missing, except in CI."""
    missing = [str(path.relative_to(ROOT)) for path in paths if not path.exists()]
    return pytest.mark.skipif(
        bool(missing) and not os.environ.get("CI"),
        reason=f"needs {', '.join(missing)}: `make test-clients` installs it",
    )


needs_openapi_python_client = pytest.mark.skipif(
    find_spec("openapi_python_client") is None,
    reason="needs openapi-python-client: pip install -e '.[test]' with Python 3.11 or newer",
)


def generate(command: Sequence[object], folder: Path, path: str = "") -> str:
    """Run a generator in the folder; return its output. `path` becomes PYTHONPATH."""
    programs = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": path}
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


class Load(Protocol):
    """Imports a module of the generated package, such as "api.pictures"."""

    def __call__(self, module: str) -> ModuleType: ...


@contextmanager
def importable(folder: Path, package: str) -> Iterator[Load]:
    """Make a generated package importable while the block runs."""
    sys.path.insert(0, str(folder))
    try:
        yield lambda module: importlib.import_module(f"{package}.{module}")
    finally:
        sys.path.remove(str(folder))
        for name in [*sys.modules]:
            if name == package or name.startswith(f"{package}."):
                del sys.modules[name]
