"""Finds the code blocks of a Markdown page, and runs commands as a reader does, in a terminal.

A page says with a comment above a block that the block is not run, and why; or which other test
runs it:

    <!-- not run: it needs a GPU -->
    <!-- run by: auth/test_sign_in.py::test_example -->
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from tests.support import Finished, wait_until

COMMAND_SECONDS = 900.0
"""The timeout of a command; only a failing test reaches it."""

FENCES = RawFencedCodeBlockLexer(re.compile(r"(?P<language>[^\n]*)$\n", re.MULTILINE))
COMMENT = re.compile(r"<!--((?:(?!-->).)*)-->\s*\Z", re.DOTALL)
SERVERS = re.compile(r"(deepaas-run|deepaas run|make run)\b(?!.*--(help|version))")


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
    """A code block: its language, the comment and the paragraph above it, and its line.

    The paragraph names the folder to use.
    """

    language: str
    text: str
    paragraph: str = ""
    comment: str = ""
    line: int = 0

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

    def remark(self, about: str) -> str:
        """Return what the comment says after `about` and a colon, or ""."""
        key, _, text = self.comment.partition(":")
        return " ".join(text.split()) if key.strip() == about else ""


def blocks_of(path: Path, evaluate: Callable[[Block], None] | None = None) -> Iterator[Example]:
    """Return the code blocks of a page, in order; `parsed` is the Block.

    The method `evaluate` of each of them calls the function with the block.
    """

    def run(example: Example) -> None:
        assert evaluate is not None
        try:
            evaluate(example.parsed)
        except AssertionError as error:
            raise AssertionError(f"{path.name}, line {example.line}: {error}") from error

    def parse(document: Document) -> Iterator[Region]:
        for region in FENCES(document):
            yield Region(region.start, region.end, _block(document.text, region), run)

    yield from Sybil(parsers=[parse]).parse(path).examples()


def _block(page: str, region: Region) -> Block:
    before = page[: region.start].rstrip()
    comment = COMMENT.search(before)
    if comment:
        before = before[: comment.start()].rstrip()
    return Block(
        language=region.lexemes["language"].strip(),
        text=str(region.lexemes["source"]),
        paragraph=before.rpartition("\n\n")[2],
        comment=comment[1] if comment else "",
        line=page.count("\n", 0, region.start) + 1,
    )


def blocks(path: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    return [example.parsed for example in blocks_of(path)]


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
