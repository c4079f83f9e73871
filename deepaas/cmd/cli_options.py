"""The options that `deepaas-cli` and `deepaas-predict` share with `deepaas-run`, and their model.

`deepaas/config/` declares these options. Both programs read them from the command line, the
environment and deepaas.conf, as the server does.
"""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import Any, NoReturn

import deepaas
from deepaas import config, log, stdio
from deepaas.cmd.state import weights_variables
from deepaas.config.command_line import Sources
from deepaas.config.settings import Settings, settings_of
from deepaas.exceptions import ConfigurationError, DeepaasError, UnknownModelError
from deepaas.model.loading import ModelSource, find, installed
from deepaas.stdio import StandardStreams
from deepaas.training.weights import WEIGHTS

SHARED = (
    *("model-name", "warm", "state-dir", "weights-dir"),
    *("debug", "log-level", "log-file", "use-json"),
)
"""The options of the server that have the same meaning in these programs."""

_SWITCHES = ("debug-endpoint", "doc-endpoint", "predict-endpoint", "train-endpoint")
IGNORED_SWITCHES = (*_SWITCHES, "deepaas_with_multiprocessing")
IGNORED_VALUES = ("client-max-size",)
"""Options that release 2.6 accepts in these programs. They concern the server only, and scripts
that give them continue to work."""

_HELP = {
    "model-name": "The model to call; the name is that of its entry point. It is needed if several "
    "models are installed.",
    "state-dir": "The state directory of the server, in which it keeps the trained weights.",
    "weights-dir": "The directory for the trained weights of models, as for deepaas-run. The "
    "default is `weights` in the state directory.",
    "warm": "Call the model's warm() first. --nowarm skips it.",
}


class CommandError(Exception):
    """The command cannot be carried out; the text says why, and what to change."""


class Ended(BaseException):
    """The process received SIGTERM. The exception lets it remove its temporary files."""


