"""Compare servers: requests a second, latency, and the ratio to a bare handler.

All servers run for one case at a time. They are measured in turn, round after round, so that a
disturbance of the machine affects all alike.
"""

import argparse
import sys
from collections.abc import Sequence

from benchmarks import commandline, report
from benchmarks.cases import CASES, ONLY_OURS
from benchmarks.commandline import tell
from benchmarks.load import Run, drive, find_wrk
from benchmarks.report import Row
from benchmarks.servers import all_running, left_out

YARDSTICK = "bare"

Runs = dict[tuple[str, int, str], list[Run]]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    commandline.add_servers(parser)
    commandline.add(parser, [name for name in CASES if name not in ONLY_OURS])
    parser.add_argument(
        "--connections", type=commandline.numbers, help="default: 1,16; 1,32 for (no)batch"
    )
    return commandline.parse(parser, arguments)


def measure(options: argparse.Namespace) -> Runs:
    runs: Runs = {}
    for case in (CASES[name] for name in options.cases):
        for name in left_out(options.programs, case):
            tell(f"{case.name}: {name} cannot serve it, left out\n")
        numbers = options.connections or case.connections
        with all_running(options.programs, case) as servers:
            for server in servers:
                drive(server, max(numbers), options.warmup)
            for number in range(1, options.rounds + 1):
                for connections in numbers:
                    for server in servers:
                        run = drive(server, connections, options.seconds)
                        key = (case.name, connections, server.kind.name)
                        runs.setdefault(key, []).append(run)
                        tell(f"{case.name} round {number}/{options.rounds} conn {connections} ")
                        tell(f"{server.kind.name}: {run.rate:.1f} req/s p99 {run.p99:.2f} ms\n")
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return commandline.carry_out(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    find_wrk()
    facts, found = report.machine(), report.all_versions(options.programs)
    more = [
        *report.titles((CASES[name] for name in options.cases), options.programs),
        f"medians of {options.rounds} interleaved rounds of {options.seconds} s; "
        f"ratio: to {YARDSTICK} in the same round, median and min..max",
    ]
    print(report.header(facts, found, more, options.markdown), flush=True)
    runs = measure(options)
    rows = [
        report.summarize(case, connections, name, those, runs.get((case, connections, YARDSTICK)))
        for (case, connections, name), those in runs.items()
    ]
    print(report.table(Row.COLUMNS, [row.cells() for row in rows], options.markdown), flush=True)
    if options.json:
        report.write(
            options.json,
            machine=facts,
            versions=found,
            rounds=options.rounds,
            seconds=options.seconds,
            results=[
                {**row.record(), "runs": [vars(one) for one in runs[_key(row)]]} for row in rows
            ],
        )


def _key(row: Row) -> tuple[str, int, str]:
    return row.case, row.connections, row.server


if __name__ == "__main__":
    sys.exit(main())
