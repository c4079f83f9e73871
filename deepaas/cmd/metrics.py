"""The metrics of a server: what they look up in its parts, and a port of their own.

prometheus-client and the HTTP modules are imported inside functions: the former may not be
installed, and the workers start before the import of the latter.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from deepaas.config.settings import MetricsSettings, Settings
from deepaas.events import Events
from deepaas.exceptions import ConfigurationError
from deepaas.metrics.counts import Counts
from deepaas.metrics.state import ModelState, WorkerState
from deepaas.model.loading import ModelSource
from deepaas.processes import resident_memory
from deepaas.serving.pool import Pool

if TYPE_CHECKING:
    from deepaas.api import App
    from deepaas.http.connection import HTTPServer
    from deepaas.http.kernel import Kernel
    from deepaas.metrics.page import MetricsPage
    from deepaas.serving.worker_handle import WorkerHandle

logger = logging.getLogger("deepaas")

PACKAGE = "prometheus_client"

CONNECTIONS = 16
"""The most connections to the port of the metrics."""

CLOSING_SECONDS = 1.0
"""How long responses may take to be sent after the port of the metrics has closed."""


def are_wanted(settings: MetricsSettings) -> bool:
    """Return whether there are metrics.

    Raises ConfigurationError if they are asked for, but prometheus-client is not installed.
    """
    if settings.metrics is False:
        return False
    if importlib.util.find_spec(PACKAGE) is not None:
        return True
    if settings.metrics or settings.metrics_port:
        option = "--metrics" if settings.metrics else "--metrics-port"
        raise ConfigurationError(
            f"{option} needs prometheus-client, which is not installed; install it with: "
            "pip install 'deepaas[metrics]'"
        )
    return False


def counting(
    settings: MetricsSettings, sources: Sequence[ModelSource], events: Events
) -> Counts | None:
    """Count the events from now on, and return the counts, or None if there are no metrics."""
    if not are_wanted(settings):
        return None
    counts = Counts([source.name for source in sources], settings.metrics_buckets)
    counts.listen_to(events)
    return counts


def page_of(counts: Counts, app: App) -> MetricsPage:
    """Return the page that shows the counts and the state of the server."""
    from deepaas.metrics.page import MetricsPage

    return MetricsPage(counts, LookedUp(app))


class LookedUp:
    """The state of a server; implements `deepaas.metrics.state.ServerState`."""

    def __init__(self, app: App) -> None:
        self._app = app

    def active_requests(self) -> int:
        return self._app.kernel.active

    def memory(self) -> int:
        return resident_memory(os.getpid())

    def model(self, name: str) -> ModelState:
        pool, jobs = self._app.pools[name], self._app.trainings
        return ModelState(
            waiting=pool.dispatcher.waiting,
            running=pool.calls - pool.dispatcher.waiting,
            workers=[
                WorkerState(worker.name, _state_of(worker, pool), worker.size())
                for worker in pool.workers
            ],
            jobs={} if jobs is None else jobs.under_way(name),
        )


def _state_of(worker: WorkerHandle, pool: Pool) -> str:
    if worker.pid in pool.pids:
        return "ready"
    return "ending" if worker.ready.done() else "starting"


@contextlib.asynccontextmanager
async def own_port(
    sock: socket.socket | None,
    app: App,
    new_server: Callable[[Kernel], HTTPServer],
    settings: Settings,
) -> AsyncIterator[None]:
    """Serve the metrics on a bound socket while the block runs; do nothing if it is None."""
    if sock is None:
        yield
        return
    from aiohttp import web

    from deepaas.http.cross_site import SiteRules
    from deepaas.http.listener import Listener
    from deepaas.metrics.port import PATH, kernel_for

    assert app.metrics is not None
    host, port = sock.getsockname()[:2]
    sites = SiteRules.of([], settings.server.allow_hosts, settings.metrics.metrics_ip, host)
    server = new_server(kernel_for(app.metrics, sites, app.settings.kernel))
    runner = web.ServerRunner(server, shutdown_timeout=CLOSING_SECONDS)
    await runner.setup()
    listener = Listener(sock, server, CONNECTIONS)
    try:
        listener.open(socket.SOMAXCONN)
        shown = f"[{host}]" if sock.family == socket.AF_INET6 else host
        logger.info("Metrics are at http://%s:%d%s", shown, port, PATH)
        yield
    finally:
        listener.close()
        await runner.cleanup()
