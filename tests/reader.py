"""A reader who does what a page says, in a folder, with terminals and an own Python environment."""

from __future__ import annotations

import ast
import configparser
import contextlib
import json
import os
import re
import socket
import sysconfig
import venv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

import tomli
import yaml

from tests.documents import COMMAND_SECONDS, Block, Terminal, check, pattern
from tests.support import HOST, environment, leased_port, wait_until

ROOT = Path(__file__).resolve().parent.parent
OWN = re.compile(r"deepaas|__editable__|pip(-|$)|__pycache__|.*\.pth$")
"""Packages that the new environments do not share: DEEPaaS, its examples, and pip."""

FILE_NAME = re.compile(r"(?:#|//) ([\w/-]+\.\w+)\n")
"""The first line of a block that is a file."""

PORT = re.compile(r"--listen-port[ =](\d+)")
LANGUAGES = {"python": ".py", "javascript": ".mjs", "typescript": ".mts"}
STARTS = {
    "python": ["python call.py"],
    "javascript": ["node call.mjs"],
    "typescript": [
        "npx tsc --strict --target es2022 --module nodenext "
        "--lib es2022,dom,dom.asynciterable call.mts",
        "TOKEN=$(cat token) node call.mjs",
    ],
}


def lend_packages(target: Path, *, left_out: re.Pattern[str] = OWN) -> Path:
    """Make a directory with the packages of this environment, except DEEPaaS and its examples."""
    target.mkdir()
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if not left_out.match(entry.name):
                (target / entry.name).symlink_to(entry)
    return target


def make_environment(target: Path, packages: Path) -> Path:
    """Make an environment with DEEPaaS, pip and the lent packages, without models.

    pip finds the requirements satisfied, and needs no index. Return the folder of the programs.
    """
    venv.create(target, with_pip=False, symlinks=True)
    programs = target / "bin"
    site = next(target.glob("lib/python*/site-packages"))
    (site / "lent.pth").write_text(f"{packages}\n{ROOT}\n")
    _write_program(programs / "pip", "pip._internal.cli.main:main")
    for point in distribution("deepaas").entry_points.select(group="console_scripts"):
        _write_program(programs / point.name, point.value)
    return programs


def _write_program(path: Path, target: str) -> None:
    module, _, function = target.partition(":")
    code = f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    path.write_text(f"#!{path.with_name('python')}\n{code}")
    path.chmod(0o755)


def sides(diff: str) -> tuple[str, str]:
    """Return the text before and after a difference that shows the whole file."""
    lines = [
        line for line in diff.splitlines(keepends=True) if not re.match(r"---|\+\+\+|@@", line)
    ]
    assert all(line[0] in " +-\n" for line in lines), "each line begins with +, - or a space"
    before = [line[1:] or line for line in lines if line[0] in " -\n"]
    after = [line[1:] or line for line in lines if line[0] in " +\n"]
    return "".join(before), "".join(after)


