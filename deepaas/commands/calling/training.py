"""Follows a training, or an asynchronous prediction: its log, its progress, and its end."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import shutil
import sys
import time
from dataclasses import dataclass, field

import click

from deepaas.client import Client, NotConnectedError, RefusedError
from deepaas.client.http import JOBS, TRAININGS
from deepaas.client.interface import Json, path_of
from deepaas.commands.calling.results import Results
from deepaas.commands.calling.settings import FAILED_TRAINING, INTERRUPTED, CallError, Settings
from deepaas.commands.calling.text import printable, printable_line, say

POLL_SECONDS = 1.0
RETRY_SECONDS = 60.0
"""How long a server may be away, for example to be restarted, unless --timeout is shorter. A
training outlives that."""

ENDED = ("done", "error", "cancelled")
MAX_REST = 64 * 1024
"""Characters of an incomplete line of the log that are kept until its end comes."""

_CLEAR_LINE = "\r\x1b[K"


@dataclass
class View:
    """Shows the log on stderr, with the progress in the last line if that is a terminal."""

    is_terminal: bool = field(default_factory=lambda: sys.stderr.isatty())
    _bar: str = ""
    _rest: list[str] = field(default_factory=list)
    _size: int = 0
    _is_absent: bool = False

    def __post_init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # It keeps a CR at the end of the data back, because an LF may follow.
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=False)

    def log(self, data: bytes) -> None:
        """Show the next bytes of the log; a line when it is complete or long.

        A carriage return also ends a line: progress bars write nothing else.
        """
        text = self._decoder.decode(data)
        end = max(text.rfind("\n"), text.rfind("\r")) + 1
        if end:
            self._print(self._taken() + text[:end])
        self._rest.append(text[end:])
        self._size += len(text) - end
        if self._size > MAX_REST:
            self._print(self._taken() + ("\n" if self.is_terminal else ""))

    def _taken(self) -> str:
        """Return what was kept, and keep it no longer."""
        rest = "".join(self._rest)
        self._rest.clear()
        self._size = 0
        return rest

    def progress(self, record: Json) -> None:
        self._is_absent = False
        if self.is_terminal:
            self._bar = bar_of(record, shutil.get_terminal_size().columns - 1)
            self._print("")

    def absent(self, error: NotConnectedError) -> None:
        """Show, once, that the server does not answer."""
        if not self._is_absent:
            self._is_absent = True
            self._print(printable(f"{error}; trying again\n"))

    def end(self) -> None:
        """Show the rest of the log, and remove the progress."""
        self._bar, rest = "", self._taken() + self._decoder.decode(b"", final=True)
        self._print(f"{rest}\n" if rest else "")

    def _print(self, text: str) -> None:
        clear = _CLEAR_LINE if self.is_terminal else ""
        bar = "" if text.endswith("\r") else self._bar  # it would cover the text
        sys.stderr.write(f"{clear}{text}{bar}")
        sys.stderr.flush()


def bar_of(record: Json, width: int) -> str:
    """Return the state of a training in one line of at most `width` characters."""
    progress = fraction_in(record)
    if progress is None:
        return printable_line(str(record.get("status", "")))[:width]
    done = round(20 * progress)
    line = f"[{'#' * done}{'-' * (20 - done)}] {progress:4.0%}"
    metrics = record.get("metrics")
    last = metrics[-1] if isinstance(metrics, list) and metrics else {}
    if isinstance(last, dict):
        shown = {k: v for k, v in last.items() if k not in ("time", "progress")}
        line += "".join(
            f"  {key} {value:.4g}" if isinstance(value, float) else f"  {key} {value}"
            for key, value in shown.items()
        )
    return "".join(c if c.isprintable() else " " for c in line)[:width]


def fraction_in(record: Json) -> float | None:
    """Return the progress of a record from 0 to 1, or None if it has none."""
    progress = record.get("progress")
    return progress if isinstance(progress, int | float) and 0 <= progress <= 1 else None


async def follow(client: Client, model: str, kind: str, uuid: str) -> Json:
    """Show the log until the end, and return the record.

    If the server goes away, it is asked again for RETRY_SECONDS. Raises NotConnectedError.
    """
    view = View()
    reading = asyncio.ensure_future(_read_log(client, model, kind, uuid, view))
    try:
        record = await _wait(client, model, kind, uuid, view, reading)
        with contextlib.suppress(NotConnectedError, RefusedError, asyncio.TimeoutError):
            await asyncio.wait_for(reading, RETRY_SECONDS)
        return record
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, NotConnectedError, RefusedError):
            await reading
        view.end()


async def _wait(
    client: Client, model: str, kind: str, uuid: str, view: View, reading: asyncio.Future[None]
) -> Json:
    """Read the record until it has ended; at once when the log has ended."""
    answered = time.monotonic()
    problem: NotConnectedError | None
    while True:
        try:
            record = await client.record(model, kind, uuid)
            answered = time.monotonic()
            view.progress(record)
            if record.get("status") in ENDED:
                return record
        except NotConnectedError as error:
            problem = error
        except RefusedError as error:
            if error.status != 503:
                raise
            problem = NotConnectedError(str(error))
        else:
            problem = None
        if problem is not None:
            if time.monotonic() - answered > min(RETRY_SECONDS, client.timeout):
                raise problem
            view.absent(problem)
        if reading.done():
            await asyncio.sleep(POLL_SECONDS)
        else:
            await asyncio.wait([reading], timeout=POLL_SECONDS)


async def _read_log(client: Client, model: str, kind: str, uuid: str, view: View) -> None:
    """Show the log until its end. After a broken connection, it is read on from its last byte."""
    offset = 0
    while True:
        try:
            query = [("follow", "true"), ("offset", str(offset))]
            path = path_of(model, kind, uuid, "logs")
            async with client.open("GET", path, query=query, timeout=0) as response:
                async for data in response.chunks():
                    offset += len(data)
                    view.log(data)
            record = await client.record(model, kind, uuid)
            if record.get("status") in ENDED:
                return
        except NotConnectedError:
            pass
        except RefusedError as error:
            if error.status != 503:
                return
        await asyncio.sleep(POLL_SECONDS)


def run_to_end(settings: Settings, url: str, model: str, kind: str, uuid: str) -> None:
    """Follow a training or an asynchronous prediction, and print its result.

    Ctrl-C asks whether to cancel a training. Raises CallError if it has failed or is cancelled.
    """

    async def wait() -> Json:
        async with settings.client(url) as client:
            return await follow(client, model, kind, uuid)

    try:
        record = asyncio.run(wait())
    except KeyboardInterrupt:
        record = _interrupted(settings, url, model, kind, uuid)
    except NotConnectedError as error:
        raise NotConnectedError(f"{error}. {_hint(url, model, uuid)}") from None
    finish(settings, url, model, kind, record)


def finish(settings: Settings, url: str, model: str, kind: str, record: Json) -> None:
    """Print or save the result of what has ended. Raises CallError if it has no result."""
    results = Results(settings.output, settings.json)
    status = record.get("status")
    if status == "done" and kind == JOBS:
        asyncio.run(_print_result(settings, url, model, record["uuid"], results))
        return
    if settings.json:
        results.value(record)
    if status == "done":
        if record.get("message"):
            say(str(record["message"]))
        if not settings.json:
            result = record.get("result")
            results.value(result.get("output") if isinstance(result, dict) else None)
        return
    what = "training" if kind == TRAININGS else "prediction"
    if status == "cancelled":
        raise CallError(f"the {what} {record['uuid']} is cancelled", FAILED_TRAINING)
    raise CallError(
        f"the {what} {record['uuid']} has failed: {record.get('message') or 'no reason given'}",
        FAILED_TRAINING,
    )


async def _print_result(
    settings: Settings, url: str, model: str, uuid: str, results: Results
) -> None:
    async with (
        settings.client(url) as client,
        client.open("GET", path_of(model, JOBS, uuid, "result")) as response,
    ):
        await results.take(response, "")


def _hint(url: str, model: str, uuid: str) -> str:
    return f"It may go on; follow it with: deepaas call {url}/{model} wait {uuid}"


def _interrupted(settings: Settings, url: str, model: str, kind: str, uuid: str) -> Json:
    """Ask whether to cancel, and do it; return the record of what is cancelled.

    Raises CallError if it goes on.
    """
    goes_on = CallError(
        f"{uuid} goes on; follow it with: deepaas call {url}/{model} wait {uuid}", INTERRUPTED
    )
    if not sys.stdin.isatty():
        raise goes_on
    try:
        if not click.confirm("\nCancel it? Otherwise it goes on", err=True):
            raise goes_on
    except click.Abort:  # Ctrl-C again
        raise goes_on from None

    async def cancel() -> Json:
        async with settings.client(url) as client:
            return await cancelled(client, model, kind, uuid)

    return asyncio.run(cancel())


async def cancelled(client: Client, model: str, kind: str, uuid: str) -> Json:
    """Cancel what runs or waits, and return its record; that of what has ended is not changed."""
    record = await client.record(model, kind, uuid)
    if record.get("status") in ENDED:
        return record
    return await client.delete(model, kind, uuid)
