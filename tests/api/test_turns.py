"""No callback of the event loop takes long, whatever clients send and however slowly they read."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from tests.api.hostile import CORPUS, DECOMPRESSED, MEGABYTE
from tests.serving.inside import LIVE, Client, House
from tests.serving.segments import predict

MAX_UNSENT = 16 * MEGABYTE
HEADS_MEMORY = 8 * MEGABYTE
MAX_SECONDS = 0.05
"""CPU time that one callback of the event loop may take."""

# --- a loop that measures its callbacks


class TimedLoop(asyncio.SelectorEventLoop):
    """An event loop that stores the slowest callback and its CPU time."""

    def __init__(self) -> None:
        super().__init__()
        self.worst = (0.0, "")

    def _timed(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.thread_time()
            try:
                return callback(*args)
            finally:
                self.worst = max(self.worst, (time.thread_time() - began, repr(callback)))

        return timed

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return super().call_soon(self._timed(callback), *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return super().call_at(when, self._timed(callback), *args, context=context)

    def _add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        return super()._add_reader(fd, self._timed(callback), *args)  # type: ignore[misc]

    def _add_writer(self, fd: Any, callback: Any, *args: Any) -> Any:
        return super()._add_writer(fd, self._timed(callback), *args)  # type: ignore[misc]


new_loop = TimedLoop
"""The loop of the tests and of their `House`."""


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    limits = {"decompressed": DECOMPRESSED, "heads_memory": HEADS_MEMORY}
    settings = {"max_unsent": MAX_UNSENT}
    async with House(limits=limits, settings=settings) as opened:
        yield opened


@contextlib.asynccontextmanager
async def nothing_takes_long(house: House) -> AsyncIterator[None]:
    """Check that no callback of the event loop takes long while the block runs.

    All existing objects are hidden from the garbage collector, as a server does with its modules: a
    scan of all of them takes 50 ms. They stay hidden, so that the next test need not scan them.
    """
    loop = house.loop
    assert isinstance(loop, TimedLoop)
    gc.collect()
    gc.freeze()
    await asyncio.sleep(0)  # keep the collection out of the measurement
    loop.worst = (0.0, "")
    yield
    assert loop.worst[0] <= MAX_SECONDS, loop.worst


# --- slow requests and slow readers


def some_long(kinds: Iterable[str]) -> list[Any]:
    """Return the kinds as parameters; every second one has the mark `long`."""
    marks: list[Any] = [(), pytest.mark.long]
    return [pytest.param(kind, marks=marks[i % 2]) for i, kind in enumerate(kinds)]


@pytest.mark.parametrize("kind", some_long(CORPUS))
async def test_no_callback_takes_long_and_others_are_answered(house: House, kind: str) -> None:
    """Others get responses while the request comes. It gets a response too, with 200 or 4xx."""
    data = CORPUS[kind]()

    async def attack() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        try:
            middle = len(data) - 1
            for start in range(0, middle, 100_000):
                writer.write(data[start : min(start + 100_000, middle)])
                if start % 1_000_000 == 0:
                    async with Client(house) as honest:
                        assert (await honest.ask(LIVE)).status == 200
                try:
                    await writer.drain()
                except ConnectionError:  # the server has already refused the request
                    break
            writer.write(data[middle:])
            return await reader.readline()
        finally:
            writer.transport.abort()

    await attack()  # exclude imports and other first-time work from the measurement
    async with nothing_takes_long(house):
        status = await attack()
    assert status.split()[1][:1] in (b"2", b"4"), status


async def open_many(house: House, number: int, data: bytes) -> list[asyncio.StreamWriter]:
    """Open connections that send this data and read nothing."""
    writers = []
    for _ in range(number):
        _, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=1)
        writer.write(data)
        writers.append(writer)
    return writers


UNREAD = {
    "JSON": predict("gated", "", json.dumps({"do": "json", "size": 4 * MEGABYTE}).encode()),
    "files": predict("gated", f"?do=file&size={8 * MEGABYTE}&accept=application/octet-stream"),
    "streams": predict("gated", "?do=stream&size=300"),
    "small ones": LIVE,
}


@pytest.mark.parametrize("kind", UNREAD)
async def test_no_callback_takes_long_while_answers_are_not_read(house: House, kind: str) -> None:
    """Each of many connections asks for many responses. Other requests are served meanwhile."""

    async def attack() -> None:
        writers = await open_many(house, 30, UNREAD[kind].data * 20)
        try:
            for _ in range(30):
                async with Client(house) as honest:
                    assert (await honest.ask(LIVE)).status == 200
                await asyncio.sleep(0.01)
        finally:
            for writer in writers:
                writer.transport.abort()
            await house.until_nothing_is_under_way()

    await attack()
    async with nothing_takes_long(house):
        await attack()


async def test_no_callback_takes_long_while_heads_are_unfinished(house: House) -> None:
    """The heads need more memory than allowed, so the server closes the oldest connections."""
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"a" * 6000 + b"\r\n") * 10

    async def attack() -> None:
        writers = await open_many(house, 200, head)
        try:
            async with Client(house) as honest:
                assert (await honest.ask(LIVE)).status == 200
            most = HEADS_MEMORY - len(head)
            await house.until(lambda: house.http.unfinished.total > most, "many heads")
            await house.until(lambda: len(house.connections) < 200, "the end of the oldest")
            async with Client(house) as honest:
                assert (await honest.ask(LIVE)).status == 200
        finally:
            for writer in writers:
                writer.transport.abort()
            await house.until(lambda: house.http.unfinished.total == 0, "an end to all heads")

    await attack()
    async with nothing_takes_long(house):
        await attack()
