"""Runs the commands of a Markdown page, and compares their output with the page."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import Finished, wait_until

COMMAND_SECONDS = 900.0
"""The timeout of a command; only a failing test reaches it."""

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SERVERS = re.compile(r"deepaas-run|deepaas run\b|make run\b")


@dataclass
class Step:
    """One command, and the lines that the page shows below it."""

    command: str
    printed: list[str] = field(default_factory=list)

    @property
    def is_server(self) -> bool:
        """Whether the command runs until it is interrupted."""
        return SERVERS.match(self.command) is not None


@dataclass
class Block:
    """A code block, its language, and the paragraph above it, which names the folder to use."""

    language: str
    text: str
    paragraph: str

    @property
    def steps(self) -> list[Step]:
        steps: list[Step] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line.removeprefix("$ ")))
            elif line.startswith("> ") and not steps[-1].printed:
                steps[-1].command += "\n" + line.removeprefix("> ")
            else:
                steps[-1].printed.append(line)
        return steps


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(page):
        paragraph = page[: match.start()].rstrip().rpartition("\n\n")[2]
        found.append(Block(match[1], match[2], paragraph))
    return found


def pattern(printed: list[str]) -> re.Pattern[str]:
    """Return a pattern for the expected output.

    `...` within a line matches any text, and a line that is only `...` matches any number of lines.
    Everything else must match exactly.
    """
    parts = [
        r"(?:.*\n)*?" if line == "..." else r".*?".join(map(re.escape, line.split("..."))) + r"\n"
        for line in printed
    ]
    return re.compile("".join(parts))


def check(command: str, finished: Finished, printed: list[str]) -> None:
    """Check that a command has succeeded, and has printed these lines of the page."""
    assert finished.code == 0, f"{command}\n{finished.output}"
    shown = finished.stdout + "\n" * (finished.stdout[-1:] not in ("", "\n"))
    assert pattern(printed).fullmatch(shown), f"{command}\n{shown}\n--- but the page says:\n" + (
        "\n".join(printed)
    )


class Terminal:
    """A shell that runs commands one after another. `notes` is a directory for its output."""

    def __init__(self, notes: Path, directory: Path, env: Mapping[str, str]) -> None:
        notes.mkdir()
        self._files = notes / "stdout", notes / "stderr"
        self._begins = [0, 0]
        self._mark = ""
        reading, self._writing = os.pipe()
        with self._files[0].open("wb") as output, self._files[1].open("wb") as errors:
            self._process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", f"/dev/fd/{reading}"],
                pass_fds=[reading],
                cwd=directory,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        os.close(reading)
        self.run("trap : INT")  # Ctrl-C must end the running command, not the shell

    def run(self, command: str) -> Finished:
        """Run a command until it exits."""
        self.begin(command)
        wait_until(self.has_ended, within=COMMAND_SECONDS, what=f"the end of {command}")
        return self.result()

    def begin(self, command: str) -> None:
        self._begins = [file.stat().st_size for file in self._files]
        self._mark = f"\n--- the end of {os.urandom(8).hex()}: "
        end = f"printf '{self._mark.encode('unicode_escape').decode()}%d\\n' $?"
        os.write(self._writing, f"{command}\n{end}\n".encode())

    def said(self) -> list[str]:
        """Return the output of the last command so far: stdout and stderr."""
        return [
            file.read_bytes()[begin:].decode(errors="replace")
            for file, begin in zip(self._files, self._begins, strict=True)
        ]

    def has_ended(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the shell has ended: {self.said()}")
        return re.search(re.escape(self._mark) + r"\d+\n", self.said()[0]) is not None

    def result(self) -> Finished:
        output, errors = self.said()
        output, _, status = output.rpartition(self._mark)
        return Finished(int(status), output, errors)

    def interrupt(self) -> None:
        """Send Ctrl-C, and wait until the running command exits."""
        os.killpg(self._process.pid, signal.SIGINT)
        wait_until(self.has_ended, within=COMMAND_SECONDS, what="the end after Ctrl-C")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)
        os.close(self._writing)
