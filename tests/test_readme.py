"""The README is correct: the tests run its commands in a fresh clone, in order.

Nothing is fetched from a package index. The new environments find the requirements of DEEPaaS in
the environment of the tests, through `PYTHONPATH`, so pip finds each of them satisfied. Everything
else is as for a reader: pip builds DEEPaaS, installs it in the new environment, and makes its
programs. DEEPaaS itself is not among the shared packages.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deepaas import config
from tests.documents import (
    COMMAND_SECONDS,
    Block,
    Step,
    Terminal,
    blocks,
    blocks_of,
    check,
    pattern,
)
from tests.reader import lend_packages
from tests.support import HOST, environment, leased_port, run_program, wait_until

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "README.md"
README = PAGE.read_text()
PORTS = ("5000", "8000")
"""The ports in the README. Only they are replaced, since another program may use them."""


def git(*args: str, cwd: Path) -> str:
    ran = subprocess.run(["git", *args], cwd=cwd, check=True, stdout=subprocess.PIPE, timeout=60)
    return ran.stdout.decode()


def clone(target: Path) -> Path:
    """Make a fresh clone of this checkout, with its uncommitted changes."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout that could be cloned")
    git("clone", "--quiet", str(ROOT), str(target), cwd=ROOT)
    for name in git("ls-files", "--deleted", cwd=ROOT).splitlines():
        (target / name).unlink()
    for name in git("ls-files", "-mo", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


@dataclass
class Reader:
    """A reader who follows the README with two terminals."""

    folder: Path
    checkout: Path
    home: Path
    env: dict[str, str]
    ports: dict[str, str]
    resources: contextlib.ExitStack
    first: Terminal = field(init=False)
    place: Path = field(init=False)
    is_serving: bool = False
    count: int = 0
    before_make_run: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.place = self.checkout
        self.first = self.terminal()

    def terminal(self) -> Terminal:
        self.count += 1
        terminal = Terminal(self.folder / f"terminal {self.count}", self.place, self.env)
        self.resources.callback(terminal.close)
        return terminal

    def read(self, block: Block) -> None:
        """Follow the instructions of a block, in the folder that the paragraph above it names."""
        if block.language == "python":
            name = re.match(r"# (\w+\.py)\n", block.text)
            assert name, "a block of Python begins with the name of its file"
            (self.place / name[1]).write_text(block.text)
        if block.language != "console":
            return
        if "another terminal" in block.paragraph or (self.is_serving and not self.serves(block)):
            terminal = self.terminal()  # no environment is activated in it
        else:
            terminal = self.first
            self.stop()
            self.go(block.paragraph)
        for step in block.steps:
            self.do(step, terminal)

    def serves(self, block: Block) -> bool:
        return any(step.is_server for step in block.steps)

    def stop(self) -> None:
        if self.is_serving:
            self.first.interrupt()
            self.is_serving = False

    def go(self, paragraph: str) -> None:
        """Change to the folder that the paragraph names; without one, stay."""
        if "empty folder" in paragraph:
            self.place = self.folder / "empty"
            self.place.mkdir()
        elif "in the checkout" in paragraph:
            self.place = self.checkout
        self.first.run(f"cd '{self.place}'")

    def do(self, step: Step, terminal: Terminal) -> None:
        command = self.on_free_ports(step.command)
        if step.is_server:
            self.serve(command)
            return
        finished = terminal.run(command)
        assert finished.stderr == "", command
        check(command, finished, [self.on_free_ports(line) for line in step.printed])

    def serve(self, command: str) -> None:
        """Start a server in the first terminal, and wait until its port accepts connections."""
        if command == "make run":
            self.before_make_run = files(self.home)
        port = self.ports["5000"] if "--listen-port" not in command else self.ports["8000"]
        self.first.begin(command)
        self.is_serving = True

        def is_open() -> bool:
            assert not self.first.has_ended(), f"{command}: {self.first.said()}"
            with socket.socket() as client:
                return client.connect_ex((HOST, int(port))) == 0

        wait_until(is_open, within=COMMAND_SECONDS, what=f"the port of {command}")

    def on_free_ports(self, text: str) -> str:
        for port, free in self.ports.items():
            text = re.sub(rf"(127\.0\.0\.1:|--listen-port ){port}\b", rf"\g<1>{free}", text)
        return text


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader with a fresh clone, free ports, and a home that contains only three settings.

    The settings are: the port of a server that is started without one; no lower priority for
    trainings, as the machine may be busy; and no progress bar of curl, which it would not show in a
    terminal either.
    """
    with contextlib.ExitStack() as resources:
        ports = {port: str(resources.enter_context(leased_port())) for port in PORTS}
        home = tmp_path / "home"
        (home / ".deepaas").mkdir(parents=True)
        (home / ".deepaas/deepaas.conf").write_text(
            f"[DEFAULT]\nlisten_port = {ports['5000']}\ntrain_nice = 0\n"
        )
        (home / ".curlrc").write_text("no-progress-meter\n")
        programs = tmp_path / "bin"
        programs.mkdir()
        python = programs / "python3"
        python.write_text(f'#!/bin/sh\nexec "{sys._base_executable}" "$@"\n')  # type: ignore[attr-defined]
        python.chmod(0o755)
        env = environment(
            tmp_path / "other",
            lend_packages(tmp_path / "packages"),
            extra={
                "HOME": str(home),
                "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
                "PIP_CONFIG_FILE": "/dev/null",
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": "",
                "PIP_NO_BUILD_ISOLATION": "0",  # pip reads the 0 as: no isolation
                "PIP_CACHE_DIR": None,
            },
        )
        yield Reader(tmp_path, clone(tmp_path / "clone"), home, env, ports, resources)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_commands_of_the_readme_print_what_it_says_and_leave_nothing_behind(
    reader: Reader,
) -> None:
    """Each command needs the ones before it, so this is a single test. It takes almost a minute."""
    fresh = git("status", "--short", "--ignored", cwd=reader.checkout)
    assert reader.first.run("command -v deepaas-run").code == 1
    for example in blocks_of(PAGE, reader.read):
        example.evaluate()
    assert reader.is_serving

    weights = reader.checkout / ".run/state/weights/digits@deepaas_digits.api/weights.npz"
    assert weights.is_file()
    wait_for_new_weights(reader)
    for block in blocks(PAGE):
        if "/predict/" in block.text and ":5000" in block.text:
            reader.read(block)  # the responses are the same after the training

    reader.stop()
    assert files(reader.home) == reader.before_make_run | {"chart.png"}
    assert (reader.home / "chart.png").read_bytes().startswith(b"\x89PNG")
    finished = reader.first.run("make clean > ../cleaned")
    assert finished.code == 0, finished.output
    assert git("status", "--short", "--ignored", cwd=reader.checkout) == fresh


def wait_for_new_weights(reader: Reader) -> None:
    terminal = reader.terminal()
    metadata = reader.on_free_ports("curl http://127.0.0.1:5000/v2/models/digits/")
    wait_until(
        lambda: '"weights":"built-in"' not in terminal.run(metadata).stdout,
        within=COMMAND_SECONDS,
        what="workers with the new weights",
    )


def test_readme_starts_with_one_sentence_and_the_installation() -> None:
    title, sentence, install = README.split("\n\n")[:3]
    assert title == "# DEEPaaS"
    assert sentence == "Serve a trained model over REST: add one entry point to its package."
    assert install == "## Install"


def test_nothing_of_the_readme_is_left_out() -> None:
    """Each console block has commands, and each line in it is a command or the output of one."""
    consoles = [block for block in blocks(PAGE) if block.language == "console"]
    assert len(consoles) >= 7
    assert all(block.steps for block in consoles)
    assert README.count("```console") == len(consoles)


# --- Coming from 2.6 --------------------------------------------------------------------------

FLAGS_OF_2_6 = """
--base-path --client-max-size --config-dir --config-file --debug --debug-endpoint --doc-endpoint
--help --listen-ip --listen-port --log-config --log-config-append --log-date-format --log-dir
--log-file --log_config --logdir --logfile --model-name --nodebug --nodebug-endpoint
--nodoc-endpoint --nopredict-endpoint --notrain-endpoint --nouse-journal --nouse-json --nouse-syslog
--nowarm --nowatch-log-file --predict-endpoint --syslog-log-facility --train-endpoint --use-journal
--use-json --use-syslog --version --warm --watch-log-file --workers
"""
"""The flags that `deepaas-run --help` of release 2.6.0 lists."""


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without the header row."""
    table = README.partition(f"### {title}\n")[2].partition("\n#")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def gone_flags() -> set[str]:
    return {flag for gone, _ in rows("What is gone") for flag in re.findall(r"`(--[\w-]+)`", gone)}


def test_each_flag_of_2_6_is_known_or_listed_as_gone() -> None:
    known = {f"--{prefix}{option.name}" for option in config.ALL for prefix in ("", "no")}
    known |= {"--help", "--version", "--config-file", "--config-dir"}
    assert set(FLAGS_OF_2_6.split()) - known == gone_flags()


@pytest.mark.parametrize("flag", sorted(gone_flags()))
def test_flag_that_is_gone_is_refused_by_its_name(tmp_path: Path, flag: str) -> None:
    finished = run_program(tmp_path, [flag, "value"], models={"bare": "zoo.bare"})
    assert finished.code == 2
    assert flag in finished.stderr


def test_each_row_has_a_replacement_that_exists() -> None:
    named = rows("What is gone") + rows("What has changed")
    assert len(named) > 30
    options = {f"--{option.name}" for option in config.ALL}
    for before, now in named:
        assert now, before
        assert set(re.findall(r"`(--[\w-]+)`", now)) <= options, before


# --- parsing of the pages ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "output", "fits"),
    [
        ([], "", True),
        ([], "something\n", False),
        (["a"], "a\n", True),
        (["a"], "b\n", False),
        (["a"], "a\na\n", False),
        (["a...c"], "abc\n", True),
        (["a...c"], "a\nc\n", False),
        (["a", "...", "c"], "a\nc\n", True),
        (["a", "...", "c"], "a\nb\nb\nc\n", True),
        (["a", "...", "c"], "a\nb\n", False),
        (["[.]"], "[.]\n", True),
        (["[.]"], ".\n", False),
    ],
)
def test_printed_lines_stand_for_themselves_except_for_dots(
    printed: list[str], output: str, fits: bool
) -> None:
    assert bool(pattern(printed).fullmatch(output)) is fits
