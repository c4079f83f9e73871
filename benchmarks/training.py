"""Measure what trainings cost: predictions beside a training, a list of a thousand records, a line
of a log, a report.

The first figure is the important one: predictions are sent at a fixed rate, in turn without and
with a training that keeps a core busy.
"""

import argparse
import contextlib
import http.client
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks import commandline, report
from benchmarks.cases import CASES
from benchmarks.commandline import tell
from benchmarks.pace import Pace, pace
from benchmarks.servers import REQUEST_SECONDS, Server, all_running

CASE = CASES["small"]
SERVER = "deepaas"
RECORDS = 1000
REPORTS = 2000
START_SECONDS = 30.0


@dataclass(frozen=True)
class Pair:
    """Predictions without a training, and right afterwards beside a training."""

    idle: Pace
    busy: Pace

    @property
    def ratio(self) -> float:
        return self.busy.p99 / self.idle.p99


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    commandline.add_servers(parser)
    commandline.add(parser, [CASE.name])
    parser.add_argument(
        "--rates",
        type=commandline.numbers,
        default=[100, 1000],
        help="predictions a second, such as 100,1000",
    )
    options = commandline.parse(parser, arguments)
    options.programs = {SERVER: options.programs[SERVER]}
    return options


# --- the interface ---------------------------------------------------------------------------


def ask(server: Server, method: str, path: str = "") -> Any:
    """Send a request to a path below the model's trainings, and return the JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REQUEST_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, f"/v2/models/{CASE.name}/train/{path}")
        response = connection.getresponse()
        body = response.read()
    if response.status != 200:
        raise server.fault(f"answered {method} {path} with {response.status}: {body[:300]!r}")
    return json.loads(body)


@contextlib.contextmanager
def training(server: Server, do: str, seconds: float) -> Iterator[str]:
    """Run a training during the block, and yield its uuid."""
    began = ask(server, "POST", f"?do={do}&seconds={seconds}")["uuid"]
    try:
        deadline = time.monotonic() + START_SECONDS
        while "begins" not in _log(server, began):
            if time.monotonic() > deadline:
                raise server.fault("the training does not begin")
            time.sleep(0.02)
        yield began
    finally:
        ask(server, "DELETE", began)


def _log(server: Server, training: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REQUEST_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", f"/v2/models/{CASE.name}/train/{training}/logs")
        return connection.getresponse().read().decode()


# --- what is measured ------------------------------------------------------------------------


def measure_predictions(server: Server, rate: int, options: argparse.Namespace) -> list[Pair]:
    pairs = []
    pace(server, rate, options.warmup)
    for number in range(1, options.rounds + 1):
        idle = pace(server, rate, options.seconds)
        with training(server, "spin", 600):
            busy = pace(server, rate, options.seconds)
        pairs.append(Pair(idle, busy))
        tell(f"{rate} req/s round {number}/{options.rounds}: ")
        tell(f"p99 {idle.p99:.2f} ms, beside a training {busy.p99:.2f} ms\n")
    return pairs


def measure_list(server: Server, options: argparse.Namespace) -> list[float]:
    """Return the milliseconds for each list of RECORDS records with arguments and a result."""
    from deepaas.jobs.store import Ending, Store

    state = server.home / "state" / "deepaas"
    store = Store(state)
    for _ in range(RECORDS - len(ask(server, "GET"))):
        name = uuid.uuid4().hex
        store.add(name, "train", CASE.name, "nobody")
        store.accept(name, json.dumps({"do": "spin", "seconds": 1.5, "text": "x" * 100}))
        store.start(name)
        store.claim(name, "")
        store.finish(name, Ending("done", output=json.dumps({"loss": 0.5})), 1.0)
    store.close()
    times = []
    for _ in range(10 * options.rounds):
        began = time.perf_counter()
        records = ask(server, "GET")
        times.append((time.perf_counter() - began) * 1e3)
        if len(records) < RECORDS:
            raise server.fault(f"lists {len(records)} of {RECORDS} records")
    return times


def measure_lines(server: Server) -> list[float]:
    """Return the milliseconds from printing each line to its arrival at a follower of the log."""
    times = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REQUEST_SECONDS)
    with training(server, "tell", 10) as name, contextlib.closing(connection):
        connection.request("GET", f"/v2/models/{CASE.name}/train/{name}/logs?follow=true")
        response = connection.getresponse()
        while line := response.readline():
            with contextlib.suppress(ValueError):  # lines that are not times are from DEEPaaS
                times.append((time.time() - float(line)) * 1e3)
    return times[len(times) // 10 :]  # the first lines were printed before this client followed


def measure_reports() -> list[float]:
    """Return the microseconds for each report of four figures."""
    from deepaas.training import report as say
    from deepaas.training.reports import REPORTS as FILE

    times = []
    with tempfile.TemporaryDirectory() as directory:
        os.environ[FILE] = str(Path(directory) / "reports")
        for epoch in range(REPORTS):
            began = time.perf_counter()
            say(progress=epoch / REPORTS, epoch=epoch, loss=0.12, accuracy=0.9)
            times.append((time.perf_counter() - began) * 1e6)
        del os.environ[FILE]
    return times


# --- figures ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return commandline.carry_out(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    facts, found = report.machine(), report.all_versions(options.programs)
    about = (
        f"medians of {options.rounds} rounds of {options.seconds} s without, then with a training"
    )
    print(report.header(facts, found, [about], options.markdown), flush=True)
    with all_running(options.programs, CASE) as (server,):
        pairs = {rate: measure_predictions(server, rate, options) for rate in options.rates}
        others = [
            ("a list of 1000 records, ms", measure_list(server, options)),
            ("a line of a log to its follower, ms", measure_lines(server)),
            ("a report, µs", measure_reports()),
        ]
    columns = ("req/s", "p50 ms", "p99 ms", "p50 beside", "p99 beside", "p99 ratio", "min..max")
    rows = [_row(rate, runs) for rate, runs in pairs.items()]
    print(report.table(columns, rows, options.markdown), flush=True)
    more = [
        (what, f"{median(times):.2f}", f"{quantiles(times, n=100)[-1]:.2f}")
        for what, times in others
    ]
    print(report.table(("what", "median", "p99"), more, options.markdown), flush=True)
    if options.json:
        figures = {
            rate: [{"idle": vars(p.idle), "busy": vars(p.busy)} for p in runs]
            for rate, runs in pairs.items()
        }
        report.write(
            options.json, machine=facts, versions=found, predictions=figures, others=dict(others)
        )


def _row(rate: int, pairs: list[Pair]) -> tuple[str, ...]:
    ratios = [pair.ratio for pair in pairs]
    return (
        str(rate),
        f"{median(pair.idle.p50 for pair in pairs):.2f}",
        f"{median(pair.idle.p99 for pair in pairs):.2f}",
        f"{median(pair.busy.p50 for pair in pairs):.2f}",
        f"{median(pair.busy.p99 for pair in pairs):.2f}",
        f"{median(ratios):.2f}",
        f"{min(ratios):.2f}..{max(ratios):.2f}",
    )


if __name__ == "__main__":
    sys.exit(main())
