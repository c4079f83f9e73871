"""Turns runs into figures, and figures into text."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from benchmarks.cases import Case
from benchmarks.load import Run
from benchmarks.servers import KINDS, BenchmarkError, Kind, left_out

VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Row:
    """The medians of the rounds of one server in one case; ratios are to the baseline."""

    COLUMNS = ("case", "conn", "server", "req/s", "p50 ms", "p99 ms", "ratio", "min..max")

    case: str
    connections: int
    server: str
    rate: float
    p50: float
    p99: float
    ratios: tuple[float, ...]

    def cells(self) -> tuple[str, ...]:
        ratio, spread = "-", "-"
        if self.ratios:
            ratio = f"{median(self.ratios):.3f}"
            spread = f"{min(self.ratios):.3f}..{max(self.ratios):.3f}"
        rate = short(self.rate)
        times = (f"{self.p50:.2f}", f"{self.p99:.2f}")
        return (self.case, str(self.connections), self.server, rate, *times, ratio, spread)

    def record(self) -> dict[str, object]:
        return {
            "case": self.case,
            "connections": self.connections,
            "server": self.server,
            "requests_per_second": self.rate,
            "p50_ms": self.p50,
            "p99_ms": self.p99,
            "ratio": median(self.ratios) if self.ratios else None,
            "ratios": self.ratios,
        }


def summarize(
    case: str, connections: int, server: str, runs: Sequence[Run], yardstick: Sequence[Run] | None
) -> Row:
    """Return the medians of the runs, and the ratios to the baseline's run of the same round."""
    pairs = zip(runs, yardstick, strict=True) if yardstick else ()
    return Row(
        case=case,
        connections=connections,
        server=server,
        rate=median(run.rate for run in runs),
        p50=median(run.p50 for run in runs),
        p99=median(run.p99 for run in runs),
        ratios=tuple(run.rate / other.rate for run, other in pairs),
    )


def machine() -> dict[str, str]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "load before": load,
    }


def all_versions(programs: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    return {name: versions(KINDS[name], program) for name, program in programs.items()}


def versions(kind: Kind, program: Path) -> dict[str, str]:
    """Return the versions of the packages in the program's environment."""
    python = program if program.name.startswith("python") else program.with_name("python")
    command = [str(python), "-I", "-c", VERSIONS, *kind.packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchmarkError(f"{kind.name}: cannot read the versions from {python}") from error
    found: dict[str, str] = json.loads(done.stdout)
    return found


def short(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"


def header(
    facts: Mapping[str, str],
    found: Mapping[str, Mapping[str, str]],
    more: Sequence[str],
    markdown: bool,
) -> str:
    """Return one line each for the machine, the versions, and the texts in `more`."""
    texts = [", ".join(f"{name}: {value}" for name, value in facts.items())]
    for name, versions in found.items():
        shown = ", ".join(f"{package} {version}" for package, version in versions.items())
        texts.append(f"{name} ({KINDS[name].title}): {shown}")
    item = "- " if markdown else ""
    return "".join(f"{item}{text}\n" for text in [*texts, *more])


def titles(cases: Iterable[Case], programs: Mapping[str, Path]) -> list[str]:
    texts = []
    for case in cases:
        absent = ", ".join(left_out(programs, case))
        texts.append(
            f"case {case.name}: {case.title}" + f" (not served by {absent})" * bool(absent)
        )
    return texts


def write(path: Path, **record: object) -> None:
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    path.write_text(json.dumps({"date": date, **record}, indent=2) + "\n")


def table(columns: Sequence[str], cells: Sequence[Sequence[str]], markdown: bool) -> str:
    """Format a table: names are aligned to the left, numbers to the right."""
    lines = [columns, *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    left = {i for i, column in enumerate(columns) if column in ("case", "server")}

    def fill(cells: Sequence[str]) -> list[str]:
        return [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]

    if not markdown:
        return "\n".join("  ".join(fill(line)).rstrip() for line in lines)
    rule = ["-" * w if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    texts = [fill(lines[0]), rule, *(fill(line) for line in lines[1:])]
    return "\n".join(f"| {' | '.join(text)} |" for text in texts)
