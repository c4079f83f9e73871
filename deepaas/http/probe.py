"""Checks at the start whether aiohttp's private parts are as `aiohttp_adapter.py` expects.

A release of aiohttp may rename or change these parts at any time. If the fast path cannot rely on
them, it is off. If the limits of `intake.py` cannot rely on them either, connections use only the
public parts of aiohttp.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from deepaas.events import Events
from deepaas.http import aiohttp_adapter as adapter
from deepaas.http.base_connection import BaseConnection
from deepaas.http.body import BodyLimits
from deepaas.http.connection import Connection, HTTPServer
from deepaas.http.fast_path import FastRequest, KnownHead
from deepaas.http.kernel import Kernel, KernelSettings
from deepaas.http.request import Request
from deepaas.http.responses import JSONResponse
from deepaas.http.routing import Access, Route, Router

logger = logging.getLogger("deepaas")

SECONDS = 20.0
"""The maximum time of a self-test, which takes a few milliseconds on an idle machine."""

LOST_LIMITS = "--client-max-head, --max-heads-memory and the limit on the framing of chunked bodies"
"""The limits that a connection without `Intake` does not enforce."""


@dataclass(frozen=True)
class Findings:
    """Why the fast path, and why the limits of the input, cannot be used; empty if they can."""

    fast_path: str = ""
    limits: str = ""

    def report(self, is_wanted: bool, is_supported: bool = True) -> None:
        """Log in one line whether the fast path is on.

        `is_supported` is whether all middleware supports it.
        """
        version = adapter.VERSION
        if self.limits:
            logger.warning(
                "The fast path is off, and these limits are not enforced: %s. aiohttp %s is not "
                "as expected: %s. Install an earlier release of aiohttp",
                *(LOST_LIMITS, version, self.limits),
            )
        elif not is_wanted:
            logger.info("The fast path is off (--nofast-path)")
        elif not is_supported:
            logger.info("The fast path is off, because a middleware does not support it")
        elif self.fast_path:
            logger.warning(
                "The fast path is off, so small requests take longer. aiohttp %s is not as "
                "expected: %s. Install an earlier release of aiohttp",
                *(version, self.fast_path),
            )
        else:
            logger.info("The fast path is on (aiohttp %s)", version)


async def probe(is_wanted: bool = True) -> Findings:
    """Check aiohttp. Without `is_wanted`, do not check what only the fast path needs."""
    fast_path = ""
    if is_wanted:
        fast_path = _missing_for_fast_path() or await _self_test(has_fast_path=True)
        if not fast_path:
            return Findings()
    limits = _missing_for_limits() or await _self_test(has_fast_path=False)
    return Findings(fast_path or limits, limits)


def _missing_for_fast_path() -> str:
    return _missing(adapter.NEEDED_FOR_FAST_PATH) or _missing_for_limits()


def _missing_for_limits() -> str:
    return (
        _missing(adapter.NEEDED_FOR_LIMITS)
        or (_missing(adapter.BUFFER_PAUSE) if adapter.PAUSES_FOR_BUFFER else "")
        or ("" if adapter.HAS_FAULTS else "web_protocol has no _ErrInfo")
        or ("" if _has_usual_bodies() else "StreamReader has no _buffer")
        or _changed_signature()
        or _clash()
    )


def _missing(names: tuple[str, ...]) -> str:
    for name in names:
        if not adapter.has_handler_attribute(name):
            return f"RequestHandler has no {name}"
    return ""


def _has_usual_bodies() -> bool:
    return adapter.has_usual_bodies(asyncio.get_running_loop())


def _changed_signature() -> str:
    for name, expected in adapter.SIGNATURES.items():
        method = getattr(RequestHandler, name, None)
        if method is not None:
            parameters = tuple(inspect.signature(method).parameters)
            if parameters[: len(expected)] != expected:
                return f"the parameters of RequestHandler.{name} are {', '.join(parameters)}"
    return ""


def _clash() -> str:
    """Return a complaint if aiohttp uses a name that our connections use for something else."""
    for kind in Connection.__mro__[: Connection.__mro__.index(RequestHandler)]:
        for name in vars(kind).get("__slots__", ()):
            if hasattr(RequestHandler, name):
                return f"RequestHandler has an attribute {name}, which this server uses"
    return ""


# --- the self-test


class _Echo:
    """The handler and the target of the self-test: they answer with the body of the request."""

    reads = ()

    def __init__(self) -> None:
        self.count = 0  # of the requests on the fast path

    async def handle(self, request: Request) -> web.StreamResponse:
        body = await request.content.read()
        if isinstance(request.protocol, Connection):
            request.protocol.learn(request, self)
        return JSONResponse(body)

    def new_request(self, connection: Connection, known: KnownHead, data: bytes) -> FastRequest:
        return _FastEcho(self, connection, known, data)


class _FastEcho:
    """A request of the self-test on the fast path."""

    request_id = b""
    times = None

    def __init__(self, echo: _Echo, connection: Connection, known: KnownHead, data: bytes) -> None:
        self.known = known
        self.head = known.head
        self.data = data
        self._echo = echo
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.began = monotonic()

    def begin(self, end: int) -> bool:
        self._echo.count += 1
        self._loop.call_soon(self._connection.respond, self, self.data[end:])
        return True

    def close(self) -> None:
        """Do nothing: there is no work to abandon."""


class _Client:
    """The client of the self-test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
            for _ in range(3):  # so that the server usually gets the pieces one by one
                await asyncio.sleep(0)

    async def expect(self, what: str, status: int, body: bytes = b"") -> None:
        """Read a response. Raises ProbeError if it is not as expected; any body fits b""."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            seen = await self._reader.readexactly(int(length))
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            raise ProbeError(f"{what} got no whole response") from None
        if int(head[9:12]) != status or (body and seen != body):
            raise ProbeError(f"{what} got a wrong response")


class ProbeError(Exception):
    """A self-test has failed; the message says in which step."""


SMALL_READS = 1024
"""How many bytes of a body the connections of the self-test read ahead."""


async def _self_test(*, has_fast_path: bool) -> str:
    """Return what failed, or an empty string."""
    try:
        await asyncio.wait_for(_test_all(has_fast_path), SECONDS)
    except asyncio.TimeoutError:
        return f"a self-test was not done in {SECONDS:g} s"
    except Exception as error:
        return f"a self-test failed: {error or type(error).__name__}"
    return ""


async def _test_all(has_fast_path: bool) -> None:
    echo = _Echo()
    route = Route("POST", "/", echo.handle, Access.PUBLIC, lambda _: None)
    limits = BodyLimits(head=2000, receive_timeout=0, rate=0)
    kernel = Kernel(
        Router("", [route]), [], KernelSettings(send_timeout=0, limits=limits), Events()
    )
    silent = logging.Logger("deepaas.probe", logging.CRITICAL + 1)
    server = HTTPServer(
        kernel,
        has_fast_path=has_fast_path,
        logger=silent,
        handler_cancellation=True,
        read_bufsize=SMALL_READS,
    )
    with _quiet_loop():
        async with _connected(server) as (connection, client):
            await _test_fast_path(connection, client, echo, has_fast_path)
            await _test_requests(client)
            await client.send(b"no request\r\n\r\n")
            await client.expect("a malformed request", 400)
        async with _connected(server) as (connection, client):
            await client.send(b"POST / HTTP/1.1\r\nX: " + b"x" * 3000)
            await client.expect("a request with a head that is too large", 431)
        async with _connected(server) as (connection, client):
            await client.send(_chunked(b""), b"zz\r\n")
            await client.expect("a request with a malformed body", 400)
    if server.open or kernel.active:
        raise ProbeError("a closed connection stays open")


async def _test_requests(client: _Client) -> None:
    """Send requests that take the normal path."""
    whole = _post(b"pieces")
    await client.send(whole[:20], whole[20:-2], whole[-2:])
    await client.expect("a request in pieces", 200, b"pieces")
    await client.send(_post(b"1") + _chunked(b"22") + _post(b"333"))
    for body in (b"1", b"22", b"333"):
        await client.expect("a pipelined request", 200, body)
    large = b"x" * 32 * SMALL_READS
    await client.send(_post(large))
    await client.expect("a large request", 200, large)


async def _test_rest(connection: BaseConnection) -> None:
    """Check that the connection becomes idle."""
    for _ in range(20):
        idle = connection.idle_since()
        if idle is not None and idle[0]:
            return
        await asyncio.sleep(0)
    raise ProbeError("a connection does not become idle after its responses")


async def _test_fast_path(
    connection: BaseConnection, client: _Client, echo: _Echo, has_fast_path: bool
) -> None:
    """Send a request whose head is known, alone and with another one behind it."""
    await client.send(_post(b"one"))
    await client.expect("a first request", 200, b"one")
    await _test_rest(connection)
    await client.send(_post(b"two"))
    await client.expect("a request with a known head", 200, b"two")
    if echo.count != has_fast_path:
        raise ProbeError("a request with a known head does not take the expected path")
    connection.data_received(_post(b"abc"))
    connection.data_received(_post(b"def"))
    await client.expect("a request with a known head", 200, b"abc")
    await client.expect("a request behind one with a known head", 200, b"def")


def _post(body: bytes) -> bytes:
    """Return a request; all requests with bodies of the same length have the same head."""
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def _chunked(body: bytes) -> bytes:
    """Return a chunked request, or only its head if the body is empty."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else head


@contextlib.asynccontextmanager
async def _connected(server: HTTPServer) -> AsyncIterator[tuple[BaseConnection, _Client]]:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    connection = server()
    await loop.connect_accepted_socket(lambda: connection, theirs)
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2**20)
    try:
        yield connection, _Client(reader, writer)
    finally:
        writer.transport.abort()
        connection.force_close()
        for _ in range(20):
            if connection not in server.open:
                break
            await asyncio.sleep(0)


@contextlib.contextmanager
def _quiet_loop() -> Iterator[None]:
    """Raise the first failure of a connection as ProbeError, and log none of them."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    failures: list[str] = []

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("protocol"), BaseConnection):
            failures.append(str(context.get("exception") or context["message"]))
        elif before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(note)
    try:
        yield
    except ProbeError as error:
        raise ProbeError(f"{error}: {failures[0]}" if failures else str(error)) from None
    finally:
        loop.set_exception_handler(before)
    if failures:
        raise ProbeError(failures[0])
