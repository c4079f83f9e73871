"""Finds the configuration files, and reads their keys with line numbers."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from oslo_config import cfg, iniparser

from deepaas.config.command_line import PROGRAM
from deepaas.config.describing import nearest
from deepaas.exceptions import ConfigurationError

PROJECT = "deepaas"
HERE = f"./{PROJECT}.conf"
SECTION = "DEFAULT"


@dataclass(frozen=True)
class Entry:
    """A key in a configuration file."""

    path: str
    line: int
    section: str
    key: str
    value: str

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


def paths(sources: Sequence[tuple[str, str]]) -> list[str]:
    """Return the paths of the files to read; later files override earlier ones.

    `sources` are the --config-file ("file") and --config-dir ("dir") of the command line, in their
    order. As in oslo.config, the usual files are read if no file is named, and the usual
    directories if no directory is named. Raises ConfigurationError if a named directory is missing.
    """
    kinds = {kind for kind, _ in sources}
    found = [] if "file" in kinds else _usual_files()
    if "dir" not in kinds:
        for directory in cfg.find_config_dirs(project=PROJECT, prog=PROGRAM):
            found += _of_directory(directory)
    for kind, path in sources:
        given = os.path.expanduser(path)
        if kind == "file":
            found.append(given)
        elif os.path.isdir(given):
            found += _of_directory(given)
        else:
            raise ConfigurationError(f"--config-dir {path} is not a directory")
    return found


def _usual_files() -> list[str]:
    """Return ./deepaas.conf, or else the first found in ~/.deepaas, ~, /etc/deepaas and /etc."""
    files: list[str] = cfg.find_config_files(project=PROJECT, prog=PROGRAM)
    if os.path.exists(HERE):
        name = os.path.basename(HERE)
        files = [HERE, *(path for path in files if os.path.basename(path) != name)]
    return files


def _of_directory(directory: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(directory), "*.conf")))


def read(path: str) -> list[Entry]:
    """Return the keys of a file. Raises ConfigurationError if it is unreadable or malformed."""
    try:
        with open(path) as file:
            lines = file.readlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise ConfigurationError(
            f"the configuration file {path} cannot be read: {reason}"
        ) from None
    parser = _Parser(path)
    try:
        parser.parse([*lines, "\n"])  # the empty line ends the last key where `_Parser` expects it
    except iniparser.ParseError as error:
        raise ConfigurationError(f"{path}:{error.lineno}: {error.msg}") from None
    return parser.entries


class _Parser(iniparser.BaseParser):
    """Collects keys with line numbers. It parses as oslo.config does, which has no line numbers."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._section = ""
        self.entries: list[Entry] = []

    def new_section(self, section: str) -> None:
        self._section = section

    def assignment(self, key: str, value: list[str]) -> None:
        line = self.lineno - len(value)
        if not self._section:
            message = f"write [{SECTION}] in a line above the first key"
            raise iniparser.ParseError(message, line, "")
        self.entries.append(Entry(self._path, line, self._section, key, "\n".join(value)))

    def error_invalid_assignment(self, line: str) -> NoReturn:
        message = "expected [section], or key = value, or # comment"
        raise iniparser.ParseError(message, self.lineno, line)


def remarks(entries: Sequence[Entry], known: Collection[str]) -> list[str]:
    """Return a warning for each section that is not read and each key that is not in `known`."""
    names = {key.replace("_", "-"): key for key in known}
    found: list[str] = []
    sections = set()
    for entry in entries:
        if entry.section != SECTION:
            if (entry.path, entry.section) not in sections:
                sections.add((entry.path, entry.section))
                found.append(
                    f"{entry.where}: section [{entry.section}] is not read; "
                    f"options belong in [{SECTION}]"
                )
        elif entry.key not in known:
            near = names.get(nearest(entry.key, names), "")
            hint = f"; did you mean {near}?" if near else ""
            found.append(f"{entry.where}: {entry.key} is not an option and has no effect{hint}")
    return found
