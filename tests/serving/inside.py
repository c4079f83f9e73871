"""A server in the process of the test, with a real model: to see which way its requests go."""

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

from deepaas.api import ApiSettings, App, create_app
from deepaas.api.access import AccessLog, AccessLogger
from deepaas.api.body import BodyLimits
from deepaas.api.fast_path import Connection, HTTPServer
from deepaas.model.loading import ModelSource
from deepaas.serving.guard import Guard
from deepaas.serving.options import PoolOptions, WorkerOptions
from deepaas.serving.pool import Pool
from tests.clock import TurnedLoop
from tests.serving.segments import Ask, Line, Seen, get
from tests.support import HOST, ZOO

SECONDS = 120.0
"""Work that takes longer hangs. This says nothing about speed."""

LIVE = get("/v2/health/live")


@dataclass
class House:
    """A model, its pool, and the HTTP server before it; a context manager.

    Opened by `async with`, it lives on the loop that runs. Opened by `with`, it has a loop of its
    own, made by `new_loop`, which runs only while `run` does.

    `handled` counts the requests that were parsed: those that went the long way.
    """

    target: str = "zoo.gated"
    folder: Path = ZOO.parent
    workers: int = 1
    keepalive: float = 60.0
    receive_timeout: float = 60.0
    limits: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    access_log: logging.Logger | None = None
    options: dict[str, Any] = field(default_factory=dict)
    worker_options: dict[str, Any] = field(default_factory=dict)
    seconds: float = SECONDS

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
        """Let the loop of a house that was opened by `with` run until this work is done."""
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
        self.pool = Pool(source, options, self._guard)
        await self.pool.start()
        assert self.pool.status.is_ready, self.pool.status.problem
        limits = BodyLimits(
            directory=self.directory, receive_timeout=self.receive_timeout, **self.limits
        )
        self.app = create_app([self.pool], ApiSettings(limits=limits, **self.settings))
        self._count(self.app)
        self.http = HTTPServer(
            self.app,
            access_log=AccessLog(self.access_log) if self.access_log else None,
            access_log_class=AccessLogger,
            keepalive_timeout=self.keepalive,
            handler_cancellation=True,
            read_bufsize=256 * 1024,
        )
        with socket.socket() as sock:
            sock.bind((HOST, 0))
            self.port: int = sock.getsockname()[1]
            self._listener = await self.loop.create_server(self.http, sock=sock.dup())

    def _count(self, app: App) -> None:
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = app.handle

        async def counted(request: web.BaseRequest) -> web.StreamResponse:
            if request.raw_path != "/v2/health/live":
                self.handled += 1
            return await handle(request)

        vars(app)["handle"] = counted

    async def _close(self) -> None:
        self._listener.close()
        await self._listener.wait_closed()
        await self.pool.stop()
        await self.http.shutdown(1)

    # --- what goes on in it

    @property
    def connections(self) -> list[Connection]:
        return [one for one in self.http.connections if isinstance(one, Connection)]

    @property
    def unsent(self) -> int:
        """Bytes of answers that no client has taken."""
        transports = [one.transport for one in self.connections if one.transport is not None]
        return sum(transport.get_write_buffer_size() for transport in transports)

    async def until(self, condition: Callable[[], Any], what: str, within: float = 60) -> None:
        """Wait until something is so."""
        deadline = self.loop.time() + within
        while not condition():
            assert self.loop.time() < deadline, f"{what} was not so within {within} s"
            await asyncio.sleep(0.005)

    async def turn(self, seconds: float) -> None:
        """Move the clock of a `TurnedLoop` ahead, and let what is due then happen."""
        assert isinstance(self.loop, TurnedLoop)
        self.loop.turn(seconds)
        for _ in range(10):
            await asyncio.sleep(0)

    async def until_received(self, *sizes: int) -> None:
        """Wait until the server has received bodies up to these bytes, and waits for their rest."""

        def received() -> list[int]:
            return sorted(body.total_bytes for body in self.app.settings.limits.receiving)

        await self.until(lambda: received() == sorted(sizes), f"the receipt of {sizes} bytes")
        for _ in range(10):  # until it has taken them in
            await asyncio.sleep(0)

    async def until_nothing_is_under_way(self) -> None:
        await self.until(lambda: not self.pool.calls and not self.app.active, "an end to all calls")


class Client(Line):
    """A client of a house, which sees which way its requests go.

    Its first is one of no interest: aiohttp is ready for no short way before the first.
    """

    def __init__(self, house: House) -> None:
        super().__init__(house.port)
        self.house = house

    async def __aenter__(self) -> Client:
        await super().__aenter__()
        assert (await self.ask(LIVE)).status == 200
        await asyncio.sleep(0)
        return self

    async def long(self, ask: Ask) -> Seen:
        """The answer to a request that has to go the long way."""
        return await self._ask(ask, 1)

    async def short(self, ask: Ask) -> Seen:
        """The answer to a request that has to go the short way."""
        return await self._ask(ask, 0)

    async def _ask(self, ask: Ask, parsed: int) -> Seen:
        before = self.house.handled
        seen = await self.ask(ask)
        assert self.house.handled - before == parsed, ("short", "long")[1 - parsed]
        return seen
