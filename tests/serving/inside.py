"""A server in the test's process, with a real model, to see which requests take the fast path."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from deepaas.api import ApiSettings, create_app
from deepaas.events import Events
from deepaas.http.access_log import AccessLog
from deepaas.http.body import BodyLimits
from deepaas.http.connection import Connection, HTTPServer
from deepaas.http.kernel import Kernel, KernelSettings
from deepaas.model.loading import ModelSource
from deepaas.serving.guard import Guard
from deepaas.serving.options import PoolOptions, WorkerOptions
from deepaas.serving.pool import Pool
from tests.clock import TurnedLoop
from tests.serving.segments import Ask, Line, Seen, get
from tests.support import HOST, ZOO

SECONDS = 120.0
"""A longer wait means a hang. This limit says nothing about speed."""

LIVE = get("/v2/health/live")


@dataclass
class House:
    """A model, its pool, and the HTTP server in front of it; a context manager.

    With `async with`, it uses the running loop. With `with`, it creates a loop with `new_loop`,
    which runs only during `run`.

    `handled` counts the requests that aiohttp parsed: those that did not take the fast path.
    """

    target: str = "zoo.gated"
    folder: Path = ZOO.parent
    workers: int = 1
    keepalive: float = 60.0
    receive_timeout: float = 60.0
    limits: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    api: dict[str, Any] = field(default_factory=dict)
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    access_log: logging.Logger | None = None
    options: dict[str, Any] = field(default_factory=dict)
    worker_options: dict[str, Any] = field(default_factory=dict)
    seconds: float = SECONDS
    has_fast_path: bool = True
    is_limited: bool = True
    events: Events = field(default_factory=Events)

    def __post_init__(self) -> None:
        self.handled = 0
        self.directory = tempfile.mkdtemp(prefix="deepaas-test-")
        self._guard = Guard(self.directory)

    async def __aenter__(self) -> House:
        self.loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(self._open(), SECONDS)
        except BaseException:
            self._clear()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.wait_for(self._close(), SECONDS)
        finally:
            self._clear()

    def _clear(self) -> None:
        self._guard.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> House:
        self.loop = self.new_loop()
        try:
            self.run(self.__aenter__())
        except BaseException:
            self.loop.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self.__aexit__())
        finally:
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run the loop of a house opened with `with` until this coroutine is done."""
        return self.loop.run_until_complete(asyncio.wait_for(work, self.seconds))

    async def _open(self) -> None:
        name = self.target.partition(".py")[0].rpartition("/")[2].rpartition(".")[2]
        log: dict[str, object] = {"level": "CRITICAL"}
        worker_options = WorkerOptions(
            workers=self.workers, restart_delay_max=1, log=log, **self.worker_options
        )
        options = PoolOptions(
            spill_dir=self.directory, worker_options=worker_options, **self.options
        )
        source = ModelSource(name, self.target, str(self.folder))
        self.pool = Pool(source, options, self._guard, events=self.events)
        await self.pool.start()
        assert self.pool.status.is_ready, self.pool.status.problem
        limits = BodyLimits(
            directory=self.directory, receive_timeout=self.receive_timeout, **self.limits
        )
        kernel = KernelSettings(limits=limits, **self.settings)
        settings = ApiSettings(kernel=kernel, **self.api)
        self.app = create_app([self.pool], settings, events=self.events)
        self._count(self.app.kernel)
        if self.access_log:
            self.app.kernel.events.request_ended.listen(AccessLog(self.access_log).note)
        self.http = HTTPServer(
            self.app.kernel,
            has_fast_path=self.has_fast_path,
            is_limited=self.is_limited,
            keepalive_timeout=self.keepalive,
            handler_cancellation=True,
            read_bufsize=256 * 1024,
        )
        with socket.socket() as sock:
            sock.bind((HOST, 0))
            self.port: int = sock.getsockname()[1]
            self._listener = await self.loop.create_server(self.http, sock=sock.dup())

    def _count(self, kernel: Kernel) -> None:
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = kernel.handle

        async def counted(request: web.BaseRequest) -> web.StreamResponse:
            if request.raw_path != "/v2/health/live":
                self.handled += 1
            return await handle(request)

        vars(kernel)["handle"] = counted

    async def _close(self) -> None:
        self._listener.close()
        await self._listener.wait_closed()
        await self.pool.stop()
        await self.http.shutdown(1)

    # --- state

    @property
    def connections(self) -> list[Connection]:
        return [one for one in self.http.connections if isinstance(one, Connection)]

    @property
    def unsent(self) -> int:
        """Bytes of responses that clients have not received."""
        transports = [one.transport for one in self.connections if one.transport is not None]
        return sum(transport.get_write_buffer_size() for transport in transports)

    async def until(self, condition: Callable[[], Any], what: str, within: float = 60) -> None:
        """Wait until the condition is true."""
        deadline = self.loop.time() + within
        while not condition():
            assert self.loop.time() < deadline, f"{what} was not so within {within} s"
            await asyncio.sleep(0.005)

    async def turn(self, seconds: float) -> None:
        """Advance the clock of a `TurnedLoop`, and run the callbacks that are then due."""
        assert isinstance(self.loop, TurnedLoop)
        self.loop.turn(seconds)
        for _ in range(10):
            await asyncio.sleep(0)

    async def until_received(self, *sizes: int) -> None:
        """Wait until the server has received bodies up to these sizes and waits for the rest."""

        def received() -> list[int]:
            return sorted(body.total_bytes for body in self.app.limits.receiving)

        await self.until(lambda: received() == sorted(sizes), f"the receipt of {sizes} bytes")
        for _ in range(10):  # until the bodies' readers have run
            await asyncio.sleep(0)

    async def until_nothing_is_under_way(self) -> None:
        await self.until(
            lambda: not self.pool.calls and not self.app.kernel.active, "an end to all calls"
        )


class Client(Line):
    """A client of a house that checks whether its requests take the fast path.

    It first sends an uninteresting request, which takes the normal path.
    """

    def __init__(self, house: House, source: str = "") -> None:
        super().__init__(house.port, source=source)
        self.house = house

    async def __aenter__(self) -> Client:
        await super().__aenter__()
        assert (await self.ask(LIVE)).status == 200
        await asyncio.sleep(0)
        return self

    async def long(self, ask: Ask) -> Seen:
        """Return the response to a request that must not take the fast path."""
        return await self._ask(ask, 1)

    async def short(self, ask: Ask) -> Seen:
        """Return the response to a request that must take the fast path."""
        return await self._ask(ask, 0)

    async def _ask(self, ask: Ask, parsed: int) -> Seen:
        before = self.house.handled
        seen = await self.ask(ask)
        assert self.house.handled - before == parsed, ("short", "long")[1 - parsed]
        return seen