def end_at_sigterm() -> None:
    """Let SIGTERM raise Ended in this process, and end the processes that the model forks."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Ended

    masks: list[Any] = []  # of the forking thread

    def before() -> None:
        # Python would lose a signal that the child receives before it has set itself up.
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]))

    def in_child() -> None:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        after()

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    signal.signal(signal.SIGTERM, end)
    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)


class ProgramParser(argparse.ArgumentParser):
    """A parser with the shared options. A wrong option has a hint with the nearest name."""

    def __init__(self, prog: str, shared: Sequence[str] = SHARED, **keywords: Any) -> None:
        super().__init__(prog=prog, **keywords)
        self.shared = shared
        self.add_argument(
            "--version",
            action="version",
            version=deepaas.__version__,
            help="Show the version and exit.",
        )
        for kind, metavar in (("file", "FILE"), ("dir", "DIRECTORY")):
            text = "Read options from this file" if kind == "file" else "Read its *.conf files"
            self.add_argument(
                f"--config-{kind}",
                action=Sources,
                dest="sources",
                const=kind,
                metavar=metavar,
                help=f"{text} instead of the usual deepaas.conf. May be given several times.",
            )
        for option in config.ALL:
            if option.name in shared:
                self._add_shared(option)
        ignored = IGNORED_SWITCHES if "warm" in shared else (*IGNORED_SWITCHES, "warm")
        for name in ignored:
            for flag in (f"--{name}", f"--no{name}"):
                self.add_argument(flag, action="store_true", dest="_", help=argparse.SUPPRESS)
        for flags in (("--workers", "-p"), *((f"--{name}",) for name in IGNORED_VALUES)):
            self.add_argument(*flags, type=int, dest="_", help=argparse.SUPPRESS)

    def _add_shared(self, option: Any) -> None:
        names = [f"--{option.name}"] + ([f"-{option.short}"] if option.short else [])
        text = _HELP.get(option.name, option.help).replace("%", "%%")
        if option.name in ("warm", "debug", "use-json"):
            for flags, shown in ((names, text), ([f"--no{option.name}"], argparse.SUPPRESS)):
                self.add_argument(
                    *flags, dest=option.dest, action="append_const", const=flags[0], help=shown
                )
        else:
            self.add_argument(*names, dest=option.dest, metavar=option.metavar, help=text)

    def read(self, argv: Sequence[str], methods: Collection[str] = ()) -> argparse.Namespace:
        """Return the parsed options. Exits with code 2 for options that do not exist."""
        self.check_names(argv, methods)
        given, rest = self.parse_known_args(argv)
        if rest:
            self.unknown(rest)
        return given

    def check_names(self, argv: Sequence[str], methods: Collection[str] = ()) -> None:
        """Report the first unknown option before a method, and exit with code 2.

        argparse would take the value of a misspelt option for the method.
        """
        for word in argv:
            if word in methods or word == "--":
                return
            name = word.partition("=")[0]
            if name.startswith("--") and not any(f.startswith(name) for f in self._flags()):
                self.unknown([word])

    def _flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def unknown(self, words: Sequence[str]) -> NoReturn:
        """Report words that no option takes, and exit with code 2."""
        flag = next((word.partition("=")[0] for word in words if word.startswith("--")), "")
        near = difflib.get_close_matches(flag, self._flags(), n=1, cutoff=0.6) if flag else []
        hint = f"; did you mean {near[0]}?" if near else ""
        self.error(f"unrecognized arguments: {' '.join(words)}{hint}")


def read_settings(parser: ProgramParser, given: argparse.Namespace) -> Settings:
    """Return the settings: flags count more than the environment, and that more than files.

    Exit with code 2 if a flag has a wrong value. Raises ConfigurationError if the environment or a
    file has one.
    """
    argv: list[str] = []
    for kind, path in given.sources or ():
        argv += [f"--config-{kind}={path}"]
    for name in parser.shared:
        value = getattr(given, name.replace("-", "_"))
        if isinstance(value, list):
            argv.append(value[-1])
        elif value is not None:
            argv.append(f"--{name}={value}")
    try:
        return settings_of(config.load(argv))
    except ConfigurationError as error:
        if str(error).startswith("--") and not str(error).startswith("--config"):
            parser.error(str(error))
        raise


def chosen_model(settings: Settings) -> ModelSource:
    """Return the one model to call. Raises ConfigurationError with the names of the models."""
    name = settings.models.model_name
    try:
        sources = find([], name)
    except UnknownModelError as error:
        names = sorted(source.name for source in installed())
        listed = (
            f"; installed: {', '.join(names)}" if names and "installed:" not in str(error) else ""
        )
        raise ConfigurationError(f"{error}{listed}") from None
    if len(sources) > 1:
        names = sorted(source.name for source in sources)
        raise ConfigurationError(
            f"several models are installed: {', '.join(names)}; choose one with "
            "the option --model-name NAME or the variable DEEPAAS_V2_MODEL"
        )
    return sources[0]


def set_weights_directory(settings: Settings, source: ModelSource) -> None:
    """Give the model the directory for weights that the server gives it, unless the variable for
    it is set."""
    if not os.environ.get(WEIGHTS):
        os.environ.update(weights_variables(settings.trainings, source))


def open_log(settings: Settings) -> log.LogOptions:
    """Send log lines to standard output, or to --log-file."""
    options = log.LogOptions(
        level="DEBUG" if settings.log.debug else settings.log.log_level.upper(),
        file=os.path.abspath(settings.log.log_file) if settings.log.log_file else "",
        json=settings.log.use_json,
    )
    try:
        log.setup(options)
    except OSError as error:
        raise ConfigurationError(
            f"the log file {options.file} cannot be written: {error.strerror}; "
            "give another one with --log-file"
        ) from None
    return options


def prepare_streams() -> stdio.StandardStreams:
    """Open closed standard streams, and return a copy that survives what the model does."""
    stdio.open_missing()
    stdio.forgive()
    return stdio.StandardStreams()


def end_with(run: Callable[[Sequence[str], StandardStreams], int]) -> NoReturn:
    """Run the command line of this process, and exit with the code that `run` returns."""
    streams = prepare_streams()
    code = run(sys.argv[1:], streams)
    streams.end()
    sys.exit(code)


def exit_code_of(program: str, streams: StandardStreams, work: Callable[[], None]) -> int:
    """Do the work of a program, and return its exit code: 0, 1 for an error, 130 for Ctrl-C, 143
    for SIGTERM. An error is one line on stderr."""
    try:
        work()
    except (CommandError, DeepaasError, OSError) as error:
        streams.restore()
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Ended:
        return 143
    return 0
