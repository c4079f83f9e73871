"""Limits the number of connections, so that they do not use up the descriptors of this process.

The server reserves descriptors for replies of its workers, for new workers and a new guard, for
logs, for records, and for files that threads read. `deepaas.http.listener` applies the limit.
"""

from __future__ import annotations

import logging
import os
import resource

logger = logging.getLogger("deepaas")

MAX_OPEN_FILES = 65536

PER_CONNECTION = 3
"""One for the socket, one for the first uploaded file, one for another file."""

PER_WORKER = 14
"""For the worker, in case it starts later, its successor, and the file of a reply."""

PER_MODEL = 32
"""For the validation worker, and for descriptors that are open only while processes start."""

FOR_THE_REST = 62
"""For the guard, supervisor processes, callbacks, one file in each thread, and the records: these
are usually open already, so six of the descriptors are counted twice then."""

LEAST_CONNECTIONS = 8


def raise_limit() -> int:
    """Raise the soft limit as far as allowed; return the old limit, which workers get back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft


def most_connections(
    wanted: int, workers: int, models: int, queue_size: int, others: int = 0
) -> int:
    """Return the maximum number of connections: `wanted`, or fewer if descriptors are too few.

    If `wanted` is 0, return the largest possible number. `workers` is the number per model, and
    `others` the number of connections to another port.
    Log a warning if `wanted` is too high, or if the number is below `queue_size` or very small.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = MAX_OPEN_FILES
    reserve = len(os.listdir("/proc/self/fd")) + FOR_THE_REST + others
    reserve += models * (workers * PER_WORKER + PER_MODEL)
    most = max(LEAST_CONNECTIONS, (limit - reserve) // PER_CONNECTION)
    chosen = min(wanted or most, most)
    needed = reserve + PER_CONNECTION * max(wanted or queue_size, LEAST_CONNECTIONS)
    if wanted > most:
        why = f"--max-connections is {wanted}, but only {most} connections are possible"
    elif not wanted and most < queue_size:
        why = f"only {most} connections are possible, fewer than requests may wait (--queue-size)"
    elif most == LEAST_CONNECTIONS and needed > limit:
        why = f"{most} connections may need more"
    else:
        return chosen
    logger.warning(
        "This process may open only %d files: %s. Let it open %d (ulimit -n)", limit, why, needed
    )
    return chosen
