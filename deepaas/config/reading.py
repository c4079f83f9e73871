"""Reads the options: from the command line, the environment and configuration files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from oslo_config import cfg, types

from deepaas.config.command_line import PROGRAM, Parser
from deepaas.config.contradictions import contradictions
from deepaas.config.describing import nearest, wrong
from deepaas.config.files import PROJECT, SECTION, paths, read, remarks
from deepaas.config.kinds import MAX_INTEGER
from deepaas.exceptions import ConfigurationError

PREFIX = "DEEPAAS_"
OLD_PREFIX = "OS_DEFAULT__"
"""What oslo.config calls variables, so what they were called in earlier releases."""

OTHER_VARIABLES = ("V2_MODEL", "WORKER", "TRAINING_")
"""How the rest of the names of variables begins that are no options."""

Groups = Mapping[str, Sequence[cfg.Opt]]


class Given(NamedTuple):
    """A value as it was written, and where."""

    where: str
    text: Any


class Options(cfg.ConfigOpts):
    """The values of all options.

    `files` have been read. `remarks` are warnings about the places that values come from. `places`
    has the line of a file, or the variable, for each option that is set there and counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []
        self.places: dict[str, str] = {}
        self.remarks: list[str] = []


def load(argv: Sequence[str], groups: Groups, arguments: Sequence[cfg.Opt]) -> Options:
    """Read the options. A flag counts more than the environment, and that more than a file.

    Raises ConfigurationError for what cannot be read or used, and SystemExit, after saying why,
    for a command line with mistakes (2) and after showing the help or the version (0).
    """
    options = [option for group in groups.values() for option in group]
    flags = Parser(groups).read(argv)
    sources = flags.pop("sources", None) or _named_in_environment()
    conf = Options()
    conf.register_opts([*options, *arguments])
    conf.files = paths(sources)
    entries = [entry for path in conf.files for entry in read(path)]
    conf(
        args=[],
        project=PROJECT,
        prog=PROGRAM,
        default_config_files=conf.files,
        default_config_dirs=[],
        use_env=False,
    )
    given = {e.key: Given(f"{e.where}: {e.key}", e.value) for e in entries if e.section == SECTION}
    _override(conf, options, flags, given)
    if flags["model"]:
        conf.set_override("model", flags["model"])
    _check(conf, options, given)
    conf.places = {
        option.name: _place(given[option.dest])
        for option in options
        if option.dest in given and flags.get(option.dest) is None
    }
    known = {option.dest for option in (*options, *arguments)} | {"config_source"}
    conf.remarks += remarks(entries, known)
    conf.remarks += _misspelt_variables({option.name for option in options})
    conf.remarks += contradictions(conf)
    return conf


def _named_in_environment() -> list[tuple[str, str]]:
    """The files and directories of configuration that the environment names."""
    return [
        (kind, path)
        for kind in ("file", "dir")
        for path in os.environ.get(f"{PREFIX}CONFIG_{kind.upper()}", "").split(",")
        if path
    ]


def _variable(option: cfg.Opt) -> tuple[str, str]:
    """The variable of the environment that sets an option, and its text; "" if it is not set."""
    name = option.dest.upper()
    for variable in (PREFIX + name, OLD_PREFIX + name):
        if text := os.environ.get(variable, ""):
            return variable, text
    return "", ""


def _override(
    conf: Options, options: Sequence[cfg.Opt], flags: Mapping[str, Any], given: dict[str, Given]
) -> None:
    """Let flags, and then the environment, count more than the files; `given` gets them too."""
    for option in options:
        value = flags.get(option.dest)
        where = f"--{option.name}"
        if value is None:
            where, value = _variable(option)
            if not where:
                continue
            if option.multi:
                value = [part.strip() for part in value.split(",") if part.strip()]
        given[option.dest] = Given(where, value)
        try:
            conf.set_override(option.dest, value)
        except ValueError:
            raise ConfigurationError(wrong(where, option, value)) from None


def _place(given: Given) -> str:
    """The line of a file, or the variable, in which a value stands."""
    return given.where.rpartition(": ")[0] or given.where


def with_places(message: str, conf: Options) -> str:
    """The message with the places in which the options that it names are set, if not by flags."""
    names = dict.fromkeys(re.findall(r"--([a-z][a-z-]*[a-z])", message))
    places = [conf.places[name] for name in names if name in conf.places]
    return f"{message} (set in {', '.join(places)})" if places else message


def _check(conf: Options, options: Sequence[cfg.Opt], given: Mapping[str, Given]) -> None:
    """Refuse values that cannot be used, naming the places that they come from."""
    for option in options:
        if option.dest not in given:
            continue
        where, text = given[option.dest]
        try:
            value = conf[option.dest]
        except (cfg.TemplateSubstitutionError, cfg.NoSuchOptError):
            reason = "$ begins the name of another option; write $$ for a dollar sign"
            raise ConfigurationError(f"{where}: {reason}") from None
        except ValueError:
            raise ConfigurationError(wrong(where, option, text)) from None
        if isinstance(option.type, types.Number) and (value is None or value > MAX_INTEGER):
            raise ConfigurationError(wrong(where, option, text))


def _misspelt_variables(names: set[str]) -> list[str]:
    """A warning for each variable of the environment whose name is almost that of an option."""
    found = []
    for variable in sorted(os.environ):
        name = variable.removeprefix(PREFIX)
        if name == variable or name.startswith(OTHER_VARIABLES):
            continue
        plain = name.replace("_", "-").lower()
        near = "" if plain in names else nearest(plain, names)
        if near and plain not in ("config-file", "config-dir"):
            right = PREFIX + near.replace("-", "_").upper()
            found.append(f"the variable {variable} has no effect; did you mean {right}?")
    return found
