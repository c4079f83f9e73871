"""The command line of `deepaas-run`: its help, its values, and its error messages."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from oslo_config import cfg

import deepaas
from deepaas.config.describing import default, flags, nearest

PROGRAM = "deepaas-run"

_ABOUT = (
    "Serve models over HTTP: the installed models, or each MODEL: the name of an installed model, "
    "module:attribute or path/to/file.py[:attribute]. Options can also be set in "
    "deepaas.conf, or in the environment as DEEPAAS_<OPTION>."
)
_GENERAL = {
    "-h, --help": "Show this help and exit.",
    "--version": "Show the version and exit.",
    "--config-file FILE": "Read options from this file instead of deepaas.conf. May be given "
    "several times; the last file that sets an option takes precedence.",
    "--config-dir DIRECTORY": "Read options from each *.conf file of this directory.",
}


class Sources(argparse.Action):
    """Collects --config-file and --config-dir in the order in which they are given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given = [*(getattr(namespace, self.dest) or []), (self.const, values)]
        setattr(namespace, self.dest, given)


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports a mistake in one line and shows the options by group."""

    def __init__(self, groups: Mapping[str, Sequence[cfg.Opt]]) -> None:
        super().__init__(prog=PROGRAM, usage="%(prog)s [OPTION ...] [MODEL ...]")
        self._groups = groups
        self.long = {"help", "version", "config-file", "config-dir"}
        self._switches: set[str] = set()
        self.add_argument("--version", action="version", version=deepaas.__version__)
        for kind in ("file", "dir"):
            self.add_argument(f"--config-{kind}", action=Sources, dest="sources", const=kind)
        for options in groups.values():
            for option in options:
                self._add(option)
        self.add_argument("model", nargs="*")

    def _add(self, option: cfg.Opt) -> None:
        names = [f"--{option.name}"] + ([f"-{option.short}"] if option.short else [])
        self.long.add(option.name)
        if isinstance(option, cfg.BoolOpt):
            inverse = f"no{option.name}"
            self.long.add(inverse)
            self._switches |= {option.name, inverse}
            self.add_argument(*names, dest=option.dest, action="store_const", const="true")
            self.add_argument(f"--{inverse}", dest=option.dest, action="store_const", const="false")
        else:
            action = "append" if option.multi else "store"
            self.add_argument(*names, dest=option.dest, action=action)

    def read(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return the values as text, by option. Exit with status 2 at a mistake."""
        for word in argv:
            if word == "--":
                break
            self._check_form(word)
        namespace, rest = self.parse_known_args(argv)
        for word in rest:
            if word.startswith("-") and word not in ("-", "--"):
                self._refuse(word)
        values = {name: value for name, value in vars(namespace).items() if value is not None}
        values["model"] += [word for word in rest if word != "--"]
        return values

    def _check_form(self, word: str) -> None:
        """Refuse forms that argparse misreads, or reports without saying what to write instead."""
        name, has_value, _ = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            if word.startswith("-") and len(name) > 1 and name in self.long:
                self.error(f"{word}: a long option begins with two dashes: --{name}")
        elif has_value and name in self._switches:
            base = name if f"no{name}" in self._switches else name.removeprefix("no")
            self.error(f"--{name} takes no value; write --{base} or --no{base}")

    def _refuse(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        near = nearest(name.lstrip("-"), self.long)
        hint = f"did you mean --{near}?" if near else f"{PROGRAM} --help lists all options"
        self.error(f"there is no option {name}; {hint}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{PROGRAM}: error: {message}\n")

    def format_help(self) -> str:
        width = max(40, min(100, shutil.get_terminal_size().columns))
        parts = [self.format_usage(), textwrap.fill(_ABOUT, width)]
        parts += ["", "General:", *(_entry(name, text, width) for name, text in _GENERAL.items())]
        for title, options in self._groups.items():
            parts += ["", f"{title}:"]
            for option in options:
                usual = default(option)
                text = f"{option.help} [default: {usual}]" if usual else str(option.help)
                parts.append(_entry(flags(option), text, width))
        return "\n".join(parts) + "\n"


def _entry(name: str, text: str, width: int) -> str:
    indent = " " * 8
    body = textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)
    return f"  {name}\n{body}"
