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
"""The prefix that oslo.config uses, and so did earlier releases."""

OTHER_VARIABLES = ("V2_MODEL", "WORKER", "TRAINING_")
"""Variables with `PREFIX` and then one of these are not options."""

Groups = Mapping[str, Sequence[cfg.Opt]]


class Given(NamedTuple):
    """The text of a value, and the place where it is set."""

    where: str
    text: Any


class Options(cfg.ConfigOpts):
    """The values of all options.

    `files` are the files that were read. `remarks` are warnings about settings that have no effect.
    `places` maps each option that a file or the environment sets to that line or variable.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []
        self.places: dict[str, str] = {}
        self.remarks: list[str] = []


def load(argv: Sequence[str], groups: Groups, arguments: Sequence[cfg.Opt]) -> Options:
    """Read and return the options. Flags override the environment, which overrides files.

    Raises ConfigurationError if a file cannot be read or a value is invalid. Raises SystemExit
    after it has reported a mistake in the flags (2), or has shown the help or the version (0).
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
    """Return the configuration files ("file") and directories ("dir") in the environment."""
    return [
        (kind, path)
        for kind in ("file", "dir")
        for path in os.environ.get(f"{PREFIX}CONFIG_{kind.upper()}", "").split(",")
        if path
    ]


def _variable(option: cfg.Opt) -> tuple[str, str]:
    """Return the environment variable that sets an option, and its value; "" if none does."""
    name = option.dest.upper()
    for variable in (PREFIX + name, OLD_PREFIX + name):
        if text := os.environ.get(variable, ""):
            return variable, text
    return "", ""


def _override(
    conf: Options, options: Sequence[cfg.Opt], flags: Mapping[str, Any], given: dict[str, Given]
) -> None:
    """Override the files by flags, or else by the environment; record these in `given`."""
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
    """Return the line of a file, or the variable, that sets a value."""
    return given.where.rpartition(": ")[0] or given.where


def with_places(message: str, conf: Options) -> str:
    """Return the message with the places that set the options it names, unless flags do."""
    names = dict.fromkeys(re.findall(r"--([a-z][a-z-]*[a-z])", message))
    places = [conf.places[name] for name in names if name in conf.places]
    return f"{message} (set in {', '.join(places)})" if places else message


def _check(conf: Options, options: Sequence[cfg.Opt], given: Mapping[str, Given]) -> None:
    """Raise ConfigurationError for an invalid value; the message has the place that sets it."""
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
    """Return a warning for each environment variable that is similar to one of an option."""
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
