"""Makes an environment with another revision of this project and the present dependencies."""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.commandline import tell
from benchmarks.servers import HERE, BenchmarkError

HOME = HERE.parent / ".venv-before"


def present() -> str:
    """Return a name for the present source."""
    try:
        return _said("git", "describe", "--always", "--dirty")
    except BenchmarkError:  # a source without its history can be measured, too
        return "unknown"


def install(revision: str) -> Path:
    """Return the `deepaas-run` of a git revision. An existing environment is used again."""
    try:
        commit = _said("git", "rev-parse", "--verify", f"{revision}^{{commit}}")
    except BenchmarkError as error:
        text = f"{revision!r} is neither a program that exists nor a git revision: {error}"
        raise BenchmarkError(text) from error
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    frozen = _said(*pip, "freeze", "--exclude-editable", "--exclude", "deepaas")
    contents = f"{commit}\n{sys.version}\n{frozen}\n"
    ready, program = HOME / "ready", HOME / "bin" / "deepaas-run"
    if not ready.is_file() or ready.read_text() != contents:
        tell(f"installing {revision} in {HOME.name}\n")
        _make(commit, frozen)
        ready.write_text(contents)
    return program


def _make(commit: str, frozen: str) -> None:
    """Install the revision as editable, like the present one, so that nothing else differs."""
    source, archive, constraints = HOME / "source", HOME / "source.tar", HOME / "constraints.txt"
    shutil.rmtree(HOME, ignore_errors=True)
    _said(sys.executable, "-m", "venv", str(HOME))
    _said("git", "archive", "--output", str(archive), commit)
    source.mkdir()
    _said("tar", "-xf", str(archive), "-C", str(source))
    archive.unlink()
    constraints.write_text(f"{frozen}\n")
    pip = (str(HOME / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
    _said(*pip, "install", "-c", str(constraints), "-e", str(source))


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    except OSError as error:
        raise BenchmarkError(f"cannot run {command[0]}: {error}") from error
    if done.returncode != 0:
        raise BenchmarkError(f"`{' '.join(command)}` failed:\n{done.stderr[-3000:].strip()}")
    return done.stdout.strip()
