"""`/v2/models/<name>/train/<uuid>/logs/`: the output of a training, also while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import orjson
from aiohttp import web

from deepaas.api.app import App
from deepaas.api.v2.records import trainings_of
from deepaas.exceptions import NotFoundError, StreamFailedError
from deepaas.http.responses import CHUNK, StreamedResponse, json_response
from deepaas.jobs.logs import Lines, LogReader
from deepaas.jobs.service import JobService
from deepaas.jobs.store import Record
from deepaas.serving.pool import Pool
from deepaas.streams import EVENTS

logger = logging.getLogger("deepaas.api")

LOOK_SECONDS = 0.1
"""Interval at which a follower checks whether the log has grown."""

STATUS_SECONDS = 1.0
"""Interval at which a follower reads the status."""

KEEP_ALIVE_SECONDS = 15.0
"""After this long without output, a client of events receives a keep-alive comment."""

SMALL = 64 * 1024
"""Bytes that the event loop reads directly; a thread reads larger amounts."""

_TEXT = "text/plain; charset=utf-8"
_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_BEYOND_ANY_LOG = 10**18  # bytes
_KEEP_ALIVE = b": keep-alive\n\n"


async def logs(
    request: web.BaseRequest, app: App, pool: Pool, uuid: str, kind: str
) -> web.StreamResponse:
    """Send the log as text from `offset` on; with `follow`, continue until the training has ended.

    A client that follows and accepts events gets each line as an event. The id of an event is the
    offset after its line.
    """
    trainings = trainings_of(app, kind)
    record = await trainings.get(pool.name, kind, uuid)
    offset, follow, problems = _query(request)
    if problems:
        return json_response(problems, 422)
    accept = ", ".join(request.headers.getall("Accept", []))
    wants_events = follow and EVENTS in accept.lower()
    last_id = _offset(request.headers.get("Last-Event-ID", "")) if wants_events else None
    source = _Source(app, pool.name, kind, record, trainings)
    await source.begin(offset if last_id is None else last_id)
    if last_id is not None and source.is_over:
        return web.Response(status=204)  # so that an EventSource does not reconnect
    headers = {
        "Content-Type": EVENTS if wants_events else _TEXT,
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
        "X-Log-Offset": str(source.offset),
    }
    body = _events(source) if wants_events else _text(source, follow)
    return StreamedResponse(_guarded(body, record.uuid), headers)


def _query(request: web.BaseRequest) -> tuple[int, bool, dict[str, list[str]]]:
    """Return the offset, whether to follow, and the problems with these parameters."""
    problems = {}
    offset = _offset(request.query.get("offset", "0"))
    if offset is None:
        problems["offset"] = ["Must be an integer that is not negative."]
    follow = _SWITCH.get(request.query.get("follow", "false").lower())
    if follow is None:
        problems["follow"] = ["Not a valid boolean."]
    return offset or 0, bool(follow), problems


def _offset(text: str) -> int | None:
    """Return a number of bytes, or None if the text is not a number."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= 18 else _BEYOND_ANY_LOG


class _Source:
    """The bytes of a log, from an offset on. `is_over` means that no bytes follow at the start."""

    def __init__(
        self, app: App, model: str, kind: str, record: Record, trainings: JobService
    ) -> None:
        self._app = app
        self._model = model
        self._kind = kind
        self._trainings = trainings
        self._reader = LogReader(trainings.place(record.uuid).log)
        self._loop = asyncio.get_running_loop()
        self._asked = self._loop.time()
        self._first = b""
        self.record = record
        self.offset = 0  # where the next bytes begin

    @property
    def is_over(self) -> bool:
        return self.record.has_ended and not self._first

    async def begin(self, offset: int) -> None:
        """Go to `offset`, or to the nearest offset that the log still has, and read there."""
        self.offset = min(offset, self._reader.end)
        self.offset, self._first = await self._read()

    async def now(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the present bytes in pieces, each with its offset."""
        end = self._reader.end
        while self.offset < end:
            offset, data = await self._next()
            if not data:
                return
            yield offset, data[: max(0, end - offset)]

    async def growing(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield present and new bytes in pieces, each with its offset, until the record has ended.

        A piece is empty if there are no new bytes. The iteration stops early when the server is
        draining; then the record has not ended.
        """
        while True:
            has_ended = self.record.has_ended  # read before the log: no bytes follow the end
            offset, data = await self._next()
            while data:
                yield offset, data
                if self._app.draining and not has_ended:
                    return
                offset, data = await self._next()
            if has_ended or self._app.draining:
                return
            await asyncio.sleep(LOOK_SECONDS)
            yield self.offset, b""
            await self._update_record()

    async def _update_record(self) -> None:
        """Read the record again, at most every STATUS_SECONDS."""
        if self._loop.time() - self._asked >= STATUS_SECONDS:
            self.record = await self._trainings.get(self._model, self._kind, self.record.uuid)
            self._asked = self._loop.time()

    async def _next(self) -> tuple[int, bytes]:
        """Return the offset of the next bytes, and the bytes; b"" at the present end."""
        offset, data = self.offset, self._first
        if not data:
            offset, data = await self._read()
        self._first = b""
        self.offset = offset + len(data)
        return offset, data

    async def _read(self) -> tuple[int, bytes]:
        available = self._reader.end - self.offset
        if available <= 0:
            return self.offset, b""
        if available > SMALL:
            return await asyncio.to_thread(self._reader.read, self.offset, CHUNK)
        return self._reader.read(self.offset, SMALL)


async def _text(source: _Source, follow: bool) -> AsyncIterator[bytes]:
    end = source.offset
    async for offset, data in source.growing() if follow else source.now():
        if offset > end:
            yield b"\n[%d bytes of output are no longer there]\n" % (offset - end)
        if data:
            yield data
        end = offset + len(data)


async def _events(source: _Source) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    lines = Lines()
    sent = loop.time()
    async for offset, data in source.growing():
        events = b"".join(_event(*line) for line in lines.feed(offset, data))
        if not events and loop.time() - sent >= KEEP_ALIVE_SECONDS:
            events = _KEEP_ALIVE
        if events:
            yield events
            sent = loop.time()
    if not source.record.has_ended:
        return  # the client reconnects, to another server
    if (rest := lines.rest()) is not None:
        yield _event(*rest)
    status = orjson.dumps({"status": source.record.status})
    yield b"event: end\nid: %d\ndata: %b\n\n" % (source.offset, status)


def _event(offset: int, line: str) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (offset, line.encode())


async def _guarded(body: AsyncIterator[bytes], uuid: str) -> AsyncIterator[bytes]:
    """Yield the data of `body`, and turn a failure into StreamFailedError."""
    try:
        async for data in body:
            yield data
    except NotFoundError:  # the record was removed, and the log with it
        return
    except Exception as error:
        logger.exception("The log of %s could not be sent completely", uuid)
        raise StreamFailedError("The server failed; its log says why", "internal_error") from error
