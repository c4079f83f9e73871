"""Fuzz the targets for a long time with random seeds: python -m tests.fuzz.run --minutes 60.

Each round runs every target once, with new seeds. The run ends by printing the seeds and the
numbers of inputs. Each failure is printed, stored in the directory given by --store, and tried
first in later rounds and runs.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import secrets
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.targets import BASE, BY_NAME, Target

SHARE = 20
"""Seconds that a target runs in a round. Slow targets check fewer inputs in this time."""


INPUTS = 100
"""The number of inputs made from one seed."""


@dataclass
class Report:
    store: Path
    inputs: Counter[str] = field(default_factory=Counter)
    seeds: dict[str, list[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def failed(self, target: Target) -> None:
        """Record the exception that is being handled as a failure of the target."""
        number = next(reversed(self.seeds.get(target.name, [])), "start")
        name = f"{target.name.replace(' ', '-')}-{number}.txt"
        self.store.mkdir(parents=True, exist_ok=True)
        (self.store / name).write_text(traceback.format_exc())
        self.failures.append(name)
        print(f"{target.name} failed with seed {number}: {self.store / name}", flush=True)

    def print(self) -> None:
        for name, count in self.inputs.items():
            print(f"{name:15} {count:9} inputs of {len(self.seeds[name])} seeds")
            print(f"{'':15} {' '.join(map(str, self.seeds[name]))}")
        print(f"{sum(self.inputs.values())} inputs, {len(self.failures)} failures")
        for name in self.failures:
            print(f"  {self.store / name}")


def fuzz(target: Target, report: Report, until: float) -> None:
    """Check a target's inputs for SHARE seconds, or until the end of the run."""
    try:
        _fuzz(target, report, until)
    except Exception:
        report.failed(target)
    print(f"{report.inputs[target.name]:9} {target.name}", flush=True)


def _fuzz(target: Target, report: Report, until: float) -> None:
    deadline = min(time.monotonic() + SHARE, until)
    how = settings(
        BASE,
        max_examples=min(target.examples, INPUTS),
        database=DirectoryBasedExampleDatabase(report.store / "examples"),
    )
    with target.opened() as check:
        while time.monotonic() < deadline:
            number = secrets.randbits(32)
            report.seeds.setdefault(target.name, []).append(number)

            def counted(drawn: object) -> None:
                report.inputs[target.name] += 1
                check(drawn)

            target.run(counted, how, number)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--store", type=Path, default=Path(".fuzz"))
    parser.add_argument("--targets", nargs="*", default=list(BY_NAME), choices=BY_NAME)
    options = parser.parse_args()
    report = Report(options.store)
    until = time.monotonic() + 60 * options.minutes
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        for name in itertools.cycle(options.targets):
            fuzz(BY_NAME[name], report, until)
            if time.monotonic() > until:
                break
    report.print()
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
