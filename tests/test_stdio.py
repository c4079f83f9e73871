"""Standard input, output and error are open, and a failing write to them raises no exception."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from deepaas import stdio
from tests.support import Finished, environment

PREAMBLE = """\
import io, json, os, sys
from deepaas import stdio

def tell(value):
    with open(os.environ["TOLD"], "w") as file:
        json.dump(value, file)
"""


class Shell:
    """Runs Python programs with shell redirections; `told` is the report of the last program."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told = directory / "told"

    def run(self, program: str, redirect: str = "", **env: str) -> Finished:
        extra = {"PYTHONUNBUFFERED": None, "TOLD": str(self._told), **env}
        command = f'exec "$0" -c "$1" {redirect}'
        done = subprocess.run(
            ["/bin/sh", "-c", command, sys.executable, PREAMBLE + program],
            input="",
            capture_output=True,
            env=environment(self._directory, extra=extra),
            text=True,
            check=False,
            timeout=30,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    @property
    def told(self) -> Any:
        return json.loads(self._told.read_text())


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


# --- descriptors


@pytest.mark.parametrize(
    ("redirect", "opened"),
    [
        ("", []),
        ("<&-", [0]),
        (">&-", [1]),
        ("2>&-", [2]),
        ("<&- 2>&-", [0, 2]),
        (">&- 2>&-", [1, 2]),
        ("<&- >&- 2>&-", [0, 1, 2]),
    ],
)
def test_closed_descriptors_are_opened_and_inherited(
    shell: Shell, redirect: str, opened: list[int]
) -> None:
    program = """
stdio.open_missing()
links = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)]
tell([links, [os.get_inheritable(fd) for fd in range(3)], os.dup(0)])
"""
    assert shell.run(program, redirect).code == 0
    links, inherited, following = shell.told
    assert [fd for fd in range(3) if links[fd] == "/dev/null"] == opened
    assert inherited == [True] * 3
    assert following > 2


# --- streams that ignore errors

FORGIVE = "stdio.open_missing(); stdio.forgive()\n"


@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("redirect", [">&-", ">/dev/full", ">/dev/full 2>/dev/full", "1</dev/null"])
def test_what_cannot_be_written_fails_nothing(
    shell: Shell, redirect: str, env: dict[str, str]
) -> None:
    program = """
for stream in (sys.stdout, sys.stderr, sys.__stdout__):
    print("x" * 100_000, file=stream)
    print("y", file=stream, flush=True)
tell("the end")
print("left in the buffer")
"""
    ran = shell.run(FORGIVE + program, redirect, **env)
    assert (ran.code, shell.told, "rror" in ran.output) == (0, "the end", False)


def test_output_that_nobody_reads_fails_nothing(shell: Shell) -> None:
    program = """
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 1)
print("text", flush=True)
print("left in the buffer")
"""
    ran = shell.run(FORGIVE + program)
    assert (ran.code, ran.output) == (0, "")


@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_what_can_be_written_is(shell: Shell, env: dict[str, str]) -> None:
    program = """
print("before")
stdio.forgive()
print("grün", "\\udcff", flush=True)
sys.stdout.buffer.write(b"bytes\\n")
print("x" * 1_000_000)
print("error", file=sys.stderr)
"""
    ran = shell.run(program, **env)
    assert ran.code == 0
    assert ran.stdout.split("\n") == ["before", "grün \\udcff", "bytes", "x" * 1_000_000, ""]
    assert ran.stderr == "error\n"


@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_streams_look_as_they_did_before(shell: Shell, env: dict[str, str]) -> None:
    program = """
def look(stream):
    names = ("name", "mode", "encoding", "newlines", "line_buffering", "write_through", "closed")
    told = {name: getattr(stream, name) for name in names}
    told["descriptor"], told["terminal"] = stream.fileno(), stream.isatty()
    told["buffer"] = isinstance(stream.buffer, io.BufferedWriter)
    return told

before = [look(sys.stdout), look(sys.stderr)]
stdio.forgive()
tell([before, [look(sys.stdout), look(sys.stderr)]])
"""
    assert shell.run(program, **env).code == 0
    before, after = shell.told
    assert after == before


def test_lines_are_written_at_once_if_that_is_asked(shell: Shell) -> None:
    program = """
stdio.forgive(line_buffering=True)
print("whole")
print("half", end="")
os._exit(0)
"""
    assert shell.run(program).stdout == "whole\n"


def test_stream_that_is_closed_is_closed_as_any_other(shell: Shell) -> None:
    program = """
sys.stdout.close()
try:
    print("text")
except ValueError as error:
    tell(str(error))
os.write(1, b"descriptor 1 is open")
"""
    ran = shell.run(FORGIVE + program)
    assert (ran.code, ran.stdout) == (0, "descriptor 1 is open")
    assert "closed" in shell.told


def test_descriptor_that_does_not_block_gets_everything() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data = bytes(range(256)) * 4096
    received = bytearray()

    def read() -> None:
        while piece := os.read(reading, 10_000):
            received.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        stdio.write_all(writing, data)
    finally:
        os.close(writing)
        reader.join()
        os.close(reading)
    assert received == data


def test_anything_can_be_flushed() -> None:
    class Failing:
        def flush(self) -> None:
            raise RuntimeError

    for stream in (None, 5, object(), Failing()):
        stdio.flush(stream)


def test_no_program_inherits_what_is_saved_of_them(shell: Shell) -> None:
    program = """
import subprocess
from deepaas import log

def inherited():
    code = "import os; print(os.listdir('/proc/self/fd'))"
    done = subprocess.run([sys.executable, "-c", code], close_fds=False, stdout=subprocess.PIPE)
    return done.stdout.decode()

before = inherited()
stdio.forgive()
streams = stdio.StandardStreams()
log.setup(log.LogOptions())
tell([before, inherited()])
"""
    assert shell.run(program).code == 0
    before, after = shell.told
    assert after == before


# --- streams that a model changes

STREAMS = FORGIVE + "streams = stdio.StandardStreams()\n"


@pytest.mark.parametrize(
    "change",
    [
        "pass",
        "os.close(1)",
        "os.close(1); os.close(2)",
        "sys.stdout.close()",
        "sys.stdout.close(); sys.stderr.close(); os.close(1); os.close(2)",
        "sys.stdout.buffer.close()",
        "sys.stdout.detach()",
        "sys.stdout.detach().close()",
        "sys.stdout = open(os.devnull, 'w'); sys.stdout.close()",
        "sys.stdout.close(); sys.stdout = sys.__stdout__",
        "sys.stdout.close(); streams.restore(); sys.stdout.close()",
        "sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='ascii')",
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='ascii')",
    ],
)
def test_what_was_closed_is_open_again(shell: Shell, change: str) -> None:
    program = f"""
print("before", flush=True)
{change}
streams.restore()
print("after")
os.write(2, b"descriptor 2 is open")
"""
    ran = shell.run(STREAMS + program)
    assert (ran.code, ran.stdout) == (0, "before\nafter\n")
    assert ran.stderr == "descriptor 2 is open"


