"""From runs to figures, and figures to text."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load import Run
from benchmarks.servers import BenchmarkError, Kind

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

COLUMNS = ("case", "conn", "server", "req/s", "p50 ms", "p99 ms", "ratio", "min..max")


@dataclass(frozen=True)
class Row:
    """The medians of the rounds of one server in one case; ratios are to the yardstick."""

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
        rate = f"{self.rate:.0f}" if self.rate >= 100 else f"{self.rate:.1f}"
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
    """Each round's run is set against the yardstick's run of the same round."""
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


def versions(kind: Kind, program: Path) -> dict[str, str]:
    """The versions in the environment the program belongs to."""
    python = program if program.name.startswith("python") else program.with_name("python")
    command = [str(python), "-I", "-c", VERSIONS, *kind.packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchmarkError(f"{kind.name}: cannot ask {python} for its versions") from error
    found: dict[str, str] = json.loads(done.stdout)
    return found


def table(rows: Sequence[Row], markdown: bool) -> str:
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    left = {0, 2}

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
