"""Compare this project with another revision of it: does a change cost speed?

The servers of both revisions run at the same time and are measured in pairs, one right after the
other. Every second pair is measured in the opposite order, so slow changes of the machine favour
neither.
"""

import argparse
import ctypes
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks import commandline, report, revision
from benchmarks.cases import CASES, Case
from benchmarks.commandline import tell
from benchmarks.load import Run, drive, find_wrk
from benchmarks.servers import KINDS, BenchmarkError, Server, all_running

NOW, BEFORE = "deepaas", "before"
DEFAULT_CASES = ("small", "varied", "floats", "upload", "batch", "stream")
NOTABLE = 0.97
"""Cases with a lower median ratio are listed after the table."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Side:
    """One run against one of the two servers."""

    run: Run
    per_cpu: float
    """Requests per second of processor time that the server used."""

    def record(self) -> dict[str, float]:
        return {**vars(self.run), "requests_per_cpu_second": self.per_cpu}


@dataclass(frozen=True)
class Ratios:
    """The ratios now / before, one for each pair."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        return median_interval(self.values)

    @property
    def shown_interval(self) -> str:
        return "{:.3f}..{:.3f}".format(*self.interval) if self.interval else "too few"

    def cells(self) -> tuple[str, str]:
        return f"{self.median:.3f}", self.shown_interval

    def record(self) -> dict[str, object]:
        return {"median": self.median, "interval": self.interval, "values": self.values}