@pytest.mark.parametrize(
    "change",
    [
        "sys.stdout = None",
        "sys.stdout = open(os.devnull, 'w')",
        "sys.stdout = io.StringIO()",
        "sys.stdout = type('Odd', (), dict(write=id, flush=lambda self: 0))()",
        "del sys.stdout",
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
    ],
)
def test_stream_that_is_not_closed_stays(shell: Shell, change: str) -> None:
    program = f"""
{change}
streams.restore()
if hasattr(sys, "stdout"):
    print("discarded")
"""
    ran = shell.run(STREAMS + program)
    assert (ran.code, ran.output) == (0, "")


@pytest.mark.parametrize(
    "change",
    [
        "sys.stdout = open('/dev/full', 'w'); print('lost')",
        "sys.stdout.detach()",
        "sys.stdout = None",
        "del sys.stdout",
        "sys.stdout.close()",
        "os.close(1)",
        "sys.stdout.close(); os.close(1); os.close(2)",
        "sys.stdout = type('Odd', (), dict(write=id, flush=lambda self: 1 / 0))()",
    ],
)
def test_process_ends_well_whatever_was_set(shell: Shell, change: str) -> None:
    program = f"""
print("before")
{change}
streams.end()
print("after")
"""
    ran = shell.run(STREAMS + program)
    assert (ran.code, ran.stdout, ran.stderr) == (0, "before\nafter\n", "")
