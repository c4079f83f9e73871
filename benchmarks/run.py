"""Compare servers: requests a second, latency, and the ratio to a bare handler.

Every server is started for one case at a time and all are measured in turn, round after round, so
that what disturbs the machine disturbs them alike.
"""

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from benchmarks import report
from benchmarks.cases import CASES, Case
from benchmarks.load import Run, drive, find_wrk
from benchmarks.servers import KINDS, BenchmarkError, Kind, running

YARDSTICK = "bare"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--reference", type=Path, metavar="PATH", help="the deepaas-run of the reference release"
    )
    parser.add_argument(
        "--program",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="what to start for a server of the table; may be repeated",
    )
    parser.add_argument("--servers", type=_names(KINDS), help="default: all that have a program")
    parser.add_argument("--cases", type=_names(CASES), default=list(CASES))
    parser.add_argument("--connections", type=_numbers, default=[1, 16])
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--seconds", type=_positive, default=3, help="of each run in a round")
    parser.add_argument("--warmup", type=_positive, default=1, help="seconds, not counted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args(arguments)
    try:
        options.programs = _programs(options)
    except BenchmarkError as error:
        parser.error(str(error))
    return options


class _names:
    """A comma-separated choice out of a table, in the table's order."""

    def __init__(self, known: dict[str, Case] | dict[str, Kind]) -> None:
        self.known = list(known)

    def __call__(self, text: str) -> list[str]:
        wanted = {word.strip() for word in text.split(",") if word.strip()}
        if not wanted or not wanted <= set(self.known):
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(self.known)}")
        return [name for name in self.known if name in wanted]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [_positive(word.strip()) for word in text.split(",")]


def _programs(options: argparse.Namespace) -> dict[str, Path]:
    """The servers to measure, in the table's order, and what to start for each."""
    found = {name: kind.program for name, kind in KINDS.items() if kind.program}
    if options.reference:
        found["reference"] = options.reference
    for text in options.program:
        name, separator, path = text.partition("=")
        if not separator or name not in KINDS:
            raise BenchmarkError(f"--program {text!r}: want NAME=PATH, NAME of {', '.join(KINDS)}")
        found[name] = Path(path)
    chosen = {}
    for name in options.servers or [name for name in KINDS if name in found]:
        if name not in found:
            raise BenchmarkError(f"server {name}: say which with --program {name}=PATH")
        chosen[name] = found[name].absolute()
        if not chosen[name].is_file():
            raise BenchmarkError(f"server {name}: there is no {chosen[name]}")
    return chosen


Runs = dict[tuple[str, int, str], list[Run]]


def measure(options: argparse.Namespace) -> Runs:
    runs: Runs = {}
    for case in (CASES[name] for name in options.cases):
        with contextlib.ExitStack() as stack:
            servers = [
                stack.enter_context(running(KINDS[name], program, case))
                for name, program in options.programs.items()
            ]
            for server in servers:
                drive(server, max(options.connections), options.warmup)
            for number in range(1, options.rounds + 1):
                for connections in options.connections:
                    for server in servers:
                        run = drive(server, connections, options.seconds)
                        key = (case.name, connections, server.kind.name)
                        runs.setdefault(key, []).append(run)
                        tell(f"{case.name} round {number}/{options.rounds} conn {connections} ")
                        tell(f"{server.kind.name}: {run.rate:.1f} req/s p99 {run.p99:.2f} ms\n")
    return runs


def tell(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        find_wrk()
        facts = report.machine()
        found = {
            name: report.versions(KINDS[name], program)
            for name, program in options.programs.items()
        }
        print(header(options, facts, found), flush=True)
        runs = measure(options)
    except BenchmarkError as error:
        tell(f"benchmark failed: {error}\n")
        return 1
    except KeyboardInterrupt:
        tell("interrupted\n")
        return 130
    rows = [
        report.summarize(case, connections, name, those, runs.get((case, connections, YARDSTICK)))
        for (case, connections, name), those in runs.items()
    ]
    print(report.table(rows, options.markdown), flush=True)
    if options.json:
        write(options, facts, found, runs, rows)
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def header(
    options: argparse.Namespace, facts: dict[str, str], found: dict[str, dict[str, str]]
) -> str:
    texts = [", ".join(f"{name}: {value}" for name, value in facts.items())]
    for name, versions in found.items():
        shown = ", ".join(f"{package} {version}" for package, version in versions.items())
        texts.append(f"{name} ({KINDS[name].title}): {shown}")
    texts += [f"case {name}: {CASES[name].title}" for name in options.cases]
    texts.append(
        f"medians of {options.rounds} interleaved rounds of {options.seconds} s; "
        f"ratio: to {YARDSTICK} in the same round, median and min..max"
    )
    item = "- " if options.markdown else ""
    return "".join(f"{item}{text}\n" for text in texts)


def write(
    options: argparse.Namespace,
    facts: dict[str, str],
    found: dict[str, dict[str, str]],
    runs: Runs,
    rows: list[report.Row],
) -> None:
    record = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": facts,
        "versions": found,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": [
            {**row.record(), "runs": [vars(run) for run in runs[_key(row)]]} for row in rows
        ],
    }
    options.json.write_text(json.dumps(record, indent=2) + "\n")


def _key(row: report.Row) -> tuple[str, int, str]:
    return row.case, row.connections, row.server


if __name__ == "__main__":
    sys.exit(main())