@dataclass(frozen=True)
class Row:
    """All pairs of one case at one number of connections."""

    COLUMNS = (
        *("case", "conn", "now req/s", "before req/s", "ratio", "95 %", "cpu ratio", "95 %"),
        *("now p50 ms", "before p50 ms", "now p99 ms", "before p99 ms"),
    )

    case: str
    connections: int
    pairs: list[tuple[Side, Side]]
    """Each pair is (now, before)."""

    @property
    def rate(self) -> Ratios:
        return Ratios(tuple(now.run.rate / before.run.rate for now, before in self.pairs))

    @property
    def per_cpu(self) -> Ratios:
        return Ratios(tuple(now.per_cpu / before.per_cpu for now, before in self.pairs))

    def cells(self) -> tuple[str, ...]:
        return (
            *(self.case, str(self.connections)),
            *map(report.short, self._medians(lambda run: run.rate)),
            *(*self.rate.cells(), *self.per_cpu.cells()),
            *(f"{value:.2f}" for value in self._medians(lambda run: run.p50)),
            *(f"{value:.2f}" for value in self._medians(lambda run: run.p99)),
        )

    def _medians(self, figure: Callable[[Run], float]) -> list[float]:
        return [
            median(figure(side.run) for side in sides) for sides in zip(*self.pairs, strict=True)
        ]

    def record(self) -> dict[str, object]:
        return {
            "case": self.case,
            "connections": self.connections,
            "ratio": self.rate.record(),
            "cpu_ratio": self.per_cpu.record(),
            "pairs": [
                {"now": now.record(), "before": before.record()} for now, before in self.pairs
            ],
        }


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return two of the values; the true median lies between them in at least 95 % of all samples.

    This assumes nothing about the distribution of the values, only that each is as likely to be
    below the true median as above it. Fewer than six values have no such interval: return None.
    """
    ordered, count = sorted(values), len(values)
    dropped = 0  # values at each end outside the interval, including the one that bounds it
    tail = 1 / 2**count  # the probability that the true median lies beyond the next bound
    while 2 * tail <= 1 - CONFIDENCE:
        dropped += 1
        tail += math.comb(count, dropped) / 2**count
    return (ordered[dropped - 1], ordered[-dropped]) if dropped else None


# --- measuring -------------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired", description=__doc__)
    parser.add_argument(
        "--before",
        required=True,
        metavar="PATH_OR_REVISION",
        help="a deepaas-run, or a git revision, which is installed in .venv-before",
    )
    commandline.add(parser, DEFAULT_CASES, rounds=24, seconds=1)
    parser.add_argument("--connections", type=commandline.numbers, default=[1, 16])
    parser.add_argument(
        "--restart-every",
        type=commandline.positive,
        default=6,
        metavar="ROUNDS",
        help="restart both servers after this many rounds; default: 6",
    )
    return parser.parse_args(arguments)


def measure(programs: Mapping[str, Path], case: Case, options: argparse.Namespace) -> list[Row]:
    """Measure one case. The servers are restarted: two processes of one program differ in speed."""
    rows = [Row(case.name, connections, []) for connections in options.connections]
    rounds = range(1, options.rounds + 1)
    for first in rounds[:: options.restart_every]:
        with all_running(programs, case) as servers:
            for server in servers:
                drive(server, max(options.connections), options.warmup)
            for number in rounds[first - 1 : first - 1 + options.restart_every]:
                for row in rows:
                    tell(f"{case.name} round {number}/{options.rounds} conn {row.connections}: ")
                    order = servers if number % 2 else servers[::-1]
                    sides = {server.kind.name: _side(server, row, options) for server in order}
                    row.pairs.append((sides[NOW], sides[BEFORE]))
                    now, before = sides[NOW].run.rate, sides[BEFORE].run.rate
                    tell(f"{now:.1f} / {before:.1f} req/s = {now / before:.3f}\n")
    return rows


def _side(server: Server, row: Row, options: argparse.Namespace) -> Side:
    began = _cpu_seconds(server)
    run = drive(server, row.connections, options.seconds)
    return Side(run, run.requests / (_cpu_seconds(server) - began))


def _cpu_seconds(server: Server) -> float:
    """Return the processor seconds of the server and its workers so far, with ns resolution.

    The figures of psutil have a resolution of 10 ms.
    """
    try:
        process = psutil.Process(server.process.pid)
        numbers = [one.pid for one in (process, *process.children(recursive=True))]
        return sum(time.clock_gettime(_cpu_clock(number)) for number in numbers)
    except (psutil.NoSuchProcess, OSError) as error:
        raise server.fault("one of its processes has ended") from error


def _cpu_clock(process: int) -> int:
    clock = ctypes.c_int()
    if error := ctypes.CDLL(None).clock_getcpuclockid(process, ctypes.byref(clock)):
        raise OSError(error, os.strerror(error))
    return clock.value


# --- figures ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return commandline.carry_out(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    find_wrk()
    programs = _programs(options.before)
    facts, found = report.machine(), report.all_versions(programs)
    compared = f"now: {revision.present()}, before: {options.before}"
    more = [
        *report.titles((CASES[name] for name in options.cases), programs),
        f"{compared}; {options.rounds} pairs of {options.seconds} s each, "
        f"both servers started again after {options.restart_every}",
        "ratio: requests a second, now / before in the same pair; cpu ratio: the same for requests "
        "a second of the server's processor time; medians, each with an interval that holds the "
        "true median with a probability of at least 95 % (order statistics)",
        *_differences(found[NOW], found[BEFORE]),
    ]
    print(report.header(facts, found, more, options.markdown), flush=True)
    rows = [row for name in options.cases for row in measure(programs, CASES[name], options)]
    print(report.table(Row.COLUMNS, [row.cells() for row in rows], options.markdown))
    print("", *slower(rows), sep="\n", flush=True)
    if options.json:
        report.write(
            options.json,
            machine=facts,
            versions=found,
            compared=compared,
            rounds=options.rounds,
            seconds=options.seconds,
            results=[row.record() for row in rows],
        )


def _programs(before: str) -> dict[str, Path]:
    path = Path(before)
    now = KINDS[NOW].program
    assert now is not None
    programs = {NOW: now, BEFORE: path.absolute() if path.is_file() else revision.install(before)}
    for name, program in programs.items():
        if not program.is_file():
            raise BenchmarkError(f"server {name}: {program} does not exist")
    return programs


def _differences(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    names = [name for name in {**now, **before} if now.get(name) != before.get(name)]
    others = ", ".join(name for name in names if name != "deepaas")
    if not others:
        return []
    return [f"The versions of {others} differ, so a ratio shows more than what this project costs"]


def slower(rows: Sequence[Row]) -> list[str]:
    """Return sentences about the cases with a low median ratio."""
    sentences = [
        f"{row.case}, conn {row.connections}: the median ratio {row.rate.median:.3f} is below "
        f"{NOTABLE} ({row.rate.shown_interval}); the cpu ratio is {row.per_cpu.median:.3f} "
        f"({row.per_cpu.shown_interval})."
        for row in rows
        if row.rate.median < NOTABLE
    ]
    return sentences or [f"No case has a median ratio below {NOTABLE}."]


if __name__ == "__main__":
    sys.exit(main())
