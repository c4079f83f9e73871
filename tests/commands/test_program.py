"""The program `deepaas`: its help, its version, and sub-commands that are plug-ins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import deepaas

PROGRAM = Path(sys.executable).with_name("deepaas")


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program; `path` is a directory with more distributions."""
    environment = {**os.environ, "COLUMNS": "100"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [str(PROGRAM), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def install(directory: Path, point: str, code: str = "") -> Path:
    """Make a directory with a distribution `more` that has one sub-command."""
    info = directory / "more-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[deepaas.command]\n{point}\n")
    (directory / "more.py").write_text(code)
    return directory


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(option: str) -> None:
    done = run(option)
    assert done.returncode == 0
    assert "run " in done.stdout


HELP = """
import sys
before = {name.partition(".")[0] for name in sys.modules}
from deepaas.commands import main
main(["--help"], standalone_mode=False)
print(*{name.partition(".")[0] for name in sys.modules} - before)
"""


def test_help_imports_nothing_slow() -> None:
    """It imports all commands, so their modules import only click and small parts of the library.
    This keeps `deepaas --help` below 150 ms of processor time."""
    done = subprocess.run(
        [sys.executable, "-c", HELP], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert imported - sys.stdlib_module_names == {"click", "deepaas"}
    assert not imported & {"asyncio", "ctypes", "http", "multiprocessing", "sqlite3", "ssl"}


def test_version_is_the_plain_version() -> None:
    assert run("--version").stdout == f"{deepaas.__version__}\n"


def test_module_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deepaas", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("Usage: deepaas ")


def test_unknown_command_is_a_usage_error_with_the_nearest_name() -> None:
    done = run("rnu")
    assert done.returncode == 2
    assert "there is no command rnu; did you mean run?" in done.stderr


def test_package_adds_a_command(tmp_path: Path) -> None:
    code = """
import click

@click.command()
@click.option("--times", default=1)
def greet(times):
    "Greet."
    click.echo("hello " * times)
"""
    path = install(tmp_path, "greet = more:greet", code)
    assert "greet" in run("--help", path=path).stdout
    assert run("greet", "--times", "2", path=path).stdout == "hello hello \n"


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ("bad = missing_module:command", "ModuleNotFoundError"),
        ("bad = more:nothing", "AttributeError"),
        ("bad = more:text", "it is str, and not a click.Command"),
    ],
)
def test_command_that_cannot_be_loaded_affects_no_other(
    tmp_path: Path, point: str, reason: str
) -> None:
    path = install(tmp_path, point, 'text = "no command"')
    listed = run("--help", path=path)
    assert listed.returncode == 0
    assert "Serve models over HTTP" in listed.stdout
    failed = run("bad", "--option", "value", path=path)
    assert failed.returncode == 1
    assert "the command bad of more cannot be loaded" in failed.stderr
    assert reason in failed.stderr
    assert "Traceback" not in failed.stderr


def test_run_is_the_server() -> None:
    done = run("run", "--help")
    assert done.stdout.startswith("usage: deepaas-run ")
    assert "--listen-port" in done.stdout
    wrong = run("run", "--listen-prot", "1")
    assert wrong.returncode == 2
    assert "did you mean --listen-port?" in wrong.stderr
