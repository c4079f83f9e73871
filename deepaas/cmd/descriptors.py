"""How many descriptors this process may have open, and how many connections that is enough for.

Whatever connections do, the server keeps as many descriptors as it needs itself: for what its
workers send, for new workers and a new guard, for logs, records and files that threads read. So the
number of connections is limited; see `deepaas.api.listener` for what happens at that limit.
"""

from __future__ import annotations

import logging
import os
import resource

logger = logging.getLogger("deepaas")

MAX_OPEN_FILES = 65536

PER_CONNECTION = 3
"""The connection, the first file of its upload, and another file that it receives or sends."""

PER_WORKER = 14
"""The worker itself if it is not there yet, a successor, and the file of a reply."""

PER_MODEL = 32
"""The process that validates arguments, and what is open only while processes are started."""

FOR_THE_REST = 64
"""The guard, keepers of trainings, records, callbacks, and a file in each thread."""

LEAST_CONNECTIONS = 8


def raise_limit() -> int:
    """Let this process have as many descriptors as it may; the limit that it had, for workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft


def most_connections(wanted: int, workers: int, models: int, queue_size: int) -> int:
    """How many connections there may be at once: `wanted`, if the descriptors suffice for that.

    If `wanted` is 0, as many as the descriptors suffice for. `workers` is the number per model.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = MAX_OPEN_FILES
    reserve = len(os.listdir("/proc/self/fd")) + FOR_THE_REST
    reserve += models * (workers * PER_WORKER + PER_MODEL)
    most = max(LEAST_CONNECTIONS, (limit - reserve) // PER_CONNECTION)
    chosen = min(wanted or most, most)
    needed = reserve + PER_CONNECTION * max(wanted or queue_size, LEAST_CONNECTIONS)
    if wanted > most:
        why = f"--max-connections is {wanted}, but only {most} connections are possible"
    elif not wanted and most < queue_size:
        why = f"only {most} connections are possible, fewer than requests may wait (--queue-size)"
    elif most == LEAST_CONNECTIONS and needed > limit:
        why = f"{most} connections may need more descriptors than there are"
    else:
        return chosen
    logger.warning(
        "This process may open only %d files: %s. Let it open %d (ulimit -n)", limit, why, needed
    )
    return chosen
