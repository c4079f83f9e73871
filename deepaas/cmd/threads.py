"""How many threads the numerical libraries use in each worker.

Such a library starts a thread for each core, in every process. Several workers would then start
more threads than there are cores, and the threads would wait for each other.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from deepaas.exceptions import ConfigurationError

logger = logging.getLogger("deepaas")

OMP = "OMP_NUM_THREADS"

FOLLOWERS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Variables of libraries that read OMP_NUM_THREADS if their own variable is not set."""

OTHERS = (
    "TF_NUM_INTRAOP_THREADS",  # TensorFlow
    "OPENCV_FOR_THREADS_NUM",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",  # tokenizers, and other libraries written in Rust
)
"""Variables of libraries that do not read OMP_NUM_THREADS.

NUMBA_NUM_THREADS is left out: a model that asks numba for more threads than that gets an error.
"""

AUTOMATIC = -1

LEAST_BOUND = 64
WORKERS_PER_CORE = 16


def check_workers(workers: int) -> None:
    """Raise ConfigurationError for more workers than this machine can start, such as a port."""
    most = max(LEAST_BOUND, int(WORKERS_PER_CORE * usable_cores()))
    if workers > most:
        raise ConfigurationError(
            f"--workers (-p) {workers}: at most {most} workers per model are possible on this "
            "machine; the port of the server is --listen-port"
        )


def worker_variables(wanted: int, workers: int) -> dict[str, str]:
    """Return the variables that limit the threads in each worker of a model with `workers` of them.

    `wanted` is the value of `--worker-threads`. Variables that are set already are left out, and if
    OMP_NUM_THREADS is one of them, also those of the libraries that follow it.
    """
    if wanted == 0 or (wanted == AUTOMATIC and workers == 1):
        return {}
    threads = wanted if wanted > 0 else max(1, int(usable_cores() / workers))
    names = OTHERS if OMP in os.environ else (OMP, *FOLLOWERS, *OTHERS)
    return {name: str(threads) for name in names if name not in os.environ}


def report_threads(wanted: int, workers: int) -> None:
    """Log how many threads the libraries use in each worker, if the server decides this."""
    variables = worker_variables(wanted, workers)
    if not variables:
        return
    number = next(iter(variables.values()))
    kept = [name for name in (OMP, *FOLLOWERS, *OTHERS) if name in os.environ]
    logger.info(
        "Libraries use %s thread%s in each worker (%d workers per model, %g cores; "
        "--worker-threads changes this): %s%s",
        *(number, "" if number == "1" else "s", workers, usable_cores(), ", ".join(variables)),
        f"; set before: {', '.join(kept)}" if kept else "",
    )


def usable_cores() -> float:
    """Return how many cores this process may use: those that it may run on, or the quota of its
    control groups if that is less. The quota of a container can be a fraction."""
    cores = float(len(os.sched_getaffinity(0)))
    return min(cores, quota() or cores)


def quota(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> float | None:
    """Return the smallest quota of the control groups of this process, in cores; None without one.

    `groups` lists the groups of the process, and `root` is where they are mounted.
    """
    found: list[float | None] = []
    try:
        lines = os.fsdecode(groups.read_bytes()).split("\n")  # a name can have any bytes
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / controllers if controllers else root
        here = mounted / path.lstrip("/")
        # A limit applies to all groups below it. In a container, the path may be that of the host.
        above = (group for group in here.parents if group.is_relative_to(mounted))
        found += [_quota_of(group) for group in (here, *above)]
    return min((cores for cores in found if cores), default=None)


def _quota_of(group: Path) -> float | None:
    """Return the quota of one control group, of version 2 or 1."""
    try:
        if (group / "cpu.max").exists():
            allowed, period = (group / "cpu.max").read_text().split()
        else:
            allowed = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # ValueError: "max", which is no limit
        return None
