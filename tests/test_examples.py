"""The READMEs of the examples are correct: their commands print what they say, and the pictures
show the answers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.documents import COMMAND_SECONDS, Step, Terminal, blocks, check
from tests.support import HOST, environment, leased_port, program, wait_until

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))

NOT_RUN = re.compile(r"pip install |python -m pytest ")
"""Commands that the tests do not run: the examples are installed in the environment of the tests,
and other tests are those of the examples."""

MOST_BYTES = 60_000
NEAR = 2.0
"""Levels of brightness (of 256) by which two drawings of a picture may differ on average, since
fonts differ a little between releases of matplotlib."""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in a copy of the examples, in which `deepaas-run` listens on a free port."""
    with contextlib.ExitStack() as resources:
        port = resources.enter_context(leased_port())
        shutil.copytree(EXAMPLES, tmp_path / "examples")
        path = f"{program().parent}:{os.environ['PATH']}"
        env = environment(
            tmp_path / "home",
            extra={"PATH": path, "DEEPAAS_LISTEN_PORT": str(port), "PYTHONPATH": None},
        )
        terminal = Terminal(tmp_path / "terminal", tmp_path / "examples", env)
        resources.callback(terminal.close)
        yield terminal


def serve(terminal: Terminal, command: str, port: str) -> None:
    """Start a server, and wait until its port accepts connections."""
    terminal.begin(command)

    def is_open() -> bool:
        assert not terminal.has_ended(), terminal.said()
        with socket.socket() as client:
            return client.connect_ex((HOST, int(port))) == 0

    wait_until(is_open, within=COMMAND_SECONDS, what=f"the port of {command}")


def steps(name: str) -> list[Step]:
    """Return the commands of a README that are run. An empty line may separate two commands."""
    found = []
    for block in blocks(EXAMPLES / name / "README.md"):
        if block.language != "console":
            continue
        for number, step in enumerate(block.steps, 1):
            if number < len(block.steps) and step.printed[-1:] == [""]:
                step.printed.pop()
            if not NOT_RUN.match(step.command):
                found.append(step)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_a_readme_print_what_it_says(
    name: str, terminal: Terminal, tmp_path: Path
) -> None:
    port = terminal.run("echo $DEEPAAS_LISTEN_PORT").stdout.strip()
    server, *calls = steps(name)
    assert server.is_server
    serve(terminal, server.command, port)
    place = tmp_path / "examples" / name
    second = Terminal(tmp_path / "second", place, environment(tmp_path / "home", extra={}))
    try:
        assert len(calls) > 3
        for step in calls:
            command = step.command.replace(":5000", f":{port}")
            check(command, second.run(command), step.printed)
    finally:
        second.close()
        terminal.interrupt()


def test_readmes_tell_the_same_story() -> None:
    for name in NAMES:
        page = (EXAMPLES / name / "README.md").read_text()
        titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
        assert [title for title in titles if title in ("Install", "Run", "Call", "Test")] == [
            *("Install", "Run", "Call", "Test")
        ]
        assert "](answer.png)" in page.partition("\n## ")[0]


def test_pictures_show_the_answers(tmp_path: Path) -> None:
    env = environment(tmp_path / "home", extra={"PYTHONPATH": None})
    script = EXAMPLES / "make_pictures.py"
    subprocess.run(
        [sys.executable, str(script), "--into", str(tmp_path)],
        env=env,
        timeout=COMMAND_SECONDS,
        check=True,
    )
    for name in NAMES:
        committed = EXAMPLES / name / "answer.png"
        assert committed.stat().st_size < MOST_BYTES
        new, old = (
            np.asarray(Image.open(path).convert("L"), dtype=float)
            for path in (tmp_path / f"{name}.png", committed)
        )
        assert new.shape == old.shape
        assert np.abs(new - old).mean() < NEAR, f"run {script} and commit {committed}"
