"""The benchmark that compares two revisions: its statistics, and one short run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import revision
from benchmarks.load import Run
from benchmarks.paired import Row, Side, median_interval, slower
from benchmarks.servers import BenchmarkError

ROOT = Path(__file__).resolve().parent.parent


def side(rate: float) -> Side:
    return Side(Run(requests=100, rate=rate, p50=1.0, p99=2.0), per_cpu=2 * rate)


@pytest.mark.parametrize(
    ("count", "bounds"), [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (24, (7, 18)), (100, (40, 61))]
)
def test_interval_is_bounded_by_the_ranks_of_the_sign_test(
    count: int, bounds: tuple[int, int]
) -> None:
    assert median_interval(range(count, 0, -1)) == bounds


@pytest.mark.parametrize("count", [1, 5])
def test_too_few_values_have_no_interval(count: int) -> None:
    assert median_interval(range(count)) is None


def test_ratio_is_the_median_of_the_ratios_of_the_pairs() -> None:
    row = Row("small", 1, [(side(90), side(100)), (side(300), side(200)), (side(55), side(50))])
    assert row.rate.median == 1.1
    assert row.per_cpu.median == 1.1
    assert row.cells()[2:5] == ("90.0", "100", "1.100")


def test_only_cases_below_the_bound_are_named_as_slower() -> None:
    fast, slow = (
        Row("small", 1, [(side(97), side(100))]),
        Row("floats", 16, [(side(96), side(100))]),
    )
    assert slower([fast]) == ["No case has a median ratio below 0.97."]
    (sentence,) = slower([fast, slow])
    assert sentence.startswith("floats, conn 16: the median ratio 0.960 is below 0.97")


def test_unknown_revision_is_named() -> None:
    with pytest.raises(BenchmarkError, match="'no-such-revision' is neither a program"):
        revision.install("no-such-revision")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_run_compares_two_servers_and_ends_with_0(tmp_path: Path) -> None:
    program, file = Path(sys.executable).with_name("deepaas-run"), tmp_path / "figures.json"
    short = ("--rounds", "2", "--connections", "2", "--cases", "varied,stream")
    command = (sys.executable, "-m", "benchmarks.paired", "--before", str(program), *short)
    done = subprocess.run(
        [*command, "--restart-every", "1", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())["results"]
    assert [(one["case"], one["connections"]) for one in results] == [("varied", 2), ("stream", 2)]
    for result in results:
        assert len(result["pairs"]) == 2
        assert result["ratio"]["median"] > 0
        assert result["cpu_ratio"]["median"] > 0
