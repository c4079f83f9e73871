"""`deepaas-run`: serves models over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import uvloop

from deepaas import config, log, stdio
from deepaas.cmd import descriptors, metrics
from deepaas.cmd.loading import Loading, banner
from deepaas.cmd.memory import keep_free_memory
from deepaas.cmd.options import api_settings, callback_options, open_sign_in, pool_options
from deepaas.cmd.orphans import sweep_beside, upload_directory
from deepaas.cmd.reaper import reaping_orphans
from deepaas.cmd.reload import Reloads, watching
from deepaas.cmd.start import STOPPING
from deepaas.cmd.threads import check_workers, report_threads
from deepaas.cmd.trainings import open_trainings
from deepaas.config.settings import ServerSettings, Settings, settings_of
from deepaas.events import Events
from deepaas.exceptions import ConfigurationError
from deepaas.metrics.counts import Counts
from deepaas.model import loading
from deepaas.serving.guard import Guard
from deepaas.serving.pool import Pool

if TYPE_CHECKING:
    from deepaas.api import App
    from deepaas.api.callbacks import CallbackOptions
    from deepaas.http.connection import HTTPServer
    from deepaas.http.kernel import Kernel
    from deepaas.jobs.service import JobService

logger = logging.getLogger("deepaas")

SENDING_SECONDS = 1.0
"""How long responses may take to be sent after the workers have ended."""

HURRY_SECONDS = 5.0
"""How long the exit may take after a second signal."""

TELL_SECONDS = 5.0
"""Interval of log lines about the requests that a stopping server waits for."""

READ_BUFFER = 256 * 1024
"""Bytes of a body that are read ahead per connection."""


def main() -> None:
    """Run the server until SIGTERM or SIGINT."""
    stdio.open_missing()
    stdio.forgive()
    sys.exit(run(sys.argv[1:]))


def run(
    argv: Sequence[str],
    sources: Sequence[loading.ModelSource] | None = None,
    make: Callable[..., ServerProcess] | None = None,
) -> int:
    """Run the server with these arguments; return the exit code.

    `sources` are the models, if the arguments do not name them; `make` makes the ServerProcess.
    """
    try:
        given = config.load(argv)
    except ConfigurationError as error:
        return _refuse(str(error))
    settings = settings_of(given)
    tail = log.Tail(settings.server.debug_size) if settings.server.debug_endpoint else None
    options = log.LogOptions(
        level="DEBUG" if settings.log.debug else settings.log.log_level.upper(),
        file=os.path.abspath(settings.log.log_file) if settings.log.log_file else "",
        json=settings.log.use_json,
    )
    try:
        _open_log(options, tail)
        _report_sources(given)
        open_files = descriptors.raise_limit()
        check_workers(settings.models.workers)
        keep_free_memory()
        if sources is None:
            sources = loading.find(settings.model, settings.models.model_name)
        with contextlib.ExitStack() as resources:
            server = settings.server
            listener = resources.enter_context(_bind(server.listen_ip, server.listen_port))
            own_port = resources.enter_context(_metrics_port(settings))
            # Until the handlers are set, so that a signal does not skip the clean-up below.
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
            upload_dir = resources.enter_context(upload_directory(settings.server.upload_dir))
            guard = resources.enter_context(contextlib.closing(Guard(upload_dir)))
            make = make or ServerProcess
            process = make(settings, options, tail, guard, open_files, own_port)
            return uvloop.run(process.live(sources, listener, upload_dir))
    except (ConfigurationError, OSError) as error:
        return _refuse(config.with_places(str(error), given))


def _open_log(options: log.LogOptions, tail: log.Tail | None) -> None:
    try:
        log.setup(options, tail)
    except OSError as error:
        raise ConfigurationError(
            f"the log file {options.file} cannot be written: {error.strerror}; "
            "give another one with --log-file"
        ) from None


def _report_sources(given: config.Options) -> None:
    """Log which configuration files were read, and warn of settings without effect."""
    if given.files:
        logger.info("Options are read from %s", ", ".join(given.files))
    for remark in given.remarks:
        logger.warning("%s", remark)


def _refuse(message: str) -> int:
    print(f"deepaas-run: error: {message}", file=sys.stderr)
    return 1


@contextlib.contextmanager
def _metrics_port(settings: Settings) -> Iterator[socket.socket | None]:
    """Bind the port of the metrics, if they have one of their own."""
    port = settings.metrics.metrics_port
    if not (metrics.are_wanted(settings.metrics) and port):
        yield None
        return
    if port == settings.server.listen_port:
        raise ConfigurationError(
            f"--listen-port and --metrics-port are both {port}; take another for one of them"
        )
    with _bind(settings.metrics.metrics_ip, port, "--metrics-port") as sock:
        yield sock


def _bind(address: str, port: int, option: str = "--listen-port") -> socket.socket:
    """Bind a socket without listening: clients may wait until the port opens.

    A message about a port that is in use names the option."""
    try:
        family, *_, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(target)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        hint = f"; take another with {option}" if error.errno == errno.EADDRINUSE else ""
        raise ConfigurationError(
            f"cannot listen on {address}, port {port}: {error.strerror}{hint}"
        ) from None
    return sock


class ServerProcess:
    """The server process: it starts the workers, serves, drains and stops."""

    def __init__(
        self,
        settings: Settings,
        log_options: log.LogOptions,
        tail: log.Tail | None,
        guard: Guard,
        open_files: int,
        own_port: socket.socket | None = None,
    ) -> None:
        self._settings = settings
        self._own_port = own_port  # of the metrics
        self._events = Events()
        self._counts: Counts | None = None
        self._open_files = open_files
        self._log_options = log_options
        self._tail = tail
        self._guard = guard
        self._trainings: JobService | None = None
        self._no_trainings = ""
        self._signal = 0  # the last one that asked the server to stop
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def live(
        self, sources: Sequence[loading.ModelSource], listener: socket.socket, upload_dir: str
    ) -> int:
        """Call `run`; keep the guard running, reap orphans and remove old directories meanwhile."""
        with self._guard.watched(), reaping_orphans():
            sweep_beside(upload_dir)
            return await self.run(sources, listener, upload_dir)

    async def run(
        self, sources: Sequence[loading.ModelSource], listener: socket.socket, upload_dir: str
    ) -> int:
        """Serve the models on `listener` until SIGTERM or SIGINT; return the exit code."""
        self._counts = metrics.counting(self._settings.metrics, sources, self._events)
        report_threads(self._settings.models.worker_threads, self._settings.models.workers)
        pools = [self._pool(source, upload_dir) for source in sources]
        self._listen_to_signals(pools)
        settings = self._settings
        adopting = open_trainings(
            settings, sources, pools, self._log_options, self._open_files, self._events
        )
        self._trainings, self._no_trainings = await adopting
        wanted = [] if self._stop.is_set() else pools
        loading = Loading(
            wanted, grace=settings.models.start_grace, early=settings.models.listen_early
        )
        opening = asyncio.create_task(loading.may_open.wait())
        stopping = asyncio.create_task(self._stop.wait())
        keep: bool | None = True  # if this server fails to start, trainings go on
        try:
            await asyncio.sleep(0.001)  # the workers start before the slow imports below
            from deepaas.api.callbacks import calling_back

            callbacks = callback_options(settings)
            app = self._app(pools, upload_dir, callbacks, listener)
            gc.freeze()  # else the next collection would look at all modules
            gc.enable()  # `start.main` has disabled it
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                loading.raise_if_failed()
                async with calling_back(app, callbacks):
                    await self._serve(app, pools, listener, loading)
            keep = None
        finally:
            await self._end(pools, keep)
            await loading.close()
            opening.cancel()
            stopping.cancel()
            await asyncio.gather(opening, stopping, return_exceptions=True)
            for signum in STOPPING:  # a late signal must not change the exit code
                signal.signal(signum, signal.SIG_IGN)
        return 128 + self._signal if self._hurry.is_set() else 0

    async def _end(self, pools: list[Pool], keep: bool | None = None) -> None:
        """End the workers, and the trainings unless `keep`; None means as --keep-trainings says."""
        trainings, self._trainings = self._trainings, None
        closing = [trainings.close(keep, self._hurry.is_set)] if trainings is not None else []
        await asyncio.gather(*(pool.stop() for pool in pools), *closing)

    def _listen_to_signals(self, pools: list[Pool]) -> None:
        """Handle signals. SIGTERM and SIGINT drain and stop; a second one kills. SIGHUP reloads."""
        loop = asyncio.get_running_loop()

        def stop(signum: int) -> None:
            if self._stop.is_set():
                logger.warning("Stopping at once")
                self._hurry.set()
                _exit_later(128 + signum)
                for pool in pools:
                    pool.kill()
            self._signal = signum
            self._stop.set()

        for signum in STOPPING:
            loop.add_signal_handler(signum, stop, signum)
        reloads = Reloads(pools)
        loop.add_signal_handler(signal.SIGHUP, reloads.reload_all)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    def _pool(self, source: loading.ModelSource, upload_dir: str) -> Pool:
        options = pool_options(
            self._settings, source, self._log_options.as_dict(), self._open_files, upload_dir
        )
        on_output = None if self._tail is None else self._on_output
        return self.make_pool(source, options, self._guard, on_output, self._events)

    def make_pool(self, *args: Any, **options: Any) -> Pool:
        """Return a new Pool with these arguments."""
        return Pool(*args, **options)

    def _on_output(self, data: bytes) -> None:
        """Write the output of a worker to standard output, and keep it for /v2/debug/."""
        assert self._tail is not None
        self._tail.write(data)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _app(
        self,
        pools: list[Pool],
        upload_dir: str,
        callbacks: CallbackOptions,
        listener: socket.socket,
    ) -> App:
        from deepaas.api import create_app

        address = listener.getsockname()[0]
        models = [pool.name for pool in pools]
        authenticator = open_sign_in(self._settings.sign_in, models)
        settings = api_settings(
            *(self._settings, upload_dir, callbacks, address, authenticator, models, self._events)
        )
        app = create_app(pools, settings, self._tail, self._events)
        if self._counts is not None:
            app.metrics = metrics.page_of(self._counts, app)
        app.trainings = self._trainings
        app.no_trainings = self._no_trainings
        return app

    async def _serve(
        self, app: App, pools: list[Pool], sock: socket.socket, loading: Loading
    ) -> None:
        from aiohttp import web

        from deepaas.http.access_log import AccessLog
        from deepaas.http.listener import Listener

        access_log = AccessLog(logging.getLogger("deepaas.access"))
        is_logged = logging.getLogger("deepaas.access").isEnabledFor(logging.INFO)
        if self._settings.log.access_log and is_logged:
            app.kernel.events.request_ended.listen(access_log.note)
        new_server = await self._server_maker(app.kernel)
        http = new_server(app.kernel)
        runner = web.ServerRunner(http, shutdown_timeout=SENDING_SECONDS)
        await runner.setup()
        gc.collect()
        gc.freeze()
        settings = self._settings
        most = descriptors.most_connections(
            settings.limits.max_connections,
            settings.models.workers,
            len(pools),
            settings.predictions.queue_size,
            metrics.CONNECTIONS if self._own_port is not None else 0,
        )
        listener = Listener(sock, http, most)
        try:
            async with metrics.own_port(self._own_port, app, new_server, self._settings):
                # The longest queue that the system allows (net.core.somaxconn): a client that does
                # not fit in it retries only after a second.
                listener.open(socket.SOMAXCONN)
                self.report_open(_url(sock, app.settings.base_path), pools, loading)
                if not self._settings.sign_in.auth:
                    _warn_if_exposed(self._settings.server, sock)
                if self._trainings is not None:
                    self._trainings.begin()
                async with watching(pools if self._settings.models.reload else []):
                    await self._until_stopped(loading)
                listener.close()
                await self._drain(app, pools)
                await self._end(pools)
        finally:
            listener.close()
            if not self._hurry.is_set():
                await runner.cleanup()
            access_log.flush()

    def report_open(self, url: str, pools: list[Pool], loading: Loading) -> None:
        """Log that the port is open, and what is served there."""
        if not self._settings.log.use_json:
            print(banner(pools, url), flush=True)
        logger.info("Listening on %s", url)
        loading.opened()

    async def _server_maker(self, main: Kernel) -> Callable[[Kernel], HTTPServer]:
        """Return a function that returns a server for a kernel; `main` serves the models."""
        from deepaas.http.connection import HTTPServer
        from deepaas.http.probe import probe

        is_wanted = self._settings.server.fast_path
        findings = await probe(is_wanted)
        findings.report(is_wanted, is_supported=main.hook_makers is not None)
        protocol_log = logging.getLogger("deepaas.http")
        if not self._settings.log.debug:
            protocol_log.setLevel(logging.CRITICAL)  # a client's mistake is no error of the server
        return functools.partial(
            HTTPServer,
            has_fast_path=is_wanted and not findings.fast_path,
            is_limited=not findings.limits,
            logger=protocol_log,
            handler_cancellation=True,  # when the client has disconnected
            read_bufsize=READ_BUFFER,
            max_line_size=self._settings.limits.client_max_line,
            max_field_size=self._settings.limits.client_max_line,
        )

    async def _until_stopped(self, loading: Loading) -> None:
        """Wait for a signal. Raises NoModelError if all models fail to load."""
        waiting = [asyncio.create_task(e.wait()) for e in (self._stop, loading.has_failed)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if not self._stop.is_set():
            loading.raise_if_failed()

    async def _drain(self, app: App, pools: list[Pool]) -> None:
        """Wait until the requests have finished, at most --drain-timeout; log the progress."""
        app.kernel.draining = True
        for pool in pools:
            pool.drain()
        loop = asyncio.get_running_loop()
        timeout = self._settings.server.drain_timeout
        began = loop.time()
        told = 0.0
        logger.info("Stopping")
        while app.kernel.active and not self._hurry.is_set():
            now = loop.time()
            if now - began >= timeout:
                logger.warning("Stopping after %g s and refusing %s", timeout, app.under_way())
                app.stop_receiving()
                return
            if now - told >= TELL_SECONDS:
                told = now
                logger.info("Waiting for %s", app.under_way())
            await asyncio.sleep(0.02)


def _url(listener: socket.socket, base_path: str) -> str:
    host, port = listener.getsockname()[:2]
    if listener.family == socket.AF_INET6:
        host = f"[{host}]"
    return f"http://{host}:{port}{base_path}"


def _warn_if_exposed(server: ServerSettings, listener: socket.socket) -> None:
    """Log what a client may do if the server listens on more than a loopback address."""
    from deepaas.http.cross_site import is_loopback

    if is_loopback(listener.getsockname()[0]):
        return
    offered = {
        "predict": server.predict_endpoint,
        "train": server.train_endpoint,
        "reload models": server.admin_endpoint,
        "read what models print": server.debug_endpoint,
    }
    actions = ", ".join(action for action, is_offered in offered.items() if is_offered)
    logger.warning(
        "There is no sign-in: anybody who can connect to this address may use it (%s); "
        "--auth tokens requires a sign-in",
        actions or "read only",
    )


def _exit_later(code: int) -> None:
    """Exit after HURRY_SECONDS, even if the clean-up is blocked, for example by a disk."""
    timer = threading.Timer(HURRY_SECONDS, os._exit, [code])
    timer.daemon = True
    timer.start()
