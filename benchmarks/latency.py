"""Compare servers under a steady load: how long do requests take at a fixed rate?

The limit of each server is measured first. Then each gets a share of it, or all get the same rate.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import commandline, report
from benchmarks.cases import CASES, ONLY_OURS
from benchmarks.commandline import tell
from benchmarks.load import drive, find_wrk
from benchmarks.pace import Pace, pace
from benchmarks.servers import all_running, left_out

Key = tuple[str, str]
"""A case and a server."""


@dataclass(frozen=True)
class Figures:
    """The figures of all runs of one server in one case."""

    most: list[float]
    """Requests a second at its limit; empty if the rate was given."""
    runs: list[Pace]


@dataclass(frozen=True)
class Row:
    """The medians over the rounds."""

    COLUMNS = (
        *("case", "server", "most req/s", "asked req/s", "held req/s"),
        *("p50 ms", "p99 ms", "p99/p50", "late ms"),
    )

    case: str
    server: str
    figures: Figures

    def cells(self) -> tuple[str, ...]:
        most, runs = self.figures.most, self.figures.runs
        return (
            self.case,
            self.server,
            report.short(median(most)) if most else "-",
            report.short(median(run.asked for run in runs)),
            report.short(median(run.held for run in runs)),
            f"{median(run.p50 for run in runs):.2f}",
            f"{median(run.p99 for run in runs):.2f}",
            f"{median(run.spread for run in runs):.2f}",
            f"{median(run.late for run in runs):.2f}",
        )

    def record(self) -> dict[str, object]:
        return {
            "case": self.case,
            "server": self.server,
            "most_requests_per_second": self.figures.most,
            "runs": [{**vars(run), "p99_to_p50": run.spread} for run in self.figures.runs],
        }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    commandline.add_servers(parser)
    # pace sends the same bytes again and again, and needs the length of each response.
    known = {name: case for name, case in CASES.items() if name not in ONLY_OURS}
    commandline.add(parser, ["small"], known)
    parser.add_argument(
        "--share", type=commandline.positive, default=50, help="percent of each server's limit"
    )
    parser.add_argument(
        "--rate",
        type=commandline.positive,
        help="requests a second for all servers; replaces --share",
    )
    return commandline.parse(parser, arguments)


def measure(options: argparse.Namespace) -> dict[Key, Figures]:
    measured: dict[Key, Figures] = {}
    for case in (CASES[name] for name in options.cases):
        for name in left_out(options.programs, case):
            tell(f"{case.name}: {name} cannot serve it, left out\n")
        connections = max(case.connections)
        with all_running(options.programs, case) as servers:
            for server in servers:
                drive(server, connections, options.warmup)
                measured[case.name, server.kind.name] = Figures([], [])
            for _ in range(0 if options.rate else options.rounds):
                for server in servers:
                    rate = drive(server, connections, options.seconds).rate
                    measured[case.name, server.kind.name].most.append(rate)
                    tell(f"{case.name} {server.kind.name}: at most {rate:.1f} req/s\n")
            for number in range(1, options.rounds + 1):
                for server in servers:
                    figures = measured[case.name, server.kind.name]
                    rate = options.rate or median(figures.most) * options.share / 100
                    run = pace(server, rate, options.seconds)
                    figures.runs.append(run)
                    tell(f"{case.name} round {number}/{options.rounds} {server.kind.name}: ")
                    tell(f"{rate:.1f} req/s p50 {run.p50:.2f} p99 {run.p99:.2f} ms\n")
    return measured


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return commandline.carry_out(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    find_wrk()
    facts, found = report.machine(), report.all_versions(options.programs)
    asked = (
        f"{options.rate} requests a second" if options.rate else f"{options.share} % of its most"
    )
    more = [
        *report.titles((CASES[name] for name in options.cases), options.programs),
        f"medians of {options.rounds} interleaved rounds of {options.seconds} s, evenly paced, "
        f"each server at {asked}; times from when a request was due",
    ]
    print(report.header(facts, found, more, options.markdown), flush=True)
    measured = measure(options)
    rows = [Row(case, server, figures) for (case, server), figures in measured.items()]
    print(report.table(Row.COLUMNS, [row.cells() for row in rows], options.markdown), flush=True)
    if options.json:
        report.write(
            options.json,
            machine=facts,
            versions=found,
            rounds=options.rounds,
            seconds=options.seconds,
            results=[row.record() for row in rows],
        )


if __name__ == "__main__":
    sys.exit(main())
