"""Measure what sharing the cores is worth: two workers multiply matrices, in turn with as many
threads as --worker-threads gives them, and with a thread per core in each worker.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import commandline, report
from benchmarks.cases import Case
from benchmarks.commandline import tell
from benchmarks.load import Run, drive, find_wrk
from benchmarks.paired import Ratios
from benchmarks.servers import KINDS, BenchmarkError, Kind, Launch, Server, running

WORKERS = 2
MODEL = Path(__file__).with_name("matmul.py")


def _case(size: int, times: int) -> Case:
    title = f"{times} products of two matrices of {size} x {size}"
    return Case(f"matmul-{size}", title, size * times, {"size": size, "times": times})


CASES = {case.name: case for case in (_case(64, 100), _case(256, 2), _case(1024, 1))}


def _kind(name: str, *flags: str) -> Kind:
    def command(launch: Launch) -> list[str]:
        return [
            *(str(launch.program), str(MODEL), "--listen-port", str(launch.port)),
            *("--workers", str(WORKERS), "--noaccess-log", *flags),
        ]

    return replace(
        KINDS["deepaas"],
        name=name,
        title=f"this project, {WORKERS} workers, {name}",
        command=command,
        path=lambda case: "/v2/models/matmul/predict/",
        environment=lambda launch: {"XDG_STATE_HOME": str(launch.home / "state")},
    )


SHARED, ALL = _kind("shared cores"), _kind("all cores each", "--worker-threads", "0")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    commandline.add(parser, CASES, CASES, rounds=20, seconds=1)
    parser.add_argument("--connections", type=commandline.numbers, default=[1, 4])
    return parser.parse_args(arguments)


def measure(case: Case, options: argparse.Namespace) -> list[tuple[str, ...]]:
    """Measure one case in pairs; every second pair is in the opposite order."""
    program = KINDS["deepaas"].program
    if program is None or not program.is_file():
        raise BenchmarkError(f"{program} does not exist")
    pairs: dict[int, list[tuple[Run, Run]]] = {number: [] for number in options.connections}
    with running(SHARED, program, case) as shared, running(ALL, program, case) as all_cores:
        for server in (shared, all_cores):
            drive(server, max(options.connections), options.warmup)
        for number in range(options.rounds):
            for connections, found in pairs.items():
                order = [shared, all_cores] if number % 2 else [all_cores, shared]
                runs = {one.kind.name: _run(one, connections, options) for one in order}
                found.append((runs[SHARED.name], runs[ALL.name]))
                tell(f"{case.name} round {number + 1}/{options.rounds} conn {connections}\n")
    return [_cells(case, connections, found) for connections, found in pairs.items()]


def _run(server: Server, connections: int, options: argparse.Namespace) -> Run:
    return drive(server, connections, options.seconds)


COLUMNS = ("case", "conn", "shared req/s", "all req/s", "ratio", "95 %", "p99 ratio", "95 %")


def _cells(case: Case, connections: int, pairs: list[tuple[Run, Run]]) -> tuple[str, ...]:
    rates = Ratios(tuple(shared.rate / all_cores.rate for shared, all_cores in pairs))
    p99 = Ratios(tuple(shared.p99 / all_cores.p99 for shared, all_cores in pairs))
    shown = [report.short(median(run.rate for run in side)) for side in zip(*pairs, strict=True)]
    return (case.name, str(connections), *shown, *rates.cells(), *p99.cells())


def run(options: argparse.Namespace) -> None:
    find_wrk()
    cases = [CASES[name] for name in options.cases]
    rows = [row for case in cases for row in measure(case, options)]
    for case in cases:
        print(f"- {case.name}: {case.title}")
    print(f"- medians of {options.rounds} pairs of {options.seconds} s\n")
    print(report.table(COLUMNS, rows, options.markdown))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return commandline.carry_out(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