@dataclass
class Reader:
    """A reader of a page, in a folder, with free ports for those on the page.

    The servers run in terminals of their own; a new server replaces the one on its port.
    """

    folder: Path
    env: dict[str, str]
    ports: dict[str, str]
    resources: contextlib.ExitStack
    first: Terminal = field(init=False)
    servers: dict[str, Terminal] = field(default_factory=dict)
    program: dict[str, str] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.first = self.terminal()

    def terminal(self) -> Terminal:
        self.count += 1
        notes = self.folder.parent / f"{self.folder.name} terminal {self.count}"
        terminal = Terminal(notes, self.folder, self.env)
        self.resources.callback(terminal.close)
        return terminal

    def on_free_ports(self, text: str) -> str:
        for port, free in self.ports.items():
            text = re.sub(rf"(127\.0\.0\.1:|--listen-port ){port}\b", rf"\g<1>{free}", text)
        return text

    def read(self, block: Block) -> None:
        """Do what the block says. The blocks of a program run together, at the end of the page."""
        if block.remark("not run") or block.remark("run by"):
            return
        name = FILE_NAME.match(block.text)
        if block.language == "console":
            self.run(block, self.first)
        elif block.language == "diff":
            self.apply(block.text)
        elif name:
            self.save(name[1], block.text)
        elif block.language in LANGUAGES:
            self.program.setdefault(block.language, "")
            self.program[block.language] += block.text + "\n"
        elif block.language == "text":
            self.printed += block.text.splitlines()
        elif block.language and not block.language.startswith("{"):  # Sphinx runs those
            parse(block.language, block.text)

    def save(self, name: str, text: str) -> None:
        if name.endswith(".py"):
            ast.parse(text)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.on_free_ports(text))

    def apply(self, diff: str) -> None:
        """Save the file after the difference; the one before it is at least correct Python."""
        name = re.search(r"^\+\+\+ (\S+)$", diff, re.MULTILINE)
        assert name, "a difference names the new file: +++ name"
        before, after = sides(diff)
        if name[1].endswith(".py"):
            ast.parse(before)
        self.save(name[1], after)

    def run(self, block: Block, terminal: Terminal) -> None:
        assert block.text.startswith("$ "), "a block of commands begins with one"
        for step in block.steps:
            command = self.on_free_ports(step.command)
            if step.is_server:
                self.serve(command)
            else:
                printed = [self.on_free_ports(line) for line in step.printed]
                check(command, terminal.run(command), printed)

    def serve(self, command: str) -> None:
        """Start a server in a terminal of its own, and wait until its port accepts connections."""
        given = PORT.search(command)
        port = given[1] if given else self.ports["5000"]
        if port in self.servers:
            self.servers[port].interrupt()
        terminal = self.servers.setdefault(port, self.terminal())
        folder, path = self.first.run('echo "$PWD"; echo "$PATH"').stdout.splitlines()
        terminal.run(f"cd '{folder}'; export PATH='{path}'")  # with an environment that is active
        terminal.begin(command)

        def is_open() -> bool:
            assert not terminal.has_ended(), f"{command}: {terminal.said()}"
            with socket.socket() as client:
                return client.connect_ex((HOST, int(port))) == 0

        wait_until(is_open, within=COMMAND_SECONDS, what=f"the port of {command}")

    def run_program(self) -> None:
        """Run the program of the page, and compare its output with the blocks of text."""
        for language, program in self.program.items():
            (self.folder / f"call{LANGUAGES[language]}").write_text(self.on_free_ports(program))
            for command in STARTS[language]:
                finished = self.first.run(command)
                assert finished.code == 0, finished.output
            assert pattern(self.printed).fullmatch(finished.stdout), finished.output

    def finish(self) -> None:
        """Run the program of the page, and stop all servers."""
        self.run_program()
        for terminal in self.servers.values():
            terminal.interrupt()


def parse(language: str, text: str) -> None:
    """Check that the text can be parsed."""
    if language == "toml":
        tomli.loads(text)
    elif language == "json":
        json.loads(text)
    elif language == "ini":
        configparser.ConfigParser(interpolation=None).read_string(text)
    elif language == "yaml":
        list(yaml.safe_load_all(text))
    else:
        raise AssertionError(f"say why this block of {language} is not run")


@contextlib.contextmanager
def reading(
    folder: Path, programs: Iterable[Path], *path: Path, extra: Mapping[str, str] | None = None
) -> Iterator[Reader]:
    """A reader with an empty folder, these programs, and free ports for those on the pages.

    Her home has two settings: the port of a server that is started without one, and no progress bar
    of curl, which it would not show in a terminal either.
    """
    work, home = folder / "work", folder / "home"
    work.mkdir(parents=True)
    (home / ".deepaas").mkdir(parents=True)
    (home / ".curlrc").write_text("no-progress-meter\n")
    settings = {
        "HOME": str(home),
        "PATH": os.pathsep.join([*map(str, programs), "/usr/local/bin", "/usr/bin", "/bin"]),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads the 0 as: no isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    env = environment(home, *path, extra={**settings, "PIP_CACHE_DIR": None, **(extra or {})})
    with contextlib.ExitStack() as resources:
        ports = {
            port: str(resources.enter_context(leased_port())) for port in ("5000", "8000", "8001")
        }
        (home / ".deepaas/deepaas.conf").write_text(
            f"[DEFAULT]\nlisten_port = {ports['5000']}\ntrain_nice = 0\n"
        )
        yield Reader(work, env, ports, resources)
