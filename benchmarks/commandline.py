"""The options that the benchmarks share, and their exit statuses."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from benchmarks.cases import CASES, Case
from benchmarks.servers import KINDS, BenchmarkError, Kind


def add_servers(parser: argparse.ArgumentParser) -> None:
    """Add the options that `parse` turns into `programs`."""
    parser.add_argument(
        "--reference", type=Path, metavar="PATH", help="the deepaas-run of the reference release"
    )
    parser.add_argument(
        "--program",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="the program to start for a server of the table; may be repeated",
    )
    parser.add_argument("--servers", type=names(KINDS), help="default: all that have a program")


def add(
    parser: argparse.ArgumentParser,
    default: Iterable[str],
    known: Mapping[str, Case] = CASES,
    rounds: int = 5,
    seconds: int = 3,
) -> None:
    """Add the options for measuring; `default` has the names of the default cases."""
    parser.add_argument("--cases", type=names(known), default=list(default))
    parser.add_argument("--rounds", type=positive, default=rounds)
    parser.add_argument("--seconds", type=positive, default=seconds, help="of each run in a round")
    parser.add_argument("--warmup", type=positive, default=1, help="seconds, not counted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options, and add `programs`: the servers to measure, and their programs."""
    options = parser.parse_args(arguments)
    try:
        options.programs = _programs(options)
    except BenchmarkError as error:
        parser.error(str(error))
    return options


class names:
    """An option type: a comma-separated choice from a table, in the table's order."""

    def __init__(self, known: Mapping[str, Case] | Mapping[str, Kind]) -> None:
        self.known = list(known)

    def __call__(self, text: str) -> list[str]:
        wanted = {word.strip() for word in text.split(",") if word.strip()}
        if not wanted or not wanted <= set(self.known):
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(self.known)}")
        return [name for name in self.known if name in wanted]


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def numbers(text: str) -> list[int]:
    return [positive(word.strip()) for word in text.split(",")]


def _programs(options: argparse.Namespace) -> dict[str, Path]:
    found = {name: kind.program for name, kind in KINDS.items() if kind.program}
    if options.reference:
        found["reference"] = options.reference
    for text in options.program:
        name, separator, path = text.partition("=")
        if not separator or name not in KINDS:
            raise BenchmarkError(f"--program {text!r}: not NAME=PATH, NAME of {', '.join(KINDS)}")
        found[name] = Path(path)
    chosen = {}
    for name in options.servers or [name for name in KINDS if name in found]:
        if name not in found:
            raise BenchmarkError(f"server {name}: give its program with --program {name}=PATH")
        chosen[name] = found[name].absolute()
        if not chosen[name].is_file():
            raise BenchmarkError(f"server {name}: {chosen[name]} does not exist")
    return chosen


def tell(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def carry_out(work: Callable[[], None]) -> int:
    """Do the work, and return the exit status. The servers are stopped, also after a signal."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        work()
    except BenchmarkError as error:
        tell(f"benchmark failed: {error}\n")
        return 1
    except KeyboardInterrupt:
        tell("interrupted\n")
        return 130
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
